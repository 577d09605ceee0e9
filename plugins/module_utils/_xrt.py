# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""XRT, AMD's driver and tools for Alveo cards: what its programs print, which of its versions fits which kernel, what is to be done, and what came of it.

Its package ends with success whatever became of the driver (XRT, src/CMake/config/postinst.in), so nothing here believes a package manager. Pure.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._apt import newest_first
from ansible_collections.fpga.hybrid.plugins.module_utils._boards import Alveo
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

MODULES = ("xocl", "xclmgmt")
ADOPT, REPLACE = "adopt", "replace"
SOURCES = ("amd", "distro", "files")
#: The package with the driver: AMD's, Ubuntu's; and AMD's name for it in dkms.
PACKAGES, DKMS = ("xrt", "xrt-xocl-dkms"), "xrt"
#: What keeps a kernel from being replaced by the next one: the packages that always depend on the newest. Debian's and Ubuntu's names.
FOLLOWS_KERNEL = re.compile(
    r"linux-(image-|headers-)?(generic|virtual|lowlatency|aws|azure|gcp|oem-[0-9.]+[a-z]?|amd64|cloud-amd64|rt-amd64)(-hwe-[0-9.]+(-edge)?)?", re.ASCII
)
#: Where the key lies with which dkms signs, by who made it (dkms 3; Debian's and Ubuntu's shim-signed).
SIGNING_KEYS = ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der")


@dataclass(frozen=True)
class Build:
    """One line of `dkms status`."""

    module: str
    version: str
    kernel: str
    state: str


@dataclass(frozen=True)
class Found:
    """A host. loaded: version of the xocl that is in the kernel; modinfo: by module, the version of the file that would be loaded, "" for none.

    examined: by address, whether the tool calls it ready; tool: xrt-smi or xbutil, "" for none. next_kernel: what the next boot starts, "" if that cannot
    be told. package, package_name: version that dpkg has of the package with the driver, AMD's or a distribution's; dkms: what it calls the driver there.
    ours: we installed it. users: how many have a board open.
    """

    host: str
    system: str
    kernel: str
    cards: Sequence[Alveo] = ()
    loaded: str = ""
    builds: Sequence[Build] = ()
    modinfo: Mapping[str, str] = field(default_factory=dict)
    tool: str = ""
    examined: Mapping[str, bool] = field(default_factory=dict)
    examine_error: str = ""
    package: str = ""
    ours: bool = False
    next_kernel: str = ""
    headers: bool = False
    users: int = 0
    secure_boot: bool = False
    signing_key: str = ""
    build_log: str = ""
    package_name: str = PACKAGES[0]
    dkms: str = DKMS

    @property
    def unready(self) -> list[Alveo]:
        return [card for card in self.cards if not card.ready]

    @property
    def some_ready(self) -> bool:
        return len(self.unready) < len(self.cards)

    @property
    def unlisted(self) -> list[Alveo]:
        """Ready by what the kernel shows, and not by what the tool says."""
        return [card for card in self.cards if card.ready and not self.examined.get(card.user)]

    def builds_of(self, version: str = "") -> list[Build]:
        """Of the driver; version: any, if empty."""
        return [build for build in self.builds if build.module == self.dkms and (not version or same_version(build.version, version))]

    def built_for(self, kernel: str, version: str = "") -> bool:
        return any(build.kernel == kernel and build.state.startswith("installed") for build in self.builds_of(version))


@dataclass(frozen=True)
class Wanted:
    version: str
    source: str = "amd"
    existing: str = ADOPT
    allow_untested: bool = False
    allow_disruption: bool = False
    flash: bool = False


def same_version(there: str, wanted: str) -> bool:
    """A distribution's has an epoch before it, and its revision behind."""
    return re.fullmatch(rf"(\d+:)?{re.escape(wanted)}([+~-].*)?", there) is not None


# --- what programs print


