# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's AWS, asked by real boto3 clients over HTTP."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

if TYPE_CHECKING:
    from lab.cloud.server import Cloud

ROOT = Path(__file__).resolve().parents[3]
ID = "5c9e8f6a-0000-4000-8000-000000000001"
OURS = {"fpga.hybrid/cluster-id": ID}


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def group_tag_list(tags: dict[str, str]) -> list[dict[str, Any]]:
    return [{**tag, "PropagateAtLaunch": True} for tag in tag_list(tags)]


def make_template(cloud: Cloud, name: str = "lab-f2", instance_type: str = "f2.6xlarge", tags: dict[str, str] | None = None, **data: Any) -> str:
    made = cloud.client("ec2").create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={"ImageId": "ami-0123456789abcdef0", "InstanceType": instance_type, **data},
        **({"TagSpecifications": [{"ResourceType": "launch-template", "Tags": tag_list(tags)}]} if tags else {}),
    )
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def make_group(cloud: Cloud, name: str = "lab-f2", *, zones: str = "ab", largest: int = 4, tags: dict[str, str] | None = None, **values: Any) -> None:
    cloud.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=name,
        **{
            "MinSize": 0,
            "MaxSize": largest,
            "AvailabilityZones": [f"us-east-1{zone}" for zone in zones],
            "Tags": group_tag_list(tags or {}),
            **({} if "LaunchConfigurationName" in values else {"LaunchTemplate": {"LaunchTemplateName": name, "Version": "1"}}),
            **values,
        },
    )


def scale(cloud: Cloud, desired: int, name: str = "lab-f2") -> None:
    cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=desired)


def group(cloud: Cloud, name: str = "lab-f2") -> dict[str, Any]:
    (found,) = cloud.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    return dict(found)


def activities(cloud: Cloud, name: str = "lab-f2") -> list[dict[str, Any]]:
    return list(cloud.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=name)["Activities"])


def instances(cloud: Cloud) -> list[dict[str, Any]]:
    return [instance for page in cloud.client("ec2").describe_instances()["Reservations"] for instance in page["Instances"]]


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


# ---- calls


def test_calls_are_recorded_with_who_made_them_and_what_they_asked(cloud: Cloud) -> None:
    reader = cloud.user("reader", allow("ec2:Describe*"))
    cloud.forget_calls()
    cloud.client("ec2", credentials=reader).describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])
    make_template(cloud)
    described, created = cloud.calls()
    assert (described["service"], described["action"], described["region"], described["status"]) == ("ec2", "DescribeInstances", "us-east-1", 200)
    assert described["identity"] == "arn:aws:iam::123456789012:user/reader"
    assert described["params"]["Filter.1.Value.1"] == "running"
    assert described["authorised"] == ["ec2:DescribeInstances"]
    assert created["identity"] == "arn:aws:iam::123456789012:root"
    assert [call["action"] for call in cloud.calls(writes=True)] == ["CreateLaunchTemplate"]
    cloud.forget_calls()
    assert cloud.calls() == []


def test_a_value_for_the_parameter_store_is_not_recorded(cloud: Cloud) -> None:
    cloud.client("ssm").put_parameter(Name="/a/b", Value="hunter2", Type="SecureString")
    assert "hunter2" not in json.dumps(cloud.calls())
    assert cloud.client("ssm").get_parameter(Name="/a/b", WithDecryption=True)["Parameter"]["Value"] == "hunter2"


def test_the_control_url_says_what_was_wrong_with_what_it_was_told(cloud: Cloud) -> None:
    with pytest.raises(ValueError, match="there are throttle, deny"):
        cloud.fault("earthquake")
    with pytest.raises(ValueError, match="a fault has no colour"):
        cloud.fault("throttle", colour="red")
    with pytest.raises(ValueError, match="no fault 99 is set"):
        cloud.lift(99)
    with pytest.raises(ValueError, match="no setting is called speed"):
        cloud.settings(speed=1)
    with pytest.raises(ValueError, match="there is no such thing"):
        cloud._ask("GET", "/nothing")


# ---- faults


@pytest.mark.parametrize(
    ("service", "ask", "expected"),
    [
        ("ec2", lambda client: client.describe_instances(), ("RequestLimitExceeded", 503)),
        ("autoscaling", lambda client: client.describe_auto_scaling_groups(), ("Throttling", 400)),
        ("ssm", lambda client: client.describe_parameters(), ("ThrottlingException", 400)),
        ("service-quotas", lambda client: client.list_service_quotas(ServiceCode="ec2"), ("TooManyRequestsException", 400)),
        ("iam", lambda client: client.list_roles(), ("Throttling", 400)),
    ],
)
def test_throttling_has_each_services_own_shape_and_boto3_retries_it(cloud: Cloud, service: str, ask: Any, expected: tuple[str, int]) -> None:
    cloud.fault("throttle", times=1)
    with pytest.raises(ClientError) as error:
        ask(cloud.client(service))
    assert code(error) == expected
    ask(cloud.client(service))  # the one time is over
    cloud.fault("throttle", times=1)
    ask(cloud.client(service, retries={"mode": "standard", "max_attempts": 2}))


