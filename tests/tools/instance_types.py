# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes plugins/module_utils/_instance_types_table.py out of answers of DescribeInstanceTypes.

.venv/bin/python -m tests.tools.instance_types          from moto's catalogue, which holds AWS' recorded answers
.venv/bin/python -m tests.tools.instance_types --aws    from AWS itself, with your credentials and region
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import InstanceType

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "plugins" / "module_utils" / "_instance_types_table.py"
#: The types with FPGAs, and those that people put beside them.
FAMILIES = ("f2", "vt1", "t3", "m5", "m6i", "c5", "c6i", "r5", "r6i")

HEADER = '''# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instance types as AWS described them. Written by tests/tools/instance_types.py: don't edit."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

SOURCE = "{source}"

#: Name, vCPUs, MiB, architecture, devices and how many of each.
TYPES: tuple[tuple[str, int, int, str, tuple[tuple[str, int], ...]], ...] = (
'''


def from_moto() -> tuple[str, Iterable[Mapping[str, Any]]]:
    import moto
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    return f"DescribeInstanceTypes in us-east-1, as recorded in moto {moto.__version__}", INSTANCE_TYPES.values()


def from_aws() -> tuple[str, Iterable[Mapping[str, Any]]]:
    import boto3

    client = boto3.client("ec2")
    pages = client.get_paginator("describe_instance_types").paginate(Filters=[{"Name": "instance-type", "Values": [f"{name}.*" for name in FAMILIES]}])
    return f"DescribeInstanceTypes in {client.meta.region_name}", [described for page in pages for described in page["InstanceTypes"]]


def family(name: str) -> str:
    return name.partition(".")[0]


def rows(described: Iterable[Mapping[str, Any]]) -> list[tuple[str, int, int, str, tuple[tuple[str, int], ...]]]:
    types = [InstanceType.from_api(one) for one in described if family(one["InstanceType"]) in FAMILIES]
    types.sort(key=lambda one: (FAMILIES.index(family(one.name)), one.vcpus, one.memory, one.name))
    return [(one.name, one.vcpus, one.memory, one.architecture, tuple((device.name, device.count) for device in one.devices)) for one in types]


def main() -> None:
    source, described = from_aws() if "--aws" in sys.argv[1:] else from_moto()
    lines = [f"    {row!r},\n".replace("'", '"') for row in rows(described)]
    TABLE.write_text(HEADER.format(source=f"{source}, {datetime.date.today()}") + "".join(lines) + ")\n", encoding="utf-8")


if __name__ == "__main__":
    main()
