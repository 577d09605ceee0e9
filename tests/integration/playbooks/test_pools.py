# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/pools.yml: what stands in the way is said first, what it makes it removes again."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from tests.integration.playbooks.controller import ACCOUNT, ID, OTHER_ID, POOL, Site

BIG = {**POOL, "name": "f2-12xlarge", "instance_type": "f2.12xlarge"}
NOTHING = "Nothing in AWS carries this cluster's id."


# ---- the way there and back


def test_pools_are_made_kept_and_removed_without_a_trace(site: Site) -> None:
    asg = site.cloud.client("autoscaling")
    assert "f2-6xlarge: created" in site.does("pools", "--check")
    assert site.cloud.calls(writes=True) == []
    assert "f2-6xlarge: created" in site.does("pools")
    (group,) = asg.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["AutoScalingGroupName"], group["DesiredCapacity"]) == ("lab-f2-6xlarge", 0)
    site.cloud.forget_calls()
    assert "changed=0" in site.does("pools")
    assert site.cloud.calls(writes=True) == []
    assert "4 in all, none of them orphaned." in site.does("cloud_audit")
    site.does("pools", state="absent")
    assert NOTHING in site.does("cloud_audit")
    site.cloud.forget_calls()
    assert "changed=0" in site.does("pools", state="absent")
    assert site.cloud.calls(writes=True) == []


def test_instances_end_only_with_a_word_more_and_are_waited_for(site: Site) -> None:
    site.does("pools")
    site.cloud.settings(shutdown_seconds=1)
    site.cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName="lab-f2-6xlarge", DesiredCapacity=1)
    ec2 = site.cloud.client("ec2")
    (instance,) = ec2.describe_instances()["Reservations"][0]["Instances"]
    (group,) = ec2.describe_security_groups(GroupIds=[entry["GroupId"] for entry in instance["SecurityGroups"]])["SecurityGroups"]
    assert (group["GroupName"], group["IpPermissions"]) == ("lab-nodes", [])
    assert "without force" in site.refuses("pools", state="absent")
    site.does("pools", state="absent", force=True)
    assert NOTHING in site.does("cloud_audit")


def test_what_does_not_go_in_time_is_named_and_its_security_group_stays(site: Site) -> None:
    site.does("pools")
    site.cloud.settings(shutdown_seconds=600)
    site.cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName="lab-f2-6xlarge", DesiredCapacity=1)
    done = site.play("pools", state="absent", force=True, pools_wait=1)
    assert done.returncode == 2
    assert "After 1 s there still are i-" in " ".join(done.stdout.split())
    site.cloud.advance(600)
    site.does("pools", state="absent")
    assert NOTHING in site.does("cloud_audit")


def test_a_paused_pool_stays_paused_until_it_is_told_to_go_on(site: Site) -> None:
    asg = site.cloud.client("autoscaling")
    site.does("pools")
    asg.suspend_processes(AutoScalingGroupName="lab-f2-6xlarge", ScalingProcesses=["Launch"])

    def suspended() -> set[str]:
        (group,) = asg.describe_auto_scaling_groups()["AutoScalingGroups"]
        return {process["ProcessName"] for process in group["SuspendedProcesses"]}

    assert "changed=0" in site.does("pools")
    site.does("pools", "--check", resume="f2-6xlarge")
    assert suspended() == {"AZRebalance", "Launch"}
    said = " ".join(site.does("pools", resume="f2-6xlarge").split())
    assert "f2-6xlarge: may start instances again. What it was paused for could not be read." in said
    assert suspended() == {"AZRebalance"}
    site.cloud.forget_calls()
    assert "f2-6xlarge: was not paused." in site.does("pools", resume="f2-6xlarge")
    assert site.cloud.calls(writes=True) == []
    assert "resume=f1: no such pool in cluster_node_pools. Expected one of f2-6xlarge." in site.refuses("pools", resume="f1")