@pytest.mark.parametrize(
    ("service", "ask", "expected"),
    [
        ("ec2", lambda client: client.describe_instances(), ("UnauthorizedOperation", 403)),
        ("autoscaling", lambda client: client.describe_auto_scaling_groups(), ("AccessDenied", 403)),
        ("ssm", lambda client: client.describe_parameters(), ("AccessDeniedException", 400)),
    ],
)
def test_denial_has_each_services_own_shape(cloud: Cloud, service: str, ask: Any, expected: tuple[str, int]) -> None:
    fault = cloud.fault("deny", service=service)
    with pytest.raises(ClientError) as error:
        ask(cloud.client(service))
    assert code(error) == expected
    cloud.lift(fault)
    ask(cloud.client(service))


def test_a_fault_concerns_only_what_it_names(cloud: Cloud) -> None:
    cloud.fault("error", service="ec2", action="Describe*s", region="eu-*", code="InternalError", status=500)
    cloud.client("ec2").describe_volumes()
    cloud.client("ec2", region="eu-west-2").create_security_group(GroupName="a", Description="b")
    with pytest.raises(ClientError) as error:
        cloud.client("ec2", region="eu-west-2").describe_volumes()
    assert code(error) == ("InternalError", 500)


def test_an_endpoint_that_is_down_hangs_up(cloud: Cloud) -> None:
    cloud.fault("down", service="ec2")
    with pytest.raises(ConnectionClosedError):
        cloud.client("ec2").describe_instances()
    assert cloud.calls("DescribeInstances")[0]["error"] == "hung up"
    cloud.lift()
    cloud.client("ec2").describe_instances()


def test_latency_is_recorded_as_it_was(cloud: Cloud) -> None:
    cloud.fault("latency", action="DescribeInstances", seconds=0.05, times=1)
    cloud.client("ec2").describe_instances()
    cloud.client("ec2").describe_volumes()
    slow, fast = cloud.calls()
    assert slow["seconds"] >= 0.05 > fast["seconds"]


# ---- Auto Scaling


def test_a_group_launches_into_its_zones_in_turn_and_says_so(cloud: Cloud) -> None:
    specifications = [{"ResourceType": kind, "Tags": tag_list({"cost": kind})} for kind in ("instance", "volume", "network-interface")]
    make_template(cloud, TagSpecifications=specifications, MetadataOptions={"HttpTokens": "required"})
    make_group(cloud, tags={"fpga.hybrid/pool": "f2"})
    scale(cloud, 3)
    zones = sorted(instance["Placement"]["AvailabilityZone"] for instance in instances(cloud))
    assert zones == ["us-east-1a", "us-east-1a", "us-east-1b"]
    for instance in instances(cloud):
        tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        assert tags.items() >= {"cost": "instance", "fpga.hybrid/pool": "f2", "aws:autoscaling:groupName": "lab-f2"}.items()
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
    ec2 = cloud.client("ec2")
    assert {tag["Value"] for volume in ec2.describe_volumes()["Volumes"] for tag in volume["Tags"]} == {"volume"}
    assert {tag["Value"] for nic in ec2.describe_network_interfaces()["NetworkInterfaces"] for tag in nic["TagSet"]} == {"network-interface"}
    assert [activity["StatusCode"] for activity in activities(cloud)] == ["Successful"] * 3
    assert activities(cloud)[0]["Description"].startswith("Launching a new EC2 instance: i-")


def test_without_capacity_the_desired_capacity_stays_and_an_activity_fails(cloud: Cloud) -> None:
    make_template(cloud)
    make_group(cloud)
    fault = cloud.fault("no_capacity", instance_type="f2.*", free=1)
    scale(cloud, 3)
    assert (group(cloud)["DesiredCapacity"], len(group(cloud)["Instances"])) == (3, 1)
    failed = activities(cloud)[0]
    assert failed["StatusCode"] == "Failed"
    assert "InsufficientInstanceCapacity" in failed["StatusMessage"]
    assert "f2.6xlarge" in failed["StatusMessage"]
    cloud.advance(5)
    assert len(activities(cloud)) == 2  # the next try is not due
    cloud.advance(5)
    assert [activity["StatusCode"] for activity in activities(cloud)] == ["Failed", "Failed", "Successful"]
    cloud.lift(fault)
    assert len(group(cloud)["Instances"]) == 3


def test_a_zone_without_capacity_is_passed_by(cloud: Cloud) -> None:
    make_template(cloud)
    make_group(cloud)
    cloud.fault("no_capacity", zone="us-east-1a")
    scale(cloud, 2)
    assert [instance["Placement"]["AvailabilityZone"] for instance in instances(cloud)] == ["us-east-1b"] * 2


