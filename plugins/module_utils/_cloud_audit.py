# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything in AWS that carries a cluster's id, and what of it nothing accounts for any more. Pure, but for Auditor, which asks."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import CLUSTER_ID_TAG, POOL_TAG

Document = Mapping[str, Any]

GROUP, TEMPLATE, CONFIGURATION = "group", "launch template", "launch configuration"
INSTANCE, VOLUME, INTERFACE = "instance", "volume", "network interface"
SECURITY_GROUP, PARAMETER = "security group", "parameter"
#: In the order in which one would look at them: what costs first.
KINDS = (INSTANCE, VOLUME, INTERFACE, GROUP, TEMPLATE, CONFIGURATION, SECURITY_GROUP, PARAMETER)
#: Kinds of ARNs that the listings above already hold, better than the tagging API, which lags behind.
LISTED = ("instance", "volume", "network-interface", "launch-template", "security-group", "autoScalingGroup", "launchConfiguration", "parameter")

GONE = ("terminated",)
#: What goes by itself, some time after its group has been removed.
GOES_BY_ITSELF = (INSTANCE, VOLUME, INTERFACE, GROUP)
#: On a failed instance that keeper has taken out of its group: until when (ISO 8601, UTC).
KEPT_TAG = "fpga.hybrid/kept-until"
#: Below the cluster's prefix.
CLAIM, NODES, FAILURES = "cluster", "nodes", "failures"


@dataclass(frozen=True)
class Resource:
    """One thing. orphan: why nothing accounts for it, "" where something does."""

    kind: str
    id: str
    pool: str
    state: str
    orphan: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Found:
    """What AWS lists, as it describes it. parameters: names. tagged: ARNs that the tagging API knows."""

    groups: Sequence[Document] = ()
    templates: Sequence[Document] = ()
    configurations: Sequence[Document] = ()
    instances: Sequence[Document] = ()
    volumes: Sequence[Document] = ()
    interfaces: Sequence[Document] = ()
    security_groups: Sequence[Document] = ()
    parameters: Sequence[str] = ()
    tagged: Sequence[str] = ()


@dataclass(frozen=True)
class Declared:
    """What the declaration accounts for: names of groups (and templates), security group and path of its parameters."""

    groups: Collection[str] = field(default_factory=frozenset)
    security_group: str = ""
    ssm_prefix: str = ""


# ---- asking


class Auditor:
    """Lists one cluster's part of an account. ask: service, operation, parameters -> answer (_node_pool_cloud.Cloud.ask)."""

    def __init__(self, ask: Callable[[str, str, Document], Document], cluster_id: str, ssm_prefix: str) -> None:
        self._ask, self._cluster_id, self._ssm_prefix = ask, cluster_id, ssm_prefix

    def everything(self) -> Found:
        by_tag = {"Filters": [{"Name": f"tag:{CLUSTER_ID_TAG}", "Values": [self._cluster_id]}]}
        groups = list(self._pages("autoscaling", "DescribeAutoScalingGroups", "AutoScalingGroups", {**by_tag, "MaxRecords": 100}))
        reservations = self._pages("ec2", "DescribeInstances", "Reservations", {**by_tag, "MaxResults": 1000})
        return Found(
            groups=groups,
            templates=list(self._pages("ec2", "DescribeLaunchTemplates", "LaunchTemplates", {**by_tag, "MaxResults": 200})),
            configurations=list(self._pages("autoscaling", "DescribeLaunchConfigurations", "LaunchConfigurations", {"MaxRecords": 100})),
            instances=[instance for reservation in reservations for instance in reservation["Instances"]],
            volumes=list(self._pages("ec2", "DescribeVolumes", "Volumes", {**by_tag, "MaxResults": 500})),
            interfaces=list(self._pages("ec2", "DescribeNetworkInterfaces", "NetworkInterfaces", {**by_tag, "MaxResults": 1000})),
            security_groups=list(self._pages("ec2", "DescribeSecurityGroups", "SecurityGroups", {**by_tag, "MaxResults": 1000})),
            parameters=self._parameters(),
            tagged=[entry["ResourceARN"] for entry in self._tagged()],
        )

    def _parameters(self) -> list[str]:
        """Those below the cluster's path, and those with its id wherever they are."""
        filters = ({"Key": "Path", "Option": "Recursive", "Values": [self._ssm_prefix]}, {"Key": f"tag:{CLUSTER_ID_TAG}", "Values": [self._cluster_id]})
        names = {
            str(entry["Name"])
            for one in filters
            for entry in self._pages("ssm", "DescribeParameters", "Parameters", {"ParameterFilters": [one], "MaxResults": 50})
        }
        return sorted(names)

    def _tagged(self) -> Iterator[Document]:
        parameters = {"TagFilters": [{"Key": CLUSTER_ID_TAG, "Values": [self._cluster_id]}], "ResourcesPerPage": 100}
        return self._pages("resourcegroupstaggingapi", "GetResources", "ResourceTagMappingList", parameters)

    def _pages(self, service: str, operation: str, key: str, parameters: Document) -> Iterator[Document]:
        more: Document = {}
        while True:
            answer = self._ask(service, operation, {**parameters, **more})
            yield from answer.get(key, [])
            more = {name: answer[name] for name in ("NextToken", "PaginationToken") if answer.get(name)}
            if not more:
                return


