# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubectl as the only client of the API: nothing but the package that every node has anyway.

Neither PyYAML nor a Kubernetes client library is on the hosts, so YAML is turned into objects by C(kubectl patch --local), which contacts no server.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import copy
import json
import time
import typing as t

from ansible_collections.fpga.hybrid.plugins.module_utils import _command

ADMIN_KUBECONFIG = "/etc/kubernetes/admin.conf"
KUBELET_KUBECONFIG = "/etc/kubernetes/kubelet.conf"
FIELD_MANAGER = "fpga-hybrid"

Object = dict[str, t.Any]
Run = t.Callable[..., tuple[int, str, str]]
"""C(run(argv, data=None, pass_fds=(), timeout=None)) gives (exit code, stdout, stderr). C(timeout) is only given where a program must be bounded."""


def run(argv: list[str], data: str | None = None, pass_fds: t.Sequence[int] = (), timeout: float | None = None) -> tuple[int, str, str]:
    """A C(Run) without a module object."""
    return _command.run(argv, data or "", pass_fds, timeout)


class KubeError(Exception):
    """Kubernetes, or a program that talks to it, did not do what was asked; the message says what to do."""


class NotFoundError(KubeError):
    """The object is not there, as opposed to: nobody could be asked."""


class Kubectl:
    """kubectl with one kubeconfig. Every request is bounded by C(request_timeout) seconds.

    C(bounded) bounds the program, too: what it does may be many requests, or none that ends by itself (exec, logs).
    """

    def __init__(self, run: Run, kubeconfig: str = ADMIN_KUBECONFIG, request_timeout: int = 20, *, bounded: bool = False) -> None:
        self._run = run
        self._options = ["--kubeconfig", kubeconfig, f"--request-timeout={request_timeout}s"]
        self._bound = {"timeout": request_timeout + 2} if bounded else {}
        self.kubeconfig = kubeconfig

    def within(self, seconds: int) -> Kubectl:
        """The same with other bounds."""
        return Kubectl(self._run, self.kubeconfig, seconds, bounded=True)

    def try_call(self, *arguments: str, data: str | None = None) -> tuple[int, str, str]:
        return self._run(["kubectl", *self._options, *arguments], data=data, **self._bound)

    def call(self, *arguments: str, data: str | None = None) -> str:
        code, out, err = self.try_call(*arguments, data=data)
        if code == 0:
            return out
        text = err.strip() or out.strip() or f"exit code {code}"
        if "(NotFound)" in text:
            raise NotFoundError(text)
        raise KubeError(f"kubectl {' '.join(arguments)}: {text}")

    def get(self, *arguments: str) -> Object | None:
        """One object, or None when the API answers that it is not there."""
        try:
            return t.cast("Object", json.loads(self.call("get", *arguments, "-o", "json")))
        except NotFoundError:
            return None

    def all(self, *arguments: str) -> list[Object]:
        """The objects of a kind, or those that are named; none of them missing."""
        return decode(self.call("get", *arguments, "-o", "json"))

    def merge_patch(self, patch: Object, *arguments: str) -> Object:
        """The patch goes through standard input, because arguments are visible to everybody on the host."""
        options = ["--type=merge", "--patch-file=/dev/stdin", f"--field-manager={FIELD_MANAGER}", "-o", "json"]
        out = self.call("patch", *arguments, *options, data=json.dumps(patch))
        return t.cast("Object", json.loads(out))


def decode(text: str) -> list[Object]:
    """The JSON objects that kubectl prints one after the other, lists taken apart."""
    decoder = json.JSONDecoder()
    objects: list[Object] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        value, position = decoder.raw_decode(text, position)
        objects += value["items"] if isinstance(value.get("items"), list) and str(value.get("kind", "")).endswith("List") else [value]
    return objects


def parse_yaml(run: Run, text: str, what: str) -> list[Object]:
    """YAML (one or more documents with apiVersion and kind) as objects; needs kubectl, no server."""
    if not text.strip():
        return []
    code, out, err = run(["kubectl", "patch", "--local", "-f", "-", "--type=merge", "-p", "{}", "-o", "json"], data=text)
    if code != 0:
        raise KubeError(f"{what} is not readable as Kubernetes YAML: {err.strip()}")
    return decode(out)


