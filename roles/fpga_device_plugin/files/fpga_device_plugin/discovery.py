# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the boards of a host, and says of each whether a pod could use it now; if not, why. Only reads, and takes every file for one that may be gone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fpga_device_plugin.boards import BY_ID, Access, Kind, PciId, Role

ADDRESS = re.compile(r"(?P<slot>(?P<bus>[0-9a-f]{4,8}:[0-9a-f]{2}):(?P<device>[0-9a-f]{2}))\.(?P<function>[0-7])", re.ASCII)
SLOT = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}", re.ASCII)

#: The BARs that programs of AWS' SDK map, with write combining where there is (fpga_pci_sysfs.c, fpga_pci_get_resources).
BARS = tuple(f"resource{number}{suffix}" for number in (0, 1, 2, 4) for suffix in ("", "_wc"))


class SysfsError(Exception):
    """The PCI bus cannot be looked at."""


@dataclass(frozen=True)
class Board:
    """One board as it is now.

    slot: domain:bus:device, by which it is called everywhere, since it stays when an image changes ids. reason: why it is not ready, else "".
    address: the function that programs use. nodes: device nodes for it; management: those that could flash it; both as paths below /dev.
    by_path: udev's link to its render node, which is this board's whatever number the driver gives it; "" where there is none.
    bars: files to be mapped, as paths below /sys. image_slot: its number for AWS' tools. shell: what it holds beneath the user's logic.
    """

    slot: str
    kind: Kind
    reason: str = ""
    address: str = ""
    numa_node: int | None = None
    nodes: tuple[str, ...] = ()
    management: tuple[str, ...] = ()
    bars: tuple[str, ...] = ()
    image_slot: int | None = None
    shell: str = ""
    by_path: str = ""

    @property
    def ready(self) -> bool:
        return not self.reason

    def unready(self, reason: str) -> Board:
        return replace(self, reason=reason)


@dataclass(frozen=True)
class Function:
    """A function on the bus whose ids are those of a board."""

    address: str
    id: PciId
    kind: Kind
    role: Role

    @property
    def application(self) -> str:
        """Address of the board's application function, as AWS' SDK finds it from the management function (fpga_pci_mbox2app)."""
        slot, function = self.address.rsplit(".", 1)
        if self.role is Role.USER or self.kind.access is not Access.BARS:
            return self.address
        if not self.kind.app_offset:
            return f"{slot}.0"
        bus, device = slot.rsplit(":", 1)
        return f"{bus}:{int(device, 16) + self.kind.app_offset:02x}.{function}"

    @property
    def slot(self) -> str:
        return self.application.rsplit(".", 1)[0]


