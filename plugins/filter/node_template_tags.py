# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: node_template_tags
short_description: A pool's tags for the Cluster Autoscaler
version_added: 0.9.0
description:
  - The tags of the pool's Auto Scaling group from which the Cluster Autoscaler finds the group and builds its template.
  - Knows the instance types of a shipped table. Others come from M(fpga.hybrid.node_template_info), which asks AWS.
author: The fpga.hybrid maintainers (@fpga-hybrid)
positional: _input, cluster, accelerators, instance_types
options:
  _input:
    description: A pool as in M(fpga.hybrid.node_pool).
    type: dict
    required: true
  cluster:
    description: What every node of the cluster is told, as in M(fpga.hybrid.node_pool).
    type: dict
    required: true
  accelerators:
    description: The catalogue C(cluster_accelerators).
    type: dict
    default: {}
  instance_types:
    description: Instance types by name, as M(fpga.hybrid.node_template_info) returns them.
    type: dict
    default: {}
seealso:
  - plugin: fpga.hybrid.node_template_tags
    plugin_type: filter
  - plugin: fpga.hybrid.node_template_node
    plugin_type: filter
  - plugin: fpga.hybrid.node_template_user_data
    plugin_type: filter
  - plugin: fpga.hybrid.node_template_expected
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ pool | fpga.hybrid.node_template_tags(cluster) }}"
  vars:
    cluster: {name: lab, id: 6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b, kubernetes_version: "1.36", region: us-east-1}
    pool: {name: f2-6xlarge, instance_type: f2.6xlarge, max_size: 2, availability_zones: [us-east-1a, us-east-1b]}
"""

RETURN = r"""
_value:
  description: Tags, key to value.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError
from ansible_collections.fpga.hybrid.plugins.module_utils._node_template_inputs import template_of


def node_template_tags(
    pool: Mapping[str, Any],
    cluster: Mapping[str, Any],
    accelerators: Mapping[str, Any] | None = None,
    instance_types: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, str]:
    try:
        result: dict[str, str] = template_of(pool, cluster, accelerators, instance_types).autoscaling_tags()
    except PoolError as error:
        raise AnsibleFilterError(str(error)) from error
    return result


class FilterModule:
    def filters(self) -> dict[str, Callable[..., dict[str, str]]]:
        return {"node_template_tags": node_template_tags}