def test_a_zone_without_the_type_is_passed_by_and_alone_it_fails(cloud: Cloud) -> None:
    make_template(cloud)
    make_group(cloud, zones="ae")  # f2.6xlarge is not offered in us-east-1e
    scale(cloud, 2)
    assert [instance["Placement"]["AvailabilityZone"] for instance in instances(cloud)] == ["us-east-1a"] * 2
    make_template(cloud, "lab-e")
    make_group(cloud, "lab-e", zones="e")
    scale(cloud, 1, "lab-e")
    assert "Unsupported - Your requested instance type (f2.6xlarge)" in activities(cloud, "lab-e")[0]["StatusMessage"]
    assert group(cloud, "lab-e")["Instances"] == []


def test_f1_launches_though_aws_no_longer_describes_it(cloud: Cloud) -> None:
    asg = cloud.client("autoscaling")
    asg.create_launch_configuration(LaunchConfigurationName="f1", ImageId="ami-0123456789abcdef0", InstanceType="f1.2xlarge")
    make_group(cloud, "f1-2xlarge", zones="abc", LaunchConfigurationName="f1")
    scale(cloud, 1, "f1-2xlarge")
    assert [instance["InstanceType"] for instance in instances(cloud)] == ["f1.2xlarge"]
    with pytest.raises(ClientError) as error:
        cloud.client("ec2").describe_instance_types(InstanceTypes=["f1.2xlarge"])
    assert code(error)[0] == "InvalidInstanceType"


def test_a_quota_of_vcpus_stops_launches_until_it_is_raised(cloud: Cloud) -> None:
    make_template(cloud, instance_type="f2.12xlarge")
    make_group(cloud)
    cloud.settings(quotas={"L-74FC7D96": 96})
    scale(cloud, 3)
    assert len(group(cloud)["Instances"]) == 2
    assert "your current vCPU limit of 96" in activities(cloud)[0]["StatusMessage"]
    assert cloud.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode="L-74FC7D96")["Quota"]["Value"] == 96
    cloud.settings(quotas={"L-74FC7D96": 144})
    assert len(group(cloud)["Instances"]) == 3


@pytest.mark.parametrize("given", ["deleted", "version"])
def test_a_launch_template_that_has_gone_is_a_failed_activity(cloud: Cloud, given: str) -> None:
    template = make_template(cloud)
    ec2 = cloud.client("ec2")
    ec2.create_launch_template_version(LaunchTemplateId=template, LaunchTemplateData={"ImageId": "ami-0123456789abcdef0", "InstanceType": "f2.6xlarge"})
    make_group(cloud, LaunchTemplate={"LaunchTemplateId": template, "Version": "2"})
    if given == "deleted":
        ec2.delete_launch_template(LaunchTemplateId=template)
    else:
        ec2.delete_launch_template_versions(LaunchTemplateId=template, Versions=["2"])
    scale(cloud, 1)
    assert "does not exist" in activities(cloud)[0]["StatusMessage"]
    assert group(cloud)["Instances"] == []


def test_a_template_that_names_what_there_is_not_fails_at_launch_only(cloud: Cloud) -> None:
    make_template(cloud, IamInstanceProfile={"Name": "nobody"})
    make_group(cloud)
    scale(cloud, 1)
    assert activities(cloud)[0]["StatusCode"] == "Failed"
    assert "nobody" in activities(cloud)[0]["StatusMessage"]
    assert instances(cloud) == []


def test_suspended_launch_is_honoured_and_resumed(cloud: Cloud) -> None:
    make_template(cloud)
    make_group(cloud)
    asg = cloud.client("autoscaling")
    asg.suspend_processes(AutoScalingGroupName="lab-f2", ScalingProcesses=["Launch"])
    scale(cloud, 2)
    assert group(cloud)["DesiredCapacity"] == 2
    assert group(cloud)["Instances"] == []
    assert activities(cloud) == []
    asg.resume_processes(AutoScalingGroupName="lab-f2", ScalingProcesses=["Launch"])
    assert len(group(cloud)["Instances"]) == 2


def test_suspended_terminate_keeps_what_is_too_many(cloud: Cloud) -> None:
    make_template(cloud)
    make_group(cloud)
    scale(cloud, 2)
    asg = cloud.client("autoscaling")
    asg.suspend_processes(AutoScalingGroupName="lab-f2", ScalingProcesses=["Terminate"])
    scale(cloud, 0)
    assert len(group(cloud)["Instances"]) == 2


def test_an_instance_that_somebody_terminates_is_replaced(cloud: Cloud) -> None:
    make_template(cloud)
    make_group(cloud)
    scale(cloud, 1)
    (first,) = instances(cloud)
    cloud.client("ec2").terminate_instances(InstanceIds=[first["InstanceId"]])
    (now,) = group(cloud)["Instances"]
    assert now["InstanceId"] != first["InstanceId"]
    assert "EC2 health check" in activities(cloud)[1]["Cause"]


def test_without_replacement_of_the_unhealthy_it_stays_listed_as_such(cloud: Cloud) -> None:
    make_template(cloud)
    make_group(cloud)
    scale(cloud, 1)
    cloud.client("autoscaling").suspend_processes(AutoScalingGroupName="lab-f2", ScalingProcesses=["ReplaceUnhealthy"])
    cloud.client("ec2").terminate_instances(InstanceIds=[instances(cloud)[0]["InstanceId"]])
    (now,) = group(cloud)["Instances"]
    assert now["HealthStatus"] == "Unhealthy"


