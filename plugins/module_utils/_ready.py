# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps nodes from taking pods, in sentences. Pure; works on what kubectl returned."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import typing as t

from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Object, pod_troubles


def is_true(conditions: t.Iterable[Object], name: str) -> bool:
    return any(condition.get("type") == name and condition.get("status") == "True" for condition in conditions)


def conditions(value: Object) -> list[Object]:
    return list((value.get("status") or {}).get("conditions") or [])


def node_troubles(names: t.Iterable[str], nodes: t.Iterable[Object]) -> list[str]:
    """A line for each of these nodes that is not Ready, with what its kubelet says."""
    found = {node["metadata"]["name"]: conditions(node) for node in nodes}
    lines = []
    for name in names:
        if name not in found:
            lines.append(f"{name} has no Node object: it has not joined")
        elif not is_true(found[name], "Ready"):
            said = next((condition.get("message") for condition in found[name] if condition.get("type") == "Ready"), None)
            lines.append(f"{name} is not Ready: {said or 'its kubelet has said nothing yet'}")
    return lines


def network_troubles(names: t.Iterable[str], pods: t.Iterable[Object]) -> list[str]:
    """A line for each of these nodes on which no pod of the network is ready, with what Kubernetes says of the pod."""
    on_node: dict[str, list[Object]] = {}
    for pod in pods:
        on_node.setdefault((pod.get("spec") or {}).get("nodeName") or "", []).append(pod)
    lines = []
    for name in names:
        here = on_node.get(name, [])
        if not any(is_true(conditions(pod), "Ready") for pod in here):
            lines += pod_troubles(here) or [f"{name} has no ready pod of the pod network"]
    return lines
