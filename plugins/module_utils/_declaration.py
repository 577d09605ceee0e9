# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster's declaration must keep to, checked without contacting any host. Pure; runs on the controller."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.fpga.hybrid.plugins.module_utils._aws_declaration import AWS_VARIABLES, aws_problems
from ansible_collections.fpga.hybrid.plugins.module_utils._labels import EFFECTS, Taint, TaintError, is_key, is_value
from ansible_collections.fpga.hybrid.plugins.module_utils._node import FPGA_STACK
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError, parse_accelerators
from ansible_collections.fpga.hybrid.plugins.module_utils._on_prem_fpga import on_prem_fpga, stack_label_problems
from ansible_collections.fpga.hybrid.plugins.module_utils._openvpn_as import dynamic_network
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem
from ansible_collections.fpga.hybrid.plugins.module_utils._versions import load_table, resolve

#: The variables of role cluster that are checked here.
VARIABLES = (
    "cluster_name",
    "cluster_kubernetes_version",
    "cluster_container_runtime",
    "cluster_cni",
    "cluster_calico_version",
    "cluster_allow_untested",
    "cluster_vpn_backend",
    "cluster_vpn_network",
    "cluster_vpn_server_address",
    "cluster_vpn_endpoint",
    "cluster_vpn_port",
    "cluster_vpn_dial_port",
    "cluster_vpn_protocol",
    "cluster_vpn_mtu",
    "cluster_vpn_device",
    "cluster_vpn_instance_range",
    "cluster_on_prem_addresses",
    "cluster_lan_networks",
    "cluster_vpc_networks",
    "cluster_pod_network",
    "cluster_service_network",
    "cluster_dns_domain",
    "cluster_control_plane_endpoint",
    "cluster_ready_timeout",
    "cluster_mirrors",
    "cluster_proxy",
    "cluster_accelerators",
    "cluster_admins",
    *AWS_VARIABLES,
)
#: What is read of a host's own variables.
HOST_VARIABLES = ("vpn_address", "node_address", "ansible_host", "cluster_vpn_endpoint", "node_labels", "node_taints", "fpga_publish", "fpga_stack")

#: 1500 bytes of Ethernet less IP (20), UDP (8) and OpenVPN's data channel with AES-GCM (4 + 4 + 16): more is sent in fragments.
LARGEST_VPN_MTU = 1448
#: What IPv6, and with it much software, takes for granted of any link.
SMALLEST_VPN_MTU = 1280
#: kubeadm: a service network may have at most 20 bits of hosts and needs a tenth address; each node gets a /24 of the pod network,
#: which may span at most 16 bits (cmd/kubeadm/app/constants, PodSubnetNodeMaskMaxDiff).
SERVICE_PREFIXES = range(12, 29)
POD_PREFIXES = range(8, 25)
NODE_PREFIX = 24

MIRRORS = ("debian", "kubernetes", "docker", "helm", "xilinx", "inaccel", "openvpn_as", "images", "charts", "files", "python")
PACKAGE_MIRRORS = ("debian", "kubernetes", "docker", "helm", "xilinx", "inaccel", "openvpn_as")
MIRROR_KEYS = ("url", "ca", "username", "password", "key")

DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DNS_NAME = re.compile(rf"(?=.{{1,253}}$){DNS_LABEL}(\.{DNS_LABEL})*", re.IGNORECASE)
CLUSTER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Host:
    """A declared on-prem host: its roles, and those of its variables that HOST_VARIABLES names."""

    name: str
    is_vpn_server: bool
    variables: Mapping[str, Any]
    is_worker: bool = True


@dataclass(frozen=True)
class Network:
    variable: str
    network: IPv4Network


def ipv4(value: object) -> IPv4Address | None:
    try:
        return IPv4Address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def node_address(host: Mapping[str, Any], on_prem_addresses: str, is_vpn_server: bool, vpn_server_address: str) -> str | None:
    """The InternalIP that a declared host's node is to have; None when the inventory doesn't tell it.

    vpn: its VPN address (the VPN server's is known without being declared).
    lan: node_address, else the VPN address of a host that dials in from elsewhere, else ansible_host where that is an address.
    """
    vpn_address = host.get("vpn_address") or (vpn_server_address if is_vpn_server else None)
    in_lan = [host.get("node_address"), None if is_vpn_server else vpn_address, host.get("ansible_host")]
    chosen = next((candidate for candidate in ([vpn_address] if on_prem_addresses == "vpn" else in_lan) if candidate), None)
    address = ipv4(chosen)
    return str(address) if address else None


