#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_health
short_description: Waits, for a bounded time, until a host's VPN is well
version_added: 0.9.0
description:
  - Well means that OpenVPN itself says V(CONNECTED) on its management socket, with the host's own address,
    and that the other end answers through the tunnel. That a unit is active or an address exists says neither.
  - A failure says what was found, and which port must be open from where to where.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
attributes:
  check_mode:
    support: full
    description: Looks once and never fails, because what a real run would have changed was not changed.
  diff_mode:
    support: none
    description: There is nothing to compare.
options:
  side:
    description:
      - V(server) has no other end to ask. V(client) asks the server through the tunnel.
      - V(routed) is a host without a tunnel that reaches the VPN through the server's LAN address.
    type: str
    choices: [server, client, routed]
    required: true
  host:
    description: This host's name, for the message.
    type: str
    required: true
  address:
    description: The tunnel address that this host should have.
    type: str
    default: ""
  peer:
    description: The VPN server's address in the VPN. Unused where O(side=server).
    type: str
    default: ""
  device:
    description: Name of the tunnel's device.
    type: str
    default: tun0
  management:
    description: OpenVPN's management socket. Default is where the role puts it.
    type: path
  endpoint:
    description: Name or address that this host dials.
    type: str
    default: ""
  port:
    description: The port that it dials.
    type: int
    default: 1194
  protocol:
    description: The protocol it uses.
    type: str
    choices: [udp, tcp]
    default: udp
  server:
    description: The VPN server's name, for the message.
    type: str
    default: the VPN server
  server_address:
    description: The VPN server's address in its own network, for the message.
    type: str
    default: its address
  server_port:
    description: The port that the server listens on, for the message. Default, O(port).
    type: int
  backend:
    description: What the server is. Access Server, V(openvpn_as), is asked by its own command line where O(side=server).
    type: str
    choices: [openvpn, openvpn_as]
    default: openvpn
  wait:
    description: How many seconds to wait at most.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Wait for the tunnel
  fpga.hybrid.openvpn_health:
    side: client
    host: "{{ inventory_hostname }}"
    address: 172.27.224.12
    peer: 172.27.224.1
    endpoint: vpn.example.org
    server: cp1
    server_address: 10.0.0.10
"""

RETURN = r"""
healthy:
  description: Whether the VPN is well. Only in check mode this can be false without a failure.
  returned: success
  type: bool
state:
  description: OpenVPN's state, empty where it does not run.
  returned: success
  type: str
  sample: CONNECTED
remote:
  description: Address and port of the other end.
  returned: success
  type: str
  sample: 203.0.113.7:1194
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn as openvpn
from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_host as vpn_host


def main() -> None:
    module = AnsibleModule(
        argument_spec={**openvpn.WANTED_OPTIONS, "host": {"type": "str", "required": True}, "wait": {"type": "int", "default": 60}},
        required_if=[("side", "server", ["address"]), ("side", "client", ["address", "peer", "endpoint"]), ("side", "routed", ["peer"])],
        supports_check_mode=True,
    )
    wanted = openvpn.Wanted.of(module.params)
    began = time.time()
    wait: int = module.params["wait"]
    deadline = time.monotonic() + wait
    finding = vpn_host.look_at_tunnel(wanted)
    while openvpn.judge(wanted, finding) and not module.check_mode and time.monotonic() < deadline:
        time.sleep(0.5)
        finding = vpn_host.look_at_tunnel(wanted)
    state = finding.state
    if openvpn.judge(wanted, finding) and not module.check_mode:
        finding = openvpn.with_log(wanted, finding, began - 30)
        module.fail_json(msg=openvpn.failure(wanted, finding, wait), state=state.name if state else "")
    module.exit_json(
        changed=False,
        healthy=not openvpn.judge(wanted, finding),
        state=state.name if state else "",
        remote=state.remote if state else "",
    )


if __name__ == "__main__":
    main()
