"""Calls and details that moto lacks or gets wrong, beside Auto Scaling.

Each is here because something of ours depends on it: a double that says yes where AWS says no hides what would fail on the day.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from moto.cloudformation.models import cloudformation_backends
from moto.core.responses import ActionResult
from moto.ec2.models import EC2Backend
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateBackend
from moto.ec2.models.tags import TagBackend
from moto.ec2.responses.general import General
from moto.ec2.responses.launch_templates import LaunchTemplates
from moto.ec2.utils import parse_user_data
from moto.iam.models import Role, iam_backends
from moto.iam.responses import IamResponse
from moto.servicequotas.exceptions import NoSuchResource
from moto.servicequotas.responses import ServiceQuotasResponse
from moto.sts.responses import TokenResponse

from lab.cloud import identities, policies
from lab.cloud.checks import SERVICE_LINKED_ROLE
from lab.cloud.errors import Refusal
from lab.cloud.faults import Settings
from lab.cloud.groups import patched, suspended
from lab.cloud.request import Request
from lab.cloud.world import World

QUOTA_NAMES = {
    "L-74FC7D96": "Running On-Demand F instances",
    "L-88CF9481": "All F Spot Instance Requests",
    "L-DB2E81BA": "Running On-Demand G and VT instances",
    "L-3819A6DF": "All G and VT Spot Instance Requests",
}
#: Source: EC2 Auto Scaling, "Quotas for Auto Scaling resources and groups"; API reference of the tag actions.
TAGS_PER_GROUP = 50
TAGS_PER_CALL = 25


# ---- refusals that moto doesn't make


def refusal(request: Request, world: World) -> Refusal | None:
    """Why AWS would not do this; None where it would, or where moto itself refuses."""
    rule = REFUSALS.get((request.service, request.action))
    return rule(request, world) if rule else None


def _capacity(request: Request, world: World) -> Refusal | None:
    group, wanted = world.group(str(request.params.get("AutoScalingGroupName"))), int(request.params.get("DesiredCapacity", 0))
    if group is None:
        return _no_group(request)
    if wanted > group.max_size:
        return Refusal("ValidationError", f"New SetDesiredCapacity value {wanted} is above max value {group.max_size} for the AutoScalingGroup.")
    if wanted < group.min_size:
        return Refusal("ValidationError", f"New SetDesiredCapacity value {wanted} is below min value {group.min_size} for the AutoScalingGroup.")
    return None


def _create_group(request: Request, world: World) -> Refusal | None:
    name = str(request.params.get("AutoScalingGroupName"))
    if world.group(name) is not None:
        return Refusal("AlreadyExists", f"AutoScalingGroup by this name already exists - A group with the name {name} already exists")
    return _sizes(request, None) or _number_of_tags(request, 0)


def _update_group(request: Request, world: World) -> Refusal | None:
    group = world.group(str(request.params.get("AutoScalingGroupName")))
    return _no_group(request) if group is None else _sizes(request, group)


def _sizes(request: Request, group: Any | None) -> Refusal | None:
    smallest, largest = (
        int(request.params.get(parameter, getattr(group, attribute, 0) or 0)) for parameter, attribute in (("MinSize", "min_size"), ("MaxSize", "max_size"))
    )
    if smallest > largest:
        return Refusal("ValidationError", f"Max bound, {largest}, must be greater than or equal to min bound, {smallest}")
    desired = request.params.get("DesiredCapacity")
    if desired is not None and not smallest <= int(desired) <= largest:
        return Refusal("ValidationError", f"Desired capacity:{desired} must be between the specified min size:{smallest} and max size:{largest}")
    return None


def _delete_group(request: Request, world: World) -> Refusal | None:
    group = world.group(str(request.params.get("AutoScalingGroupName")))
    if group is None or not group.instance_states or str(request.params.get("ForceDelete", "")).lower() == "true":
        return None
    return Refusal("ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still in the group.")


def _group_tags(request: Request, world: World) -> Refusal | None:
    tags = request.structures("Tags")
    names = {str(tag.get("ResourceId")) for tag in tags}
    for name in names:
        if world.group(name) is None:
            return Refusal("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
    if request.action == "DeleteTags":
        return _number_of_tags(request, 0)
    return next(
        (
            found
            for name in names
            if (found := _number_of_tags(request, len({*world.group_tags(name)} - {str(tag.get("Key")) for tag in tags if tag.get("ResourceId") == name})))
        ),
        None,
    )


def _number_of_tags(request: Request, there: int) -> Refusal | None:
    tags = request.structures("Tags")
    if request.action in ("CreateOrUpdateTags", "DeleteTags") and len(tags) > TAGS_PER_CALL:
        return Refusal("ValidationError", f"The number of tags in one call, {len(tags)}, exceeds the maximum of {TAGS_PER_CALL}")
    if request.action != "DeleteTags" and there + len(tags) > TAGS_PER_GROUP:
        return Refusal("LimitExceeded", f"The number of tags, {there + len(tags)}, exceeds the maximum of {TAGS_PER_GROUP} for an Auto Scaling group")
    for tag in tags:
        key, value = str(tag.get("Key") or ""), str(tag.get("Value") or "")
        if not 1 <= len(key) <= 128 or len(value) > 256 or key.startswith("aws:"):
            return Refusal("ValidationError", f"The tag {key!r} is not valid: keys have 1 to 128 characters and no prefix aws:, values at most 256 characters")
    return None


def _no_group(request: Request) -> Refusal:
    return Refusal("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{request.params.get('AutoScalingGroupName')}' not found")


def _assume_role(request: Request, _world: World) -> Refusal | None:
    arn = str(request.params.get("RoleArn", ""))
    backend = iam_backends[arn.split(":")[4]][identities.PARTITION] if arn.count(":") >= 5 else None
    if backend is not None and any(role.arn == arn for role in backend.roles.values()):
        return None
    return Refusal("AccessDenied", f"User is not authorized to perform: sts:AssumeRole on resource: {arn}", 403)


def _same_stack(request: Request, world: World) -> Refusal | None:
    stack = next((one for one in cloudformation_backends[world.account][world.region].stacks.values() if one.name == request.params.get("StackName")), None)
    if stack is not None and request.params.get("TemplateBody") == stack.template and not any(key.startswith("Parameters.") for key in request.params):
        return Refusal("ValidationError", "No updates are to be performed.")
    return None


REFUSALS: dict[tuple[str, str], Callable[[Request, World], Refusal | None]] = {
    ("autoscaling", "SetDesiredCapacity"): _capacity,
    ("autoscaling", "CreateAutoScalingGroup"): _create_group,
    ("autoscaling", "UpdateAutoScalingGroup"): _update_group,
    ("autoscaling", "DeleteAutoScalingGroup"): _delete_group,
    ("autoscaling", "CreateOrUpdateTags"): _group_tags,
    ("autoscaling", "DeleteTags"): _group_tags,
    ("sts", "AssumeRole"): _assume_role,
    ("cloudformation", "UpdateStack"): _same_stack,
}


# ---- after a call


def after(request: Request, world: World) -> None:
    """What a call that moto has answered has changed beside what moto knows."""
    if (request.service, request.action) == ("autoscaling", "UpdateAutoScalingGroup"):
        _remaining_properties(request, world.group(str(request.params.get("AutoScalingGroupName"))))
    if (request.service, request.action) == ("autoscaling", "CreateAutoScalingGroup") and not world.has_role(SERVICE_LINKED_ROLE):
        world.iam.create_service_linked_role("autoscaling.amazonaws.com", "", "")
    if (request.service, request.action) == ("autoscaling", "ResumeProcesses"):
        group = world.group(str(request.params.get("AutoScalingGroupName")))
        if group is not None and "Launch" not in suspended(group):
            group.set_desired_capacity(group.desired_capacity)


def _remaining_properties(request: Request, group: Any) -> None:
    """What moto's UpdateAutoScalingGroup ignores."""
    if "DefaultCooldown" in request.params:
        group.default_cooldown = int(request.params["DefaultCooldown"])
    if "PlacementGroup" in request.params:
        group.placement_group = request.params["PlacementGroup"]
    if "CapacityRebalance" in request.params:
        group.capacity_rebalance = str(request.params["CapacityRebalance"]).lower() == "true"
    if termination := request.members("TerminationPolicies"):
        group.termination_policies = termination


