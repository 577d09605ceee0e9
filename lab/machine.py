"""What the machine was like before the lab, and putting back what the lab changed.

Containers share the machine's kernel: a systemd, a kubelet or a firewall helper in one of them sets values for the whole machine.
They are recorded before the first host starts and put back by `lab/lab clean`. A reboot of the machine puts them back by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lab.files import write_atomically
from lab.run import run, succeeds
from lab.settings import PREFIX, STATE

RECORD = STATE / "machine.json"
SYSCTLS = Path("/proc/sys")

#: Values for the whole machine that something in the lab is known to set, with who and why. In this order they are put back:
#: ip_forward first, because writing it resets the values below it.
SET_BY_THE_LAB = {
    "net.ipv4.ip_forward": "podman's networks pass packets on",
    "net.ipv4.conf.*.forwarding": "follows ip_forward",
    "net.ipv4.conf.*.accept_redirects": "the kernel turns it off for a router",
    "net.ipv6.conf.*.forwarding": "podman's networks",
    "net.ipv4.conf.default.rp_filter": "systemd and podman in hosts",
    "vm.overcommit_memory": "the kubelet wants memory to be promised freely",
    "kernel.panic": "the kubelet wants a reboot 10 s after a kernel panic",
    "kernel.panic_on_oops": "the kubelet",
    "kernel.keys.root_maxkeys": "the kubelet",
    "kernel.keys.root_maxbytes": "the kubelet",
    "fs.file-max": "systemd raises it when it starts as a host's init",
    "fs.nr_open": "systemd, with fs.file-max",
    "fs.protected_*": "Debian 12's 99-protect-links.conf in a host",
    "fs.inotify.*": "the lab: all hosts' init systems and kubelets share what Linux grants to root",
    "kernel.pid_max": "systemd's 50-pid-max.conf in a host",
    "kernel.core_pattern": "Debian 13's 10-coredump-debian.conf in a host",
    "net.netfilter.nf_conntrack_max": "kube-proxy",
    "net.netfilter.nf_conntrack_tcp_*": "kube-proxy",
    "net.bridge.bridge-nf-call-*": "the host role, in kernels where it is not per network namespace",
    "net.core.*mem_*": "the openvpn role's buffers",
}

#: Writable files below /proc/sys that are levers or counters, not settings.
NOT_SETTINGS = (
    "kernel.ns_last_pid",
    "kernel.random.*",
    "fs.binfmt_misc.*",
    "net.ipv4.route.flush",
    "net.ipv6.route.flush",
    "vm.compact_memory",
    "vm.drop_caches",
    "vm.stat_refresh",
)


@dataclass(frozen=True)
class Machine:
    """What must be the same after `clean` as before `up`."""

    boot: str
    taken: float
    swap: tuple[str, ...]
    clock: dict[str, str]
    firewall: str
    mounts: tuple[str, ...]
    cgroups: tuple[str, ...]
    interfaces: tuple[str, ...]
    addresses: tuple[str, ...]
    routes: tuple[str, ...]
    podman_networks: tuple[str, ...]
    sysctls: dict[str, str]

    @classmethod
    def now(cls) -> Machine:
        return cls(
            boot=boot_id(),
            taken=time.time(),
            swap=tuple(line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]),
            clock=clock(),
            firewall=firewall(),
            mounts=tuple(sorted(mounts())),
            cgroups=tuple(sorted(cgroups())),
            interfaces=tuple(sorted(link["ifname"] for link in json.loads(run("ip", "-json", "link")))),
            addresses=tuple(sorted(addresses())),
            routes=tuple(sorted(" ".join(line.split()) for family in ("-4", "-6") for line in run("ip", family, "route", "show", "table", "all").splitlines())),
            podman_networks=tuple(sorted(podman_networks())),
            sysctls=sysctls(),
        )

    @classmethod
    def load(cls, path: Path) -> Machine | None:
        """The record at path, or None if there is none that can be read."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            stored: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(path.read_text()).items()}
            return cls(**stored)
        return None

    def save(self, path: Path) -> None:
        write_atomically(path, json.dumps(self.__dict__, indent=1))


