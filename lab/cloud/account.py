"""What stands in the lab's AWS before a cluster uses it: what a site's own account has, and the keys that its administrator hands out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.cloud.server import Control
from lab.cloud.sidecar import make_subnets


def key_file(credentials: Mapping[str, str]) -> str:
    """As AWS' own programs have it."""
    return f"[default]\naws_access_key_id = {credentials['aws_access_key_id']}\naws_secret_access_key = {credentials['aws_secret_access_key']}\n"


class Account:
    """An account with the lab's VPC, one image, and users that may do what playbook iam.yml has written for them, and no more."""

    def __init__(self, cloud: Control) -> None:
        self._cloud = cloud
        self.subnets = make_subnets(cloud)
        self.image: str = cloud.client("ec2").register_image(Name="fpga-hybrid-lab", RootDeviceName="/dev/xvda", Architecture="x86_64")["ImageId"]

    def variables(self) -> dict[str, Any]:
        """For the playbooks."""
        return {"lab_cloud_subnets": list(self.subnets.values()), "lab_cloud_image": self.image}

    def user(self, identity: str, policies: Path) -> dict[str, str]:
        """Makes the user of an identity out of the policy that iam.yml wrote into a folder; its credentials."""
        return self._cloud.user(identity, json.loads((policies / f"{identity}.policy.json").read_text()))
