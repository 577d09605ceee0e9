# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: fpga_policy
short_description: Admission policies for pods that ask for an FPGA
version_added: 0.9.0
description: What role fpga_policy applies, and what of another kind it takes away.
author: The fpga.hybrid maintainers (@fpga-hybrid)
positional: _input, kind
options:
  _input:
    description: The catalogue C(cluster_accelerators).
    type: dict
    required: true
  kind:
    description: V(mutating), V(mutating_v1beta1), V(validating), or V(none), where everything goes.
    type: str
    required: true
  pools:
    description: C(cluster_node_pools), whose C(resources) of other device plugins count, too.
    type: list
    elements: dict
    default: []
  resources:
    description: Further names, as C(example.org/fpga) or C(example.org/*).
    type: list
    elements: str
    default: []
  outage_tolerance:
    description: C(cluster_fpga_outage_tolerance).
    type: str
    default: 30m
  pod_deadline:
    description: C(cluster_fpga_pod_deadline).
    type: str
    default: 24h
"""

EXAMPLES = r"""
- name: Show the policies
  ansible.builtin.debug:
    msg: "{{ (cluster_accelerators | fpga.hybrid.fpga_policy('mutating')).objects }}"
"""

RETURN = r"""
_value:
  description: C(objects), to be there, and C(absent), names as C(kind/name) that may be there from another kind and are to go.
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._fpga_policy import PolicyError, leftovers, objects, parse_policy


def fpga_policy(
    accelerators: Mapping[str, Any],
    kind: str,
    pools: Sequence[Mapping[str, Any]] = (),
    resources: Sequence[str] = (),
    outage_tolerance: str = "30m",
    pod_deadline: str = "24h",
) -> dict[str, Any]:
    try:
        wanted: list[dict[str, Any]] = objects(parse_policy(accelerators, pools, resources, outage_tolerance, pod_deadline), kind)
    except PolicyError as error:
        raise AnsibleFilterError(str(error)) from error
    return {"objects": wanted, "absent": leftovers(wanted)}


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fpga_policy": fpga_policy}
