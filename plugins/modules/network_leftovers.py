#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: network_leftovers
short_description: Takes out what kube-proxy and Calico leave in the kernel after kubeadm reset
version_added: 0.9.0
description:
  - Removes iptables chains C(KUBE-*) and C(cali-*) with the rules that lead to them, kube-proxy's nftables tables, Calico's devices and its blackhole routes.
  - Nothing else is touched. Rules of Docker, ufw, nftables or the administrator stay as they are, in their order.
  - Run it while no kubelet, kube-proxy or calico-node runs on the host. They would put everything back.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
attributes:
  check_mode:
    support: full
    description: Says what it would remove.
  diff_mode:
    support: full
    description: Lists what goes.
"""

EXAMPLES = r"""
- name: Take out what the pod network left
  fpga.hybrid.network_leftovers:
"""

RETURN = r"""
removed:
  description: What was removed, one line each.
  returned: success
  type: list
  elements: str
  sample: ["iptables filter: chain KUBE-FORWARD", "device vxlan.calico"]
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _network_leftovers as leftovers

# With both variants installed `iptables` is one of them; Docker may use the other, and so may kube-proxy.
VARIANTS = ("iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy")


def run(module: AnsibleModule, *command: str, data: str | None = None) -> str:
    code, output, error = module.run_command([*command], data=data)
    if code:
        module.fail_json(msg=f"{' '.join(command)}: {error.strip() or output.strip()}. Mend that, then run reset.yml again: it goes on where it stopped.")
    return str(output)


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    removed: list[str] = []
    commands: list[tuple[tuple[str, ...], str | None]] = []
    for variant in VARIANTS:
        if module.get_bin_path(f"{variant}-save"):
            tables = leftovers.find_in_tables(run(module, f"{variant}-save"))
            removed += [f"{variant} {entry}" for entry in tables.listing()]
            if tables:
                commands.append(((f"{variant}-restore", "--noflush"), tables.restore()))
    if module.get_bin_path("nft"):
        for family, table in leftovers.find_nft_tables(run(module, "nft", "list", "tables")):
            removed.append(f"nftables table {family} {table}")
            commands.append((("nft", "delete", "table", family, table), None))
    links: list[dict[str, Any]] = json.loads(run(module, "ip", "-json", "link", "show"))
    routes: list[dict[str, Any]] = json.loads(run(module, "ip", "-json", "-details", "-4", "route", "show") or "[]")
    for route in leftovers.find_routes(routes):
        removed.append(f"route blackhole {route}")
        commands.append((("ip", "route", "delete", "blackhole", route, "proto", leftovers.CALICO_ROUTE_PROTOCOL), None))
    for device in leftovers.find_devices(links):
        removed.append(f"device {device}")
        commands.append((("ip", "link", "delete", "dev", device), None))
    if not module.check_mode:
        for command, data in commands:
            run(module, *command, data=data)
    diff = {"before": "".join(f"{line}\n" for line in removed), "after": ""}
    module.exit_json(changed=bool(removed), removed=removed, diff=diff)


if __name__ == "__main__":
    main()
