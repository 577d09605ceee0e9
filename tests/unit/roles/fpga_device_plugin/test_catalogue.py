# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section fpga of node.json: what is right is published, what is wrong is left out with a sentence."""

from __future__ import annotations

import json

import pytest

from fpga_device_plugin import catalogue
from fpga_device_plugin.catalogue import Resource

IMAGE = "agfi-0fedcba9876543210"


def section(**changes):
    return {
        "stack": "fpga_device_plugin",
        "publish": {"u250": "com.inaccel.xgboost.exact", "u280": "boards"},
        "resources": {"com.inaccel.xgboost.exact": "inaccel.com/xgboost.exact", "u280": "xilinx/u280"},
        "replicas": {"com.inaccel.xgboost.exact": {"u250": 4, "aws-vu47p-f2": 2}},
        "images": {"com.inaccel.xgboost.exact": {"aws-vu47p-f2": IMAGE}},
        "shared": {"com.inaccel.xgboost.exact": True},
        **changes,
    }


def test_a_board_and_an_accelerator():
    found = catalogue.read(section())
    assert found.problems == ()
    assert found.resources == {
        "inaccel.com/xgboost.exact": Resource("inaccel.com/xgboost.exact", {"u250": 4}, "com.inaccel.xgboost.exact"),
        "xilinx/u280": Resource("xilinx/u280", {"u280": 1}),
    }


def test_both_is_the_board_and_every_accelerator_that_fits():
    found = catalogue.read(
        section(
            publish={"u250": "both"},
            resources={"a": "example.org/a", "b": "example.org/b", "c": "example.org/c", "u250": "xilinx/u250"},
            replicas={"a": {"u250": 2}, "b": {"u250": 1}, "c": {"u200": 1}},
        )
    )
    assert found.problems == ()
    assert {name: dict(resource.copies) for name, resource in found.resources.items()} == {
        "xilinx/u250": {"u250": 1},
        "example.org/a": {"u250": 2},
        "example.org/b": {"u250": 1},
    }


def test_ids_of_devices_name_their_board():
    board, copies = Resource("xilinx/u280", {"u280": 1}), Resource("example.org/a", {"u250": 4}, "a")
    assert board.devices("0000:3b:00", "u280") == ("0000:3b:00",)
    assert copies.devices("0000:3b:00", "u250") == ("0000:3b:00/0", "0000:3b:00/1", "0000:3b:00/2", "0000:3b:00/3")
    assert {catalogue.slot_of(device) for device in copies.devices("0000:3b:00", "u250")} == {"0000:3b:00"}


def test_an_image_comes_with_the_accelerator():
    found = catalogue.read(section(publish={"aws-vu47p-f2": "com.inaccel.xgboost.exact"}))
    (resource,) = found.resources.values()
    assert resource.images == {"aws-vu47p-f2": IMAGE}


@pytest.mark.parametrize("nothing", [None, {"stack": "inaccel"}, {"stack": "amd", "publish": {"u250": "boards"}}])
def test_a_host_of_another_stack_or_of_none_publishes_nothing(nothing):
    assert catalogue.read(nothing) == catalogue.Catalogue()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"publish": {"u999": "boards", "u280": "boards"}}, "fpga.publish.u999: found a board that is not known, expected one of u200, u250"),
        ({"publish": {"u250": "nobody", "u280": "boards"}}, "fpga.publish.u250: found 'nobody', expected one of boards, both, com.inaccel.xgboost.exact"),
        ({"publish": {"u250": 7, "u280": "boards"}}, "fpga.publish.u250: found 7"),
        ({"replicas": {"com.inaccel.xgboost.exact": {"u250": 0}}}, "found 0, expected how many copies fit on one board, 1 or more"),
        ({"replicas": {"com.inaccel.xgboost.exact": {"u250": -2}}}, "found -2, expected how many copies"),
        ({"replicas": {"com.inaccel.xgboost.exact": {"u250": "4"}}}, "found '4', expected how many copies"),
        ({"replicas": {"com.inaccel.xgboost.exact": {"u250": True}}}, "found True, expected how many copies"),
        ({"replicas": "many"}, "fpga.replicas: found 'many', expected a mapping"),
        ({"resources": {"com.inaccel.xgboost.exact": "com.inaccel.xgboost.exact", "u280": "xilinx/u280"}}, "expected a resource that Kubernetes takes"),
        ({"resources": {"com.inaccel.xgboost.exact": "kubernetes.io/fpga", "u280": "xilinx/u280"}}, "expected a resource that Kubernetes takes"),
        ({"resources": {"com.inaccel.xgboost.exact": f"example.org/{'x' * 64}", "u280": "xilinx/u280"}}, "expected a resource that Kubernetes takes"),
        ({"resources": {"com.inaccel.xgboost.exact": ["a"], "u280": "xilinx/u280"}}, "expected a resource that Kubernetes takes"),
        ({"resources": {"u280": "xilinx/u280"}}, "fpga.resources.com.inaccel.xgboost.exact: found None"),
        ({"images": {"com.inaccel.xgboost.exact": {"u250": "afi-0fedcba9876543210"}}}, "the regional id that EC2's API goes by, expected the global id, agfi-"),
        ({"images": {"com.inaccel.xgboost.exact": {"u250": "agfi-xyz"}}}, "found 'agfi-xyz', expected the global id"),
    ],
)
def test_what_is_wrong_is_left_out_and_the_rest_is_published(changes, says):
    found = catalogue.read(section(**changes))
    assert any(says in problem for problem in found.problems), found.problems
    assert list(found.resources) == ["xilinx/u280"]


def test_two_accelerators_with_one_resource_are_both_left_out():
    found = catalogue.read(
        section(
            publish={"u250": "a", "u200": "b", "u280": "boards"},
            resources={"a": "example.org/x", "b": "example.org/x", "u280": "xilinx/u280"},
            replicas={"a": {"u250": 1}, "b": {"u200": 1}},
        )
    )
    assert list(found.resources) == ["xilinx/u280"]
    assert [problem.split(",")[0] for problem in found.problems] == ["fpga.resources.a: found example.org/x", "fpga.resources.b: found example.org/x"]


def test_copies_that_are_not_shared_must_divide_the_largest():
    replicas = {"a": {"u250": 4, "u200": 3}}
    found = catalogue.read(section(publish={"u250": "a", "u200": "a"}, resources={"a": "example.org/a"}, replicas=replicas, shared={"a": False}))
    assert "fpga.replicas.a.u200: found 3 with shared: false, expected a divisor of its largest, 4" in found.problems[0]
    assert found.resources["example.org/a"].copies == {"u250": 4}


def test_a_file_that_is_not_there_is_waited_for(tmp_path):
    found = catalogue.load(tmp_path / "node.json")
    assert found.resources == {}
    assert "is not there yet" in found.problems[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '"fpga"', '{"fpga": 3}', '{"fpga": []}'])
def test_a_file_that_is_none_says_so(tmp_path, text):
    path = tmp_path / "node.json"
    path.write_text(text)
    found = catalogue.load(path)
    assert found.resources == {}
    assert str(path) in found.problems[0]


def test_a_file_with_a_section(tmp_path):
    path = tmp_path / "node.json"
    path.write_text(json.dumps({"schema": 1, "fpga": section()}))
    assert list(catalogue.load(path).resources) == ["inaccel.com/xgboost.exact", "xilinx/u280"]
