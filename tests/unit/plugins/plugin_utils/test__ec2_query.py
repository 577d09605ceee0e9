# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking EC2: over real HTTP, through the real botocore, answered by what the test has written down."""

from __future__ import annotations

import datetime
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_failures import DENIED, REFUSED, THROTTLED, UNREACHABLE
from ansible_collections.fpga.hybrid.plugins.plugin_utils._ec2_query import THROTTLE_PAUSES, Access, Cloud, QueryError
from tests.bench.aws.replay import error_answer, response, to_xml
from tests.unit.plugins.ec2_answers import ID, ec2, error, page, serving


def cloud(double, sleep=lambda _seconds: None, **more) -> Cloud:
    return Cloud(Access(**{"access_key": "AKIATEST1234", "secret_key": "hush", "endpoint_url": double.url, **more}), sleep)


def ask(double, regions=("us-east-1",), filters=None, **more):
    return cloud(double, **more).instances(regions, filters or {})


def only_failure(double, **more):
    answer = ask(double, **more)
    assert answer.records == []
    (failure,) = answer.failures
    return failure


def ids(answer):
    return [record["instance_id"] for record in answer.records]


def test_every_page_is_fetched_a_thousand_instances_each(ec2_double):
    ec2_double.answers = [page(ec2(2), token="more"), page(ec2(1), token="end"), page(ec2(3))]
    assert ids(ask(ec2_double)) == [ID(1), ID(2), ID(3)]
    assert [(call["Action"], call["MaxResults"], call.get("NextToken")) for call in ec2_double.requests] == [
        ("DescribeInstances", "1000", None),
        ("DescribeInstances", "1000", "more"),
        ("DescribeInstances", "1000", "end"),
    ]


def test_an_instance_that_moves_to_the_next_page_meanwhile_is_there_once(ec2_double):
    ec2_double.answers = [page(ec2(1), token="more"), page(ec2(1), ec2(2))]
    assert ids(ask(ec2_double)) == [ID(1), ID(2)]


def values(call, name):
    number = next(key.split(".")[1] for key, value in call.items() if value == name)
    return {value for key, value in call.items() if key.startswith(f"Filter.{number}.Value.")}


def test_what_is_pending_or_terminates_is_not_asked_for(ec2_double):
    ask(ec2_double)
    assert values(ec2_double.requests[0], "instance-state-name") == {"running", "stopping", "stopped"}


def test_unless_a_filter_asks_for_it(ec2_double):
    ask(ec2_double, filters={"instance-state-name": ("pending",), "vpc-id": ("vpc-1", "vpc-2")})
    assert values(ec2_double.requests[0], "instance-state-name") == {"pending"}
    assert values(ec2_double.requests[0], "vpc-id") == {"vpc-1", "vpc-2"}


def test_regions_are_asked_side_by_side(ec2_double):
    """Each answer waits until all three have been asked: one after the other would never end."""
    everybody = threading.Barrier(3, timeout=10)

    def answer(call):
        everybody.wait()
        region = call["authorization"].split("/")[2]
        return page(ec2({"us-east-1": 1, "us-west-2": 2, "eu-west-2": 3}[region], zone=f"{region}a"))

    ec2_double.answers = answer
    found = ask(ec2_double, regions=("us-east-1", "us-west-2", "eu-west-2"))
    assert {record["placement"]["region"]: record["instance_id"] for record in found.records} == {"us-east-1": ID(1), "us-west-2": ID(2), "eu-west-2": ID(3)}


def test_one_region_s_failure_leaves_the_others(ec2_double):
    ec2_double.answers = lambda call: error("OptInRequired", "not subscribed") if "/eu-south-2/" in call["authorization"] else page(ec2(1))
    answer = ask(ec2_double, regions=("us-east-1", "eu-south-2"))
    assert ids(answer) == [ID(1)]
    assert str(answer.failures[0]) == (
        "aws, eu-south-2: AWS says OptInRequired: not subscribed; expected a region that is enabled for the account. Enable it, or take it out of aws.regions."
    )


def test_attributes_are_all_that_can_be_asked_for(ec2_double):
    assert {"private_ip_address", "owner_id", "tags"} <= ask(ec2_double).attributes


@pytest.mark.parametrize("code", sorted(THROTTLED))
def test_throttling_is_waited_out(ec2_double, code):
    pauses = []
    ec2_double.answers = [error(code, status=503), error(code, status=503), page(ec2(1))]
    assert ids(ask(ec2_double, sleep=pauses.append)) == [ID(1)]
    assert len(pauses) == 2
    assert all(0 <= pause <= most for pause, most in zip(pauses, THROTTLE_PAUSES))


