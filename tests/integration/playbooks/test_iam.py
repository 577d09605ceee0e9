# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/iam.yml: contacts nothing, and what it writes is enough and no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.playbooks.controller import ID, OTHER_ID, POOL, Site, denied

FILES = sorted(f"{name}.{kind}.json" for name in ("autoscaler", "image", "instance", "inventory", "keeper", "pools") for kind in ("cloudformation", "policy"))


def actions(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_it_contacts_nothing_and_a_second_run_changes_nothing(site: Site) -> None:
    folder = site.folder / "iam"
    assert "changed=1" in site.does("iam", dest=str(folder))
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert json.loads((folder / "pools.policy.json").read_text()) == site.policies()["pools"]
    assert "changed=0" in site.does("iam", dest=str(folder))
    assert site.cloud.calls() == []


def test_in_check_mode_it_shows_and_writes_nothing(site: Site) -> None:
    output = site.does("iam", "--check", "--diff", dest=str(site.folder / "iam"))
    assert '+      "Sid": "MakeGroups",' in output
    assert not (site.folder / "iam").exists()


def test_it_says_where_the_policies_are_wider_than_need_be(site: Site) -> None:
    output = " ".join(site.does("iam", "--check", dest=str(site.folder / "iam"), cluster_id=None, cluster_aws_account_id="").split())
    assert "Without the cluster's id these policies hold for every cluster of this collection's in the account." in output
    assert "Without cluster_aws_account_id" in output


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "expected an absolute path. Name the folder for the policies: -e dest=DIR."),
        (
            {"dest": "/nowhere", "iam_identities": ["beekeeper"]},
            "identities: found beekeeper; expected some of pools, inventory, keeper, autoscaler, instance, image.",
        ),
        ({"dest": "/nowhere", "iam_path": "fpga"}, "iam_path: found 'fpga'; expected a path"),
        ({"dest": "/nowhere", "cluster_node_pools": [], "cluster_aws_region": None}, "cluster.region: found nothing"),
    ],
)
def test_it_says_what_it_cannot_use(site: Site, variables: dict[str, Any], message: str) -> None:
    assert message in site.refuses("iam", **variables)


def test_every_granted_action_is_used_and_no_other_is_needed(site: Site) -> None:
    """pools.yml from the first pool to the last, by the role that iam.yml has made; then the audit by its reader."""
    cloud = site.cloud
    ec2, iam = cloud.client("ec2"), cloud.client("iam")
    subnet = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1a"]}])["Subnets"][0]["SubnetId"]
    iam.create_role(RoleName="lab-instance", Path="/fpga/", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="lab-instance")
    iam.add_role_to_instance_profile(InstanceProfileName="lab-instance", RoleName="lab-instance")

    def pool(size: int, tags: int, **more: Any) -> dict[str, Any]:
        root = {"root_volume": {"size": size}, "tags": {f"tag{number}": "x" for number in range(tags)}}
        where = {"subnets": [subnet], "instance_profile": "lab-instance", "key_name": "lab"}
        return {"name": "f2-6xlarge", "instance_type": "f2.6xlarge", "max_size": 2, **where, **root, **more}

    old = {"name": "f1", "group_name": "f1-2xlarge", "instance_type": "f1.2xlarge", "kind": "launch_configuration", "max_size": 1, "allow_retired": True}
    old = {**old, "availability_zones": ["us-east-1a"]}
    steps: list[dict[str, Any]] = [
        {"cluster_node_pools": [pool(80, 25), old]},
        {"cluster_node_pools": [pool(90, 20, max_size=3), {**old, "root_volume": {"size": 100}}], "pools_keep_versions": 1},
        {"cluster_node_pools": [pool(100, 20, max_size=3)], "pools_keep_versions": 1, "purge": True},
    ]
    site.does("iam", dest=str(site.folder / "iam"), aws_iam="create", iam_identities=["pools", "inventory"], **steps[0])
    granted = {name: json.loads((site.folder / "iam" / f"{name}.policy.json").read_text()) for name in ("pools", "inventory")}
    credentials = cloud.assume(iam.get_role(RoleName="lab-pools")["Role"]["Arn"], "ann")
    cloud.forget_calls()
    for step in steps:
        group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["lab-nodes"]}])["SecurityGroups"]
        if group:  # somebody opens a port; the next run closes it
            ec2.authorize_security_group_ingress(GroupId=group[0]["GroupId"], IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
        assert "could not" not in site.does("pools", credentials=credentials, **step)
    assert ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["lab-nodes"]}])["SecurityGroups"][0]["IpPermissions"] == []
    cloud.client("autoscaling").suspend_processes(AutoScalingGroupName="lab-f2-6xlarge", ScalingProcesses=["Launch"])  # as keeper's brakes do
    site.does("pools", credentials=credentials, resume="f2-6xlarge", **steps[-1])
    site.does("pools", credentials=credentials, state="absent", **steps[-1])
    by_role = [call for call in cloud.calls() if call["identity"] == "arn:aws:sts::123456789012:assumed-role/lab-pools/ann"]
    assert {action for call in by_role for action in call["authorised"]} == actions(granted["pools"])
    assert [call["error"] for call in by_role if call["status"] in (401, 403)] == []

    reader = cloud.assume(iam.get_role(RoleName="lab-inventory")["Role"]["Arn"], "ann")
    cloud.forget_calls()
    assert "Nothing in AWS carries this cluster's id." in site.does("cloud_audit", credentials=reader, **steps[-1])
    assert {action for call in cloud.calls() for action in call["authorised"]} == actions(granted["inventory"])


