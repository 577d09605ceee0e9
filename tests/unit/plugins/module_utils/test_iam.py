# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies and templates for the cluster's identities, judged by the lab's own evaluator of IAM policies."""

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._iam import (
    POLICY_SIZE,
    IamError,
    make_scope,
    policy_of,
    principal_of,
    simulations,
    stack_of,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._iam_identities import IDENTITIES, INSTANCES, INVENTORY, KEEPER, POOLS, Grant, Identity
from lab.cloud.policies import evaluate, statements_of

ID = "5c9e8f6a-0000-4000-8000-000000000001"
PLAIN = {"name": "f2-6xlarge", "availability_zones": ["us-east-1a"]}
EVERYTHING = [
    {**PLAIN, "instance_profile": "lab-instance", "key_name": "lab"},
    {"name": "f2-12xlarge", "subnets": ["subnet-0123456789abcdef0"]},
    {"name": "f1", "group_name": "f1-2xlarge", "kind": "launch_configuration", "availability_zones": ["us-east-1a"]},
]


def scope(pools=EVERYTHING, **changes):
    return make_scope("lab", "us-east-1", pools, **{"account": "123456789012", "cluster_id": ID, **changes})


def statement(policy, sid):
    return next(one for one in policy["Statement"] if one["Sid"] == sid)


def sids(policy):
    return {one["Sid"] for one in policy["Statement"]}


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_policy_is_one_that_iam_takes(name):
    policy = policy_of(IDENTITIES[name], scope())
    assert len(sids(policy)) == len(policy["Statement"])
    assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids(policy))
    assert len(re.sub(r"\s", "", json.dumps(policy))) <= POLICY_SIZE
    for one in statements_of(policy):
        assert one["Action"] == sorted(one["Action"])
        assert "{" not in re.sub(r"\$\{[^}]*\}", "", json.dumps(one["Resource"]))


@pytest.mark.parametrize("name", IDENTITIES)
def test_only_reading_is_granted_on_everything(name):
    for one in policy_of(IDENTITIES[name], scope())["Statement"]:
        if one["Resource"] == "*":
            assert all(re.match(r"\w+:(Describe|Get|List)", action) for action in one["Action"])


def test_keeper_may_give_no_tag_but_the_vpn_address():
    policy = policy_of(KEEPER, scope())
    instance = "arn:aws:ec2:us-east-1:123456789012:instance/i-1"
    ours = {"aws:ResourceTag/fpga.hybrid/cluster-id": ID}
    assert evaluate([policy], None, "ec2:CreateTags", instance, {**ours, "aws:TagKeys": ["fpga.hybrid/vpn-address"]}).allowed
    assert not evaluate([policy], None, "ec2:CreateTags", instance, {**ours, "aws:TagKeys": ["fpga.hybrid/vpn-address", "fpga.hybrid/cluster-id"]}).allowed


def test_an_instance_ends_instances_of_this_clusters_groups_only():
    """Which of them, the action does not know; so it is said in docs/security.md."""
    policy, action = policy_of(INSTANCES, scope()), "autoscaling:TerminateInstanceInAutoScalingGroup"
    group = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/"
    ours = {"aws:ResourceTag/fpga.hybrid/cluster-id": ID}
    assert evaluate([policy], None, action, f"{group}lab-f2-6xlarge", ours).allowed
    assert evaluate([policy], None, action, f"{group}f1-2xlarge", ours).allowed
    assert not evaluate([policy], None, action, f"{group}production", ours).allowed
    assert not evaluate([policy], None, action, f"{group}lab-f2-6xlarge", {"aws:ResourceTag/fpga.hybrid/cluster-id": "another"}).allowed
    assert not evaluate([policy], None, action, f"{group}lab-f2-6xlarge", {}).allowed
    for other in ("autoscaling:SetDesiredCapacity", "autoscaling:UpdateAutoScalingGroup", "ec2:TerminateInstances"):
        assert not evaluate([policy], None, other, f"{group}lab-f2-6xlarge", ours).allowed