def validate(declaration: Mapping[str, Any], hosts: list[Host], recorded: Mapping[str, str] | None = None) -> list[Problem]:
    """Everything that is wrong, in reading order. declaration holds the variables of role cluster by name; recorded: kubernetes and calico."""
    problems = [*_texts(declaration), *_numbers(declaration), *_versions(declaration, recorded or {}), *_mirrors(declaration), *_proxy(declaration)]
    networks, network_problems = _networks(declaration)
    problems += network_problems
    problems += _overlaps(networks)
    problems += _instance_range(declaration, networks)
    problems += _sizes(networks, len(hosts))
    problems += _hosts(declaration, hosts, networks)
    problems += _access_server(declaration, hosts, networks)
    problems += _fpgas(declaration, hosts)
    problems += aws_problems(declaration)
    return list(dict.fromkeys(problems))


def _texts(declaration: Mapping[str, Any]) -> Iterator[Problem]:
    name = declaration.get("cluster_name")
    if not isinstance(name, str) or not CLUSTER_NAME.fullmatch(name):
        yield Problem(
            "", "cluster_name", _found(name), "at most 63 letters, digits, '.', '_' and '-'", "Name the cluster in the inventory file (*.hybrid.yml)."
        )
    for variable, choices in (
        ("cluster_on_prem_addresses", ("vpn", "lan")),
        ("cluster_vpn_backend", ("openvpn", "openvpn_as")),
        ("cluster_vpn_protocol", ("udp", "tcp")),
        ("cluster_container_runtime", ("containerd", "docker")),
        ("cluster_cni", ("calico", "none")),
    ):
        if declaration.get(variable) not in choices:
            remedy = "vpn where hosts stand at several sites, lan for one room with a switch." if variable == "cluster_on_prem_addresses" else "Mend the value."
            yield Problem("", variable, _found(declaration.get(variable)), " or ".join(choices), remedy)
    yield from _control_plane_endpoint(declaration.get("cluster_control_plane_endpoint"))
    yield from _vpn_endpoint("", declaration.get("cluster_vpn_endpoint"))
    device = declaration.get("cluster_vpn_device")
    if not isinstance(device, str) or not DEVICE_NAME.fullmatch(device):
        yield Problem("", "cluster_vpn_device", _found(device), "at most 15 letters, digits, '.', '_' and '-'", "Name the tunnel's device as tun0.")
    domain = declaration.get("cluster_dns_domain")
    if not isinstance(domain, str) or not DNS_NAME.fullmatch(domain):
        yield Problem("", "cluster_dns_domain", _found(domain), "a DNS name as cluster.local", "Mend the name.")
    for admin in _list(declaration, "cluster_admins"):
        if not isinstance(admin, str) or not USER_NAME.fullmatch(admin):
            yield Problem("", "cluster_admins", _found(admin), "names of users on the control plane's host", "Mend the name.")
    for variable in ("cluster_admins", "cluster_allow_untested", "cluster_lan_networks", "cluster_vpc_networks"):
        if not isinstance(declaration.get(variable), list):
            yield Problem("", variable, _found(declaration.get(variable)), "a list", f"Write {variable}: [...].")


def _control_plane_endpoint(value: object) -> Iterator[Problem]:
    variable, example = "cluster_control_plane_endpoint", "api.fpga.example.org or api.fpga.example.org:6443"
    if not isinstance(value, str) or not value:
        yield Problem("", variable, _found(value), f"a name, as {example}", "Make up a name; it needs no DNS entry, since each node's hosts file gets it.")
        return
    name, colon, port = value.partition(":")
    if ipv4(name):
        yield Problem(
            "",
            variable,
            f"found the address {name}",
            f"a name, as {example}",
            "Make up a name: it stands in certificates for good, while an address may have to move. Each node's hosts file gets it.",
        )
    elif "/" in value or not DNS_NAME.fullmatch(name):
        yield Problem("", variable, _found(value), f"a name, as {example}", "Use letters, digits, '-' and '.' only, without a scheme or a path.")
    elif colon and not (port.isdecimal() and 0 < int(port) < 65536):
        yield Problem("", variable, f"found the port {port!r}", "a number from 1 to 65535", "Mend the port, or leave it out for 6443.")


