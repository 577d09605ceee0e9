#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verify_node
short_description: Tests the cluster's network from a node, through a probe pod of M(fpga.hybrid.verify_cluster)
version_added: 0.9.0
description:
  - V(state=ready) looks at the VPN from the host, and has the node's probe pod answer at its Service, for a bounded time, so that other nodes can test it.
  - V(state=tested) tests from within the probe pod's network namespace, so nothing has to be installed in the pod or on the host.
  - Nothing on the host is changed. A test that fails is a line with O(ignore:ok=false), not a failed module.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
attributes:
  check_mode:
    support: full
    description: Can run in check mode; without probe pods only the VPN is looked at.
  diff_mode:
    support: none
    description: There is nothing to compare.
options:
  state:
    description: Which half of the tests.
    type: str
    choices: [ready, tested]
    required: true
  node:
    description: This host's name in the cluster.
    type: str
    required: true
  plan:
    description:
      - What M(fpga.hybrid.verify_cluster) returned with V(state=started).
      - Empty when the API server was not reached. Then only the VPN is looked at.
    type: dict
    default: {}
  vpn:
    description: The VPN as this host should have it, in the words of M(fpga.hybrid.openvpn_health), which judges by the same.
    type: dict
    suboptions:
      side:
        description: What this host is. V(routed) has no tunnel and reaches the VPN through its LAN.
        type: str
        choices: [server, client, routed]
        required: true
      address:
        description: The host's address in the VPN. Unused where O(vpn.side=routed).
        type: str
        default: ""
      peer:
        description: The VPN server's address in the VPN.
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
        description: The port that the server listens on, for the message. Default, O(vpn.port).
        type: int
      backend:
        description: What the server is. Access Server, V(openvpn_as), is asked by its own command line where O(vpn.side=server).
        type: str
        choices: [openvpn, openvpn_as]
        default: openvpn
  pod_mtu:
    description: The pods' MTU in bytes.
    type: int
    required: true
  dns_domain:
    description: The cluster's DNS domain.
    type: str
    default: cluster.local
  cluster_ca:
    description: File with the cluster's CA on this host.
    type: path
    default: /etc/kubernetes/pki/ca.crt
  answering:
    description: Nodes of this run whose probe pods answer. The others' Services are not tested.
    type: list
    elements: str
    default: []
  answer_seconds:
    description: After how many seconds the answering process ends by itself. It ends earlier when its pod is removed.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Test from the pod of this node
  fpga.hybrid.verify_node:
    state: tested
    node: "{{ inventory_hostname }}"
    plan: "{{ __verify_cluster }}"
    pod_mtu: 1350
"""

RETURN = r"""
lines:
  description: The lines of the verify table that are about this node.
  returned: success
  type: list
  elements: dict
  sample: [{check: DNS, node: worker1, peer: "", ok: true, found: kubernetes.default.svc.cluster.local is 10.96.0.1, expected: 10.96.0.1, remedy: ""}]
node:
  description: This host's name in the cluster.
  returned: success
  type: str
answering:
  description: Whether the probe pod of this node answers.
  returned: success
  type: bool
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _icmp
from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn as openvpn
from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_host as vpn_host
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify as verify
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify_probe as probe

LOOKS = 3


def look_at_vpn(module: AnsibleModule, node: str, vpn: dict[str, Any]) -> verify.Line:
    """A lost packet is no lost VPN: what is not well is looked at again."""
    wanted = openvpn.Wanted.of(vpn, host=node)
    for attempt in range(LOOKS):
        finding = vpn_host.look_at_tunnel(wanted)
        if not openvpn.judge(wanted, finding) or attempt == LOOKS - 1:
            break
        time.sleep(0.5)
    if openvpn.judge(wanted, finding):
        finding = openvpn.with_log(wanted, finding, time.time() - 60)
    _rc, devices, _error = module.run_command(["ip", "-4", "-o", "addr", "show"])
    return verify.judge_vpn(wanted, finding, vpn["address"] in probe.device_addresses(devices).get(wanted.device, []))


