# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters are views of the node template; their examples run as they are written."""

from __future__ import annotations

from importlib import import_module

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

NAMES = ("node_template_tags", "node_template_node", "node_template_user_data", "node_template_expected")
CLUSTER = {"name": "lab", "id": "6b1f0f5e", "kubernetes_version": "1.36", "region": "us-east-1"}
POOL = {"name": "f2", "instance_type": "f2.6xlarge", "max_size": 2, "availability_zones": ["us-east-1a"]}


def plugin(name):
    return import_module(f"ansible_collections.fpga.hybrid.plugins.filter.{name}")


def call(name, *arguments):
    return plugin(name).FilterModule().filters()[name](*arguments)


def test_each_filter_shows_one_rendering():
    assert call("node_template_tags", POOL, CLUSTER)["k8s.io/cluster-autoscaler/node-template/resources/xilinx/aws-vu47p-f2"] == "1"
    assert call("node_template_node", POOL, CLUSTER)["resources"]["xilinx/aws-vu47p-f2"] == "1"
    assert call("node_template_user_data", POOL, CLUSTER).startswith("#cloud-config\n")
    assert call("node_template_expected", POOL, CLUSTER)["taints"] == ["fpga.hybrid/fpga=:NoSchedule"]


@pytest.mark.parametrize("name", NAMES)
def test_a_mistake_ends_in_the_message_of_the_pool(name):
    with pytest.raises(AnsibleFilterError, match="pool f2, publish: found 'adder'; expected one of boards, none"):
        call(name, {**POOL, "publish": "adder"}, CLUSTER)


def test_types_that_aws_was_asked_for_win_over_the_shipped_ones():
    types = {
        "f2.6xlarge": {"name": "f2.6xlarge", "vcpus": 2, "memory": 9000, "architecture": "x86_64", "devices": [{"name": "U30", "count": 3}], "retired": None}
    }
    assert call("node_template_expected", POOL, CLUSTER, {}, types)["resources"]["xilinx/u30"] == "3"


@pytest.mark.parametrize("name", NAMES)
def test_the_example_runs_as_written(name):
    (task,) = yaml.safe_load(plugin(name).EXAMPLES)
    shown = Templar(loader=DataLoader(), variables=task["vars"]).template(trust_as_template(task["ansible.builtin.debug"]["msg"]))
    assert shown == call(name, task["vars"]["pool"], task["vars"]["cluster"])