def _vpn_endpoint(host: str, value: object) -> Iterator[Problem]:
    if isinstance(value, str) and value and (ipv4(value) or (DNS_NAME.fullmatch(value) and not value.replace(".", "").isdecimal())):
        return
    yield Problem(
        host,
        "cluster_vpn_endpoint",
        _found(value),
        "a name or an IPv4 address that VPN clients can dial",
        "Name the public side of the VPN server, without scheme and port (the port is cluster_vpn_port).",
    )


def _numbers(declaration: Mapping[str, Any]) -> Iterator[Problem]:
    for variable, smallest, largest, remedy in (
        ("cluster_vpn_port", 1, 65535, "Mend the port."),
        ("cluster_vpn_dial_port", 1, 65535, "Name the port that the site's gateway forwards, or leave it out where that is cluster_vpn_port."),
        ("cluster_vpn_mtu", SMALLEST_VPN_MTU, LARGEST_VPN_MTU, "Take 1400 unless you know the path: a larger packet would cross the Internet in fragments."),
        ("cluster_ready_timeout", 1, 3600, "Give the seconds that the slowest host may take; 240 suits most."),
    ):
        number = _integer(declaration.get(variable))
        if variable == "cluster_vpn_dial_port" and declaration.get(variable) == declaration.get("cluster_vpn_port"):
            continue  # said once
        if number is None or not smallest <= number <= largest:
            yield Problem("", variable, _found(declaration.get(variable)), f"a number from {smallest} to {largest}", remedy)


def _versions(declaration: Mapping[str, Any], recorded: Mapping[str, str]) -> list[Problem]:
    return resolve(
        load_table(),
        declaration.get("cluster_kubernetes_version"),
        str(declaration.get("cluster_cni")),
        str(declaration.get("cluster_calico_version") or ""),
        str(declaration.get("cluster_container_runtime")),
        [str(entry) for entry in _list(declaration, "cluster_allow_untested")],
        recorded,
    )[1]


def _mirrors(declaration: Mapping[str, Any]) -> Iterator[Problem]:
    """The shape of cluster_mirrors. What a mirror holds as password is never part of a message."""
    mirrors = declaration.get("cluster_mirrors")
    if not isinstance(mirrors, Mapping):
        yield Problem("", "cluster_mirrors", _found(mirrors), f"a mapping with keys out of {', '.join(MIRRORS)}", "Write cluster_mirrors: {} for upstream.")
        return
    for key, mirror in mirrors.items():
        variable = f"cluster_mirrors.{key}"
        if key not in MIRRORS:
            yield Problem("", variable, "no such mirror", f"one of {', '.join(MIRRORS)}", "Mend the key.")
            continue
        if not isinstance(mirror, Mapping):
            yield Problem("", variable, _found(mirror), "a mapping with url", "Write {url: https://...}.")
            continue
        for name, value in mirror.items():
            if name not in MIRROR_KEYS or (name == "key" and key not in PACKAGE_MIRRORS):
                yield Problem(
                    "", f"{variable}.{name}", "no such key", f"one of {', '.join(MIRROR_KEYS)} (key for {', '.join(PACKAGE_MIRRORS)} only)", "Take it out."
                )
            elif value is not None and not isinstance(value, str):
                yield Problem("", f"{variable}.{name}", "found no text", "a text", "Put it in quotes.")
        yield from _mirror_values(variable, {name: value for name, value in mirror.items() if isinstance(value, str)})
    if "images" in mirrors and declaration.get("cluster_container_runtime") == "docker":
        expected = "none where Docker is the runtime: it knows mirrors for docker.io only, so pods could not pull registry.k8s.io's images from it"
        remedy = "Set cluster_container_runtime: containerd, or take cluster_mirrors.images out."
        yield Problem("", "cluster_mirrors.images", "found a mirror", expected, remedy)


def _mirror_values(variable: str, mirror: Mapping[str, str]) -> Iterator[Problem]:
    url = _url(mirror.get("url", ""))
    if url is None:
        yield Problem("", f"{variable}.url", _found(mirror.get("url")), "an URL as https://mirror.example.org/path", "Say where the mirror is.")
    elif url.username or url.password:
        yield Problem(
            "",
            f"{variable}.url",
            "found credentials in the URL",
            "an URL without them",
            f"Move them to {variable}.username and .password, which are kept out of sight.",
        )
    elif mirror.get("password") and url.scheme == "http":
        yield Problem("", f"{variable}.url", "a password would go over plain http", "an https URL", "Serve the mirror by TLS, or use no password.")
    if bool(mirror.get("username")) != bool(mirror.get("password")):
        yield Problem("", f"{variable}.username", "one of username and password without the other", "both or none", "Add what is missing.")
    if mirror.get("ca") and "-----BEGIN CERTIFICATE-----" not in mirror["ca"]:
        yield Problem("", f"{variable}.ca", "found no PEM certificate", "the text of a CA certificate, not a path", "Write {{ lookup('file', 'ca.crt') }}.")
    if mirror.get("key") and "-----BEGIN PGP PUBLIC KEY BLOCK-----" not in mirror["key"]:
        yield Problem("", f"{variable}.key", "found no armored PGP key", "the text of a public key, not a path", "Write {{ lookup('file', 'key.asc') }}.")


