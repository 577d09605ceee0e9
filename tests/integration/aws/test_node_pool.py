# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_pool against moto, as it is and with AWS' manners. What holds for every call on the wire is checked by conftest.py (check_call)."""

from __future__ import annotations

import base64
import copy
import json
from functools import partial

import botocore.session
import pytest
from botocore.serialize import create_serializer

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_plan import user_data_sum

CLUSTER_ID = "6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b"
DEBIAN, ARM, TUTORIAL = "ami-0d0d0d0d0d0d0d0d1", "ami-0d0d0d0d0d0d0d0d2", "ami-02e0c24a82677f084"
CLUSTER = {"name": "InAccel", "id": CLUSTER_ID, "kubernetes_version": "1.36", "images": {"1.36": {"us-east-1": DEBIAN}}}
XGBOOST = {
    "com.inaccel.xgboost.exact": {
        "resource": "inaccel.com/xgboost.exact",
        "replicas": {"aws-vu9p-f1": 2, "aws-vu47p-f2": 2},
        "images": {"aws-vu47p-f2": {"us-east-1": "agfi-0123456789abcdef0"}},
    }
}
SMALL = {"name": "f2-6xlarge", "instance_type": "f2.6xlarge", "max_size": 2, "availability_zones": ["us-east-1a", "us-east-1b"]}
LARGE = {**SMALL, "name": "f2-12xlarge", "instance_type": "f2.12xlarge", "tags": {"team": "research"}}
OLD = {"name": "f1", "instance_type": "f1.2xlarge", "max_size": 2, "availability_zones": ["us-east-1a"], "allow_retired": True, "kind": "launch_configuration"}
GROUP = "InAccel-f2-6xlarge"


class Cloud:
    """What a test does and looks at."""

    def __init__(self, moto, module):
        self.moto, self._module = moto, module
        self.autoscaling, self.ec2 = moto.client("autoscaling"), moto.client("ec2")

    def run(self, *pools, check=False, cluster=None, **options):
        self.moto.forget()
        given = {"cluster": {**CLUSTER, **(cluster or {})}, "accelerators": XGBOOST, "pools": list(pools), **options}
        return self._module("node_pool", given, check=check)

    def apply(self, *pools, **options):
        result = self.run(*pools, **options)
        assert not result.get("failed"), result["msg"]
        return result

    def refuse(self, *pools, **options):
        """The message of a run that must fail before it writes anything, checked or not."""
        for check in (True, False):
            result = self.run(*pools, check=check, **options)
            assert result.get("failed"), result
            assert self.moto.writes == []
        return result["msg"]

    def group(self, name=GROUP):
        found = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        return found[0] if found else None

    def tags(self, name=GROUP):
        return {tag["Key"]: tag["Value"] for tag in self.group(name)["Tags"]}

    def groups(self):
        return sorted(group["AutoScalingGroupName"] for group in self.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"])

    def templates(self):
        return sorted(template["LaunchTemplateName"] for template in self.ec2.describe_launch_templates()["LaunchTemplates"])

    def versions(self, name=GROUP):
        pages = self.ec2.get_paginator("describe_launch_template_versions").paginate(LaunchTemplateName=name)
        return {version["VersionNumber"]: version["LaunchTemplateData"] for page in pages for version in page["LaunchTemplateVersions"]}

    def start(self, number, name=GROUP):
        """What the autoscaler does."""
        self.autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=number)

    def foreign_group(self, name, **tags):
        self.ec2.create_launch_template(LaunchTemplateName=f"{name}-template", LaunchTemplateData={"ImageId": DEBIAN, "InstanceType": "m5.large"})
        self.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=1,
            AvailabilityZones=["us-east-1a"],
            LaunchTemplate={"LaunchTemplateName": f"{name}-template"},
            Tags=[
                {"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()
            ],
        )


@pytest.fixture
def cloud(moto, module):
    return Cloud(moto, module)


on_plain_moto_too = pytest.mark.parametrize("moto", ["moto", "aws_like"], indirect=True)
SERIALIZERS = {"autoscaling": create_serializer("query"), "ec2": create_serializer("ec2")}
MODELS = {name: botocore.session.get_session().get_service_model(name) for name in SERIALIZERS}


def on_the_wire(planned):
    """A planned call in the form in which the server records one."""
    model = MODELS[planned["service"]].operation_model(planned["operation"])
    body = SERIALIZERS[planned["service"]].serialize_to_request(copy.deepcopy(planned["parameters"]), model)["body"]
    return planned["operation"], {key: str(value) for key, value in body.items() if key not in ("Action", "Version")}


def recorded(call):
    """A recorded call without what botocore makes up, its user-data as a plan shows it."""
    params = {key: value for key, value in call.params.items() if key != "ClientToken"}
    sums = {key: user_data_sum(base64.b64decode(value)) for key, value in params.items() if key.endswith("UserData")}
    return call.operation, params | sums


def in_order_within_pools(calls):
    """Pools are done at the same time, so only the order within one is fixed."""
    name = ("AutoScalingGroupName", "LaunchTemplateName", "LaunchTemplateId", "LaunchConfigurationName", "Tags.member.1.ResourceId")
    return sorted(
        calls, key=lambda call: next((call[1][key].rsplit("-", 1)[0] if key == "LaunchConfigurationName" else call[1][key]) for key in name if key in call[1])
    )


def assert_check_told_the_truth(checked, done, moto):
    """Check mode planned exactly the calls that the run then made, and showed the same differences."""
    planned = [on_the_wire(call) for call in checked["calls"]]
    assert in_order_within_pools(planned) == in_order_within_pools([recorded(call) for call in moto.writes])
    assert {key: checked[key] for key in ("changed", "pools", "calls", "diff")} == {key: done[key] for key in ("changed", "pools", "calls", "diff")}


# --- making and keeping


@on_plain_moto_too
def test_pools_are_made_and_a_second_run_writes_nothing(cloud, moto):
    checked = cloud.run(SMALL, LARGE, check=True)
    assert moto.writes == []
    done = cloud.apply(SMALL, LARGE)
    assert_check_told_the_truth(checked, done, moto)
    assert [pool["state"] for pool in done["pools"]] == ["created", "created"]
    group = cloud.group()
    assert (group["MinSize"], group["MaxSize"], group["DesiredCapacity"]) == (0, 2, 0)
    assert group["LaunchTemplate"]["Version"] == "1"
    assert [process["ProcessName"] for process in group["SuspendedProcesses"]] == ["AZRebalance"]
    again = cloud.apply(SMALL, LARGE)
    assert (again["changed"], again["calls"], again["diff"], moto.writes) == (False, [], [], [])


