# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: nth_address
short_description: The n-th address of a network
version_added: 0.9.0
description: The n-th address of an IPv4 network, counted from its network address. Needs nothing but Python on the controller.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  _input:
    description: The network in CIDR notation.
    type: str
    required: true
  n:
    description: Which address.
    type: int
    required: true
positional: n
"""

EXAMPLES = r"""
- name: Show 172.27.224.1
  ansible.builtin.debug:
    msg: "{{ '172.27.224.0/20' | fpga.hybrid.nth_address(1) }}"
"""

RETURN = r"""
_value:
  description: The address.
  type: str
"""

from collections.abc import Callable
from ipaddress import IPv4Network

from ansible.errors import AnsibleFilterError


def nth_address(network: str, n: int) -> str:
    try:
        return str(IPv4Network(network)[n])
    except (ValueError, IndexError) as error:
        raise AnsibleFilterError(f"address {n} of {network!r}: {error}; expected an IPv4 network without host bits, as 172.27.224.0/20") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., str]]:
        return {"nth_address": nth_address}