def test_the_inventory_only_reads():
    assert all(re.match(r"\w+:(Describe|Get)", action) for one in policy_of(INVENTORY, scope())["Statement"] for action in one["Action"])


@pytest.mark.parametrize("name", IDENTITIES)
def test_what_a_policy_says_of_itself_is_allowed_by_it(name):
    """Each question that preflight asks about a statement, and with its conditions unmet never through that statement."""
    policy = policy_of(IDENTITIES[name], scope())
    asked = set()
    for question in simulations(policy):
        for action in question.actions:
            assert evaluate([policy], None, action, question.resource, dict(question.context)).allowed
            asked.add(action)
            if question.context:
                others = {key: f"something-else-{number}" for number, (key, _value) in enumerate(question.context)}
                assert not evaluate([policy], None, action, question.resource, others).allowed
    assert asked == {action for one in policy["Statement"] for action in one["Action"]}


def test_resources_are_those_of_the_declaration():
    policy = policy_of(POOLS, scope(ssm_prefix="/teams/fpga"))
    assert statement(policy, "MakeGroups")["Resource"] == [
        "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:*:autoScalingGroupName/lab-*",
        "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:*:autoScalingGroupName/f1-2xlarge",
    ]
    assert statement(policy, "KeepTheParameters")["Resource"] == ["arn:aws:ssm:us-east-1:123456789012:parameter/teams/fpga/*"]
    assert statement(policy, "GiveInstancesTheirRole")["Resource"] == [
        "arn:aws:iam::123456789012:role/lab-instance",
        "arn:aws:iam::123456789012:role/*/lab-instance",
    ]
    assert statement(policy, "ChangeGroups")["Condition"] == {"StringEquals": {"aws:ResourceTag/fpga.hybrid/cluster-id": ID}}


def test_one_pool_more_needs_no_other_policy():
    assert policy_of(POOLS, scope([PLAIN])) == policy_of(POOLS, scope([PLAIN, {**PLAIN, "name": "f2-48xlarge"}]))


@pytest.mark.parametrize(
    ("pools", "missing"),
    [
        ([PLAIN], {"MakeAndDeleteLaunchConfigurations", "GiveInstancesTheirRole", "LaunchWithKeyPairs", "LookAtSubnets"}),
        ([{"name": "a", "subnets": ["subnet-1"]}], {"LookForTheDefaultVpc"}),
    ],
)
def test_what_no_pool_needs_is_not_granted(pools, missing):
    whole, found = sids(policy_of(POOLS, scope())), sids(policy_of(POOLS, scope(pools)))
    assert missing <= whole - found


def test_without_id_and_account_the_policy_is_wider_but_never_without_a_mark():
    policy = policy_of(POOLS, scope(account="", cluster_id=None))
    assert statement(policy, "ChangeGroups")["Condition"] == {"StringLike": {"aws:ResourceTag/fpga.hybrid/cluster-id": "?*"}}
    assert statement(policy, "TagWhatIsMade")["Condition"] == {
        "StringLike": {"aws:RequestTag/fpga.hybrid/cluster-id": "?*"},
        "StringEquals": {"ec2:CreateAction": ["CreateLaunchTemplate", "CreateSecurityGroup", "RunInstances"]},
    }
    assert "arn:aws:autoscaling:us-east-1:*:autoScalingGroup:*:autoScalingGroupName/lab-*" in statement(policy, "MakeGroups")["Resource"]
    group = "arn:aws:autoscaling:us-east-1:1:autoScalingGroup:u:autoScalingGroupName/lab-x"
    assert not evaluate([policy], None, "autoscaling:DeleteAutoScalingGroup", group, {}).allowed