@pytest.mark.parametrize(("decrement", "left", "desired"), [(True, 1, 1), (False, 2, 2)])
def test_ending_an_instance_of_a_group_shrinks_it_only_if_told(cloud: Cloud, decrement: bool, left: int, desired: int) -> None:
    make_template(cloud)
    make_group(cloud)
    scale(cloud, 2)
    victim = group(cloud)["Instances"][0]["InstanceId"]
    answer = cloud.client("autoscaling").terminate_instance_in_auto_scaling_group(InstanceId=victim, ShouldDecrementDesiredCapacity=decrement)
    assert victim in answer["Activity"]["Description"]
    assert (len(group(cloud)["Instances"]), group(cloud)["DesiredCapacity"]) == (left, desired)
    assert victim not in {entry["InstanceId"] for entry in group(cloud)["Instances"]}


def test_instances_are_pending_shutting_down_and_forgotten_in_their_time(cloud: Cloud) -> None:
    cloud.settings(pending_seconds=20, shutdown_seconds=30)
    make_template(cloud)
    make_group(cloud)
    scale(cloud, 1)

    def states() -> tuple[list[str], list[str]]:
        return [instance["State"]["Name"] for instance in instances(cloud)], [entry["LifecycleState"] for entry in group(cloud)["Instances"]]

    assert states() == (["pending"], ["Pending"])
    cloud.advance(20)
    assert states() == (["running"], ["InService"])
    scale(cloud, 0)
    assert states() == (["shutting-down"], ["Terminating"])
    cloud.advance(30)
    assert states() == (["terminated"], [])
    cloud.advance(3600)
    assert states() == ([], [])


@pytest.mark.parametrize("seconds", [0, 30])
def test_what_ec2_takes_back_says_so_and_its_group_replaces_it(cloud: Cloud, seconds: int) -> None:
    cloud.settings(shutdown_seconds=seconds)
    make_template(cloud)
    make_group(cloud)
    scale(cloud, 1)
    (before,) = instances(cloud)
    cloud.interrupt(before["InstanceId"])
    for state in ["shutting-down"] * bool(seconds) + ["terminated"]:
        (found,) = (one for one in instances(cloud) if one["InstanceId"] == before["InstanceId"])
        assert found["State"]["Name"] == state
        assert found["StateReason"] == {"Code": "Server.SpotInstanceTermination", "Message": "Server.SpotInstanceTermination: Spot instance termination"}
        cloud.advance(seconds)
    (entry,) = group(cloud)["Instances"]
    assert (entry["LifecycleState"], entry["InstanceId"] != before["InstanceId"]) == ("InService", True)
    scale(cloud, 0)
    (ended,) = (one for one in instances(cloud) if one["InstanceId"] == entry["InstanceId"])
    cloud.advance(seconds)
    assert [one["StateReason"]["Code"] for one in instances(cloud) if one["InstanceId"] == ended["InstanceId"]] == ["Client.UserInitiatedShutdown"]


def test_nothing_is_left_when_a_group_has_gone(cloud: Cloud) -> None:
    make_template(cloud, BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 80}}])
    make_group(cloud)
    scale(cloud, 2)
    ec2, asg = cloud.client("ec2"), cloud.client("autoscaling")
    with pytest.raises(ClientError) as error:
        asg.delete_auto_scaling_group(AutoScalingGroupName="lab-f2")
    assert code(error)[0] == "ResourceInUse"
    asg.delete_auto_scaling_group(AutoScalingGroupName="lab-f2", ForceDelete=True)
    assert ec2.describe_volumes()["Volumes"] == []
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []


def test_an_update_changes_what_it_says_and_nothing_else(cloud: Cloud) -> None:
    make_template(cloud)
    policy = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateName": "lab-f2", "Version": "1"},
            "Overrides": [{"InstanceType": "f2.6xlarge"}, {"InstanceType": "f2.12xlarge"}],
        },
        "InstancesDistribution": {"OnDemandPercentageAboveBaseCapacity": 0},
    }
    asg = cloud.client("autoscaling")
    asg.create_auto_scaling_group(AutoScalingGroupName="lab-f2", MinSize=0, MaxSize=4, AvailabilityZones=["us-east-1a"], MixedInstancesPolicy=policy)
    scale(cloud, 1)
    assert [instance["InstanceLifecycle"] for instance in instances(cloud)] == ["spot"]
    asg.update_auto_scaling_group(AutoScalingGroupName="lab-f2", MaxSize=5, DefaultCooldown=10, TerminationPolicies=["NewestInstance"])
    changed = group(cloud)
    assert (changed["MaxSize"], changed["DefaultCooldown"], changed["TerminationPolicies"], changed["DesiredCapacity"]) == (5, 10, ["NewestInstance"], 1)
    assert changed["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"][1]["InstanceType"] == "f2.12xlarge"