def _proxy(declaration: Mapping[str, Any]) -> Iterator[Problem]:
    proxy = declaration.get("cluster_proxy")
    if not isinstance(proxy, Mapping):
        yield Problem("", "cluster_proxy", _found(proxy), "a mapping with http and https", "Write cluster_proxy: {} for none.")
        return
    for key, value in proxy.items():
        if key not in ("http", "https"):
            yield Problem("", f"cluster_proxy.{key}", "no such key", "http or https", "Take it out; what must not go through the proxy is computed.")
        elif value and (url := _url(value)) is None:
            yield Problem("", f"cluster_proxy.{key}", "found no URL", "an URL as http://proxy.example.org:3128", "Mend the URL.")
        elif value and "@" in url.netloc:
            # apt's settings are for everybody to read, and an environment stands on the command line that carries it.
            yield Problem(
                "",
                f"cluster_proxy.{key}",
                "found credentials in the URL",
                "an URL without them, since every user of a host can read it",
                "Name a proxy of the site's own that logs in to the other one: squid's cache_peer with login=, or cntlm.",
            )


def _networks(declaration: Mapping[str, Any]) -> tuple[list[Network], list[Problem]]:
    networks: list[Network] = []
    problems: list[Problem] = []
    declared = [(name, declaration.get(name)) for name in ("cluster_vpn_network", "cluster_pod_network", "cluster_service_network")]
    declared += [(name, value) for name in ("cluster_lan_networks", "cluster_vpc_networks") for value in _list(declaration, name)]
    for variable, value in declared:
        network = _network(value)
        if network is None:
            problems.append(Problem("", variable, _found(value), "an IPv4 network as 10.244.0.0/16", f"Mend it{_without_host_bits(value)}."))
        elif network.is_loopback or network.is_link_local or network.is_multicast or network.is_unspecified or network.prefixlen == 0:
            problems.append(Problem("", variable, _found(value), "a network that hosts may have", "Take a private network that is free at all sites."))
        else:
            networks.append(Network(variable, network))
    return networks, problems


def _overlaps(networks: list[Network]) -> Iterator[Problem]:
    for one, other in combinations(networks, 2):
        if one.network.overlaps(other.network):
            found = f"{one.network} overlaps {other.variable} {other.network}"
            yield Problem(
                "",
                one.variable,
                found,
                "networks of which none contains a part of another",
                "Move one of the two; on a live cluster only LAN and VPC can be moved.",
            )


def _instance_range(declaration: Mapping[str, Any], networks: list[Network]) -> Iterator[Problem]:
    value = declaration.get("cluster_vpn_instance_range")
    span, vpn = _network(value), _one(networks, "cluster_vpn_network")
    if span is None:
        yield Problem("", "cluster_vpn_instance_range", _found(value), "an IPv4 network as 172.27.232.0/21", f"Mend it{_without_host_bits(value)}.")
    elif vpn and (not span.subnet_of(vpn) or span == vpn):
        yield Problem(
            "",
            "cluster_vpn_instance_range",
            f"found {span}",
            f"a part of cluster_vpn_network {vpn}",
            "Take a part in which no on-prem host has its address, for example the upper half.",
        )


def _sizes(networks: list[Network], hosts: int) -> Iterator[Problem]:
    service, pods = _one(networks, "cluster_service_network"), _one(networks, "cluster_pod_network")
    if service and service.prefixlen not in SERVICE_PREFIXES:
        yield Problem("", "cluster_service_network", f"found {service}", "a size from /12 to /28, which is what kubeadm takes", "Change the prefix length.")
    if pods and pods.prefixlen not in POD_PREFIXES:
        yield Problem("", "cluster_pod_network", f"found {pods}", "a size from /8 to /24, since each node gets a /24", "Change the prefix length.")
    elif pods and 2 ** (NODE_PREFIX - pods.prefixlen) < hosts:
        yield Problem(
            "",
            "cluster_pod_network",
            f"found {pods}, enough for {2 ** (NODE_PREFIX - pods.prefixlen)} nodes",
            f"room for the {hosts} declared hosts, each with a /24",
            "Take a larger network.",
        )


