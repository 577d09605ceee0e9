# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calico over a VPN: upstream's manifest, with what a tunnel needs.

Three of its defaults break over OpenVPN: the node's address is the first interface's (not the VPN's), pods of nodes that share the VPN's subnet are
not encapsulated (OpenVPN drops what does not come from the client's own address), and the MTU is that of an Ethernet interface.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import copy
import hashlib
import json
import typing as t
from dataclasses import dataclass

Object = dict[str, t.Any]

#: Upstream runs C(calico-node -felix-ready) every 10 s, which asks the same; its first look is too early, so a node waits for the second.
#: Asking without starting a program costs less even every 2 s. As many seconds of failure are borne (30).
READINESS = {"httpGet": {"host": "localhost", "port": 9099, "path": "/readiness"}, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 15}
CONFIGURATION_ANNOTATION = "fpga.hybrid/configuration"
POOL_NAME = "default-ipv4-ippool"


class CalicoError(Exception):
    """Upstream's manifest is not what we know how to change; the message names the key."""


@dataclass(frozen=True)
class Network:
    """The pod network: its CIDR, and the MTU of a pod's interface (the VPN's less 50)."""

    cidr: str
    mtu: int

    def pool(self) -> Object:
        """Calico makes the pool from its environment only once; as an object of ours it stays as declared."""
        return {
            "apiVersion": "crd.projectcalico.org/v1",
            "kind": "IPPool",
            "metadata": {"name": POOL_NAME},
            "spec": {
                "allowedUses": ["Workload", "Tunnel"],
                "blockSize": 26,
                "cidr": self.cidr,
                "ipipMode": "Never",
                "natOutgoing": True,
                "nodeSelector": "all()",
                "vxlanMode": "Always",
            },
        }

    def chart_values(self, calico: str) -> Object:
        """The same as values of chart C(tigera-operator), release C(calico) ("v3.32.1"), and none of what a cluster does without.

        Source: operator api/v1/installation_types.go; exactly one autodetection method.
        """
        network = {
            "bgp": "Disabled",
            "mtu": self.mtu,
            "nodeAddressAutodetectionV4": {"kubernetes": "NodeInternalIP"},
            "ipPools": [self._operator_pool(calico)],
        }
        values = {"installation": {"enabled": True, "cni": {"type": "Calico"}, "calicoNetwork": network}}
        return values | {name: {"enabled": False} for name in ("apiServer", "goldmane", "whisker")}

    def _operator_pool(self, calico: str) -> Object:
        """A pool with everything that the operator would write into it: the list of pools is one value, so what it adds to ours we would take out again.

        Source: operator pkg/controller/ippool/defaults.go; its definition of kinds refuses keys of later releases.
        """
        pool: Object = {"name": POOL_NAME, "cidr": self.cidr, "encapsulation": "VXLAN", "natOutgoing": "Enabled", "nodeSelector": "all()", "blockSize": 26}
        pool |= {"allowedUses": ["Workload", "Tunnel"], "disableBGPExport": False}
        if release(calico) >= (3, 30):
            pool |= {"assignmentMode": "Automatic", "disableNewAllocations": False}
        return pool


def release(version: str) -> tuple[int, int]:
    """(3, 32) of "v3.32.1"."""
    major, minor = version.removeprefix("v").split(".")[:2]
    return int(major), int(minor)


def check_digest(content: bytes, expected: str, url: str) -> None:
    """C(expected) is C(sha256:<hex>)."""
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != expected:
        raise CalicoError(
            f"{url} has checksum {found}, expected {expected}. Either the mirror serves something else, or Calico's version was changed without its checksum: "
            "compare with upstream, then set cni_calico_manifest_checksum."
        )


def patch(objects: list[Object], network: Network) -> list[Object]:
    """Upstream's C(calico-vxlan.yaml) for our network, and the address pool.

    Each key that is changed has to be there: one that upstream has renamed is refused by its name, never set beside the new one.
    """
    result = copy.deepcopy(objects)
    config = _find(result, "ConfigMap", "calico-config")
    data = config.get("data") or {}
    for key, value in (("veth_mtu", str(network.mtu)), ("calico_backend", "vxlan"), ("typha_service_name", "none")):
        if key not in data:
            raise CalicoError(f"Calico's manifest: ConfigMap calico-config has no key {key} any more (it has: {', '.join(sorted(data))}).")
        data[key] = value

    daemonset = _find(result, "DaemonSet", "calico-node")
    template = daemonset["spec"]["template"]
    node = _container(template, "calico-node")
    _set(node, "CALICO_IPV4POOL_VXLAN", "Always")
    _set(node, "CALICO_IPV4POOL_IPIP", "Never")
    _set(node, "CLUSTER_TYPE", "k8s")
    for name in ("FELIX_VXLANMTU", "CALICO_NETWORKING_BACKEND"):
        _from_config(node, name)
    _from_config(_container(template, "install-cni"), "CNI_MTU")
    _env(node, "IP")
    _add(node, "CALICO_IPV4POOL_CIDR", network.cidr)
    _add(node, "IP_AUTODETECTION_METHOD", "kubernetes-internal-ip")
    alive = node["livenessProbe"]["exec"]
    alive["command"] = [word for word in alive["command"] if word != "-bird-live"]
    if "exec" not in node.get("readinessProbe", {}):
        raise CalicoError("Calico's manifest: container calico-node is no longer asked by a program whether it is ready (readinessProbe.exec).")
    _set(node, "FELIX_HEALTHENABLED", "true")
    node["readinessProbe"] = copy.deepcopy(READINESS)

    # Pods read the ConfigMap when they start: a new annotation in their template starts them anew exactly when it changes.
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    template.setdefault("metadata", {}).setdefault("annotations", {})[CONFIGURATION_ANNOTATION] = digest

    _find(result, "CustomResourceDefinition", "ippools.crd.projectcalico.org")
    return [*result, network.pool()]


def _find(objects: list[Object], kind: str, name: str) -> Object:
    for value in objects:
        if value.get("kind") == kind and value["metadata"]["name"] == name:
            return value
    names = sorted(value["metadata"]["name"] for value in objects if value.get("kind") == kind)
    raise CalicoError(f"Calico's manifest has no {kind} {name} (it has: {', '.join(names) or 'none of that kind'}); expected upstream's calico-vxlan.yaml.")


def _container(template: Object, name: str) -> Object:
    containers: list[Object] = [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
    for container in containers:
        if container["name"] == name:
            return container
    raise CalicoError(f"Calico's manifest: DaemonSet calico-node has no container {name} (it has: {', '.join(c['name'] for c in containers)}).")


def _env(container: Object, name: str) -> Object:
    for entry in container.get("env", []):
        if entry["name"] == name:
            return t.cast("Object", entry)
    raise CalicoError(
        f"Calico's manifest: container {container['name']} has no environment variable {name} any more. "
        "This Calico is newer than what we know: declare a version of the table (cluster_calico_version), or report it."
    )


def _set(container: Object, name: str, value: str) -> None:
    entry = _env(container, name)
    entry.pop("valueFrom", None)
    entry["value"] = value


def _from_config(container: Object, name: str) -> None:
    if not (_env(container, name).get("valueFrom") or {}).get("configMapKeyRef"):
        raise CalicoError(f"Calico's manifest: {name} of container {container['name']} does not come from ConfigMap calico-config any more.")


def _add(container: Object, name: str, value: str) -> None:
    """Keys that upstream carries as a comment."""
    for entry in container["env"]:
        if entry["name"] == name:
            entry.pop("valueFrom", None)
            entry["value"] = value
            return
    container["env"].append({"name": name, "value": value})
