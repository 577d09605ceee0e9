# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the way of node pools: quotas and rights. What AWS is asked for is tested with the lab's AWS (tests/unit/test_pools.py)."""

from __future__ import annotations

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._iam import Simulation
from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import shipped_types
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import parse_pools
from ansible_collections.fpga.hybrid.plugins.module_utils._pools_preflight import QuotaNeed, missing_actions, quota_needs

TYPES = shipped_types()


def needs(*pools):
    found, unknown = quota_needs(parse_pools([{"availability_zones": ["us-east-1a"], **pool} for pool in pools], "lab"), TYPES)
    return {need.code: (need.needed, need.pools) for need in found}, unknown


def test_pools_of_one_family_count_together_at_their_largest():
    assert needs(
        {"name": "one", "instance_type": "f2.6xlarge", "max_size": 4},
        {"name": "two", "instance_type": "f2.12xlarge", "max_size": 4},
        {"name": "old", "instance_type": "f1.2xlarge", "max_size": 1, "allow_retired": True},
    ) == ({"L-74FC7D96": (4 * 24 + 4 * 48 + 8, ("one", "two", "old"))}, [])


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ({"instance_type": "vt1.3xlarge", "max_size": 2}, {"L-DB2E81BA": (24, ("p",))}),
        ({"instance_type": "f2.6xlarge", "max_size": 2, "spot": True}, {"L-88CF9481": (48, ("p",))}),
        ({"instance_type": "f2.6xlarge", "max_size": 0}, {}),
        (
            {"instance_type": "f2.6xlarge", "max_size": 4, "mixed": {"instance_types": ["f2.12xlarge"], "on_demand_base": 1, "on_demand_percentage": 50}},
            {"L-74FC7D96": (3 * 48, ("p",)), "L-88CF9481": (48, ("p",))},
        ),
        (
            {"instance_type": "f2.6xlarge", "max_size": 4, "spot": True, "mixed": {"on_demand_base": 1}},
            {"L-74FC7D96": (24, ("p",)), "L-88CF9481": (72, ("p",))},
        ),
        ({"instance_type": "f2.6xlarge", "max_size": 4, "mixed": {"on_demand_base": 9}}, {"L-74FC7D96": (96, ("p",))}),
    ],
)
def test_each_way_of_buying_has_its_own_quota(pool, expected):
    assert needs({"name": "p", **pool})[0] == expected


def test_a_family_whose_quota_is_not_known_is_named():
    assert needs({"name": "p", "instance_type": "p5.48xlarge", "max_size": 1}) == ({}, ["p5.48xlarge"])


def test_a_quota_that_is_too_small_says_both_figures_and_both_ways_out():
    problem = QuotaNeed("L-74FC7D96", "Running On-Demand F instances", 288, ("one", "two"), 96.0).problem("us-east-1")
    assert str(problem) == (
        "cluster_node_pools: 288 vCPUs needed by one, two, 96 granted by quota Running On-Demand F instances (L-74FC7D96) in us-east-1; expected a quota that "
        "all pools at their max_size fit into, since a larger instance is refused at the moment that a job waits for it. "
        "288 needed, 96 granted: lower max_size or request 288 (Service Quotas, Amazon EC2; takes AWS about a day)."
    )


@pytest.mark.parametrize("granted", [288.0, 1000.0, None])
def test_a_quota_that_is_enough_or_unknown_is_no_problem(granted):
    assert QuotaNeed("L-74FC7D96", "F", 288, ("one",), granted).problem("us-east-1") is None


def test_missing_actions_are_named_with_what_they_are_missing_on():
    on_groups, anywhere = Simulation(("a:Make", "a:Change"), "arn:group", ()), Simulation(("a:List",), "*", ())
    answers = [
        (on_groups, [{"EvalActionName": "a:Make", "EvalDecision": "implicitDeny"}, {"EvalActionName": "a:Change", "EvalDecision": "allowed"}]),
        (anywhere, [{"EvalActionName": "a:List", "EvalDecision": "explicitDeny"}]),
    ]
    assert missing_actions(answers) == ["a:List", "a:Make on arn:group"]
