# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an on-prem host publishes: computed, refused with a sentence, and understood by the device plugin, which is tested with the same sections as pools'."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.filter.on_prem_fpga import FilterModule
from ansible_collections.fpga.hybrid.plugins.module_utils._declaration import HOST_VARIABLES, Host, validate
from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import shipped_types
from ansible_collections.fpga.hybrid.plugins.module_utils._node import node_violations
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError, parse_accelerators, parse_cluster, parse_pools
from ansible_collections.fpga.hybrid.plugins.module_utils._on_prem_fpga import KNOWN_BOARDS, on_prem_fpga, published
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import make_template
from fpga_device_plugin import catalogue
from fpga_device_plugin.boards import KINDS
from fpga_device_plugin.ownership import Ownership
from tests.unit.roles.fpga_device_plugin.test_ownership import board

XGBOOST = "com.inaccel.xgboost.exact"
CATALOGUE = {XGBOOST: {"resource": "inaccel.com/xgboost.exact", "replicas": {"u250": 4, "aws-vu47p-f2": 2}, "images": {}, "shared": True}}
TWO = {**CATALOGUE, "org.example.adder": {"resource": "example.org/adder", "replicas": {"u250": 1, "u280": 2}}}


def section(publish=None, stack="fpga_device_plugin", accelerators=None):
    return on_prem_fpga("worker1", publish or {}, stack, parse_accelerators(CATALOGUE if accelerators is None else accelerators))


def test_the_plugin_knows_the_same_boards():
    assert set(KNOWN_BOARDS) == set(KINDS)


def test_a_board_is_published_as_the_accelerator_that_fits_it_else_as_itself():
    found = section()
    assert found["publish"] == {**dict.fromkeys(KNOWN_BOARDS, "boards"), "u250": XGBOOST, "aws-vu47p-f2": XGBOOST}
    assert found["resources"][XGBOOST] == "inaccel.com/xgboost.exact"
    assert found["resources"]["u280"] == "xilinx/u280"
    assert "u250" not in found["resources"]


def test_a_host_may_say_otherwise():
    found = section({"u250": "boards"})
    assert found["publish"]["u250"] == "boards"
    assert found["resources"]["u250"] == "xilinx/u250"


def test_a_board_may_be_left_alone_in_the_pools_own_word():
    """Also where several accelerators fit it: none of them is to be named then."""
    found = section({"u250": "none", "u280": "boards"}, accelerators=TWO)
    assert "u250" not in found["publish"]
    assert catalogue.read(found).problems == ()
    assert published(found, {"u250": 2, "u280": 1}) == told(found, {"u250": 2, "u280": 1}) == {"xilinx/u280": 1}


def test_both_brings_the_boards_name_and_every_accelerators():
    found = section({"u250": "both", "u280": "boards"}, accelerators=TWO)
    assert found["publish"]["u250"] == "both"
    assert {"u250", XGBOOST, "org.example.adder"} <= set(found["resources"])


def test_without_a_catalogue_all_boards_are_published_as_themselves():
    assert set(section(accelerators={})["publish"].values()) == {"boards"}


def test_a_host_without_a_stack_has_no_section_and_one_of_another_stack_an_empty_one():
    assert section(stack="none") is None
    assert section(stack="inaccel") == {"stack": "inaccel", "publish": {}, "resources": {}, "replicas": {}, "images": {}, "shared": {}}


