# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes API over HTTPS, trusting exactly one CA.

ca = discover(server, ["sha256:..."]).ca
api = Api(server, ca, token="abcdef.0123456789abcdef")
node = api.get("/api/v1/nodes/i-0123456789abcdef0")
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import http.client
import json
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import KubeadmError, ca_cert_hashes

Object = dict[str, Any]

CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
PODS = "/api/v1/pods"
#: A kubelet's own, with its key; replaced as it is renewed.
CLIENT_CERTIFICATE = "var/lib/kubelet/pki/kubelet-client-current.pem"


class KubeError(Exception):
    """The API did not do what was asked; the message says what it answered."""


class UnreachableError(KubeError):
    """No answer, one that is not Kubernetes', or one that says: later."""


class WrongAuthorityError(KubeError):
    """The server's certificate, or what it says its CA is, is not the pinned one's."""


class UnauthorizedError(KubeError):
    """The token or certificate is unknown, or has expired."""


class ForbiddenError(KubeError):
    """The identity is known and may not do this."""


class NotFoundError(KubeError):
    pass


class ConflictError(KubeError):
    """Somebody else has changed the object meanwhile."""


_KINDS: dict[int, type[KubeError]] = {
    http.HTTPStatus.UNAUTHORIZED: UnauthorizedError,
    http.HTTPStatus.FORBIDDEN: ForbiddenError,
    http.HTTPStatus.NOT_FOUND: NotFoundError,
    http.HTTPStatus.CONFLICT: ConflictError,
    http.HTTPStatus.TOO_MANY_REQUESTS: UnreachableError,
    http.HTTPStatus.SERVICE_UNAVAILABLE: UnreachableError,
    http.HTTPStatus.GATEWAY_TIMEOUT: UnreachableError,
}


@dataclass(frozen=True)
class Server:
    """host: the name that the certificate has to hold for. address: where to connect to, None means the name's."""

    host: str
    port: int
    address: str | None = None

    @classmethod
    def of(cls, endpoint: str, address: str | None = None) -> Server:
        """From C(name:port)."""
        host, _colon, port = endpoint.rpartition(":")
        return cls(host, int(port), address)

    def __str__(self) -> str:
        there = f" ({self.address})" if self.address and self.address != self.host else ""
        return f"https://{self.host}:{self.port}{there}"


def endpoint_in(kubeconfig: str) -> str | None:
    """C(name:port) of the server in a kubeconfig that kubeadm wrote."""
    found = re.search(r"^\s*server:\s*https://(\S+?:\d+)\s*$", kubeconfig, re.MULTILINE)
    return found[1] if found else None