@pytest.mark.parametrize(("change", "desired"), [({"MinSize": 3}, 3), ({"MaxSize": 1}, 1), ({"MinSize": 1, "MaxSize": 9}, 2)])
def test_a_bound_beyond_the_size_moves_the_desired_capacity(cloud: Cloud, change: dict[str, int], desired: int) -> None:
    make_template(cloud)
    make_group(cloud)
    scale(cloud, 2)
    cloud.client("autoscaling").update_auto_scaling_group(AutoScalingGroupName="lab-f2", **change)
    assert group(cloud)["DesiredCapacity"] == desired
    assert len(group(cloud)["Instances"]) == desired


@pytest.mark.parametrize(
    ("action", "values", "expected"),
    [
        ("set_desired_capacity", {"DesiredCapacity": 5}, "ValidationError"),
        (
            "create_auto_scaling_group",
            {"MinSize": 0, "MaxSize": 1, "AvailabilityZones": ["us-east-1a"], "LaunchTemplate": {"LaunchTemplateName": "lab-f2"}},
            "AlreadyExists",
        ),
        ("update_auto_scaling_group", {"MinSize": 9}, "ValidationError"),
        ("set_desired_capacity", {"AutoScalingGroupName": "other", "DesiredCapacity": 1}, "ValidationError"),
        ("describe_scaling_activities", {"AutoScalingGroupName": "other"}, "ValidationError"),
    ],
)
def test_groups_refuse_what_aws_refuses(cloud: Cloud, action: str, values: dict[str, Any], expected: str) -> None:
    make_template(cloud)
    make_group(cloud)
    with pytest.raises(ClientError) as error:
        getattr(cloud.client("autoscaling"), action)(**{"AutoScalingGroupName": "lab-f2", **values})
    assert code(error)[0] == expected


def test_tags_have_their_limits(cloud: Cloud) -> None:
    make_template(cloud)
    make_group(cloud)
    asg = cloud.client("autoscaling")

    def tags(count: int, start: int = 0, key: str = "k") -> list[dict[str, Any]]:
        common = {"ResourceId": "lab-f2", "ResourceType": "auto-scaling-group", "Value": "", "PropagateAtLaunch": False}
        return [{**common, "Key": f"{key}{number}"} for number in range(start, start + count)]

    asg.create_or_update_tags(Tags=tags(25))
    asg.create_or_update_tags(Tags=tags(25, 25))
    asg.create_or_update_tags(Tags=tags(25))  # those that are there
    asg.delete_tags(Tags=tags(1))
    for wrong, expected in ((tags(26), "ValidationError"), (tags(2, 60), "LimitExceeded"), (tags(1, key="k" * 128), "ValidationError")):
        with pytest.raises(ClientError) as error:
            asg.create_or_update_tags(Tags=wrong)
        assert code(error)[0] == expected


# ---- launch templates


def test_versions_of_a_launch_template_are_listed_newest_first_and_deleted(cloud: Cloud) -> None:
    template = make_template(cloud, tags=OURS)
    ec2 = cloud.client("ec2")
    for size in (100, 120):
        ec2.create_launch_template_version(LaunchTemplateId=template, LaunchTemplateData={"EbsOptimized": True, "KeyName": f"k{size}"})
    answer = ec2.delete_launch_template_versions(LaunchTemplateId=template, Versions=["1", "2", "7"])
    assert [entry["VersionNumber"] for entry in answer["SuccessfullyDeletedLaunchTemplateVersions"]] == [2]
    assert [entry["VersionNumber"] for entry in answer["UnsuccessfullyDeletedLaunchTemplateVersions"]] == [1, 7]
    ec2.create_launch_template_version(LaunchTemplateId=template, LaunchTemplateData={"KeyName": "k140"})
    versions = ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
    assert [version["VersionNumber"] for version in versions] == [4, 3, 1]
    assert "TagSpecifications" not in versions[-1]["LaunchTemplateData"]
    newest = ec2.describe_launch_template_versions(Versions=["$Latest"])["LaunchTemplateVersions"]
    assert [version["LaunchTemplateData"]["KeyName"] for version in newest] == ["k140"]


def test_a_group_launches_from_a_later_version_with_its_user_data(cloud: Cloud) -> None:
    template = make_template(cloud)
    text = base64.b64encode(b"#cloud-config\n").decode()
    data = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "f2.6xlarge", "UserData": text}
    cloud.client("ec2").create_launch_template_version(LaunchTemplateId=template, LaunchTemplateData=data)
    make_group(cloud, LaunchTemplate={"LaunchTemplateId": template, "Version": "2"})
    cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName="lab-f2", DesiredCapacity=1)
    (instance,) = group(cloud)["Instances"]
    found = cloud.client("ec2").describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
    assert found["UserData"]["Value"] == text


