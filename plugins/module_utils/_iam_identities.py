# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who does what in AWS: the identities of a cluster, and what each may do. Data; _iam.py makes policies of it.

{names} in resources and conditions are those of _iam.Scope; one with several values stands for a line each. ${...} is IAM's own.
Sources: Service Authorization Reference for EC2, EC2 Auto Scaling, Systems Manager, Service Quotas and IAM (which actions know which
resources, and which condition keys); EC2 Auto Scaling User Guide, "Launch template support" (ec2:RunInstances, iam:PassRole).
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

ANYTHING = ("*",)
GROUP = "arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/{group}"
LAUNCH_CONFIGURATION = "arn:{partition}:autoscaling:{region}:{account}:launchConfiguration:*:launchConfigurationName/{group}-*"
EC2 = "arn:{partition}:ec2:{region}:{account}:"
LAUNCH_TEMPLATE, SECURITY_GROUP, VPC = f"{EC2}launch-template/*", f"{EC2}security-group/*", f"{EC2}vpc/*"
INSTANCE, VOLUME, NETWORK_INTERFACE = f"{EC2}instance/*", f"{EC2}volume/*", f"{EC2}network-interface/*"
SUBNET, KEY_PAIR, IMAGE = f"{EC2}subnet/*", f"{EC2}key-pair/*", "arn:{partition}:ec2:{region}::image/*"
SNAPSHOT = "arn:{partition}:ec2:{region}::snapshot/*"
PARAMETERS = "arn:{partition}:ssm:{region}:{account}:parameter{ssm_prefix}/*"
#: Join bundles, each named after its instance; and what instances say of why they did not join.
BUNDLES, EVIDENCE = (f"arn:{{partition}}:ssm:{{region}}:{{account}}:parameter{{ssm_prefix}}/{folder}/*" for folder in ("nodes", "failures"))
#: ssm:GetParametersByPath is judged by the path that it names, not by what is below it.
EVIDENCE_FOLDER = EVIDENCE.removesuffix("/*")
QUOTAS = "arn:{partition}:servicequotas:{region}:{account}:ec2/*"
SERVICE_LINKED_ROLE = "arn:{partition}:iam::{account}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"

Condition = Mapping[str, Mapping[str, Union[str, tuple[str, ...]]]]

#: What carries the cluster's id, and what is given it as it is made.
OURS: Condition = {"StringEquals": {"aws:ResourceTag/fpga.hybrid/cluster-id": "{cluster_id}"}}
MADE_OURS: Condition = {"StringEquals": {"aws:RequestTag/fpga.hybrid/cluster-id": "{cluster_id}"}}

#: What a grant may depend on in the declaration (_iam.Scope.features).
LAUNCH_CONFIGURATIONS, INSTANCE_PROFILES, KEY_PAIRS = "launch_configurations", "instance_profiles", "key_pairs"
SUBNETS, DEFAULT_VPC = "subnets", "default_vpc"

#: What a build of an image has started, or made. It carries no cluster's id (_image_builds.py).
OF_A_BUILD: Condition = {"StringEquals": {"aws:ResourceTag/fpga.hybrid/image-of": "{cluster_name}"}}
MADE_BY_A_BUILD: Condition = {"StringEquals": {"aws:RequestTag/fpga.hybrid/image-of": "{cluster_name}"}}


