# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWS says of an instance type, as far as a node needs it. Pure: the answer of DescribeInstanceTypes goes in.

For use without AWS there is a dated table of such answers (_instance_types_table.py, made by tests/tools/instance_types.py). What AWS no longer
describes stands below, in RETIRED. How many FPGAs a type has is in neither case ours to say: both repeat AWS.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: What AWS calls a device, and the board that a node with it publishes. Names only; FPGAs of F1 and F2 are chips on AWS' own boards,
#: so their names carry the family, while the U30 of VT1 is the card that can be bought.
BOARDS = {
    "Virtex UltraScale (VU9P)": "aws-vu9p-f1",
    "Virtex UltraScale+ (VU47P)": "aws-vu47p-f2",
    "U30": "u30",
}
#: The vendor's part of a board's resource name, which stays the same whatever shell is loaded.
BOARD_VENDOR = "xilinx"


class UnknownDeviceError(ValueError):
    """The type has a device whose board we have no name for."""


@dataclass(frozen=True)
class Device:
    """Devices of one kind in an instance: C(FpgaInfo) of DescribeInstanceTypes, or C(MediaAcceleratorInfo), where VT1's Alveo U30 are."""

    name: str
    count: int


@dataclass(frozen=True)
class InstanceType:
    """memory in MiB as AWS sells it, which is more than the instance's kernel sees. retired: the day that AWS ended the type, or None."""

    name: str
    vcpus: int
    memory: int
    architecture: str
    devices: tuple[Device, ...] = ()
    retired: str | None = None

    @classmethod
    def from_api(cls, described: Mapping[str, Any]) -> InstanceType:
        """One element of C(InstanceTypes) in the answer of DescribeInstanceTypes."""
        architectures = described.get("ProcessorInfo", {}).get("SupportedArchitectures") or ["x86_64"]
        fpgas = described.get("FpgaInfo", {}).get("Fpgas", [])
        media = described.get("MediaAcceleratorInfo", {}).get("Accelerators", [])
        return cls(
            name=described["InstanceType"],
            vcpus=described["VCpuInfo"]["DefaultVCpus"],
            memory=described["MemoryInfo"]["SizeInMiB"],
            architecture="arm64" if "arm64" in architectures else "x86_64",
            devices=tuple(Device(device["Name"], device["Count"]) for device in (*fpgas, *media)),
        )

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> InstanceType:
        """What as_dict gave."""
        return cls(**{**known, "devices": tuple(Device(**device) for device in known["devices"])})

    def boards(self) -> dict[str, int]:
        """How many of each board: C({aws-vu47p-f2: 2})."""
        boards: dict[str, int] = {}
        for device in self.devices:
            if device.name not in BOARDS:
                raise UnknownDeviceError(device.name)
            boards[BOARDS[device.name]] = boards.get(BOARDS[device.name], 0) + device.count
        return boards

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "vcpus": self.vcpus,
            "memory": self.memory,
            "architecture": self.architecture,
            "devices": [{"name": device.name, "count": device.count} for device in self.devices],
            "retired": self.retired,
        }


def board_resource(board: str) -> str:
    return f"{BOARD_VENDOR}/{board}"


#: F1 ended on 2025-12-20 (aws-fpga README, "F1 End of Life Notice"). These are AWS' own last answers, as recorded in moto 4.2.14.
F1_RETIRED = "2025-12-20"
RETIRED = {
    name: InstanceType(name, vcpus, memory, "x86_64", (Device("Virtex UltraScale (VU9P)", count),), F1_RETIRED)
    for name, vcpus, memory, count in (
        ("f1.2xlarge", 8, 124928, 1),
        ("f1.4xlarge", 16, 249856, 2),
        ("f1.16xlarge", 64, 999424, 8),
    )
}


def shipped_types() -> dict[str, InstanceType]:
    """The table that comes with the collection, and the retired types."""
    from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types_table import TYPES  # few runs need it

    types = (InstanceType(name, vcpus, memory, architecture, tuple(Device(*one) for one in devices)) for name, vcpus, memory, architecture, devices in TYPES)
    return {one.name: one for one in types} | RETIRED


def from_api(described: Iterable[Mapping[str, Any]]) -> dict[str, InstanceType]:
    types = (InstanceType.from_api(one) for one in described)
    return {one.name: one for one in types}