def test_launch_templates_are_paged(cloud: Cloud) -> None:
    for number in range(20):
        make_template(cloud, f"template-{number}")
    assert len(cloud.client("ec2").describe_launch_templates()["LaunchTemplates"]) == 20
    pages = list(cloud.client("ec2").get_paginator("describe_launch_templates").paginate(PaginationConfig={"PageSize": 8}))
    assert [len(page["LaunchTemplates"]) for page in pages] == [8, 8, 4]


# ---- IAM


def allow(*actions: str, resource: str = "*", **condition: dict[str, str]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resource, "Condition": condition}]}


def test_a_user_may_do_what_its_policies_say_and_nothing_else(cloud: Cloud) -> None:
    reader = cloud.user("reader", allow("ec2:Describe*"))
    ec2 = cloud.client("ec2", credentials=reader)
    ec2.describe_instances()
    with pytest.raises(ClientError) as error:
        ec2.create_security_group(GroupName="a", Description="b")
    assert code(error) == ("UnauthorizedOperation", 403)
    assert "user/reader is not authorized to perform: ec2:CreateSecurityGroup" in str(error.value)
    assert [entry["GroupName"] for entry in cloud.client("ec2").describe_security_groups()["SecurityGroups"]] == ["default"]


def test_a_wrong_secret_is_no_credential(cloud: Cloud) -> None:
    reader = {**cloud.user("reader", allow("*")), "aws_secret_access_key": "wrong"}
    for service, ask, expected in (
        ("ec2", "describe_instances", ("AuthFailure", 401)),
        ("autoscaling", "describe_auto_scaling_groups", ("SignatureDoesNotMatch", 403)),
        ("ssm", "describe_parameters", ("InvalidSignatureException", 400)),
    ):
        with pytest.raises(ClientError) as error:
            getattr(cloud.client(service, credentials=reader), ask)()
        assert code(error) == expected


def test_an_unknown_key_is_refused_where_it_shall_be(cloud: Cloud) -> None:
    cloud.settings(unknown_keys="refused")
    for service, ask, expected in (
        ("ec2", "describe_instances", ("AuthFailure", 401)),
        ("autoscaling", "describe_auto_scaling_groups", ("InvalidClientTokenId", 403)),
        ("sts", "get_caller_identity", ("InvalidClientTokenId", 403)),
        ("ssm", "describe_parameters", ("UnrecognizedClientException", 400)),
    ):
        with pytest.raises(ClientError) as error:
            getattr(cloud.client(service), ask)()
        assert code(error) == expected


def test_a_dry_run_says_whether_it_would_be_allowed_and_does_nothing(cloud: Cloud) -> None:
    may, may_not = cloud.user("may", allow("ec2:CreateLaunchTemplate")), cloud.user("may-not", allow("ec2:Describe*"))
    data = {"LaunchTemplateName": "lab-x", "LaunchTemplateData": {"InstanceType": "f2.6xlarge"}, "DryRun": True}
    for credentials, expected in ((may, ("DryRunOperation", 412)), (may_not, ("UnauthorizedOperation", 403))):
        with pytest.raises(ClientError) as error:
            cloud.client("ec2", credentials=credentials).create_launch_template(**data)
        assert code(error) == expected
    assert cloud.client("ec2").describe_launch_templates()["LaunchTemplates"] == []
    assert cloud.calls("CreateLaunchTemplate", writes=True) == []


@pytest.mark.parametrize(
    ("action", "call"),
    [
        ("autoscaling:SetDesiredCapacity", lambda c, name: c("autoscaling").set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=1)),
        ("autoscaling:UpdateAutoScalingGroup", lambda c, name: c("autoscaling").update_auto_scaling_group(AutoScalingGroupName=name, MaxSize=9)),
        ("autoscaling:SuspendProcesses", lambda c, name: c("autoscaling").suspend_processes(AutoScalingGroupName=name)),
        ("autoscaling:DeleteAutoScalingGroup", lambda c, name: c("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)),
        (
            "autoscaling:CreateOrUpdateTags",
            lambda c, name: c("autoscaling").create_or_update_tags(
                Tags=[{"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": "a", "Value": "b", "PropagateAtLaunch": False}]
            ),
        ),
        ("ec2:DeleteLaunchTemplate", lambda c, name: c("ec2").delete_launch_template(LaunchTemplateName=name)),
        (
            "ec2:CreateLaunchTemplateVersion",
            lambda c, name: c("ec2").create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData={"InstanceType": "f2.6xlarge"}),
        ),
    ],
)
def test_a_condition_on_the_resources_tags_holds_for_ours_and_denies_others(cloud: Cloud, action: str, call: Any) -> None:
    for name, tags in (("ours", OURS), ("theirs", {"fpga.hybrid/cluster-id": "another"})):
        make_template(cloud, name, tags=tags)
        make_group(cloud, name, tags=tags)
    credentials = cloud.user("worker", allow(action, StringEquals={"aws:ResourceTag/fpga.hybrid/cluster-id": ID}))
    with pytest.raises(ClientError) as error:
        call(lambda service: cloud.client(service, credentials=credentials), "theirs")
    assert code(error)[0] in ("AccessDenied", "UnauthorizedOperation")
    call(lambda service: cloud.client(service, credentials=credentials), "ours")


