# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: calico_chart_values
short_description: Values of Calico's operator for a pod network over a VPN
version_added: 0.9.0
description: The values of chart C(tigera-operator). Its C(installation) becomes the spec of an Installation resource.
author: The fpga.hybrid maintainers (@fpga-hybrid)
positional: _input, mtu, calico
options:
  _input:
    description: Network of the pods.
    type: str
    required: true
  mtu:
    description: MTU of a pod's interface.
    type: int
    required: true
  calico:
    description: Calico's version, as C(v3.32.1). Older releases do not know all keys.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the values
  ansible.builtin.debug:
    msg: "{{ '10.244.0.0/16' | fpga.hybrid.calico_chart_values(1350, 'v3.32.1') }}"
"""

RETURN = r"""
_value:
  description: The values.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._calico import Network


def calico_chart_values(pod_network: str, mtu: int, calico: str) -> dict[str, Any]:
    values: dict[str, Any] = Network(cidr=pod_network, mtu=int(mtu)).chart_values(calico)
    return values


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"calico_chart_values": calico_chart_values}
