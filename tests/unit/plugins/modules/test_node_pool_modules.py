# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three modules as Ansible runs them, with AWS in memory."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import CloudError
from ansible_collections.fpga.hybrid.plugins.modules import node_pool, node_pool_info, node_template_info
from tests.unit.plugins.module_utils.fake_aws import IMAGE, REGION, FakeAws

CLUSTER = {"name": "lab", "id": "id-1", "kubernetes_version": "1.36", "images": {"1.36": {REGION: IMAGE}}}
POOL = {"name": "f2", "instance_type": "f2.6xlarge", "max_size": 3, "availability_zones": [f"{REGION}a"]}


@pytest.fixture
def aws(monkeypatch):
    aws = FakeAws()
    for module in (node_pool, node_pool_info, node_template_info):
        monkeypatch.setattr(module, "Cloud", lambda _module, _region: aws)
    return aws


def run(module, check=False, **options):
    printed = io.StringIO()
    arguments = {"region": REGION, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp", **options}
    with patch_module_args(arguments), contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        module.main()
    return json.loads(printed.getvalue())


def test_node_pool_shows_in_check_mode_what_it_then_does(aws):
    checked = run(node_pool, check=True, cluster=CLUSTER, pools=[POOL])
    assert aws.writes == []
    done = run(node_pool, cluster=CLUSTER, pools=[POOL])
    assert {key: checked[key] for key in ("changed", "pools", "calls", "diff")} == {key: done[key] for key in ("changed", "pools", "calls", "diff")}
    (pool,) = done["pools"]
    assert (pool["state"], pool["resources"]["xilinx/aws-vu47p-f2"]) == ("created", "1")
    assert not run(node_pool, cluster=CLUSTER, pools=[POOL])["changed"]


def test_node_pool_tells_of_a_mistake_without_asking_aws(aws):
    assert run(node_pool, cluster=CLUSTER, pools=[{**POOL, "max_size": -1}])["msg"].startswith("pool f2, max_size: found -1")
    assert aws.asked == []


def test_node_pool_tells_which_pools_are_done(aws):
    aws.refuses["SuspendProcesses"] = CloudError("no", "AccessDenied")
    result = run(node_pool, cluster=CLUSTER, pools=[POOL])
    assert (result["failed"], result["changed"], result["done_pools"], result["failed_pools"]) == (True, True, [], {"f2": "no"})


def test_node_pool_removes(aws):
    run(node_pool, cluster=CLUSTER, pools=[POOL])
    result = run(node_pool, cluster=CLUSTER, pools=[{"name": "f2"}], state="absent")
    assert [pool["state"] for pool in result["pools"]] == ["removed"]
    assert aws.groups_there == aws.templates_there == {}


def test_node_pool_info_lists_ours_with_what_the_autoscaler_reads(aws):
    run(node_pool, cluster=CLUSTER, pools=[POOL])
    aws.start("lab-f2", 1)
    (pool,) = run(node_pool_info, cluster={"name": "lab", "id": "id-1"})["pools"]
    assert (pool["name"], pool["desired_capacity"], len(pool["instances"])) == ("f2", 1, 1)
    assert (pool["labels"]["fpga.hybrid/pool"], pool["taints"], pool["resources"]["xilinx/aws-vu47p-f2"]) == ("f2", ["fpga.hybrid/fpga=:NoSchedule"], "1")
    assert run(node_pool_info, cluster={"name": "another", "id": "id-1"})["pools"] == []
    assert "cluster.name" in run(node_pool_info, cluster={"name": "a b", "id": "id-1"})["msg"]


def test_node_template_info_asks_aws_only_for_what_it_does_not_know(aws):
    result = run(node_template_info, cluster=CLUSTER, pools=[POOL, {**POOL, "name": "old", "instance_type": "f1.2xlarge", "allow_retired": True}])
    assert aws.asked == []
    assert [template["resources"].get("xilinx/aws-vu9p-f1") for template in result["templates"]] == [None, "1"]
    assert result["templates"][0]["tags"]["k8s.io/cluster-autoscaler/enabled"] == "true"
    assert "which AWS doesn't know" in run(node_template_info, cluster=CLUSTER, pools=[{**POOL, "instance_type": "f9.large"}])["msg"]
    assert [operation for operation, _parameters in aws.asked] == ["DescribeInstanceTypes"]