@on_plain_moto_too
@pytest.mark.parametrize("kind", ["launch_template", "launch_configuration"])
def test_the_tutorial_s_two_groups_have_the_tags_that_its_commands_make(cloud, kind):
    pools = [
        {
            "name": name,
            "group_name": name,
            "instance_type": name.replace("-", "."),
            "image": TUTORIAL,
            "key_name": "tutorial",
            "max_size": 4,
            "availability_zones": ["us-east-1a", "us-east-1b", "us-east-1c"],
            "dedicated": False,
            "allow_retired": True,
            "propagate_template_tags": True,
            "kind": kind,
        }
        for name in ("f1-2xlarge", "f1-4xlarge")
    ]
    cloud.apply(*pools)
    for name, boards in (("f1-2xlarge", "1"), ("f1-4xlarge", "2")):
        of_the_tutorial = [
            {"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": key, "Value": value, "PropagateAtLaunch": True}
            for key, value in (
                ("k8s.io/cluster-autoscaler/enabled", "true"),
                ("k8s.io/cluster-autoscaler/InAccel", "owned"),
                ("k8s.io/cluster-autoscaler/node-template/label/node.kubernetes.io/instance-type", name.replace("-", ".")),
                ("k8s.io/cluster-autoscaler/node-template/resources/xilinx/aws-vu9p-f1", boards),
            )
        ]
        found = cloud.group(name)["Tags"]
        assert [tag for tag in of_the_tutorial if tag not in found] == []
        further = {tag["Key"].removeprefix("k8s.io/cluster-autoscaler/node-template/") for tag in found if tag not in of_the_tutorial}
        assert further == {
            "fpga.hybrid/cluster-id",
            "fpga.hybrid/pool",
            "label/fpga.hybrid/pool",
            "label/topology.kubernetes.io/region",
            *(f"resources/{name}" for name in ("cpu", "memory", "pods", "ephemeral-storage")),
        }
    assert not cloud.apply(*pools)["changed"]


@on_plain_moto_too
def test_six_pools_cost_at_most_eight_calls_when_nothing_is_to_do(cloud, moto):
    pools = [{**SMALL, "name": f"f2-{number}"} for number in range(6)]
    cloud.apply(*pools)
    assert not cloud.apply(*pools)["changed"]
    assert len(moto.calls()) <= 2 + len(pools)
    assert moto.writes == []


def test_many_launch_configurations_are_read_in_one_call(cloud, moto):
    pools = [{**OLD, "name": f"f1-{number}"} for number in range(6)]
    cloud.apply(*pools)
    assert not cloud.apply(*pools)["changed"]
    assert [call.operation for call in moto.calls()] == ["DescribeAutoScalingGroups", "DescribeLaunchConfigurations"]


