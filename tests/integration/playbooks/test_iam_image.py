# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identity image of iam.yml: its builds are its own, and each condition has a case in which it denies. That it is enough, test_image.py shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.integration.playbooks.controller import Site, denied

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAV6NyTnMT3mrwpqzKaRxjhVOxtSbkCGxsVIrlR6IjZe left"
#: Whose builds: this cluster's; another's; things that no build has made.
OURS, THEIRS, NOBODYS = "lab", "other", ""


def specified(of: str, *kinds: str) -> dict[str, Any]:
    tags = [{"Key": "fpga.hybrid/image-of", "Value": of}]
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in kinds]} if of else {}


@dataclass(frozen=True)
class Things:
    """What a build has in AWS. group and snapshot are in no use, so nothing but a right is wanted to remove them."""

    key: str
    group: str
    instance: str
    image: str
    snapshot: str


def things(site: Site, of: str) -> Things:
    ec2, name = site.cloud.client("ec2"), f"{of}-build"
    ec2.import_key_pair(KeyName=name, PublicKeyMaterial=PUBLIC_KEY, **specified(of, "key-pair"))
    instance = ec2.run_instances(MinCount=1, MaxCount=1, ImageId=site.image, **specified(of, "instance"))["Instances"][0]["InstanceId"]
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    return Things(
        key=name,
        group=ec2.create_security_group(GroupName=name, Description=name, **specified(of, "security-group"))["GroupId"],
        instance=instance,
        image=ec2.create_image(InstanceId=instance, Name=name, **specified(of, "image", "snapshot"))["ImageId"],
        snapshot=ec2.create_snapshot(VolumeId=volume, **specified(of, "snapshot"))["SnapshotId"],
    )


class Builder:
    def __init__(self, site: Site, credentials: dict[str, str]) -> None:
        self.ec2, self.image = site.cloud.client("ec2", credentials=credentials), site.image
        found = site.cloud.client("ec2").describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        self.subnet = found[0]["SubnetId"]

    def run(self, made: Things, tagged: dict[str, Any], tokens: str = "required") -> None:
        """Starts an instance as image.yml does: with a key pair and a security group, a disk, IMDSv2."""
        self.ec2.run_instances(
            MinCount=1,
            MaxCount=1,
            ImageId=self.image,
            KeyName=made.key,
            SecurityGroupIds=[made.group],
            SubnetId=self.subnet,
            MetadataOptions={"HttpTokens": tokens},
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 16, "Encrypted": True}}],
            **tagged,
        )


STARTED, IMAGED = ("instance", "volume"), ("image", "snapshot")
#: Action -> what is done to a build's things; allowed on ours, denied on others'. RunInstances: a key pair, or a group, of others' opens the instance to them.
ON_WHAT_IS_THERE: dict[str, Callable[[Builder, Things, Things], object]] = {
    "ec2:AuthorizeSecurityGroupIngress": lambda by, its, _ours: by.ec2.authorize_security_group_ingress(
        GroupId=its.group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="203.0.113.7/32"
    ),
    "ec2:DeleteSecurityGroup": lambda by, its, _ours: by.ec2.delete_security_group(GroupId=its.group),
    "ec2:DeleteKeyPair": lambda by, its, _ours: by.ec2.delete_key_pair(KeyName=its.key),
    "ec2:StopInstances": lambda by, its, _ours: by.ec2.stop_instances(InstanceIds=[its.instance]),
    "ec2:TerminateInstances": lambda by, its, _ours: by.ec2.terminate_instances(InstanceIds=[its.instance]),
    "ec2:CreateImage": lambda by, its, _ours: by.ec2.create_image(InstanceId=its.instance, Name="new", **specified(OURS, *IMAGED)),
    "ec2:DeregisterImage": lambda by, its, _ours: by.ec2.deregister_image(ImageId=its.image),
    "ec2:DeleteSnapshot": lambda by, its, _ours: by.ec2.delete_snapshot(SnapshotId=its.snapshot),
    "ec2:RunInstances with a key pair": lambda by, its, ours: by.run(replace(ours, key=its.key), specified(OURS, *STARTED)),
    "ec2:RunInstances with a security group": lambda by, its, ours: by.run(replace(ours, group=its.group), specified(OURS, *STARTED)),
}
#: Action -> what is made with the tag of a build; allowed with ours, denied with others' and with none.
ON_WHAT_IS_MADE: dict[str, Callable[[Builder, Things, str], object]] = {
    "ec2:CreateSecurityGroup": lambda by, _ours, of: by.ec2.create_security_group(GroupName="new", Description="new", **specified(of, "security-group")),
    "ec2:ImportKeyPair": lambda by, _ours, of: by.ec2.import_key_pair(KeyName="new", PublicKeyMaterial=PUBLIC_KEY, **specified(of, "key-pair")),
    "ec2:RunInstances": lambda by, ours, of: by.run(ours, specified(of, *STARTED)),
    "ec2:CreateImage": lambda by, ours, of: by.ec2.create_image(InstanceId=ours.instance, Name="new", **specified(of, *IMAGED)),
}


