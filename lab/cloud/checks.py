"""What AWS asks IAM about a call: one check for each action and resource that the caller must be allowed.

Source: Service Authorization Reference (actions, resource types, condition keys, dependent actions) of Amazon EC2, EC2 Auto Scaling,
Systems Manager, Service Quotas, IAM. An action without a line here is checked on resource * without tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.cloud.policies import Context
from lab.cloud.request import Request
from lab.cloud.world import Tags, World

SERVICE_LINKED_ROLE = "AWSServiceRoleForAutoScaling"
#: What everyone may ask: AWS needs no permission for it.
FREE = {("sts", "GetCallerIdentity"), ("sts", "GetSessionToken")}


@dataclass(frozen=True)
class Check:
    action: str
    resource: str = "*"
    context: Context = field(default_factory=dict)


def checks_for(request: Request, world: World) -> list[Check]:
    if (request.service, request.action) in FREE:
        return []
    rule = RULES.get((request.service, request.action))
    return list(rule(request, world)) if rule else [Check(request.iam_action)]


# ---- contexts


def resource_tags(service: str, tags: Tags) -> dict[str, str]:
    own = {"ssm": "ssm:resourceTag"}.get(service, f"{service}:ResourceTag")
    return {f"{prefix}/{key}": value for key, value in tags.items() for prefix in ("aws:ResourceTag", own)}


def request_tags(tags: Tags) -> dict[str, Any]:
    return {**{f"aws:RequestTag/{key}": value for key, value in tags.items()}, "aws:TagKeys": list(tags)} if tags else {}


# ---- EC2


def existing(parameter: str) -> Callable[[Request, World], Iterator[Check]]:
    """An action on EC2 resources that a parameter names by id, one or a list."""

    def rule(request: Request, world: World) -> Iterator[Check]:
        for resource_id in request.members(parameter) or [request.params.get(parameter, "*")]:
            arn, tags = world.ec2_resource(str(resource_id))
            yield Check(request.iam_action, arn, resource_tags("ec2", tags))

    return rule


def launch_template(request: Request, world: World) -> Iterator[Check]:
    template = world.launch_template(str(request.params.get("LaunchTemplateId", "")), str(request.params.get("LaunchTemplateName", "")))
    if template is None:
        yield Check(request.iam_action, world.ec2_arn("launch-template", str(request.params.get("LaunchTemplateId") or "*")))
        return
    arn, tags = world.ec2_resource(template.id)
    yield Check(request.iam_action, arn, resource_tags("ec2", tags))


def created(kind: str, *more: Callable[[Request, World], Iterable[Check]]) -> Callable[[Request, World], Iterator[Check]]:
    """An action that makes an EC2 resource, with tags if TagSpecification says so; the tags need ec2:CreateTags as well."""

    def rule(request: Request, world: World) -> Iterator[Check]:
        tags = request.specified_tags(kind)
        yield Check(request.iam_action, world.ec2_arn(kind), request_tags(tags))
        for other in more:
            yield from other(request, world)
        yield from tagging(request.action, kind, tags, world)

    return rule


def tagging(create_action: str, kind: str, tags: Tags, world: World) -> Iterator[Check]:
    if tags:
        yield Check("ec2:CreateTags", world.ec2_arn(kind), {**request_tags(tags), "ec2:CreateAction": create_action})


def key_pair(request: Request, world: World) -> Iterator[Check]:
    name = str(request.params.get("KeyName", "*"))
    yield Check(request.iam_action, world.ec2_arn("key-pair", name), resource_tags("ec2", world.key_pair_tags(name)))


def create_image(request: Request, world: World) -> Iterator[Check]:
    arn, tags = world.ec2_resource(str(request.params.get("InstanceId", "*")))
    yield Check(request.iam_action, arn, resource_tags("ec2", tags))
    for kind in ("image", "snapshot"):
        made = request.specified_tags(kind)
        yield Check(request.iam_action, world.ec2_arn(kind), request_tags(made))
        yield from tagging(request.action, kind, made, world)


def vpc_of_security_group(request: Request, world: World) -> Iterator[Check]:
    vpc = str(request.params.get("VpcId") or world.ec2.get_default_vpc().id)
    arn, tags = world.ec2_resource(vpc)
    yield Check(request.iam_action, arn, resource_tags("ec2", tags))


def security_group(request: Request, world: World) -> Iterator[Check]:
    group_id = world.security_group_id(str(request.params.get("GroupId", "")), str(request.params.get("GroupName", "")))
    arn, tags = world.ec2_resource(group_id) if group_id != "*" else (world.ec2_arn("security-group"), {})
    yield Check(request.iam_action, arn, {**resource_tags("ec2", tags), **request_tags(request.specified_tags("security-group-rule"))})


def ec2_tags(request: Request, world: World) -> Iterator[Check]:
    for resource_id in request.members("ResourceId"):
        arn, tags = world.ec2_resource(str(resource_id))
        yield Check(request.iam_action, arn, {**resource_tags("ec2", tags), **request_tags(request.tags("Tag"))})


def run_instances(request: Request, world: World) -> Iterator[Check]:
    template, data = _template_version(
        world,
        {key: str(request.params.get(f"LaunchTemplate.{key}", "")) for key in ("LaunchTemplateId", "LaunchTemplateName", "Version")},
    )
    own: dict[str, Any] = {key: request.params[key] for key in ("ImageId", "InstanceType", "KeyName") if key in request.params}
    interface = "NetworkInterface.1."
    if groups := request.members("SecurityGroupId") or request.members(f"{interface}SecurityGroupId"):
        own["SecurityGroupIds"] = groups
    if profile := request.params.get("IamInstanceProfile.Arn") or request.params.get("IamInstanceProfile.Name"):
        own["IamInstanceProfile"] = {"Name": profile}
    if tokens := request.params.get("MetadataOptions.HttpTokens"):
        own["MetadataOptions"] = {"HttpTokens": tokens}
    specified = [
        {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        for kind in ("instance", "volume", "network-interface")
        if (tags := request.specified_tags(kind))
    ]
    if specified:
        own["TagSpecifications"] = specified
    subnet = str(request.params.get("SubnetId") or request.params.get(f"{interface}SubnetId") or "*")
    yield from launch(template, {**data, **own}, set(data) - set(own), [subnet], world)


def launch(template: Any | None, data: Mapping[str, Any], from_template: set[str], subnets: list[str], world: World) -> Iterator[Check]:
    """Everything that ec2:RunInstances has to be allowed on. from_template: which keys of data the launch template brings."""
    template_arn = world.ec2_arn("launch-template", template.id) if template is not None else ""

    def check(kind: str, name: str, key: str, context: Context) -> Check:
        arn, tags = world.ec2_resource(name) if name.startswith(("sg-", "subnet-", "ami-")) else (world.ec2_arn(kind, name), {})
        if kind == "key-pair":
            tags = world.key_pair_tags(name)
        of_template = {"ec2:LaunchTemplate": template_arn, "ec2:IsLaunchTemplateResource": str(key in from_template).lower()} if template_arn else {}
        return Check("ec2:RunInstances", arn, {**resource_tags("ec2", tags), **of_template, **context})

    tags = {entry["ResourceType"]: {tag["Key"]: tag.get("Value", "") for tag in entry.get("Tags", [])} for entry in data.get("TagSpecifications") or []}
    interfaces = data.get("NetworkInterfaces") or []
    groups = [*(data.get("SecurityGroupIds") or []), *(group for interface in interfaces for group in interface.get("Groups") or [])]
    profile = data.get("IamInstanceProfile") or {}
    instance = {
        "ec2:InstanceType": str(data.get("InstanceType", "")),
        "ec2:MetadataHttpTokens": str((data.get("MetadataOptions") or {}).get("HttpTokens", "optional")),
    }
    yield check("image", str(data.get("ImageId") or "*"), "ImageId", {})
    yield check("instance", "*", "InstanceType", {**instance, **request_tags(tags.get("instance", {}))})
    yield check("network-interface", "*", "NetworkInterfaces", request_tags(tags.get("network-interface", {})))
    yield check("volume", "*", "BlockDeviceMappings", request_tags(tags.get("volume", {})))
    for subnet in subnets:
        yield check("subnet", subnet, "SubnetId", {})
    for group in groups or ["*"]:
        yield check("security-group", str(group), "SecurityGroupIds" if data.get("SecurityGroupIds") else "NetworkInterfaces", {})
    if data.get("KeyName"):
        yield check("key-pair", str(data["KeyName"]), "KeyName", {})
    if template is not None:
        yield Check("ec2:RunInstances", template_arn, {**resource_tags("ec2", world.ec2_resource(template.id)[1]), "ec2:LaunchTemplate": template_arn})
    for kind in ("instance", "volume", "network-interface"):
        yield from tagging("RunInstances", kind, tags.get(kind, {}), world)
    if profile:
        yield from passing(world.passed_roles(str(profile.get("Arn") or profile.get("Name"))), "ec2.amazonaws.com")


def passing(roles: Iterable[str], service: str) -> Iterator[Check]:
    for role in roles:
        yield Check("iam:PassRole", role, {"iam:PassedToService": service})


def _template_version(world: World, named: Mapping[str, str]) -> tuple[Any | None, Mapping[str, Any]]:
    template = world.launch_template(named.get("LaunchTemplateId", ""), named.get("LaunchTemplateName", ""))
    if template is None:
        return None, {}
    try:
        return template, template.get_version(named.get("Version") or "$Default").data
    except Exception:  # moto's own error, which the call itself then gives
        return template, {}


# ---- Auto Scaling


def scaling_group(request: Request, world: World) -> Iterator[Check]:
    name = str(request.params.get("AutoScalingGroupName") or world.group_of_instance(str(request.params.get("InstanceId", ""))))
    yield Check(request.iam_action, world.group_arn(name), resource_tags("autoscaling", world.group_tags(name)))


def made_group(request: Request, world: World) -> Iterator[Check]:
    """CreateAutoScalingGroup and UpdateAutoScalingGroup: a launch template in the call is tried out with the caller's rights."""
    name = str(request.params.get("AutoScalingGroupName", ""))
    context: dict[str, Any] = {f"autoscaling:{key}": str(request.params[key]) for key in ("MinSize", "MaxSize") if key in request.params}
    prefix = "LaunchTemplate."
    if any(key.startswith("MixedInstancesPolicy.") for key in request.params):
        prefix = "MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification."
    named = {key: str(request.params.get(prefix + key, "")) for key in ("LaunchTemplateId", "LaunchTemplateName", "Version")}
    template, data = _template_version(world, named)
    if template is not None:
        context["autoscaling:LaunchTemplateVersionSpecified"] = str(named["Version"] not in ("", "$Latest", "$Default")).lower()
    context.update(resource_tags("autoscaling", world.group_tags(name)))
    context.update(request_tags(request.tags("Tags")))
    yield Check(request.iam_action, world.group_arn(name), context)
    if request.action == "CreateAutoScalingGroup" and not world.has_role(SERVICE_LINKED_ROLE):
        role = f"arn:aws:iam::{world.account}:role/aws-service-role/autoscaling.amazonaws.com/{SERVICE_LINKED_ROLE}"
        yield Check("iam:CreateServiceLinkedRole", role, {"iam:AWSServiceName": "autoscaling.amazonaws.com"})
    if template is not None:
        subnets = [name for name in str(request.params.get("VPCZoneIdentifier", "")).split(",") if name] or ["*"]
        yield from launch(template, data, set(data), subnets, world)


