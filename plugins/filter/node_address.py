# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: node_address
short_description: The address that an on-prem host's node is to have
version_added: 0.9.0
description: The InternalIP of a declared host's node, from the host's inventory variables alone.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: The host's variables, C(hostvars[host]).
    type: dict
    required: true
  on_prem_addresses:
    description: C(cluster_on_prem_addresses).
    type: str
    choices: [vpn, lan]
    required: true
  is_vpn_server:
    description: Whether the host is the VPN server.
    type: bool
    required: true
  vpn_server_address:
    description: C(cluster_vpn_server_address).
    type: str
    required: true
positional: on_prem_addresses, is_vpn_server, vpn_server_address
"""

EXAMPLES = r"""
- name: Show this host's node address
  ansible.builtin.debug:
    msg: "{{ hostvars[inventory_hostname] | fpga.hybrid.node_address('lan', false, '172.27.224.1') }}"
"""

RETURN = r"""
_value:
  description: The address.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._declaration import node_address


def _node_address(host: Mapping[str, Any], on_prem_addresses: str, is_vpn_server: bool, vpn_server_address: str) -> str:
    variables = {name: host.get(name) for name in ("vpn_address", "node_address", "ansible_host")}
    address = node_address(variables, on_prem_addresses, is_vpn_server, vpn_server_address)
    if address is None:
        name = "vpn_address" if on_prem_addresses == "vpn" else "node_address"
        raise AnsibleFilterError(
            f"{host.get('inventory_hostname')}, {name}: found no address; expected an IPv4 address. Give the host {name} in the inventory."
        )
    return address


class FilterModule:
    def filters(self) -> dict[str, Callable[..., str]]:
        return {"node_address": _node_address}
