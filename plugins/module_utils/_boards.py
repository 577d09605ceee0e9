# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The FPGA boards on a host's PCI bus, as far as roles must know of them: which, where, and whether a driver has them. Only reads.

The device plugin has its own look at them (roles/fpga_device_plugin/files/fpga_device_plugin), which runs without Ansible; a test compares the tables.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

XILINX, AMAZON = 0x10EE, 0x1D0F
ADDRESS = re.compile(r"(?P<slot>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2})\.[0-7]", re.ASCII)


class Role(Enum):
    """What a function of a board is for; FACTORY is the management function of a card that holds only the image it was sold with."""

    USER = "user"
    MANAGEMENT = "management"
    FACTORY = "factory"


def _alveo(board: str, management: tuple[int, ...], factory: tuple[int, ...] = ()) -> dict[tuple[int, int], tuple[str, Role]]:
    return {
        **{(XILINX, device): (board, Role.MANAGEMENT) for device in management},
        **{(XILINX, device + 1): (board, Role.USER) for device in management},
        **{(XILINX, device): (board, Role.FACTORY) for device in factory},
    }


#: Sources: see roles/fpga_device_plugin/files/fpga_device_plugin/boards.py.
BY_ID: Mapping[tuple[int, int], tuple[str, Role]] = {
    **_alveo("u200", (0x5000, 0x5010), (0xD000,)),
    **_alveo("u250", (0x5004, 0x5014), (0xD004,)),
    **_alveo("u280", (0x5008, 0x500C), (0xD008, 0xD00C)),
    **_alveo("u50", (0x5020,), (0xD020,)),
    **_alveo("u55c", (0x505C,)),
    (AMAZON, 0x1041): ("aws-vu9p-f1", Role.MANAGEMENT),
    **{(AMAZON, device): ("aws-vu9p-f1", Role.USER) for device in (0x1042, 0xF010, 0xF011)},
    (AMAZON, 0x9248): ("aws-vu47p-f2", Role.MANAGEMENT),
    (AMAZON, 0x9048): ("aws-vu47p-f2", Role.USER),
}
ALVEO = frozenset(board for (vendor, _device), (board, _role) in BY_ID.items() if vendor == XILINX)


@dataclass(frozen=True)
class Alveo:
    """A card. management, user: addresses of its functions, "" where the bus doesn't show one. ready: a program could use it now.

    serial: what is printed on the card, "" if no driver tells. shell: what it holds beneath the user's logic.
    """

    slot: str
    board: str
    management: str = ""
    user: str = ""
    driver: str = ""
    ready: bool = False
    factory: bool = False
    serial: str = ""
    shell: str = ""

    @property
    def blank(self) -> bool:
        """It holds no shell that a user could reach: to be flashed, or flashed and without its cold boot."""
        return self.factory or not self.user

    def why_not_ready(self) -> str:
        if self.ready:
            return ""
        if self.factory:
            return "it holds the image that it was sold with, and no shell"
        if not self.user:
            return "it shows no user function: its shell is not in, or it was flashed and has not had a cold boot since"
        if self.driver != "xocl":
            return f"its user function {self.user} is bound to {self.driver or 'no driver'}, expected xocl"
        return "xocl has it, and it is not ready: no render node, or its own word is that it isn't"


def boards(sysfs: Path = Path("/sys")) -> dict[str, str]:
    """Slot -> board, of all that are known; of AWS' boards the function by which they are known counts. {} where there is no PCI bus to look at."""
    return {slot: board for slot, (board, _roles) in _slots(sysfs).items()}


def alveo_cards(sysfs: Path = Path("/sys"), dev: Path = Path("/dev")) -> list[Alveo]:
    return [_alveo_card(sysfs, dev, slot, board, roles) for slot, (board, roles) in _slots(sysfs).items() if board in ALVEO]


def _slots(sysfs: Path) -> dict[str, tuple[str, dict[Role, str]]]:
    found: dict[str, tuple[str, dict[Role, str]]] = {}
    folder = sysfs / "bus" / "pci" / "devices"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        address = ADDRESS.fullmatch(path.name)
        known = BY_ID.get((_number(path / "vendor"), _number(path / "device"))) if address else None
        if address and known:
            board, role = known
            found.setdefault(address["slot"], (board, {}))[1][role] = path.name
    return found


def _alveo_card(sysfs: Path, dev: Path, slot: str, board: str, roles: Mapping[Role, str]) -> Alveo:
    devices = sysfs / "bus" / "pci" / "devices"
    management, user = roles.get(Role.MANAGEMENT) or roles.get(Role.FACTORY, ""), roles.get(Role.USER, "")
    function = devices / user if user else None
    driver = _link(function / "driver") if function else ""
    nodes = [path.name for path in function.glob("drm/renderD*")] if function else []
    said = _text(function / "ready") if function else ""
    return Alveo(
        slot=slot,
        board=board,
        management=management,
        user=user,
        driver=driver,
        # As the device plugin has it (discovery.py, _xocl_complaint): a test runs all states through both.
        ready=driver == "xocl" and said not in ("0", "0x0") and bool(nodes) and all((dev / "dri" / node).exists() for node in nodes),
        factory=Role.FACTORY in roles,
        # xmc.c and hwmon_sdm.c of XRT's drivers
        serial=next((text for pattern in ("xmc.*", "hwmon_sdm.*") for text in _texts(devices / management, f"{pattern}/serial_num") if text), ""),
        shell=next((text for text in (_texts(function, "rom.*/VBNV") if function else []) if text), ""),
    )


def _texts(folder: Path, pattern: str) -> list[str]:
    return [_text(path) for path in sorted(folder.glob(pattern))]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return path.readlink().name
    except OSError:
        return ""


def _number(path: Path) -> int:
    try:
        return int(_text(path), 16)
    except ValueError:
        return -1
