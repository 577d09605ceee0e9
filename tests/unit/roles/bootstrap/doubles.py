# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doubles of what stands around a host that joins: AWS that fails, the metadata service, an API server, OpenVPN, kubeadm, systemctl.

Each is a server or a program of its own that answers as the real thing does, in its failures too; none of them is anything else's stand-in.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import json
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

TOKEN = "abcdef.thisisthetoken00"


class Server:
    """An HTTP server on a port of its own, for the time of a with block."""

    scheme = "http"

    def __init__(self) -> None:
        self._over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body go in two pieces: the second would wait 40 ms for the first one's acknowledgement

            def handle_one(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                outer.handle(self, self.rfile.read(length) if length else b"")

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = handle_one

            def log_message(self, *_arguments: Any) -> None:
                pass

            def date_time_string(self, timestamp: float | None = None) -> str:
                return outer.date()

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_arguments: Any) -> None:
                """Clients that give up are what many tests are about."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Any:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def date(self) -> str:
        return email.utils.formatdate(usegmt=True)

    def stall(self) -> None:
        """Holds a request until the server is over: whoever asks gives up first."""
        self._over.wait(30)

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        raise NotImplementedError

    @staticmethod
    def reply(request: BaseHTTPRequestHandler, status: int, text: str, content_type: str = "application/json") -> None:
        data = text.encode()
        request.send_response(status)
        request.send_header("Content-Type", content_type)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


class FailingAws(Server):
    """AWS as it answers when something is wrong. What was planned comes in turn, the last for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[dict[str, str]] = []
        self.ahead = 0.0
        self.last_date = ""
        #: What a PutParameter gets, beside the plan; None: as everything else.
        self.puts: str | None = None
        #: What DescribeAutoScalingInstances gets, likewise.
        self.in_groups: tuple[int, str] | None = None
        self._plan: list[Callable[[BaseHTTPRequestHandler], None]] = []

    def date(self) -> str:
        self.last_date = email.utils.formatdate(time.time() + self.ahead, usegmt=True)
        return self.last_date

    def forget(self) -> None:
        self._plan.clear()

    def answer(self, status: int, body: str, times: int = 1) -> None:
        self._plan += [lambda request: self.reply(request, status, body)] * times

    def hang_up(self, times: int = 1) -> None:
        def close(request: BaseHTTPRequestHandler) -> None:
            request.close_connection = True

        self._plan += [close] * times

    def slow(self) -> None:
        self._plan.append(lambda request: self.stall())

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.requests.append({**dict(request.headers.items()), "body": body.decode()})
        if self.puts is not None and request.headers.get("X-Amz-Target") == "AmazonSSM.PutParameter":
            self.reply(request, 200, self.puts)
        elif self.in_groups is not None and body.startswith(b"Action=DescribeAutoScalingInstances"):
            self.reply(request, *self.in_groups)
        else:
            (self._plan.pop(0) if len(self._plan) > 1 else self._plan[0])(request)


