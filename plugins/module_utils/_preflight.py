# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can become, or still is, a node of this cluster. Pure: `_preflight_probe` looks, this judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _kubeadm as kubeadm
from ansible_collections.fpga.hybrid.plugins.module_utils._aws_key_file import EXPECTED
from ansible_collections.fpga.hybrid.plugins.module_utils._cluster_state import FILE as CLUSTER_FILE
from ansible_collections.fpga.hybrid.plugins.module_utils._cluster_state import restore
from ansible_collections.fpga.hybrid.plugins.module_utils._host import contradictions
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

#: Releases by what we know of them; everything else is refused.
TESTED = {("debian", "12"), ("debian", "13")}
SUPPORTED = {("ubuntu", "22.04"), ("ubuntu", "24.04")}
MACHINES = ("x86_64",)

#: Without these no container starts (overlay), no pod reaches a service (bridge, conntrack), no pod another node (vxlan).
KERNEL_FEATURES = ("overlay", "br_netfilter", "nf_conntrack", "vxlan")

#: Who may listen where, once the cluster stands (names as the kernel shortens them to 15 characters).
#: Source: kubernetes.io/docs/reference/networking/ports-and-protocols.
NODE_PORTS = {("tcp", 10250): ("kubelet",), ("tcp", 10248): ("kubelet",), ("tcp", 10256): ("kube-proxy",), ("udp", 4789): ()}
CONTROL_PLANE_PORTS = {
    ("tcp", 2379): ("etcd",),
    ("tcp", 2380): ("etcd",),
    ("tcp", 10257): ("kube-controller",),
    ("tcp", 10259): ("kube-scheduler",),
}

#: Devices and routes of the VPN and the pod network of ours; strangers may have such devices too, before our cluster stands.
OUR_DEVICES = ("tun", "as0t", "cali", "vxlan.calico", "tunl", "cni")


@dataclass(frozen=True)
class Route:
    """A live route, or a network of Docker (device "docker network NAME")."""

    destination: str
    device: str
    gateway: str = ""


@dataclass(frozen=True)
class Listener:
    protocol: str
    port: int
    program: str


@dataclass(frozen=True)
class Answer:
    """What a mirror said: an HTTP status, or 0 and the reason why there was none."""

    mirror: str
    url: str
    status: int
    reason: str = ""


