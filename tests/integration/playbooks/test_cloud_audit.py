# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/cloud_audit.yml: everything that carries the cluster's id, and a failure where nothing accounts for some of it."""

from __future__ import annotations

from tests.integration.playbooks.controller import ID, OTHER_ID, Site

TAGS = [{"Key": "fpga.hybrid/cluster-id", "Value": ID}]


def specified(kind: str) -> list[dict]:
    return [{"ResourceType": kind, "Tags": TAGS}]


def test_what_nothing_accounts_for_is_named_and_the_play_fails(site: Site) -> None:
    site.does("pools")
    ec2 = site.cloud.client("ec2")
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=8, TagSpecifications=specified("volume"))["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume, TagSpecifications=specified("snapshot"))["SnapshotId"]
    started = ec2.run_instances(ImageId=site.image, InstanceType="f2.6xlarge", MinCount=1, MaxCount=1, TagSpecifications=specified("instance"))
    lost = started["Instances"][0]["InstanceId"]
    parameter = "/fpga-hybrid/lab/nodes/i-0123456789abcdef0"
    site.cloud.client("ssm").put_parameter(Name=parameter, Value="x", Type="SecureString")
    site.cloud.forget_calls()
    done = site.play("cloud_audit")
    assert done.returncode == 2
    orphans = [line for line in done.stdout.splitlines() if line.startswith("!")]
    assert len(orphans) == 4
    for name, why in (
        (lost, "no group has it: nothing will end it, and it costs money"),
        (volume, "no instance has it"),
        (parameter, "its instance has gone"),
        (snapshot, "this collection's playbooks make no such thing"),
    ):
        assert any(name in line and why in line for line in orphans), (name, orphans)
    assert "8 in all, 4 of them orphaned." in done.stdout
    assert site.cloud.calls(writes=True) == []


def test_a_running_instance_and_all_that_it_has_are_accounted_for(site: Site) -> None:
    site.does("pools")
    site.cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName="lab-f2-6xlarge", DesiredCapacity=1)
    output = site.does("cloud_audit")
    kinds = [line.split("  ")[1].strip() for line in output.splitlines() if "f2-6xlarge" in line and line.startswith("  ")]
    assert kinds == ["instance", "volume", "network interface", "group", "launch template"]
    assert "7 in all, none of them orphaned." in output


def test_a_pool_that_is_no_longer_declared_is_an_orphan(site: Site) -> None:
    site.does("pools")
    done = site.play("cloud_audit", cluster_node_pools=[])
    assert done.returncode == 2
    assert "lab-f2-6xlarge" in next(line for line in done.stdout.splitlines() if line.startswith("!  group"))


def test_an_audit_that_could_not_ask_says_so_and_is_no_clean_bill(site: Site) -> None:
    site.cloud.fault("deny", action="DescribeVolumes")
    output = site.refuses("cloud_audit")
    assert "lacks the action ec2:DescribeVolumes" in output
    assert "in all" not in output


def test_the_module_says_what_is_there_and_waits_only_for_what_is_this_clusters(site: Site) -> None:
    volume = site.cloud.client("ec2").create_volume(AvailabilityZone="us-east-1a", Size=8, TagSpecifications=specified("volume"))["VolumeId"]
    mine = {"cluster_id": ID, "ssm_prefix": "/fpga-hybrid/lab"}
    found = site.module("cloud_audit", **mine)
    assert [(one["kind"], one["id"]) for one in found["orphans"]] == [("volume", volume)]
    assert site.module("cloud_audit", **{**mine, "cluster_id": OTHER_ID}, wait_until_gone=1)["resources"] == []
    assert f"there still are {volume}" in site.module("cloud_audit", **mine, wait_until_gone=1)["msg"]


def test_throttling_and_an_endpoint_that_is_down_are_told(site: Site) -> None:
    mine = {"cluster_id": ID, "ssm_prefix": "/fpga-hybrid/lab"}
    site.cloud.fault("throttle", action="DescribeVolumes")
    assert "AWS still throttles after several attempts" in site.module("cloud_audit", **mine)["msg"]
    assert "AWS could not be reached" in site.module("cloud_audit", **mine, endpoint_url="http://127.0.0.1:1")["msg"]
