#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: the template is made by module_utils/node_template.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_template_info
short_description: What the nodes of a pool will be, before any exists
version_added: 0.9.0
description:
  - Computes labels, taints and allocatable resources of a pool's nodes, and all that follows from them.
  - Needs no credentials for the instance types of a shipped table (RV(table)), nor for those that AWS has ended. Any other is asked for at AWS.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
extends_documentation_fragment:
  - fpga.hybrid.node_pool.cluster
  - fpga.hybrid.node_pool.pools
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: There is no difference to show.
    support: none
seealso:
  - module: fpga.hybrid.node_pool
"""

EXAMPLES = r"""
- name: See what a pod may ask of an f2.12xlarge
  fpga.hybrid.node_template_info:
    cluster: {name: lab, id: 6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b, kubernetes_version: "1.36", region: us-east-1}
    pools:
      - name: f2-12xlarge
        instance_type: f2.12xlarge
        max_size: 4
        availability_zones: [us-east-1a, us-east-1b]
  register: result

- name: Show it
  ansible.builtin.debug:
    var: result.templates[0].resources
"""

RETURN = r"""
templates:
  description: One for each pool, in their order.
  type: list
  elements: dict
  returned: success
  contains:
    pool:
      description: The pool's name.
      type: str
    group_name:
      description: Name of group and launch template.
      type: str
    labels:
      description: Labels of its nodes.
      type: dict
    taints:
      description: Taints of its nodes, as C(key=value:effect).
      type: list
      elements: str
    startup_taints:
      description: Taints that a node registers with and loses when it is ready.
      type: list
      elements: str
    resources:
      description: Allocatable quantities.
      type: dict
      sample: {cpu: 47710m, memory: 483145Mi, pods: "110", ephemeral-storage: 68574Mi, xilinx/aws-vu47p-f2: "2"}
    tags:
      description: All tags of the group.
      type: dict
    node:
      description: Content of C(node.json).
      type: dict
    user_data:
      description: The user-data, not encoded.
      type: str
    kubelet_arguments:
      description: Flags of the kubelet that follow.
      type: dict
instance_types:
  description: What is known of the pools' instance types, by name.
  type: dict
  returned: success
table:
  description: Where the shipped table of instance types comes from, and when.
  type: str
  returned: success
"""

from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import shipped_types
from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types_table import SOURCE
from ansible_collections.fpga.hybrid.plugins.module_utils._node import kubelet_arguments
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import Pool, PoolError, parse_accelerators, parse_pools
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import Cloud, CloudError, cluster_of
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import NodeTemplate, make_template


def shown(pool: Pool, template: NodeTemplate) -> dict[str, Any]:
    node = template.node()
    return {
        **{key: node[key] for key in ("pool", "labels", "taints", "startup_taints", "resources")},
        "group_name": pool.group_name,
        "tags": {tag.key: tag.value for tag in template.group_tags(propagate_own=False)},
        "node": node,
        "user_data": template.user_data(),
        "kubelet_arguments": kubelet_arguments(node),
    }


def main() -> None:
    module = AnsibleAWSModule(
        argument_spec={
            "cluster": {"type": "dict", "required": True},
            "accelerators": {"type": "dict", "default": {}},
            "pools": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
        check_boto3=False,
    )
    try:
        cluster = cluster_of(module)
        accelerators = parse_accelerators(module.params["accelerators"])
        pools = parse_pools(module.params["pools"], cluster.name)
        types = shipped_types()
        unknown = sorted({name for pool in pools for name in pool.instance_types} - set(types))
        if unknown:
            types |= Cloud(module, cluster.region).instance_types(unknown)
        templates = [shown(pool, make_template(pool, cluster, types, accelerators)) for pool in pools]
    except (PoolError, CloudError) as error:
        module.fail_json(msg=str(error))
    used = sorted({name for pool in pools for name in pool.instance_types})
    module.exit_json(changed=False, templates=templates, instance_types={name: types[name].as_dict() for name in used}, table=SOURCE)


if __name__ == "__main__":
    main()
