# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: on_prem_fpga
short_description: What an on-prem host publishes of its FPGA boards
version_added: 0.9.0
description:
  - Section C(fpga) of the host's C(node.json), out of C(fpga_publish), C(fpga_stack) and the catalogue of accelerators.
  - A board that isn't named is published as the accelerator that fits it, else as itself. Which boards the host has is found by its device plugin.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: C(fpga_publish), by board V(boards), V(both) or the name of an accelerator.
    type: dict
    required: true
  host:
    description: The host's name, for messages.
    type: str
    required: true
  stack:
    description: C(fpga_stack).
    type: str
    choices: [fpga_device_plugin, inaccel, amd, none]
    default: fpga_device_plugin
  accelerators:
    description: C(cluster_accelerators).
    type: dict
    default: {}
positional: host, stack, accelerators
"""

EXAMPLES = r"""
- name: Show what this host would publish
  ansible.builtin.debug:
    msg: "{{ {'u250': 'com.inaccel.xgboost.exact'} | fpga.hybrid.on_prem_fpga(inventory_hostname, accelerators=cluster_accelerators) }}"
"""

RETURN = r"""
_value:
  description: The section; none where C(fpga_stack) is V(none).
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._node import FPGA_STACK
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError, parse_accelerators
from ansible_collections.fpga.hybrid.plugins.module_utils._on_prem_fpga import on_prem_fpga


def _on_prem_fpga(publish: Mapping[str, Any], host: str, stack: str = FPGA_STACK, accelerators: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    try:
        return on_prem_fpga(host, publish, stack, parse_accelerators(accelerators))
    except PoolError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"on_prem_fpga": _on_prem_fpga}
