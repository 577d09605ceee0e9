"""An instance's own metadata service, version 2, as the lab's AWS knows the instance at the moment of the question.

    with Imds(lambda: instance_from(ec2, iam, "i-..."), lambda found: credentials_from(sts, iam, found), listen_in("/proc/1234/ns/net")) as imds: ...

One responder answers one instance, over whatever socket it is given: `listen_in` opens one on 169.254.169.254 in the network namespace of the
instance's host. What is asked is remembered, with and without a token, so that a test can count who still uses version 1.

As EC2 does (User Guide, "Use the Instance Metadata Service", "Instance metadata categories")
- A token is PUT for 1 to 21600 seconds, never through a proxy (X-Forwarded-For). Its answer travels no more hops than the instance's option says: with 1
  it reaches the host and no pod behind it.
- HttpTokens required: 401 without a token; optional: version 1 works as well. A token that is wrong or has expired is 401 in both.
  HttpEndpoint disabled: 403.
- Identity document, user-data, zone, region, type, addresses, the role and its temporary credentials, a spot notice once there is one, tags if they
  are switched on.

What it does not do: signatures of the identity document, public keys, network interfaces, block devices, IPv6; what is missing is 404.
`lenient_to` lets one kind of client pass without a token (a pattern of its User-Agent), `lenient_seconds` for no longer than that: cloud-init on a host
without an EC2 DMI table takes the cloud for unknown and asks by version 1.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

ADDRESS = "169.254.169.254"
LONGEST_TOKEN = 21600
TOKEN_HEADER, SECONDS_HEADER = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"
#: EC2 takes dates of former versions in place of "latest"; clients choose one that they know.
VERSION = re.compile(r"/(latest|[0-9]{4}-[0-9]{2}-[0-9]{2}|1\.0)(/.*)?", re.ASCII)
#: An instance's credentials are renewed long before they end.
CREDENTIAL_SECONDS = 21600
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Instance:
    """What AWS says of it. role: that of its profile, or "". user_data: None where it has none. spot_notice: as in spot/instance-action, or None."""

    id: str
    type: str
    zone: str
    account: str
    image: str
    address: str
    name: str
    profile_arn: str = ""
    role: str = ""
    user_data: bytes | None = None
    life_cycle: str = "on-demand"
    tags: Mapping[str, str] = field(default_factory=dict)
    tokens_required: bool = False
    hop_limit: int = 1
    enabled: bool = True
    tags_enabled: bool = False
    spot_notice: Mapping[str, str] | None = None

    @property
    def region(self) -> str:
        return self.zone.rstrip("abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class Asked:
    """One question. token: good, bad, none. status: 0 where the answer was lost on its way."""

    method: str
    path: str
    token: str
    agent: str
    status: int


def documents(instance: Instance, credentials: Callable[[], Mapping[str, str]]) -> dict[str, Callable[[], bytes]]:
    """Path below the version -> what stands there, made when it is asked for."""
    identity = {
        "accountId": instance.account,
        "architecture": "x86_64",
        "availabilityZone": instance.zone,
        "imageId": instance.image,
        "instanceId": instance.id,
        "instanceType": instance.type,
        "privateIp": instance.address,
        "region": instance.region,
        "version": "2017-09-30",
    }
    texts: dict[str, str | Callable[[], str]] = {
        "/dynamic/instance-identity/document": json.dumps(identity, indent=2),
        "/meta-data/ami-id": instance.image,
        "/meta-data/hostname": instance.name,
        "/meta-data/instance-id": instance.id,
        "/meta-data/instance-life-cycle": instance.life_cycle,
        "/meta-data/instance-type": instance.type,
        "/meta-data/local-hostname": instance.name,
        "/meta-data/local-ipv4": instance.address,
        "/meta-data/placement/availability-zone": instance.zone,
        "/meta-data/placement/region": instance.region,
        "/meta-data/services/domain": "amazonaws.com",
        "/meta-data/services/partition": "aws",
    }
    if instance.role:
        texts["/meta-data/iam/info"] = json.dumps({"Code": "Success", "InstanceProfileArn": instance.profile_arn}, indent=2)
        texts[f"/meta-data/iam/security-credentials/{instance.role}"] = lambda: json.dumps(credentials(), indent=2)
    if instance.spot_notice:
        texts["/meta-data/spot/instance-action"] = json.dumps(dict(instance.spot_notice))
        texts["/meta-data/spot/termination-time"] = instance.spot_notice["time"]
    if instance.tags_enabled:
        texts.update({f"/meta-data/tags/instance/{key}": value for key, value in instance.tags.items()})
    found: dict[str, Callable[[], bytes]] = {path: _encoded(text) for path, text in texts.items()}
    if instance.user_data is not None:
        content = instance.user_data
        found["/user-data"] = lambda: content
    return found


def _encoded(text: str | Callable[[], str]) -> Callable[[], bytes]:
    def encoded() -> bytes:
        return (text() if callable(text) else text).encode()

    return encoded


def look_up(found: Mapping[str, Callable[[], bytes]], path: str) -> bytes | None:
    """A document, or the names below a folder, those of folders with a slash."""
    if path in found:
        return found[path]()
    folder = path.rstrip("/") + "/"
    below = [name.removeprefix(folder) for name in found if name.startswith(folder)]
    return "\n".join(sorted({head + slash for head, slash, _rest in (name.partition("/") for name in below)})).encode() if below else None


class Imds:
    """Answers over the listening socket for the length of a `with`. describe is asked anew for each question, credentials() for each that wants them."""

    def __init__(
        self,
        describe: Callable[[], Instance],
        credentials: Callable[[Instance], Mapping[str, str]],
        listener: socket.socket,
        *,
        lenient_to: str | None = None,
        lenient_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.asked: list[Asked] = []
        self._describe, self._credentials, self._clock = describe, credentials, clock
        self._lenient = re.compile(lenient_to) if lenient_to else None
        self._lenient_until = clock() + lenient_seconds
        self._tokens: dict[str, float] = {}
        self._server = _Server(listener.getsockname()[:2], self._handler(), bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._server.daemon_threads = True

    def __enter__(self) -> Imds:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="lab.cloud.imds", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def without_token(self) -> list[Asked]:
        """Questions by version 1, answered or not."""
        return [one for one in self.asked if one.method == "GET" and one.token == "none"]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        imds = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body go in two pieces: the second would wait 40 ms for the first one's acknowledgement
            server_version, sys_version = "EC2ws", ""
            timeout = 30

            def do_GET(self) -> None:
                imds._get(self)

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                imds._put(self)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                pass

        return Handler

    def _put(self, request: BaseHTTPRequestHandler) -> None:
        instance = self._describe()
        seconds = request.headers.get(SECONDS_HEADER, "")
        if not instance.enabled or request.headers.get("X-Forwarded-For") is not None:
            return self._answer(request, "none", HTTPStatus.FORBIDDEN)
        if request.path != "/latest/api/token":
            return self._answer(request, "none", HTTPStatus.NOT_FOUND)
        if not (seconds.isdecimal() and 1 <= int(seconds) <= LONGEST_TOKEN):
            return self._answer(request, "none", HTTPStatus.BAD_REQUEST)
        token = secrets.token_urlsafe(42)
        self._tokens[token] = self._clock() + int(seconds)
        # The connection carries nothing but this answer, so that all of it has its hops counted.
        request.close_connection = True
        if (hops := instance.hop_limit - _hops_before(request.connection)) < 1:
            return self._lose(request)
        request.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
        return self._answer(request, "good", HTTPStatus.OK, token.encode(), {SECONDS_HEADER: seconds, "Connection": "close"})

    def _lose(self, request: BaseHTTPRequestHandler) -> None:
        """The answer dies on its way; who asked waits until it has had enough."""
        self.asked.append(Asked(request.command, request.path, "none", request.headers.get("User-Agent", ""), 0))
        with contextlib.suppress(TimeoutError, ConnectionError):
            request.rfile.read(1)

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        instance = self._describe()
        given = request.headers.get(TOKEN_HEADER)
        token = "none" if given is None else "good" if self._tokens.get(given, 0) > self._clock() else "bad"
        if not instance.enabled:
            return self._answer(request, token, HTTPStatus.FORBIDDEN)
        if token == "bad" or (token == "none" and instance.tokens_required and not self._passes(request)):
            return self._answer(request, token, HTTPStatus.UNAUTHORIZED)
        match = VERSION.fullmatch(request.path)
        if request.path == "/":
            body: bytes | None = b"1.0\n2021-03-23\nlatest"
        else:
            body = look_up(documents(instance, lambda: self._credentials(instance)), match[2] or "/") if match else None
        status = HTTPStatus.OK if body is not None else HTTPStatus.NOT_FOUND
        kind = "application/octet-stream" if request.path.endswith("/user-data") else "text/plain"
        return self._answer(request, token, status, body, {"Content-Type": kind} if body is not None else {})

    def _passes(self, request: BaseHTTPRequestHandler) -> bool:
        agent = request.headers.get("User-Agent", "")
        return self._lenient is not None and self._lenient.match(agent) is not None and self._clock() < self._lenient_until

    def _answer(
        self, request: BaseHTTPRequestHandler, token: str, status: HTTPStatus, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.asked.append(Asked(request.command, request.path, token, request.headers.get("User-Agent", ""), int(status)))
        content = body if body is not None else f"<html><h1>{int(status)} - {status.phrase}</h1></html>".encode()
        request.send_response(status)
        for name, value in {"Content-Type": "text/plain" if body is not None else "text/html", **(headers or {}), "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asks may have given up, as on an instance that is ended or whose machine is busy; that is no error of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _hops_before(connection: socket.socket) -> int:
    """AWS' service is outside of the instance, this one is in it: the hop from there to the instance, for who is not the instance itself but behind it."""
    return 0 if connection.getpeername()[0] == connection.getsockname()[0] else 1