def test_ending_an_instance_goes_by_the_tags_of_its_group(cloud: Cloud) -> None:
    for name, tags in (("ours", OURS), ("theirs", {})):
        make_template(cloud, name)
        make_group(cloud, name, tags=tags)
        scale(cloud, 1, name)
    policy = allow("autoscaling:TerminateInstanceInAutoScalingGroup", StringEquals={"autoscaling:ResourceTag/fpga.hybrid/cluster-id": ID})
    asg = cloud.client("autoscaling", credentials=cloud.user("autoscaler", policy))
    with pytest.raises(ClientError) as error:
        asg.terminate_instance_in_auto_scaling_group(InstanceId=group(cloud, "theirs")["Instances"][0]["InstanceId"], ShouldDecrementDesiredCapacity=True)
    assert code(error)[0] == "AccessDenied"
    asg.terminate_instance_in_auto_scaling_group(InstanceId=group(cloud, "ours")["Instances"][0]["InstanceId"], ShouldDecrementDesiredCapacity=True)


def test_what_is_made_must_carry_the_tags_that_a_policy_wants(cloud: Cloud) -> None:
    wanted = {"StringEquals": {"aws:RequestTag/fpga.hybrid/cluster-id": ID}}
    credentials = cloud.user(
        "maker",
        [
            allow("ec2:CreateLaunchTemplate", "ec2:CreateSecurityGroup", "autoscaling:CreateAutoScalingGroup", **wanted),
            allow("ec2:CreateTags", StringEquals={"ec2:CreateAction": "CreateLaunchTemplate"}),
            allow("ec2:CreateSecurityGroup", resource="arn:aws:ec2:*:*:vpc/*"),
        ],
    )
    ec2 = cloud.client("ec2", credentials=credentials)
    data = {"LaunchTemplateData": {"InstanceType": "f2.6xlarge"}}
    for tags in (None, {"fpga.hybrid/cluster-id": "another"}):
        with pytest.raises(ClientError):
            ec2.create_launch_template(
                LaunchTemplateName="lab-a", **data, **({"TagSpecifications": [{"ResourceType": "launch-template", "Tags": tag_list(tags)}]} if tags else {})
            )
    ec2.create_launch_template(LaunchTemplateName="lab-a", **data, TagSpecifications=[{"ResourceType": "launch-template", "Tags": tag_list(OURS)}])
    with pytest.raises(ClientError, match="ec2:CreateTags"):  # the tags of a security group are created by another action
        ec2.create_security_group(GroupName="a", Description="b", TagSpecifications=[{"ResourceType": "security-group", "Tags": tag_list(OURS)}])


