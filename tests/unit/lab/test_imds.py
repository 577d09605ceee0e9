# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's instance metadata service, asked over HTTP, by the product's own client and by others."""

from __future__ import annotations

import dataclasses
import http.client
import json
import math
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from fpga_hybrid import imds as product
from lab.cloud.imds import SECONDS_HEADER, TOKEN_HEADER, Imds, Instance, credentials_from, instance_from, listen_in
from lab.run import wait_until
from tests.unit.lab.test_cloud import make_group, make_template, scale
from tests.unit.network_namespaces import ip, namespace

if TYPE_CHECKING:
    from lab.cloud.server import Cloud

USER_DATA = b"#cloud-config\n\xff"
PLAIN = Instance(
    id="i-0123456789abcdef0",
    type="f2.12xlarge",
    zone="us-east-1a",
    account="123456789012",
    image="ami-1",
    address="10.20.0.5",
    name="ip-10-20-0-5.ec2.internal",
    profile_arn="arn:aws:iam::123456789012:instance-profile/node",
    role="node",
    user_data=USER_DATA,
    tags={"fpga.hybrid/pool": "f2"},
    tokens_required=True,
)
KEYS = {"Code": "Success", "AccessKeyId": "ASIA1", "SecretAccessKey": "k", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}
#: Seconds. No test waits for them; they end one that would hang.
PATIENCE = 30
DOCUMENT = "/latest/dynamic/instance-identity/document"


class Service:
    """A responder on this machine, and a client that shows every answer as it is."""

    def __init__(self) -> None:
        self.instance = PLAIN
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.lenient_to: str | None = None
        self.lenient_seconds = math.inf
        self.now = 1000.0

    def start(self) -> Imds:
        return Imds(
            lambda: self.instance,
            lambda _instance: KEYS,
            self.listener,
            lenient_to=self.lenient_to,
            lenient_seconds=self.lenient_seconds,
            clock=lambda: self.now,
        )

    def client(self) -> product.Imds:
        """The product's, with more patience than it has on an instance, so that a busy machine is no reason to fail."""
        return product.Imds(self.url, timeout=PATIENCE)

    def be(self, **changes: object) -> None:
        self.instance = dataclasses.replace(self.instance, **changes)  # type: ignore[arg-type]

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body, dict(answer.headers)

    def token(self, seconds: str = "60") -> str:
        status, body, _headers = self.ask("PUT", "/latest/api/token", **{SECONDS_HEADER: seconds})
        assert status == 200
        return body.decode()

    def get(self, path: str) -> tuple[int, str]:
        status, body, _headers = self.ask("GET", path, **{TOKEN_HEADER: self.token()})
        return status, body.decode("latin-1")


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def imds(service: Service) -> Iterator[Imds]:
    with service.start() as running:
        yield running


def test_the_products_client_learns_what_it_is_and_never_asks_by_version_1(service, imds):
    client = service.client()
    found = client.instance()
    assert found == product.Instance(PLAIN.id, "f2.12xlarge", "us-east-1a", "us-east-1", "123456789012")
    assert client.credentials().access_key == "ASIA1"
    assert imds.without_token() == []
    assert [one.method for one in imds.asked] == ["PUT", "GET", "GET", "GET"]


def test_the_products_client_gets_another_token_when_its_own_has_ended(service, imds):
    client = service.client()
    client.instance()
    service.now += product.TOKEN_SECONDS
    assert client.instance().id == PLAIN.id
    assert [one.token for one in imds.asked if one.method == "GET"] == ["good", "bad", "good"]


def test_the_products_client_says_that_it_is_switched_off(service, imds):
    service.be(enabled=False)
    with pytest.raises(product.DisabledError):
        service.client().instance()


def test_an_instance_without_a_role_has_no_credentials(service, imds):
    service.be(role="")
    with pytest.raises(product.NoRoleError):
        service.client().credentials()


@pytest.mark.parametrize(("required", "status"), [(True, 401), (False, 200)])
def test_version_1_works_where_tokens_are_optional_and_only_there(service, imds, required, status):
    service.be(tokens_required=required)
    assert service.ask("GET", DOCUMENT)[0] == status
    assert [one.path for one in imds.without_token()] == [DOCUMENT]


