# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the policies are made of. What an API server makes of them: tests/integration/admission."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.filter.fpga_policy import fpga_policy
from ansible_collections.fpga.hybrid.plugins.module_utils._fpga_policy import PREFIXES, PolicyError, parse_policy

CATALOGUE = {
    "com.inaccel.xgboost.exact": {"resource": "inaccel.com/xgboost.exact", "replicas": {"u250": 4}},
    "adder": {"resource": "xilinx/adder", "replicas": {"u250": 4}},
}


def test_catalogue_and_pools_are_known_by_name_and_boards_by_their_prefix():
    policy = parse_policy(CATALOGUE, [{"resources": {"cpu": "4", "vendor.example/card": "1"}}, {}], ["a.example/b", "c.example/*"], "30m", "24h")
    assert policy.names == ("inaccel.com/xgboost.exact", "vendor.example/card", "a.example/b")
    assert policy.prefixes == (*PREFIXES, "c.example/")
    assert (policy.tolerance, policy.deadline) == (1800, 86400)


@pytest.mark.parametrize("name", ["fpga", "*", "kubernetes.io/*", "example.org/fp*ga", "cpu", "Example.org/*", 'x/"'])
def test_a_name_that_is_no_device_s_is_refused(name):
    with pytest.raises(PolicyError, match=r"fpga_policy_resources: found .*; expected names as example\.org/fpga"):
        parse_policy({}, [], [name], "30m", "24h")


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(PolicyError) as error:
        parse_policy({"a": {}}, [], ["x"], "30", "1 day")
    variables = {problem.variable for problem in error.value.problems}
    assert {"fpga_policy_resources", "cluster_fpga_outage_tolerance", "cluster_fpga_pod_deadline"} < variables


def test_without_a_deadline_there_is_no_policy_for_jobs_and_a_former_one_goes():
    made = fpga_policy({}, "mutating", pod_deadline="0s")
    assert "activeDeadlineSeconds" not in json.dumps(made["objects"])
    assert made["absent"][:2] == ["mutatingadmissionpolicybinding/fpga-hybrid-jobs", "validatingadmissionpolicybinding/fpga-hybrid-pods-must-say"]


def test_what_pods_do_not_share_is_asked_for_by_whole_boards_of_the_largest_kind():
    alone = {"adder": {"resource": "example.org/adder", "replicas": {"u250": 4, "u50": 2}, "shared": False}}
    assert parse_policy({**CATALOGUE, **alone}, [], [], "30m", "24h").whole == {"example.org/adder": 4}
    for kind, wanted in (("mutating", True), ("validating", True), ("none", False)):
        assert ("fpga-hybrid-whole-boards" in json.dumps(fpga_policy(alone, kind)["objects"])) is wanted
    assert "validatingadmissionpolicy/fpga-hybrid-whole-boards" in fpga_policy(CATALOGUE, "mutating")["absent"]


@pytest.mark.parametrize("kind", ["mutating", "mutating_v1beta1", "validating", "none"])
def test_of_every_kind_what_is_not_wanted_goes(kind):
    made = fpga_policy({}, kind)
    there = {f"{value['kind'].lower()}/{value['metadata']['name']}" for value in made["objects"]}
    assert not there & set(made["absent"])
    assert len(there) + len(made["absent"]) == 10


def test_an_unknown_kind_is_said():
    with pytest.raises(AnsibleFilterError, match="fpga_policy_kind: found 'webhook'; expected one of mutating, mutating_v1beta1, validating"):
        fpga_policy({}, "webhook")
