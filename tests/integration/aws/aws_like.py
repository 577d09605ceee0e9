# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWS does and moto does not, put into moto: limits, refusals, order, additions.

Sources: botocore's service models and AWS' guides for Auto Scaling tags, launch template restrictions and UpdateAutoScalingGroup. Where AWS' behaviour is
only believed (additions to what a launch template version shows) the double is as unkind as the API allows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from moto.autoscaling.exceptions import AutoscalingClientError
from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidLaunchTemplateVersionNotFound
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateVersion
from moto.ec2.responses.launch_templates import LaunchTemplates
from moto.ec2.utils import parse_user_data


def refuse(code: str, message: str) -> None:
    raise AutoscalingClientError(code, message)


# --- Auto Scaling


def check_tags(tags: list[dict[str, Any]], group: Any, at_once: int) -> None:
    if len(tags) > at_once:
        refuse("ValidationError", f"1 validation error detected: Value at 'tags' failed to satisfy constraint: at most {at_once}")
    for tag in tags:
        if not 1 <= len(tag["Key"]) <= 128 or len(tag.get("Value") or "") > 256 or tag["Key"].startswith("aws:"):
            refuse("ValidationError", f"Invalid tag {tag['Key']}")
    if len({tag["Key"] for tag in tags} | {tag["Key"] for tag in (group.tags if group else [])}) > 50:
        refuse("LimitExceeded", "You have reached the limit of 50 tags")


create_group, update_group, delete_group = (
    AutoScalingBackend.create_auto_scaling_group,
    FakeAutoScalingGroup.update,
    AutoScalingBackend.delete_auto_scaling_group,
)
create_tags, create_configuration, describe_groups = (
    AutoScalingBackend.create_or_update_tags,
    AutoScalingBackend.create_launch_configuration,
    AutoScalingBackend.describe_auto_scaling_groups,
)


def create_auto_scaling_group(self: Any, name: str, **more: Any) -> Any:
    if name in self.autoscaling_groups:
        refuse("AlreadyExists", f"AutoScalingGroup by this name already exists - A group with the name {name} already exists")
    check_tags(more.get("tags") or [], None, 25)
    return create_group(self, name=name, **more)


def update(self: Any, **more: Any) -> None:
    """What is not sent stays, also a mixed policy; a launch template takes the place of whatever was there."""
    smallest = more["min_size"] if more["min_size"] is not None else self.min_size
    largest = more["max_size"] if more["max_size"] is not None else self.max_size
    if smallest > largest:
        refuse("ValidationError", "Max bound must be greater than or equal to min bound")
    launch = (more["launch_config_name"], more["launch_template"], more["mixed_instances_policy"])
    if not any(launch):
        policy = self.mixed_instances_policy
        update_group(self, **more)
        self.mixed_instances_policy = policy
        return
    update_group(self, **more)
    if more["launch_config_name"]:
        self.ec2_launch_template = None
    else:
        self.launch_config, self.launch_configuration_name = None, None


def delete_auto_scaling_group(self: Any, group_name: str, *, force: bool) -> None:
    group = self.autoscaling_groups.get(group_name)
    if group and group.instance_states and not force:
        refuse("ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still in the group.")
    delete_group(self, group_name)


def respond_to_delete(self: Any) -> ActionResult:
    delete_auto_scaling_group(self.autoscaling_backend, self._get_param("AutoScalingGroupName"), force=self._get_bool_param("ForceDelete", False))
    return ActionResult({})


def create_or_update_tags(self: Any, tags: list[dict[str, Any]]) -> None:
    check_tags(tags, self.autoscaling_groups.get(tags[0]["ResourceId"]), 25)
    create_tags(self, tags)


def create_launch_configuration(self: Any, name: str, **more: Any) -> Any:
    if name in self.launch_configurations:
        refuse("AlreadyExists", f"Launch Configuration by this name already exists - A launch configuration already exists with the name {name}")
    return create_configuration(self, name=name, **more)


def describe_auto_scaling_groups(self: Any, names: list[str], filters: Any = None) -> Any:
    groups = describe_groups(self, names, filters)
    for group in groups:
        group._tags = sorted(group.tags, key=lambda tag: tag["Key"])
    return groups


# --- launch templates

create_template, create_version, get_version = LaunchTemplates.create_launch_template, LaunchTemplate.create_version, LaunchTemplate.get_version


def create_launch_template(self: Any) -> ActionResult:
    """Tags of the template are not part of its first version."""
    answer = create_template(self)
    template = self.ec2_backend.get_launch_template_by_name(self._get_param("LaunchTemplateName"))
    data = template.versions[0].data
    data["TagSpecifications"] = [one for one in data.get("TagSpecifications", []) if one["ResourceType"] != "launch-template"]
    return answer


def create_launch_template_version(self: Any) -> ActionResult:
    """With a source, what is not sent is inherited."""
    name, number = self._get_param("LaunchTemplateName"), self._get_param("LaunchTemplateId")
    template = self.ec2_backend.get_launch_template_by_name(name) if name else self.ec2_backend.get_launch_template(number)
    data, source = self._get_param("LaunchTemplateData", {}), self._get_param("SourceVersion")
    # moto itself starts no instance from a version whose user-data it has not read this way.
    data["UserData"] = parse_user_data(self._get_param("LaunchTemplateData.UserData"))
    if source:
        data = {**copy.deepcopy(template.get_version(source).data), **data}
    version = template.create_version(data, self._get_param("VersionDescription"))
    return ActionResult({"LaunchTemplateVersion": shown(template, version)})


