# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a cluster is left in AWS, and what of it nothing accounts for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._cloud_audit import Auditor, Declared, Found, judge, summary, table

ID = "5c9e8f6a-0000-4000-8000-000000000001"
TAGS = [{"Key": "fpga.hybrid/cluster-id", "Value": ID}, {"Key": "fpga.hybrid/pool", "Value": "f2"}]
GROUP = {
    "AutoScalingGroupName": "lab-f2",
    "MinSize": 0,
    "MaxSize": 2,
    "DesiredCapacity": 1,
    "Instances": [{"InstanceId": "i-1"}],
    "LaunchTemplate": {"LaunchTemplateId": "lt-1", "Version": "1"},
    "Tags": TAGS,
}
TEMPLATE = {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "lab-f2", "LatestVersionNumber": 3, "Tags": TAGS}
INSTANCE = {"InstanceId": "i-1", "State": {"Name": "running"}, "InstanceType": "f2.6xlarge", "Placement": {"AvailabilityZone": "us-east-1a"}, "Tags": TAGS}
VOLUME = {"VolumeId": "vol-1", "State": "in-use", "Attachments": [{"InstanceId": "i-1"}], "Tags": TAGS}
INTERFACE = {"NetworkInterfaceId": "eni-1", "Status": "in-use", "Attachment": {"InstanceId": "i-1"}, "TagSet": TAGS}
SECURITY_GROUP = {"GroupId": "sg-1", "GroupName": "lab-nodes", "IpPermissions": [], "Tags": TAGS}
SNAPSHOT = "arn:aws:ec2:us-east-1:1:snapshot/snap-1"
CONFIGURATION = {"LaunchConfigurationName": "lab-f2-0123456789ab"}
MIXED = {"LaunchTemplate": {"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1"}}}
WHOLE = Found(
    groups=[GROUP],
    templates=[TEMPLATE],
    instances=[INSTANCE],
    volumes=[VOLUME],
    interfaces=[INTERFACE],
    security_groups=[SECURITY_GROUP],
    parameters=["/fpga-hybrid/lab/cluster", "/fpga-hybrid/lab/nodes/i-1", "/fpga-hybrid/lab/failures/i-1"],
    tagged=["arn:aws:ec2:us-east-1:1:instance/i-1", "arn:aws:ec2:us-east-1:1:volume/vol-gone", "arn:aws:ssm:us-east-1:1:parameter/fpga-hybrid/lab/cluster"],
)
DECLARED = Declared(frozenset({"lab-f2"}), "lab-nodes", "/fpga-hybrid/lab")


def orphans(found: Found, declared: Declared = DECLARED) -> dict[str, str]:
    return {one.id: one.orphan for one in judge(found, declared) if one.orphan}


def test_a_working_pool_has_no_orphans_and_everything_is_listed_once():
    judged = judge(WHOLE, DECLARED)
    assert [one.kind for one in judged] == [
        "instance",
        "volume",
        "network interface",
        "group",
        "launch template",
        "security group",
        "parameter",
        "parameter",
        "parameter",
    ]
    assert orphans(WHOLE) == {}


@pytest.mark.parametrize(
    ("found", "orphan", "why"),
    [
        (replace(WHOLE, groups=[{**GROUP, "Instances": []}]), "i-1", "no group has it: nothing will end it, and it costs money"),
        (replace(WHOLE, instances=[]), "vol-1", "no instance has it"),
        (replace(WHOLE, instances=[{**INSTANCE, "State": {"Name": "terminated"}}]), "eni-1", "no instance has it"),
        (replace(WHOLE, volumes=[{**VOLUME, "State": "available", "Attachments": []}]), "vol-1", "no instance has it"),
        (replace(WHOLE, interfaces=[{**INTERFACE, "Attachment": {}}]), "eni-1", "no instance has it"),
        (
            replace(WHOLE, groups=[GROUP, {**GROUP, "AutoScalingGroupName": "lab-old"}]),
            "lab-old",
            "no declared pool has it: pools.yml -e purge=true removes it",
        ),
        (
            replace(WHOLE, templates=[TEMPLATE, {**TEMPLATE, "LaunchTemplateId": "lt-2", "LaunchTemplateName": "lab-old"}]),
            "lab-old",
            "neither a group nor a declared pool has it",
        ),
        (replace(WHOLE, configurations=[{"LaunchConfigurationName": "lab-f2-0123456789ab"}]), "lab-f2-0123456789ab", "no group has it"),
        (replace(WHOLE, security_groups=[{**SECURITY_GROUP, "GroupId": "sg-2", "GroupName": "other"}]), "sg-2", "no pool needs it"),
        (replace(WHOLE, instances=[]), "/fpga-hybrid/lab/nodes/i-1", "its instance has gone"),
        (replace(WHOLE, parameters=["/fpga-hybrid/lab/failures/i-0"]), "/fpga-hybrid/lab/failures/i-0", "its instance has gone"),
        (replace(WHOLE, parameters=["/elsewhere/x"]), "/elsewhere/x", "it lies outside of /fpga-hybrid/lab"),
        (replace(WHOLE, tagged=[SNAPSHOT]), SNAPSHOT, "this collection's playbooks make no such thing"),
    ],
)
def test_what_nothing_accounts_for_is_an_orphan_with_its_reason(found, orphan, why):
    assert orphans(found)[orphan] == why