def test_what_a_pool_was_paused_for_is_read_on_the_control_plane(site: Site) -> None:
    keeper = site.folder / "data" / "keeper"
    keeper.mkdir(parents=True)
    (keeper / "status.json").write_text(json.dumps({"pools": {"f2-6xlarge": {"paused": {"kind": "failed_joins", "why": "3 instances failed."}}}}))
    here = "{ansible_connection: local, ansible_python_interpreter: '{{ ansible_playbook_python }}', vpn_address: 172.27.224.1}"
    inventory = (site.folder / "site.yml").read_text()
    (site.folder / "site.yml").write_text(re.sub(r"\{ansible_host: [^}]*\}", here, inventory))
    site.does("pools")
    site.cloud.client("autoscaling").suspend_processes(AutoScalingGroupName="lab-f2-6xlarge", ScalingProcesses=["Launch"])
    said = " ".join(site.does("pools", resume="f2-6xlarge", cluster_data_folder=str(site.folder / "data")).split())
    assert "may start instances again. It was paused for: 3 instances failed." in said


def test_another_clusters_things_stay_its_own(site: Site) -> None:
    site.does("pools", cluster_id=OTHER_ID)
    assert "lab-nodes (sg-" in site.refuses("pools")
    refused = site.play("pools", pools_security_group="mine", cluster_node_pools=[{**POOL, "name": "mine"}])
    assert refused.returncode == 2
    assert f"/fpga-hybrid/lab belongs to cluster lab ({OTHER_ID}), this is cluster lab ({ID})." in " ".join(refused.stdout.split())
    site.does("pools", state="absent", cluster_ssm_prefix="/elsewhere")
    assert "4 in all, none of them orphaned." in site.does("cloud_audit", cluster_id=OTHER_ID)


def test_more_than_may_be_paid_for_is_refused_without_asking_aws(site: Site) -> None:
    assert "the pools may run 9 instances at once (f2-6xlarge 9); expected at most 4." in site.refuses("pools", cluster_node_pools=[{**POOL, "max_size": 9}])
    assert site.cloud.calls() == []


def test_the_clusters_id_is_read_from_the_control_plane(site: Site) -> None:
    state = site.folder / "state"
    state.mkdir()
    (state / "cluster.json").write_text(json.dumps({"schema": 1, "cluster_id": OTHER_ID, "cluster_name": "lab"}))
    here = "{ansible_connection: local, ansible_python_interpreter: '{{ ansible_playbook_python }}', vpn_address: 172.27.224.1}"
    inventory = (site.folder / "site.yml").read_text()
    (site.folder / "site.yml").write_text(re.sub(r"\{ansible_host: [^}]*\}", here, inventory))
    site.does("pools", cluster_id=None, cluster_state_folder=str(state))
    (group,) = site.cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert OTHER_ID in {tag["Value"] for tag in group["Tags"]}
    assert "4 in all, none of them orphaned." in site.does("cloud_audit", cluster_id=None, cluster_state_folder=str(state))


def test_a_cluster_that_was_never_made_has_no_pools(site: Site) -> None:
    (site.folder / "site.yml").write_text("all: {}")
    for playbook in ("pools", "cloud_audit"):
        assert "There is no cluster id: site.yml makes it" in site.refuses(playbook, cluster_id=None)


# ---- preflight


def test_preflight_says_who_asks_what_is_granted_and_where(site: Site) -> None:
    (vpc,) = site.cloud.client("ec2").describe_vpcs()["Vpcs"]
    answer = site.preflight(pools=[POOL, BIG], credentials=site.cloud.user("ann", site.policies(pools=[POOL, BIG])["pools"]))
    assert (answer["account"], answer["arn"], answer["vpc_id"]) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ann", vpc["VpcId"])
    assert answer["rights_asked_by"] == "iam:SimulatePrincipalPolicy"
    assert [(quota["needed"], quota["granted"]) for quota in answer["quotas"]] == [(2 * 24 + 2 * 48, 512)]
    assert answer["notes"] == []


def test_a_quota_that_is_too_small_is_said_with_both_figures(site: Site) -> None:
    site.cloud.settings(quotas={"L-74FC7D96": 96})
    answer = site.preflight(pools=[{**POOL, "max_size": 4}, {**BIG, "max_size": 4}])
    assert "288 needed, 96 granted: lower max_size or request 288" in answer["msg"]


def test_the_root_user_is_not_asked_about_rights(site: Site) -> None:
    assert site.preflight()["rights_asked_by"] == "the root user, who may do everything"
    assert site.cloud.calls("SimulatePrincipalPolicy") == []