@dataclass(frozen=True)
class Difference:
    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.what}: was {self.before or 'absent'}, is {self.after or 'absent'}"


def differences(before: Machine, after: Machine) -> list[Difference]:
    """All that differs between two records of the machine, interfaces that came or went with their settings."""
    found: list[Difference] = []
    for name in ("swap", "mounts", "cgroups", "interfaces", "addresses", "routes", "podman_networks"):
        was, is_now = set(getattr(before, name)), set(getattr(after, name))
        found += [Difference(name, item, "") for item in sorted(was - is_now)] + [Difference(name, "", item) for item in sorted(is_now - was)]
    found += [Difference(f"clock {key}", before.clock.get(key, ""), after.clock.get(key, "")) for key in changed(before.clock, after.clock)]
    if before.firewall != after.firewall:
        rules, rules_now = before.firewall.splitlines(), after.firewall.splitlines()
        found.append(Difference("firewall", only_in(rules, rules_now), only_in(rules_now, rules)))
    come_and_gone = set(before.interfaces) ^ set(after.interfaces)
    found += [
        Difference(f"sysctl {key}", before.sysctls.get(key, ""), after.sysctls.get(key, ""))
        for key in changed(before.sysctls, after.sysctls)
        if interface_of(key) not in come_and_gone
    ]
    return found


def only_in(lines: Sequence[str], others: Sequence[str]) -> str:
    return "; ".join(line.strip() for line in lines if line not in others)


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def interface_of(sysctl: str) -> str | None:
    """The interface whose setting it is: `net.ipv4.conf.eth0.forwarding` is eth0's."""
    found = re.match(r"net\.(?:ipv4|ipv6|mpls)\.(?:conf|neigh)\.(.+)\.[^.]+$", sysctl)
    return found[1] if found else None


def ours(sysctl: str) -> str | None:
    """The pattern in SET_BY_THE_LAB that covers it, if any."""
    return next((pattern for pattern in SET_BY_THE_LAB if fnmatchcase(sysctl, pattern)), None)