@pytest.mark.parametrize("required", [True, False])
def test_a_wrong_token_is_refused_even_where_none_is_needed(service, imds, required):
    service.be(tokens_required=required)
    assert service.ask("GET", DOCUMENT, **{TOKEN_HEADER: "made-up"})[0] == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({SECONDS_HEADER: "1"}, 200),
        ({SECONDS_HEADER: "21600"}, 200),
        ({SECONDS_HEADER: "21601"}, 400),
        ({SECONDS_HEADER: "0"}, 400),
        ({SECONDS_HEADER: "soon"}, 400),
        ({}, 400),
        ({SECONDS_HEADER: "60", "X-Forwarded-For": "10.0.0.1"}, 403),
    ],
)
def test_a_token_wants_its_seconds_and_no_proxy(service, imds, headers, status):
    answer = service.ask("PUT", "/latest/api/token", **headers)
    assert answer[0] == status
    if status == 200:
        assert answer[2][SECONDS_HEADER] == headers[SECONDS_HEADER]


@pytest.mark.parametrize(("later", "status"), [(59.9, 200), (60, 401), (3600, 401)])
def test_a_token_ends_with_its_seconds(service, imds, later, status):
    token = service.token("60")
    service.now += later
    assert service.ask("GET", DOCUMENT, **{TOKEN_HEADER: token})[0] == status


def test_two_tokens_differ_and_both_are_good(service, imds):
    first, second = service.token(), service.token()
    assert first != second
    assert [service.ask("GET", DOCUMENT, **{TOKEN_HEADER: token})[0] for token in (first, second)] == [200, 200]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/latest/meta-data/instance-id", PLAIN.id),
        ("/2021-03-23/meta-data/placement/availability-zone", "us-east-1a"),
        ("/latest/meta-data/placement/region", "us-east-1"),
        ("/latest/meta-data/placement/", "availability-zone\nregion"),
        ("/latest/meta-data/placement", "availability-zone\nregion"),
        ("/latest/meta-data/iam/security-credentials/", "node"),
        ("/latest/meta-data/instance-life-cycle", "on-demand"),
        ("/latest/user-data", USER_DATA.decode("latin-1")),
        ("/latest/", "dynamic/\nmeta-data/\nuser-data"),
    ],
)
def test_what_stands_where(service, imds, path, text):
    assert service.get(path) == (200, text)


@pytest.mark.parametrize(
    "path",
    ["/latest/meta-data/spot/instance-action", "/latest/meta-data/tags/instance/", "/latest/meta-data/nothing", "/openstack/latest/meta_data.json", "/latestx"],
)
def test_what_is_not_there_is_404(service, imds, path):
    assert service.get(path)[0] == 404


def test_an_instance_without_user_data_has_none(service, imds):
    service.be(user_data=None)
    assert service.get("/latest/user-data")[0] == 404


def test_a_spot_notice_comes_when_it_is_given(service, imds):
    notice = {"action": "terminate", "time": "2026-11-25T12:02:00Z"}
    assert service.client().get("/latest/meta-data/spot/instance-action") is None
    service.be(spot_notice=notice)
    assert json.loads(service.client().get("/latest/meta-data/spot/instance-action") or "") == notice
    assert service.get("/latest/meta-data/spot/termination-time") == (200, notice["time"])


def test_tags_are_there_only_where_they_are_switched_on(service, imds):
    service.be(tags_enabled=True)
    assert service.get("/latest/meta-data/tags/instance/fpga.hybrid/pool") == (200, "f2")