# ---- images


def _create_image(backend: EC2Backend, instance_id: str, name: str, description: str, tag_specifications: list[dict[str, Any]]) -> Any:
    """moto refuses tags for the snapshot."""
    of_snapshot = [entry for entry in tag_specifications if entry["ResourceType"] == "snapshot"]
    image = CREATE_IMAGE(backend, instance_id, name, description, [entry for entry in tag_specifications if entry not in of_snapshot])
    for entry in of_snapshot:
        for tag in entry["Tags"]:
            image.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
    return image


def _describe_instance_attribute(backend: EC2Backend, instance_id: str, attribute: str) -> tuple[Any, Any]:
    """Security groups are those of the network interface, by which moto does not know them."""
    instance, value = DESCRIBE_INSTANCE_ATTRIBUTE(backend, instance_id, attribute)
    return instance, value or instance.nics[0].group_set if attribute == "groupSet" else value


# ---- launch templates


def _create_launch_template(
    backend: LaunchTemplateBackend, name: str, description: str, template_data: dict[str, Any], tag_spec: dict[str, Any]
) -> LaunchTemplate:
    """moto puts the template's own tags into its first version as well, and an absent user-data as an empty one."""
    specifications = [entry for entry in template_data.get("TagSpecifications", []) if entry["ResourceType"] != "launch-template"]
    data = {key: value for key, value in template_data.items() if key != "TagSpecifications" and not (key == "UserData" and value is None)}
    data = {**data, **({"TagSpecifications": specifications} if specifications else {})}
    made: LaunchTemplate = CREATE_LAUNCH_TEMPLATE(backend, name, description, data, tag_spec)
    return made