def test_roles_come_with_path_and_boundary_and_go_again(site: Site) -> None:
    iam = site.cloud.client("iam")
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]}
    boundary = iam.create_policy(PolicyName="boundary", PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    options = {"dest": str(site.folder / "iam"), "aws_iam": "create", "iam_path": "/fpga/", "iam_permissions_boundary": boundary}
    site.does("iam", **options)
    role = iam.get_role(RoleName="lab-pools")["Role"]
    assert (role["Path"], role["PermissionsBoundary"]["PermissionsBoundaryArn"]) == ("/fpga/", boundary)
    assert "changed=0" in site.does("iam", **options)
    site.does("iam", state="absent", **options)
    assert iam.list_roles()["Roles"] == []


# ---- each condition has a case in which it denies


def tags(cluster_id: str) -> list[dict[str, str]]:
    return [{"Key": "fpga.hybrid/cluster-id", "Value": cluster_id}]


def specified(kind: str, cluster_id: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": tags(cluster_id)}]


DATA = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "f2.6xlarge"}


def make_things(site: Site, cluster_id: str) -> None:
    """A template, a group with it, and a security group of one cluster, all called after it."""
    ec2, asg, name = site.cloud.client("ec2"), site.cloud.client("autoscaling"), f"lab-{cluster_id[-1]}"
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=DATA, TagSpecifications=specified("launch-template", cluster_id))
    ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData=DATA)
    group_tags = [{**tag, "PropagateAtLaunch": True} for tag in tags(cluster_id)]
    where = {"AvailabilityZones": ["us-east-1a"], "LaunchTemplate": {"LaunchTemplateName": name, "Version": "1"}}
    asg.create_auto_scaling_group(AutoScalingGroupName=name, MinSize=0, MaxSize=2, Tags=group_tags, **where)
    group = ec2.create_security_group(GroupName=name, Description=name, TagSpecifications=specified("security-group", cluster_id))["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")


class Hands:
    """The calls of an identity, on things called after a cluster."""

    def __init__(self, site: Site, credentials: dict[str, str]) -> None:
        self._site = site
        self.ec2, self.asg, self.ssm, self.iam = (site.cloud.client(service, credentials=credentials) for service in ("ec2", "autoscaling", "ssm", "iam"))

    def security_group(self, name: str) -> str:
        found = self._site.cloud.client("ec2").describe_security_groups(Filters=[{"Name": "group-name", "Values": [name]}])
        return str(found["SecurityGroups"][0]["GroupId"])

    def instance(self, name: str, *, kept: bool = False) -> str:
        """Of the group called so; kept: with the tag that says so, whoever has given it."""
        asg = self._site.cloud.client("autoscaling")
        found = str(asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]["Instances"][0]["InstanceId"])
        if kept:
            self._site.cloud.client("ec2").create_tags(Resources=[found], Tags=[keep_tag()])
        return found

    def make_group(self, name: str, template: str, cluster_id: str) -> None:
        values = {"AvailabilityZones": ["us-east-1a"], "LaunchTemplate": {"LaunchTemplateName": template, "Version": "1"}}
        group_tags = [{**tag, "PropagateAtLaunch": True} for tag in tags(cluster_id)]
        self.asg.create_auto_scaling_group(AutoScalingGroupName=name, MinSize=0, MaxSize=1, Tags=group_tags, **values)


GROUP_TAG = {"ResourceType": "auto-scaling-group", "Key": "a", "Value": "b", "PropagateAtLaunch": False}
OURS, THEIRS = f"lab-{ID[-1]}", f"lab-{OTHER_ID[-1]}"