def test_a_group_with_a_launch_template_needs_the_right_to_launch_and_to_pass_its_role(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    iam.create_role(RoleName="lab-instance", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="lab-instance")
    iam.add_role_to_instance_profile(InstanceProfileName="lab-instance", RoleName="lab-instance")
    make_template(cloud, tags=OURS, IamInstanceProfile={"Name": "lab-instance"})
    group_only = allow("autoscaling:CreateAutoScalingGroup", "iam:CreateServiceLinkedRole")
    launch = allow("ec2:RunInstances", ArnLike={"ec2:LaunchTemplate": "arn:aws:ec2:us-east-1:123456789012:launch-template/*"})
    passing = allow("iam:PassRole", resource="arn:aws:iam::*:role/lab-instance", StringEquals={"iam:PassedToService": "ec2.amazonaws.com"})
    values = {"MinSize": 0, "MaxSize": 1, "AvailabilityZones": ["us-east-1a"], "LaunchTemplate": {"LaunchTemplateName": "lab-f2", "Version": "1"}}
    for number, (policies, expected) in enumerate((([group_only], "ValidationError"), ([group_only, launch], "AccessDenied"))):
        with pytest.raises(ClientError) as error:
            cloud.client("autoscaling", credentials=cloud.user(f"u{number}", policies)).create_auto_scaling_group(AutoScalingGroupName="g", **values)
        assert code(error)[0] == expected
    cloud.forget_calls()
    whole = cloud.client("autoscaling", credentials=cloud.user("whole", [group_only, launch, passing]))
    whole.create_auto_scaling_group(AutoScalingGroupName="g", **values)
    (call,) = cloud.calls("CreateAutoScalingGroup")
    assert set(call["authorised"]) == {"autoscaling:CreateAutoScalingGroup", "iam:CreateServiceLinkedRole", "ec2:RunInstances", "iam:PassRole"}


def test_an_instance_reads_only_the_parameter_that_names_it(cloud: Cloud) -> None:
    iam, ssm = cloud.client("iam"), cloud.client("ssm")
    role = iam.create_role(RoleName="lab-instance", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    policy = allow(
        "ssm:GetParameter",
        resource="arn:aws:ssm:us-east-1:123456789012:parameter/fpga-hybrid/lab/nodes/*",
        StringEquals={"aws:ResourceTag/fpga.hybrid/instance-arn": "${ec2:SourceInstanceARN}"},
    )
    iam.put_role_policy(RoleName="lab-instance", PolicyName="join", PolicyDocument=json.dumps(policy))
    for name in ("i-0000000000000000a", "i-0000000000000000b"):
        tags = tag_list({"fpga.hybrid/instance-arn": f"arn:aws:ec2:us-east-1:123456789012:instance/{name}"})
        ssm.put_parameter(Name=f"/fpga-hybrid/lab/nodes/{name}", Value=name, Type="SecureString", Tags=tags)
    own = cloud.client("ssm", credentials=cloud.assume(role, "i-0000000000000000a"))
    assert own.get_parameter(Name="/fpga-hybrid/lab/nodes/i-0000000000000000a")["Parameter"]["Name"].endswith("0a")
    with pytest.raises(ClientError) as error:
        own.get_parameter(Name="/fpga-hybrid/lab/nodes/i-0000000000000000b")
    assert code(error) == ("AccessDeniedException", 400)
    with pytest.raises(ClientError):  # a person with the same role is no instance
        cloud.client("ssm", credentials=cloud.assume(role, "ann")).get_parameter(Name="/fpga-hybrid/lab/nodes/i-0000000000000000a")


def test_a_roles_boundary_holds(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    boundary = iam.create_policy(PolicyName="boundary", PolicyDocument=json.dumps(allow("ec2:Describe*")))["Policy"]["Arn"]
    role = iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}", PermissionsBoundary=boundary)["Role"]["Arn"]
    iam.put_role_policy(RoleName="r", PolicyName="all", PolicyDocument=json.dumps(allow("*")))
    ec2 = cloud.client("ec2", credentials=cloud.assume(role))
    ec2.describe_instances()
    with pytest.raises(ClientError):
        ec2.create_security_group(GroupName="a", Description="b")


def test_a_role_that_there_is_not_cannot_be_assumed(cloud: Cloud) -> None:
    with pytest.raises(ClientError) as error:
        cloud.assume("arn:aws:iam::123456789012:role/nobody")
    assert code(error)[0] == "AccessDenied"


def test_another_account_is_another_account(cloud: Cloud) -> None:
    make_template(cloud)
    other = cloud.admin_of("210987654321")
    assert cloud.client("sts", credentials=other).get_caller_identity()["Account"] == "210987654321"
    assert cloud.client("ec2", credentials=other).describe_launch_templates()["LaunchTemplates"] == []
    for _again in range(3):
        cloud.client("ec2", credentials=cloud.admin_of("210987654321")).describe_instances()


def test_policies_can_be_asked_before_they_are_needed(cloud: Cloud) -> None:
    cloud.user("worker", [allow("ec2:CreateSecurityGroup"), {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "iam:*", "Resource": "*"}}])
    answer = cloud.client("iam").simulate_principal_policy(
        PolicySourceArn="arn:aws:iam::123456789012:user/worker", ActionNames=["ec2:CreateSecurityGroup", "ec2:RunInstances", "iam:PassRole"]
    )
    decisions = {result["EvalActionName"]: result["EvalDecision"] for result in answer["EvaluationResults"]}
    assert decisions == {"ec2:CreateSecurityGroup": "allowed", "ec2:RunInstances": "implicitDeny", "iam:PassRole": "explicitDeny"}


def test_a_policy_that_cannot_be_judged_is_an_error_for_who_has_it(cloud: Cloud) -> None:
    odd = cloud.user("odd", allow("*", DateLessThan={"aws:CurrentTime": "2030-01-01T00:00:00Z"}))
    with pytest.raises(ClientError) as error:
        cloud.client("ec2", credentials=odd).describe_instances()
    assert code(error) == ("MalformedPolicyDocument", 500)


# ---- in a process


def test_somebody_else_may_act_right_before_a_call_takes_effect(cloud: Cloud) -> None:
    make_template(cloud)
    make_group(cloud)
    with cloud.before_next("autoscaling", "UpdateAutoScalingGroup", lambda _request: scale(cloud, 2)) as seen:
        cloud.client("autoscaling").update_auto_scaling_group(AutoScalingGroupName="lab-f2", MaxSize=8)
    assert [request.action for request in seen] == ["UpdateAutoScalingGroup"]
    assert group(cloud)["DesiredCapacity"] == 2


def test_a_second_cloud_in_one_process_is_refused(cloud: Cloud) -> None:
    from lab.cloud.server import Cloud as Again

    with pytest.raises(RuntimeError, match="another Cloud runs"), Again():
        pass
    cloud.client("ec2").describe_instances()


def test_the_command_serves_until_it_is_ended() -> None:
    command = [sys.executable, "-m", "lab.cloud", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready, url, *_ = process.stdout.readline().split()
            assert ready == "ready"
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/lab-cloud/") as answer:
                assert "no_capacity" in json.load(answer)["kinds_of_faults"]
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.parametrize("listen", ["5000", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_said(listen: str) -> None:
    ran = subprocess.run([sys.executable, "-m", "lab.cloud", "--listen", listen], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "127.0.0.1:5000" in ran.stderr