def test_instances_volumes_and_interfaces_carry_the_cost_tags(cloud):
    cloud.apply(LARGE)
    tags = {one["ResourceType"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in cloud.versions("InAccel-f2-12xlarge")[1]["TagSpecifications"]}
    tags.pop("launch-template", None)  # moto keeps the template's own tags in its first version
    whose = {"fpga.hybrid/cluster-id": CLUSTER_ID, "fpga.hybrid/pool": "f2-12xlarge", "team": "research"}
    assert tags == {"instance": whose, "volume": whose, "network-interface": whose}
    cloud.start(1, "InAccel-f2-12xlarge")
    (instance,) = cloud.ec2.describe_instances()["Reservations"][0]["Instances"]
    started = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert {"fpga.hybrid/cluster-id": CLUSTER_ID, "fpga.hybrid/pool": "f2-12xlarge", "team": "research"}.items() <= started.items()
    assert not any(key.startswith("k8s.io/") for key in started)


SUBNETS = "subnets of moto's default VPC"
CHANGES = {
    "max_size": {"max_size": 5},
    "label": {"labels": {"inaccel/fpga": "enabled"}},
    "taint": {"taints": ["example.org/a=b:NoExecute"]},
    "not dedicated": {"dedicated": False},
    "accelerator": {"publish": "com.inaccel.xgboost.exact"},
    "another type": {"instance_type": "f2.12xlarge"},
    "tag": {"tags": {"team": "research", "cost": "17"}},
    "image": {"image": "ami-03cf127a"},
    "zones": {"availability_zones": ["us-east-1b", "us-east-1c"]},
    "root volume": {"root_volume": {"size": 120, "iops": 4000, "throughput": 200}},
    "key and profile": {"key_name": "admin", "instance_profile": "nodes"},
    "security groups": {"security_groups": ["sg-0123456789abcdef0", "sg-0123456789abcdef1"]},
    "spot": {"spot": True},
    "spot with a price": {"spot": {"max_price": 1.5}},
    "memory": {"memory_overhead_percent": 3, "resources": {"cpu": 20}},
    "passed on tags": {"propagate_template_tags": True},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_one_change_is_written_as_check_mode_says_and_settles(cloud, moto, change):
    cloud.apply(SMALL, LARGE)
    changed = {**SMALL, **change}
    checked = cloud.run(changed, LARGE, check=True)
    assert (checked["changed"], moto.writes) == (True, [])
    done = cloud.apply(changed, LARGE)
    assert_check_told_the_truth(checked, done, moto)
    assert [pool["state"] for pool in done["pools"]] == ["changed", "unchanged"]
    assert done["diff"][0]["before"] != done["diff"][0]["after"]
    assert (cloud.apply(changed, LARGE)["changed"], moto.writes) == (False, [])
    back = cloud.apply(SMALL, LARGE)
    assert back["changed"]
    assert (cloud.apply(SMALL, LARGE)["changed"], moto.writes) == (False, [])


@on_plain_moto_too
def test_only_what_differs_is_sent(cloud, moto):
    cloud.apply(SMALL)
    cloud.apply({**SMALL, "max_size": 5})
    (write,) = moto.writes
    assert (write.operation, write.params) == ("UpdateAutoScalingGroup", {"AutoScalingGroupName": GROUP, "MaxSize": "5"})


def test_a_former_version_serves_again_instead_of_a_new_one(cloud, moto):
    for pool in (SMALL, {**SMALL, "labels": {"a": "b"}}, SMALL):
        cloud.apply(pool)
    assert not moto.calls("CreateLaunchTemplateVersion")
    assert cloud.group()["LaunchTemplate"]["Version"] == "1"


def test_user_data_is_in_the_diff_by_its_sum_only(cloud):
    result = cloud.run(SMALL, check=True)
    assert "#cloud-config" not in json.dumps(result["diff"]) + json.dumps(result["calls"])
    after = json.loads(result["diff"][0]["after"])
    assert set(after["content"]["UserData"]) == {"sha256", "size"}


def test_pools_may_stand_in_subnets(cloud, moto):
    subnets = [subnet["SubnetId"] for subnet in cloud.ec2.describe_subnets()["Subnets"] if subnet["AvailabilityZone"] in ("us-east-1a", "us-east-1b")]
    pool = {**SMALL, "subnets": subnets, "availability_zones": None}
    cloud.apply(pool)
    assert set(cloud.group()["VPCZoneIdentifier"].split(",")) == set(subnets)
    assert not cloud.apply({**pool, "subnets": list(reversed(subnets))})["changed"]
    assert [call.operation for call in cloud.apply({**pool, "subnets": subnets[:1]}) and moto.writes] == ["UpdateAutoScalingGroup"]
    # A group in subnets cannot be taken out of them; the same zones are as good.
    zone = {**SMALL, "availability_zones": cloud.group()["AvailabilityZones"]}
    assert "UpdateAutoScalingGroup" not in [call.operation for call in cloud.apply(zone) and moto.writes if "VPCZoneIdentifier" in call.params]
    assert "availability_zones: the group is in subnets of" in cloud.refuse({**SMALL, "availability_zones": ["us-east-1c"]})


def test_the_image_may_come_from_a_parameter_if_its_root_device_is_said(cloud):
    pool = {**SMALL, "image": "resolve:ssm:/images/f2", "root_volume": {"device": "/dev/xvda"}}
    cloud.apply(pool)
    assert cloud.versions()[1]["ImageId"] == "resolve:ssm:/images/f2"
    assert not cloud.apply(pool)["changed"]


def test_the_root_volume_is_the_image_s_own(cloud):
    """A mapping with another name would be a second, encrypted volume beside a root that isn't."""
    cloud.apply(SMALL, {**LARGE, "image": TUTORIAL})
    devices = [cloud.versions(name)[1]["BlockDeviceMappings"][0]["DeviceName"] for name in (GROUP, "InAccel-f2-12xlarge")]
    assert devices == ["/dev/xvda", "/dev/sda1"]


# --- tags


@on_plain_moto_too
def test_more_than_25_tags_are_written_in_batches_and_the_autoscaler_s_mark_last(cloud, moto):
    pool = {**SMALL, "tags": {f"cost-{number:02}": str(number) for number in range(36)}}
    checked = cloud.run(pool, check=True)
    done = cloud.apply(pool)
    assert_check_told_the_truth(checked, done, moto)
    assert len(cloud.tags()) == 50
    (create,) = moto.calls("CreateAutoScalingGroup")
    assert sum(key.endswith(".Key") for key in create.params) == 25
    assert "k8s.io/cluster-autoscaler/enabled" not in create.params.values()
    assert {"fpga.hybrid/cluster-id", "k8s.io/cluster-autoscaler/InAccel"} <= set(create.params.values())
    assert "k8s.io/cluster-autoscaler/enabled" in moto.writes[-1].params.values()
    assert not cloud.apply(pool)["changed"]
    cloud.apply({**pool, "tags": dict.fromkeys(pool["tags"], "new")})
    assert [call.operation for call in moto.writes].count("CreateOrUpdateTags") == 2
    cloud.apply({**pool, "tags": {}})
    assert [call.operation for call in moto.writes].count("DeleteTags") == 2
    assert len(cloud.tags()) == 13


@on_plain_moto_too
def test_a_tag_of_somebody_else_s_is_left_alone(cloud, moto):
    cloud.apply(LARGE)
    name = "InAccel-f2-12xlarge"
    cloud.autoscaling.create_or_update_tags(
        Tags=[{"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": "backup", "Value": "no", "PropagateAtLaunch": True}]
    )
    assert (cloud.apply(LARGE)["changed"], moto.writes) == (False, [])
    cloud.apply({**LARGE, "tags": {}})
    assert cloud.tags(name)["backup"] == "no"
    assert "team" not in cloud.tags(name)
    assert (cloud.apply({**LARGE, "tags": {}})["changed"], moto.writes) == (False, [])


def test_a_tag_that_the_template_decides_is_mended(cloud, moto):
    cloud.apply(SMALL)
    prefix = "k8s.io/cluster-autoscaler/node-template"
    strange = [(f"{prefix}/resources/xilinx/aws-vu47p-f2", "4"), (f"{prefix}/label/gone", "x")]
    cloud.autoscaling.create_or_update_tags(
        Tags=[{"ResourceId": GROUP, "ResourceType": "auto-scaling-group", "Key": key, "Value": value, "PropagateAtLaunch": False} for key, value in strange]
    )
    cloud.apply(SMALL)
    assert sorted(call.operation for call in moto.writes) == ["CreateOrUpdateTags", "DeleteTags"]
    assert cloud.tags()[f"{prefix}/resources/xilinx/aws-vu47p-f2"] == "1"
    assert f"{prefix}/label/gone" not in cloud.tags()


def test_too_many_foreign_tags_are_said_before_anything_is_written(cloud):
    cloud.apply(SMALL)
    tags = [{"ResourceId": GROUP, "ResourceType": "auto-scaling-group", "Key": f"x{number}", "Value": "", "PropagateAtLaunch": False} for number in range(20)]
    cloud.autoscaling.create_or_update_tags(Tags=tags)
    said = cloud.refuse({**SMALL, "tags": {f"cost-{number}": "1" for number in range(20)}})
    assert said.startswith("pool f2-6xlarge, tags: 34 tags beside 20 on the group that are not ours; expected at most 50")


def test_an_autoscaler_option_is_a_tag_like_others(cloud):
    option = "k8s.io/cluster-autoscaler/node-template/autoscaling-options/scaledownunneededtime"
    cloud.apply({**SMALL, "tags": {option: "5m"}})
    assert cloud.tags()[option] == "5m"
    cloud.apply(SMALL)
    assert option not in cloud.tags()


# --- capacity belongs to the autoscaler


@on_plain_moto_too
def test_the_autoscaler_moves_capacity_between_read_and_write(cloud, moto):
    """It starts two instances while we change the maximum: they stay."""
    cloud.apply(SMALL)
    moto.before("UpdateAutoScalingGroup", partial(cloud.start, 2))
    cloud.apply({**SMALL, "max_size": 3})
    group = cloud.group()
    assert (group["DesiredCapacity"], len(group["Instances"]), group["MaxSize"]) == (2, 2, 3)


@pytest.mark.parametrize("operation", ["CreateLaunchTemplateVersion", "DeleteTags", "UpdateAutoScalingGroup", "CreateOrUpdateTags"])
def test_the_autoscaler_moves_capacity_at_any_time_of_a_change(cloud, moto, operation):
    cloud.apply({**SMALL, "tags": {"team": "x"}})
    moto.before(operation, partial(cloud.start, 2))
    cloud.apply({**SMALL, "max_size": 3, "tags": {"owner": "lab"}})
    group = cloud.group()
    assert (group["DesiredCapacity"], len(group["Instances"]), cloud.tags()["owner"]) == (2, 2, "lab")


@pytest.mark.parametrize(
    ("size", "change", "said"),
    [
        (0, {"min_size": 1}, "pool f2-6xlarge, min_size: found 1, which starts 1 instance: the group has 0; expected at most 0 without force"),
        (2, {"max_size": 1}, "pool f2-6xlarge, max_size: found 1, which ends 1 of 2 instances ({0}, {1}); expected at least 2 without force"),
    ],
)
def test_sizes_that_start_or_end_instances_need_force(cloud, moto, size, change, said):
    cloud.apply(SMALL)
    cloud.start(size)
    ids = sorted(one["InstanceId"] for one in cloud.group()["Instances"])
    assert cloud.refuse({**SMALL, **change}).startswith(said.format(*ids))
    checked = cloud.run({**SMALL, **change}, check=True, force=True)
    (pool,) = checked["pools"]
    assert (pool["starts"] + pool["ends"], pool["instances"]) == (1, ids)
    done = cloud.apply({**SMALL, **change}, force=True)
    assert_check_told_the_truth(checked, done, moto)
    assert cloud.group()["DesiredCapacity"] == 1


def test_a_new_pool_that_starts_instances_needs_force(cloud):
    pool = {**SMALL, "min_size": 1}
    assert "min_size: found 1, which starts 1 instance" in cloud.refuse(pool)
    cloud.apply(pool, force=True)
    assert len(cloud.group()["Instances"]) == 1
    assert not cloud.apply(pool)["changed"]


def test_sizes_within_which_the_group_stands_need_no_force(cloud):
    cloud.apply(SMALL)
    cloud.start(1)
    cloud.apply({**SMALL, "min_size": 1, "max_size": 1})
    assert cloud.group()["DesiredCapacity"] == 1


# --- removing


@on_plain_moto_too
def test_absent_removes_group_and_template_and_says_so_before(cloud, moto):
    cloud.apply(SMALL, LARGE)
    checked = cloud.run({"name": "f2-6xlarge"}, check=True, state="absent")
    assert moto.writes == []
    done = cloud.apply({"name": "f2-6xlarge"}, state="absent")
    assert [call.operation for call in moto.writes] == ["DeleteAutoScalingGroup", "DeleteLaunchTemplate"]
    assert_check_told_the_truth(checked, done, moto)
    assert (cloud.groups(), cloud.templates()) == (["InAccel-f2-12xlarge"], ["InAccel-f2-12xlarge"])
    assert not cloud.apply({"name": "f2-6xlarge"}, state="absent")["changed"]


def test_a_group_with_instances_is_removed_by_force_only(cloud, moto):
    cloud.apply(SMALL)
    cloud.start(2)
    ids = ", ".join(sorted(one["InstanceId"] for one in cloud.group()["Instances"]))
    assert f"state: removing group {GROUP} ends 2 instances ({ids}); expected an empty group without force" in cloud.refuse(SMALL, state="absent")
    (pool,) = cloud.run(SMALL, check=True, state="absent", force=True)["pools"]
    assert (pool["state"], pool["ends"]) == ("removed", 2)
    cloud.apply(SMALL, state="absent", force=True)
    assert cloud.groups() == []
    assert moto.calls("DeleteAutoScalingGroup")[0].params["ForceDelete"] == "true"


def test_an_instance_that_comes_between_read_and_removal_is_not_ended(cloud, moto):
    cloud.apply(SMALL)
    moto.before("DeleteAutoScalingGroup", partial(cloud.start, 1))
    result = cloud.run(SMALL, state="absent")
    assert "ResourceInUse" in result["msg"]
    assert len(cloud.group()["Instances"]) == 1


@on_plain_moto_too
def test_purge_removes_what_is_ours_and_no_longer_declared(cloud, moto):
    cloud.apply(SMALL, LARGE, OLD)
    cloud.foreign_group("other", **{"k8s.io/cluster-autoscaler/InAccel": "owned", "fpga.hybrid/cluster-id": "another"})
    assert not cloud.apply(SMALL)["changed"]
    checked = cloud.run(SMALL, purge=True, check=True)
    done = cloud.apply(SMALL, purge=True)
    assert_check_told_the_truth(checked, done, moto)
    assert {pool["name"]: pool["state"] for pool in done["pools"]} == {"f2-6xlarge": "unchanged", "f2-12xlarge": "removed", "f1": "removed"}
    assert cloud.groups() == [GROUP, "other"]
    assert cloud.templates() == [GROUP, "other-template"]
    assert cloud.autoscaling.describe_launch_configurations()["LaunchConfigurations"] == []
    assert (cloud.apply(SMALL, purge=True)["changed"], moto.writes) == (False, [])


def test_purge_ends_no_instance_without_force(cloud):
    cloud.apply(SMALL, LARGE)
    cloud.start(1, "InAccel-f2-12xlarge")
    assert "pool f2-12xlarge, state: removing group InAccel-f2-12xlarge ends 1 instance" in cloud.refuse(SMALL, purge=True)


def test_purge_goes_on_where_an_earlier_run_ended(cloud, moto):
    """The group is gone, its launch template was not reached any more."""
    cloud.apply(SMALL, LARGE)
    moto.fail("DeleteLaunchTemplate", "InternalError", times=100)
    assert "Done: f2-6xlarge." in cloud.run(SMALL, purge=True)["msg"]
    moto.faults.clear()
    cloud.apply(SMALL, purge=True)
    assert [call.operation for call in moto.writes] == ["DeleteLaunchTemplate"]
    assert cloud.templates() == [GROUP]


# --- whose it is


@on_plain_moto_too
def test_a_group_of_another_cluster_of_the_same_name_is_left_alone(cloud):
    theirs = {"k8s.io/cluster-autoscaler/InAccel": "owned", "k8s.io/cluster-autoscaler/enabled": "true", "fpga.hybrid/cluster-id": "another"}
    cloud.foreign_group(GROUP, **theirs)
    before = cloud.group()
    assert f"pool f2-6xlarge, group_name: group {GROUP} is there and not ours" in cloud.refuse(SMALL)
    assert "is not ours" in cloud.refuse(SMALL, state="absent")
    cloud.apply(LARGE, purge=True)
    assert cloud.group() == before


@pytest.mark.parametrize("tags", [{}, {"k8s.io/cluster-autoscaler/InAccel": "owned"}, {"fpga.hybrid/cluster-id": CLUSTER_ID}])
def test_a_group_is_ours_by_both_tags_only(cloud, tags):
    cloud.foreign_group(GROUP, **tags)
    said = cloud.refuse(SMALL)
    assert f"expected one that carries fpga.hybrid/cluster-id={CLUSTER_ID} and k8s.io/cluster-autoscaler/InAccel=owned" in said


def test_a_launch_template_of_somebody_else_s_is_not_taken_over(cloud):
    cloud.ec2.create_launch_template(LaunchTemplateName=GROUP, LaunchTemplateData={"ImageId": DEBIAN})
    assert f"pool f2-6xlarge, group_name: launch template {GROUP} is there and not ours" in cloud.refuse(SMALL)
    assert not cloud.apply(SMALL, state="absent")["changed"]
    assert cloud.templates() == [GROUP]


# --- launch template versions


@on_plain_moto_too
def test_a_template_that_was_changed_by_hand_is_put_right_without_a_new_version(cloud, moto):
    cloud.apply(SMALL)
    data = copy.deepcopy(cloud.versions()[1]) | {"MetadataOptions": {"HttpTokens": "optional"}}
    data["TagSpecifications"] = [one for one in data["TagSpecifications"] if one["ResourceType"] != "launch-template"]
    cloud.ec2.create_launch_template_version(LaunchTemplateName=GROUP, SourceVersion="1", LaunchTemplateData=data)
    assert (cloud.apply(SMALL)["changed"], moto.writes) == (False, []), "a version that no group names harms nobody"
    for version in ("2", "$Latest"):
        cloud.autoscaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, LaunchTemplate={"LaunchTemplateName": GROUP, "Version": version})
        checked = cloud.run(SMALL, check=True)
        done = cloud.apply(SMALL)
        assert_check_told_the_truth(checked, done, moto)
        assert [call.operation for call in moto.writes] == ["UpdateAutoScalingGroup"]
        assert cloud.group()["LaunchTemplate"]["Version"] == "1"


def test_a_version_with_our_description_but_other_content_is_not_ours(cloud):
    cloud.apply(SMALL)
    (described,) = cloud.ec2.describe_launch_template_versions(LaunchTemplateName=GROUP)["LaunchTemplateVersions"]
    data = {**described["LaunchTemplateData"], "MetadataOptions": {"HttpTokens": "optional"}}
    data["TagSpecifications"] = [one for one in data["TagSpecifications"] if one["ResourceType"] != "launch-template"]
    cloud.ec2.create_launch_template_version(LaunchTemplateName=GROUP, VersionDescription=described["VersionDescription"], LaunchTemplateData=data)
    cloud.autoscaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, LaunchTemplate={"LaunchTemplateName": GROUP, "Version": "2"})
    cloud.apply(SMALL)
    assert cloud.group()["LaunchTemplate"]["Version"] == "1"


