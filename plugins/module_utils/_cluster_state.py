# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster knows of itself: cluster.json on the control plane's host."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

SCHEMA = 1
#: Stands for the id that a real run would make, because check mode can't know it.
NOT_YET = str(uuid.UUID(int=0))
MANIFEST = Path("etc/kubernetes/manifests/kube-apiserver.yaml")
FILE = "/etc/fpga-hybrid/cluster.json"
#: What makes cluster.json out of the ConfigMap that holds the same (see `record_of`).
FROM_CLUSTER = (
    "kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system get configmap fpga-hybrid -o go-template="
    """'{"schema": 1, "cluster_id": "{{.data.cluster_id}}", "cluster_name": "{{.data.cluster_name}}", "versions": {{.data.versions}}}'"""
)


class StateError(Exception):
    """The state can't be used; the message says why and what to do."""


@dataclass(frozen=True)
class ClusterState:
    """versions: kubernetes and calico; empty until the first site.yml has come to its end."""

    cluster_id: str
    cluster_name: str
    versions: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def parse(text: str, path: str) -> ClusterState:
        try:
            content = json.loads(text)
            state = ClusterState(str(uuid.UUID(content["cluster_id"])), content["cluster_name"], dict(content.get("versions") or {}))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(f"{path}: found nothing that can be read ({error}); expected the cluster's id, name and versions. {restore(path)}") from error
        if content.get("schema") != SCHEMA:
            raise StateError(f"{path}: found schema {content.get('schema')!r}; expected {SCHEMA}. Use the version of the collection that wrote it.")
        return state

    def text(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, sort_keys=True) + "\n"


def restore(path: str = FILE) -> str:
    return f"Restore {path} from a backup, or on the control plane from ConfigMap kube-system/fpga-hybrid: {FROM_CLUSTER} > {path}"


def plan(found: ClusterState | None, cluster_name: str, versions: Mapping[str, str] | None, make_id: Callable[[], str], *, stands: bool) -> ClusterState:
    """The state as it is to be. The id never changes; a host of another cluster is refused.

    stands: whether kubeadm has made a control plane on this host. Its cluster has an id, which a new one must not replace.
    """
    if found is None and stands:
        raise StateError(
            f"{FILE}: found none, beside a control plane that stands; expected the id of its cluster. {restore()} "
            "If that control plane is not of this cluster, leave the host out of the inventory."
        )
    if found is None:
        return ClusterState(make_id(), cluster_name, dict(versions or {}))
    if found.cluster_name != cluster_name:
        raise StateError(
            f"cluster_name: this host is the control plane of cluster {found.cluster_name} ({found.cluster_id}); expected {cluster_name}. "
            "Mend the name in the inventory file, or take the host out of the other cluster with its reset.yml."
        )
    return found if versions is None else replace(found, versions=dict(versions))


def running_kubernetes(manifest: str) -> str | None:
    """The version of the API server that kubeadm has put on this host, from its static pod."""
    match = re.search(r"^\s*image:\s*\S*/kube-apiserver:v(\d+\.\d+\.\d+)\s*$", manifest, re.MULTILINE)
    return match[1] if match else None


def describe(state: ClusterState | None, manifest: str) -> dict[str, Any]:
    """What other roles get to see. A cluster whose first run died before its record is known by what runs."""
    versions = dict(state.versions) if state else {}
    running = running_kubernetes(manifest)
    if running:
        versions.setdefault("kubernetes", running)
    return {"cluster_id": state.cluster_id if state else None, "cluster_name": state.cluster_name if state else None, "versions": versions}


def record_of(cluster_id: str, cluster_name: str, versions: Mapping[str, str], collection: str) -> dict[str, str]:
    """What ConfigMap kube-system/fpga-hybrid says, without the last run. A ConfigMap holds texts only."""
    return {"cluster_id": cluster_id, "cluster_name": cluster_name, "versions": json.dumps(dict(versions), sort_keys=True), "collection": collection}


def foreign_record(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Why what stands in the ConfigMap is not to be replaced, or ""."""
    there = found.get("cluster_id")
    if not there or there == wanted["cluster_id"]:
        return ""
    return (
        f"ConfigMap kube-system/fpga-hybrid is of cluster {found.get('cluster_name', '?')}, id {there}; "
        f"expected {wanted['cluster_name']}, id {wanted['cluster_id']}. Nothing was written. "
        f"If this host is the control plane of that one, {FILE} is what is wrong: move it away. {restore()}"
    )


def config_map(data: Mapping[str, str]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fpga-hybrid", "namespace": "kube-system"}, "data": dict(data)})