#: Action -> what is done to things of a name; allowed on ours, denied on theirs.
ON_WHAT_IS_THERE = {
    "autoscaling:UpdateAutoScalingGroup": lambda hands, name: hands.asg.update_auto_scaling_group(AutoScalingGroupName=name, MaxSize=3),
    "autoscaling:CreateOrUpdateTags": lambda hands, name: hands.asg.create_or_update_tags(Tags=[{**GROUP_TAG, "ResourceId": name}]),
    "autoscaling:DeleteTags": lambda hands, name: hands.asg.delete_tags(Tags=[{**GROUP_TAG, "ResourceId": name}]),
    "autoscaling:SuspendProcesses": lambda hands, name: hands.asg.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=["AZRebalance"]),
    "autoscaling:ResumeProcesses": lambda hands, name: hands.asg.resume_processes(AutoScalingGroupName=name, ScalingProcesses=["Launch"]),
    "autoscaling:DeleteAutoScalingGroup": lambda hands, name: hands.asg.delete_auto_scaling_group(AutoScalingGroupName=name),
    "ec2:CreateLaunchTemplateVersion": lambda hands, name: hands.ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData=DATA),
    "ec2:ModifyLaunchTemplate": lambda hands, name: hands.ec2.modify_launch_template(LaunchTemplateName=name, DefaultVersion="2"),
    "ec2:DeleteLaunchTemplateVersions": lambda hands, name: hands.ec2.delete_launch_template_versions(LaunchTemplateName=name, Versions=["2"]),
    "ec2:DeleteLaunchTemplate": lambda hands, name: hands.ec2.delete_launch_template(LaunchTemplateName=name),
    "ec2:RevokeSecurityGroupIngress": lambda hands, name: hands.ec2.revoke_security_group_ingress(
        GroupId=hands.security_group(name), IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
    ),
    "ec2:DeleteSecurityGroup": lambda hands, name: hands.ec2.delete_security_group(GroupId=hands.security_group(name)),
    # A group of ours with somebody else's template would start what they have put into it.
    "ec2:RunInstances": lambda hands, name: hands.make_group("lab-new", name, ID),
}
#: Action -> what is made with a cluster's id; allowed with ours, denied with theirs.
ON_WHAT_IS_MADE = {
    "autoscaling:CreateAutoScalingGroup": lambda hands, cluster_id: hands.make_group("lab-new", OURS, cluster_id),
    "ec2:CreateLaunchTemplate": lambda hands, cluster_id: hands.ec2.create_launch_template(
        LaunchTemplateName="lab-new", LaunchTemplateData=DATA, TagSpecifications=specified("launch-template", cluster_id)
    ),
    "ec2:CreateSecurityGroup": lambda hands, cluster_id: hands.ec2.create_security_group(
        GroupName="lab-new", Description="new", TagSpecifications=specified("security-group", cluster_id)
    ),
}


@pytest.fixture
def hands(site: Site) -> Hands:
    make_things(site, ID)
    make_things(site, OTHER_ID)
    profile = {**POOL, "instance_profile": "lab-instance"}
    return Hands(site, site.cloud.user("ann", site.policies(pools=[profile])["pools"]))


@pytest.mark.parametrize("action", ON_WHAT_IS_THERE)
def test_what_carries_another_clusters_id_is_not_touched(hands: Hands, action: str) -> None:
    assert action in denied(lambda: ON_WHAT_IS_THERE[action](hands, THEIRS))
    ON_WHAT_IS_THERE[action](hands, OURS)


@pytest.mark.parametrize("action", ON_WHAT_IS_MADE)
def test_nothing_is_made_that_does_not_carry_this_clusters_id(hands: Hands, action: str) -> None:
    assert action in denied(lambda: ON_WHAT_IS_MADE[action](hands, OTHER_ID))
    ON_WHAT_IS_MADE[action](hands, ID)


def test_instances_are_not_started_but_by_a_launch_template_of_ours(hands: Hands) -> None:
    denied(lambda: hands.ec2.run_instances(MinCount=1, MaxCount=1, **DATA))
    denied(lambda: hands.ec2.run_instances(MinCount=1, MaxCount=1, LaunchTemplate={"LaunchTemplateName": THEIRS}))
    hands.ec2.run_instances(MinCount=1, MaxCount=1, LaunchTemplate={"LaunchTemplateName": OURS})


