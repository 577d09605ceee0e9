# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The AWS part of a declaration, checked without asking AWS."""

from __future__ import annotations

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._aws_declaration import aws_problems

POOL = {"name": "f2-6xlarge", "instance_type": "f2.6xlarge", "max_size": 2, "availability_zones": ["us-east-1a"]}
GOOD = {
    "cluster_name": "lab",
    "cluster_aws_region": "us-east-1",
    "cluster_aws_endpoint_url": "",
    "cluster_aws_account_id": "",
    "cluster_aws_images": {"1.36": {"us-east-1": "ami-0123456789abcdef0"}},
    "cluster_aws_credentials": {"keeper": "/root/keeper.aws"},
    "cluster_ssm_prefix": "/fpga-hybrid/lab",
    "cluster_node_pools": [POOL, {**POOL, "name": "f2-12xlarge", "instance_type": "f2.12xlarge"}],
    "cluster_accelerators": {"adder": {"resource": "example.org/adder", "replicas": {"u250": 4}}},
    "cluster_cloud_limits": {"instances": 4, "instance_hours_per_day": 24},
    "cluster_orphan_timeout": {"idle": "1h", "busy": "4h"},
    "cluster_fpga_outage_tolerance": "30m",
    "cluster_fpga_pod_deadline": "24h",
}


def problems(**changes) -> list[str]:
    return [str(problem) for problem in aws_problems({**GOOD, **changes})]


def test_a_sound_declaration_has_no_problem():
    assert problems() == []


def test_an_instance_may_be_told_to_wait_for_seconds_only():
    assert problems(cluster_orphan_timeout={"idle": "40s", "busy": "1m20s"}) == []


def test_a_cluster_without_pools_needs_no_region():
    assert problems(cluster_node_pools=[], cluster_aws_region=None) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cluster_aws_region": None}, "cluster_aws_region: found nothing; expected an AWS region as us-east-1. Say which."),
        ({"cluster_aws_region": "Frankfurt"}, "cluster_aws_region: found 'Frankfurt'; expected an AWS region"),
        ({"cluster_aws_endpoint_url": "localhost:5000"}, "cluster_aws_endpoint_url: found 'localhost:5000'; expected an URL"),
        ({"cluster_aws_account_id": 123456789012}, "cluster_aws_account_id: found 123456789012; expected twelve digits in quotes"),
        ({"cluster_aws_account_id": "1234"}, "cluster_aws_account_id: found '1234'; expected twelve digits in quotes"),
        ({"cluster_aws_images": {"1.36": "ami-0123456789abcdef0"}}, "cluster_aws_images.1.36: found 'ami-0123456789abcdef0'; expected region: ami-"),
        ({"cluster_aws_credentials": "/root/key"}, "cluster_aws_credentials: found '/root/key'; expected a mapping with keeper or autoscaler"),
        ({"cluster_aws_credentials": {"kepper": "/root/key"}}, "cluster_aws_credentials.kepper: found it; expected keeper or autoscaler"),
        ({"cluster_aws_credentials": {"keeper": "AKIA:secret"}}, "cluster_aws_credentials.keeper: found no absolute path; expected a file"),
        ({"cluster_ssm_prefix": "fpga"}, "cluster_ssm_prefix: found 'fpga'; expected a path as /fpga-hybrid/lab"),
        ({"cluster_ssm_prefix": "/aws/lab"}, "cluster_ssm_prefix: found /aws/lab; expected a path that AWS doesn't keep for itself"),
        ({"cluster_node_pools": {"name": "x"}}, "cluster_node_pools: found {'name': 'x'}; expected a list of pools"),
        ({"cluster_node_pools": [{**POOL, "max_sise": 2}]}, "pool f2-6xlarge, max_sise: no such key"),
        ({"cluster_node_pools": [POOL, POOL]}, "pool f2-6xlarge, name: f2-6xlarge is that of another pool too"),
        ({"cluster_accelerators": {"adder": {"resource": "adder", "replicas": {"u250": 1}}}}, "cluster_accelerators['adder'].resource: found 'adder'"),
        ({"cluster_fpga_outage_tolerance": 30}, "cluster_fpga_outage_tolerance: found 30; expected a duration as 45s, 30m or 1h30m. Write a unit"),
        ({"cluster_fpga_outage_tolerance": "4m59s"}, "cluster_fpga_outage_tolerance: found 4m59s; expected at least 5m, what Kubernetes itself waits"),
        ({"cluster_fpga_pod_deadline": "1 day"}, "cluster_fpga_pod_deadline: found '1 day'; expected a duration"),
        ({"cluster_orphan_timeout": {"idle": "1h"}}, "cluster_orphan_timeout: found {'idle': '1h'}; expected a mapping with idle and busy"),
        ({"cluster_orphan_timeout": None}, "cluster_orphan_timeout: found None; expected a mapping with idle and busy"),
        ({"cluster_orphan_timeout": {"idle": 3600, "busy": "4h"}}, "cluster_orphan_timeout.idle: found 3600; expected a duration as 45s"),
        ({"cluster_orphan_timeout": {"idle": "29s", "busy": "4h"}}, "cluster_orphan_timeout.idle: found 29s; expected at least 30s, in which an API server"),
        ({"cluster_orphan_timeout": {"idle": "2h", "busy": "1h59m"}}, "cluster_orphan_timeout.busy: found 1h59m; expected at least what an idle one waits, 2h"),
        (
            {"cluster_cloud_limits": {"instances": 4}},
            "cluster_cloud_limits: found {'instances': 4}; expected a mapping with instances and",
        ),
        ({"cluster_cloud_limits": {"instances": -1, "instance_hours_per_day": 24}}, "cluster_cloud_limits.instances: found -1; expected a whole number"),
        ({"cluster_cloud_limits": {"instances": True, "instance_hours_per_day": 24}}, "cluster_cloud_limits.instances: found True; expected a whole number"),
        ({"cluster_cloud_limits": {"instances": "0", "instance_hours_per_day": 24}}, "cluster_cloud_limits.instances: found '0'; expected a whole number, 1"),
        ({"cluster_cloud_limits": {"instances": "", "instance_hours_per_day": 24}}, "cluster_cloud_limits.instances: found ''; expected a whole number, 1 or"),
        ({"cluster_cloud_limits": None}, "cluster_cloud_limits: found None; expected a mapping with instances and instance_hours_per_day (null for no"),
    ],
)
def test_what_is_wrong_is_said_with_its_variable(changes, message):
    assert any(found.startswith(message) for found in problems(**changes)), problems(**changes)