def _create_version(template: Any, data: dict[str, Any], description: str) -> Any:
    """Numbers are not used again when versions have been deleted. moto starts no instance whose user-data it has not read, and reads only a first version's."""
    if isinstance(data.get("UserData"), str):
        data = {**data, "UserData": parse_user_data(data["UserData"])}
    version = CREATE_VERSION(template, data, description)
    version.number = getattr(template, "next_version", 1)
    template.next_version = version.number + 1
    return version


def _get_version(template: Any, number: Any) -> Any:
    from moto.ec2.exceptions import InvalidLaunchTemplateVersionNotFound

    text = str(number).lower()
    wanted = {"$latest": template.versions[-1].number, "$default": template.default_version_number}.get(text, text)
    for version in template.versions:
        if str(version.number) == str(wanted):
            return version
    raise InvalidLaunchTemplateVersionNotFound(template_id=template.id, version=number)


def _delete_launch_template_versions(response: Any) -> ActionResult:
    template = _named_template(response)
    deleted, failed = [], []
    response.error_on_dryrun()
    for number in response._get_param("Versions", []):
        named = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": int(number)}
        found = next((version for version in template.versions if version.number == int(number)), None)
        if found is None:
            error = {"Code": "launchTemplateVersionDoesNotExist", "Message": f"The specified launch template version, {number}, does not exist"}
        elif found.number == template.default_version_number:
            error = {"Code": "operationNotPermitted", "Message": "The default version of a launch template cannot be deleted"}
        else:
            template.versions.remove(found)
            deleted.append(named)
            continue
        failed.append({**named, "ResponseError": error})
    return ActionResult({"SuccessfullyDeletedLaunchTemplateVersions": deleted, "UnsuccessfullyDeletedLaunchTemplateVersions": failed})


def _named_template(response: Any) -> Any:
    name, template_id = response._get_param("LaunchTemplateName"), response._get_param("LaunchTemplateId")
    return response.ec2_backend.get_launch_template(template_id) if template_id else response.ec2_backend.get_launch_template_by_name(name)


def _describe_launch_templates(response: Any) -> ActionResult:
    """Paged, where moto cuts off after fifteen."""
    templates = response.ec2_backend.describe_launch_templates(
        template_names=response._get_param("LaunchTemplateNames", []),
        template_ids=response._get_param("LaunchTemplateIds", []),
        filters=response._filters_from_querystring(),
    )
    response.error_on_dryrun()
    page, token = _page(response, templates)
    answer = [
        {
            "CreateTime": template.create_time,
            "CreatedBy": f"arn:aws:iam::{response.current_account}:root",
            "DefaultVersionNumber": template.default_version_number,
            "LatestVersionNumber": template.latest_version_number,
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "Tags": template.get_tags(),
        }
        for template in page
    ]
    return ActionResult({"LaunchTemplates": answer, **token})