def test_a_template_that_was_made_anew_by_hand_is_named_anew(cloud, moto):
    """The group holds the id of the old one."""
    cloud.apply(SMALL)
    data = {key: value for key, value in cloud.versions()[1].items() if key in ("ImageId", "InstanceType")}
    cloud.ec2.delete_launch_template(LaunchTemplateName=GROUP)
    cloud.apply(SMALL)
    assert [call.operation for call in moto.writes] == ["CreateLaunchTemplate", "UpdateAutoScalingGroup"]
    assert cloud.group()["LaunchTemplate"]["LaunchTemplateId"] == cloud.ec2.describe_launch_templates()["LaunchTemplates"][0]["LaunchTemplateId"]
    assert data["InstanceType"] == "f2.6xlarge"
    assert not cloud.apply(SMALL)["changed"]


def test_old_versions_go_but_none_that_a_group_names(cloud, moto):
    cloud.apply(SMALL)
    cloud.autoscaling.create_auto_scaling_group(
        AutoScalingGroupName="other", MinSize=0, MaxSize=1, AvailabilityZones=["us-east-1a"], LaunchTemplate={"LaunchTemplateName": GROUP, "Version": "2"}
    ) if cloud.apply({**SMALL, "labels": {"a": "1"}}) else None
    for number in range(3, 6):
        cloud.apply({**SMALL, "labels": {"a": str(number)}}, keep_versions=10)
    assert sorted(cloud.versions()) == [1, 2, 3, 4, 5]
    checked = cloud.run({**SMALL, "labels": {"a": "6"}}, keep_versions=2, check=True)
    done = cloud.apply({**SMALL, "labels": {"a": "6"}}, keep_versions=2)
    assert_check_told_the_truth(checked, done, moto)
    assert [call.operation for call in moto.writes] == [
        "CreateLaunchTemplateVersion",
        "UpdateAutoScalingGroup",
        "CreateOrUpdateTags",
        "ModifyLaunchTemplate",
        "DeleteLaunchTemplateVersions",
    ]
    assert sorted(cloud.versions()) == [2, 5, 6]
    assert (cloud.apply({**SMALL, "labels": {"a": "6"}}, keep_versions=2)["changed"], moto.writes) == (False, [])


