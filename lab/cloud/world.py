"""What moto holds, as the proxy needs it: ARNs and tags of resources, data of launch templates. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE
from moto.iam.models import iam_backends
from moto.ssm.models import ssm_backends

Tags = Mapping[str, str]

#: EC2 resources that the account doesn't own have no account in their ARN.
UNOWNED = {"image", "snapshot"}


@dataclass(frozen=True)
class World:
    """One account in one region."""

    account: str
    region: str

    # ---- EC2

    @property
    def ec2(self) -> Any:
        return ec2_backends[self.account][self.region]

    def ec2_arn(self, kind: str, name: str = "*") -> str:
        return f"arn:aws:ec2:{self.region}:{'' if kind in UNOWNED else self.account}:{kind}/{name}"

    def ec2_resource(self, resource_id: str) -> tuple[str, Tags]:
        """ARN and tags of whatever an EC2 id names."""
        kind = EC2_PREFIX_TO_RESOURCE.get(resource_id.rpartition("-")[0], "*")
        return self.ec2_arn(kind, resource_id), dict(self.ec2.tags.get(resource_id, {}))

    def launch_template(self, template_id: str, name: str) -> Any | None:
        return self.ec2.launch_templates.get(template_id or self.ec2.launch_template_name_to_ids.get(name, ""))

    def key_pair_tags(self, name: str) -> Tags:
        found = self.ec2.key_pairs.get(name)
        return dict(self.ec2.tags.get(found.id, {})) if found else {}

    def security_group_id(self, group_id: str, name: str) -> str:
        if group_id:
            return group_id
        return next((group.id for groups in self.ec2.groups.values() for group in groups.values() if group.name == name), "*")

    # ---- Auto Scaling

    @property
    def autoscaling(self) -> Any:
        return autoscaling_backends[self.account][self.region]

    def group(self, name: str) -> Any | None:
        return self.autoscaling.autoscaling_groups.get(name)

    def group_arn(self, name: str) -> str:
        group = self.group(name)
        return str(group.arn) if group else f"arn:aws:autoscaling:{self.region}:{self.account}:autoScalingGroup:*:autoScalingGroupName/{name}"

    def group_tags(self, name: str) -> Tags:
        group = self.group(name)
        return {tag["Key"]: tag.get("Value", "") for tag in group.tags} if group else {}

    def group_of_instance(self, instance_id: str) -> str:
        for group in self.autoscaling.autoscaling_groups.values():
            if any(state.instance.id == instance_id for state in group.instance_states):
                return str(group.name)
        return "*"

    def launch_configuration_arn(self, name: str) -> str:
        found = self.autoscaling.launch_configurations.get(name)
        return str(found.arn) if found else f"arn:aws:autoscaling:{self.region}:{self.account}:launchConfiguration:*:launchConfigurationName/{name}"

    # ---- SSM

    def parameter(self, name: str) -> tuple[str, Tags]:
        plain = name.rpartition(":parameter")[2] if name.startswith("arn:") else name.partition(":")[0]
        tags = ssm_backends[self.account][self.region]._resource_tags["Parameter"]
        return f"arn:aws:ssm:{self.region}:{self.account}:parameter/{plain.lstrip('/')}", dict(tags.get(plain, {}))

    # ---- IAM

    @property
    def iam(self) -> Any:
        return iam_backends[self.account]["aws"]

    def role_arn(self, name: str) -> str:
        found = next((role.arn for role in self.iam.roles.values() if role.name == name), None)
        return str(found) if found else f"arn:aws:iam::{self.account}:role/{name}"

    def passed_roles(self, profile: str) -> list[str]:
        """ARNs of the roles in an instance profile, given by its name or ARN; of one that isn't there, a role of its name."""
        name = profile.rpartition("/")[2]
        found = self.iam.instance_profiles.get(name) or next((p for p in self.iam.instance_profiles.values() if p.name == name), None)
        return [str(role.arn) for role in found.roles] if found else [f"arn:aws:iam::{self.account}:role/{name}"]

    def has_role(self, name: str) -> bool:
        return any(role.name == name for role in self.iam.roles.values())
