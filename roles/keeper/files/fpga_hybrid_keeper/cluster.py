# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's edge to Kubernetes: nodes, their startup taint, and one join token for each instance."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _command
from ansible_collections.fpga.hybrid.plugins.module_utils._keeper_status import moment
from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint
from fpga_hybrid.kube import Api, ConflictError, KubeError, NotFoundError, Object, Server, UnauthorizedError, WrongAuthorityError, condition, ready_condition
from fpga_hybrid_keeper.plan import STARTUP_TAINT, Node
from fpga_hybrid_keeper.told import EVENTS, event

SECRETS = "/api/v1/namespaces/kube-system/secrets"
#: What a kubelet may ask for with its token. Source: kubeadm, cmd/kubeadm/app/constants (NodeBootstrapTokenAuthGroup).
TOKEN_GROUP = "system:bootstrappers:kubeadm:default-node-token"  # noqa: S105
TOKEN_TYPE = "bootstrap.kubernetes.io/token"  # noqa: S105
#: Seconds that a token found after a crash has to live on, to be given out once more.
LEFT = 900.0
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class Kubernetes:
    """The cluster as an administrator's kubeconfig leads to it. Read anew when its certificate is refused, or its CA is not the server's: both are replaced."""

    def __init__(self, kubeconfig: str) -> None:
        self._kubeconfig = kubeconfig
        self._api: Api | None = None

    @property
    def api(self) -> Api:
        if self._api is None:
            self._api = connect(self._kubeconfig)
        return self._api

    @contextmanager
    def _renewing(self) -> Iterator[Api]:
        try:
            yield self.api
        except (UnauthorizedError, WrongAuthorityError):
            self._api = None
            raise

    # --- nodes --------------------------------------------------------------------------------------------------------------------------

    def nodes(self) -> dict[str, Node]:
        with self._renewing() as api:
            found = api.get("/api/v1/nodes", resourceVersion="0")
        return {node.name: node for node in map(read_node, found.get("items") or [])}

    def lift_taint(self, node: Node) -> None:
        self._change_taints(node, lambda taints: [taint for taint in taints if taint["key"] != STARTUP_TAINT.key])

    def set_taint(self, node: Node) -> None:
        ours = {"key": STARTUP_TAINT.key, "effect": STARTUP_TAINT.effect}
        self._change_taints(node, lambda taints: [*(taint for taint in taints if taint["key"] != STARTUP_TAINT.key), ours])

    def _change_taints(self, node: Node, change: Callable[[list[Object]], list[Object]]) -> None:
        """Taints are one list, which a patch replaces whole: made from what is there now, and refused where that has changed, so that none is lost."""
        with self._renewing() as api:
            found = api.node(node.name) or {}
            spec = found.get("spec") or {}
            there = spec.get("taints") or []
            wanted = change(there)
            if spec.get("providerID") == node.provider_id and wanted != there:
                version = found["metadata"]["resourceVersion"]
                api.merge_patch(_path(node.name), {"metadata": {"resourceVersion": version}, "spec": {"taints": wanted or None}})

    def delete_node(self, node: Node) -> None:
        with self._renewing() as api, suppress(NotFoundError):
            api.delete(_path(node.name), resource_version=node.version)

    def warn(self, warning: str, node: str, now: float) -> None:
        """As an event of the node. One that is there already (of today, in the same words) is enough."""
        with self._renewing() as api, suppress(ConflictError):
            api.request("POST", EVENTS, event(warning, node, now))

    # --- join tokens --------------------------------------------------------------------------------------------------------------------

    def token(self, instance: str, lifetime: float) -> str:
        """A token that nobody else has. One that was made for it before, and lives long enough, is given out again: it may have been read."""
        with self._renewing() as api:
            path = f"{SECRETS}/{secret_name(instance)}"
            with suppress(NotFoundError):
                found = api.get(path)
                token = _usable(found, instance)
                if token:
                    return token
                api.delete(path)
            secret = token_secret(
                instance, "".join(secrets.choice(ALPHABET) for _position in range(16)), datetime.now(timezone.utc) + timedelta(seconds=lifetime)
            )
            api.request("POST", SECRETS, secret)
            return f"{token_id(instance)}.{secret['stringData']['token-secret']}"

    def forget_token(self, instance: str) -> None:
        with self._renewing() as api, suppress(NotFoundError):
            api.delete(f"{SECRETS}/{secret_name(instance)}")