@pytest.mark.parametrize("named", ["$Latest", "$Default"])
def test_a_version_that_a_group_names_indirectly_stays_too(cloud, named):
    for number in range(4):
        cloud.apply({**SMALL, "labels": {"a": str(number)}})
    cloud.autoscaling.create_auto_scaling_group(
        AutoScalingGroupName="other",
        MinSize=0,
        MaxSize=1,
        AvailabilityZones=["us-east-1a"],
        MixedInstancesPolicy={
            "LaunchTemplate": {"LaunchTemplateSpecification": {"LaunchTemplateName": GROUP, "Version": named}, "Overrides": [{"InstanceType": "m5.large"}]}
        },
    )
    cloud.apply({**SMALL, "labels": {"a": "2"}}, keep_versions=1)
    assert sorted(cloud.versions()) == ([3, 4] if named == "$Latest" else [1, 3, 4])


def test_a_version_that_aws_does_not_delete_is_said(cloud, moto):
    for number in range(3):
        cloud.apply({**SMALL, "labels": {"a": str(number)}})
    moto.before("DeleteLaunchTemplateVersions", partial(cloud.ec2.modify_launch_template, LaunchTemplateName=GROUP, DefaultVersion="1"))
    said = cloud.run({**SMALL, "labels": {"a": "2"}}, keep_versions=1)["msg"]
    assert "ec2:DeleteLaunchTemplateVersions: version 1: the version is the default one, or not there. The pool itself is done." in said