# ---- judging


def judge(found: Found, declared: Declared, now: datetime | None = None) -> list[Resource]:
    """Every resource with what accounts for it, or why nothing does. Terminated instances are none."""
    moment = (now or datetime.now(timezone.utc)).strftime("%Y-%m-%dT%H:%M:%SZ")
    alive = {group["AutoScalingGroupName"] for group in found.groups if not group.get("Status")}
    instances = {instance["InstanceId"]: instance for instance in found.instances if instance["State"]["Name"] not in GONE}
    members = {one["InstanceId"] for group in found.groups for one in group.get("Instances", [])}
    resources = [
        *(_instance(instance, members, moment) for instance in instances.values()),
        *(_attached(VOLUME, volume["VolumeId"], volume, volume["State"], _instances_of(volume), instances) for volume in found.volumes),
        *(
            _attached(INTERFACE, one["NetworkInterfaceId"], one, one["Status"], [one["Attachment"]["InstanceId"]] if _is_attached(one) else [], instances)
            for one in found.interfaces
        ),
        *(_group(group, declared) for group in found.groups),
        *(_template(template, found.groups, declared) for template in found.templates),
        *_configurations(found, declared),
        *(_security_group(group, alive, declared) for group in found.security_groups),
        *(_parameter(name, instances, alive, declared) for name in found.parameters),
        *_others(found.tagged),
    ]
    order = {kind: position for position, kind in enumerate(KINDS)}
    return sorted(resources, key=lambda one: (order.get(one.kind, len(order)), one.pool, one.id))


def tags_of(described: Document) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value") or "" for tag in described.get("Tags") or described.get("TagSet") or []}


def _pool(described: Document) -> str:
    return tags_of(described).get(POOL_TAG, "")


def _instance(instance: Document, members: Collection[str], now: str) -> Resource:
    state, where = instance["State"]["Name"], instance.get("Placement", {}).get("AvailabilityZone", "")
    kept = tags_of(instance).get(KEPT_TAG, "")
    accounted = instance["InstanceId"] in members or state == "shutting-down" or kept > now
    late = f"keeper was to end it at {kept} and has not" if kept else "nothing will end it"
    orphan = "" if accounted else f"no group has it: {late}, and it costs money"
    look = f", failed to join and is kept for a look until {kept}" if kept else ""
    return Resource(INSTANCE, instance["InstanceId"], _pool(instance), f"{state}, {instance.get('InstanceType')} in {where}{look}", orphan)


def _instances_of(volume: Document) -> list[str]:
    return [str(one["InstanceId"]) for one in volume.get("Attachments", []) if one.get("InstanceId")]


def _is_attached(interface: Document) -> bool:
    return bool((interface.get("Attachment") or {}).get("InstanceId"))


def _attached(kind: str, name: str, described: Document, state: str, attached_to: Sequence[str], instances: Collection[str]) -> Resource:
    holders = [one for one in attached_to if one in instances]
    return Resource(kind, name, _pool(described), f"{state}, {', '.join(holders) or 'at no instance'}", "" if holders else "no instance has it")