def without(policy: dict[str, Any], *actions: str) -> dict[str, Any]:
    less = copy.deepcopy(policy)
    for statement in less["Statement"]:
        statement["Action"] = [action for action in statement["Action"] if action not in actions]
    less["Statement"] = [statement for statement in less["Statement"] if statement["Action"]]
    return less


def test_missing_actions_are_named_one_by_one(site: Site) -> None:
    lacking = without(site.policies()["pools"], "autoscaling:SuspendProcesses", "ssm:PutParameter", "ec2:DescribeVpcs")
    message = site.preflight(credentials=site.cloud.user("ann", lacking))["msg"]
    assert "user/ann lacks autoscaling:SuspendProcesses on arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:" in message
    assert "ec2:DescribeVpcs, ssm:PutParameter on arn:aws:ssm:us-east-1:123456789012:parameter/fpga-hybrid/lab/x (asked by" in message
    assert "Playbook iam writes that policy" in message


@pytest.mark.parametrize(
    "action", ["autoscaling:CreateAutoScalingGroup", "ec2:CreateTags", "ec2:RunInstances", "iam:CreateServiceLinkedRole", "ssm:DeleteParameters"]
)
def test_every_kind_of_right_is_missed(site: Site, action: str) -> None:
    assert action in site.preflight(credentials=site.cloud.user("ann", without(site.policies()["pools"], action)))["msg"]


def test_a_role_is_asked_about_by_its_path(site: Site) -> None:
    iam, policy = site.cloud.client("iam"), site.policies(path="/fpga/")["pools"]
    role = iam.create_role(RoleName="lab-pools", Path="/fpga/", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    iam.put_role_policy(RoleName="lab-pools", PolicyName="pools", PolicyDocument=json.dumps(policy))
    credentials = site.cloud.assume(role, "ann")
    assert site.preflight(credentials=credentials, iam_path="/fpga/")["rights_asked_by"] == "iam:SimulatePrincipalPolicy"
    assert site.preflight(credentials=credentials)["rights_asked_by"] == "dry runs"


def test_who_may_not_ask_has_ec2_tried_and_is_told_what_was_not(site: Site) -> None:
    policy = without(site.policies()["pools"], "iam:SimulatePrincipalPolicy")
    answer = site.preflight(credentials=site.cloud.user("ann", policy))
    assert "autoscaling:CreateAutoScalingGroup" in answer["rights_not_asked"]
    assert "only EC2 was asked, by dry runs. Not asked: autoscaling:CreateAutoScalingGroup," in answer["notes"][0]
    refused = site.preflight(credentials=site.cloud.user("bob", without(policy, "ec2:CreateSecurityGroup")))
    assert "user/bob lacks ec2:CreateSecurityGroup (asked by dry runs)" in refused["msg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"account_id": "210987654321"}, "these credentials are of account 123456789012; expected account 210987654321."),
        ({"pools": [{**POOL, "availability_zones": ["us-east-1e"]}]}, "pool f2-6xlarge, availability_zones: f2.6xlarge isn't offered in us-east-1e"),
        ({"pools": [{**POOL, "instance_type": "f9.6xlarge"}]}, "pool f2-6xlarge, instance_type: found f9.6xlarge, which AWS doesn't know in us-east-1"),
        (
            {"pools": [{**POOL, "availability_zones": None, "subnets": ["subnet-0123456789abcdef0"]}]},
            "pool f2-6xlarge, subnets: subnet-0123456789abcdef0 isn't there",
        ),
        ({"pools": [{**POOL, "max_sice": 1}]}, "pool f2-6xlarge, max_sice: no such key"),
        ({"endpoint_url": "http://127.0.0.1:1"}, "AWS could not be reached"),
    ],
)
def test_what_aws_would_not_take_is_said(site: Site, options: dict[str, Any], message: str) -> None:
    answer = site.preflight(**options)
    assert answer["failed"]
    assert message in answer["msg"]