def _describe_launch_template_versions(response: Any) -> ActionResult:
    """Newest first and paged, by id, name or number; $Latest and $Default also of all templates."""
    wanted = [str(version) for version in response._get_param("Versions", [])]
    if response._get_param("LaunchTemplateName") or response._get_param("LaunchTemplateId"):
        templates = [_named_template(response)]
    else:
        response.ec2_backend.describe_launch_template_versions(None, None, wanted, None, None, 1)  # moto's refusal, if it isn't allowed
        templates = list(response.ec2_backend.launch_templates.values())
    response.error_on_dryrun()
    smallest, largest = response._get_int_param("MinVersion") or 0, response._get_int_param("MaxVersion")
    found = []
    for template in templates:
        versions = [template.get_version(number) for number in wanted] if wanted else template.versions
        ordered = sorted({version.number: version for version in versions}.values(), key=lambda version: -int(version.number))
        found += [(template, version) for version in ordered if smallest <= version.number and (largest is None or version.number <= largest)]
    page, token = _page(response, found)
    answer = [
        {
            "CreateTime": version.create_time,
            "CreatedBy": f"arn:aws:iam::{response.current_account}:root",
            "DefaultVersion": version.number == template.default_version_number,
            "LaunchTemplateData": version.data,
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "VersionDescription": version.description,
            "VersionNumber": version.number,
        }
        for template, version in page
    ]
    return ActionResult({"LaunchTemplateVersions": answer, **token})


def _page(response: Any, entries: list[Any]) -> tuple[list[Any], dict[str, str]]:
    start = int(response._get_param("NextToken") or 0)
    end = start + (response._get_int_param("MaxResults") or 200)
    return entries[start:end], ({"NextToken": str(end)} if end < len(entries) else {})


CREATE_LAUNCH_TEMPLATE = LaunchTemplateBackend.create_launch_template
CREATE_IMAGE = EC2Backend.create_image
DESCRIBE_INSTANCE_ATTRIBUTE = EC2Backend.describe_instance_attribute
CREATE_VERSION = LaunchTemplate.create_version


# ---- tags of EC2: moto compares every tag of the account for each instance


DESCRIBE_TAGS = TagBackend.describe_tags


def _describe_tags(backend: Any, filters: dict[str, list[str]] | None = None) -> list[dict[str, str]]:
    ids = (filters or {}).get("resource-id")
    if ids is None or any("*" in name or "?" in name for name in ids):
        everything: list[dict[str, str]] = DESCRIBE_TAGS(backend, filters)
        return everything
    one = TagBackend()
    one.tags.update({name: backend.tags[name] for name in ids if name in backend.tags})
    some: list[dict[str, str]] = DESCRIBE_TAGS(one, filters)
    return some


# ---- IAM and quotas


def _simulate_principal_policy(response: Any) -> ActionResult:
    """Judged by the policies as the proxy judges calls; context and resources are what the caller says they are."""
    arn = response._get_param("PolicySourceArn")
    identity = identities.by_arn(arn)
    if identity is None:
        from moto.iam.exceptions import NotFoundException

        raise NotFoundException(f"The principal {arn} cannot be found.")
    entries = response._get_param("ContextEntries", [])
    context = {**identity.context, **{entry["ContextKeyName"]: entry["ContextKeyValues"] for entry in entries}}
    results = []
    for action in response._get_param("ActionNames", []):
        for resource in response._get_param("ResourceArns", []) or ["*"]:
            decision = policies.evaluate(identity.policies or (), identity.boundary, action, resource, _single_values(context))
            results.append(
                {
                    "EvalActionName": action,
                    "EvalResourceName": resource,
                    "EvalDecision": decision.effect.value,
                    "MatchedStatements": [{"SourcePolicyId": name} for name in decision.statements],
                    "MissingContextValues": [],
                }
            )
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def _delete_role_of_a_stack(_role: type, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str) -> None:
    """CloudFormation takes the policies off a role before it deletes it."""
    for role in iam_backends[account_id][identities.PARTITION].roles.values():
        if role.name == resource_name:
            for policy in list(role.managed_policies.values()):
                policy.detach_from(role)
    DELETE_ROLE_OF_A_STACK(resource_name, cloudformation_json, account_id, region_name)