def test_throttling_that_does_not_end_is_said(ec2_double):
    ec2_double.answers = [error("RequestLimitExceeded", "Request limit exceeded.", 503)]
    failure = only_failure(ec2_double)
    assert failure.kind == UNREACHABLE
    assert len(ec2_double.requests) == len(THROTTLE_PAUSES) + 1
    assert "throttled, also when asked again (AWS says RequestLimitExceeded: Request limit exceeded); expected an answer. Try later" in str(failure)


def test_botocore_tries_again_as_the_user_has_configured_it(ec2_double, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    ec2_double.answers = [error("InternalError", status=500), page(ec2(1))]
    assert ids(ask(ec2_double)) == [ID(1)]


def test_botocore_tries_three_times_where_nobody_says_otherwise(ec2_double, monkeypatch):
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    ec2_double.answers = [error("InternalError", status=500)]
    assert only_failure(ec2_double).kind == UNREACHABLE
    assert len(ec2_double.requests) == 3


REFUSALS = {
    "wrong credentials": ("AuthFailure", 401, REFUSED, "wrong credentials (explicit, key ...1234): AWS says AuthFailure"),
    "wrong secret": ("SignatureDoesNotMatch", 403, REFUSED, "this machine's clock is wrong"),
    "expired": ("RequestExpired", 400, REFUSED, "expired credentials (explicit, key ...1234): AWS says RequestExpired"),
    "no permission": ("UnauthorizedOperation", 403, DENIED, "expected an identity that may ec2:DescribeInstances. Add the action to its policy."),
    "bad filter": ("InvalidParameterValue", 400, REFUSED, "expected filters of DescribeInstances. Mend aws.filters."),
    "out of order": ("ServiceUnavailable", 503, UNREACHABLE, "is in trouble (HTTP 503): AWS says ServiceUnavailable"),
    "anything else": ("Blocked", 403, REFUSED, "AWS says Blocked: as the test wants it; expected instances."),
}


@pytest.mark.parametrize(("code", "status", "kind", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_each_refusal_is_told_with_what_to_do(ec2_double, code, status, kind, message):
    ec2_double.answers = [error(code, status=status)]
    failure = only_failure(ec2_double)
    assert failure.kind == kind
    assert message in str(failure)
    assert "hush" not in str(failure)


def test_an_endpoint_that_is_down_is_an_outage():
    with serving() as double:
        pass
    failure = only_failure(double)
    assert failure.kind == UNREACHABLE
    assert str(failure).startswith('aws, us-east-1: no answer (Could not connect to the endpoint URL: "http://127.0.0.1:')
    assert str(failure).endswith("Check the network, HTTPS_PROXY and NO_PROXY, and aws.endpoint_url if it is set.")


def test_an_answer_of_a_hotel_s_portal_is_an_outage(ec2_double):
    ec2_double.answers = [(200, b"<html><p>Log in")]
    failure = only_failure(ec2_double)
    assert failure.kind == UNREACHABLE
    assert "gave something that is no answer of EC2's" in str(failure)


def test_a_region_that_is_none_is_said(monkeypatch):
    """Through a proxy that knows no such host, as no test may ask the real one."""
    with serving() as proxy:
        pass
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    unknown, misspelt = Cloud(Access(access_key="a", secret_key="b")).instances(["us-east-9", "us east 1"], {}).failures
    assert unknown.kind == UNREACHABLE
    assert "Failed to connect to proxy URL" in str(unknown)
    assert str(misspelt).startswith("aws, us east 1: 'us east 1' is no name of a region; expected a region such as us-east-1. Mend aws.regions.")


def test_without_credentials_nothing_is_asked(ec2_double):
    with pytest.raises(QueryError, match=r"no AWS credentials; expected an identity that may ec2:DescribeInstances. Set AWS_PROFILE or AWS_ACCESS_KEY_ID"):
        cloud(ec2_double, access_key=None, secret_key=None)
    assert not ec2_double.requests


def test_a_profile_that_is_not_there_is_said(ec2_double):
    with pytest.raises(QueryError, match=r"The config profile \(lab\) could not be found; expected credentials and settings that it can use"):
        cloud(ec2_double, access_key=None, secret_key=None, profile="lab")


def test_credentials_and_endpoint_may_come_from_a_profile(ec2_double, monkeypatch, tmp_path):
    configuration = tmp_path / "config"
    configuration.write_text(f"[profile lab]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = b\nendpoint_url = {ec2_double.url}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(configuration))
    cloud(ec2_double, access_key=None, secret_key=None, endpoint_url=None, profile="lab").instances(["us-east-1"], {})
    assert "Credential=AKIAPROFILE/" in ec2_double.requests[0]["authorization"]


@pytest.mark.parametrize("variable", ["AWS_URL", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2"])
def test_credentials_and_endpoint_may_come_from_the_environment(ec2_double, monkeypatch, variable):
    for name, value in (("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_SESSION_TOKEN", "t"), (variable, ec2_double.url)):
        monkeypatch.setenv(name, value)
    Cloud(Access()).instances(["us-east-1"], {})
    assert "Credential=AKIAENV/" in ec2_double.requests[0]["authorization"]


def role(_call):
    credentials = {"AccessKeyId": "ASIAROLE", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": datetime.datetime(2030, 1, 1).isoformat() + "Z"}
    return 200, response("AssumeRole", f"<AssumeRoleResult>{to_xml({'Credentials': credentials})}</AssumeRoleResult>")


def test_a_role_is_assumed_first(ec2_double):
    ec2_double.answers = lambda call: role(call) if call["Action"] == "AssumeRole" else page(ec2(1))
    assert ids(ask(ec2_double, assume_role_arn="arn:aws:iam::123456789012:role/reader")) == [ID(1)]
    assert [call["Action"] for call in ec2_double.requests] == ["AssumeRole", "DescribeInstances"]
    assert ec2_double.requests[0]["RoleArn"] == "arn:aws:iam::123456789012:role/reader"
    assert "Credential=ASIAROLE/" in ec2_double.requests[1]["authorization"]


def test_a_profile_may_assume_a_role_too(ec2_double, monkeypatch, tmp_path):
    """botocore reads the answer of STS, which is not for our parser, with a client of the same session."""
    configuration = tmp_path / "config"
    configuration.write_text(
        "[profile base]\naws_access_key_id = AKIABASE\naws_secret_access_key = b\n"
        "[profile lab]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = base\nregion = us-east-1\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("AWS_ENDPOINT_URL", ec2_double.url)
    ec2_double.answers = lambda call: role(call) if call["Action"] == "AssumeRole" else page(ec2(1))
    assert ids(ask(ec2_double, access_key=None, secret_key=None, profile="lab")) == [ID(1)]


def test_a_role_that_may_not_be_assumed_is_said(ec2_double):
    denied = b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>'
    ec2_double.answers = [(403, denied)]
    with pytest.raises(QueryError, match="expected an identity that may sts:AssumeRole") as caught:
        ask(ec2_double, assume_role_arn="arn:aws:iam::123456789012:role/reader")
    assert caught.value.failure.kind == DENIED


def test_an_account_s_regions_are_asked_for(ec2_double):
    ec2_double.answers = [(200, response("DescribeRegions", to_xml({"regionInfo": [{"regionName": "us-west-2"}, {"regionName": "eu-west-2"}]})))]
    assert cloud(ec2_double).regions() == ["eu-west-2", "us-west-2"]


def test_regions_that_may_not_be_asked_for_are_an_error(ec2_double):
    ec2_double.answers = [(403, error_answer("UnauthorizedOperation", "no"))]
    with pytest.raises(QueryError, match="expected an identity that may ec2:DescribeRegions"):
        cloud(ec2_double).regions()


# ---- TLS and proxies are botocore's; that we have not taken them away is ours to see


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls_double(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context) as double:
        double.answers = [page(ec2(1))]
        yield double


def test_a_certificate_of_an_unknown_authority_is_refused(tls_double):
    failure = only_failure(tls_double)
    assert "no trust in https://127.0.0.1" in str(failure)
    assert str(failure).endswith("Name the authority's file in AWS_CA_BUNDLE.")
    assert not tls_double.requests


def test_an_authority_of_one_s_own_may_be_named(tls_double, monkeypatch, certificate):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    assert ids(ask(tls_double)) == [ID(1)]


def test_a_proxy_is_gone_through(ec2_double, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", ec2_double.url)
    ec2_double.answers = [page(ec2(1))]
    assert ids(ask(ec2_double, endpoint_url="http://ec2.example.test")) == [ID(1)]
    assert ec2_double.requests[0]["path"] == "http://ec2.example.test/"