def test_pools_in_two_vpcs_cannot_share_a_security_group(site: Site) -> None:
    ec2 = site.cloud.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    elsewhere = {**BIG, "availability_zones": None, "subnets": [subnet]}
    assert "one VPC for the security group" in site.preflight(pools=[POOL, elsewhere])["msg"]
    assert site.preflight(pools=[elsewhere])["vpc_id"] == vpc
    assert "vpc_id" in site.preflight(pools=[POOL, {**elsewhere, "security_groups": ["sg-0123456789abcdef0"]}])


def test_without_a_default_vpc_subnets_are_wanted(site: Site) -> None:
    ec2 = site.cloud.client("ec2")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.delete_vpc(VpcId=ec2.describe_vpcs()["Vpcs"][0]["VpcId"])
    assert "pool f2-6xlarge, subnets: us-east-1 of this account has no default VPC" in site.preflight()["msg"]


def test_wrong_credentials_are_said(site: Site) -> None:
    wrong = {**site.cloud.user("ann"), "aws_secret_access_key": "wrong"}
    assert "AWS does not accept these credentials" in site.preflight(credentials=wrong)["msg"]


def test_throttling_is_sat_out_and_if_it_lasts_said(site: Site) -> None:
    site.cloud.fault("throttle", service="servicequotas", times=2)
    assert site.preflight()["quotas"][0]["granted"] == 512
    site.cloud.fault("throttle", action="DescribeInstanceTypes")
    assert "AWS still throttles after several attempts" in site.preflight()["msg"]


def test_a_quota_that_cannot_be_looked_up_is_a_note(site: Site) -> None:
    site.cloud.fault("error", action="GetServiceQuota", code="NoSuchResourceException", message="no such quota")
    answer = site.preflight()
    assert answer["quotas"][0]["granted"] is None
    assert "Quota Running On-Demand F instances (L-74FC7D96) could not be looked up" in answer["notes"][0]


# ---- the path in the parameter store


def claim(site: Site, *, check: bool = False, **options: Any) -> dict[str, Any]:
    return site.module("ssm_prefix", check=check, **{"path": "/fpga-hybrid/lab", "cluster_id": ID, "cluster_name": "lab", **options})


def names(site: Site) -> list[str]:
    return sorted(entry["Name"] for entry in site.cloud.client("ssm").describe_parameters()["Parameters"])


def test_a_path_is_claimed_once_and_given_back_whole(site: Site) -> None:
    assert claim(site, check=True)["changed"]
    assert names(site) == []
    assert claim(site)["changed"]
    assert not claim(site)["changed"]
    ssm = site.cloud.client("ssm")
    for number in range(12):
        ssm.put_parameter(Name=f"/fpga-hybrid/lab/nodes/i-{number}", Value="x", Type="SecureString")
    ssm.put_parameter(Name="/fpga-hybrid/other/x", Value="x", Type="String")
    assert len(claim(site, state="absent", check=True)["deleted"]) == 13
    assert claim(site, state="absent")["changed"]
    assert names(site) == ["/fpga-hybrid/other/x"]
    assert not claim(site, state="absent")["changed"]


def test_a_removal_that_was_interrupted_goes_on(site: Site) -> None:
    claim(site)
    for number in range(12):
        site.cloud.client("ssm").put_parameter(Name=f"/fpga-hybrid/lab/nodes/i-{number}", Value="x", Type="SecureString")
    with site.cloud.before_next("ssm", "DeleteParameters", lambda _request: site.cloud.fault("deny", action="DeleteParameters")):
        assert "lacks the action ssm:DeleteParameters" in claim(site, state="absent")["msg"]
    assert "/fpga-hybrid/lab/cluster" in names(site)
    site.cloud.lift()
    claim(site, state="absent")
    assert names(site) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (f'{{"cluster_id": "{OTHER_ID}", "cluster_name": "other"}}', f"/fpga-hybrid/lab belongs to cluster other ({OTHER_ID})"),
        ("hello", "holds 'hello', expected the claim of a cluster"),
        ("[]", "holds '[]', expected the claim of a cluster"),
    ],
)
def test_somebody_elses_path_is_left_alone(site: Site, value: str, message: str) -> None:
    site.cloud.client("ssm").put_parameter(Name="/fpga-hybrid/lab/cluster", Value=value, Type="String")
    for state in ("present", "absent"):
        assert message in claim(site, state=state)["msg"]
    assert names(site) == ["/fpga-hybrid/lab/cluster"]