def numbered_version(self: Any, data: dict[str, Any], description: str) -> LaunchTemplateVersion:
    """Numbers are not given twice, even after the last version was deleted."""
    self.next_number = getattr(self, "next_number", 0) + 1
    version = LaunchTemplateVersion(self, self.next_number, data, description)
    self.versions.append(version)
    return version


def version_by_number(self: Any, number: Any) -> LaunchTemplateVersion:
    if str(number).lower() == "$latest":
        return self.versions[-1]
    wanted = self.default_version_number if str(number).lower() == "$default" else int(number)
    for version in self.versions:
        if version.number == wanted:
            return version
    raise InvalidLaunchTemplateVersionNotFound(template_id=self.id, version=number)


def shown(template: Any, version: Any) -> dict[str, Any]:
    """In another order, and with what was never sent."""
    data = copy.deepcopy(version.data)
    for specification in data.get("TagSpecifications", []):
        specification["Tags"] = sorted(specification.get("Tags", []), key=lambda tag: tag["Key"], reverse=True)
    data["TagSpecifications"] = list(reversed(data.get("TagSpecifications", [])))
    for listed in ("SecurityGroupIds", "SecurityGroups"):
        if data.get(listed):
            data[listed] = list(reversed(data[listed]))
    if "MetadataOptions" in data:
        data["MetadataOptions"] |= {"State": "applied", "HttpProtocolIpv6": "disabled"}
    for device in data.get("BlockDeviceMappings", []):
        device["Ebs"] |= {"Iops": device["Ebs"].get("Iops", 3000), "Throughput": device["Ebs"].get("Throughput", 125)}
    return {
        "CreateTime": version.create_time,
        "CreatedBy": "arn:aws:iam::123456789012:root",
        "DefaultVersion": template.default_version_number == version.number,
        "LaunchTemplateData": {**data, "CapacityReservationSpecification": {"CapacityReservationPreference": "open"}, "EbsOptimized": False},
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionDescription": version.description,
        "VersionNumber": version.number,
    }


def describe_launch_template_versions(self: Any) -> ActionResult:
    """In pages, newest first."""
    name, number = self._get_param("LaunchTemplateName"), self._get_param("LaunchTemplateId")
    template = self.ec2_backend.get_launch_template_by_name(name) if name else self.ec2_backend.get_launch_template(number)
    wanted = self._get_param("Versions", [])
    versions = [version_by_number(template, one) for one in wanted] if wanted else list(reversed(template.versions))
    start, size = int(self._get_param("NextToken") or 0), min(self._get_int_param("MaxResults", 15), 3)
    page = {"LaunchTemplateVersions": [shown(template, version) for version in versions[start : start + size]]}
    return ActionResult({**page, "NextToken": str(start + size)} if len(versions) > start + size else page)


def delete_launch_template_versions(self: Any) -> ActionResult:
    number = self._get_param("LaunchTemplateId")
    template = self.ec2_backend.get_launch_template(number) if number else self.ec2_backend.get_launch_template_by_name(self._get_param("LaunchTemplateName"))
    done, refused = [], []
    for wanted in map(int, self._get_param("Versions", [])):
        entry = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": wanted}
        if wanted == template.default_version_number or wanted not in [version.number for version in template.versions]:
            refused.append({**entry, "ResponseError": {"Code": "unexpectedError", "Message": "the version is the default one, or not there"}})
        else:
            template.versions = [version for version in template.versions if version.number != wanted]
            done.append(entry)
    return ActionResult({"SuccessfullyDeletedLaunchTemplateVersions": done, "UnsuccessfullyDeletedLaunchTemplateVersions": refused})


@contextmanager
def aws_like() -> Iterator[None]:
    """moto with AWS' manners, while the context lasts."""
    replacements: list[tuple[Any, str, Any]] = [
        (AutoScalingBackend, "create_auto_scaling_group", create_auto_scaling_group),
        (AutoScalingBackend, "create_or_update_tags", create_or_update_tags),
        (AutoScalingBackend, "create_launch_configuration", create_launch_configuration),
        (AutoScalingBackend, "describe_auto_scaling_groups", describe_auto_scaling_groups),
        (AutoScalingResponse, "delete_auto_scaling_group", respond_to_delete),
        (FakeAutoScalingGroup, "update", update),
        (LaunchTemplates, "create_launch_template", create_launch_template),
        (LaunchTemplates, "create_launch_template_version", create_launch_template_version),
        (LaunchTemplates, "describe_launch_template_versions", describe_launch_template_versions),
        (LaunchTemplates, "delete_launch_template_versions", delete_launch_template_versions),
        (LaunchTemplate, "create_version", numbered_version),
        (LaunchTemplate, "get_version", version_by_number),
    ]
    patches = [patch.object(owner, name, value, create=True) for owner, name, value in replacements]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()