class MetadataService(Server):
    """The instance metadata service. mode: v2, v1 (no tokens), openstack, disabled, slow, slow_at_first."""

    def __init__(self, instance_id: str = "i-0123456789abcdef0", mode: str = "v2", role: str | None = "node", **identity: str) -> None:
        super().__init__()
        self.mode, self.role = mode, role
        self.identity = {
            "instanceId": instance_id,
            "instanceType": "f2.12xlarge",
            "availabilityZone": "us-east-1a",
            "region": "us-east-1",
            "accountId": "123456789012",
            "version": "2017-09-30",
            **identity,
        }
        self.tokens: list[str] = []
        self.without_token: list[str] = []
        self.expire_after: int | None = None
        self.slow_requests = 1
        self.data: dict[str, str] = {}

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        method, path = request.command, request.path
        if self.mode == "slow" or (self.mode == "slow_at_first" and self.slow_requests > 0):
            self.slow_requests -= 1
            return self.stall()
        if self.mode == "disabled":
            return self.reply(request, 403, "<h1>403 - Forbidden</h1>", "text/html")
        if method == "PUT":
            return self._token(request, path)
        token = request.headers.get("X-aws-ec2-metadata-token")
        if token is None:
            self.without_token.append(path)
        if self.mode == "openstack" and not path.startswith("/latest/meta-data/"):
            return self.reply(request, 404, "<h1>404</h1>", "text/html")
        if self.mode == "v2" and token not in self.tokens[-1:]:
            return self.reply(request, 401, "<h1>401 - Unauthorized</h1>", "text/html")
        if self.mode == "v2" and self.expire_after is not None:
            self.expire_after -= 1
            if self.expire_after < 0:
                self.expire_after = None
                self.tokens.append("expired")
                return self.reply(request, 401, "<h1>401 - Unauthorized</h1>", "text/html")
        text = self._text(path)
        return self.reply(request, 404, "<h1>404</h1>", "text/html") if text is None else self.reply(request, 200, text, "text/plain")

    def _token(self, request: BaseHTTPRequestHandler, path: str) -> None:
        seconds = request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.mode in ("v1", "openstack") or path != "/latest/api/token":
            return self.reply(request, 405 if self.mode == "openstack" else 404, "<h1>no</h1>", "text/html")
        if not seconds.isdigit() or not 0 < int(seconds) <= 21600:
            return self.reply(request, 400, "<h1>400 - Bad Request</h1>", "text/html")
        self.tokens.append(f"token-{len(self.tokens)}==")
        return self.reply(request, 200, self.tokens[-1], "text/plain")

    def _text(self, path: str) -> str | None:
        credentials = "/latest/meta-data/iam/security-credentials/"
        if path == "/latest/dynamic/instance-identity/document":
            return json.dumps(self.identity, indent=2)
        if path == credentials and self.role:
            return self.role
        if self.role and path == f"{credentials}{self.role}":
            expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 21600))
            return json.dumps({"Code": "Success", "AccessKeyId": "ASIATEST", "SecretAccessKey": "imds-secret", "Token": "imds-token", "Expiration": expires})
        return self.data.get(path)


# --- the API server ---------------------------------------------------------------------------------------------------------------------