def group_tags(request: Request, world: World) -> Iterator[Check]:
    names: dict[str, dict[str, str]] = {}
    for tag in request.structures("Tags"):
        names.setdefault(str(tag.get("ResourceId")), {})[str(tag.get("Key"))] = str(tag.get("Value") or "")
    for name, tags in names.items():
        yield Check(request.iam_action, world.group_arn(name), {**resource_tags("autoscaling", world.group_tags(name)), **request_tags(tags)})


def launch_configuration(request: Request, world: World) -> Iterator[Check]:
    yield Check(request.iam_action, world.launch_configuration_arn(str(request.params.get("LaunchConfigurationName", ""))))
    if profile := request.params.get("IamInstanceProfile"):
        yield from passing(world.passed_roles(str(profile)), "ec2.amazonaws.com")


# ---- Systems Manager


def parameters(request: Request, world: World) -> Iterator[Check]:
    for name in request.members("Names") or [request.params.get("Name") or request.params.get("Path") or request.params.get("ResourceId") or "*"]:
        arn, tags = world.parameter(str(name))
        context: dict[str, Any] = {}
        if request.action != "PutParameter":  # which knows no tags of what is there
            context.update(resource_tags("ssm", tags))
        else:
            context["ssm:Overwrite"] = str(bool(request.params.get("Overwrite"))).lower()
        context.update(request_tags(request.tags("Tags")))
        if request.action == "RemoveTagsFromResource":
            context["aws:TagKeys"] = [str(key) for key in request.members("TagKeys")]
        if request.action == "GetParametersByPath":
            context["ssm:Recursive"] = str(bool(request.params.get("Recursive"))).lower()
        yield Check(request.iam_action, arn, context)
        if request.action == "PutParameter" and request.params.get("Tags"):
            yield Check("ssm:AddTagsToResource", arn, request_tags(request.tags("Tags")))