# ---- what AWS says


def instance_from(ec2: Any, iam: Any, identifier: str, spot_notice: Mapping[str, str] | None = None) -> Instance:
    """By clients of the lab's AWS. Raises its ClientError where the instance is unknown."""
    (reservation,) = ec2.describe_instances(InstanceIds=[identifier])["Reservations"]
    (found,) = reservation["Instances"]
    data = ec2.describe_instance_attribute(InstanceId=identifier, Attribute="userData").get("UserData", {}).get("Value")
    profile = found.get("IamInstanceProfile", {}).get("Arn", "")
    roles = iam.get_instance_profile(InstanceProfileName=profile.rpartition("/")[2])["InstanceProfile"]["Roles"] if profile else []
    options = found.get("MetadataOptions", {})
    return Instance(
        id=identifier,
        type=found["InstanceType"],
        zone=found["Placement"]["AvailabilityZone"],
        account=reservation["OwnerId"],
        image=found["ImageId"],
        address=found.get("PrivateIpAddress", ""),
        name=found.get("PrivateDnsName", ""),
        profile_arn=profile,
        role=roles[0]["RoleName"] if roles else "",
        user_data=_decoded(data),
        life_cycle=found.get("InstanceLifecycle", "on-demand"),
        tags={tag["Key"]: tag["Value"] for tag in found.get("Tags", [])},
        tokens_required=options.get("HttpTokens") == "required",
        hop_limit=int(options.get("HttpPutResponseHopLimit", 1)),
        enabled=options.get("HttpEndpoint", "enabled") == "enabled",
        tags_enabled=options.get("InstanceMetadataTags") == "enabled",
        spot_notice=spot_notice,
    )