class Authority:
    """A CA as kubeadm makes one, and what it signs, as PEM."""

    def __init__(self, name: str = "kubernetes", days: int = 1) -> None:
        self._days = days
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._sign(self._name, self._key, ca=True)
        self.pem = self._certificate.public_bytes(Encoding.PEM).decode()
        self.pin = "sha256:" + hashlib.sha256(self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    def issue(self, name: str, *names: str, organisation: str = "") -> str:
        """Certificate and key in one text, as a kubelet keeps its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
        certificate = self._sign(x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, names=names)
        return (certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())).decode()

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, ca: bool = False, names: Sequence[str] = ()) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=self._days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if names:
            alternatives = [x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256())


class ApiServer(Server):
    """A Kubernetes API server: cluster-info for everybody, nodes for a known token, and what a kubelet may do to its own Node and pods.

    nodes: as objects, by name. pods: as objects. tokens: those that live. ahead: seconds that its clock is before this machine's. fails: the status that
    it answers everything with; 0 for no answer at all. budgets: names of pods whose PodDisruptionBudget says no.
    """

    scheme = "https"
    NAME = "api.example.org"

    def __init__(self, folder: Path, authority: Authority | None = None) -> None:
        super().__init__()
        self.authority = authority or Authority()
        self.nodes: dict[str, dict[str, Any]] = {}
        self.pods: list[dict[str, Any]] = []
        self.fails: int | None = None
        self.budgets: set[str] = set()
        self.evictions: list[dict[str, Any]] = []
        self.tokens = {TOKEN}
        self.forbidden: set[str] = set()
        self.ahead = 0.0
        self.ready = "ok"
        self.cluster_info: str | None = ""
        self.asked: list[str] = []
        self.on_ask: Callable[[str], None] = lambda path: None
        certificate, ca = folder / "apiserver.pem", folder / "apiserver-ca.pem"
        certificate.write_text(self.authority.issue("kube-apiserver", self.NAME, "127.0.0.1"))
        ca.write_text(self.authority.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.endpoint = f"{self.NAME}:{self.port}"

    def date(self) -> str:
        return email.utils.formatdate(time.time() + self.ahead, usegmt=True)

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        method, path = request.command, request.path
        self.asked.append(f"{method} {path}")
        self.on_ask(path)
        if self.fails == 0:
            request.close_connection = True
            return None
        if self.fails:
            return self._status(request, self.fails, "it does not go well")
        if path == "/api/v1/namespaces/kube-public/configmaps/cluster-info":
            return self._cluster_info(request)
        if path == "/readyz":
            return self.reply(request, 200 if self.ready == "ok" else 500, self.ready, "text/plain")
        who = self._who(request)
        if who is None:
            return self._status(request, 401, "Unauthorized")
        if path.startswith("/api/v1/pods?"):
            return self._pods_of(request, who, path)
        if path.endswith("/eviction"):
            return self._evict(request, who, path.split("/")[-2], json.loads(body))
        name = path.rpartition("/")[2]
        if not path.startswith("/api/v1/nodes/") or name in self.forbidden or who not in ("bootstrap", f"system:node:{name}"):
            return self._status(request, 403, f'nodes "{name}" is forbidden: User "{who}" cannot get resource "nodes"')
        if name not in self.nodes:
            return self._status(request, 404, f'nodes "{name}" not found')
        if method == "PATCH":
            self.nodes[name]["spec"].update(json.loads(body)["spec"])
        return self.reply(request, 200, json.dumps(self.nodes[name]))

    def _pods_of(self, request: BaseHTTPRequestHandler, who: str, path: str) -> None:
        """The node authorizer lets a kubelet list pods of its own node only."""
        node = urllib.parse.parse_qs(path.partition("?")[2])["fieldSelector"][0].removeprefix("spec.nodeName=")
        if who != f"system:node:{node}":
            return self._status(request, 403, f'pods is forbidden: User "{who}" cannot list resource "pods"')
        found = [pod for pod in self.pods if pod["spec"].get("nodeName") == node]
        return self.reply(request, 200, json.dumps({"kind": "PodList", "apiVersion": "v1", "items": found}))

    def _evict(self, request: BaseHTTPRequestHandler, who: str, name: str, eviction: dict[str, Any]) -> None:
        pod = next((pod for pod in self.pods if pod["metadata"]["name"] == name), None)
        if pod is None:
            return self._status(request, 404, f'pods "{name}" not found')
        if who != f"system:node:{pod['spec'].get('nodeName')}":
            return self._status(request, 403, f'pods "{name}" is forbidden: node "{who}" can only evict pods with spec.nodeName set to itself')
        if eviction["deleteOptions"]["preconditions"]["uid"] != pod["metadata"]["uid"]:
            return self._status(request, 409, "the UID in the precondition does not match")
        if name in self.budgets:
            return self._status(request, 429, "Cannot evict pod as it would violate the pod's disruption budget.")
        self.evictions.append(eviction)
        pod["metadata"]["deletionTimestamp"] = "2026-11-26T10:00:00Z"
        return self.reply(request, 201, json.dumps({"kind": "Status", "status": "Success"}))

    def _who(self, request: BaseHTTPRequestHandler) -> str | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token:
            return "bootstrap" if token in self.tokens else None
        certificate = request.connection.getpeercert() if isinstance(request.connection, ssl.SSLSocket) else None
        return next((value for part in (certificate or {}).get("subject", ()) for key, value in part if key == "commonName"), None)

    def _cluster_info(self, request: BaseHTTPRequestHandler) -> None:
        if self.cluster_info is None:
            return self._status(request, 403, 'configmaps "cluster-info" is forbidden: User "system:anonymous" cannot get resource "configmaps"')
        data = base64.b64encode(self.authority.pem.encode()).decode()
        kubeconfig = (
            f"apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {data}\n    server: https://{self.endpoint}\n  name: ''\nkind: Config\n"
        )
        text = self.cluster_info or json.dumps({"kind": "ConfigMap", "apiVersion": "v1", "data": {"kubeconfig": kubeconfig}})
        return self.reply(request, 200, text)

    def _status(self, request: BaseHTTPRequestHandler, status: int, message: str) -> None:
        self.reply(request, status, json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status}))


def pod_object(name: str, node: str, uid: str, owner: str = "Job", grace: int = 30, phase: str = "Running", **annotations: str) -> dict[str, Any]:
    """A pod as the API shows it."""
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid,
            "annotations": annotations,
            "ownerReferences": [{"kind": owner, "name": "x", "controller": True}],
        },
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": grace},
        "status": {"phase": phase},
    }


def node_object(name: str, provider_id: str | None, ready: bool, address: str = "") -> dict[str, Any]:
    """A Node as the API shows it."""
    reason, message = ("KubeletReady", "kubelet is posting ready status") if ready else ("KubeletNotReady", "cni plugin not initialized")
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "creationTimestamp": "2026-11-25T10:00:00Z"},
        "spec": {"providerID": provider_id} if provider_id else {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}] if address else [],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", "reason": reason, "message": message}],
        },
    }