def _hosts(declaration: Mapping[str, Any], hosts: list[Host], networks: list[Network]) -> Iterator[Problem]:
    server_address = ipv4(declaration.get("cluster_vpn_server_address"))
    vpn, span = _one(networks, "cluster_vpn_network"), _network(declaration.get("cluster_vpn_instance_range"))
    if server_address is None and vpn:
        yield Problem(
            "",
            "cluster_vpn_server_address",
            _found(declaration.get("cluster_vpn_server_address")),
            "an IPv4 address",
            "Leave it out for the VPN network's first address.",
        )
    elif server_address and vpn:
        yield from _vpn_address("", "cluster_vpn_server_address", str(server_address), vpn, span)
    owners: dict[str, str] = {}
    for host in hosts:
        address = host.variables.get("vpn_address") or (str(server_address) if host.is_vpn_server else None)
        if address is None and declaration.get("cluster_on_prem_addresses") == "vpn":
            yield Problem(
                host.name, "vpn_address", "found nothing", f"an address out of {vpn}", "Give the host an address of its own: it is the node's address."
            )
        if address is not None and vpn:
            yield from _vpn_address(host.name, "vpn_address", address, vpn, span)
        if host.is_vpn_server and server_address and str(address) != str(server_address):
            yield Problem(
                host.name,
                "vpn_address",
                f"found {address}",
                f"cluster_vpn_server_address, {server_address}",
                "Take it out here: the VPN server has that address.",
            )
        if address is not None and str(address) in owners:
            yield Problem(host.name, "vpn_address", f"{address}, which {owners[str(address)]} has as well", "an address of its own", "Change one of the two.")
        if address is not None:
            owners.setdefault(str(address), host.name)
        if host.variables.get("cluster_vpn_endpoint") is not None:
            yield from _vpn_endpoint(host.name, host.variables["cluster_vpn_endpoint"])
        yield from _lan_address(declaration, host, networks, str(server_address))
        yield from _node(host)


def _access_server(declaration: Mapping[str, Any], hosts: list[Host], networks: list[Network]) -> Iterator[Problem]:
    """Access Server has the first address of a network of its own, out of which nobody else may have one for good."""
    vpn, server = _one(networks, "cluster_vpn_network"), ipv4(declaration.get("cluster_vpn_server_address"))
    if declaration.get("cluster_vpn_backend") != "openvpn_as" or vpn is None or server is None or server not in vpn:
        return
    own = dynamic_network(str(server))
    if own[1] != server or not own.subnet_of(vpn) or own == vpn:
        expected = f"the first address of a /{own.prefixlen} that is a part of {vpn}, which is what Access Server takes for itself"
        yield Problem("", "cluster_vpn_server_address", f"found {server}", expected, f"Leave it out for {vpn[1]}, in a network larger than /{own.prefixlen}.")
        return
    span = _network(declaration.get("cluster_vpn_instance_range"))
    if span and span.overlaps(own):
        expected = f"a part of the network without {own}, which Access Server gives out by itself"
        yield Problem("", "cluster_vpn_instance_range", f"found {span}", expected, "Take another part, for example the upper half.")
    for host in hosts:
        address = ipv4(host.variables.get("vpn_address"))
        if address and address in own and address != server:
            expected = f"an address outside of {own}, which Access Server gives out by itself"
            yield Problem(host.name, "vpn_address", f"found {address}", expected, f"Take one from {own.broadcast_address + 1} on.")


def _vpn_address(host: str, variable: str, value: object, vpn: IPv4Network, span: IPv4Network | None) -> Iterator[Problem]:
    address = ipv4(value)
    if address is None or address not in vpn:
        yield Problem(host, variable, _found(value), f"an address out of cluster_vpn_network {vpn}", "Mend the address.")
    elif address in (vpn.network_address, vpn.broadcast_address):
        yield Problem(host, variable, f"found {address}, which is the network's own", f"an address out of {vpn} that a host may have", "Take another.")
    elif span and address in span:
        yield Problem(
            host,
            variable,
            f"{address} lies in cluster_vpn_instance_range {span}",
            "an address outside of it",
            "Take another: those are given to instances in AWS as they start.",
        )


