# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: openvpn_as_networks
short_description: Access Server's settings for the VPN's network
version_added: 0.9.0
description:
  - Access Server keeps apart what it gives out by itself and the addresses that users have for good.
  - The /29 with the server's address becomes the former, all the rest of the network the latter.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: C(cluster_vpn_network).
    type: str
    required: true
  server_address:
    description: C(cluster_vpn_server_address), the first address of a /29.
    type: str
    required: true
positional: server_address
"""

EXAMPLES = r"""
- name: Show how the network is parted
  ansible.builtin.debug:
    msg: "{{ '172.27.224.0/20' | fpga.hybrid.openvpn_as_networks('172.27.224.1') }}"
"""

RETURN = r"""
_value:
  description: Keys of C(sacli ConfigQuery) with their values.
  type: dict
"""

from collections.abc import Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.fpga.hybrid.plugins.module_utils._openvpn_as import AccessServerError, networks


def openvpn_as_networks(network: str, server_address: str) -> dict[str, str]:
    try:
        return networks(network, server_address)
    except (AccessServerError, ValueError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., dict[str, str]]]:
        return {"openvpn_as_networks": openvpn_as_networks}