@dataclass
class Host:
    """What /sys and /dev tell about boards, below any two roots.

    declared: slots whose board is known, whatever ids they show. What is no board is remembered, so that looking again costs little.
    """

    sysfs: Path = Path("/sys")
    dev: Path = Path("/dev")
    declared: Mapping[str, Kind] = field(default_factory=dict)
    _other: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.devices = self.sysfs / "bus" / "pci" / "devices"

    def look(self) -> dict[str, Board]:
        """All boards by slot. Raises SysfsError."""
        slots: dict[str, list[Function]] = {}
        functions = self._functions()
        for function in functions:
            slots.setdefault(function.slot, []).append(function)
        numbers = _image_slots(functions)
        boards = [self._board(slot, own, numbers.get(slot)) for slot, own in slots.items() if slot not in self.declared]
        boards += [self._aws(slot, kind, f"{slot}.0", numbers.get(slot)) for slot, kind in self.declared.items()]
        return {board.slot: board for board in sorted(boards, key=lambda board: board.slot)}

    def driver_version(self) -> str:
        """xocl's, as 2.16.204; "" if it isn't loaded."""
        return _text(self.sysfs / "module" / "xocl" / "version").partition(",")[0]

    # --- functions

    def _functions(self) -> list[Function]:
        try:
            names = sorted(os.listdir(self.devices))
        except OSError as error:
            raise SysfsError(
                f"{self.devices} cannot be read ({error.strerror}), so no board can be seen. Expected the kernel's list of PCI devices."
            ) from error
        there = set(names)
        self._other = {name: seen for name, seen in self._other.items() if name in there}
        return [found for name in names if (found := self._function(name))]

    def _function(self, address: str) -> Function | None:
        if not ADDRESS.fullmatch(address):
            return None
        # A server has hundreds of functions, and this is done every few seconds: no Path, which costs more than the kernel.
        folder = f"{self.devices}/{address}"
        try:
            status = os.stat(folder)
            # What is removed and found again has another inode; only then can it have become something else.
            seen = (status.st_ino, status.st_ctime_ns)
            if self._other.get(address) == seen:
                return None
            pci_id = (_number(f"{folder}/vendor"), _number(f"{folder}/device"))
        except (OSError, ValueError):
            return None  # it is going or coming just now
        if pci_id in BY_ID:
            return Function(address, pci_id, *BY_ID[pci_id])
        self._other[address] = seen
        return None

    # --- boards

    def _board(self, slot: str, functions: Iterable[Function], image_slot: int | None) -> Board:
        first, *_rest = functions
        if first.kind.access is Access.BARS:
            return self._aws(slot, first.kind, first.application, image_slot)
        return self._alveo(slot, {function.role: function for function in functions})

    def _alveo(self, slot: str, functions: Mapping[Role, Function]) -> Board:
        kind = next(iter(functions.values())).kind
        user = functions.get(Role.USER)
        if user is None:
            alone = functions.get(Role.FACTORY) or functions[Role.MANAGEMENT]
            return Board(slot, kind, _no_user_function(alone), alone.address)
        folder = self.devices / user.address
        render = self._render_nodes(folder)
        board = Board(
            slot,
            kind,
            address=user.address,
            numa_node=_numa_node(folder),
            nodes=(*render, *self._qdma_nodes(folder, user.address)),
            management=self._management_nodes(functions.get(Role.MANAGEMENT)),
            shell=next((text for path in sorted(folder.glob("rom*/VBNV")) if (text := _text(path))), ""),
            by_path=self._by_path(user.address, render),
        )
        return board.unready(self._xocl_complaint(folder, render))

    def _xocl_complaint(self, folder: Path, render: tuple[str, ...]) -> str:
        driver = _driver(folder)
        if driver != "xocl":
            found = f"driver {driver}" if driver else "no driver"
            return f"{folder.name} has {found}, expected xocl: see dkms status -m xrt and modinfo xocl"
        if _text(folder / "ready") in ("0", "0x0"):
            return f"{folder.name} is not ready, says xocl (its file ready is 0): see xbmgmt examine, or the service (mpd, msd) that answers for a virtual card"
        if not render:
            return f"{folder.name} has no render node of xocl's ({folder / 'drm'}/renderD*): see dmesg"
        missing = [node for node in render if not (self.dev / node).exists()]
        return f"{self.dev / missing[0]} is not there, although xocl names it: see udev's rules of XRT (99-xocl.rules)" if missing else ""

    def _render_nodes(self, folder: Path) -> tuple[str, ...]:
        return tuple(f"dri/{path.name}" for path in sorted((folder / "drm").glob("renderD*")))

    def _by_path(self, address: str, render: tuple[str, ...]) -> str:
        """udev's rules: 60-drm.rules."""
        link = f"dri/by-path/pci-{address}-render"
        try:
            named = os.readlink(self.dev / link)
        except OSError:
            return ""
        return link if render == (f"dri/{os.path.basename(named)}",) else ""

    def _qdma_nodes(self, folder: Path, address: str) -> tuple[str, ...]:
        """For shells with QDMA. XRT numbers such nodes by the address (pcidev.cpp, get_subdev_path)."""
        if not any(folder.glob("dma.qdma.u*")):
            return ()
        parts = [int(part, 16) for part in re.split("[:.]", address)]
        instance = (parts[0] << 16) + (parts[1] << 8) + (parts[2] << 3) + parts[3]
        node = f"xfpga/dma.qdma.u{instance}.0"
        return (node,) if (self.dev / node).exists() else ()

    def _management_nodes(self, function: Function | None) -> tuple[str, ...]:
        if function is None:
            return ()
        node = f"xclmgmt{_text(self.devices / function.address / 'instance')}"
        return (node,) if node != "xclmgmt" and (self.dev / node).exists() else ()

    def _aws(self, slot: str, kind: Kind, address: str, image_slot: int | None) -> Board:
        folder = self.devices / address
        board = Board(slot, kind, address=address, numa_node=_numa_node(folder), image_slot=image_slot, nodes=self._render_nodes(folder))
        if not folder.exists():
            return board.unready(f"{address} is not there: see fpga-describe-local-image-slots, which looks for it again")
        real, root = Path(os.path.realpath(folder)), os.path.realpath(self.sysfs)
        bars = tuple(os.path.relpath(real / name, root) for name in BARS if (folder / name).exists())
        if image_slot is None:
            # Whatever it is: no image could be loaded or cleared, and a slot that was declared by mistake may be another device.
            ids = ":".join(_text(folder / name).removeprefix("0x") for name in ("vendor", "device"))
            return board.unready(
                f"{address} ({ids}) has no management function of AWS' beside it, so AWS' tools do not know it: see lspci -d 1d0f: and "
                "fpga_device_plugin_slots, whose slots must be those of boards"
            )
        reason = "" if bars else f"{address} has no BAR to map (resource0, 1, 2, 4 in {folder}): see fpga-describe-local-image"
        return replace(board, bars=bars, reason=reason)


def _no_user_function(function: Function) -> str:
    what = f"{function.address} ({function.id[0]:04x}:{function.id[1]:04x})"
    if function.role is Role.FACTORY:
        return f"{what} holds the image it was sold with: flash a shell onto the card (role xrt, xrt_flash), then a cold boot"
    return f"{what} is a management function, and its card shows no user function: see xbmgmt examine; a cold boot may be due"


def _image_slots(functions: Iterable[Function]) -> dict[str, int]:
    """AWS' tools number boards by the order of their management functions (fpga_pci_sysfs.c, fpga_pci_mbox_scan)."""
    mailboxes = sorted((f for f in functions if f.kind.access is Access.BARS and f.role is Role.MANAGEMENT), key=lambda f: f.address)
    return {function.slot: number for number, function in enumerate(mailboxes)}


def _number(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read(), 16)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _driver(folder: Path) -> str:
    try:
        return os.path.basename(os.readlink(folder / "driver"))
    except OSError:
        return ""


def _numa_node(folder: Path) -> int | None:
    text = _text(folder / "numa_node")
    return int(text) if text.isdigit() else None
