# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where swap comes from on a host, and what keeps it off across restarts. Pure functions over the texts of files."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

MARK = "# fpga.hybrid keeps swap off: "

#: Services that make swap by themselves, by their packages: zram-tools, zram-config, dphys-swapfile.
SERVICES = ("zramswap.service", "zram-config.service", "dphys-swapfile.service")
UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/transient",
    "/run/systemd/generator",
    "/run/systemd/generator.late",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
ZRAM_CONFIGS = ("/etc/systemd/zram-generator.conf", "/run/systemd/zram-generator.conf", "/usr/lib/systemd/zram-generator.conf")


class SwapError(Exception):
    """Swap cannot be brought to the wanted state; the message says what to do."""


@dataclass(frozen=True)
class Swap:
    """A swap space in use. Sizes in KiB, as in /proc/swaps."""

    path: str
    size: int
    used: int


def parse_proc_swaps(text: str) -> list[Swap]:
    found = []
    for line in text.splitlines()[1:]:
        # A blank in a name stands as \040; a file that was deleted has that behind its name.
        match = re.match(r"(\S+?)(?:\\040\(deleted\))?\s+\S+\s+(\d+)\s+(\d+)", line)
        if match:
            found.append(Swap(match[1].replace("\\040", " "), int(match[2]), int(match[3])))
    return found


def parse_available(meminfo: str) -> int | None:
    """KiB that programs could still get, from /proc/meminfo."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match[1]) if match else None


def is_swap_entry(line: str) -> bool:
    """Whether a line of fstab turns swap on at start."""
    if line.lstrip().startswith("#"):
        return False
    fields = line.split()
    if len(fields) < 3 or fields[2] != "swap":
        return False
    return "noauto" not in (fields[3] if len(fields) > 3 else "").split(",")


def fstab_off(text: str) -> str:
    return "".join(MARK + line if is_swap_entry(line) else line for line in text.splitlines(keepends=True))


def fstab_on(text: str) -> str:
    return "".join(line[len(MARK) :] if line.startswith(MARK) else line for line in text.splitlines(keepends=True))


@dataclass(frozen=True)
class Unit:
    """A unit file. source: what a generator made it from."""

    name: str
    folder: str
    masked: bool = False
    source: str | None = None


def units_to_mask(units: t.Sequence[Unit], zram_configs: t.Sequence[str]) -> list[str]:
    """Names of the units that would bring swap back. A unit made from fstab goes when its line does."""
    masked = {unit.name for unit in units if unit.masked}
    names = {unit.name for unit in units if unit.source != "/etc/fstab" and (unit.name.endswith(".swap") or unit.name in SERVICES)}
    for config in zram_configs:
        for device in re.findall(r"^\s*\[(zram\d+)\]", config, re.MULTILINE):
            names |= {f"dev-{device}.swap", f"systemd-zram-setup@{device}.service"}
    return sorted(names - masked)


def refuse_swapoff(swaps: t.Sequence[Swap], available: int | None) -> None:
    """What is swapped out has to fit into memory; otherwise the kernel kills programs on the way."""
    used = sum(swap.used for swap in swaps)
    if available is not None and used > available:
        raise SwapError(
            f"{used // 1024} MiB are swapped out, and only {available // 1024} MiB of memory are free: swap ({', '.join(swap.path for swap in swaps)}) "
            "cannot be turned off. End programs that need the memory, or keep swap with swap_policy: node_swap. Nothing was changed."
        )
