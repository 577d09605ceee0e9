# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is wanted and what was found to the calls that make up the difference. Pure: check mode shows the plan that a run carries out."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import (
    CLUSTER_ID_TAG,
    DECLARED_TAG,
    POOL_TAG,
    TAGS_PER_CALL,
    TAGS_PER_GROUP,
    Cluster,
    Pool,
    PoolError,
    pool_problem,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_documents import (
    DECIDED_PREFIXES,
    SUSPENDED,
    Document,
    Found,
    Group,
    LaunchTemplate,
    TemplateVersion,
    Wanted,
    shown_tags,
    shown_template,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import GroupTag

AUTOSCALING, EC2 = "autoscaling", "ec2"
#: DeleteLaunchTemplateVersions takes no more.
VERSIONS_PER_CALL = 200
CREATED, CHANGED, REMOVED, UNCHANGED = "created", "changed", "removed", "unchanged"


@dataclass(frozen=True)
class Call:
    """A write. names_version: parameters hold the number that a new version will have; AWS' answer decides which it is."""

    service: str
    operation: str
    parameters: Document
    names_version: bool = False

    def with_version(self, number: str | None) -> Document:
        if number is None or not self.names_version:
            return self.parameters
        parameters = copy.deepcopy(self.parameters)
        mixed = parameters.get("MixedInstancesPolicy")
        specification = mixed["LaunchTemplate"]["LaunchTemplateSpecification"] if mixed else parameters["LaunchTemplate"]
        specification["Version"] = number
        return parameters

    def shown(self) -> Document:
        """Without the text of user-data, which is long and stands in the diff by its sum."""
        parameters = copy.deepcopy(self.parameters)
        template, configuration = parameters.get("LaunchTemplateData", {}), parameters
        if "UserData" in template:
            template["UserData"] = user_data_sum(base64.b64decode(template["UserData"]))
        if "UserData" in configuration:
            configuration["UserData"] = user_data_sum(configuration["UserData"].encode())
        return {"service": self.service, "operation": self.operation, "parameters": parameters}


@dataclass(frozen=True)
class PoolPlan:
    """What happens to one pool. starts: how many instances the new sizes would start; ends: how many they would end, out of which ids."""

    pool: str
    group_name: str
    state: str
    calls: tuple[Call, ...] = ()
    before: Document | None = None
    after: Document | None = None
    starts: int = 0
    ends: int = 0
    instances: tuple[str, ...] = ()
    version: str | None = None

    def diff(self) -> Document:
        def text(document: Document | None) -> str:
            return json.dumps(document, indent=2, sort_keys=True) + "\n" if document else ""

        header = f"pool {self.pool}"
        return {"before_header": header, "after_header": header, "before": text(self.before), "after": text(self.after)}

    def shown(self) -> Document:
        return {
            "name": self.pool,
            "group_name": self.group_name,
            "state": self.state,
            "starts": self.starts,
            "ends": self.ends,
            "instances": list(self.instances),
            "launch_template_version": self.version,
        }


@dataclass(frozen=True)
class Options:
    force: bool = False
    keep_versions: int = 5


def user_data_sum(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def plan_pool(wanted: Wanted, found: Found, options: Options) -> PoolPlan:
    """The plan of a pool that is to be there, or PoolError."""
    return _Planner(wanted, found, options).plan()


class _Planner:
    def __init__(self, wanted: Wanted, found: Found, options: Options) -> None:
        self.wanted, self.found, self.options = wanted, found, options
        self.pool: Pool = wanted.pool
        self.group = found.groups.get(wanted.name)
        self.template = found.templates.get(wanted.name)
        self.problems: list[Problem] = []

    def plan(self) -> PoolPlan:
        self._check_ownership()
        self._fail()
        version, launch_calls = self._launch()
        new = any(call.operation.startswith("CreateLaunchTemplate") for call in launch_calls)
        calls = [*launch_calls, *(self._create(version, new) if self.group is None else self._update(self.group, version, new))]
        calls += self._clean_up(version, new)
        starts, ends = self._effect()
        self._fail()
        before, after = self._before(), self._after(version)
        return PoolPlan(
            pool=self.pool.name,
            group_name=self.wanted.name,
            state=CREATED if self.group is None else CHANGED if calls else UNCHANGED,
            calls=tuple(calls),
            # A plan without calls has no difference to show, however AWS shows what is there.
            before=before if calls else after,
            after=after,
            starts=starts,
            ends=ends,
            instances=self.group.instances if self.group else (),
            version=None if self.wanted.uses_launch_configuration else version,
        )

    def _fail(self) -> None:
        if self.problems:
            raise PoolError(self.problems)

    def _check_ownership(self) -> None:
        cluster = self.wanted.cluster
        if self.group is not None and not self.group.belongs_to(cluster):
            ours = f"one that carries {CLUSTER_ID_TAG}={cluster.id} and {cluster.owned_tag}=owned"
            remedy = "Give the pool another group_name, or, if the group is to be this cluster's, give it both tags."
            self.problems.append(self.pool.problem("group_name", f"group {self.group.name} is there and not ours", ours, remedy))
        elif self.group is not None and self.group.is_being_deleted:
            found = f"group {self.group.name} is being deleted"
            self.problems.append(self.pool.problem("group_name", found, "no group, or one that stays", "Run again when it has gone."))
        if self.template is not None and not self.wanted.uses_launch_configuration and not self._template_is_ours(self.template):
            found = f"launch template {self.template.name} is there and not ours"
            expected = f"one with a version that cluster {cluster.id} made"
            self.problems.append(self.pool.problem("group_name", found, expected, "Give the pool another group_name, or delete the launch template."))

    def _template_is_ours(self, template: LaunchTemplate) -> bool:
        named = self.group.template_specification.get("LaunchTemplateId") if self.group else None
        return named == template.id or template.belongs_to(self.wanted.cluster)

    # --- launch template or launch configuration

    @property
    def version_in_use(self) -> TemplateVersion | None:
        """The version that the group names, if it is one of the pool's own template. A template that was made anew has the name, but another id."""
        if self.group is None or self.template is None:
            return None
        specification = self.group.template_specification
        return self.template.version(specification.get("Version")) if specification.get("LaunchTemplateId") == self.template.id else None

    def _launch(self) -> tuple[str, list[Call]]:
        """The version that the group is to name, and the call that makes it unless it is there."""
        wanted = self.wanted
        if wanted.uses_launch_configuration:
            content = wanted.launch_configuration
            is_there = content["LaunchConfigurationName"] in self.found.launch_configurations
            return "", [] if is_there else [Call(AUTOSCALING, "CreateLaunchConfiguration", content)]
        if self.template is None:
            tags = [{"Key": CLUSTER_ID_TAG, "Value": wanted.cluster.id}, {"Key": POOL_TAG, "Value": self.pool.name}]
            parameters: Document = {"TagSpecifications": [{"ResourceType": "launch-template", "Tags": tags}]}
            return "1", [self._template_call("CreateLaunchTemplate", parameters)]
        in_use = self.version_in_use
        if in_use is not None and wanted.is_version(in_use):
            return str(in_use.number), []
        there = [version.number for version in self.template.versions if wanted.is_version(version)]
        if there:
            return str(max(there)), []
        return str(self.template.latest + 1), [self._template_call("CreateLaunchTemplateVersion", {})]

    def _template_call(self, operation: str, more: Document) -> Call:
        wanted = self.wanted
        parameters = {"LaunchTemplateName": wanted.name, "VersionDescription": wanted.description, "LaunchTemplateData": wanted.template_data}
        return Call(EC2, operation, {**parameters, **more})

    # --- the group

    def _create(self, version: str, new: bool) -> Iterator[Call]:
        wanted = self.wanted
        tags = [self._tag(tag) for tag in wanted.tags]
        parameters = {
            "AutoScalingGroupName": wanted.name,
            "MinSize": self.pool.min_size,
            "MaxSize": self.pool.max_size,
            **wanted.placement(),
            **wanted.launch(version),
            "Tags": tags[:TAGS_PER_CALL],
        }
        yield Call(AUTOSCALING, "CreateAutoScalingGroup", parameters, names_version=new)
        yield self._suspend()
        yield from _batches("CreateOrUpdateTags", tags[TAGS_PER_CALL:])

    def _update(self, group: Group, version: str, new: bool) -> Iterator[Call]:
        wanted = {tag.key: tag for tag in self.wanted.tags}
        put = [self._tag(tag) for tag in self.wanted.tags if group.tags.get(tag.key) != tag]
        # What tells that they were declared goes last.
        dropped = sorted(group.declared - set(wanted), key=lambda key: (key == DECLARED_TAG, key))
        undecided = sorted(key for key in group.tags if key.startswith(DECIDED_PREFIXES) and key not in wanted)
        foreign = set(group.tags) - set(wanted) - set(dropped) - set(undecided)
        if len(wanted) + len(foreign) > TAGS_PER_GROUP:
            found = f"{len(wanted)} tags beside {len(foreign)} on the group that are not ours"
            self.problems.append(self.pool.problem("tags", found, f"at most {TAGS_PER_GROUP}, AWS' limit for a group", "Have fewer, or remove some of those."))
        # Before the group tells of those that are declared now.
        yield from _batches("DeleteTags", [self._tag_key(key) for key in dropped])
        change = {**self._size(group), **self._placement(group), **self._launch_change(group, version)}
        if change:
            yield Call(AUTOSCALING, "UpdateAutoScalingGroup", {"AutoScalingGroupName": group.name, **change}, names_version=new)
        taken_away = list(_batches("DeleteTags", [self._tag_key(key) for key in undecided]))
        added = list(_batches("CreateOrUpdateTags", put))
        # The autoscaler should never see less of a template than there is, unless there is no room for both.
        room = len(set(group.tags) - set(dropped) | set(wanted)) <= TAGS_PER_GROUP
        yield from (*added, *taken_away) if room else (*taken_away, *added)
        if SUSPENDED not in group.suspended:
            yield self._suspend()

    def _size(self, group: Group) -> Document:
        sizes = {"MinSize": self.pool.min_size, "MaxSize": self.pool.max_size}
        return {name: value for name, value in sizes.items() if group.described.get(name) != value}

    def _placement(self, group: Group) -> Document:
        if self.pool.subnets:
            return {} if group.subnets == set(self.pool.subnets) else self.wanted.placement()
        if group.zones == set(self.pool.availability_zones):
            return {}
        if group.subnets:
            found = f"the group is in subnets of {', '.join(sorted(group.zones))}"
            expected = "subnets in the declared zones: AWS takes a group out of its subnets only into others"
            self.problems.append(self.pool.problem("availability_zones", found, expected, "Name subnets, or remove the pool and make it anew."))
        return self.wanted.placement()

    def _launch_change(self, group: Group, version: str) -> Document:
        launch = self.wanted.launch(version)
        if self.wanted.uses_launch_configuration:
            return {} if group.launch_configuration == launch["LaunchConfigurationName"] else launch
        specification = group.template_specification
        named = self.template is not None and specification.get("LaunchTemplateId") == self.template.id and specification.get("Version") == version
        same = _mixed_is(launch["MixedInstancesPolicy"], group.mixed_policy) if self.pool.mixed else not group.mixed_policy
        return {} if named and same and not group.launch_configuration else launch

    def _suspend(self) -> Call:
        return Call(AUTOSCALING, "SuspendProcesses", {"AutoScalingGroupName": self.wanted.name, "ScalingProcesses": [SUSPENDED]})

    def _tag(self, tag: GroupTag) -> Document:
        return {**self._tag_key(tag.key), "Value": tag.value, "PropagateAtLaunch": tag.propagate}

    def _tag_key(self, key: str) -> Document:
        return {"ResourceId": self.wanted.name, "ResourceType": "auto-scaling-group", "Key": key}

    # --- effects on instances

    def _effect(self) -> tuple[int, int]:
        size = self.group.size if self.group else 0
        starts, ends = max(0, self.pool.min_size - size), max(0, size - self.pool.max_size)
        if self.group is not None and not self._size(self.group):
            return 0, 0
        if starts and not self.options.force:
            found = f"found {self.pool.min_size}, which starts {starts} {_instances(starts)}: the group has {size}"
            self.problems.append(self.pool.problem("min_size", found, f"at most {size} without force", "Set force: true if they are to run."))
        if ends and not self.options.force and self.group:
            found = f"found {self.pool.max_size}, which ends {ends} of {_named(self.group)}"
            self.problems.append(self.pool.problem("max_size", found, f"at least {size} without force", "Set force: true if they are to end."))
        return starts, ends

    # --- what is no longer needed

    def _clean_up(self, version: str, new: bool) -> Iterator[Call]:
        group = self.group
        if self.wanted.uses_launch_configuration:
            if group and group.template_specification.get("LaunchTemplateName") == self.wanted.name:
                yield Call(EC2, "DeleteLaunchTemplate", {"LaunchTemplateName": self.wanted.name})
        elif self.template is not None:
            yield from self._prune(self.template, int(version), new)
        former = group.launch_configuration if group else None
        wanted = self.wanted.launch_configuration["LaunchConfigurationName"] if self.wanted.uses_launch_configuration else None
        if former and former != wanted and former.startswith(f"{self.wanted.name}-"):
            yield Call(AUTOSCALING, "DeleteLaunchConfiguration", {"LaunchConfigurationName": former})

    def _prune(self, template: LaunchTemplate, in_use: int, new: bool) -> Iterator[Call]:
        surplus = surplus_versions(template, self.options.keep_versions, new=new)
        old = [number for number in surplus if number != in_use and number not in self.found.named_versions.get(template.id, frozenset())]
        if not old:
            return
        if any(version.is_default and version.number in old for version in template.versions):
            # AWS does not delete the default version.
            yield Call(EC2, "ModifyLaunchTemplate", {"LaunchTemplateId": template.id, "DefaultVersion": str(in_use)})
        for start in range(0, len(old), VERSIONS_PER_CALL):
            versions = [str(number) for number in old[start : start + VERSIONS_PER_CALL]]
            yield Call(EC2, "DeleteLaunchTemplateVersions", {"LaunchTemplateId": template.id, "Versions": versions})

    # --- what a diff shows

    def _before(self) -> Document | None:
        if self.group is None:
            return None
        group, version = self.group, self.version_in_use
        ours = {tag.key for tag in self.wanted.tags} | group.declared | {key for key in group.tags if key.startswith(DECIDED_PREFIXES)}
        launch: Document
        if group.launch_configuration:
            content = dict(self.found.launch_configurations.get(group.launch_configuration, {}))
            launch = {"launch_configuration": group.launch_configuration, "content": _shown_configuration(content)}
        else:
            specification = group.template_specification
            content = shown_template(version.data, encoded=True) if version else {}
            launch = {"launch_template": specification.get("LaunchTemplateName"), "version": specification.get("Version"), "content": content}
        return {
            "group": group.name,
            "min_size": group.described.get("MinSize"),
            "max_size": group.described.get("MaxSize"),
            **({"subnets": sorted(group.subnets)} if group.subnets else {"availability_zones": sorted(group.zones)}),
            "suspended": sorted(group.suspended),
            "tags": shown_tags({key: tag for key, tag in group.tags.items() if key in ours}),
            **launch,
            **({"mixed": _shown_mixed(group.mixed_policy)} if group.mixed_policy else {}),
        }

    def _after(self, version: str) -> Document:
        wanted, suspended = self.wanted, {SUSPENDED} | (self.group.suspended if self.group else set())
        launch = wanted.launch(version)
        if wanted.uses_launch_configuration:
            content = {key: value for key, value in wanted.launch_configuration.items() if key != "LaunchConfigurationName"}
            shown: Document = {"launch_configuration": launch["LaunchConfigurationName"], "content": _shown_configuration(content)}
        else:
            shown = {"launch_template": wanted.name, "version": version, "content": shown_template(wanted.template_data, encoded=True)}
        in_subnets = bool(self.pool.subnets) or bool(self.group and self.group.subnets)
        subnets = self.pool.subnets or (self.group.subnets if self.group else ())
        return {
            "group": wanted.name,
            "min_size": self.pool.min_size,
            "max_size": self.pool.max_size,
            **({"subnets": sorted(subnets)} if in_subnets else {"availability_zones": sorted(self.pool.availability_zones)}),
            "suspended": sorted(suspended),
            "tags": shown_tags({tag.key: tag for tag in wanted.tags}),
            **shown,
            **({"mixed": _shown_mixed(launch["MixedInstancesPolicy"])} if "MixedInstancesPolicy" in launch else {}),
        }


def surplus_versions(template: LaunchTemplate, keep: int, *, new: bool) -> list[int]:
    """Versions beyond the newest that are kept. new: one more is about to be made."""
    numbers = sorted((version.number for version in template.versions), reverse=True)
    return sorted(numbers[max(0, keep - (1 if new else 0)) :])


def _mixed_is(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """AWS adds what was not said to a policy's distribution."""
    overrides = [one.get("InstanceType") for one in found.get("LaunchTemplate", {}).get("Overrides", [])]
    distribution = found.get("InstancesDistribution", {})
    return overrides == [one["InstanceType"] for one in wanted["LaunchTemplate"]["Overrides"]] and all(
        str(distribution.get(key)) == str(value) for key, value in wanted["InstancesDistribution"].items()
    )


def _shown_mixed(policy: Mapping[str, Any]) -> Document:
    return {"instance_types": [one.get("InstanceType") for one in policy["LaunchTemplate"].get("Overrides", [])], **policy.get("InstancesDistribution", {})}


def _shown_configuration(content: Mapping[str, Any]) -> Document:
    """A launch configuration's content; what AWS shows of one has more keys."""
    kept = ("ImageId", "InstanceType", "UserData", "BlockDeviceMappings", "MetadataOptions", "SecurityGroups", "KeyName", "IamInstanceProfile", "SpotPrice")
    return shown_template({key: content[key] for key in kept if key in content}, encoded=False) if content else {}


def _batches(operation: str, tags: Sequence[Document]) -> Iterator[Call]:
    for start in range(0, len(tags), TAGS_PER_CALL):
        yield Call(AUTOSCALING, operation, {"Tags": list(tags[start : start + TAGS_PER_CALL])})


def _instances(number: int) -> str:
    return "instance" if number == 1 else "instances"


def _named(group: Group) -> str:
    return (
        f"{len(group.instances)} {_instances(len(group.instances))} ({', '.join(group.instances)})"
        if group.instances
        else f"{group.size} that are on their way"
    )


# --- removal ------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Removal:
    """A group and a launch template that are to go; the one or the other may have gone already."""

    pool: str
    group_name: str
    group: Group | None
    template: LaunchTemplate | None

    def plan(self, cluster: Cluster, options: Options) -> PoolPlan:
        group = self.group
        if group is not None and not group.belongs_to(cluster):
            ours = f"one that carries {CLUSTER_ID_TAG}={cluster.id} and {cluster.owned_tag}=owned"
            raise PoolError([pool_problem(self.pool, "group_name", f"group {group.name} is not ours", ours, "Remove it by other means, if it has to go.")])
        if group is not None and group.size and not options.force and not group.is_being_deleted:
            remedy = "Set force: true if they are to end, or wait until the autoscaler has ended them."
            raise PoolError([pool_problem(self.pool, "state", f"removing group {group.name} ends {_named(group)}", "an empty group without force", remedy)])
        calls = list(self._calls(cluster))
        return PoolPlan(
            pool=self.pool,
            group_name=self.group_name,
            state=REMOVED if calls else UNCHANGED,
            calls=tuple(calls),
            before=self._before() if calls else None,
            ends=group.size if group and calls else 0,
            instances=group.instances if group else (),
        )

    def _calls(self, cluster: Cluster) -> Iterator[Call]:
        group, template = self.group, self.template
        if group is not None and not group.is_being_deleted:
            force = {"ForceDelete": True} if group.size else {}
            yield Call(AUTOSCALING, "DeleteAutoScalingGroup", {"AutoScalingGroupName": group.name, **force})
        named = group.template_specification.get("LaunchTemplateId") if group else None
        if template is not None and (named == template.id or template.belongs_to(cluster)):
            yield Call(EC2, "DeleteLaunchTemplate", {"LaunchTemplateId": template.id})
        former = group.launch_configuration if group else None
        if former and former.startswith(f"{self.group_name}-"):
            yield Call(AUTOSCALING, "DeleteLaunchConfiguration", {"LaunchConfigurationName": former})

    def _before(self) -> Document:
        group, template = self.group, self.template
        shown: Document = {}
        if group is not None:
            shown |= {"group": group.name, "min_size": group.described.get("MinSize"), "max_size": group.described.get("MaxSize")}
            shown |= {"instances": list(group.instances)}
        if template is not None:
            shown |= {"launch_template": template.name}
        return shown