# --- launch configurations


@on_plain_moto_too
def test_a_launch_configuration_is_made_used_and_replaced(cloud, moto):
    cloud.apply(OLD)
    first = cloud.group("InAccel-f1")["LaunchConfigurationName"]
    assert not cloud.apply(OLD)["changed"]
    changed = {**OLD, "spot": {"max_price": "0.5"}, "key_name": "admin", "instance_profile": "nodes", "security_groups": ["sg-0123456789abcdef0"]}
    checked = cloud.run(changed, check=True)
    done = cloud.apply(changed)
    assert_check_told_the_truth(checked, done, moto)
    assert [call.operation for call in moto.writes] == ["CreateLaunchConfiguration", "UpdateAutoScalingGroup", "DeleteLaunchConfiguration"]
    (left,) = cloud.autoscaling.describe_launch_configurations()["LaunchConfigurations"]
    assert left["LaunchConfigurationName"] == cloud.group("InAccel-f1")["LaunchConfigurationName"] != first
    assert (left["SpotPrice"], left["KeyName"]) == ("0.5", "admin")
    cloud.apply({"name": "f1"}, state="absent")
    assert (cloud.groups(), cloud.autoscaling.describe_launch_configurations()["LaunchConfigurations"]) == ([], [])


def test_cost_tags_reach_instances_of_a_launch_configuration_by_way_of_the_group(cloud):
    cloud.apply({**OLD, "tags": {"team": "research"}})
    cloud.start(1, "InAccel-f1")
    (instance,) = cloud.ec2.describe_instances()["Reservations"][0]["Instances"]
    assert {"team": "research", "fpga.hybrid/pool": "f1"}.items() <= {tag["Key"]: tag["Value"] for tag in instance["Tags"]}.items()


def test_a_pool_changes_between_configuration_and_template_and_leaves_nothing_behind(cloud, moto):
    cloud.apply(OLD)
    new = {**OLD, "kind": "launch_template"}
    for pool in (new, OLD):
        checked = cloud.run(pool, check=True)
        done = cloud.apply(pool)
        assert_check_told_the_truth(checked, done, moto)
        assert not cloud.apply(pool)["changed"]
        assert len(cloud.templates()) + len(cloud.autoscaling.describe_launch_configurations()["LaunchConfigurations"]) == 1


def test_a_launch_configuration_of_an_interrupted_run_is_taken(cloud, moto):
    moto.fail("CreateAutoScalingGroup", "InternalFailure", times=100)
    assert cloud.run(OLD)["failed"]
    moto.faults.clear()
    assert cloud.apply(OLD)["changed"]
    assert not cloud.apply(OLD)["changed"]


# --- mixed instances and spot


MIXED = {
    **SMALL,
    "name": "m",
    "instance_type": "m5.large",
    "mixed": {"instance_types": ["m6i.large"], "on_demand_base": 1, "on_demand_percentage": 25},
    "spot": {"max_price": "0.1"},
}


def test_mixed_instances_settle_and_a_change_of_size_leaves_the_policy_alone(cloud, moto):
    cloud.apply(MIXED)
    policy = cloud.group("InAccel-m")["MixedInstancesPolicy"]
    assert [one["InstanceType"] for one in policy["LaunchTemplate"]["Overrides"]] == ["m5.large", "m6i.large"]
    assert {key: str(value) for key, value in policy["InstancesDistribution"].items()} == {
        "OnDemandBaseCapacity": "1",
        "OnDemandPercentageAboveBaseCapacity": "25",
        "SpotAllocationStrategy": "price-capacity-optimized",
        "SpotMaxPrice": "0.1",
    }
    assert "InstanceMarketOptions" not in cloud.versions("InAccel-m")[1], "AWS refuses it beside a mixed policy"
    assert not cloud.apply(MIXED)["changed"]
    cloud.apply({**MIXED, "max_size": 7})
    assert [set(call.params) for call in moto.writes] == [{"AutoScalingGroupName", "MaxSize"}]
    assert not cloud.apply({**MIXED, "max_size": 7})["changed"]


