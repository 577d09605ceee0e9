"""What the lab consists of: names, addresses, packages. The inventory in inventories/lab says the same."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

LABEL = "fpga-hybrid.lab"
INSTANCE_LABEL = f"{LABEL}.instance"
PREFIX = "fpga-hybrid-"
IMAGE = "localhost/fpga-hybrid-lab/host"
INSTANCE_IMAGE = "localhost/fpga-hybrid-lab/instance"

#: Survives a power cut; holds what the machine was like before the lab. One lab a machine: its networks are fixed.
STATE = Path(os.environ.get("FPGA_HYBRID_LAB_STATE", "/var/lib/fpga-hybrid-lab"))
LOCKS = Path("/run/lock")


def cache() -> Path:
    return Path(os.environ.get("FPGA_HYBRID_LAB_CACHE") or Path.home() / ".cache/fpga-hybrid-lab").absolute()


def ssh_key() -> Path:
    return cache() / "ssh/id_ed25519"


class LabError(Exception):
    """Something the user can do something about; the message says what."""


@dataclass(frozen=True)
class Network:
    name: str
    subnet: IPv4Network

    @property
    def podman(self) -> str:
        return PREFIX + self.name

    @property
    def gateway(self) -> IPv4Address:
        return self.subnet[1]

    @property
    def depot(self) -> IPv4Address:
        return self.subnet[2]


ONPREM = Network("onprem", IPv4Network("10.203.10.0/24"))
SITE2 = Network("site2", IPv4Network("10.203.20.0/24"))
VPC = Network("vpc", IPv4Network("10.203.30.0/24"))
NETWORKS = {network.name: network for network in (ONPREM, SITE2, VPC)}

#: Networks that exist only inside the lab's hosts. The machine must have no way to them but "unreachable".
INNER_NETWORKS = {
    "VPN": IPv4Network("172.27.224.0/20"),
    "pods": IPv4Network("10.244.0.0/16"),
    "services": IPv4Network("10.96.0.0/16"),
}

VPN_PORT = 1194
#: Where `lab/lab cloud` serves the lab's AWS: an address of the machine itself, which all three networks reach.
CLOUD_PORT = 5055
#: Of instance types, of which `lab/lab evaluate` has pools; inventories/lab_cloud has which. The first without being asked.
FAMILIES = ("f2", "f1")
RELEASES = {12: "bookworm", 13: "trixie"}


@dataclass(frozen=True)
class Host:
    name: str
    network: Network
    address: IPv4Address
    debian: int = 12

    @property
    def container(self) -> str:
        return PREFIX + self.name

    @property
    def hostname(self) -> str:
        return self.name

    @property
    def labels(self) -> dict[str, str]:
        """By which its container is known again."""
        return {f"{LABEL}.host": self.name, **self._whereabouts, f"{LABEL}.debian": str(self.debian)}

    @property
    def _whereabouts(self) -> dict[str, str]:
        return {f"{LABEL}.network": self.network.name, f"{LABEL}.address": str(self.address)}


@dataclass(frozen=True)
class InstanceHost(Host):
    """That of one instance of the lab's AWS, named by its id. It lives no longer than the instance, or than the side-car that has started it."""

    @property
    def hostname(self) -> str:
        return f"ip-{str(self.address).replace('.', '-')}"

    @property
    def labels(self) -> dict[str, str]:
        return {INSTANCE_LABEL: self.name, **self._whereabouts}


HOSTS = (
    Host("cp1", ONPREM, IPv4Address("10.203.10.11")),
    Host("worker1", ONPREM, IPv4Address("10.203.10.12")),
    Host("worker2", SITE2, IPv4Address("10.203.20.13")),
    Host("worker3", ONPREM, IPv4Address("10.203.10.14"), debian=13),
)

#: Debian packages that the machine needs, by a program or file that shows that they are there.
MACHINE_PACKAGES = {
    "podman": "/usr/bin/podman",
    "netavark": "/usr/lib/podman/netavark",
    "runc": "/usr/sbin/runc",
    "nftables": "/usr/sbin/nft",
    "iptables": "/usr/sbin/iptables",
    "conntrack": "/usr/sbin/conntrack",
    "iproute2": "/usr/sbin/ip",
    "procps": "/usr/sbin/sysctl",
    "kmod": "/usr/sbin/depmod",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "apt-utils": "/usr/bin/apt-ftparchive",
    "gpg": "/usr/bin/gpg",
    "gpg-agent": "/usr/bin/gpg-agent",
    "gpgconf": "/usr/bin/gpgconf",
    "openssl": "/usr/bin/openssl",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-trixie-stable.gpg",
    "openssh-client": "/usr/bin/ssh-keygen",
}