DELETE_ROLE_OF_A_STACK = Role.delete_from_cloudformation_json


def _get_caller_identity(response: Any) -> ActionResult:
    """moto calls the root user a user."""
    if identities.identify(response.access_key) is not None:
        known: ActionResult = GET_CALLER_IDENTITY(response)
        return known
    return ActionResult({"UserId": response.current_account, "Account": response.current_account, "Arn": identities.root(response.current_account).arn})


GET_CALLER_IDENTITY = TokenResponse.get_caller_identity


def _single_values(context: dict[str, Any]) -> dict[str, Any]:
    return {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in context.items()}


def _quota_answers(settings: Callable[[], Settings]) -> Iterable[tuple[type, str, Callable[..., Any]]]:
    def quota(code: str, value: float) -> dict[str, Any]:
        return {
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaCode": code,
            "QuotaName": QUOTA_NAMES.get(code, code),
            "Value": value,
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }

    original_get = ServiceQuotasResponse.get_service_quota

    def get_service_quota(response: Any) -> Any:
        asked = json.loads(response.body)
        if asked.get("ServiceCode") != "ec2":
            return original_get(response)
        if asked.get("QuotaCode") not in settings().quotas:
            raise NoSuchResource
        return json.dumps({"Quota": quota(asked["QuotaCode"], settings().quotas[asked["QuotaCode"]])})

    def get_aws_default_service_quota(response: Any) -> str:
        """A new account may run no F instance at all."""
        asked = json.loads(response.body)
        if asked.get("ServiceCode") != "ec2" or asked.get("QuotaCode") not in QUOTA_NAMES:
            raise NoSuchResource
        return json.dumps({"Quota": quota(asked["QuotaCode"], 0.0)})

    def list_service_quotas(_response: Any) -> str:
        return json.dumps({"Quotas": [quota(code, value) for code, value in settings().quotas.items()]})

    yield ServiceQuotasResponse, "get_service_quota", get_service_quota
    yield ServiceQuotasResponse, "get_aws_default_service_quota", get_aws_default_service_quota
    yield ServiceQuotasResponse, "list_service_quotas", list_service_quotas


def _console_answer(consoles: Mapping[str, str]) -> Callable[[Any], ActionResult]:
    def get_console_output(response: Any) -> ActionResult:
        """What the instance has said; nothing yet of one that has said nothing."""
        identifier = response._get_param("InstanceId")
        output = consoles.get(response.ec2_backend.get_instance(identifier).id)
        said = {} if output is None else {"Output": base64.b64encode(output.encode()).decode()}
        return ActionResult({"InstanceId": identifier, "Timestamp": datetime.now(timezone.utc), **said})

    return get_console_output


def install(settings: Callable[[], Settings], consoles: Mapping[str, str]) -> Callable[[], None]:
    """Puts these into moto; returns what takes them out again."""
    return patched(
        (EC2Backend, "create_image", _create_image),
        (EC2Backend, "describe_instance_attribute", _describe_instance_attribute),
        (EC2Backend, "create_launch_template", _create_launch_template),
        (LaunchTemplate, "create_version", _create_version),
        (LaunchTemplate, "get_version", _get_version),
        (LaunchTemplate, "default_version", lambda template: template.get_version("$Default")),
        (LaunchTemplates, "delete_launch_template_versions", _delete_launch_template_versions),
        (LaunchTemplates, "describe_launch_templates", _describe_launch_templates),
        (LaunchTemplates, "describe_launch_template_versions", _describe_launch_template_versions),
        (EC2Backend, "describe_tags", _describe_tags),
        (Role, "delete_from_cloudformation_json", classmethod(_delete_role_of_a_stack)),
        (IamResponse, "simulate_principal_policy", _simulate_principal_policy),
        (TokenResponse, "get_caller_identity", _get_caller_identity),
        (General, "get_console_output", _console_answer(consoles)),
        *_quota_answers(settings),
    )