def test_tags_are_given_only_to_what_is_being_made(site: Site, hands: Hands) -> None:
    instance = site.cloud.client("ec2").run_instances(MinCount=1, MaxCount=1, **DATA)["Instances"][0]["InstanceId"]
    assert "ec2:CreateTags" in denied(lambda: hands.ec2.create_tags(Resources=[instance], Tags=tags(ID)))


def test_only_the_instances_own_role_is_handed_on(site: Site, hands: Hands) -> None:
    iam, ec2 = site.cloud.client("iam"), site.cloud.client("ec2")
    for name in ("lab-instance", "administrator"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        data = {**DATA, "IamInstanceProfile": {"Name": name}}
        ec2.create_launch_template(LaunchTemplateName=f"with-{name}", LaunchTemplateData=data, TagSpecifications=specified("launch-template", ID))
    assert "iam:PassRole" in denied(lambda: hands.make_group("lab-new", "with-administrator", ID))
    hands.make_group("lab-new", "with-lab-instance", ID)


def test_an_instance_ends_itself_with_a_smaller_group_and_none_of_another_cluster(site: Site) -> None:
    make_things(site, ID)
    make_things(site, OTHER_ID)
    iam, asg = site.cloud.client("iam"), site.cloud.client("autoscaling")
    role = iam.create_role(RoleName="lab-instance", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    iam.put_role_policy(RoleName="lab-instance", PolicyName="p", PolicyDocument=json.dumps(site.policies()["instance"]))
    running = {}
    for name in (OURS, THEIRS):
        asg.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=1)
        (group,) = asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        running[name] = group["Instances"][0]["InstanceId"]
    own = site.cloud.client("autoscaling", credentials=site.cloud.assume(role, running[OURS]))
    options = {"ShouldDecrementDesiredCapacity": True}
    assert "TerminateInstanceInAutoScalingGroup" in denied(lambda: own.terminate_instance_in_auto_scaling_group(InstanceId=running[THEIRS], **options))
    denied(lambda: own.set_desired_capacity(AutoScalingGroupName=OURS, DesiredCapacity=0))
    assert [one["AutoScalingGroupName"] for one in own.describe_auto_scaling_instances(InstanceIds=[running[OURS]])["AutoScalingInstances"]] == [OURS]
    own.terminate_instance_in_auto_scaling_group(InstanceId=running[OURS], **options)
    assert [group["DesiredCapacity"] for group in asg.describe_auto_scaling_groups(AutoScalingGroupNames=[OURS, THEIRS])["AutoScalingGroups"]] == [0, 1]


# ---- keeper, which is on the control plane and holds its keys there


@pytest.fixture
def keeper(site: Site) -> Hands:
    """With an instance in each group; cluster, group and instance are called alike."""
    for cluster_id, name in ((ID, OURS), (OTHER_ID, THEIRS)):
        make_things(site, cluster_id)
        site.cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=1)
    return Hands(site, site.cloud.user("keeper", site.policies()["keeper"]))


def keep_tag(name: str = "fpga.hybrid/kept-until") -> dict[str, str]:
    return {"Key": name, "Value": "2026-11-26T14:00:00Z"}


#: Action -> what keeper does to things of a name; allowed on ours, denied on theirs.
OF_KEEPER = {
    "autoscaling:SuspendProcesses": lambda hands, name: hands.asg.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=["Launch"]),
    "autoscaling:ResumeProcesses": lambda hands, name: hands.asg.resume_processes(AutoScalingGroupName=name, ScalingProcesses=["Launch"]),
    "autoscaling:DetachInstances": lambda hands, name: hands.asg.detach_instances(
        AutoScalingGroupName=name, InstanceIds=[hands.instance(name)], ShouldDecrementDesiredCapacity=True
    ),
    "ec2:CreateTags": lambda hands, name: hands.ec2.create_tags(Resources=[hands.instance(name)], Tags=[keep_tag()]),
    "ec2:TerminateInstances": lambda hands, name: hands.ec2.terminate_instances(InstanceIds=[hands.instance(name, kept=True)]),
}


@pytest.mark.parametrize("action", OF_KEEPER)
def test_keeper_stops_keeps_and_ends_nothing_of_another_cluster(keeper: Hands, action: str) -> None:
    assert action in denied(lambda: OF_KEEPER[action](keeper, THEIRS))
    OF_KEEPER[action](keeper, OURS)


def test_keeper_ends_no_instance_that_is_not_kept_for_a_look(keeper: Hands) -> None:
    name = keeper.instance(OURS)
    assert "ec2:TerminateInstances" in denied(lambda: keeper.ec2.terminate_instances(InstanceIds=[name]))
    keeper.ec2.create_tags(Resources=[name], Tags=[keep_tag()])
    keeper.ec2.terminate_instances(InstanceIds=[name])