def _decoded(data: str | None) -> bytes | None:
    return base64.b64decode(data) if data else None


def credentials_from(sts: Any, iam: Any, instance: Instance) -> dict[str, str]:
    """What the instance's role gives it: a session that is named after the instance, as AWS names it."""
    role = iam.get_role(RoleName=instance.role)["Role"]
    given = sts.assume_role(RoleArn=role["Arn"], RoleSessionName=instance.id, DurationSeconds=CREDENTIAL_SECONDS)["Credentials"]
    return {
        "Code": "Success",
        "LastUpdated": datetime.now(timezone.utc).strftime(_TIME_FORMAT),
        "Type": "AWS-HMAC",
        "AccessKeyId": given["AccessKeyId"],
        "SecretAccessKey": given["SecretAccessKey"],
        "Token": given["SessionToken"],
        "Expiration": given["Expiration"].astimezone(timezone.utc).strftime(_TIME_FORMAT),
    }


# ---- where it listens

_LISTEN = """
import socket, subprocess, sys
address, port, descriptor = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
with socket.create_server((address, port)) as listener, socket.socket(fileno=descriptor) as parent:
    socket.send_fds(parent, [b"x"], [listener.fileno()])
"""


def listen_in(namespace: str, address: str = ADDRESS, port: int = 80) -> socket.socket:
    """A listening socket in another network namespace (a path as /proc/1234/ns/net), usable from here; only what is in there can reach it."""
    here, there = socket.socketpair()
    with here, there:
        command = ["nsenter", f"--net={namespace}", sys.executable, "-c", _LISTEN, address, str(port), str(there.fileno())]
        done = subprocess.run(command, pass_fds=[there.fileno()], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OSError(f"nothing can listen on {address}:{port} in {namespace}: {(done.stderr.splitlines() or ['no reason given'])[-1]}")
        _data, descriptors, _flags, _from = socket.recv_fds(here, 1, 1)
    return socket.socket(fileno=descriptors[0])
