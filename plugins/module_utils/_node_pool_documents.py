# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWS is to hold for a pool: launch template or launch configuration, and group; and how to tell whether it does. Pure."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import (
    CLUSTER_ID_TAG,
    DECLARED_TAG,
    LAUNCH_CONFIGURATION,
    POOL_TAG,
    Cluster,
    Pool,
)
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import TAG_MARK_LENGTH, TEMPLATE_TAG_PREFIX, GroupTag, NodeTemplate, tag_mark

Document = dict[str, Any]

#: AZRebalance ends instances to spread the others, busy or not (autoscaler's AWS README).
SUSPENDED = "AZRebalance"
#: What keeper suspends, and node_pool leaves as it is.
LAUNCH = "Launch"
#: Of the autoscaler's tags, those that the template decides alone. Its autoscaling-options are not among them.
DECIDED_PREFIXES = tuple(f"{TEMPLATE_TAG_PREFIX}{kind}/" for kind in ("label", "taint", "resources"))
#: Instances, their volumes and interfaces are what costs.
TAGGED_RESOURCES = ("instance", "network-interface", "volume")
METADATA_OPTIONS = {
    "HttpTokens": "required",
    "HttpPutResponseHopLimit": 1,
    "HttpEndpoint": "enabled",
    # With tags in the metadata, EC2 refuses every instance that has a tag with a slash; the account's default may be on.
    "InstanceMetadataTags": "disabled",
}
#: What AWS shows as it was sent, so that a version with a copied description is still known by its content.
NEVER_REWRITTEN = ("ImageId", "InstanceType", "MetadataOptions", "UserData")
_DESCRIPTION = re.compile(r"fpga\.hybrid cluster=(?P<cluster>\S+) sha256=(?P<hash>[0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True)
class Wanted:
    """A pool with all that AWS had to be asked for: image is an AMI, root_device what the image calls its root."""

    pool: Pool
    cluster: Cluster
    template: NodeTemplate
    image: str
    root_device: str

    @property
    def name(self) -> str:
        return self.pool.group_name

    @property
    def uses_launch_configuration(self) -> bool:
        return self.pool.kind == LAUNCH_CONFIGURATION

    # --- launch template

    @cached_property
    def template_data(self) -> Document:
        """LaunchTemplateData, complete: a version is never made from another one (SourceVersion), whose options would live on."""
        pool = self.pool
        tags = [{"Key": key, "Value": value} for key, value in self.template.instance_tags().items()]
        data: Document = {
            "ImageId": self.image,
            "InstanceType": pool.instance_type,
            # botocore encodes user-data for launch configurations, and does not for launch templates.
            "UserData": base64.b64encode(self.template.user_data().encode()).decode(),
            "BlockDeviceMappings": [self._root_volume(kms=True)],
            "MetadataOptions": dict(METADATA_OPTIONS),
            # One that no group has any more powers itself off: stopped, its volume would be paid for. A launch configuration cannot say it.
            "InstanceInitiatedShutdownBehavior": "terminate",
            "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in TAGGED_RESOURCES],
        }
        if pool.key_name:
            data["KeyName"] = pool.key_name
        if pool.security_groups:
            data["SecurityGroupIds"] = list(pool.security_groups)
        if pool.instance_profile:
            data["IamInstanceProfile"] = {"Arn" if pool.instance_profile.startswith("arn:") else "Name": pool.instance_profile}
        if pool.spot and not pool.mixed:
            price = {"SpotOptions": {"MaxPrice": pool.spot.max_price}} if pool.spot.max_price else {}
            data["InstanceMarketOptions"] = {"MarketType": "spot", **price}
        return data

    @cached_property
    def description(self) -> str:
        """Says whose a version is, and what was sent. A version cannot be changed or tagged, so this holds whatever AWS adds to what it shows."""
        return f"fpga.hybrid cluster={self.cluster.id} sha256={digest(self.template_data)}"

    def is_version(self, version: TemplateVersion) -> bool:
        """By what it holds; or, where AWS shows it with additions or in another order, by what its description says was sent."""
        found, wanted = normalised(version.data), normalised(self.template_data)
        return found == wanted or (version.description == self.description and all(found.get(key) == wanted[key] for key in NEVER_REWRITTEN))

    # --- launch configuration

    @cached_property
    def launch_configuration(self) -> Document:
        """Parameters of CreateLaunchConfiguration. The name tells the content, since none can be changed."""
        pool = self.pool
        content: Document = {
            "ImageId": self.image,
            "InstanceType": pool.instance_type,
            "UserData": self.template.user_data(),
            "BlockDeviceMappings": [self._root_volume(kms=False)],
            "MetadataOptions": {name: value for name, value in METADATA_OPTIONS.items() if name != "InstanceMetadataTags"},
            "SecurityGroups": list(pool.security_groups),
            # By default it is on, and costs.
            "InstanceMonitoring": {"Enabled": False},
        }
        if pool.key_name:
            content["KeyName"] = pool.key_name
        if pool.instance_profile:
            content["IamInstanceProfile"] = pool.instance_profile
        if pool.spot and pool.spot.max_price:
            content["SpotPrice"] = pool.spot.max_price
        return {"LaunchConfigurationName": f"{self.name}-{digest(content)[:12]}", **content}

    def _root_volume(self, *, kms: bool) -> Document:
        volume = self.pool.root_volume
        ebs: Document = {"VolumeSize": volume.size, "VolumeType": volume.type, "Encrypted": True, "DeleteOnTermination": True}
        further = {"Iops": volume.iops, "Throughput": volume.throughput, "KmsKeyId": volume.kms_key if kms else None}
        return {"DeviceName": self.root_device, "Ebs": {**ebs, **{key: value for key, value in further.items() if value is not None}}}

    # --- group

    def launch(self, version: str) -> Document:
        """How the group names what it starts: a version by its number, so that nobody changes it behind the group's back."""
        if self.uses_launch_configuration:
            return {"LaunchConfigurationName": self.launch_configuration["LaunchConfigurationName"]}
        specification = {"LaunchTemplateName": self.name, "Version": version}
        mixed, spot = self.pool.mixed, self.pool.spot
        if mixed is None:
            return {"LaunchTemplate": specification}
        percentage = mixed.on_demand_percentage if mixed.on_demand_percentage is not None else 0 if spot else 100
        return {
            "MixedInstancesPolicy": {
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": specification,
                    "Overrides": [{"InstanceType": name} for name in self.pool.instance_types],
                },
                "InstancesDistribution": {
                    "OnDemandBaseCapacity": mixed.on_demand_base,
                    "OnDemandPercentageAboveBaseCapacity": percentage,
                    "SpotAllocationStrategy": mixed.spot_strategy,
                    **({"SpotMaxPrice": spot.max_price} if spot and spot.max_price else {}),
                },
            }
        }

    def placement(self) -> Document:
        if self.pool.subnets:
            return {"VPCZoneIdentifier": ",".join(sorted(self.pool.subnets))}
        return {"AvailabilityZones": sorted(self.pool.availability_zones)}

    @cached_property
    def tags(self) -> tuple[GroupTag, ...]:
        return self.template.group_tags(propagate_own=self.uses_launch_configuration)