@pytest.mark.parametrize(
    ("publish", "stack", "accelerators", "says"),
    [
        ({}, "fpga_device_plugin", TWO, f"fpga_publish: 2 accelerators fit u250: {XGBOOST}, org.example.adder; expected one of them named"),
        ({"u999": "boards"}, "fpga_device_plugin", CATALOGUE, "fpga_publish.u999: no such board; expected one of u200, u250"),
        ({"u250": "nobody"}, "fpga_device_plugin", CATALOGUE, f"fpga_publish.u250: found 'nobody'; expected one of boards, both, none, {XGBOOST}"),
        ({"u280": XGBOOST}, "fpga_device_plugin", CATALOGUE, f"accelerator {XGBOOST} fits no u280 (it fits: u250, aws-vu47p-f2)"),
        ({"u280": "both"}, "fpga_device_plugin", CATALOGUE, "found both, and no accelerator fits u280"),
        ({"u250": 4}, "fpga_device_plugin", CATALOGUE, "fpga_publish.u250: found 4"),
        (["u250"], "fpga_device_plugin", CATALOGUE, "fpga_publish: found ['u250']; expected a mapping"),
        ({}, "xilinx", CATALOGUE, "fpga_stack: found 'xilinx'; expected one of fpga_device_plugin, inaccel, amd, none"),
        ({}, ["inaccel", "amd"], CATALOGUE, "a host has exactly one"),
        ({"u250": "boards"}, "amd", CATALOGUE, "fpga_publish: found u250 beside fpga_stack: amd; expected fpga_stack: fpga_device_plugin"),
    ],
)
def test_a_mistake_is_refused_with_what_to_do(publish, stack, accelerators, says):
    with pytest.raises(PoolError) as refused:
        on_prem_fpga("worker1", publish, stack, parse_accelerators(accelerators))
    assert f"worker1, {says}" in str(refused.value) or says in str(refused.value)


def test_the_filter_says_the_same():
    on_prem = FilterModule().filters()["on_prem_fpga"]
    assert on_prem({}, "worker1", accelerators=CATALOGUE) == section()
    with pytest.raises(AnsibleFilterError, match="worker1, fpga_stack: found 'x'"):
        on_prem({}, "worker1", "x")


def node(fpga):
    return {
        "schema": 1, "cluster_name": "lab", "cluster_id": "1", "pool": None, "labels": {}, "taints": [], "startup_taints": [], "resources": {}, "reserved": {},
        "provider_id": None, "vpn": None, "aws": None, "ignore_preflight": [], "fpga": fpga,
    }  # fmt: skip


@pytest.mark.parametrize("stack", ["fpga_device_plugin", "inaccel", "amd", "none"])
def test_node_json_may_hold_it(stack):
    assert node_violations(node(section(stack=stack))) == []


# --- what the declaration's check makes of it


DECLARED = {"fpga_publish", "fpga_stack"}


def problems(hosts, accelerators):
    found = validate({"cluster_accelerators": accelerators}, hosts)
    return [problem for problem in found if problem.variable.startswith(("fpga_", "cluster_accelerators"))]


def test_the_declarations_check_reads_both_host_variables():
    assert set(HOST_VARIABLES) >= DECLARED


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"fpga_stack": ["inaccel", "amd"]}, "worker1, fpga_stack: found ['inaccel', 'amd']"),
        ({"fpga_stack": "amd", "fpga_publish": {"u250": "boards"}}, "worker1, fpga_publish: found u250 beside fpga_stack: amd"),
        ({"node_labels": {"fpga.hybrid/stack": "amd"}}, "worker1, node_labels.fpga.hybrid/stack: found amd beside fpga_stack: fpga_device_plugin"),
        ({"node_labels": {"inaccel/fpga": "enabled"}}, "worker1, node_labels.inaccel/fpga: found enabled beside fpga_stack: fpga_device_plugin"),
        ({"fpga_stack": "amd", "node_labels": {"inaccel/fpga": "enabled"}}, "worker1, node_labels.inaccel/fpga: found enabled beside fpga_stack: amd"),
        ({"fpga_stack": "none", "node_labels": {"fpga.hybrid/stack": "inaccel"}}, "worker1, node_labels.fpga.hybrid/stack: found inaccel"),
    ],
)
def test_two_stacks_on_one_node_are_refused_by_host_and_variable(variables, says):
    found = validate({"cluster_accelerators": {}}, [Host("worker1", False, variables)])
    assert [problem for problem in map(str, found) if says in problem]