# ---- others


def quota(request: Request, world: World) -> Iterator[Check]:
    name = f"{request.params.get('ServiceCode', '*')}/{request.params.get('QuotaCode', '*')}"
    arn = f"arn:aws:servicequotas:{world.region}:{world.account}:{name}"
    yield Check(request.iam_action, arn, {"servicequotas:service": str(request.params.get("ServiceCode", ""))})


def role(request: Request, world: World) -> Iterator[Check]:
    yield Check(request.iam_action, world.role_arn(str(request.params.get("RoleName", "*"))))


def service_linked_role(request: Request, world: World) -> Iterator[Check]:
    service = str(request.params.get("AWSServiceName", ""))
    yield Check(request.iam_action, f"arn:aws:iam::{world.account}:role/aws-service-role/{service}/*", {"iam:AWSServiceName": service})


def assumed_role(request: Request, _world: World) -> Iterator[Check]:
    yield Check(request.iam_action, str(request.params.get("RoleArn", "*")))


def simulated(request: Request, _world: World) -> Iterator[Check]:
    yield Check(request.iam_action, str(request.params.get("PolicySourceArn", "*")))


Rule = Callable[[Request, World], Iterable[Check]]

_BY_RULE: Iterable[tuple[Rule, str, str]] = (
    (launch_template, "ec2", "CreateLaunchTemplateVersion DeleteLaunchTemplate DeleteLaunchTemplateVersions ModifyLaunchTemplate"),
    (created("launch-template"), "ec2", "CreateLaunchTemplate"),
    (created("security-group", vpc_of_security_group), "ec2", "CreateSecurityGroup"),
    (created("volume"), "ec2", "CreateVolume"),
    (created("network-interface"), "ec2", "CreateNetworkInterface"),
    (security_group, "ec2", "DeleteSecurityGroup AuthorizeSecurityGroupIngress AuthorizeSecurityGroupEgress RevokeSecurityGroupIngress"),
    (security_group, "ec2", "RevokeSecurityGroupEgress ModifySecurityGroupRules"),
    (security_group, "ec2", "UpdateSecurityGroupRuleDescriptionsIngress UpdateSecurityGroupRuleDescriptionsEgress"),
    (existing("InstanceId"), "ec2", "TerminateInstances StopInstances StartInstances RebootInstances GetConsoleOutput"),
    (existing("VolumeId"), "ec2", "DeleteVolume"),
    (existing("ImageId"), "ec2", "DeregisterImage"),
    (existing("SnapshotId"), "ec2", "DeleteSnapshot"),
    (create_image, "ec2", "CreateImage"),
    (created("key-pair"), "ec2", "CreateKeyPair ImportKeyPair"),
    (key_pair, "ec2", "DeleteKeyPair"),
    (existing("NetworkInterfaceId"), "ec2", "DeleteNetworkInterface"),
    (ec2_tags, "ec2", "CreateTags DeleteTags"),
    (run_instances, "ec2", "RunInstances"),
    (made_group, "autoscaling", "CreateAutoScalingGroup UpdateAutoScalingGroup"),
    (scaling_group, "autoscaling", "DeleteAutoScalingGroup SetDesiredCapacity TerminateInstanceInAutoScalingGroup SuspendProcesses ResumeProcesses"),
    (scaling_group, "autoscaling", "AttachInstances DetachInstances SetInstanceProtection"),
    (group_tags, "autoscaling", "CreateOrUpdateTags DeleteTags"),
    (launch_configuration, "autoscaling", "CreateLaunchConfiguration DeleteLaunchConfiguration"),
    (parameters, "ssm", "PutParameter GetParameter GetParameters GetParametersByPath GetParameterHistory DeleteParameter DeleteParameters"),
    (parameters, "ssm", "AddTagsToResource RemoveTagsFromResource ListTagsForResource"),
    (quota, "servicequotas", "GetServiceQuota GetAWSDefaultServiceQuota"),
    (simulated, "iam", "SimulatePrincipalPolicy"),
    (role, "iam", "CreateRole DeleteRole GetRole PutRolePolicy DeleteRolePolicy AttachRolePolicy DetachRolePolicy"),
    (service_linked_role, "iam", "CreateServiceLinkedRole"),
    (assumed_role, "sts", "AssumeRole"),
)
RULES: Mapping[tuple[str, str], Rule] = {(service, action): rule for rule, service, actions in _BY_RULE for action in actions.split()}