# --- what is there ------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TemplateVersion:
    number: int
    description: str
    data: Mapping[str, Any]
    is_default: bool = False

    @property
    def cluster_id(self) -> str | None:
        """Of the cluster that made it, if it was one of ours."""
        match = _DESCRIPTION.fullmatch(self.description)
        return match["cluster"] if match else None

    @classmethod
    def from_api(cls, described: Mapping[str, Any]) -> TemplateVersion:
        return cls(
            described["VersionNumber"], described.get("VersionDescription") or "", described["LaunchTemplateData"], described.get("DefaultVersion", False)
        )


@dataclass(frozen=True)
class LaunchTemplate:
    """owner: cluster id of its tag, where that was asked for instead of its versions."""

    id: str
    name: str
    versions: tuple[TemplateVersion, ...] = ()
    owner: str | None = None

    def belongs_to(self, cluster: Cluster) -> bool:
        return cluster.id in (self.owner, *(version.cluster_id for version in self.versions))

    def version(self, number: str | None) -> TemplateVersion | None:
        return next((version for version in self.versions if str(version.number) == number), None)

    @property
    def latest(self) -> int:
        return max((version.number for version in self.versions), default=0)


@dataclass(frozen=True)
class Group:
    """An element of DescribeAutoScalingGroups."""

    described: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.described["AutoScalingGroupName"])

    @property
    def account(self) -> str:
        return str(self.described["AutoScalingGroupARN"]).split(":")[4]

    @cached_property
    def tags(self) -> dict[str, GroupTag]:
        return {tag["Key"]: GroupTag(tag["Key"], tag.get("Value") or "", bool(tag.get("PropagateAtLaunch"))) for tag in self.described.get("Tags", [])}

    @property
    def declared(self) -> set[str]:
        """Keys of the user's tags that the pool declared when it was last written."""
        marks = self.tags[DECLARED_TAG].value if DECLARED_TAG in self.tags else ""
        known = {marks[start : start + TAG_MARK_LENGTH] for start in range(0, len(marks), TAG_MARK_LENGTH)}
        return {key for key in self.tags if tag_mark(key) in known} | ({DECLARED_TAG} & set(self.tags))

    def belongs_to(self, cluster: Cluster) -> bool:
        """Whether it carries the cluster's unique id and the autoscaler's mark; another cluster of the same name has the mark alone."""
        found = {key: tag.value for key, tag in self.tags.items()}
        return found.get(CLUSTER_ID_TAG) == cluster.id and found.get(cluster.owned_tag) == "owned"

    @property
    def pool(self) -> str:
        tag = self.tags.get(POOL_TAG)
        return tag.value if tag else self.name

    @property
    def is_being_deleted(self) -> bool:
        return bool(self.described.get("Status"))

    @property
    def instances(self) -> tuple[str, ...]:
        """Those that are there or on their way in."""
        going = ("Terminating", "Terminated", "Detaching", "Detached")
        found = self.described.get("Instances", [])
        return tuple(sorted(one["InstanceId"] for one in found if not str(one.get("LifecycleState", "")).startswith(going)))

    @property
    def size(self) -> int:
        """What AWS weighs a new minimum and maximum against: the capacity that is wanted now, or instances beyond it."""
        return max(int(self.described.get("DesiredCapacity") or 0), len(self.instances))

    @property
    def mixed_policy(self) -> Mapping[str, Any]:
        policy: Mapping[str, Any] = self.described.get("MixedInstancesPolicy") or {}
        return policy

    @property
    def template_specification(self) -> Mapping[str, Any]:
        """Id, name and version of the launch template in use, alone or in a mixed policy; empty when there is none."""
        mixed: Mapping[str, Any] = self.mixed_policy.get("LaunchTemplate", {}).get("LaunchTemplateSpecification") or {}
        return mixed or self.described.get("LaunchTemplate") or {}

    @property
    def launch_configuration(self) -> str | None:
        return self.described.get("LaunchConfigurationName") or None

    @property
    def suspended(self) -> set[str]:
        return {process["ProcessName"] for process in self.described.get("SuspendedProcesses", [])}

    @property
    def subnets(self) -> set[str]:
        return set(filter(None, (self.described.get("VPCZoneIdentifier") or "").split(",")))

    @property
    def zones(self) -> set[str]:
        return set(self.described.get("AvailabilityZones", []))


