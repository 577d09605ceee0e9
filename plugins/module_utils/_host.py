# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host must be like before it can be a node: kernel modules, sysctls, names, a time service. Pure."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass


class HostError(Exception):
    """A host cannot be used as it is; the message says what to do."""


MARK = "# Written by fpga.hybrid; changes here are undone by its next run."
BEGIN, END = "# BEGIN fpga.hybrid", "# END fpga.hybrid"

MODULES_FILE = "/etc/modules-load.d/fpga-hybrid.conf"
#: Sorted behind everything else, because the last file that names a key wins (Debian links 99-sysctl.conf to /etc/sysctl.conf).
SYSCTL_FILE = "/etc/sysctl.d/99-zz-fpga-hybrid.conf"
RP_FILTER = "net.ipv4.conf.all.rp_filter"


def render_modules(modules: t.Sequence[str]) -> str:
    return "\n".join([MARK, *modules]) + "\n"


def render_sysctl(values: t.Mapping[str, str]) -> str:
    return "\n".join([MARK, *(f"{key} = {value}" for key, value in values.items())]) + "\n"


def wanted_sysctl(values: t.Mapping[str, t.Any], rp_filter_found: str | None) -> dict[str, str]:
    """The asked-for values; with strict reverse path filtering made loose where that is what was found.

    A node gets packets of one peer by several ways (LAN, tunnel, overlay), and strict filtering drops all but one. Where filtering is off it stays off.
    """
    wanted = {key: str(value) for key, value in values.items()}
    if rp_filter_found == "1":
        wanted.setdefault(RP_FILTER, "2")
    return wanted


def sysctl_path(key: str) -> str:
    return "/proc/sys/" + key.replace(".", "/")


def same_value(one: str, other: str) -> bool:
    return one.split() == other.split()


def is_there(module: str, loaded: str, builtin: str) -> bool:
    """Whether a kernel module is in the kernel. loaded: /proc/modules; builtin: modules.builtin."""
    name = module.replace("-", "_")
    in_memory = {line.split()[0] for line in loaded.splitlines() if line.strip()}
    built_in = {line.rsplit("/", 1)[-1].split(".ko")[0].replace("-", "_") for line in builtin.splitlines()}
    return name in in_memory or name in built_in


def parse_os_release(text: str) -> dict[str, str]:
    """The fields of /etc/os-release, without their quotes (os-release(5))."""
    lines = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, equals, value in lines if equals}


def distribution(os_release: t.Mapping[str, str]) -> dict[str, str]:
    """What the setup module calls distribution and distribution_release."""
    return {"distribution": os_release.get("ID", "").capitalize(), "distribution_release": os_release.get("VERSION_CODENAME", "")}


# /etc/hosts


def with_block(text: str, lines: t.Sequence[str]) -> str:
    """A hosts file with our block as asked for, at its old place or at the end; without lines there is none."""
    block = [BEGIN, *lines, END] if lines else []
    before, after, found = split_block(text)
    if not found and not block:
        return text
    if before and not before[-1].strip() and not block and not after:
        before = before[:-1]
    return "".join(f"{line}\n" for line in (*before, *block, *after))


def split_block(text: str) -> tuple[list[str], list[str], bool]:
    lines = text.splitlines()
    if BEGIN not in lines:
        return lines, [], False
    start = lines.index(BEGIN)
    # A block whose end was cut off ends where the next thing that is not ours begins: at once.
    end = next((i for i in range(start, len(lines)) if lines[i] == END), start)
    return lines[:start], [line for line in lines[end + 1 :] if line not in (BEGIN, END)], True


def contradictions(text: str, wanted: t.Mapping[str, str]) -> list[str]:
    """Lines outside our block that give one of our names another address: the resolver would take both."""
    before, after, _found = split_block(text)
    found = []
    for line in (*before, *after):
        address, *names = line.split("#", 1)[0].split() or [""]
        if any(name in wanted and wanted[name] != address for name in names):
            found.append(line.strip())
    return found


# Time


@dataclass(frozen=True)
class TimeService:
    unit: str
    package: str
    active: bool
    enabled: bool


TIME_UNITS = {
    "chrony.service": "chrony",
    "chronyd.service": "chrony",
    "systemd-timesyncd.service": "systemd-timesyncd",
    "ntpsec.service": "ntpsec",
    "ntp.service": "ntp",
    "openntpd.service": "openntpd",
    "ptp4l.service": "linuxptp",
}


def parse_units(text: str) -> dict[str, dict[str, str]]:
    """The output of C(systemctl show --property=... UNIT...): one block a unit."""
    found = {}
    for block in text.strip().split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" in fields:
            found[fields["Id"]] = fields
    return found


def time_service(units: t.Mapping[str, t.Mapping[str, str]]) -> TimeService | None:
    """The time service that counts: one that runs, else one that is installed."""
    there = [
        TimeService(unit, package, units[unit].get("ActiveState") in ("active", "activating", "reloading"), units[unit].get("UnitFileState") == "enabled")
        for unit, package in TIME_UNITS.items()
        if unit in units and units[unit].get("LoadState") == "loaded"
    ]
    return next((service for service in there if service.active), there[0] if there else None)


def valid_hosts(entries: t.Mapping[str, str]) -> None:
    for name, address in entries.items():
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name):
            raise HostError(f"hosts: {name!r} is no host name.")
        if not re.fullmatch(r"[0-9A-Fa-f:.]+", address):
            raise HostError(f"hosts: {address!r} for {name} is no address.")