def to_yaml(run: Run, value: Object) -> str:
    """One object as YAML with sorted keys, as Kubernetes' own programs write it; needs kubectl, no server."""
    code, out, err = run(["kubectl", "patch", "--local", "-f", "-", "--type=merge", "-p", "{}", "-o", "yaml"], data=json.dumps(value))
    if code != 0:
        raise KubeError(f"kubectl cannot write {value.get('kind')} as YAML: {err.strip()}")
    return out


# --- server-side apply -------------------------------------------------------------------------------------------------------------------------

_FIRST = ("Namespace", "CustomResourceDefinition")


def identity(value: Object) -> str:
    """C(apps/v1 DaemonSet kube-system/calico-node): how messages and results name an object."""
    metadata = value.get("metadata") or {}
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{value.get('apiVersion')} {value.get('kind')} {place}{metadata.get('name')}"


def _key(value: Object) -> tuple[str, str, str, str]:
    metadata = value.get("metadata") or {}
    return (str(value.get("apiVersion")), str(value.get("kind")), str(metadata.get("namespace") or ""), str(metadata.get("name")))


def comparable(value: Object) -> Object:
    """The part of a live object that a user declares: without what every write changes by itself."""
    result = copy.deepcopy(value)
    metadata = result.get("metadata", {})
    for name in ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"):
        metadata.pop(name, None)
    result.pop("status", None)
    return result


class Applied(t.NamedTuple):
    """What an apply did, or would do: changed objects by name, and both sides of the difference."""

    created: list[str]
    updated: list[str]
    before: dict[str, Object]
    after: dict[str, Object]

    @property
    def changed(self) -> bool:
        return bool(self.created or self.updated)