@pytest.mark.parametrize(
    "variables",
    [
        {"fpga_stack": "amd", "node_labels": {"fpga.hybrid/stack": "amd"}},
        {"fpga_stack": "inaccel", "node_labels": {"inaccel/fpga": "enabled", "fpga.hybrid/stack": "inaccel"}},
        {"node_labels": {"inaccel/fpga": "disabled"}},
    ],
)
def test_a_label_that_brings_no_second_stack_stays(variables):
    found = validate({"cluster_accelerators": {}}, [Host("worker1", False, variables)])
    assert [problem for problem in found if "stack" in str(problem)] == []


def test_a_worker_is_checked_and_a_control_plane_alone_is_not():
    ambiguous = [Host("worker1", False, {}), Host("cp1", True, {}, is_worker=False)]
    assert [problem.host for problem in problems(ambiguous, TWO)] == ["worker1"]


def test_a_wrong_catalogue_is_told_once():
    hosts = [Host("worker1", False, {}), Host("worker2", False, {})]
    (problem,) = problems(hosts, {XGBOOST: {"resource": "inaccel.com/xgboost.exact", "replicas": {"u250": 0}}})
    assert "found 0; expected how many copies fit on one board" in str(problem)


# --- what the kubelet will report: the plugin's devices, the pool's tags, and the shared function say the same


def told(fpga, boards):
    """What the plugin tells the kubelet for these boards."""
    found = catalogue.read(fpga)
    assert found.problems == ()
    kinds = [kind for kind, count in boards.items() for _number in range(count)]
    there = [board(f"0000:{number:02x}:00", kind) for number, kind in enumerate(kinds)]
    plugin = Ownership(known=True, resources=found.resources, boards={one.slot: one for one in there})
    counts = {resource: len(plugin.devices(resource)) for resource in found.resources}
    return {resource: count for resource, count in counts.items() if count}


@pytest.mark.parametrize("instance_type", ["f2.6xlarge", "f2.12xlarge", "f2.48xlarge", "f1.2xlarge", "f1.4xlarge"])
@pytest.mark.parametrize("publish", ["boards", XGBOOST])
def test_a_pools_template_is_what_its_nodes_plugin_tells(instance_type, publish):
    image = "agfi-0fedcba9876543210"
    entry = {
        **CATALOGUE[XGBOOST],
        "replicas": {"aws-vu47p-f2": 2, "aws-vu9p-f1": 2},
        "images": {"aws-vu47p-f2": {"us-east-1": image}, "aws-vu9p-f1": {"us-east-1": image}},
    }
    declared = {
        "name": "p",
        "instance_type": instance_type,
        "max_size": 1,
        "publish": publish,
        "allow_retired": True,
        "availability_zones": ["us-east-1a"],
        "image": "ami-0123456789abcdef0",
    }
    (pool,) = parse_pools([declared], "lab")
    cluster = parse_cluster({"name": "lab", "id": "1", "kubernetes_version": "1.36", "region": "us-east-1"})
    template = make_template(pool, cluster, shipped_types(), parse_accelerators({XGBOOST: entry}))
    boards = shipped_types()[instance_type].boards()
    promised = {name: quantity.value for name, quantity in template.resources.items() if "/" in name}
    assert told(template.fpga, boards) == published(template.fpga, boards) == promised


@given(
    boards=st.dictionaries(st.sampled_from(KNOWN_BOARDS), st.integers(1, 4)),
    publish=st.fixed_dictionaries(
        {"u250": st.sampled_from(["boards", "both", "none", XGBOOST, "org.example.adder"]), "u280": st.sampled_from(["boards", "both", "none"])}
    ),
)
def test_an_on_prem_node_gives_what_the_shared_function_says(boards, publish):
    found = section(publish, accelerators=TWO)
    assert told(found, boards) == published(found, boards)


def test_nothing_is_published_without_a_section_or_by_another_stack():
    assert published(None, {"u250": 1}) == {}
    assert published(section(stack="amd"), {"u250": 1}) == {}