@pytest.fixture
def builder(site: Site) -> Builder:
    return Builder(site, site.cloud.user("ann", site.policies()["image"]))


@pytest.mark.parametrize("whose", [THEIRS, NOBODYS], ids=["another cluster's", "nobody's"])
@pytest.mark.parametrize("action", ON_WHAT_IS_THERE)
def test_what_no_build_of_this_cluster_has_made_is_not_touched(site: Site, builder: Builder, action: str, whose: str) -> None:
    ours, foreign = things(site, OURS), things(site, whose)
    assert action.partition(" ")[0] in denied(lambda: ON_WHAT_IS_THERE[action](builder, foreign, ours))
    ON_WHAT_IS_THERE[action](builder, ours, ours)


@pytest.mark.parametrize("whose", [THEIRS, NOBODYS], ids=["another cluster's", "nobody's"])
@pytest.mark.parametrize("action", ON_WHAT_IS_MADE)
def test_nothing_is_made_that_is_not_told_to_be_this_clusters_build(site: Site, builder: Builder, action: str, whose: str) -> None:
    ours = things(site, OURS)
    assert action in denied(lambda: ON_WHAT_IS_MADE[action](builder, ours, whose))
    ON_WHAT_IS_MADE[action](builder, ours, OURS)


def test_no_instance_is_started_whose_disk_nobody_would_find_again_or_whose_metadata_anybody_reads(site: Site, builder: Builder) -> None:
    ours = things(site, OURS)
    assert "ec2:RunInstances" in denied(lambda: builder.run(ours, specified(OURS, "instance")))
    assert "ec2:RunInstances" in denied(lambda: builder.run(ours, specified(OURS, *STARTED), tokens="optional"))
    builder.run(ours, specified(OURS, *STARTED))


@pytest.mark.parametrize("whose", [OURS, THEIRS, NOBODYS], ids=["our own", "another cluster's", "nobody's"])
def test_tags_are_given_only_to_what_is_being_made_so_nothing_becomes_ours_by_one(site: Site, builder: Builder, whose: str) -> None:
    found, tags = things(site, whose), [{"Key": "fpga.hybrid/image-of", "Value": OURS}]
    for thing in (found.instance, found.group, found.image, found.snapshot):
        assert "ec2:CreateTags" in denied(lambda thing=thing: builder.ec2.create_tags(Resources=[thing], Tags=tags))
        assert "ec2:DeleteTags" in denied(lambda thing=thing: builder.ec2.delete_tags(Resources=[thing], Tags=tags))


def test_no_instance_gets_a_role(site: Site, builder: Builder) -> None:
    """The instance of a build has no right in AWS, whatever comes into it."""
    iam, ours = site.cloud.client("iam"), things(site, OURS)
    iam.create_role(RoleName="administrator", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="administrator")
    iam.add_role_to_instance_profile(InstanceProfileName="administrator", RoleName="administrator")
    with_role = {**specified(OURS, *STARTED), "IamInstanceProfile": {"Name": "administrator"}}
    assert "iam:PassRole" in denied(lambda: builder.run(ours, with_role))


def test_no_condition_of_the_policy_is_without_such_a_case(site: Site) -> None:
    policy = site.policies()["image"]
    conditional = {action for statement in policy["Statement"] if "Condition" in statement for action in statement["Action"]}
    assert conditional == {*(action.partition(" ")[0] for action in ON_WHAT_IS_THERE), *ON_WHAT_IS_MADE, "ec2:CreateTags"}