def connect(kubeconfig: str) -> Api:
    """kubectl reads the file, because Python's library has no YAML; keys stay in memory."""
    argv = ["kubectl", "config", "view", "--raw", "--minify", "--output=json", f"--kubeconfig={kubeconfig}"]
    code, out, err = _command.run(argv, timeout=20)
    try:
        if code != 0:
            raise ValueError(err.strip() or f"exit code {code}")
        document = json.loads(out)
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        address = urllib.parse.urlsplit(cluster["server"])
        ca, certificate, key = _pem(cluster, "certificate-authority"), _pem(user, "client-certificate"), _pem(user, "client-key")
        server = Server(str(address.hostname), address.port or 443)
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        # Not the document: it holds the key.
        what = str(error) if type(error) in (ValueError, FileNotFoundError) else type(error).__name__
        raise KubeError(f"{kubeconfig} gives no way into the cluster ({what}). kubeadm makes it: is this the control plane?") from None
    with _in_memory(certificate + "\n" + key) as path:
        return Api(server, ca, certificate=path)


def _pem(section: Mapping[str, Any], name: str) -> str:
    if f"{name}-data" in section:
        return base64.b64decode(section[f"{name}-data"]).decode("ascii")
    with open(section[name], encoding="ascii") as stream:
        return stream.read()


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A file that is on no disk."""
    handle = os.memfd_create("fpga-hybrid-keeper")
    try:
        os.write(handle, text.encode())
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _path(node: str) -> str:
    return f"/api/v1/nodes/{urllib.parse.quote(node, safe='')}"


def read_node(found: Object) -> Node:
    spec, status, metadata = found.get("spec") or {}, found.get("status") or {}, found["metadata"]
    unavailable = condition(found, "NetworkUnavailable")
    return Node(
        name=str(metadata["name"]),
        provider_id=spec.get("providerID") or None,
        ready=ready_condition(found)[0],
        taints=tuple(Taint(taint["key"], taint.get("value") or "", taint["effect"]) for taint in spec.get("taints") or []),
        allocatable={name: str(quantity) for name, quantity in (status.get("allocatable") or {}).items()},
        version=str(metadata.get("resourceVersion") or ""),
        ready_since=_ready_since(condition(found, "Ready")),
        network=unavailable.get("status") == "False" if unavailable else None,
    )


def _ready_since(ready: Mapping[str, Any]) -> float | None:
    try:
        return moment(str(ready.get("lastTransitionTime"))) if ready.get("status") == "True" else None
    except ValueError:
        return None


# --- tokens as Kubernetes keeps them ----------------------------------------------------------------------------------------------------


def token_id(instance: str) -> str:
    """The public half. Of the instance, so that whoever comes after a crash finds what was made."""
    number = int.from_bytes(hashlib.sha256(f"fpga.hybrid {instance}".encode()).digest()[:8], "big")
    return "".join(ALPHABET[number // len(ALPHABET) ** place % len(ALPHABET)] for place in range(6))


def secret_name(instance: str) -> str:
    return f"bootstrap-token-{token_id(instance)}"


def token_secret(instance: str, secret: str, expires: datetime) -> Object:
    """Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens"."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(instance), "namespace": "kube-system"},
        "type": TOKEN_TYPE,
        "stringData": {
            "description": _description(instance),
            "token-id": token_id(instance),
            "token-secret": secret,
            "expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": TOKEN_GROUP,
        },
    }


def _description(instance: str) -> str:
    return f"fpga.hybrid: {instance} joins with it, once"


def _usable(found: Object, instance: str) -> str:
    """The token of a Secret, or nothing where it is about to end, or is none of ours."""
    try:
        data = {name: base64.b64decode(value).decode() for name, value in (found.get("data") or {}).items()}
        expires = datetime.strptime(data["expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        token = f"{data['token-id']}.{data['token-secret']}"
    except (ValueError, KeyError):
        return ""
    if data.get("description") != _description(instance):
        raise ConflictError(f"Secret kube-system/{secret_name(instance)} is none of keeper's ({data.get('description') or 'no description'}). Delete it.")
    return token if (expires - datetime.now(timezone.utc)).total_seconds() > LEFT else ""