@pytest.mark.parametrize(
    "found",
    [
        replace(WHOLE, instances=[{**INSTANCE, "State": {"Name": "shutting-down"}}], groups=[{**GROUP, "Instances": []}]),
        replace(WHOLE, groups=[{**GROUP, "Status": "Delete in progress"}]),
        replace(WHOLE, configurations=[{"LaunchConfigurationName": "somebody-elses"}, {"LaunchConfigurationName": "other-0123456789ab"}]),
        replace(
            WHOLE, groups=[{**GROUP, "LaunchConfigurationName": "lab-f2-0123456789ab"}], configurations=[{"LaunchConfigurationName": "lab-f2-0123456789ab"}]
        ),
        replace(
            WHOLE,
            groups=[
                {**GROUP, "LaunchTemplate": None, "MixedInstancesPolicy": {"LaunchTemplate": {"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1"}}}}
            ],
        ),
    ],
)
def test_what_is_on_its_way_out_or_somebody_elses_is_no_orphan(found):
    assert orphans(found) == {}


def test_without_pools_everything_is_left_over():
    left = Found(security_groups=[SECURITY_GROUP], parameters=["/fpga-hybrid/lab/cluster"])
    assert set(orphans(left, Declared((), "lab-nodes", "/fpga-hybrid/lab"))) == {"sg-1", "/fpga-hybrid/lab/cluster"}


def test_the_table_marks_orphans_and_ends_with_the_sum():
    text = table("Cluster lab", judge(replace(WHOLE, volumes=[{**VOLUME, "Attachments": []}]), DECLARED)).splitlines()
    assert text[0] == "Cluster lab"
    assert text[-1] == "9 in all, 1 of them orphaned."
    assert [" ".join(line.split()) for line in text if line.startswith("!")] == ["! volume vol-1 f2 in-use, at no instance; no instance has it"]
    assert summary([]) == "Nothing in AWS carries this cluster's id."


def test_every_page_is_read():
    pages = {None: ["a"], "2": ["b"], "3": ["c"]}

    def ask(service, operation, parameters):
        if (service, operation) != ("ec2", "DescribeVolumes"):
            return {}
        page = parameters.get("NextToken")
        following = {None: "2", "2": "3"}.get(page)
        return {"Volumes": [{"VolumeId": name} for name in pages[page]], **({"NextToken": following} if following else {})}

    found = Auditor(ask, ID, "/fpga-hybrid/lab").everything()
    assert [volume["VolumeId"] for volume in found.volumes] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("until", "orphan"),
    [
        ("2999-01-01T00:00:00Z", {}),
        ("2026-01-01T00:00:00Z", {"i-1": "no group has it: keeper was to end it at 2026-01-01T00:00:00Z and has not, and it costs money"}),
    ],
)
def test_an_instance_that_is_kept_for_a_look_is_none_until_its_time_has_passed(until, orphan):
    kept = {**INSTANCE, "Tags": [*TAGS, {"Key": "fpga.hybrid/kept-until", "Value": until}]}
    found = replace(WHOLE, groups=[{**GROUP, "Instances": []}], instances=[kept])
    assert orphans(found) == orphan
    assert f"failed to join and is kept for a look until {until}" in next(one.state for one in judge(found, DECLARED) if one.id == "i-1")