@pytest.mark.parametrize(("spot", "percentage"), [(None, "100"), (True, "0")])
def test_mixed_instances_are_on_demand_unless_spot_is_asked_for(cloud, spot, percentage):
    cloud.apply({**MIXED, "mixed": {"instance_types": ["m6i.large"]}, "spot": spot})
    distribution = cloud.group("InAccel-m")["MixedInstancesPolicy"]["InstancesDistribution"]
    assert str(distribution["OnDemandPercentageAboveBaseCapacity"]) == percentage


@pytest.mark.parametrize(
    "change",
    [
        {"mixed": None, "spot": None},
        {"mixed": {"instance_types": ["m6i.large", "r5.large"]}},
        {"mixed": {"on_demand_percentage": 50}},
        {"instance_type": "m6i.large", "mixed": {}},
    ],
)
def test_a_mixed_policy_changes_as_check_mode_says_and_settles(cloud, moto, change):
    cloud.apply(MIXED)
    checked = cloud.run({**MIXED, **change}, check=True)
    done = cloud.apply({**MIXED, **change})
    assert_check_told_the_truth(checked, done, moto)
    assert (cloud.apply({**MIXED, **change})["changed"], moto.writes) == (False, [])


# --- several at once, and half-way


@pytest.mark.parametrize("operation", ["CreateLaunchTemplate", "CreateAutoScalingGroup", "SuspendProcesses"])
def test_two_runs_at_once_both_end_well(cloud, moto, module, operation):
    """The second comes as the first is about to write, and is faster."""
    others = []
    moto.before(operation, lambda: others.append(module("node_pool", {"cluster": CLUSTER, "pools": [SMALL, LARGE]})))
    ours = cloud.apply(SMALL, LARGE)
    assert not others[0].get("failed"), others[0]
    assert len(cloud.groups()) == len(cloud.templates()) == 2
    assert all(list(cloud.versions(name)) == [1] for name in cloud.templates())
    assert not cloud.apply(SMALL, LARGE)["changed"]
    assert ours["changed"] or others[0]["changed"]


def test_a_foreign_group_that_appears_meanwhile_is_not_touched(cloud, moto):
    moto.before("CreateAutoScalingGroup", partial(cloud.foreign_group, GROUP))
    assert f"group {GROUP} is there and not ours" in cloud.run(SMALL)["msg"]


def test_somebody_who_is_always_faster_is_named(cloud, moto):
    moto.fail("CreateLaunchTemplate", "InvalidLaunchTemplateName.AlreadyExistsException", times=100)
    assert f"somebody else changed group {GROUP} 3 times meanwhile. Run again." in cloud.run(SMALL)["msg"]


def test_a_failure_half_way_leaves_what_is_done_says_so_and_the_next_run_goes_on(cloud, moto):
    third = {**SMALL, "name": "f2-48xlarge", "instance_type": "f2.48xlarge"}
    moto.fail(
        "CreateAutoScalingGroup",
        "LimitExceeded",
        "You have reached the limit of groups.",
        times=100,
        when=lambda call: "48" in call.params["AutoScalingGroupName"],
    )
    result = cloud.run(SMALL, third, LARGE)
    assert result["msg"] == (
        "1 of 3 pools failed:\n"
        "- pool f2-48xlarge: autoscaling:CreateAutoScalingGroup: LimitExceeded: You have reached the limit of groups. Correct what it names, then run again.\n"
        "Done: f2-6xlarge, f2-12xlarge. Run again when that is mended: it goes on from there."
    )
    assert (result["done_pools"], list(result["failed_pools"])) == (["f2-6xlarge", "f2-12xlarge"], ["f2-48xlarge"])
    moto.faults.clear()
    done = cloud.apply(SMALL, third, LARGE)
    assert [pool["state"] for pool in done["pools"]] == ["unchanged", "created", "unchanged"]
    assert [call.operation for call in moto.writes] == ["CreateAutoScalingGroup", "SuspendProcesses"]
    assert not cloud.apply(SMALL, third, LARGE)["changed"]


@pytest.mark.parametrize("operation", ["CreateLaunchTemplateVersion", "DeleteTags", "UpdateAutoScalingGroup", "CreateOrUpdateTags"])
def test_wherever_a_change_is_cut_off_the_next_run_finishes_it(cloud, moto, operation):
    cloud.apply({**LARGE, "labels": {"old": "1"}})
    changed = {**LARGE, "labels": {"new": "1"}, "tags": {"cost": "1"}, "max_size": 9}
    moto.fail(operation, "InternalFailure", times=100)
    assert cloud.run(changed)["failed"]
    moto.faults.clear()
    cloud.apply(changed)
    assert not cloud.apply(changed)["changed"]
    tags = cloud.tags("InAccel-f2-12xlarge")
    assert "team" not in tags
    assert not any(key.endswith("label/old") for key in tags)
    assert (tags["cost"], cloud.group("InAccel-f2-12xlarge")["MaxSize"]) == ("1", 9)


# --- what only AWS can tell


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"instance_type": "f9.large"}, "pool f2-6xlarge, instance_type: found f9.large, which AWS doesn't know in us-east-1"),
        ({"instance_type": "f1.2xlarge"}, "pool f2-6xlarge, instance_type: found f1.2xlarge, which AWS ended on 2025-12-20"),
        (
            {"availability_zones": ["us-east-1a", "us-east-1e"]},
            "pool f2-6xlarge, availability_zones: f2.6xlarge isn't offered in us-east-1e; expected the zones that have it",
        ),
        ({"availability_zones": ["us-east-1z"]}, "f2.6xlarge isn't offered in us-east-1z"),
        ({"image": "ami-0badbadbadbadbad0"}, "pool f2-6xlarge, image: ami-0badbadbadbadbad0 isn't there in us-east-1"),
        ({"image": ARM}, f"pool f2-6xlarge, image: {ARM} is for arm64, f2.6xlarge is x86_64"),
        ({"image": "golden"}, "pool f2-6xlarge, image: found 'golden'; expected an AMI's id, or one of the cluster's images (1.36)"),
        ({"image": "resolve:ssm:/x"}, "pool f2-6xlarge, root_volume.device: resolve:ssm:/x says only at launch which image it is"),
        ({"root_volume": {"size": 9}}, "pool f2-6xlarge, root_volume.size: found 9 GiB, less than the 15 GiB of image"),
        ({"availability_zones": None, "subnets": ["subnet-0badbadbadbadbad0"]}, "pool f2-6xlarge, subnets: subnet-0badbadbadbadbad0 isn't there"),
        ({"publish": "com.inaccel.adder"}, "pool f2-6xlarge, publish: found 'com.inaccel.adder'"),
        ({"max_size": 1, "min_size": 2}, "pool f2-6xlarge, max_size: found 1; expected at least min_size, 2"),
        (
            {"root_volume": {"kms_key": "alias/x"}, **{key: OLD[key] for key in ("kind", "instance_type", "allow_retired")}},
            "root_volume.kms_key: found it in a launch configuration",
        ),
    ],
)
def test_bad_input_is_told_with_pool_and_key_before_the_first_write(cloud, change, said):
    assert said in cloud.refuse(LARGE, {**SMALL, **change})