@dataclass(frozen=True)
class KeyFile:
    """A file with an AWS key that something on the host needs, by the variable that names it, and what is wrong with it, or "".

    path: "" where none is named and the key is to be in a Secret instead, which a cluster that does not stand yet cannot have.
    """

    variable: str
    path: str
    problem: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Probe:
    """What was found. Memory and disk in MiB. clock_offset in seconds, None when nobody could be asked; node_* of an earlier join.

    cluster_maker: the id of the cluster for which we made the control plane that is there; cluster_configuration: kubeadm's own of that cluster.
    unknown_users: declared administrators whom the host doesn't know.
    """

    os: tuple[str, str]
    os_name: str
    machine: str
    init: str
    tun_error: str
    cpus: int
    memory: int
    disk_free: int
    cgroup_v2: bool
    missing_features: tuple[str, ...]
    routes: tuple[Route, ...]
    listeners: tuple[Listener, ...]
    clock_offset: float
    time_servers: Mapping[str, float | None]
    answers: tuple[Answer, ...]
    swaps: tuple[str, ...] = ()
    container: str = ""
    kubelet_server: str = ""
    node_cluster_id: str = ""
    node_cluster_name: str = ""
    running_kubernetes: str = ""
    vpn_is_ours: bool = False
    kubernetes: kubeadm.Found = kubeadm.Found()  # noqa: RUF009  (frozen)
    cluster_maker: str = ""
    cluster_configuration: Mapping[str, Any] | None = None
    hosts_file: str = ""
    unknown_users: tuple[str, ...] = ()
    key_files: tuple[KeyFile, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What the host is to be, and what the declaration says that concerns it. networks by variable, as "cluster_pod_network"."""

    host: str
    control_plane: bool
    vpn_server: bool
    vpn_member: bool
    cluster_name: str
    cluster_id: str
    endpoint: str
    node_address: str
    kubernetes: str
    networks: tuple[tuple[str, str], ...]
    vpn_port: int
    vpn_protocol: str
    fail_cgroup_v1: bool
    keep_swap: bool
    minimum_cpus: int
    minimum_memory: int
    minimum_disk: int
    clock_tolerance: float
    node: bool = True
    dns_domain: str = "cluster.local"
    endpoint_address: str = ""


def judge(found: Probe, wanted: Wanted) -> list[Problem]:
    """Everything that stands in the way, in the order in which it would hurt."""
    return [
        *_system(found, wanted),
        *_size(found, wanted),
        *_swap(found, wanted),
        *_other_cluster(found, wanted),
        *_kubernetes(found, wanted),
        *_administrators(found, wanted),
        *_key_files(found, wanted),
        *_names(found, wanted),
        *_overlaps(found, wanted),
        *_ports(found, wanted),
        *_clock(found, wanted),
        *_mirrors(found, wanted),
    ]


def notes(found: Probe, wanted: Wanted) -> list[str]:
    """What is no obstacle, but is to be said aloud."""
    said = []
    if found.os in SUPPORTED:
        said.append(f"{found.os_name}: supported, but never run by us.")
    if not found.cgroup_v2 and not wanted.fail_cgroup_v1:
        said.append("cgroup v1: the kubelet runs on it only because kubeadm_kubelet_configuration.failCgroupV1 is false; Kubernetes is giving it up.")
    return said


def _system(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    host = wanted.host
    if found.os not in TESTED | SUPPORTED:
        yield Problem(
            host, "operating system", f"found {found.os_name}", "Debian 12 or 13, Ubuntu 22.04 or 24.04", "Install one of those, or take the host out."
        )
    if found.machine not in MACHINES:
        yield Problem(host, "architecture", f"found {found.machine}", " or ".join(MACHINES), "Take the host out of the inventory.")
    if found.init != "systemd":
        yield Problem(host, "init system", f"process 1 is {found.init}", "systemd", "Boot the host with systemd; a plain container can't be a node.")
    if wanted.vpn_member and found.tun_error:
        remedy = "Load the module tun; in a container or VPS have /dev/net/tun allowed. In lan mode a host without vpn_address needs none."
        yield Problem(host, "/dev/net/tun", found.tun_error, "a device that can be opened, for the VPN", remedy)
    for feature in found.missing_features:
        yield Problem(host, f"kernel, {feature}", f"the kernel has no {feature}", "it built in or as a module", "Boot the distribution's own kernel.")
    if not found.cgroup_v2 and wanted.fail_cgroup_v1:
        remedy = "Boot with systemd.unified_cgroup_hierarchy=1, or if that can't be: kubeadm_kubelet_configuration: {failCgroupV1: false}."
        yield Problem(
            host, "kubeadm_kubelet_configuration.failCgroupV1", "the host has cgroup v1", "cgroup v2, without which the kubelet refuses to start", remedy
        )


def _size(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    if wanted.control_plane and found.cpus < wanted.minimum_cpus:
        remedy = "Give the host more, or make another the control plane."
        yield Problem(wanted.host, "preflight_minimum.cpus", f"found {found.cpus}", f"{wanted.minimum_cpus}, which kubeadm asks of a control plane", remedy)
    if wanted.control_plane and found.memory < wanted.minimum_memory:
        remedy = "Give the host more, or make another the control plane."
        expected = f"{wanted.minimum_memory} MiB, which kubeadm asks of a control plane"
        yield Problem(wanted.host, "preflight_minimum.memory", f"found {found.memory} MiB", expected, remedy)
    if found.disk_free < wanted.minimum_disk:
        expected = f"{wanted.minimum_disk} MiB for packages and images"
        yield Problem(
            wanted.host, "preflight_minimum.disk", f"found {found.disk_free} MiB free below /var/lib", expected, "Make room, or mount a disk at /var/lib."
        )


def _swap(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    if found.swaps and found.container and not wanted.keep_swap:
        remedy = "Turn it off on the machine below, or have the kubelet start nevertheless: swap_policy: ignore."
        found_text = f"{', '.join(found.swaps)} is on, and belongs to the machine below this container ({found.container})"
        yield Problem(wanted.host, "swap_policy", found_text, "swap that can be turned off", remedy)


def _own_servers(wanted: Wanted) -> tuple[str, ...]:
    """API servers that a kubelet of this cluster may know: kubeadm gives the control plane's own kubelet the local one (kubeadm >= 1.33)."""
    local = f"{wanted.node_address}:{wanted.endpoint.rpartition(':')[2]}"
    return (wanted.endpoint, local) if wanted.control_plane else (wanted.endpoint,)


def _other_cluster(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    remedy = "Take the host out of that cluster first (its reset.yml, or kubeadm reset), or leave it out of this inventory."
    if _lost_state(found, wanted):
        what = f"none, beside the control plane of the cluster with id {found.cluster_maker}"
        yield Problem(wanted.host, CLUSTER_FILE, what, "that cluster's id, name and versions", restore())
    elif found.node_cluster_id and found.node_cluster_id != wanted.cluster_id:
        whose = f"is a node of cluster {found.node_cluster_name or '?'}, id {found.node_cluster_id}"
        expected = f"no node, or one of {wanted.cluster_name}, id {wanted.cluster_id or 'not made yet'}"
        if found.node_cluster_name == wanted.cluster_name:
            former = f" -e reset_former_id={found.node_cluster_id}" if wanted.cluster_id else ""
            remedy += f" If it has missed the reset of a former cluster of this name: reset.yml --limit {wanted.host} -e confirm={wanted.cluster_name}{former}."
        yield Problem(wanted.host, "cluster_id", whose, expected, remedy)
    elif found.kubelet_server and found.kubelet_server not in _own_servers(wanted):
        whose = f"its kubelet belongs to the API server {found.kubelet_server}"
        yield Problem(wanted.host, "cluster_control_plane_endpoint", whose, f"none, or {wanted.endpoint}", remedy)
    if found.running_kubernetes and found.running_kubernetes != wanted.kubernetes:
        remedy = f'Write "{found.running_kubernetes}": this run never upgrades a live cluster.'
        yield Problem(wanted.host, "cluster_kubernetes_version", f"the control plane runs {found.running_kubernetes}", wanted.kubernetes, remedy)


def _lost_state(found: Probe, wanted: Wanted) -> bool:
    """A control plane of ours whose cluster.json is gone."""
    return bool(wanted.control_plane and found.cluster_maker and not wanted.cluster_id)


def _kubernetes(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    """What role kubeadm would refuse when it gets there, after others have changed the host."""
    if not wanted.node or _lost_state(found, wanted):
        return
    situation = kubeadm.control_plane_situation(found.kubernetes) if wanted.control_plane else kubeadm.worker_situation(found.kubernetes)
    if situation.state == kubeadm.REFUSED:
        remedy = (
            "Take the host out of the cluster it belongs to (reset.yml there), or run kubeadm reset on it when nobody needs that, "
            "or leave it out of this inventory."
        )
        yield Problem(wanted.host, "Kubernetes", situation.reason, "nothing of it, or what we have made for this cluster", remedy)
    elif wanted.control_plane and found.cluster_configuration:
        networks = dict(wanted.networks)
        declared = kubeadm.ClusterConfig(
            name=wanted.cluster_name,
            kubernetes_version=wanted.kubernetes,
            endpoint=wanted.endpoint,
            pod_network=networks.get("cluster_pod_network", ""),
            service_network=networks.get("cluster_service_network", ""),
            dns_domain=wanted.dns_domain,
        )
        for variable, value, there in kubeadm.immutable_differences(declared, dict(found.cluster_configuration)):
            remedy = f"Declare {there}, or build a new cluster (reset.yml, then site.yml): a living one cannot be changed in this."
            yield Problem(wanted.host, variable, f"the cluster has {there}", str(value), remedy)


def _administrators(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    for user in found.unknown_users:
        yield Problem(wanted.host, "cluster_admins", f"there is no user {user}", "users of this host", "Make the user first, or take the name out.")


def _key_files(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    """Without them the run would stop at role autoscaler, or keeper would let every instance wait until it is given up."""
    good_for = f"mode 0600, on {wanted.host} (playbook iam.yml writes what the key has to be good for)"
    for file in found.key_files:
        if file.problem:
            remedy = file.remedy or f"Put it there, {good_for}, or name another file."
            yield Problem(wanted.host, file.variable, f"{file.path}: {file.problem}", f"a file with {EXPECTED}", remedy)
        elif not file.path and "admin.conf" not in found.kubernetes.files:
            remedy = f"Name a file, {good_for}. To make the Secret yourself, run site.yml without cluster_node_pools first."
            yield Problem(
                wanted.host, file.variable, "it names no file, and there is no cluster yet that could have the Secret", f"a file with {EXPECTED}", remedy
            )


def _names(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    """The resolver would take the address of another line as well as ours, and Debian's own line 127.0.1.1 may be one."""
    name = wanted.endpoint.rpartition(":")[0]
    for line in contradictions(found.hosts_file, {name: wanted.endpoint_address}) if wanted.endpoint_address else []:
        remedy = f"Take {name} out of that line, or choose another cluster_control_plane_endpoint."
        yield Problem(wanted.host, "cluster_control_plane_endpoint", f"/etc/hosts has {line!r}", f"{name} = {wanted.endpoint_address} alone", remedy)


def _overlaps(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    for route in found.routes:
        destination = IPv4Network(route.destination)
        for variable, text in wanted.networks:
            network = IPv4Network(text)
            is_docker = route.device.startswith("docker network ")
            # The LAN is where the host lives, so a route to it is as it should be; Docker may not use it for its own.
            if not destination.overlaps(network) or (variable == "cluster_lan_networks" and not is_docker) or _is_ours(route, destination, network, found):
                continue
            way = f" by {route.gateway}" if route.gateway else ""
            what = f"{route.device} has {destination}" if is_docker else f"there is a route to {destination}{way} on {route.device or 'no device'}"
            remedy = f"Move {variable} to a network that is free at all sites, or remove the {'Docker network' if is_docker else 'route'}."
            yield Problem(wanted.host, variable, f"{what}, which overlaps {network}", "a network that nothing else uses", remedy)


def _is_ours(route: Route, destination: IPv4Network, network: IPv4Network, found: Probe) -> bool:
    """Routes of the VPN's and the pod network's devices; Calico's blackholes; and, on a LAN host, the way to the VPN by its server."""
    if not (found.vpn_is_ours or found.node_cluster_id):
        return False
    return route.device.startswith(OUR_DEVICES) or not route.device or (destination == network and bool(route.gateway))


def _ports(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    expected: dict[tuple[str, int], tuple[str, ...]] = dict(NODE_PORTS)
    if wanted.control_plane:
        port = int(wanted.endpoint.rpartition(":")[2])
        expected.update({**CONTROL_PLANE_PORTS, ("tcp", port): ("kube-apiserver",)})
    if wanted.vpn_server:
        expected[(wanted.vpn_protocol, wanted.vpn_port)] = ("openvpn", "openvpn-openssl")
    strangers = {}
    for listener in found.listeners:
        owners = expected.get((listener.protocol, listener.port))
        # A socket without a program is the kernel's: VXLAN, once the pod network stands.
        if owners is not None and listener.program not in owners and (listener.program or owners):
            strangers[listener.protocol, listener.port] = listener.program or "another program"
    for (protocol, port), program in sorted(strangers.items()):
        ours = " or ".join(expected[protocol, port]) or "the pod network"
        remedy = f"Stop {program}, or have it listen elsewhere." if port != wanted.vpn_port else f"Stop {program}, or choose another cluster_vpn_port."
        yield Problem(wanted.host, f"port {port}/{protocol}", f"{program} listens there", f"nobody but {ours}", remedy)


def _clock(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    if abs(found.clock_offset) > wanted.clock_tolerance:
        remedy = "Set the clock of the one that is wrong (timedatectl; chronyc tracking): certificates and tokens hold by the clock."
        yield Problem(wanted.host, "clock", _offset(found.clock_offset, "the controller"), f"at most {wanted.clock_tolerance:g} s", remedy)
    for server, offset in found.time_servers.items():
        if offset is not None and abs(offset) > wanted.clock_tolerance:
            remedy = f"Set the host's clock, or if {server} is what is wrong, name another time source."
            yield Problem(wanted.host, "clock", _offset(offset, f"time server {server}"), f"at most {wanted.clock_tolerance:g} s", remedy)


def _offset(seconds: float, other: str) -> str:
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} {other}"


def _mirrors(found: Probe, wanted: Wanted) -> Iterator[Problem]:
    for answer in found.answers:
        variable = f"cluster_mirrors.{answer.mirror}"
        if answer.status == 0:
            remedy = f"See that the mirror runs and that {wanted.host} reaches it; for a certificate that isn't trusted set {variable}.ca."
            yield Problem(wanted.host, variable, f"{answer.url}: {answer.reason}", "an answer", remedy)
        elif answer.status in (401, 403):
            remedy = f"Mend {variable}.username and .password."
            yield Problem(wanted.host, variable, f"{answer.url} answers {answer.status}", "to be let in", remedy)
        elif answer.status >= 400:
            remedy = "See that the mirror holds what upstream has at that place."
            yield Problem(wanted.host, variable, f"{answer.url} answers {answer.status}", "200", remedy)
