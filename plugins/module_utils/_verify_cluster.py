# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verify table's view from the API server: probe pods, and what nodes, kubelets and the record say.

PRIVATE to the collection. C(_kubectl.Kubectl) is the only thing that talks to the cluster; everything else works on what it returned.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Callable

from ansible_collections.fpga.hybrid.plugins.module_utils import _verify as verify
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError
from ansible_collections.fpga.hybrid.plugins.module_utils._verify import Line
from ansible_collections.fpga.hybrid.plugins.module_utils._verify_probe import ANSWER_PORT

NAMESPACE = "fpga-hybrid-verify"
NODE_LABEL = "fpga.hybrid/verify-node"
RECORD_NAME = "fpga-hybrid"
PAUSE = "registry.k8s.io/pause:3.10.2"  # kubeadm 1.36's; only where no node reports one


# --- sites --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inventory:
    """What the inventory says of where hosts stand. places: {host: its address, or name, outside the VPN}; lan_networks as declared."""

    places: Mapping[str, str]
    lan_networks: Sequence[str]

    def site_of(self, node: Mapping[str, Any]) -> str:
        """Nodes of one zone are one site (those in AWS carry it). On-prem it is the declared network that the host stands in, else the /24 around its address.

        A host that is known by a name only might stand anywhere: all these count as one site.
        """
        zone = node["metadata"].get("labels", {}).get("topology.kubernetes.io/zone")
        if zone:
            return str(zone)
        try:
            address = IPv4Address(self.places.get(node["metadata"]["name"], ""))
        except ValueError:
            return "on-prem"
        networks = [IPv4Network(text, strict=False) for text in self.lan_networks]
        around = IPv4Network(f"{address}/24", strict=False)
        return str(next((network for network in networks if address in network), around))


# --- probe pods ---------------------------------------------------------------------------------------------------


def probe_label(position: int) -> str:
    """Node names may be longer than a label's 63 characters and than a Service's name: objects are numbered."""
    return f"probe-{position}"


def pause_images(nodes: Mapping[str, Mapping[str, Any]], otherwise: str) -> dict[str, str]:
    """{node: image} with the pause image that each node's runtime has for its sandboxes anyway.

    A kubelet reports its 50 largest images only, so on a busy node pause may be missing from the list: then what another node has.
    """
    found = {}
    for name, node in nodes.items():
        names = [image for entry in node.get("status", {}).get("images", []) for image in entry.get("names") or [] if re.search(r"/pause:[^@]+$", image)]
        if names:
            found[name] = max(names)
    common = max(sorted(found.values()), key=list(found.values()).count) if found else otherwise
    return {name: found.get(name, common) for name in nodes}


def probe_objects(images: Mapping[str, str]) -> dict[str, Any]:
    """A namespace, and for each node a pod that only sleeps and a Service that leads to it. images: {node: image}."""
    items: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    ]
    for position, (node, image) in enumerate(sorted(images.items())):
        metadata = {"name": probe_label(position), "namespace": NAMESPACE, "labels": {NODE_LABEL: probe_label(position)}}
        security = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65535,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        spec = {
            "nodeName": node,  # past the scheduler: a cordoned or tainted node is tested as well
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "probe", "image": image, "imagePullPolicy": "IfNotPresent", "securityContext": security}],
        }
        items.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        service = {"selector": {NODE_LABEL: probe_label(position)}, "ports": [{"name": "http", "port": ANSWER_PORT, "targetPort": ANSWER_PORT}]}
        items.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service})
    return {"apiVersion": "v1", "kind": "List", "items": items}


def pod_state(pod: Mapping[str, Any]) -> tuple[str, str]:
    """(address, "") of a ready pod, else ("", why not)."""
    status = pod.get("status", {})
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in status.get("conditions", []))
    if ready and status.get("podIP"):
        return status["podIP"], ""
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting:
            return "", f"{waiting.get('reason', 'waiting')} {waiting.get('message', '')}".strip()
    return "", f"{status.get('phase', 'unknown')} {status.get('message', '')}".strip()