def test_the_cluster_s_image_must_be_in_the_region(cloud):
    said = cloud.refuse(SMALL, cluster={"images": {"1.36": {"eu-west-2": DEBIAN}}})
    assert "pool f2-6xlarge, image: image 1.36 has no AMI in us-east-1 (it has: eu-west-2)" in said
    assert "found nothing, and no image '1.36' in the cluster's images" in cloud.refuse(SMALL, cluster={"images": {}})


def test_an_image_that_is_gone_is_told_also_where_the_root_device_is_declared(cloud):
    assert "isn't there in us-east-1" in cloud.refuse({**SMALL, "image": "ami-0badbadbadbadbad0", "root_volume": {"device": "/dev/xvda"}})


def test_a_second_region_in_the_cluster_is_refused(cloud):
    assert "cluster.region: found eu-west-2, beside region: us-east-1" in cloud.refuse(SMALL, cluster={"region": "eu-west-2"})


def test_another_account_s_credentials_write_nothing(cloud):
    said = cloud.refuse(SMALL, account_id="999999999999")
    assert said == "These credentials are of account 123456789012; expected account_id 999999999999. Take the right profile, or mend account_id."
    cloud.apply(SMALL, account_id="123456789012")


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("AuthFailure", 401, "AWS does not accept these credentials: check the profile or the keys, and this machine's clock."),
        ("InvalidClientTokenId", 403, "AWS does not accept these credentials"),
        ("UnauthorizedOperation", 403, "The identity lacks the action ec2:DescribeInstanceTypes: playbook iam writes the policies that are needed."),
        ("RequestLimitExceeded", 503, "AWS still throttles after several attempts: wait a minute, then run again; it goes on from there."),
    ],
)
def test_what_aws_refuses_is_told_with_what_to_do(cloud, moto, code, status, said):
    moto.fail("DescribeInstanceTypes", code, status=status, times=1000)
    assert said in cloud.refuse(SMALL)


def test_throttling_is_waited_out(cloud, moto):
    for operation in ("DescribeAutoScalingGroups", "CreateLaunchTemplate", "CreateAutoScalingGroup"):
        moto.fail(operation, "Throttling", status=400, times=2)
    moto.fail("DescribeInstanceTypes", "RequestLimitExceeded", status=503, times=2)
    cloud.apply(SMALL)
    assert cloud.groups() == [GROUP]


def test_a_group_that_is_busy_is_waited_for(cloud, moto):
    cloud.apply(SMALL)
    moto.fail("UpdateAutoScalingGroup", "ResourceContention", status=500, times=2)
    cloud.apply({**SMALL, "max_size": 5})
    assert cloud.group()["MaxSize"] == 5


def test_an_endpoint_that_is_down_is_told(cloud):
    said = cloud.refuse(SMALL, endpoint_url="http://127.0.0.1:9")
    assert "AWS could not be reached" in said
    assert "Check endpoint_url" in said


# --- the other modules


def test_node_pool_info_shows_what_the_autoscaler_reads(cloud, moto, module):
    cloud.apply(SMALL, LARGE, OLD)
    cloud.foreign_group("other", **{"k8s.io/cluster-autoscaler/InAccel": "owned"})
    cloud.start(1)
    moto.forget()
    pools = module("node_pool_info", {"cluster": {"name": "InAccel", "id": CLUSTER_ID}})["pools"]
    assert len(moto.calls()) == 1
    assert [pool["name"] for pool in pools] == ["f1", "f2-12xlarge", "f2-6xlarge"]
    small = pools[2]
    assert (small["desired_capacity"], len(small["instances"]), small["launch_template_version"]) == (1, 1, "1")
    assert small["taints"] == ["fpga.hybrid/fpga=:NoSchedule"]
    assert small["resources"]["xilinx/aws-vu47p-f2"] == "1"
    assert pools[0]["launch_configuration"].startswith("InAccel-f1-")


def test_node_template_info_asks_aws_only_for_types_that_it_does_not_know(moto, module):
    known = module("node_template_info", {"cluster": CLUSTER, "pools": [{**SMALL, "instance_type": "f2.48xlarge"}, {**OLD, "name": "old"}]})
    assert (moto.calls(), len(known["templates"])) == ([], 2)
    assert known["templates"][0]["resources"]["xilinx/aws-vu47p-f2"] == "8"
    assert known["table"].startswith("DescribeInstanceTypes in us-east-1")
    other = module("node_template_info", {"cluster": CLUSTER, "pools": [{**SMALL, "instance_type": "g5.xlarge"}]})
    assert [call.operation for call in moto.calls()] == ["DescribeInstanceTypes"]
    assert other["instance_types"]["g5.xlarge"]["vcpus"] == 4


def test_node_template_info_and_node_pool_agree(cloud, module):
    (shown,) = module("node_template_info", {"cluster": CLUSTER, "pools": [LARGE]})["templates"]
    cloud.apply(LARGE)
    assert cloud.tags("InAccel-f2-12xlarge") == shown["tags"]
    assert base64.b64decode(cloud.versions("InAccel-f2-12xlarge")[1]["UserData"]).decode() == shown["user_data"]


@pytest.mark.parametrize("name", ["node_pool_info", "node_template_info"])
def test_a_mistake_in_the_cluster_is_told_by_the_readers_too(moto, module, name):
    result = module(name, {"cluster": {"name": "a b", "id": "x"}, **({"pools": []} if name == "node_template_info" else {})})
    assert "cluster.name: found 'a b'" in result["msg"]