def _lan_address(declaration: Mapping[str, Any], host: Host, networks: list[Network], server_address: str) -> Iterator[Problem]:
    for variable in ("ansible_host", "node_address"):
        address = ipv4(host.variables.get(variable))
        for taken in networks:
            if address and taken.variable in ("cluster_pod_network", "cluster_service_network") and address in taken.network:
                yield Problem(
                    host.name, variable, f"{address} lies in {taken.variable} {taken.network}", "networks apart from each other", f"Move {taken.variable}."
                )
    if declaration.get("cluster_on_prem_addresses") != "lan":
        return
    address = ipv4(node_address(host.variables, "lan", host.is_vpn_server, server_address))
    if address is None:
        yield Problem(
            host.name,
            "node_address",
            _found(host.variables.get("node_address") or host.variables.get("ansible_host")),
            "the IPv4 address that the host has in the LAN",
            "Give the host node_address: where cluster_on_prem_addresses is lan, it is the node's address.",
        )
        return
    lan = [entry.network for entry in networks if entry.variable == "cluster_lan_networks"]
    if (host.is_vpn_server or not host.variables.get("vpn_address")) and not any(address in network for network in lan):
        yield Problem(
            host.name,
            "cluster_lan_networks",
            f"none of {', '.join(map(str, lan)) or 'no networks'} holds the node's address {address}",
            "the LAN's network, so that nodes behind the VPN have a way to it",
            "Add the LAN's network to cluster_lan_networks.",
        )


def _node(host: Host) -> Iterator[Problem]:
    labels, taints = host.variables.get("node_labels") or {}, host.variables.get("node_taints") or []
    if not isinstance(labels, Mapping):
        yield Problem(host.name, "node_labels", _found(labels), "a mapping", 'Write node_labels: {example.org/rack: "4"}.')
        labels = {}
    for key, value in labels.items():
        if not is_key(key) or not is_value(value):
            yield Problem(
                host.name,
                f"node_labels.{key}",
                _found(value),
                "a Kubernetes label: both sides of letters, digits, '.', '_' and '-'; the value a text of at most 63",
                "Mend it; put a number or a yes in quotes.",
            )
    if not isinstance(taints, list):
        yield Problem(host.name, "node_taints", _found(taints), "a list", "Write node_taints: [example.org/fpga=only:NoSchedule].")
        taints = []
    for taint in taints:
        try:
            Taint.parse(taint)
        except TaintError:
            expected = f"key=value:effect, or a mapping with key, value and effect, all texts, the effect one of {', '.join(EFFECTS)}"
            yield Problem(host.name, "node_taints", _found(taint), expected, "Mend the taint; put a number or a yes in quotes.")


def _fpgas(declaration: Mapping[str, Any], hosts: list[Host]) -> list[Problem]:
    """The catalogue, and what each worker publishes of its boards."""
    try:
        accelerators = parse_accelerators(declaration.get("cluster_accelerators"))
    except PoolError as error:
        return error.problems
    problems: list[Problem] = []
    for host in hosts:
        if host.is_worker:
            stack = host.variables.get("fpga_stack", FPGA_STACK)
            problems += stack_label_problems(host.name, host.variables.get("node_labels"), stack)
            try:
                on_prem_fpga(host.name, host.variables.get("fpga_publish", {}), stack, accelerators)
            except PoolError as error:
                problems += error.problems
    return problems


def _found(value: object) -> str:
    return "found nothing" if value is None or value == "" else f"found {value!r}"


def _list(declaration: Mapping[str, Any], name: str) -> list[Any]:
    value = declaration.get(name)
    return value if isinstance(value, list) else []


def _integer(value: object) -> int | None:
    """A number, also as text, which is how extra variables of the command line arrive."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _network(value: object) -> IPv4Network | None:
    try:
        return IPv4Network(value) if isinstance(value, str) and "/" in value else None
    except ValueError:
        return None


def _without_host_bits(value: object) -> str:
    """A suggestion for the most common mistake, an address where a network belongs."""
    try:
        return f", for example as {IPv4Network(value, strict=False)}" if isinstance(value, str) and "/" in value else ""
    except ValueError:
        return ""


def _one(networks: list[Network], variable: str) -> IPv4Network | None:
    return next((entry.network for entry in networks if entry.variable == variable), None)


def _url(value: object) -> Any:
    """The parts of an http(s) URL, or None."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        usable = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or True)
    except ValueError:
        return None
    return parts if usable else None