def parse_dkms_status(text: str) -> list[Build]:
    """dkms 3 writes module/version, dkms 2 module, version. A module that was only added has no kernel."""
    builds = []
    for line in text.splitlines():
        what, colon, state = line.partition(": ")
        parts = [part.strip() for part in re.split(r"[,/]", what)]
        if colon and len(parts) >= 2:
            builds.append(Build(parts[0], parts[1], parts[2] if len(parts) > 2 else "", state.strip()))
    return builds


def parse_modinfo(text: str) -> str:
    """The version, as 2.16.204; XRT's carries the commit after a comma."""
    found = re.search(r"^version:\s*([^,\s]+)", text, re.MULTILINE)
    return found[1] if found else ""


def parse_examine(text: str) -> dict[str, bool]:
    """Address -> ready, of `xbutil examine` and `xrt-smi examine`. Source: XRT, core/tools/common/reports/ReportHost.cpp; some versions draw lines."""
    row = re.compile(r"^[|\s]*\[([0-9a-f:.]+)\].*?\b(Yes|No)\s*\|?\s*$", re.MULTILINE)
    return {address: ready == "Yes" for address, ready in row.findall(text)}


def next_kernel(kernels: Iterable[str], grub_default: str, saved: str = "") -> str:
    """The kernel of the next boot, "" if nothing here tells. kernels: those in /boot. grub_default: GRUB_DEFAULT; saved: grubenv's saved_entry.

    Source: Debian's grub-mkconfig puts the newest first, and entry 0 is that.
    """
    there = newest_first(kernels)
    chosen = saved if grub_default == "saved" else grub_default
    if chosen in ("", "0"):
        return there[0] if there else ""
    # The title of an entry, or its id: Ubuntu, with Linux 5.15.0-91-generic; gnulinux-5.15.0-91-generic-advanced-UUID
    return next((kernel for kernel in there if re.search(rf"(with Linux |gnulinux-){re.escape(kernel)}($|-advanced-)", chosen)), "")


# --- which goes with which