@pytest.mark.parametrize(("region", "partition"), [("us-east-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_arns_are_of_the_regions_partition(region, partition):
    policy = policy_of(POOLS, make_scope("lab", region, EVERYTHING))
    arns = {resource for one in policy["Statement"] if one["Resource"] != "*" for resource in one["Resource"]}
    assert {arn.split(":")[1] for arn in arns} == {partition}


def test_an_instance_may_be_held_to_its_own_parameter():
    """What later identities need: IAM's own variables stay as they are."""
    own = {"StringEquals": {"aws:ResourceTag/fpga.hybrid/instance-arn": "${ec2:SourceInstanceARN}"}}
    identity = Identity(
        "instance", "Joins.", (Grant("ReadOwn", ("ssm:GetParameter",), ("arn:{partition}:ssm:{region}:{account}:parameter{ssm_prefix}/nodes/*",), own),), "ec2"
    )
    policy = policy_of(identity, scope())
    assert policy["Statement"][0]["Condition"] == own
    assert policy["Statement"][0]["Resource"] == ["arn:aws:ssm:us-east-1:123456789012:parameter/fpga-hybrid/lab/nodes/*"]
    stack = stack_of(identity, scope(), make_role=True)
    assert stack["Resources"]["InstanceProfile"]["Properties"]["Roles"] == [{"Ref": "Role"}]
    assert stack["Resources"]["Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": "ec2.amazonaws.com"}


def test_given_identities_get_a_policy_and_no_role():
    stack = stack_of(POOLS, scope(), make_role=False)
    assert set(stack["Resources"]) == {"Policy"}
    assert stack["Resources"]["Policy"]["Properties"]["PolicyDocument"] == policy_of(POOLS, scope())


def test_a_role_is_made_with_its_path_boundary_and_trust():
    boundary, trusted = "arn:aws:iam::123456789012:policy/boundary", "arn:aws:iam::123456789012:role/admins"
    resources = stack_of(POOLS, scope(path="/fpga/"), make_role=True, boundary=boundary, trusted=[trusted])["Resources"]
    role = resources["Role"]["Properties"]
    assert (role["RoleName"], role["Path"], role["PermissionsBoundary"]) == ("lab-pools", "/fpga/", boundary)
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"AWS": [trusted]}
    assert resources["Policy"]["Properties"]["Roles"] == [{"Ref": "Role"}]
    assert "PermissionsBoundary" not in stack_of(POOLS, scope(), make_role=True)["Resources"]["Role"]["Properties"]
    anybody = stack_of(POOLS, scope(), make_role=True)["Resources"]["Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]
    assert anybody == {"AWS": {"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:root"}}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scope(account="12"), "cluster_aws_account_id: found '12'; expected twelve digits"),
        (lambda: scope(path="fpga"), "iam_path: found 'fpga'; expected a path as /teams/fpga/"),
        (lambda: make_scope("x" * 60, "us-east-1", []), "cluster_name: makes the role name"),
        (lambda: stack_of(POOLS, scope(), make_role=True, boundary="boundary"), "iam_permissions_boundary: found 'boundary'; expected an ARN"),
        (lambda: stack_of(POOLS, scope(), make_role=True, trusted=["ann"]), "iam_trusted: found 'ann'; expected an ARN"),
        (
            lambda: policy_of(POOLS, scope([{**PLAIN, "group_name": f"a-very-long-name-of-a-group-{number}"} for number in range(40)])),
            "cluster_node_pools: the policy of pools has",
        ),
    ],
)
def test_what_cannot_be_made_a_policy_of_is_said(make, message):
    with pytest.raises(IamError) as error:
        make()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("caller", "path", "principal"),
    [
        ("arn:aws:iam::123456789012:user/teams/ann", "/", "arn:aws:iam::123456789012:user/teams/ann"),
        ("arn:aws:sts::123456789012:assumed-role/lab-pools/ann", "/", "arn:aws:iam::123456789012:role/lab-pools"),
        ("arn:aws:sts::123456789012:assumed-role/lab-pools/ann", "/fpga/", "arn:aws:iam::123456789012:role/fpga/lab-pools"),
        ("arn:aws:iam::123456789012:root", "/", None),
        ("arn:aws:sts::123456789012:federated-user/ann", "/", None),
    ],
)
def test_whose_policies_a_caller_acts_under(caller, path, principal):
    assert principal_of(caller, path) == principal
