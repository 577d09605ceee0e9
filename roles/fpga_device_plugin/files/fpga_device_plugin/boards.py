# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The boards that are known, by what their functions on the PCI bus call themselves.

Sources. Alveo: XRT, src/runtime_src/core/pcie/driver/linux/xocl/devices.h (XOCL_MGMT_PCI_IDS, XOCL_USER_XDMA_PCI_IDS), which lacks the U280;
Xilinx/fpga-operator, hostSetup/host_setup.sh, for the management functions of U200 (5010) and U280. A user function's id is its management
function's plus one; XBB_MFG in devices.h are the factory images, which have a management function only.
AWS: aws-fpga, sdk/userspace/include/hal/fpga_common.h (F1_MBOX_DEVICE_ID, F2_MBOX_DEVICE_ID), its fpga_mgmt_tools/README.md and XRT's devices.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

XILINX, AMAZON = 0x10EE, 0x1D0F

PciId = tuple[int, int]


class Role(Enum):
    """What a function of a board is for."""

    USER = "user"
    #: Can flash or reset the card.
    MANAGEMENT = "management"
    #: The management function of a card that holds only the image it was sold with.
    FACTORY = "factory"


class Access(Enum):
    """How a program reaches a board."""

    #: Through xocl, by /dev/dri/renderD*.
    XOCL = "xocl"
    #: By mapping the base address registers, files of sysfs; images come and go by AWS' tools.
    BARS = "bars"


@dataclass(frozen=True)
class Kind:
    """A kind of board. app_offset: how far the application function's device number lies from that of the management function."""

    name: str
    access: Access
    app_offset: int = 0

    @property
    def loads_images(self) -> bool:
        return self.access is Access.BARS


def _alveo(name: str, management: tuple[int, ...], factory: tuple[int, ...] = ()) -> tuple[Kind, dict[PciId, Role]]:
    ids = {
        **{(XILINX, device): Role.MANAGEMENT for device in management},
        **{(XILINX, device + 1): Role.USER for device in management},
        **{(XILINX, device): Role.FACTORY for device in factory},
    }
    return Kind(name, Access.XOCL), ids


_TABLE: tuple[tuple[Kind, dict[PciId, Role]], ...] = (
    _alveo("u200", (0x5000, 0x5010), (0xD000,)),
    _alveo("u250", (0x5004, 0x5014), (0xD004,)),
    _alveo("u280", (0x5008, 0x500C), (0xD008, 0xD00C)),
    _alveo("u50", (0x5020,), (0xD020,)),
    _alveo("u55c", (0x505C,)),
    (
        Kind("aws-vu9p-f1", Access.BARS, app_offset=-1),
        {(AMAZON, 0x1041): Role.MANAGEMENT, (AMAZON, 0x1042): Role.USER, (AMAZON, 0xF010): Role.USER, (AMAZON, 0xF011): Role.USER},
    ),
    # The management function keeps its id; the application function takes whatever the loaded image declares.
    (Kind("aws-vu47p-f2", Access.BARS), {(AMAZON, 0x9248): Role.MANAGEMENT, (AMAZON, 0x9048): Role.USER}),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind, _ids in _TABLE}
BY_ID: dict[PciId, tuple[Kind, Role]] = {one: (kind, role) for kind, ids in _TABLE for one, role in ids.items()}