def be_ready(module: AnsibleModule) -> tuple[list[verify.Line], bool]:
    node, plan = module.params["node"], module.params["plan"]
    lines = [look_at_vpn(module, node, module.params["vpn"])] if module.params["vpn"] else []
    address = plan.get("pods", {}).get(node)
    if not address or module.check_mode:
        return lines, False
    try:
        probe.answer(probe.find_namespace(address), node, module.params["answer_seconds"])
    except (probe.ProbeError, OSError) as error:
        remedy = f"On {node}: is the container runtime's network namespace folder readable (`ls /run/netns`), and Python allowed to enter it?"
        lines.append(verify.Line(verify.PROBE, node, False, str(error), "its network namespace can be entered", remedy=remedy))
        return lines, False
    return lines, True


def run_tests(module: AnsibleModule) -> list[verify.Line]:
    """All tests from the probe pod of this node; none when it has no pod (whose absence verify_cluster has noted)."""
    node, plan = module.params["node"], module.params["plan"]
    pods = plan.get("pods", {})
    if node not in pods or module.check_mode:
        return []
    path = probe.find_namespace(pods[node])
    peers = {peer: pods[peer] for peer in plan["peers"].get(node, []) if peer in pods}
    lines = test_packets(module, node, path, peers)
    with probe.network_namespace(path):
        lines.append(test_dns(module, node, plan))
        try:
            status, problem = probe.ask_api(plan["kubernetes_address"], 443, module.params["cluster_ca"]), ""
        except probe.ProbeError as error:
            status, problem = "", str(error)
        lines.append(verify.judge_cluster_ip(node, plan["kubernetes_address"], status, problem))
        lines += [test_service(node, peer, plan["services"][peer]) for peer in peers if peer in module.params["answering"]]
    if not any(line.check == verify.SERVICE for line in lines):
        lines.append(verify.Line(verify.SERVICE, node, None, "not tested: no other node of this run answers"))
    return lines


def test_packets(module: AnsibleModule, node: str, path: str, peers: dict[str, str]) -> list[verify.Line]:
    mtu = module.params["pod_mtu"]
    full = mtu - verify.ICMP_AND_IP_HEADERS
    with probe.network_namespace(path):
        seen = probe.observe(list(peers.values()), full)
    lines = [verify.judge_ping(node, peer, seen[address], mtu) for peer, address in peers.items()]
    reached = [address for address in peers.values() if seen[address].full == "reply"]

    def ping_full() -> None:
        with probe.network_namespace(path):
            _icmp.ping([(address, full) for address in reached] * 3, 1)

    # counted outside the pod: that is where a packet that has become too large by its VXLAN header is split
    return [*lines, verify.judge_fragments(node, probe.fragments_during(ping_full) if reached else [])]


def test_dns(module: AnsibleModule, node: str, plan: dict[str, Any]) -> verify.Line:
    name = f"kubernetes.default.svc.{module.params['dns_domain']}"
    answers, problem = [], "the cluster has no Service kube-system/kube-dns"
    if plan.get("dns_address"):
        try:
            answers, problem = probe.resolve(plan["dns_address"], name), ""
        except probe.ProbeError as error:
            problem = str(error)
    return verify.judge_dns(node, server=plan["dns_address"], name=name, answers=answers, problem=problem, expected=plan["kubernetes_address"])


def test_service(node: str, peer: str, address: str) -> verify.Line:
    try:
        answer, problem = probe.ask_probe(address), ""
    except probe.ProbeError as error:
        answer, problem = "", str(error)
    return verify.judge_service(node, peer, address, answer, problem)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["ready", "tested"], "required": True},
            "node": {"type": "str", "required": True},
            "plan": {"type": "dict", "default": {}},
            "vpn": {"type": "dict", "options": openvpn.WANTED_OPTIONS},
            "pod_mtu": {"type": "int", "required": True},
            "dns_domain": {"type": "str", "default": "cluster.local"},
            "cluster_ca": {"type": "path", "default": "/etc/kubernetes/pki/ca.crt"},
            "answering": {"type": "list", "elements": "str", "default": []},
            "answer_seconds": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    answering = False
    try:
        if module.params["state"] == "ready":
            lines, answering = be_ready(module)
        else:
            lines = run_tests(module)
    except (probe.ProbeError, OSError) as error:
        module.fail_json(msg=f"{module.params['node']}: {error}")
    module.exit_json(changed=False, node=module.params["node"], answering=answering, lines=[line.as_dict() for line in lines])


if __name__ == "__main__":
    main()
