# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: calico_installation
short_description: Values of Calico's operator for a pod network over a VPN
version_added: 0.1.0
description: The C(installation) of chart C(tigera-operator), which becomes the spec of its Installation resource.
author: The fpga.hybrid maintainers (@fpga-hybrid)
positional: _input, mtu
options:
  _input:
    description: Network of the pods.
    type: str
    required: true
  mtu:
    description: MTU of a pod's interface.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show the values
  ansible.builtin.debug:
    msg: "{{ '10.244.0.0/16' | fpga.hybrid.calico_installation(1350) }}"
"""

RETURN = r"""
_value:
  description: The values.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._calico import Network


def calico_installation(pod_network: str, mtu: int) -> dict[str, Any]:
    values: dict[str, Any] = Network(cidr=pod_network, mtu=int(mtu)).installation()
    return values


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"calico_installation": calico_installation}