@dataclass(frozen=True)
class Grant:
    """Actions that are allowed together. needs: the feature without which nobody would use them."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ANYTHING
    condition: Condition = field(default_factory=dict)
    needs: str = ""


@dataclass(frozen=True)
class Identity:
    """purpose: a sentence for whoever is to grant it. trusted: who may become it, where its role is made: people, or ec2."""

    name: str
    purpose: str
    grants: tuple[Grant, ...]
    trusted: str = "people"


#: Everything that carries the cluster's id, wherever it stands.
AUDIT = (
    Grant(
        "ListWhatCarriesTheClustersId",
        (
            "autoscaling:DescribeAutoScalingGroups",
            "autoscaling:DescribeLaunchConfigurations",
            "ec2:DescribeInstances",
            "ec2:DescribeLaunchTemplates",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeVolumes",
            "ssm:DescribeParameters",
            "tag:GetResources",
        ),
    ),
)

POOLS = Identity(
    "pools",
    "Runs pools.yml: makes, changes and removes the cluster's node pools, their security group and their part of the parameter store.",
    (
        *AUDIT,
        Grant(
            "LookBeforeChanging",
            (
                "ec2:DescribeImages",
                "ec2:DescribeInstanceTypeOfferings",
                "ec2:DescribeInstanceTypes",
                "ec2:DescribeLaunchTemplateVersions",
                "ec2:DescribeTags",
            ),
        ),
        Grant("LookAtSubnets", ("ec2:DescribeSubnets",), needs=SUBNETS),
        Grant("LookForTheDefaultVpc", ("ec2:DescribeVpcs",), needs=DEFAULT_VPC),
        Grant("LookAtQuotas", ("servicequotas:GetServiceQuota",), (QUOTAS,)),
        Grant("LookAtOwnRights", ("iam:SimulatePrincipalPolicy",), ("{own_role}", "arn:{partition}:iam::{account}:user/${aws:username}")),
        Grant("MakeGroups", ("autoscaling:CreateAutoScalingGroup",), (GROUP,), MADE_OURS),
        Grant(
            "ChangeGroups",
            (
                "autoscaling:CreateOrUpdateTags",
                "autoscaling:DeleteAutoScalingGroup",
                "autoscaling:DeleteTags",
                "autoscaling:ResumeProcesses",
                "autoscaling:SuspendProcesses",
                "autoscaling:UpdateAutoScalingGroup",
            ),
            (GROUP,),
            OURS,
        ),
        Grant(
            "MakeAndDeleteLaunchConfigurations",
            ("autoscaling:CreateLaunchConfiguration", "autoscaling:DeleteLaunchConfiguration"),
            (LAUNCH_CONFIGURATION,),
            needs=LAUNCH_CONFIGURATIONS,
        ),
        Grant("MakeTemplates", ("ec2:CreateLaunchTemplate",), (LAUNCH_TEMPLATE,), MADE_OURS),
        Grant("MakeSecurityGroups", ("ec2:CreateSecurityGroup",), (SECURITY_GROUP,), MADE_OURS),
        Grant("MakeSecurityGroupsInAVpc", ("ec2:CreateSecurityGroup",), (VPC,)),
        Grant(
            "ChangeTemplates",
            ("ec2:CreateLaunchTemplateVersion", "ec2:DeleteLaunchTemplate", "ec2:DeleteLaunchTemplateVersions", "ec2:ModifyLaunchTemplate"),
            (LAUNCH_TEMPLATE,),
            OURS,
        ),
        Grant("CloseAndRemoveSecurityGroups", ("ec2:DeleteSecurityGroup", "ec2:RevokeSecurityGroupIngress"), (SECURITY_GROUP,), OURS),
        # A group that is made with a launch template is tried out with the rights of whoever makes it.
        Grant("LaunchOurTemplates", ("ec2:RunInstances",), (LAUNCH_TEMPLATE,), OURS),
        Grant(
            "LaunchWhatTemplatesName",
            ("ec2:RunInstances",),
            (IMAGE, INSTANCE, NETWORK_INTERFACE, SECURITY_GROUP, SUBNET, VOLUME),
            {"ArnLike": {"ec2:LaunchTemplate": LAUNCH_TEMPLATE}},
        ),
        Grant("LaunchWithKeyPairs", ("ec2:RunInstances",), (KEY_PAIR,), {"ArnLike": {"ec2:LaunchTemplate": LAUNCH_TEMPLATE}}, needs=KEY_PAIRS),
        Grant(
            "TagWhatIsMade",
            ("ec2:CreateTags",),
            (INSTANCE, LAUNCH_TEMPLATE, NETWORK_INTERFACE, SECURITY_GROUP, VOLUME),
            {
                "StringEquals": {
                    **MADE_OURS["StringEquals"],
                    "ec2:CreateAction": ("CreateLaunchTemplate", "CreateSecurityGroup", "RunInstances"),
                }
            },
        ),
        Grant(
            "GiveInstancesTheirRole",
            ("iam:PassRole",),
            ("{passed_role}",),
            {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
            needs=INSTANCE_PROFILES,
        ),
        Grant(
            "MakeTheFirstGroupOfAnAccount",
            ("iam:CreateServiceLinkedRole",),
            (SERVICE_LINKED_ROLE,),
            {"StringEquals": {"iam:AWSServiceName": "autoscaling.amazonaws.com"}},
        ),
        Grant(
            "KeepTheParameters",
            ("ssm:AddTagsToResource", "ssm:DeleteParameters", "ssm:GetParameter", "ssm:PutParameter"),
            (PARAMETERS,),
        ),
    ),
)

INVENTORY = Identity(
    "inventory",
    "Reads only: the inventory plugin's AWS half, and cloud_audit.yml.",
    AUDIT,
)

KEEPER = Identity(
    "keeper",
    "Runs fpga-hybrid-keeper on the control plane: gives each instance of the pools its join bundle, tags it with its VPN address, and stops launches.",
    (
        Grant("LookAtGroupsAndInstances", ("autoscaling:DescribeAutoScalingGroups", "ec2:DescribeInstances")),
        Grant(
            "TellTheVpnAddressAndTillWhenOneIsKept",
            ("ec2:CreateTags",),
            (INSTANCE,),
            {**OURS, "ForAllValues:StringEquals": {"aws:TagKeys": ("fpga.hybrid/kept-until", "fpga.hybrid/vpn-address")}},
        ),
        # Who may read a parameter is said by its tags, so it is made with them; it is never written over.
        Grant("WriteJoinBundles", ("ssm:AddTagsToResource", "ssm:PutParameter"), (BUNDLES,), MADE_OURS),
        # Without a condition on tags: of a parameter that is gone already, AWS would say denied instead of not found.
        Grant("RemoveJoinBundlesAndEvidence", ("ssm:DeleteParameter",), (BUNDLES, EVIDENCE)),
        Grant("ReadEvidence", ("ssm:GetParameters",), (EVIDENCE,)),
        Grant("FindEvidence", ("ssm:GetParametersByPath",), (EVIDENCE_FOLDER,)),
        Grant("StopLaunchesAndKeepFailedOnes", ("autoscaling:DetachInstances", "autoscaling:ResumeProcesses", "autoscaling:SuspendProcesses"), (GROUP,), OURS),
        Grant("EndWhatWasKept", ("ec2:TerminateInstances",), (INSTANCE,), {**OURS, "StringLike": {"aws:ResourceTag/fpga.hybrid/kept-until": "?*"}}),
    ),
)

#: All that upstream's calls (cloudprovider/aws/aws_wrapper.go), but for EKS' node groups and types chosen by requirements, which no pool has.
AUTOSCALER = Identity(
    "autoscaler",
    "Runs the Cluster Autoscaler on the control plane: says how many instances each of the pools' groups shall have, and ends those that are idle.",
    (
        Grant(
            "LookAtGroupsAndTheirTypes",
            (
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeScalingActivities",
                "ec2:DescribeInstanceTypes",
                "ec2:DescribeLaunchTemplateVersions",
            ),
        ),
        Grant("LookAtLaunchConfigurations", ("autoscaling:DescribeLaunchConfigurations",), needs=LAUNCH_CONFIGURATIONS),
        Grant("MoveGroups", ("autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"), (GROUP,), OURS),
    ),
)

#: The role of the instances themselves (a pool's instance_profile).
INSTANCES = Identity(
    "instance",
    "What an instance of the pools may do: read its own join bundle, say why it did not join, and end itself when its cluster is gone.",
    (
        Grant(
            "ReadTheOwnJoinBundle",
            ("ssm:GetParameter",),
            (BUNDLES,),
            {"StringEquals": {"aws:ResourceTag/fpga.hybrid/instance-arn": "${ec2:SourceInstanceARN}"}},
        ),
        Grant("LeaveEvidence", ("ssm:PutParameter",), (EVIDENCE,)),
        # The action knows the group only, by name and tags, and not the instance: one that was broken into may end others of the cluster's pools.
        Grant("EndItself", ("autoscaling:TerminateInstanceInAutoScalingGroup",), (GROUP,), OURS),
        # One that no group has powers itself off. The action knows no resources.
        Grant("SeeWhetherAGroupHasIt", ("autoscaling:DescribeAutoScalingInstances",)),
    ),
    trusted="ec2",
)

IMAGES = Identity(
    "image",
    "Runs image.yml -e image_target=ec2 with SSH: starts an instance, makes an AMI of it, ends it, and removes older AMIs of its own.",
    (
        Grant(
            "LookBeforeBuilding",
            (
                "autoscaling:DescribeLaunchConfigurations",
                "ec2:DescribeImageAttribute",
                "ec2:DescribeImages",
                "ec2:DescribeInstanceAttribute",
                "ec2:DescribeInstanceStatus",
                "ec2:DescribeInstances",
                "ec2:DescribeKeyPairs",
                "ec2:DescribeLaunchTemplateVersions",
                "ec2:DescribeLaunchTemplates",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeTags",
            ),
        ),
        Grant("MakeKeyPairAndSecurityGroup", ("ec2:CreateSecurityGroup", "ec2:ImportKeyPair"), (KEY_PAIR, SECURITY_GROUP), MADE_BY_A_BUILD),
        Grant("MakeTheSecurityGroupInAVpc", ("ec2:CreateSecurityGroup",), (VPC,)),
        Grant(
            "OpenAndRemoveTheSecurityGroup",
            ("ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteSecurityGroup"),
            (SECURITY_GROUP,),
            OF_A_BUILD,
        ),
        Grant("RemoveTheKeyPair", ("ec2:DeleteKeyPair",), (KEY_PAIR,), OF_A_BUILD),
        Grant("StartAnInstanceWithThem", ("ec2:RunInstances",), (KEY_PAIR, SECURITY_GROUP), OF_A_BUILD),
        Grant("StartAnInstanceSomewhere", ("ec2:RunInstances",), (IMAGE, NETWORK_INTERFACE, SNAPSHOT, SUBNET)),
        Grant(
            "StartAnInstance",
            ("ec2:RunInstances",),
            (INSTANCE,),
            {"StringEquals": {**MADE_BY_A_BUILD["StringEquals"], "ec2:MetadataHttpTokens": "required"}},
        ),
        Grant("StartAnInstanceWithADisk", ("ec2:RunInstances",), (VOLUME,), MADE_BY_A_BUILD),
        Grant("MakeAnImageOfTheInstanceAndEndIt", ("ec2:CreateImage", "ec2:StopInstances", "ec2:TerminateInstances"), (INSTANCE,), OF_A_BUILD),
        Grant("MakeTheImage", ("ec2:CreateImage",), (IMAGE, SNAPSHOT), MADE_BY_A_BUILD),
        Grant("RemoveOlderImages", ("ec2:DeleteSnapshot", "ec2:DeregisterImage"), (IMAGE, SNAPSHOT), OF_A_BUILD),
        Grant(
            "TagWhatTheBuildMakes",
            ("ec2:CreateTags",),
            (IMAGE, INSTANCE, KEY_PAIR, SECURITY_GROUP, SNAPSHOT, VOLUME),
            {
                "StringEquals": {
                    **MADE_BY_A_BUILD["StringEquals"],
                    "ec2:CreateAction": ("CreateImage", "CreateSecurityGroup", "ImportKeyPair", "RunInstances"),
                }
            },
        ),
    ),
)

IDENTITIES: Mapping[str, Identity] = {identity.name: identity for identity in (POOLS, INVENTORY, KEEPER, AUTOSCALER, INSTANCES, IMAGES)}
