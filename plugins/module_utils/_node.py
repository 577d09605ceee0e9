# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node.json, which says what a node is, and the kubelet's settings that follow from it.

Read on the hosts, too: role bootstrap installs this file with its program, so what a template promises and what a node keeps is one function.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint
from ansible_collections.fpga.hybrid.plugins.module_utils._quantity import BINARY, Quantity
from ansible_collections.fpga.hybrid.plugins.module_utils._schema import violations

NODE_FILE = "/etc/fpga-hybrid/node.json"
FPGA_STACK = "fpga_device_plugin"
#: What a kubelet can be told to keep from pods.
RESERVABLE = ("cpu", "memory", "ephemeral-storage")
#: Seconds after which an instance whose API server is gone ends itself, without a job and with one. Where node.json says nothing else: it does so only
#: where the declaration differs, so that images from before it knew the key go on reading it.
ORPHAN_TIMEOUT = {"idle": 3600, "busy": 14400}


class TemplateError(Exception):
    """A node cannot be what its template promises; the message holds both figures."""


_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_TAINT = {"type": "string", "pattern": r"^[^=:]+(=[^:]*)?:(NoSchedule|PreferNoSchedule|NoExecute)$"}
_BY_ACCELERATOR: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "object"}}

#: What /etc/fpga-hybrid/node.json holds, on-prem and in AWS; no secret. Written by role kubeadm and by user-data, read by bootstrap and device plugin.
NODE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "schema",
        "cluster_name",
        "cluster_id",
        "pool",
        "labels",
        "taints",
        "startup_taints",
        "resources",
        "reserved",
        "provider_id",
        "vpn",
        "aws",
        "ignore_preflight",
        "fpga",
    ],
    "properties": {
        "schema": {"type": "integer", "enum": [1]},
        "cluster_name": {"type": "string", "pattern": "."},
        "cluster_id": {"type": "string", "pattern": "."},
        "pool": {"type": ["string", "null"]},
        "labels": _TEXTS,
        "taints": {"type": "array", "items": _TAINT},
        "startup_taints": {"type": "array", "items": _TAINT},
        "resources": _TEXTS,
        "reserved": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"kube": _TEXTS, "system": _TEXTS, "eviction_hard": _TEXTS},
        },
        "provider_id": {"type": ["string", "null"], "pattern": "^[a-z-]+:///"},
        "vpn": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "required": ["backend", "mtu"],
            "properties": {"backend": {"type": "string", "enum": ["openvpn", "openvpn_as"]}, "mtu": {"type": "integer"}},
        },
        "aws": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "required": ["region", "ssm_prefix", "endpoint_url"],
            "properties": {
                "region": {"type": "string"},
                "ssm_prefix": {"type": "string", "pattern": "^/"},
                "endpoint_url": {"type": ["string", "null"]},
                "orphan_timeout": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["idle", "busy"],
                    "properties": {"idle": {"type": "integer"}, "busy": {"type": "integer"}},
                },
            },
        },
        "ignore_preflight": {"type": "array", "items": {"type": "string"}},
        # On-prem only, where a host may have settings of its own; an instance has the cluster's. Not required.
        "kubelet": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "required": ["cri_socket", "configuration", "extra_args"],
            "properties": {"cri_socket": {"type": "string", "pattern": "^unix://"}, "configuration": {"type": "object"}, "extra_args": _TEXTS},
        },
        "fpga": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "required": ["stack", "publish", "resources", "replicas", "images", "shared"],
            "properties": {
                "stack": {"type": "string", "enum": [FPGA_STACK, "inaccel", "amd"]},
                "publish": _TEXTS,
                "resources": _TEXTS,
                "replicas": _BY_ACCELERATOR,
                "images": _BY_ACCELERATOR,
                "shared": {"type": "object", "additionalProperties": {"type": "boolean"}},
            },
        },
    },
}


def node_violations(document: object) -> list[str]:
    """Where a node.json is not as NODE_SCHEMA says."""
    return list(violations(NODE_SCHEMA, document))


def kubelet_arguments(node: Mapping[str, Any]) -> dict[str, str]:
    """Flags that follow from node.json; labels have no place in KubeletConfiguration."""
    return {"node-labels": ",".join(f"{key}={value}" for key, value in sorted(node["labels"].items()))} if node["labels"] else {}


def registration_taints(node: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a node is registered with; the startup taints go when keeper has seen that it keeps its promise."""
    taints = [Taint.parse(taint) for taint in (*node["taints"], *node["startup_taints"])]
    return [{"key": taint.key, "value": taint.value, "effect": taint.effect} for taint in taints]


def kubelet_configuration(node: Mapping[str, Any], capacity: Mapping[str, Quantity]) -> dict[str, Any]:
    """Keys of KubeletConfiguration with which a node of this capacity is exactly the template's."""
    return {"registerWithTaints": registration_taints(node), **reservations(node, capacity)}


def reservations(node: Mapping[str, Any], capacity: Mapping[str, Quantity]) -> dict[str, Any]:
    """Keys of KubeletConfiguration with which a node of this capacity reports exactly the template's allocatable; none where nothing is promised.

    Whatever it has beyond the promise is reserved for the system, but never less than declared: a node with less raises TemplateError.
    capacity: cpu, memory, ephemeral-storage as the kubelet finds them.
    """
    if not node["resources"]:
        return {}
    promised = {name: Quantity.parse(quantity) for name, quantity in node["resources"].items()}
    kube, system = ({name: Quantity.parse(value) for name, value in node["reserved"][kind].items()} for kind in ("kube", "system"))
    reserved, short = {}, []
    for name in RESERVABLE:
        held = promised[name] + kube[name] + eviction_reservation(name, node["reserved"]["eviction_hard"], capacity[name])
        if capacity[name] < held + system[name]:
            needed = _up(held + system[name])
            short.append(f"{name}: {capacity[name]} found, {needed} needed for the {promised[name]} that the template promises")
        reserved[name] = str(capacity[name] - held)
    if short:
        raise TemplateError(
            f"This node has less than pool {node['pool']} promises. {'; '.join(short)}. "
            "Raise the pool's memory_overhead_percent or root_volume.size, or lower its resources."
        )
    return {
        "maxPods": promised["pods"].value,
        "kubeReserved": {name: str(value) for name, value in kube.items()},
        "systemReserved": reserved,
        "evictionHard": dict(node["reserved"]["eviction_hard"]),
    }


def eviction_reservation(resource: str, thresholds: Mapping[str, str], capacity: Quantity) -> Quantity:
    """What the kubelet keeps out of allocatable for eviction: with a percentage, by the single-precision figures that it computes with.

    Source: k8s.io/kubernetes pkg/kubelet/eviction (parsePercentage, GetThresholdQuantity).
    """
    threshold = thresholds.get({"memory": "memory.available", "ephemeral-storage": "nodefs.available"}.get(resource, ""), "0")
    if not threshold.endswith("%"):
        return Quantity.parse(threshold)
    share = _single(_single(float(threshold[:-1])) / 100)
    return Quantity.bytes(int(capacity.value * share))


def _single(number: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", number))[0]
    return rounded


def _up(quantity: Quantity) -> Quantity:
    """Bytes in whole MiB, which people can read."""
    return Quantity.mebibytes(-(-quantity.value // 2**20)) if quantity.notation == BINARY else quantity