def to_restore(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """What to write, in order: values that differ, that the lab is known to set, and that still exist."""
    order = list(SET_BY_THE_LAB)
    keys = [(order.index(pattern), key) for key in before if key in after and before[key] != after[key] and (pattern := ours(key))]
    return {key: before[key] for _, key in sorted(keys)}


def record(*, hosts_run: bool) -> Machine | None:
    """Keep what the machine is like, once per boot and before the first host runs: later it would be the lab that is recorded."""
    kept = Machine.load(RECORD)
    if kept and kept.boot == boot_id():
        return kept
    if hosts_run:
        return None
    now = Machine.now()
    # The lab's own networks outlive a reboot, as podman's files; they are no part of what was there before it.
    machine = replace(now, podman_networks=tuple(name for name in now.podman_networks if not name.startswith(PREFIX)))
    machine.save(RECORD)
    return machine


#: Linux grants the user root 128 inotify instances; a host with a kubelet takes 20, and an init that gets none ends at once.
SHARED_LIMITS = {"fs.inotify.max_user_instances": 1024, "fs.inotify.max_user_watches": 524288}


def raise_shared_limits() -> None:
    """Make room for many hosts on one kernel; never lowers anything. Call it after record()."""
    for key, wanted in SHARED_LIMITS.items():
        file = sysctl_file(key)
        if int(file.read_text()) < wanted:
            file.write_text(f"{wanted}\n")


def restore_sysctls(before: Machine) -> dict[str, str]:
    """Put back what the lab is known to set; returns what was written."""
    written: dict[str, str] = {}
    # Twice: ip_forward resets others, which then differ although they did not at first.
    for _ in range(2):
        for key, value in to_restore(before.sysctls, sysctls()).items():
            with contextlib.suppress(OSError):
                sysctl_file(key).write_text(f"{value}\n")
                written[key] = value
    return written


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def sysctl_file(key: str) -> Path:
    # A dot within a name (an interface eth0.5) is written as a slash, as sysctl(8) does.
    return SYSCTLS / "/".join(part.replace("/", ".") for part in key.split("."))


def sysctls() -> dict[str, str]:
    """Every writable setting of the kernel that can be read."""
    return dict(read_sysctls())


def read_sysctls() -> Iterator[tuple[str, str]]:
    for folder, _, names in os.walk(SYSCTLS):
        for name in names:
            path = Path(folder, name)
            key = ".".join(part.replace(".", "/") for part in path.relative_to(SYSCTLS).parts)
            if any(fnmatchcase(key, pattern) for pattern in NOT_SETTINGS):
                continue
            with contextlib.suppress(OSError):
                mode = path.stat().st_mode
                if mode & 0o200 and mode & 0o400:
                    yield key, path.read_text(errors="replace").strip()


def clock() -> dict[str, str]:
    found = {"source": Path("/sys/devices/system/clocksource/clocksource0/current_clocksource").read_text().strip()}
    if Path("/run/systemd/system").is_dir() and succeeds("systemctl", "--version"):
        for unit in ("systemd-timesyncd.service", "chrony.service", "ntpsec.service"):
            found[unit] = run("sh", "-c", f"systemctl is-active {unit} || :").strip()
        timers = run("systemctl", "list-unit-files", "--type=timer", "--state=enabled", "--no-legend").splitlines()
        found["timers"] = " ".join(sorted(line.split()[0] for line in timers if line))
    return found


def firewall() -> str:
    """All rules, without counters; those of the old iptables too where the kernel has any."""
    rules = run("nft", "--stateless", "list", "ruleset") if shutil.which("nft") else ""
    legacy = Path("/proc/net/ip_tables_names")
    if legacy.exists() and legacy.read_text().strip():
        rules += "".join(line for line in run("iptables-legacy-save").splitlines(keepends=True) if not line.startswith(("#", ":")))
    return rules


def mounts() -> Iterator[str]:
    """Mount points, without those of containers (they come and go)."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, point, kind = line.split()[:3]
        if not re.match(r"/(var/lib|run)/(containers/.*/(merged|shm|rootfs)|docker/)|/run/netns/", point):
            yield f"{kind} {device} {point}"


def cgroups() -> Iterator[str]:
    """First-level groups below each hierarchy."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind = line.split()[:3]
        if kind in ("cgroup", "cgroup2"):
            yield from (str(path) for path in Path(point).iterdir() if path.is_dir())


def addresses() -> Iterator[str]:
    for link in json.loads(run("ip", "-json", "address")):
        # Link-local addresses of container interfaces come and go with them, as the interfaces do.
        yield from (f"{link['ifname']} {a['local']}/{a['prefixlen']}" for a in link["addr_info"] if "local" in a)


def podman_networks() -> Iterator[str]:
    """All but podman's own, which comes with the package."""
    if shutil.which("podman"):
        yield from (name for name in run("podman", "network", "ls", "--format", "{{.Name}}").split() if name != "podman")


def put_back(before: Machine | None, tell: Callable[[str], None]) -> list[Difference]:
    """Put back what the lab set and return what differs all the same. Call it when no host is left."""
    if before is None:
        tell("what the machine was like before the lab is not known (no record): nothing put back")
        return []
    if before.boot != boot_id():
        tell("the machine was booted anew since the lab was made: nothing to put back")
        return []
    for key, value in restore_sysctls(before).items():
        tell(f"sysctl {key} = {value} again ({SET_BY_THE_LAB[ours(key) or key]})")
    return differences(before, Machine.now())
