#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: reads the groups of a cluster and shows them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_pool_info
short_description: The node pools that a cluster has in AWS
version_added: 0.9.0
description:
  - Lists the Auto Scaling groups of a cluster, by the cluster's unique id and the autoscaler's tag. One call for all of them.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  cluster:
    description: C(name) and C(id) of the cluster. What else M(fpga.hybrid.node_pool) takes may be there, too.
    type: dict
    required: true
extends_documentation_fragment:
  - fpga.hybrid.attributes.aws
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
- name: See what runs
  fpga.hybrid.node_pool_info:
    region: us-east-1
    cluster: {name: lab, id: 6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b}
  register: result

- name: Show it
  ansible.builtin.debug:
    msg: "{{ result.pools | map(attribute='name') }}"
"""

RETURN = r"""
pools:
  description: The pools, by name.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The pool's name.
      type: str
    group_name:
      description: The group's name.
      type: str
    min_size:
      description: Its minimum.
      type: int
    max_size:
      description: Its maximum.
      type: int
    desired_capacity:
      description: What the autoscaler wants.
      type: int
    instances:
      description: Its instances, each with C(id), C(availability_zone), C(lifecycle_state), C(instance_type).
      type: list
      elements: dict
    launch_template:
      description: Name of the launch template in use, or null.
      type: str
    launch_template_version:
      description: Its version in use, or null.
      type: str
    launch_configuration:
      description: Name of the launch configuration in use, or null.
      type: str
    suspended:
      description: Suspended processes.
      type: list
      elements: str
    labels:
      description: Labels that the autoscaler thinks a new node has.
      type: dict
    taints:
      description: Taints that the autoscaler thinks a new node has.
      type: list
      elements: str
    resources:
      description: Allocatable quantities that the autoscaler thinks a new node has.
      type: dict
    tags:
      description: All tags of the group.
      type: dict
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_cloud import Cloud, CloudError, cluster_of
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool_documents import shown_group


def main() -> None:
    module = AnsibleAWSModule(argument_spec={"cluster": {"type": "dict", "required": True}}, supports_check_mode=True)
    try:
        # Only needed to make pools.
        module.params["cluster"].setdefault("kubernetes_version", "1.0")
        cluster = cluster_of(module)
        groups = Cloud(module, cluster.region).groups(cluster_id=cluster.id)
    except (PoolError, CloudError) as error:
        module.fail_json(msg=str(error))
    pools = [shown_group(group) for group in groups.values() if group.belongs_to(cluster)]
    module.exit_json(changed=False, pools=sorted(pools, key=lambda pool: str(pool["name"])))


if __name__ == "__main__":
    main()
