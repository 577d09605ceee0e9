# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import (
    Device,
    InstanceType,
    UnknownDeviceError,
    board_resource,
    from_api,
    shipped_types,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types_table import TYPES
from tests.tools.instance_types import from_moto, rows


@pytest.mark.parametrize(
    ("name", "boards"),
    [
        ("f1.2xlarge", {"aws-vu9p-f1": 1}),
        ("f1.4xlarge", {"aws-vu9p-f1": 2}),
        ("f1.16xlarge", {"aws-vu9p-f1": 8}),
        ("f2.6xlarge", {"aws-vu47p-f2": 1}),
        ("f2.12xlarge", {"aws-vu47p-f2": 2}),
        ("f2.48xlarge", {"aws-vu47p-f2": 8}),
        ("vt1.6xlarge", {"u30": 2}),
        ("m5.large", {}),
    ],
)
def test_boards_of_a_type_without_asking_aws(name, boards):
    assert shipped_types()[name].boards() == boards


def test_the_shipped_table_is_what_the_command_makes_of_the_catalogue():
    assert tuple(rows(from_moto()[1])) == TYPES


def test_only_what_aws_ended_is_retired():
    assert {name for name, one in shipped_types().items() if one.retired} == {"f1.2xlarge", "f1.4xlarge", "f1.16xlarge"}


def test_an_answer_of_aws_is_read_in_each_of_its_forms():
    types = from_api(
        [
            {"InstanceType": "f3.large", "VCpuInfo": {"DefaultVCpus": 2}, "MemoryInfo": {"SizeInMiB": 8}, "FpgaInfo": {"Fpgas": [{"Name": "new", "Count": 3}]}},
            {
                "InstanceType": "a9.large",
                "VCpuInfo": {"DefaultVCpus": 2},
                "MemoryInfo": {"SizeInMiB": 8},
                "ProcessorInfo": {"SupportedArchitectures": ["arm64"]},
            },
        ]
    )
    assert types["f3.large"].devices == (Device("new", 3),)
    assert (types["f3.large"].architecture, types["a9.large"].architecture) == ("x86_64", "arm64")


def test_a_device_without_a_name_of_ours_is_said_not_guessed():
    with pytest.raises(UnknownDeviceError, match="Versal"):
        InstanceType("f3.large", 2, 8, "x86_64", (Device("Versal", 1),)).boards()


def test_devices_of_one_kind_that_aws_lists_apart_are_counted_together():
    assert InstanceType("vt1.big", 2, 8, "x86_64", (Device("U30", 1), Device("U30", 2))).boards() == {"u30": 3}


def test_a_type_survives_the_way_through_a_variable():
    one = shipped_types()["f2.48xlarge"]
    assert InstanceType.from_dict(one.as_dict()) == one


def test_a_board_s_resource_has_the_vendor_in_front():
    assert board_resource("aws-vu47p-f2") == "xilinx/aws-vu47p-f2"
