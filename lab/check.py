"""`lab/lab check`: what the lab needs and what is in its way. Reads only, needs no root."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from lab import lifecycle
from lab.hosts import image, modules
from lab.hosts.container import NOFILE
from lab.network import routes
from lab.run import run
from lab.settings import CLOUD_PORT, INNER_NETWORKS, NETWORKS, ONPREM, RELEASES, VPN_PORT, LabError, cache

GIB = 2**30

#: Measured: Go's module and build caches, programs, packages, images; then hosts with their volumes.
CACHE_BYTES = 20 * GIB
CONTAINER_BYTES = 8 * GIB

#: Linking the kubelet takes 2 GiB; the running lab 3 GiB.
MEMORY_BYTES = 4 * GIB

#: On 2 cores; site.yml and verify.yml included.
IMAGE_MINUTES = 1
WARM_MINUTES = 6
RUNNING_MINUTES = 2

CONTAINER_STORAGE = Path("/var/lib/containers")


class Verdict(Enum):
    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Line:
    verdict: Verdict
    subject: str
    finding: str
    remedy: str = ""


def render(report: Iterable[Line]) -> str:
    lines = list(report)
    width = max(len(line.subject) for line in lines)
    shown = []
    for line in lines:
        shown.append(f"{line.verdict.value:7}  {line.subject:{width}}  {line.finding}")
        if line.remedy:
            shown.append(f"{'':7}  {'':{width}}  -> {line.remedy}")
    problems = sum(line.verdict is Verdict.PROBLEM for line in lines)
    shown.append(f"\n{'1 problem prevents' if problems == 1 else f'{problems} problems prevent'} the lab." if problems else "\nNothing is in the lab's way.")
    return "\n".join(shown)


def examine() -> list[Line]:
    """Everything about this machine that decides whether the lab can run on it."""
    build = build_minutes()
    return [
        system(Path("/etc/os-release").read_text(), os.uname().machine),
        user(os.geteuid(), effective_capabilities()),
        packages(lifecycle.missing_packages()),
        package_source(),
        *disk(build),
        memory(Path("/proc/meminfo").read_text()),
        processors(os.cpu_count() or 1),
        open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        *kernel(),
        cgroups(Path("/proc/self/mounts").read_text()),
        *networks(clashes(taken_networks())),
        ports(Path("/proc/net/udp").read_text()),
        cloud_port("".join(file.read_text() for file in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if file.exists())),
        network_backend(),
        duration(build),
    ]


def system(os_release: str, architecture: str) -> Line:
    values = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', os_release, re.MULTILINE))
    name = values.get("PRETTY_NAME", "unknown system")
    if values.get("ID") != "debian" or values.get("VERSION_ID") not in {str(release) for release in RELEASES}:
        return Line(Verdict.PROBLEM, "system", name, "take a machine with Debian 12 or 13: the lab's tools and hosts are made of Debian's packages")
    if architecture != "x86_64":
        return Line(Verdict.PROBLEM, "system", f"{name}, {architecture}", "take an x86_64 machine: the depot's programs are built for it")
    return Line(Verdict.OK, "system", f"{name}, {architecture}, Linux {os.uname().release}")


#: CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_MKNOD, CAP_SYS_CHROOT
NEEDED_CAPABILITIES = {"sys_admin": 21, "net_admin": 12, "mknod": 27, "sys_chroot": 18}


def effective_capabilities() -> int:
    return int(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")), 16)


def user(uid: int, capabilities: int) -> Line:
    if uid != 0:
        return Line(Verdict.NOTE, "user", f"user {uid}; this check needs no root, the lab does", "run `sudo make lab`")
    lacking = [name for name, bit in NEEDED_CAPABILITIES.items() if not capabilities >> bit & 1]
    if lacking:
        remedy = "take a virtual or real machine, or a privileged container: the lab's hosts run systemd in privileged containers"
        return Line(Verdict.PROBLEM, "user", f"root without {', '.join(lacking)}", remedy)
    return Line(Verdict.OK, "user", "root")


def packages(missing: list[str]) -> Line:
    if missing:
        return Line(Verdict.NOTE, "packages", f"missing: {' '.join(missing)}", "`lab/lab up` installs them; they stay after `lab/lab clean`")
    return Line(Verdict.OK, "packages", "all there")


def package_source() -> Line:
    try:
        image.mirror()
    except LabError as error:
        return Line(Verdict.PROBLEM, "apt", str(error))
    return Line(Verdict.OK, "apt", "has a source for Debian's main component; hosts are built from it")


def existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def build_minutes() -> float:
    """How long it takes to build what the cache lacks."""
    from lab import depot

    lacking_images = sum(not image.root(debian).archive().exists() for debian in RELEASES)
    return depot.minutes() + lacking_images * IMAGE_MINUTES


def disk(build: float) -> Iterator[Line]:
    wanted = {cache(): CACHE_BYTES if build > WARM_MINUTES else GIB, CONTAINER_STORAGE: CONTAINER_BYTES}
    by_device: dict[int, tuple[list[Path], int]] = {}
    for path, size in wanted.items():
        device = existing(path).stat().st_dev
        paths, total = by_device.get(device, ([], 0))
        by_device[device] = ([*paths, path], total + size)
    for paths, size in by_device.values():
        free = shutil.disk_usage(existing(paths[0])).free
        finding = f"{free / GIB:.0f} GiB free for {' and '.join(map(str, paths))}, {size / GIB:.0f} GiB needed"
        if free < size:
            yield Line(Verdict.PROBLEM, "disk", finding, "make room, or set FPGA_HYBRID_LAB_CACHE to a folder on a larger disk")
        else:
            yield Line(Verdict.OK, "disk", finding)


def memory(meminfo: str) -> Line:
    values = {key: int(value) * 1024 for key, value in re.findall(r"^(\w+):\s+(\d+) kB$", meminfo, re.MULTILINE)}
    finding = f"{values['MemAvailable'] / GIB:.1f} GiB available of {values['MemTotal'] / GIB:.1f}, {MEMORY_BYTES / GIB:.0f} needed"
    if values["MemTotal"] < MEMORY_BYTES:
        return Line(Verdict.PROBLEM, "memory", finding, "take a machine with more memory")
    if values["MemAvailable"] < MEMORY_BYTES:
        return Line(Verdict.NOTE, "memory", finding, "end what uses it, if it isn't the lab itself")
    return Line(Verdict.OK, "memory", finding)


def processors(count: int) -> Line:
    if count < 2:
        return Line(Verdict.PROBLEM, "processors", f"{count}", "take a machine with 2 or more: kubeadm refuses a control plane with one")
    return Line(Verdict.OK, "processors", f"{count}")


def open_files(hard: int) -> Line:
    if hard != resource.RLIM_INFINITY and hard < NOFILE:
        remedy = f"raise the hard limit: `ulimit -Hn {NOFILE}`, or DefaultLimitNOFILE= in systemd's system.conf"
        return Line(Verdict.PROBLEM, "open files", f"limit {hard}, a node needs {NOFILE}", remedy)
    return Line(Verdict.OK, "open files", f"limit {'none' if hard == resource.RLIM_INFINITY else hard}, a node gets {NOFILE}")


#: feature: (module, kernel option, what it is for)
FEATURES = {
    "overlay": ("OVERLAY_FS", "containers' file systems"),
    "tun": ("TUN", "the VPN"),
    "vxlan": ("VXLAN", "pods across sites"),
    "br_netfilter": ("BRIDGE_NETFILTER", "services for pods on the same node"),
    "nf_tables": ("NF_TABLES", "the wall between the sites"),
    "veth": ("VETH", "containers' networks"),
}


def kernel() -> Iterator[Line]:
    release = os.uname().release
    options = modules.kernel_config(release)
    dependencies = Path("/lib/modules", release, "modules.dep")
    loadable = set(re.findall(r"/([^/]+)\.ko", dependencies.read_text())) if dependencies.exists() else set()
    filesystems = Path("/proc/filesystems").read_text().split()
    for feature, (option, purpose) in FEATURES.items():
        if option in options or feature in filesystems or Path("/sys/module", feature).exists():
            yield Line(Verdict.OK, f"kernel {feature}", f"there ({purpose})")
        elif feature in loadable or feature.replace("_", "-") in loadable:
            yield Line(Verdict.OK, f"kernel {feature}", f"loadable ({purpose})")
        elif options or loadable:
            yield Line(Verdict.PROBLEM, f"kernel {feature}", f"not in this kernel ({purpose})", "take a kernel of Debian's, or one built with it")
        else:
            yield Line(Verdict.NOTE, f"kernel {feature}", f"cannot tell: this kernel shows neither its configuration nor its modules ({purpose})")


def cgroups(mounts: str) -> Line:
    kinds = {line.split()[2] for line in mounts.splitlines()}
    if "cgroup" in kinds:
        also = " (and an empty v2 hierarchy)" if "cgroup2" in kinds else ""
        return Line(Verdict.NOTE, "cgroups", f"version 1{also}: kubelets from 1.35 on refuse it unless told; inventories/lab sets failCgroupV1: false")
    if "cgroup2" in kinds:
        return Line(Verdict.OK, "cgroups", "version 2: nothing special follows")
    return Line(Verdict.PROBLEM, "cgroups", "none mounted", "mount /sys/fs/cgroup (cgroup2): containers cannot be limited without it")


@dataclass(frozen=True)
class Taken:
    """A network that something on this machine uses."""

    network: IPv4Network
    by: str


def wanted_networks() -> dict[str, IPv4Network]:
    return {**{f"{name} network": network.subnet for name, network in NETWORKS.items()}, **INNER_NETWORKS}


def clashes(taken: Iterable[Taken]) -> dict[str, list[Taken]]:
    """Which of the lab's networks overlap with networks in use; every one of the lab's is a key."""
    used = list(taken)
    return {name: [t for t in used if t.network.overlaps(network)] for name, network in wanted_networks().items()}


def networks(found: dict[str, list[Taken]]) -> Iterator[Line]:
    wanted = wanted_networks()
    free = [name for name, takers in found.items() if not takers]
    if free:
        yield Line(Verdict.OK, "networks", "free: " + ", ".join(f"{wanted[name]} ({name})" for name in free))
    for name, takers in found.items():
        for taker in takers:
            finding = f"{wanted[name]}, the lab's {name}, overlaps {taker.network}: {taker.by}"
            yield Line(Verdict.PROBLEM, "networks", finding, "the lab's networks are fixed: take that one away, or take another machine")


def taken_networks() -> list[Taken]:
    """Networks of the machine's addresses, routes and container engines, without the lab's own."""
    own = lab_bridges()
    return [*from_routes(json.loads(run("ip", "-json", "-details", "-4", "route", "show", "table", "all") or "[]"), own), *from_docker()]


def from_routes(table: Iterable[dict[str, Any]], own_interfaces: Iterable[str]) -> Iterator[Taken]:
    own = set(own_interfaces)
    for route in table:
        loop = route.get("dev") == "lo" or route.get("type") in ("local", "broadcast", "multicast")
        if route["dst"] == "default" or loop or route.get("dev") in own or routes.is_ours(route):
            continue
        yield Taken(IPv4Network(route["dst"], strict=False), f"a route of the machine{' by ' + route['dev'] if route.get('dev') else ''}")


def lab_bridges() -> list[str]:
    """Interfaces of the lab's own networks, from podman's files, which are readable for all."""
    names = []
    for network in NETWORKS.values():
        file = Path("/etc/containers/networks", f"{network.podman}.json")
        try:
            names.append(json.loads(file.read_text())["network_interface"])
        except (OSError, ValueError, KeyError):
            continue
    return names


def from_docker() -> Iterator[Taken]:
    """Docker's networks whose bridge is down have a route too; this names those of other drivers, if Docker lets us ask."""
    if not shutil.which("docker"):
        return
    try:
        ids = run("docker", "network", "ls", "--quiet", timeout=10).split()
        listing = json.loads(run("docker", "network", "inspect", *ids, timeout=10)) if ids else []
    except LabError:
        return
    for network in listing:
        for pool in (network.get("IPAM") or {}).get("Config") or []:
            if ":" not in pool.get("Subnet", ":"):
                yield Taken(IPv4Network(pool["Subnet"]), f"Docker's network {network['Name']}")


