# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod for each resource that nodes publish of their boards: made, waited for, read, and removed. C(Kubectl) is the only thing that talks to the cluster."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import board_resource
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import Accelerator
from ansible_collections.fpga.hybrid.plugins.module_utils._on_prem_fpga import KNOWN_BOARDS

NAMESPACE = "fpga-hybrid-selftest"
DONE = ("Succeeded", "Failed")
#: Of a container that a namespace of restricted() takes.
RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "seccompProfile": {"type": "RuntimeDefault"},
}
#: Says what it was given, and opens what it was given.
SCRIPT = 'env | grep -E "^(PCIDEVICE|FPGA)_" | sort; for node in /dev/dri/renderD*; do : 3<> "$node" || exit 1; echo "$node can be opened"; done'


@dataclass(frozen=True)
class Trial:
    """One pod. name: also that of the object."""

    name: str
    node: str
    resource: str
    count: int


def askable(accelerators: Iterable[Accelerator]) -> dict[str, int]:
    """Resource -> how much of it a pod may ask for alone: one, or whole boards of what is not shared (CONTRACTS section 7)."""
    copies = {entry.resource: 1 if entry.shared else max(entry.replicas.values()) for entry in accelerators}
    return {**{board_resource(board): 1 for board in KNOWN_BOARDS}, **copies}


def trials(nodes: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> list[Trial]:
    """What the nodes give of it. Numbered, since names of nodes and resources are too long together."""
    wanted = [
        (node["metadata"]["name"], resource)
        for node in nodes
        for resource, there in sorted(node["status"].get("allocatable", {}).items())
        if resource in counts and int(there) >= counts[resource]
    ]
    return [Trial(f"trial-{number}", node, resource, counts[resource]) for number, (node, resource) in enumerate(wanted, 1)]


def restricted(namespace: str) -> dict[str, Any]:
    """A namespace that takes no privileged pod."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}


def objects(pods: Sequence[Trial], image: str) -> dict[str, Any]:
    """A namespace that takes no privileged pod, and the pods."""
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            restricted(NAMESPACE),
            *(_pod(pod, image) for pod in pods),
        ],
    }


def _pod(trial: Trial, image: str) -> dict[str, Any]:
    only_there = {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [trial.node]}]}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": trial.name, "namespace": NAMESPACE},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            # by the scheduler, which knows what is taken
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": only_there}},
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "command": ["sh", "-c", SCRIPT],
                    "resources": {"limits": {trial.resource: str(trial.count)}},
                    "securityContext": RESTRICTED,
                }
            ],
        },
    }


def why(pod: Mapping[str, Any]) -> str:
    """What the API server says of a pod that did not end well."""
    status = pod.get("status", {})
    states = [container.get("state", {}) for container in status.get("containerStatuses", [])]
    waiting = [f"{state['waiting'].get('reason', '')}: {state['waiting'].get('message', '')}" for state in states if "waiting" in state]
    missing = [one for one in status.get("conditions", []) if one["status"] != "True" and one.get("message")]
    unscheduled = [f"{one.get('reason', '')}: {one['message']}" for one in missing]
    said = [f"{status['reason']}: {status.get('message', '')}"] if status.get("reason") else []
    return "; ".join(dict.fromkeys(text.strip(": ") for text in (*said, *waiting, *unscheduled)))


def run(
    kubectl: Kubectl, nodes: Sequence[str], counts: Mapping[str, int], image: str, seconds: float, sleep: Callable[[float], None] = time.sleep
) -> list[dict[str, Any]]:
    """For each pod node, resource, count, phase, said. Leaves nothing behind. Raises KubeError."""
    pods = trials(kubectl.all("nodes", *nodes) if nodes else [], counts)
    kubectl.call("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
    if not pods:
        return []
    try:
        kubectl.call("create", "-f", "-", data=json.dumps(objects(pods, image)))
        end = time.monotonic() + seconds
        while True:
            found = {pod["metadata"]["name"]: pod for pod in kubectl.all("pods", "-n", NAMESPACE)}
            if all(pod["status"].get("phase") in DONE for pod in found.values()) or time.monotonic() > end:
                break
            sleep(1)
        return [_result(kubectl, trial, found[trial.name]) for trial in pods]
    finally:
        kubectl.call("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


def _result(kubectl: Kubectl, trial: Trial, pod: Mapping[str, Any]) -> dict[str, Any]:
    phase = pod["status"].get("phase", "unknown")
    try:
        log = kubectl.call("logs", "-n", NAMESPACE, trial.name, "--tail=40") if phase in DONE else ""
    except KubeError as error:
        log = str(error)
    said = [log.strip(), "" if phase == "Succeeded" else why(pod)]
    return {"node": trial.node, "resource": trial.resource, "count": trial.count, "phase": phase, "said": "\n".join(text for text in said if text)}