def test_pools_that_may_cost_more_than_the_limit_are_refused_with_the_sum():
    (problem,) = problems(cluster_node_pools=[{**POOL, "max_size": 3}, {**POOL, "name": "big", "max_size": 4}])
    assert problem == (
        "cluster_cloud_limits.instances: the pools may run 7 instances at once (f2-6xlarge 3 + big 4); expected at most 4. "
        "Lower max_size, or raise cluster_cloud_limits.instances to 7, if that many may be paid for."
    )


def test_instances_that_always_run_count_by_the_hour():
    (problem,) = problems(cluster_node_pools=[{**POOL, "min_size": 2}])
    assert problem == (
        "cluster_cloud_limits.instance_hours_per_day: min_size keeps 2 instances running, 48 instance-hours a day; expected at most 24. "
        "Lower min_size, or raise cluster_cloud_limits.instance_hours_per_day to 48, if that much may be paid for."
    )
    assert problems(cluster_node_pools=[{**POOL, "min_size": 2}], cluster_cloud_limits={"instances": "4", "instance_hours_per_day": "48"}) == []


def test_zero_is_refused_as_it_says_two_things_and_each_has_its_own_word():
    (problem,) = problems(cluster_cloud_limits={"instances": 4, "instance_hours_per_day": 0})
    assert problem == (
        "cluster_cloud_limits.instance_hours_per_day: found 0; expected a whole number, 1 or more, or null for no ceiling. "
        "0 is neither: write null for no ceiling, and max_size: 0 in each pool where nothing may be started."
    )
    assert problems(cluster_node_pools=[{**POOL, "max_size": 0}]) == [], "what the sentence advises is taken"


def test_null_is_no_ceiling_of_one_kind_and_leaves_the_other():
    """What a person has left open is refused nothing; what stands beside it holds."""
    many = [{**POOL, "min_size": 2, "max_size": 50}]
    assert problems(cluster_node_pools=many, cluster_cloud_limits={"instances": None, "instance_hours_per_day": None}) == []
    (problem,) = problems(cluster_node_pools=many, cluster_cloud_limits={"instances": None, "instance_hours_per_day": 24})
    assert problem.startswith("cluster_cloud_limits.instance_hours_per_day: min_size keeps 2 instances running")
    (problem,) = problems(cluster_node_pools=many, cluster_cloud_limits={"instances": 4, "instance_hours_per_day": None})
    assert problem.startswith("cluster_cloud_limits.instances: the pools may run 50 instances at once")