def authority_context(ca: str) -> ssl.SSLContext:
    """TLS that trusts the CA (PEM) and no other; the host's own list of CAs plays no part."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=ca)
    except ssl.SSLError as error:
        raise WrongAuthorityError(f"the CA's certificate cannot be used ({error})") from error
    return context


class _Connection(http.client.HTTPSConnection):
    """Connects to the server's address, checks the certificate for its name."""

    def __init__(self, server: Server, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(server.host, server.port, timeout=timeout, context=context)
        self._server, self._tls = server, context

    def connect(self) -> None:
        line = socket.create_connection((self._server.address or self._server.host, self._server.port), self.timeout)
        try:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = self._tls.wrap_socket(line, server_hostname=self._server.host)
        except BaseException:
            line.close()
            raise


@dataclass(frozen=True)
class Answer:
    """clock_offset: seconds that this host's clock is behind the server's, None where the server did not say."""

    status: int
    text: str
    clock_offset: float | None


def ask(
    server: Server, context: ssl.SSLContext, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None, timeout: float = 10.0
) -> Answer:
    connection = _Connection(server, context, timeout)
    try:
        connection.request(method, path, body, {"Accept": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode("utf-8", "replace"), _offset(answer.getheader("Date")))
    except ssl.SSLCertVerificationError as error:
        raise WrongAuthorityError(f"{server}: its certificate does not hold ({error.verify_message})") from error
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{server}: {error or type(error).__name__}") from error
    finally:
        connection.close()


def _offset(date: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date or "").timestamp() - time.time()
    except (TypeError, ValueError):
        return None


# --- the first question -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Discovery:
    """ca: PEM. clock_offset as in Answer."""

    ca: str
    clock_offset: float | None


def discover(server: Server, pins: Sequence[str], timeout: float = 10.0) -> Discovery:
    """The cluster's CA, taken from whoever answers and believed only for its hash (kubeadm's way: cmd/kubeadm/app/discovery/token).

    Raises WrongAuthorityError where no certificate has a pinned public key.
    """
    if not pins:
        raise WrongAuthorityError(f"{server}: no hash of the CA to compare with")
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent but the question, and nothing is believed that the hash does not prove.
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    answer = ask(server, unverified, "GET", CLUSTER_INFO, timeout=timeout)
    if answer.status == http.HTTPStatus.FORBIDDEN:
        raise ForbiddenError(f"{server}: it gives its cluster-info to nobody (HTTP status 403)")
    try:
        kubeconfig = json.loads(answer.text)["data"]["kubeconfig"]
        (data,) = re.findall(r"certificate-authority-data:\s*(\S+)", kubeconfig)
        ca = base64.b64decode(data, validate=True).decode("ascii")
        found = ca_cert_hashes(ca)
    except (ValueError, KeyError, TypeError, binascii.Error, KubeadmError) as error:
        raise UnreachableError(f"{server}: it is no Kubernetes API server that has joins: HTTP status {answer.status}, {answer.text[:80]!r}") from error
    if not set(found) & set(pins):
        raise WrongAuthorityError(f"{server}: its CA has the hash {', '.join(found)}, expected {', '.join(pins)}")
    return Discovery(ca, answer.clock_offset)


# --- the API ----------------------------------------------------------------------------------------------------------------------------


class Api:
    """Requests of one identity: a bearer token, or a client certificate (a PEM file with its key, as a kubelet has it)."""

    def __init__(
        self, server: Server, ca: str, token: str | None = None, certificate: str | None = None, key: str | None = None, timeout: float = 10.0
    ) -> None:
        self.server = server
        self._timeout = timeout
        self._context = authority_context(ca)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if certificate:
            try:
                self._context.load_cert_chain(certificate, key)
            except (OSError, ssl.SSLError) as error:
                raise UnauthorizedError(f"the client certificate {certificate} cannot be used ({error})") from error

    def request(self, method: str, path: str, body: Object | None = None, content_type: str = "application/json") -> Object:
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, **({"Content-Type": content_type} if data else {})}
        answer = ask(self.server, self._context, method, path, headers, data, self._timeout)
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise _KINDS.get(answer.status, KubeError)(f"{self.server}: {method} {path}: {_message(answer)}")
        try:
            document = json.loads(answer.text or "{}")
        except ValueError as error:
            raise UnreachableError(f"{self.server}: {method} {path}: no JSON came: {answer.text[:80]!r}") from error
        return document if isinstance(document, dict) else {}

    def get(self, path: str, **query: str) -> Object:
        return self.request("GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path)

    def merge_patch(self, path: str, patch: Object) -> Object:
        return self.request("PATCH", path, patch, "application/merge-patch+json")

    def delete(self, path: str, resource_version: str | None = None) -> Object:
        """resource_version: delete nothing that has changed since it was looked at (ConflictError)."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if resource_version:
            options["preconditions"] = {"resourceVersion": resource_version}
        return self.request("DELETE", path, options)

    def node(self, name: str) -> Object | None:
        """A Node, None where there is none of this name."""
        try:
            return self.get(f"/api/v1/nodes/{urllib.parse.quote(name, safe='')}")
        except NotFoundError:
            return None

    def answer(self, path: str, **query: str) -> Answer:
        """As it came, whatever its status. Raises where none came."""
        return ask(self.server, self._context, "GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path, self._headers, timeout=self._timeout)

    def pods_of(self, node: str) -> list[Object]:
        """Those bound to a node. A kubelet may ask for its own by exactly this selector (authorizer Node)."""
        return items(self.get(PODS, **of_node(node)))

    def evict(self, namespace: str, name: str, uid: str, grace: int | None = None) -> Object:
        """The very pod, within its PodDisruptionBudgets (UnreachableError where they say: later). grace: seconds, None for the pod's own."""
        options: Object = {"preconditions": {"uid": uid}, **({} if grace is None else {"gracePeriodSeconds": grace})}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}, "deleteOptions": options}
        return self.request("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", eviction)

    def is_healthy(self) -> bool:
        """Whether the API server itself says that it is ready to serve."""
        try:
            answer = ask(self.server, self._context, "GET", "/readyz", self._headers, timeout=self._timeout)
        except KubeError:
            return False
        return answer.status == http.HTTPStatus.OK and answer.text.strip() == "ok"


def of_node(node: str) -> dict[str, str]:
    return {"fieldSelector": f"spec.nodeName={node}"}


def items(document: Mapping[str, Any]) -> list[Object]:
    """Of a list as the API gives it."""
    found = document.get("items")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _message(answer: Answer) -> str:
    """Of a Status object, else the status alone."""
    try:
        return str(json.loads(answer.text)["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {answer.status}"


def condition(node: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Of a Node, by its type; empty where nobody has said it yet."""
    found = (one for one in (node.get("status") or {}).get("conditions") or [] if one.get("type") == kind)
    return next(found, {})


def ready_condition(node: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a Node takes pods, and what its kubelet says about it."""
    ready = condition(node, "Ready")
    if not ready:
        return False, "its kubelet has not reported yet"
    return ready.get("status") == "True", f"{ready.get('reason', '')}: {ready.get('message', '')}"
