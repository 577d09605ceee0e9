#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_firewall
short_description: Let the cluster's traffic through the firewall that a host has
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Looks what refuses packets on the host, and puts rules of our own in front of that. Disables, replaces and reorders nothing.
  - With ufw active these are ufw's rules, with the comment C(fpga-hybrid). It takes none for V(icmp); its own C(/etc/ufw/before.rules) let echo through.
  - With iptables that refuses (Docker's C(FORWARD), say) chains of our own, jumped to first,
    from C(DOCKER-USER) where it exists. With nftables that refuses, chains of our own in the same tables. Without a firewall nothing is done.
  - What does not last by itself is put back at every start by the unit C(fpga-hybrid-firewall), after the firewall's own.
attributes:
  check_mode:
    support: full
    description: Predicts without touching anything.
  diff_mode:
    support: full
    description: Shows what is added.
  platform:
    support: full
    description: Works with ufw, iptables and nftables.
    platforms: posix
options:
  rules:
    description: Traffic to let through.
    type: list
    elements: dict
    default: []
    suboptions:
      direction:
        description: V(in) for traffic to the host itself, V(forward) for traffic through it.
        type: str
        choices: [in, forward]
        required: true
      source:
        description: Network or address that it comes from.
        type: str
      destination:
        description: Network or address that it goes to.
        type: str
      protocol:
        description: Protocol.
        type: str
        choices: [tcp, udp, icmp]
      ports:
        description: Destination ports.
        type: list
        elements: int
        default: []
  state:
    description: Whether the rules are there or taken out.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Let the VPN in
  fpga.hybrid.host_firewall:
    rules:
      - {direction: in, protocol: udp, ports: [1194]}
"""

RETURN = r"""
changes:
  description: A sentence for each thing that was changed, or would be.
  returned: success
  type: list
  elements: str
firewalls:
  description: The firewalls that were found.
  returned: success
  type: list
  elements: str
  sample: [ufw]
"""

import inspect
import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _files, _firewall
from ansible_collections.fpga.hybrid.plugins.module_utils._firewall import FirewallError, Rule

PROGRAM = "/opt/fpga-hybrid/firewall.py"
UNIT_NAME = "fpga-hybrid-firewall.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT_NAME}"
FIREWALLS = ("nftables.service", "netfilter-persistent.service", "docker.service")
UNIT = f"""# Written by fpga.hybrid; changes here are undone by its next run.
[Unit]
Description=Let the cluster's traffic through this host's firewall
After={" ".join(FIREWALLS)}
PartOf={" ".join(FIREWALLS)}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/python3 {PROGRAM}

[Install]
WantedBy=multi-user.target {" ".join(FIREWALLS)}
"""


class Boot:
    """The unit that puts the rules back at every start."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.changes: list[str] = []

    def file(self, path: str, content: str | None, mode: int = 0o644) -> bool:
        current = _firewall.read(path) if os.path.exists(path) else None
        if current == content:
            return False
        self.changes.append(f"{path} {'removed' if content is None else 'written' if current is None else 'mended'}")
        if self.module.check_mode:
            return True
        if content is None:
            os.unlink(path)
            return True
        _files.write(path, _files.File(content, mode))
        return True

    def systemctl(self, *words: str) -> tuple[int, str]:
        status, out, _err = self.module.run_command(["systemctl", *words])
        return status, out.strip()

    def present(self, rules: t.Sequence[t.Mapping[str, t.Any]]) -> None:
        status, found = self.systemctl("is-enabled", UNIT_NAME) if os.path.exists(UNIT_FILE) else (1, "absent")
        self.file(_firewall.RULES_FILE, json.dumps(rules, indent=2, sort_keys=True) + "\n", 0o600)
        self.file(PROGRAM, inspect.getsource(_firewall))
        reload = self.file(UNIT_FILE, UNIT)
        if status:
            self.changes.append(f"{UNIT_NAME} enabled (was {found})")
        if self.module.check_mode:
            return
        if reload:
            self.systemctl("daemon-reload")
        if status:
            self.systemctl("enable", UNIT_NAME)

    def absent(self) -> None:
        if os.path.exists(UNIT_FILE) and not self.module.check_mode:
            self.systemctl("disable", "--now", UNIT_NAME)
        removed = [self.file(path, None) for path in (UNIT_FILE, PROGRAM, _firewall.RULES_FILE)]
        if any(removed) and not self.module.check_mode:
            self.systemctl("daemon-reload")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "rules": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "direction": {"type": "str", "choices": ["in", "forward"], "required": True},
                    "source": {"type": "str"},
                    "destination": {"type": "str"},
                    "protocol": {"type": "str", "choices": ["tcp", "udp", "icmp"]},
                    "ports": {"type": "list", "elements": "int", "default": []},
                },
            },
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )

    def runner(command: t.Sequence[str], stdin: str | None) -> tuple[int, str, str]:
        status, out, err = module.run_command(list(command), data=stdin, binary_data=True)
        return status, out, err

    boot = Boot(module)
    try:
        if module.params["state"] == "present":
            plan = _firewall.make_plan([Rule.parse(data) for data in module.params["rules"]], runner)
            if plan.boot:
                boot.present(module.params["rules"])
            else:
                boot.absent()
        else:
            plan = _firewall.make_unplan(runner)
            boot.absent()
        if not module.check_mode:
            _firewall.carry_out(plan, runner)
    except FirewallError as error:
        module.fail_json(msg=f"{os.uname().nodename}: {error}")
    changes = [*(step.says for step in plan.steps), *boot.changes]
    details = [line for step in plan.steps for line in (step.stdin or " ".join(step.command)).splitlines()]
    module.exit_json(
        changed=bool(changes),
        changes=changes,
        firewalls=list(plan.firewalls),
        diff={"before": "", "after": "".join(f"{line}\n" for line in (*details, *boot.changes))},
    )


if __name__ == "__main__":
    main()
