#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: see module_utils/_ssm_prefix.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ssm_prefix
short_description: Claims a path in AWS' parameter store for a cluster, or gives it back
version_added: 0.9.0
description:
  - A parameter C(cluster) below the path says which cluster has it. A path that another cluster has is refused, so that two clusters of one name
    do not read each other's.
  - Given back, everything below the path is deleted.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  path:
    description: The path, as V(/fpga-hybrid/lab).
    type: str
    required: true
  state:
    description: V(present), the path is claimed. V(absent), there is nothing below it.
    type: str
    choices: [present, absent]
    default: present
  cluster_id:
    description: The cluster's unique id.
    type: str
    required: true
  cluster_name:
    description: The cluster's name.
    type: str
    required: true
extends_documentation_fragment:
  - fpga.hybrid.attributes.aws
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Looks, and writes nothing.
    support: full
  diff_mode:
    description: Shows the names of parameters that come or go.
    support: full
"""

EXAMPLES = r"""
- name: Claim the cluster's path
  fpga.hybrid.ssm_prefix:
    path: /fpga-hybrid/lab
    cluster_id: 6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b
    cluster_name: lab
    region: us-east-1

- name: Give it back, with everything below
  fpga.hybrid.ssm_prefix:
    path: /fpga-hybrid/lab
    cluster_id: 6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b
    cluster_name: lab
    region: us-east-1
    state: absent
"""

RETURN = r"""
deleted:
  description: Names of parameters that were deleted, or in check mode would be.
  type: list
  elements: str
  returned: success
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import Cloud, CloudError
from ansible_collections.fpga.hybrid.plugins.module_utils._ssm_prefix import Prefix, PrefixError


def main() -> None:
    module = AnsibleAWSModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "cluster_id": {"type": "str", "required": True},
            "cluster_name": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    prefix = Prefix(module.params["path"], module.params["cluster_id"], module.params["cluster_name"])
    ask = Cloud(module, module.region).ask
    deleted: list[str] = []
    try:
        claimed = prefix.is_claimed(ask)
        present = module.params["state"] == "present"
        changed = claimed != present
        if claimed and not present:
            deleted = prefix.names(ask)
        if changed and not module.check_mode:
            if present:
                prefix.make_claim(ask)
            else:
                prefix.delete(ask, deleted)
    except (CloudError, PrefixError) as error:
        module.fail_json(msg=str(error))
    before = "".join(f"{name}\n" for name in deleted)
    after = f"{prefix.claim}\n" if changed and present else ""
    module.exit_json(changed=changed, deleted=deleted, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
