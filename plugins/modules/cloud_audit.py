#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: see module_utils/_cloud_audit.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_audit
short_description: Lists everything in AWS that carries a cluster's id, and what of it nothing accounts for
version_added: 0.9.0
description:
  - Asks each service for groups, launch templates and configurations, instances, volumes, network interfaces, security groups and parameters, and the
    tagging API for anything else.
  - An orphan is what no group, no instance and no declared pool accounts for. An instance that no group has, costs money until somebody ends it.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  cluster_id:
    description: The cluster's unique id.
    type: str
    required: true
  ssm_prefix:
    description: The cluster's path in the parameter store.
    type: str
    required: true
  groups:
    description: Names of the declared pools' groups.
    type: list
    elements: str
    default: []
  security_group:
    description: Name of the security group that the pools share.
    type: str
    default: ""
  wait_until_gone:
    description: Seconds to wait until instances, volumes, network interfaces and groups have gone. Then it is an error that some are there.
    type: int
    default: 0
extends_documentation_fragment:
  - fpga.hybrid.attributes.aws
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: List what there is
  fpga.hybrid.cloud_audit:
    cluster_id: 6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b
    ssm_prefix: /fpga-hybrid/lab
    groups: [lab-f2-6xlarge]
    security_group: lab-nodes
    region: us-east-1
  register: audit

- name: Fail if something is left over
  ansible.builtin.assert:
    that: audit.orphans | length == 0
"""

RETURN = r"""
resources:
  description: Everything, what costs first.
  type: list
  elements: dict
  returned: success
  contains:
    kind:
      description: As V(instance), V(volume), V(group), V(security group).
      type: str
    id:
      description: Id, name or ARN.
      type: str
    pool:
      description: Name of the pool.
      type: str
    state:
      description: How it is, for a person.
      type: str
    orphan:
      description: Why nothing accounts for it; empty where something does.
      type: str
orphans:
  description: Those of RV(resources) that nothing accounts for.
  type: list
  elements: dict
  returned: success
"""

import time

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.fpga.hybrid.plugins.module_utils._cloud_audit import GOES_BY_ITSELF, Auditor, Declared, Resource, judge
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import Cloud, CloudError

#: Seconds between two looks; an instance takes about a minute to end.
PAUSE = 5


def still_there(resources: list[Resource]) -> list[str]:
    return [one.id for one in resources if one.kind in GOES_BY_ITSELF]


def main() -> None:
    module = AnsibleAWSModule(
        argument_spec={
            "cluster_id": {"type": "str", "required": True},
            "ssm_prefix": {"type": "str", "required": True},
            "groups": {"type": "list", "elements": "str", "default": []},
            "security_group": {"type": "str", "default": ""},
            "wait_until_gone": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    params = module.params
    declared = Declared(frozenset(params["groups"]), params["security_group"], params["ssm_prefix"])
    auditor = Auditor(Cloud(module, module.region).ask, params["cluster_id"], params["ssm_prefix"])
    end = time.monotonic() + params["wait_until_gone"]
    try:
        judged = judge(auditor.everything(), declared)
        while still_there(judged) and time.monotonic() < end and not module.check_mode:
            time.sleep(PAUSE)
            judged = judge(auditor.everything(), declared)
    except CloudError as error:
        module.fail_json(msg=str(error))
    resources = [one.as_dict() for one in judged]
    if params["wait_until_gone"] and still_there(judged) and not module.check_mode:
        left = ", ".join(still_there(judged))
        module.fail_json(msg=f"After {params['wait_until_gone']} s there still are {left}. Run again when they have gone.", resources=resources)
    module.exit_json(changed=False, resources=resources, orphans=[one for one in resources if one["orphan"]])


if __name__ == "__main__":
    main()