def test_keeper_gives_an_instance_no_other_tag_and_cannot_make_another_clusters_its_own(keeper: Hands) -> None:
    for name, tag in ((OURS, keep_tag("fpga.hybrid/cluster-id")), (OURS, keep_tag("Name")), (THEIRS, tags(ID)[0])):
        assert "ec2:CreateTags" in denied(lambda name=name, tag=tag: keeper.ec2.create_tags(Resources=[keeper.instance(name)], Tags=[tag]))  # type: ignore[misc]


def test_keeper_can_neither_start_an_instance_nor_move_a_group(keeper: Hands) -> None:
    denied(lambda: keeper.ec2.run_instances(MinCount=1, MaxCount=1, LaunchTemplate={"LaunchTemplateName": OURS}))
    denied(lambda: keeper.asg.set_desired_capacity(AutoScalingGroupName=OURS, DesiredCapacity=2))
    denied(lambda: keeper.asg.terminate_instance_in_auto_scaling_group(InstanceId=keeper.instance(OURS), ShouldDecrementDesiredCapacity=True))


@pytest.mark.parametrize(
    ("parameter", "read", "removed", "written"),
    [
        ("/fpga-hybrid/lab/failures/i-1", True, True, False),
        ("/fpga-hybrid/lab/nodes/i-1", False, True, True),
        ("/fpga-hybrid/lab/i-1", False, False, False),
        ("/fpga-hybrid/lab2/failures/i-1", False, False, False),
        ("/fpga-hybrid/other/nodes/i-1", False, False, False),
        ("/production/password", False, False, False),
    ],
)
def test_keeper_reads_what_failed_removes_and_writes_bundles_and_knows_no_other_parameter(
    site: Site, keeper: Hands, parameter: str, read: bool, removed: bool, written: bool
) -> None:
    put = {"Name": parameter, "Value": "x", "Type": "SecureString"}

    def judged(action: str, allowed: bool, act: Callable[[], object]) -> None:
        if allowed:
            act()
        else:
            assert action in denied(act)

    assert "ssm:PutParameter" in denied(lambda: keeper.ssm.put_parameter(**put, Tags=tags(OTHER_ID)))
    judged("ssm:PutParameter", written, lambda: keeper.ssm.put_parameter(**put, Tags=tags(ID)))
    if not written:
        site.cloud.client("ssm").put_parameter(**put)
    judged("ssm:GetParameters", read, lambda: keeper.ssm.get_parameters(Names=[parameter]))
    judged("ssm:DeleteParameter", removed, lambda: keeper.ssm.delete_parameter(Name=parameter))
    assert "ssm:GetParameter" in denied(lambda: keeper.ssm.get_parameter(Name=parameter))
    judged("ssm:GetParametersByPath", read, lambda: keeper.ssm.get_parameters_by_path(Path=parameter.rpartition("/")[0]))


def test_no_condition_of_keepers_policy_is_without_such_a_case(site: Site) -> None:
    own_test = {"ssm:AddTagsToResource", "ssm:PutParameter"}
    conditional = {action for statement in site.policies()["keeper"]["Statement"] if "Condition" in statement for action in statement["Action"]}
    assert conditional == {*OF_KEEPER, *own_test}


def test_the_only_role_that_is_made_is_auto_scalings_own(hands: Hands) -> None:
    assert "iam:CreateServiceLinkedRole" in denied(lambda: hands.iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com"))


def test_groups_of_other_names_and_parameters_of_other_paths_are_not_touched(site: Site, hands: Hands) -> None:
    assert "autoscaling:CreateAutoScalingGroup" in denied(lambda: hands.make_group("production", OURS, ID))
    put = {"Value": "x", "Type": "String"}
    assert "ssm:PutParameter" in denied(lambda: hands.ssm.put_parameter(Name="/production/x", **put))
    hands.ssm.put_parameter(Name="/fpga-hybrid/lab/x", **put)


def test_no_condition_of_the_policy_is_without_such_a_case(site: Site) -> None:
    """Every action that stands under a condition is in one of the tables above, or has a test of its own."""
    own_test = {"ec2:CreateTags", "iam:PassRole", "iam:CreateServiceLinkedRole"}
    policy = site.policies(pools=[{**POOL, "instance_profile": "lab-instance"}])["pools"]
    conditional = {action for statement in policy["Statement"] if "Condition" in statement for action in statement["Action"]}
    assert conditional == {*ON_WHAT_IS_THERE, *ON_WHAT_IS_MADE, *own_test}