def start_probes(
    kubectl: Kubectl,
    image: str,
    full_mesh: int,
    seconds: float,
    *,
    inventory: Inventory,
    only_checking: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Make the probe pods and wait for them; returns the plan that verify_node works on, and the lines so far. Raises KubeError."""
    nodes = {node["metadata"]["name"]: node for node in kubectl.all("nodes")}
    kubernetes = kubectl.all("service", "kubernetes", "-n", "default")[0]["spec"]["clusterIP"]
    dns = (kubectl.get("service", "kube-dns", "-n", "kube-system") or {}).get("spec", {}).get("clusterIP", "")
    names = sorted(nodes)
    sites = {name: inventory.site_of(nodes[name]) for name in names}
    plan: dict[str, Any] = {"kubernetes_address": kubernetes, "dns_address": dns, "pods": {}, "services": {}, "lines": []}
    plan["peers"] = verify.plan_pairs(sites, full_mesh)
    if only_checking:
        plan["lines"] = [Line(verify.PROBE, name, None, "not tested: check mode makes no probe pods").as_dict() for name in names]
        return plan
    remove_probes(kubectl, seconds)
    images = dict.fromkeys(names, image) if image else pause_images(nodes, PAUSE)
    kubectl.call("create", "-f", "-", data=json.dumps(probe_objects(images)))
    services = kubectl.all("services", "-n", NAMESPACE)
    addresses = {service["metadata"]["name"]: service["spec"]["clusterIP"] for service in services}
    plan["services"] = {name: addresses[probe_label(position)] for position, name in enumerate(names)}
    states = wait_for_pods(kubectl, {name for name in names if verify.node_ready(nodes[name])[0]}, seconds, sleep)
    for name in names:
        address, problem = states.get(name, ("", "never made"))
        remedy = (
            ""
            if address
            else (
                f"`kubectl describe node {name}`: is it Ready? Image: {images[name]} (verify_probe_image); "
                f"network: `kubectl -n kube-system get pods -o wide --field-selector spec.nodeName={name}`."
            )
        )
        plan["lines"].append(Line(verify.PROBE, name, bool(address), address or problem, f"a running pod within {seconds:.0f} s", remedy=remedy).as_dict())
        if address:
            plan["pods"][name] = address
    return plan


def wait_for_pods(kubectl: Kubectl, awaited: set[str], seconds: float, sleep: Callable[[float], None]) -> dict[str, tuple[str, str]]:
    """{node: (address, problem)}. Nodes that are not Ready are not waited for: their pods cannot start."""
    deadline = time.monotonic() + seconds
    while True:
        states = {pod["spec"]["nodeName"]: pod_state(pod) for pod in kubectl.all("pods", "-n", NAMESPACE)}
        if all(states.get(node, ("", ""))[0] for node in awaited) or time.monotonic() > deadline:
            return states
        sleep(0.4)


def remove_probes(kubectl: Kubectl, seconds: float) -> None:
    """Remove the namespace and wait until it has gone (also what a killed run left behind). Raises KubeError."""
    if kubectl.get("namespace", NAMESPACE):
        kubectl.within(int(seconds)).call("delete", "namespace", NAMESPACE, "--ignore-not-found", f"--timeout={seconds:.0f}s")


def in_a_line(error: Exception) -> str:
    """What a program said, for a table."""
    return " ".join(str(error).split())


# --- what the API server says -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """What the declaration says about the cluster as a whole."""

    cluster_id: str | None
    versions: Mapping[str, Any]
    cni: str


def look(kubectl: Kubectl, control_plane: str, nodes: Sequence[str], declared: Mapping[str, str | None], wanted: Wanted) -> list[Line]:
    """All lines that the API server can give. nodes: whom to judge; empty means every node there is. Raises KubeError."""
    server = json.loads(kubectl.call("get", "--raw", "/version"))["gitVersion"]
    found = {node["metadata"]["name"]: node for node in kubectl.all("nodes")}
    judged = list(nodes) or sorted({*found, *declared})
    lines = [judge_api(control_plane, server, wanted.versions.get("kubernetes", ""))]
    for name in judged:
        lines += verify.judge_node(name, found.get(name), declared.get(name), wanted.cni)
    lines.append(judge_versions(control_plane, server, [found[name] for name in judged if name in found], wanted))
    record = kubectl.get("configmap", RECORD_NAME, "-n", "kube-system") or {}
    lines.append(judge_record(control_plane, record, wanted.cluster_id))
    tokens = kubectl.all("secrets", "-n", "kube-system", "--field-selector=type=bootstrap.kubernetes.io/token")
    lines.append(Line(verify.TOKENS, control_plane, None, f"{len(tokens)} in the cluster" if tokens else "none: a join makes its own"))
    pods = kubectl.all("pods", "-n", "kube-system", "-l", "k8s-app=kube-proxy")
    proxies = {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName")}
    lines += ask_kubelets(kubectl, [name for name in judged if name in found], proxies)
    return lines


def judge_api(control_plane: str, server: str, wanted: str) -> Line:
    expected = f"v{wanted.lstrip('v')}" if wanted else "an answer"
    right = not wanted or server == expected
    remedy = "The API server runs another version than the declaration means (cluster_kubernetes_version, the record): site.yml never upgrades a live cluster."
    return Line(verify.API, control_plane, right, f"answers, {server}", expected, remedy="" if right else remedy)


def judge_versions(control_plane: str, server: str, nodes: Sequence[Mapping[str, Any]], wanted: Wanted) -> Line:
    """Never a failure: whether these versions were ever run together by us is something a reader should know."""
    kubelets = sorted({node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes})
    runtimes = sorted({node["status"]["nodeInfo"]["containerRuntimeVersion"].replace("://", " ") for node in nodes})
    systems = sorted({node["status"]["nodeInfo"]["osImage"] for node in nodes})
    calico = [f"calico {wanted.versions['calico']}"] if wanted.cni == "calico" and wanted.versions.get("calico") else []
    tested = "tested" if wanted.versions.get("tested") and server == f"v{wanted.versions.get('kubernetes')}" else "never run by us"
    combination = ", ".join([f"API server {server}", *(f"kubelet {version}" for version in kubelets), *runtimes, *calico, *systems])
    return Line(verify.VERSIONS, control_plane, None, f"{combination}; this combination: {tested}")


def judge_record(control_plane: str, record: Mapping[str, Any], cluster_id: str | None) -> Line:
    data = record.get("data", {})
    expected = f"ConfigMap kube-system/{RECORD_NAME}" + (f" of cluster {cluster_id}" if cluster_id else "")
    if not record:
        return Line(verify.RECORD, control_plane, False, "none", expected, remedy="Run site.yml to its end: its last play writes the record.")
    if cluster_id and cluster_id not in json.dumps(data):
        remedy = (
            "This API server belongs to another cluster than this inventory: compare cluster_control_plane_endpoint with /etc/fpga-hybrid/cluster.json there."
        )
        return Line(verify.RECORD, control_plane, False, f"of another cluster ({', '.join(sorted(data)) or 'empty'})", expected, remedy=remedy)
    return Line(verify.RECORD, control_plane, True, expected, expected)


def ask_kubelets(kubectl: Kubectl, nodes: Sequence[str], proxies: Mapping[str, str]) -> list[Line]:
    """logs and exec on each node, all at once: both go from the API server to the node's kubelet (port 10250), so across the VPN."""

    def attempt(check: str, node: str, *arguments: str) -> Line:
        expected = f"kube-proxy's {'output' if check == verify.LOGS else 'version'} through the kubelet of {node}"
        if node not in proxies:
            remedy = "`kubectl -n kube-system describe daemonset kube-proxy` says why."
            return Line(check, node, False, "no kube-proxy pod on this node", expected, remedy=remedy)
        try:
            text = kubectl.call(*arguments).strip()
        except KubeError as error:
            remedy = f"The control plane must reach TCP/10250 at the InternalIP of {node}: see its VPN line, then firewalls on {node} (`nft list ruleset`)."
            return Line(check, node, False, in_a_line(error), expected, remedy=remedy)
        found = f"{len(text.splitlines())} line(s)" if check == verify.LOGS else text
        return Line(check, node, bool(text), found, expected, remedy="" if text else "The answer was empty: `systemctl status containerd` on the node.")

    jobs: list[tuple[str, ...]] = []
    for node in nodes:
        pod = proxies.get(node, "")
        jobs.append((verify.LOGS, node, "logs", "-n", "kube-system", pod, "--tail=1"))
        jobs.append((verify.EXEC, node, "exec", "-n", "kube-system", pod, "--", "/usr/local/bin/kube-proxy", "--version"))
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda job: attempt(*job), jobs))


def judge_certificates(control_plane: str, text: str) -> Line:
    """From `kubeadm certs check-expiration -o json`: the one that ends first."""
    data = json.loads(text)
    days = {entry["name"]: int(entry["residualTime"] // 86400) for entry in data.get("certificates", []) if not entry.get("missing")}
    if not days:
        return Line(verify.CERTIFICATES, control_plane, None, "kubeadm knows of none")
    first = min(days, key=lambda name: days[name])
    if days[first] < 0:
        remedy = "On the control plane: `kubeadm certs renew all`, then restart its static pods."
        return Line(verify.CERTIFICATES, control_plane, False, f"{first} has expired", "all valid", remedy=remedy)
    return Line(verify.CERTIFICATES, control_plane, None, f"{first} ends first, in {days[first]} days")