def combination_problems(found: Found, wanted: Wanted, table: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Why this XRT on this system, kernel and these shells is not known to work. Rows: xrt, system, kernels, shells, broken (kernels -> reason)."""
    if wanted.allow_untested:
        return []
    variable, remedy = "xrt_version", "Or, knowing that nobody has tried it: xrt_allow_untested: true."
    what = f"XRT {wanted.version} on {found.system} with kernel {found.kernel}"
    of_source = [row for row in table if wanted.source in row.get("sources", SOURCES)]
    rows = [row for row in of_source if row["xrt"] == wanted.version and row["system"] == found.system]
    if not rows:
        fitting = [f"XRT {row['xrt']} (kernel {', '.join(row['kernels'])})" for row in of_source if row["system"] == found.system]
        systems = ", ".join(sorted({str(row["system"]) for row in of_source}))
        known = f"one of {'; '.join(fitting)}" if fitting else f"a system of {systems}"
        expected = f"{known}, for xrt_source: {wanted.source}"
        if not of_source:
            expected = f"another xrt_source, since nobody has told of one that works with xrt_source: {wanted.source}"
        return [Problem(found.host, variable, f"{what} is not known", expected, remedy)]
    problems = []
    broken = next((str(why) for row in rows for kernel, why in row.get("broken", {}).items() if fnmatch.fnmatchcase(found.kernel, kernel)), "")
    kernels = [str(kernel) for row in rows for kernel in row["kernels"]]
    if broken or not any(fnmatch.fnmatchcase(found.kernel, kernel) for kernel in kernels):
        others = [
            str(row["xrt"]) for row in of_source if row["system"] == found.system and any(fnmatch.fnmatchcase(found.kernel, one) for one in row["kernels"])
        ]
        nearest = f", or XRT {', '.join(others)}, which fits this kernel" if others else ""
        reason = f"{what} does not compile ({broken})" if broken else f"{what} is not known"
        problems.append(Problem(found.host, variable, reason, f"kernel {', '.join(kernels)}{nearest}", f"Boot such a kernel and hold it. {remedy}"))
    for card in found.cards:
        shells = [str(shell) for row in rows for shell in row.get("shells", {}).get(card.board, ())]
        if card.shell and card.shell not in shells:
            expected = f"{' or '.join(shells)} with XRT {wanted.version}" if shells else f"no {card.board} with XRT {wanted.version}"
            problems.append(Problem(found.host, f"board {card.slot}", f"{card.board} with shell {card.shell}", expected, remedy))
    return problems


# --- what is to be done, and what came of it


def situation(found: Found, wanted: Wanted) -> str:
    """none: no Alveo card; adopted: somebody else's works, and stays; install: bring ours, or keep it as declared."""
    if not found.cards:
        return "none"
    if found.ours or wanted.existing == REPLACE or not _works(found, wanted):
        return "install"
    return "adopted"


def _works(found: Found, wanted: Wanted) -> bool:
    """Whether this driver serves a card. One beside it that isn't ready is that card's fault, and one that is to be flashed nobody's."""
    return bool(found.loaded) and (found.some_ready or (wanted.flash and any(card.blank for card in found.cards)))


def foreign_problems(found: Found, wanted: Wanted) -> list[Problem]:
    """An XRT of somebody else that doesn't work is not replaced unasked."""
    if found.ours or wanted.existing == REPLACE or _works(found, wanted) or not (found.package or found.loaded):
        return []
    faults = "; ".join(_complaints(found)) or "its driver is not loaded"
    what = f"XRT {found.package or found.loaded}, which we did not install and which does not work ({faults})"
    remedy = f"Mend it, or have it replaced by XRT {wanted.version}: xrt_existing: replace (with allow_disruption, where boards are in use)."
    return [Problem(found.host, "xrt_existing", what, "an XRT that works, which stays, or none", remedy)]


def hopeless_problems(found: Found, wanted: Wanted) -> list[Problem]:
    """Cards that no driver will make ready, where the host has no other: known before anything is installed."""
    judged = bool(found.loaded) and same_version(found.package, wanted.version)

    def hopeless(card: Alveo) -> bool:
        if card.blank:
            return not wanted.flash
        return not card.ready and (card.driver not in ("", "xocl") or (card.driver == "xocl" and judged))

    return _card_problems(found, wanted) if found.cards and all(map(hopeless, found.cards)) else []


def disruption_problems(found: Found, wanted: Wanted) -> list[Problem]:
    """The package unloads the driver, which ends whoever uses a board, or leaves the old one in."""
    if not found.users or wanted.allow_disruption or not (found.package or found.loaded) or same_version(found.package, wanted.version):
        return []
    what = f"XRT {found.package or found.loaded} is to become {wanted.version} while {found.users} user(s) of xocl have boards open"
    remedy = "Drain the node first (kubectl drain), or have it done all the same: allow_disruption: true."
    return [Problem(found.host, "xrt_version", what, "boards that nobody uses", remedy)]


def _complaints(found: Found) -> list[str]:
    return [f"{card.board} {card.slot}: {card.why_not_ready()}" for card in found.unready]


def to_build(found: Found, wanted: Wanted) -> bool:
    """Whether dkms has the sources and no driver for this kernel."""
    return bool(found.builds_of(wanted.version)) and not found.built_for(found.kernel, wanted.version)


def judge(found: Found, wanted: Wanted, *, cards: bool = True) -> list[Problem]:
    """What is wrong with an XRT of ours. One thing follows on the other: what is told is the first that is wrong. cards: they must be ready, too."""
    looks = (_build_problems, _load_problems, *((_card_problems, _examined_problems) if cards else ()))
    return next((problems for look in looks if (problems := look(found, wanted))), [])


def _build_problems(found: Found, wanted: Wanted) -> list[Problem]:
    host, dkms = found.host, found.dkms
    versions = sorted({build.version for build in found.builds_of()})
    if not versions:
        remedy = f"apt-get install --reinstall {found.package_name}, and look into /var/lib/dkms/{dkms}/{wanted.version}/build/make.log."
        return [Problem(host, "dkms status", f"no {dkms}, although its package is installed", f"{dkms}/{wanted.version}, {found.kernel}: installed", remedy)]
    of_version = found.builds_of(wanted.version)
    if not of_version:
        what = f"Package {found.package_name} is {found.package or 'not installed'}"
        remedy = f"{what}: is that what xrt_version says? If so, apt-get install --reinstall {found.package_name}."
        return [Problem(host, "dkms status", ", ".join(f"{dkms}/{version}" for version in versions), f"{dkms}/{wanted.version}", remedy)]
    if not found.built_for(found.kernel, wanted.version):
        said = next((build.state for build in of_version if build.kernel == found.kernel), "added")
        if not found.headers and not found.build_log:  # a compiler that said something had them
            expected = f"/lib/modules/{found.kernel}/build"
            remedy = f"Install linux-headers-{found.kernel}. If it cannot be had any more, boot a kernel whose headers can, and hold both."
            return [Problem(host, "kernel headers", f"none for {found.kernel}, so the driver could not be built", expected, remedy)]
        tail = f"; its log ends with: {found.build_log}" if found.build_log else ""
        log = f"/var/lib/dkms/{dkms}/{of_version[0].version}/build/make.log"
        remedy = f"XRT and kernel do not fit: another xrt_version, or an older kernel. All of it: {log}."
        return [Problem(host, "dkms status", f"{dkms}/{of_version[0].version} for {found.kernel} is {said}{tail}", "installed", remedy)]
    missing = [module for module in MODULES if not found.modinfo.get(module)]
    if missing:
        remedy = f"Run depmod -a; if that doesn't help, dkms remove -m {dkms} --all and run this again."
        return [Problem(host, "modinfo", f"no module {', '.join(missing)}, which dkms calls installed", "both", remedy)]
    return []


def _load_problems(found: Found, _wanted: Wanted) -> list[Problem]:
    if not found.loaded:
        return [_not_loaded(found)]
    if found.modinfo["xocl"] != found.loaded:
        remedy = "Reboot, or end what uses boards, then: rmmod xocl xclmgmt; modprobe xclmgmt; modprobe xocl."
        return [Problem(found.host, "xocl", f"{found.loaded} is loaded, while {found.modinfo['xocl']} is installed", "the same", remedy)]
    return []


def _card_problems(found: Found, _wanted: Wanted) -> list[Problem]:
    if found.some_ready:  # warnings tells the others
        return []
    return [
        Problem(found.host, f"board {card.slot}", f"{card.board}: {card.why_not_ready()}", "a card that is ready", _card_remedy(card)) for card in found.unready
    ]


def _examined_problems(found: Found, _wanted: Wanted) -> list[Problem]:
    if not found.tool:
        return [Problem(found.host, "xrt-smi", "neither xrt-smi nor xbutil in /opt/xilinx/xrt/bin or on PATH", "one of them", "Reinstall XRT's package.")]
    if found.examine_error:
        remedy = f"Run it by hand: {found.tool} examine."
        return [Problem(found.host, found.tool, f"examine fails: {found.examine_error}", "a list of devices", remedy)]
    if any(card.ready and found.examined.get(card.user) for card in found.cards):
        return []
    return [Problem(found.host, f"board {card.slot}", _unlisted(found, card), "ready", "Look into dmesg.") for card in found.unlisted]


def _unlisted(found: Found, card: Alveo) -> str:
    return f"{found.tool} examine calls {card.user} not ready or does not list it"


def _not_loaded(found: Found) -> Problem:
    if found.secure_boot:
        key = found.signing_key or SIGNING_KEYS[0]
        remedy = (
            f"Enrol the key with which dkms signs: mokutil --import {key} asks for a password of the moment; reboot, choose `Enroll MOK` at the console and "
            "give it. Or switch Secure Boot off in the firmware."
        )
        return Problem(
            found.host, "xocl", "it is not loaded, and Secure Boot is on: the kernel refuses modules whose key it does not know", "xocl loaded", remedy
        )
    return Problem(found.host, "xocl", "it is built and installed, and not loaded", "xocl loaded", "modprobe xocl, and look into dmesg.")


def _card_remedy(card: Alveo) -> str:
    if card.factory:
        serial = card.serial or "ITS SERIAL NUMBER"
        return f"Flash a shell: xrt_flash: true and xrt_flash_serials: [{serial}]; a cold boot follows."
    return "Look into dmesg; a cold boot (power off and on) helps after flashing."


def warnings(found: Found) -> list[str]:
    """Cards that aren't ready beside those that are, and what works now and won't after the next boot."""
    said = []
    if found.loaded and found.some_ready:
        said += [f"{card.board} {card.slot}: {card.why_not_ready()}. {_card_remedy(card)}" for card in found.unready]
        said += [f"{card.board} {card.slot}: {_unlisted(found, card)}. Look into dmesg." for card in found.unlisted if any(found.examined.values())]
    after = found.next_kernel
    if found.cards and found.builds and after and after != found.kernel and not found.built_for(after):
        lost = f"the next boot starts kernel {after}, for which dkms has no {found.dkms} driver (now: {found.kernel}): this host's boards would be gone."
        said.append(f"{lost} Hold the kernel, or install linux-headers-{after} and run `dkms install -m {found.dkms} -k {after}`.")
    return said


# --- flashing


@dataclass(frozen=True)
class Flash:
    """One call of xbmgmt. stage: base or shell; the latter where a card has its shell in two parts (2RP)."""

    card: Alveo
    stage: str
    arguments: tuple[str, ...]


def plan_flash(host: str, cards: Sequence[Alveo], serials: Sequence[str], partitions: Mapping[str, str], pending: Mapping[str, str]) -> list[Flash]:
    """Raises ValueError with a Problem's text. partitions: board -> file of the second part. pending: serial -> stage flashed, whose cold boot is due."""
    by_serial = {card.serial: card for card in cards if card.serial}
    there = ", ".join(f"{card.serial or 'unreadable'} ({card.board} {card.slot})" for card in cards) or "no Alveo card"
    if not serials:
        remedy = f"Name the cards to flash: xrt_flash_serials; here: {there}."
        raise ValueError(str(Problem(host, "xrt_flash", "true, and no serial number", "the numbers of the cards that may be flashed", remedy)))
    unknown = [serial for serial in serials if serial not in by_serial]
    if unknown:
        raise ValueError(str(Problem(host, "xrt_flash_serials", f"no card {', '.join(unknown)}", f"one of {there}", "Mend the number; it stands on the card.")))
    steps = []
    for card in (by_serial[serial] for serial in dict.fromkeys(serials)):
        done = pending.get(card.serial, "")
        if card.factory and not done:
            steps.append(Flash(card, "base", ("program", "--device", card.management, "--base", "--force")))
        elif not card.factory and not card.user and card.board in partitions and done != "shell":
            steps.append(Flash(card, "shell", ("program", "--device", card.management, "--shell", partitions[card.board], "--force")))
    return steps


def still_pending(cards: Sequence[Alveo], pending: Mapping[str, str]) -> dict[str, str]:
    """Without those cards that show by now what was flashed. A card that cannot be seen is kept."""

    def shows_it(card: Alveo, stage: str) -> bool:
        return bool(card.user) if stage == "shell" else not card.factory

    by_serial = {card.serial: card for card in cards if card.serial}
    return {serial: stage for serial, stage in pending.items() if serial not in by_serial or not shows_it(by_serial[serial], stage)}
