# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata client against a service that answers, refuses, stalls, and is somebody else's."""

from __future__ import annotations

import json

import pytest

from fpga_hybrid import imds
from fpga_hybrid.credentials import NoCredentialsError
from tests.unit.roles.bootstrap.doubles import MetadataService


@pytest.fixture
def service(request):
    with MetadataService(**getattr(request, "param", {})) as running:
        yield running


def ask(service: MetadataService) -> imds.Imds:
    return imds.Imds(service.url, timeout=0.2)


def test_an_instance_knows_what_it_is_and_never_asks_without_a_token(service):
    found = ask(service).instance()
    assert found == imds.Instance("i-0123456789abcdef0", "f2.12xlarge", "us-east-1a", "us-east-1", "123456789012")
    assert found.provider_id == "aws:///us-east-1a/i-0123456789abcdef0"
    assert service.without_token == []


def test_one_token_serves_many_questions_and_is_renewed_when_it_ends(service):
    client = ask(service)
    client.instance()
    client.instance()
    assert len(service.tokens) == 1
    service.expire_after = 0
    assert client.instance().id == "i-0123456789abcdef0"
    assert service.without_token == []


def test_what_is_not_there_is_told_from_what_does_not_answer(service):
    assert ask(service).get("/latest/meta-data/spot/instance-action") is None
    service.data["/latest/meta-data/spot/instance-action"] = '{"action": "terminate"}'
    assert ask(service).get("/latest/meta-data/spot/instance-action") == '{"action": "terminate"}'


def test_the_role_gives_temporary_credentials(service):
    found = ask(service).credentials()
    assert (found.access_key, found.secret_key, found.token) == ("ASIATEST", "imds-secret", "imds-token")
    assert found.expires > 0
    assert "imds-secret" not in repr(found)


@pytest.mark.parametrize("service", [{"role": None}], indirect=True)
def test_an_instance_without_a_role_is_told_apart(service):
    with pytest.raises(imds.NoRoleError):
        ask(service).credentials()


@pytest.mark.parametrize("service", [{"role": None}], indirect=True)
def test_a_role_that_cannot_be_assumed_is_quoted(service):
    service.data[imds.CREDENTIALS] = "node"
    service.data[f"{imds.CREDENTIALS}node"] = json.dumps({"Code": "AssumeRoleUnauthorizedAccess"})
    with pytest.raises(NoCredentialsError, match=r"role node \(AssumeRoleUnauthorizedAccess"):
        ask(service).credentials()


@pytest.mark.parametrize(
    ("service", "error", "words"),
    [
        ({"mode": "slow"}, imds.SlowError, "takes connections, but gave no answer"),
        ({"mode": "v1"}, imds.VersionOneError, "answers without tokens, and gives none"),
        ({"mode": "openstack"}, imds.NotAwsError, "is not EC2's"),
        ({"mode": "disabled"}, imds.DisabledError, "refuses to answer this instance"),
        ({"instance_id": "not-an-id"}, imds.NotAwsError, "no EC2 identity document"),
        ({"availabilityZone": "a b"}, imds.NotAwsError, "no EC2 identity document"),
    ],
    indirect=["service"],
)
def test_a_service_that_is_no_use_is_told_apart(service, error, words):
    with pytest.raises(error, match=words):
        ask(service).instance()


def test_nobody_at_the_address_is_no_cloud():
    with pytest.raises(imds.AbsentError, match=r"nobody answers at http://127\.0\.0\.1:9"):
        imds.Imds("http://127.0.0.1:9", timeout=0.2).instance()


def test_the_address_comes_from_aws_own_variable(service, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
    assert imds.Imds().instance().id == "i-0123456789abcdef0"


def test_no_proxy_is_ever_asked(service, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert ask(service).instance().id == "i-0123456789abcdef0"