def test_a_client_that_has_gone_before_its_answer_is_no_error(service, capsys):
    slow, asked, gone = threading.Event(), threading.Event(), threading.Event()

    def describe() -> Instance:
        if slow.is_set():
            asked.set()
            assert gone.wait(PATIENCE)
        return service.instance

    with Imds(describe, lambda _instance: KEYS, service.listener):
        token = service.token()
        slow.set()
        client = socket.create_connection(("127.0.0.1", service.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(f"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\n{TOKEN_HEADER}: {token}\r\n\r\n".encode())
        assert asked.wait(PATIENCE)
        client.close()  # with a reset
        others = threading.active_count() - 1
        gone.set()
        wait_until(lambda: threading.active_count() <= others, seconds=PATIENCE, what="the end of its answer", every=0.01)
        assert service.token()
    assert capsys.readouterr().err == ""


def test_one_kind_of_client_may_pass_without_a_token_and_is_counted(service):
    service.lenient_to = r"Cloud-Init/"
    with service.start() as imds:
        assert service.ask("GET", "/latest/user-data", User_Agent="Cloud-Init/22.4.2")[0] == 200
        assert service.ask("GET", "/latest/user-data", User_Agent="curl/8 Cloud-Init/22")[0] == 401
        assert [one.agent for one in imds.without_token()] == ["Cloud-Init/22.4.2", "curl/8 Cloud-Init/22"]


def test_it_may_so_for_its_time_and_no_longer(service):
    service.lenient_to, service.lenient_seconds = "python-requests/", 120
    with service.start():
        service.now += 119
        assert service.ask("GET", "/latest/user-data", User_Agent="python-requests/2.28.1")[0] == 200
        service.now += 1
        assert service.ask("GET", "/latest/user-data", User_Agent="python-requests/2.28.1")[0] == 401


# ---- as the lab's AWS knows it


@pytest.fixture
def launched(cloud: Cloud) -> Callable[..., str]:
    """Starts an instance of a group whose template has this; its id."""

    def launch(**data: object) -> str:
        iam = cloud.client("iam")
        iam.create_role(RoleName="node", AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName="profile")
        iam.add_role_to_instance_profile(InstanceProfileName="profile", RoleName="node")
        make_template(cloud, **data)
        make_group(cloud, zones="b")
        scale(cloud, 1)
        (group,) = cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        return str(group["Instances"][0]["InstanceId"])

    return launch


def test_an_instance_of_a_group_is_what_its_launch_template_says(cloud, launched):
    options = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled", "InstanceMetadataTags": "disabled"}
    identifier = launched(UserData="I2Nsb3VkLWNvbmZpZwo=", IamInstanceProfile={"Name": "profile"}, MetadataOptions=options)
    found = instance_from(cloud.client("ec2"), cloud.client("iam"), identifier)
    assert (found.id, found.type, found.zone, found.region, found.account) == (identifier, "f2.6xlarge", "us-east-1b", "us-east-1", "123456789012")
    assert (found.user_data, found.role) == (b"#cloud-config\n", "node")
    assert (found.tokens_required, found.hop_limit, found.enabled, found.tags_enabled) == (True, 2, True, False)


def test_an_instance_without_anything_has_nothing(cloud, launched):
    found = instance_from(cloud.client("ec2"), cloud.client("iam"), launched())
    assert (found.user_data, found.role, found.profile_arn, found.tokens_required) == (None, "", "", False)


def test_its_credentials_are_its_roles_and_their_session_is_named_after_it(cloud, launched):
    identifier = launched(IamInstanceProfile={"Name": "profile"})
    iam, sts = cloud.client("iam"), cloud.client("sts")
    service = Service()

    def describe() -> Instance:
        return instance_from(cloud.client("ec2"), iam, identifier)

    with Imds(describe, lambda found: credentials_from(sts, iam, found), service.listener):
        given = service.client().credentials()
    keys = {"aws_access_key_id": given.access_key, "aws_secret_access_key": given.secret_key, "aws_session_token": given.token or ""}
    assert cloud.client("sts", credentials=keys).get_caller_identity()["Arn"] == f"arn:aws:sts::123456789012:assumed-role/node/{identifier}"


# ---- in the network namespace of a host

CLIENT = f"""
import http.client, socket
connection = http.client.HTTPConnection("169.254.169.254", 80, timeout={PATIENCE})
connection.request("PUT", "/latest/api/token", headers={{"{SECONDS_HEADER}": "60"}})
connection.sock.shutdown(socket.SHUT_WR)
print(connection.getresponse().status)
"""


def put_from(name: str) -> str:
    """The status, or what a client gets whose answer is lost: it asks nothing more, so that the end of the connection comes in the answer's place, at once."""
    done = subprocess.run(["ip", "netns", "exec", name, sys.executable, "-c", CLIENT], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.splitlines()[-1].partition(":")[0]


@pytest.mark.parametrize(("limit", "behind"), [(1, "http.client.RemoteDisconnected"), (2, "200")])
def test_a_token_reaches_the_host_and_a_pod_behind_it_only_where_the_hop_limit_says_so(limit, behind):
    with namespace("imds-host") as host, namespace("imds-pod") as pod:
        ip("-n", host, "link", "add", "pod0", "type", "veth", "peer", "name", "eth0", "netns", pod)
        for where, device, address in ((host, "pod0", "10.77.0.1/24"), (pod, "eth0", "10.77.0.2/24")):
            ip("-n", where, "address", "add", address, "dev", device)
            ip("-n", where, "link", "set", device, "up")
        ip("-n", pod, "route", "add", "default", "via", "10.77.0.1")
        listener = listen_in(f"/run/netns/{host}")
        with Imds(lambda: dataclasses.replace(PLAIN, hop_limit=limit), lambda _instance: KEYS, listener) as imds:
            assert put_from(host) == "200"
            assert put_from(pod) == behind
        assert [one.status for one in imds.asked] == [200, 200 if behind == "200" else 0]


def test_a_namespace_that_is_none_is_said():
    with pytest.raises(OSError, match=r"nothing can listen on 169\.254\.169\.254:80 in /run/netns/of-nobody"):
        listen_in("/run/netns/of-nobody")