class ServerSideApply:
    """Writes exactly the objects that the server would change: a dry run first, on the objects that exist, then the real one on the difference.

    A second apply therefore makes no write, and check mode shows what a real run does, because both come from the same dry run.
    """

    def __init__(self, kubectl: Kubectl, crd_timeout: int = 60) -> None:
        self._kubectl = kubectl
        self._crd_timeout = crd_timeout

    def plan(self, wanted: list[Object]) -> Applied:
        live = self._live(wanted)
        existing = [value for value in wanted if _key(value) in live]
        result = {_key(value): value for value in self._apply(existing, "--dry-run=server")} if existing else {}
        created = [identity(value) for value in wanted if _key(value) not in live]
        updated: list[str] = []
        before: dict[str, Object] = {}
        after: dict[str, Object] = {name: value for name, value in ((identity(v), comparable(v)) for v in wanted) if name in created}
        for value in existing:
            old, new = comparable(live[_key(value)]), comparable(result.get(_key(value), value))
            if old != new:
                name = identity(value)
                updated.append(name)
                before[name], after[name] = old, new
        return Applied(created, updated, before, after)

    def apply(self, wanted: list[Object], plan: Applied) -> None:
        """The kinds that others are made of go first, and are waited for."""
        names = {*plan.created, *plan.updated}
        todo = [value for value in wanted if identity(value) in names]
        first = [value for value in todo if value.get("kind") in _FIRST]
        rest = [value for value in todo if value.get("kind") not in _FIRST]
        if first:
            self._apply(first)
            definitions = [f"customresourcedefinition/{value['metadata']['name']}" for value in first if value["kind"] == "CustomResourceDefinition"]
            if definitions:
                self._kubectl.call("wait", "--for=condition=Established", f"--timeout={self._crd_timeout}s", *definitions)
        if rest:
            self._apply(rest)

    def _apply(self, objects: list[Object], *options: str) -> list[Object]:
        arguments = ["apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "--force-conflicts", *options, "-o", "json", "-f", "-"]
        return decode(self._kubectl.call(*arguments, data=_as_list(objects)))

    def _live(self, wanted: list[Object]) -> dict[tuple[str, str, str, str], Object]:
        """Objects of kinds that the server does not know (their definition is applied in this very run) are not there, by definition."""
        if not wanted:
            return {}
        code, out, err = self._kubectl.try_call("get", "--ignore-not-found", "-o", "json", "--show-managed-fields=false", "-f", "-", data=_as_list(wanted))
        if code != 0 and not _unknown_kind(err):
            raise KubeError(f"kubectl get: {err.strip()}")
        if code != 0:
            found: list[Object] = []
            for kind in sorted({str(value.get("kind")) for value in wanted}):
                same = [value for value in wanted if str(value.get("kind")) == kind]
                code, out, err = self._kubectl.try_call(
                    "get", "--ignore-not-found", "-o", "json", "--show-managed-fields=false", "-f", "-", data=_as_list(same)
                )
                if code == 0:
                    found += decode(out)
                elif not _unknown_kind(err):
                    raise KubeError(f"kubectl get: {err.strip()}")
            return {_key(value): value for value in found}
        return {_key(value): value for value in decode(out)}


def _unknown_kind(error: str) -> bool:
    return "no matches for kind" in error or "ensure CRDs are installed first" in error


def _as_list(objects: list[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


# --- why pods do not come up --------------------------------------------------------------------------------------------------------------------


def pod_troubles(pods: list[Object]) -> list[str]:
    """One line for each pod that does not run, with the reason that Kubernetes gives."""
    lines = []
    for pod in pods:
        status = pod.get("status") or {}
        name = f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']} on {(pod.get('spec') or {}).get('nodeName') or 'no node'}"
        reasons = []
        for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            state = container.get("state") or {}
            waiting, ended = state.get("waiting"), state.get("terminated") or (container.get("lastState") or {}).get("terminated")
            if waiting and waiting.get("reason") not in (None, "PodInitializing"):
                reasons.append(f"{container['name']}: {waiting['reason']} {waiting.get('message', '')}".strip())
            if ended and ended.get("exitCode"):
                reasons.append(f"{container['name']}: ended with {ended['exitCode']} {ended.get('reason', '')} {ended.get('message', '')}".strip())
            if not container.get("ready") and "running" in state:
                reasons.append(f"{container['name']}: runs, not ready")
        reasons += [
            f"{condition['type']}: {condition.get('message') or condition.get('reason')}"
            for condition in status.get("conditions", [])
            if condition.get("type") == "PodScheduled" and condition.get("status") != "True"
        ]
        if status.get("phase") not in ("Running", "Succeeded") or reasons:
            lines.append(f"{name} is {status.get('phase')}: {'; '.join(reasons) or 'no reason given yet'}")
    return lines


def unfinished(workload: Object) -> int:
    """How many pods of a Deployment or DaemonSet are not yet as declared and available; -1 when its controller has not looked at it yet."""
    spec, status = workload.get("spec") or {}, workload.get("status") or {}
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return -1
    if workload.get("kind") == "DaemonSet":
        wanted, updated, available = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
    else:
        wanted, updated, available = spec.get("replicas", 1), status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    return int(wanted - min(updated, available))


def silent_nodes(nodes: list[Object]) -> set[str]:
    """Nodes whose kubelet has stopped reporting: switched off, or cut off. A node that waits for its network is not one of them."""
    return {
        node["metadata"]["name"]
        for node in nodes
        for condition in (node.get("status") or {}).get("conditions", [])
        if condition.get("type") == "Ready" and condition.get("status") == "Unknown"
    }


def wait_for_rollouts(kubectl: Kubectl, workloads: list[str], namespace: str, timeout: int) -> None:
    """Waits until each C(kind/name) has all its pods as declared, but for those on nodes that are switched off; says why they have not."""
    for workload in workloads:
        end = time.monotonic() + timeout
        while True:
            found = kubectl.get("-n", namespace, workload)
            if found is None:
                raise KubeError(f"{workload} is not there in namespace {namespace}, so there is nothing to wait for.")
            missing = unfinished(found)
            if missing == 0:
                break
            labels = ((found.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
            pods = decode(kubectl.call("-n", namespace, "get", "pods", "-l", ",".join(f"{k}={v}" for k, v in sorted(labels.items())), "-o", "json"))
            silent = silent_nodes(decode(kubectl.call("get", "nodes", "-o", "json")))
            if missing == sum(1 for pod in pods if (pod.get("spec") or {}).get("nodeName") in silent):
                break
            if time.monotonic() >= end:
                troubles = pod_troubles(pods) or [f"it has {len(pods)} pods and none of them says what is wrong"]
                raise KubeError(
                    f"{workload} in {namespace} is not up after {timeout} s:\n"
                    + "\n".join(f"  {line}" for line in troubles)
                    + f"\nLook at: kubectl -n {namespace} describe {workload}; on the node: journalctl -u kubelet -n 100, and the logs below /var/log/pods."
                )
            time.sleep(1)
