# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container gets with its boards: device nodes, files, environment, CDI names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fpga_device_plugin.boards import Access
from fpga_device_plugin.catalogue import slot_of
from fpga_device_plugin.discovery import Board

CDI_KIND = "fpga.hybrid/board"
#: Of what CDI's specification offers, nothing newer than this is used (container-device-interface SPEC.md, "Released versions").
CDI_VERSION = "0.5.0"


@dataclass(frozen=True)
class Answer:
    """envs by name; mounts and devices as (path on the host, path in the container); cdi: qualified names."""

    envs: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[tuple[str, str], ...] = ()
    devices: tuple[tuple[str, str], ...] = ()
    cdi: tuple[str, ...] = ()


@dataclass(frozen=True)
class Giver:
    """How boards are handed out on this host.

    management: hand out the function that can flash the card, too. cdi: let the runtime put the nodes in, by CDI names.
    """

    sysfs: Path = Path("/sys")
    dev: Path = Path("/dev")
    management: bool = False
    cdi: bool = False

    def give(self, resource: str, boards: Iterable[Board], devices: Iterable[str]) -> Answer:
        ordered = sorted(boards, key=lambda board: board.slot)
        envs = environment(resource, ordered, sorted(devices))
        if self.cdi:
            return Answer(envs, cdi=tuple(f"{CDI_KIND}={board.slot}" for board in ordered))
        return Answer(
            envs,
            mounts=tuple(mount for board in ordered for mount in self.mounts(board)),
            devices=tuple(node for board in ordered for node in self.lasting_nodes(board)),
        )

    def lasting_nodes(self, board: Board) -> list[tuple[str, str]]:
        """For an answer that the kubelet keeps, and uses for each start of a container, after a boot too, when another board may have this one's number."""
        return [(str(self.dev / board.by_path) if board.by_path and inside.startswith("/dev/dri/") else host, inside) for host, inside in self.nodes(board)]

    def nodes(self, board: Board) -> list[tuple[str, str]]:
        own = [*board.nodes, *(board.management if self.management else ())]
        return [(str(self.dev / node), f"/dev/{node}") for node in own]

    def mounts(self, board: Board) -> list[tuple[str, str]]:
        """The board's BARs, at the same place in the container: there AWS' library looks for them, through the read-only rest of /sys."""
        if board.kind.access is not Access.BARS:
            return []
        return [(str(self.sysfs / name), str(self.sysfs / name)) for name in board.bars]

    def cdi_specification(self, boards: Iterable[Board]) -> dict[str, Any]:
        """The file that tells the runtime what each board's name means."""
        return {
            "cdiVersion": CDI_VERSION,
            "kind": CDI_KIND,
            "devices": [
                {
                    "name": board.slot,
                    "containerEdits": {
                        "deviceNodes": [{"hostPath": host, "path": inside, "permissions": "rw"} for host, inside in self.nodes(board)],
                        "mounts": [{"hostPath": host, "containerPath": inside, "options": ["rw", "bind"]} for host, inside in self.mounts(board)],
                    },
                }
                for board in boards
                if self.nodes(board) or self.mounts(board)  # a device without any is an error to the runtime
            ],
        }


def environment(resource: str, boards: Iterable[Board], devices: Iterable[str]) -> dict[str, str]:
    """Where the container finds its boards. Named after the resource, as SR-IOV's plugin does it, so that two resources in one container don't clash."""
    suffix = re.sub(r"[^A-Z0-9]", "_", resource.upper())
    boards = list(boards)
    envs = {f"PCIDEVICE_{suffix}": ",".join(board.address for board in boards)}
    slots = [str(board.image_slot) for board in boards if board.image_slot is not None]
    if slots:
        envs[f"FPGA_SLOTS_{suffix}"] = ",".join(slots)
    address = {board.slot: board.address for board in boards}
    copies = [f"{address[slot_of(device)]}/{device.partition('/')[2]}" for device in devices if "/" in device]
    if copies:
        envs[f"FPGA_COPIES_{suffix}"] = ",".join(copies)
    return envs