@dataclass(frozen=True)
class Found:
    """Everything that a plan has to know of what is there, by group name. templates: only those that were looked for and exist."""

    groups: Mapping[str, Group] = field(default_factory=dict)
    templates: Mapping[str, LaunchTemplate] = field(default_factory=dict)
    launch_configurations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Version numbers, per template id, that any group of the account names; known only when old versions are to go.
    named_versions: Mapping[str, frozenset[int]] = field(default_factory=dict)


def root_device(wanted_image: str, pool: Pool, found: Found) -> str | None:
    """The root's device name as it was found out when what is in use was made, if that was with this image. None: the image has to be asked."""
    if pool.root_volume.device:
        return pool.root_volume.device
    group, template = found.groups.get(pool.group_name), found.templates.get(pool.group_name)
    if pool.kind == LAUNCH_CONFIGURATION:
        content: Mapping[str, Any] = found.launch_configurations.get(group.launch_configuration or "", {}) if group else {}
    else:
        number = group.template_specification.get("Version") if group else None
        version = template.version(number) if template else None
        content = version.data if version and version.cluster_id else {}
    devices = content.get("BlockDeviceMappings", [])
    return str(devices[0]["DeviceName"]) if content.get("ImageId") == wanted_image and len(devices) == 1 else None


# --- comparing and showing ----------------------------------------------------------------------------------------------------------------------


def digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def normalised(data: Mapping[str, Any]) -> Document:
    """Template data in one order, without what AWS only adds when it shows it."""
    specifications = [one for one in data.get("TagSpecifications", []) if one["ResourceType"] in TAGGED_RESOURCES]
    result = {
        **data,
        "BlockDeviceMappings": _sorted(data.get("BlockDeviceMappings", []), "DeviceName"),
        "SecurityGroupIds": sorted(data.get("SecurityGroupIds", [])),
        "MetadataOptions": {name: value for name, value in data.get("MetadataOptions", {}).items() if name in METADATA_OPTIONS},
        "TagSpecifications": [{**one, "Tags": _sorted(one.get("Tags", []), "Key")} for one in _sorted(specifications, "ResourceType")],
    }
    return {key: value for key, value in result.items() if value not in (None, "", [], {}, False)}


def _sorted(items: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    return sorted(items, key=lambda item: str(item.get(key)))


def shown_template(data: Mapping[str, Any], *, encoded: bool) -> Document:
    """Template data or a launch configuration as a diff shows it: user-data by its sum and size, tags as a mapping."""
    document = normalised(data)
    text = str(document.pop("UserData", ""))
    raw = base64.b64decode(text) if encoded else text.encode()
    document["UserData"] = {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}
    if "TagSpecifications" in document:
        document["TagSpecifications"] = {one["ResourceType"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in document["TagSpecifications"]}
    return document


def shown_tags(tags: Mapping[str, GroupTag]) -> Document:
    return {key: {"value": tag.value, "propagate": tag.propagate} for key, tag in sorted(tags.items())}


def shown_group(group: Group) -> Document:
    """A group as a person wants to see it: sizes, instances, and what the autoscaler reads out of its tags."""
    specification = group.template_specification
    decided: dict[str, dict[str, str]] = {kind: {} for kind in ("label", "taint", "resources")}
    for key, tag in group.tags.items():
        for kind, found in decided.items():
            prefix = f"{TEMPLATE_TAG_PREFIX}{kind}/"
            if key.startswith(prefix):
                found[key[len(prefix) :]] = tag.value
    instances = (
        {
            "id": one["InstanceId"],
            "availability_zone": one.get("AvailabilityZone"),
            "lifecycle_state": one.get("LifecycleState"),
            "instance_type": one.get("InstanceType"),
        }
        for one in group.described.get("Instances", [])
    )
    return {
        "name": group.pool,
        "group_name": group.name,
        "min_size": group.described.get("MinSize"),
        "max_size": group.described.get("MaxSize"),
        "desired_capacity": group.described.get("DesiredCapacity"),
        "instances": sorted(instances, key=lambda one: str(one["id"])),
        "launch_template": specification.get("LaunchTemplateName"),
        "launch_template_version": specification.get("Version"),
        "launch_configuration": group.launch_configuration,
        "suspended": sorted(group.suspended),
        "labels": decided["label"],
        "taints": [f"{key}={value}" for key, value in decided["taint"].items()],
        "resources": decided["resources"],
        "tags": {key: tag.value for key, tag in sorted(group.tags.items())},
    }