def ports(udp: str) -> Line:
    """The hosts and the depot have addresses of their own, so nothing on the machine is in their way; but say what listens on the VPN's port."""
    listening = any(line.split()[1].endswith(f":{VPN_PORT:04X}") for line in udp.splitlines()[1:])
    if listening:
        return Line(Verdict.NOTE, "ports", f"UDP/{VPN_PORT} of this machine is in use; the lab only takes datagrams from its own networks to their gateways")
    return Line(Verdict.OK, "ports", "none of the machine's are used: hosts and depot (443, 5000, 123/udp) have addresses of their own")


#: In /proc/net/tcp and tcp6: the state LISTEN, and every address.
LISTENS, ANYWHERE = "0A", ("0" * 8, "0" * 32)


def cloud_port(tcp: str) -> Line:
    """Whether `lab/lab cloud` can have its port."""
    own = bytes(reversed(ONPREM.gateway.packed)).hex().upper()  # as the kernel writes it on this architecture
    listeners = {words[1] for line in tcp.splitlines() if (words := line.split())[3] == LISTENS}
    if listeners & {f"{address}:{CLOUD_PORT:04X}" for address in (own, *ANYWHERE)}:
        finding = f"TCP/{CLOUD_PORT} on {ONPREM.gateway} is in use; the lab's AWS serves there"
        remedy = "unless that is `lab/lab cloud` itself: end it (`ss -ltnp` names it), or take another one by `lab/lab cloud --port`"
        return Line(Verdict.NOTE, "cloud", finding, remedy)
    return Line(Verdict.OK, "cloud", f"TCP/{CLOUD_PORT} on {ONPREM.gateway}, where the lab's AWS serves, is free")


def network_backend() -> Line:
    if not shutil.which("podman"):
        return Line(Verdict.OK, "podman", "not installed yet")
    choices = [Path("/etc/containers/containers.conf"), *sorted(Path("/etc/containers/containers.conf.d").glob("*.conf"))]
    setting = re.compile(r'^\s*network_backend\s*=\s*"(\w+)"', re.MULTILINE)
    chosen = [found[1] for path in choices if path.exists() and (found := setting.search(path.read_text()))]
    if chosen and chosen[-1] != "netavark":
        return Line(
            Verdict.PROBLEM, "podman", f"its network backend is {chosen[-1]}", 'set network_backend = "netavark" in containers.conf and `podman system reset`'
        )
    return Line(Verdict.OK, "podman", "installed")


def duration(build: float) -> Line:
    """build: minutes to make what the cache lacks."""
    minutes = f"about {build + WARM_MINUTES:.0f} minutes on 2 cores for `make lab`"
    if build >= 1:
        return Line(Verdict.NOTE, "time", f"{minutes}, {build:.0f} of them to build what the cache ({cache()}) lacks; {WARM_MINUTES} the next time")
    return Line(Verdict.NOTE, "time", f"{minutes} with this cache, {RUNNING_MINUTES} over a running lab")
