"""What stands in the lab's AWS before `make evaluate` uses it: what a site's own account has, and the keys that its administrator hands out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.cloud.server import REGION, Control
from lab.settings import VPC

ZONE = f"{REGION}a"


def key_file(credentials: Mapping[str, str]) -> str:
    """As AWS' own programs have it."""
    return f"[default]\naws_access_key_id = {credentials['aws_access_key_id']}\naws_secret_access_key = {credentials['aws_secret_access_key']}\n"


class Account:
    """An account with one network, one image, and users that may do what playbook iam.yml has written for them, and no more."""

    def __init__(self, cloud: Control) -> None:
        self._cloud = cloud
        ec2 = cloud.client("ec2")
        network = ec2.create_vpc(CidrBlock=str(VPC.subnet))["Vpc"]["VpcId"]
        self.subnet = ec2.create_subnet(VpcId=network, CidrBlock=str(VPC.subnet), AvailabilityZone=ZONE)["Subnet"]["SubnetId"]
        self.image = ec2.register_image(Name="fpga-hybrid-lab", RootDeviceName="/dev/xvda", Architecture="x86_64")["ImageId"]

    def variables(self) -> dict[str, Any]:
        """For playbooks."""
        return {"lab_cloud_subnets": [self.subnet], "lab_cloud_image": self.image}

    def user(self, identity: str, policies: Path) -> dict[str, str]:
        """Makes the user of an identity out of the policy that iam.yml wrote into a folder; its credentials."""
        return self._cloud.user(identity, json.loads((policies / f"{identity}.policy.json").read_text()))