def _group(group: Document, declared: Declared) -> Resource:
    name, size = group["AutoScalingGroupName"], len(group.get("Instances", []))
    state = f"{group['MinSize']} to {group['MaxSize']}, wants {group['DesiredCapacity']}, has {size}"
    if group.get("Status"):
        return Resource(GROUP, name, _pool(group), f"{group['Status']}, {state}")
    return Resource(GROUP, name, _pool(group), state, "" if name in declared.groups else "no declared pool has it: pools.yml -e purge=true removes it")


def _template(template: Document, groups: Sequence[Document], declared: Declared) -> Resource:
    name, number = template["LaunchTemplateName"], template.get("LatestVersionNumber")
    accounted = name in declared.groups or template["LaunchTemplateId"] in {_template_id(group) for group in groups}
    return Resource(TEMPLATE, name, _pool(template), f"version {number}", "" if accounted else "neither a group nor a declared pool has it")


def _template_id(group: Document) -> str:
    mixed = (group.get("MixedInstancesPolicy") or {}).get("LaunchTemplate", {}).get("LaunchTemplateSpecification") or {}
    return str((mixed or group.get("LaunchTemplate") or {}).get("LaunchTemplateId", ""))


def _configurations(found: Found, declared: Declared) -> Iterator[Resource]:
    """Launch configurations carry no tags: ours are those that a group of ours has, or that are named like one that node_pool makes."""
    used = {group.get("LaunchConfigurationName"): group for group in found.groups}
    names = {*declared.groups, *(group["AutoScalingGroupName"] for group in found.groups)}
    for configuration in found.configurations:
        name = configuration["LaunchConfigurationName"]
        if name in used:
            yield Resource(CONFIGURATION, name, _pool(used[name]), str(configuration.get("InstanceType", "")))
        elif re.fullmatch(r"[0-9a-f]{12}", name.rpartition("-")[2]) and name.rpartition("-")[0] in names:
            yield Resource(CONFIGURATION, name, "", str(configuration.get("InstanceType", "")), "no group has it")


def _security_group(group: Document, alive: Collection[str], declared: Declared) -> Resource:
    rules = len(group.get("IpPermissions", []))
    accounted = bool(alive or declared.groups) and group["GroupName"] == declared.security_group
    state = f"{group['GroupName']}, {rules} inbound rules" if rules else f"{group['GroupName']}, nothing inbound"
    return Resource(SECURITY_GROUP, group["GroupId"], "", state, "" if accounted else "no pool needs it")


def _parameter(name: str, instances: Collection[str], alive: Collection[str], declared: Declared) -> Resource:
    below = name[len(declared.ssm_prefix) :].strip("/").split("/") if name.startswith(f"{declared.ssm_prefix}/") else []
    orphan = "" if alive or declared.groups else "there are no pools"
    if not below:
        orphan = f"it lies outside of {declared.ssm_prefix}"
    elif below[0] in (NODES, FAILURES) and below[-1] not in instances:
        orphan = "its instance has gone"
    return Resource(PARAMETER, name, "", "", orphan)


def _others(tagged: Sequence[str]) -> Iterator[Resource]:
    for arn in tagged:
        service, name = arn.split(":")[2], arn.split(":", 5)[5]
        kind = re.split(r"[/:]", name)[0]
        if kind not in LISTED:
            yield Resource(f"{service} {kind}", arn, "", "", "this collection's playbooks make no such thing")


# ---- showing


def table(title: str, resources: Sequence[Resource]) -> str:
    """For a terminal: everything, orphans marked, and a last line that says it all."""
    rows = [("", "kind", "id", "pool", "state")]
    rows += [("!" if one.orphan else "", one.kind, one.id, one.pool, "; ".join(filter(None, (one.state, one.orphan)))) for one in resources]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip() for row in rows] if resources else []
    return "\n".join([title, *lines, summary(resources)])


def summary(resources: Sequence[Resource]) -> str:
    orphans = sum(bool(one.orphan) for one in resources)
    if not resources:
        return "Nothing in AWS carries this cluster's id."
    return f"{len(resources)} in all, {orphans} of them orphaned." if orphans else f"{len(resources)} in all, none of them orphaned."
