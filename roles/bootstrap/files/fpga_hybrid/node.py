# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host will be as a node: pure functions over node.json, the instance's own identity and the command line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint, is_key, is_value, kubelet_may_set
from ansible_collections.fpga.hybrid.plugins.module_utils._node import node_violations, registration_taints
from ansible_collections.fpga.hybrid.plugins.module_utils._quantity import Quantity
from fpga_hybrid import failure
from fpga_hybrid.failure import Failure
from fpga_hybrid.imds import Instance
from fpga_hybrid.options import LABEL_RULE, NODE_NAME, Options

Object = dict[str, Any]

#: Where node.json does not say it: cri-dockerd's is there only where it is the cluster's runtime.
CRI_SOCKETS = ("run/cri-dockerd.sock", "run/containerd/containerd.sock")
CONTAINERD = "unix:///run/containerd/containerd.sock"

#: A host without node.json, as the tutorial's.
NOTHING_DECLARED: Mapping[str, Any] = {
    "cluster_name": None,
    "cluster_id": None,
    "pool": None,
    "labels": {},
    "taints": [],
    "startup_taints": [],
    "resources": {},
    "reserved": {},
    "provider_id": None,
    "vpn": None,
    "aws": None,
    "ignore_preflight": [],
}


@dataclass(frozen=True)
class Node:
    """labels: that the kubelet sets itself. left: those of node.json that only the control plane may set."""

    name: str
    provider_id: str | None
    labels: Mapping[str, str]
    left: tuple[str, ...]
    taints: tuple[Mapping[str, str], ...]
    declared: Mapping[str, Any]
    instance: Instance | None = None
    kubelet: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label_flag(self) -> dict[str, str]:
        return {"node-labels": ",".join(f"{key}={value}" for key, value in sorted(self.labels.items()))} if self.labels else {}


def read_declaration(text: str | None, path: str) -> Object:
    """The content of node.json."""
    remedy = "site.yml writes it on-prem, user-data in AWS"
    if text is None:
        raise Failure(failure.CONFIG, f"{path} does not exist: {remedy}. Run that, or name the right file with --config.")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Failure(failure.CONFIG, f"{path} is no JSON ({error}). {remedy[0].upper()}{remedy[1:]}: have it written again.") from None
    violations = node_violations(document)
    if violations:
        raise Failure(failure.CONFIG, f"{path} is not as a node.json must be: {'; '.join(violations)}. {remedy[0].upper()}{remedy[1:]}: have it written again.")
    return dict(document)


def describe(options: Options, declared: Mapping[str, Any] | None, instance: Instance | None, hostname: str) -> Node:
    document = declared or NOTHING_DECLARED
    of_instance = (
        {
            "node.kubernetes.io/instance-type": instance.type,
            "topology.kubernetes.io/region": instance.region,
            "topology.kubernetes.io/zone": instance.zone,
        }
        if instance
        else {}
    )
    aws = document["aws"]
    if instance and aws and aws["region"] != instance.region:
        raise Failure(
            failure.REGION,
            f"{instance.id} stands in {instance.region}, its node.json is for {aws['region']}. "
            "Its launch template was made for another region: run pools.yml with the right cluster_aws_region, and end this instance.",
        )
    # What the pool declares wins: the autoscaler predicts by the group's tags, and only what they lack from the group itself.
    labels = {**of_instance, **document["labels"], **options.labels}
    left = _left_to_the_control_plane(labels, document, options)
    name = options.node_name or (instance.id if instance else hostname.lower())
    if not NODE_NAME.fullmatch(name):
        raise Failure(
            failure.USAGE, f"this host's name {name!r} cannot name a Node: lower-case letters, digits, '-' and '.' only. Give another with --node-name."
        )
    taints = registration_taints(document)
    own = {taint.key for taint in options.taints}
    return Node(
        name=name,
        provider_id=instance.provider_id if instance else document["provider_id"],
        labels={key: value for key, value in labels.items() if key not in left},
        left=left,
        taints=(*(taint for taint in taints if taint["key"] not in own), *map(_registered, options.taints)),
        declared=document,
        instance=instance,
        kubelet=document.get("kubelet") or {},
    )


def _registered(taint: Taint) -> dict[str, str]:
    return {"key": taint.key, "value": taint.value, "effect": taint.effect}


def _left_to_the_control_plane(labels: Mapping[str, str], document: Mapping[str, Any], options: Options) -> tuple[str, ...]:
    """On-prem, role kubeadm sets them after the join. An instance has nobody who does, so there they are refused."""
    for key, value in labels.items():
        if not is_key(key) or not is_value(value):
            raise Failure(failure.LABEL, f"{key}={value} is no label that Kubernetes takes. {LABEL_RULE} Mend it where it is declared.")
    refused = tuple(key for key in labels if not kubelet_may_set(key))
    nobody = [key for key in refused if document["pool"] or key in options.labels]
    if nobody:
        raise Failure(
            failure.LABEL,
            f"label {', '.join(nobody)}: no kubelet may give its own node a label of Kubernetes' own domains (admission plugin NodeRestriction). "
            "Choose a key of a domain of your own, or set it from the control plane (kubectl label node).",
        )
    return refused


# --- what the host has ------------------------------------------------------------------------------------------------------------------


def capacity(root: str) -> dict[str, Quantity]:
    """As the kubelet will find it. Source: k8s.io/kubernetes pkg/kubelet/cadvisor (CapacityFromMachineInfo), cadvisor's machine package.

    Huge pages are a resource of their own, which the kubelet takes off the memory that it offers.
    """
    memory = dict(re.findall(r"^(\w+):\s*(\d+) kB$", _text(root, "proc/meminfo"), re.MULTILINE))
    folder = os.path.join(root, "var/lib/kubelet")
    while not os.path.isdir(folder):  # made by kubeadm, on the file system that is there now
        folder = os.path.dirname(folder)
    disk = os.statvfs(folder)
    return {
        "cpu": Quantity.of(len(re.findall(r"^processor\s*:", _text(root, "proc/cpuinfo"), re.MULTILINE))),
        "memory": Quantity.bytes((int(memory["MemTotal"]) - int(memory.get("Hugetlb", 0))) * 1024),
        "ephemeral-storage": Quantity.bytes(disk.f_blocks * disk.f_frsize),
    }


def cri_socket(node: Node, root: str) -> str:
    if node.kubelet:
        return str(node.kubelet["cri_socket"])
    return next((f"unix:///{path}" for path in CRI_SOCKETS if os.path.exists(os.path.join(root, path))), CONTAINERD)


def _text(root: str, path: str) -> str:
    with open(os.path.join(root, path), encoding="utf-8") as stream:
        return stream.read()
