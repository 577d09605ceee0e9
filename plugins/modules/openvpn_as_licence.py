#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: what Access Server says of its subscription is read by module_utils/_openvpn_as.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_as_licence
short_description: The subscription of OpenVPN Access Server, and whether it is large enough
version_added: 0.9.0
description:
  - Loads a subscription where Access Server has none, or another one was given last time. What was given is remembered by its checksum only.
  - Refuses, or with O(report=true) reports, more nodes than may be connected at a time.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
extends_documentation_fragment: fpga.hybrid.openvpn_as
attributes:
  check_mode:
    support: full
    description: Says whether a subscription would be loaded.
  diff_mode:
    support: none
    description: There is nothing to show but a secret.
options:
  licence:
    description: The subscription's key, as the vendor's portal shows it. Unset only looks.
    type: str
  nodes:
    description: How many on-prem hosts dial in.
    type: int
    default: 0
  instances:
    description: How many instances the node pools may have at most.
    type: int
    default: 0
  expected:
    description: How many connections the subscription has by its order. Believed while Access Server is not there to be asked.
    type: int
    default: 2
  report:
    description: Whether to return what is wrong instead of failing, and not to wait for Access Server.
    type: bool
    default: false
  host:
    description: The host's name, for RV(problems).
    type: str
    default: ""
  remembered:
    description: The file with the checksum.
    type: path
    default: /etc/fpga-hybrid/vpn/licence.sha256
"""

EXAMPLES = r"""
- name: Have a connection for each node
  fpga.hybrid.openvpn_as_licence:
    licence: "{{ openvpn_as_licence }}"
    nodes: 3
    instances: 8
"""

RETURN = r"""
connections:
  description: How many may be connected at a time.
  returned: success
  type: int
problems:
  description: What is wrong, with C(host), C(variable), C(found), C(expected) and C(remedy).
  returned: with O(report=true)
  type: list
  elements: dict
"""

import hashlib
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_as as access_server


def remembered(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def remember(path: str, checksum: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    _files.write(path, _files.File(checksum + "\n", 0o600))


def look(params: dict[str, Any], sacli: access_server.Sacli) -> tuple[int, str, bool]:
    """Connections, who says so, and whether a subscription is there."""
    try:
        status = sacli.subscription()
    except access_server.NotUpError:
        return params["expected"], "openvpn_as_connections, since Access Server does not run yet", False
    return access_server.connections(status), "Access Server's own word", access_server.subscribed(status)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "licence": {"type": "str", "no_log": True},
            "nodes": {"type": "int", "default": 0},
            "instances": {"type": "int", "default": 0},
            "expected": {"type": "int", "default": access_server.FREE_CONNECTIONS},
            "report": {"type": "bool", "default": False},
            "host": {"type": "str", "default": ""},
            "remembered": {"type": "path", "default": "/etc/fpga-hybrid/vpn/licence.sha256"},
            **access_server.ARGUMENTS,
        },
        supports_check_mode=True,
    )
    params = module.params
    sacli = access_server.Sacli(params["program"])
    licence = (params["licence"] or "").strip()
    checksum = hashlib.sha256(licence.encode()).hexdigest() if licence else ""
    try:
        if not params["report"] and not module.check_mode:
            sacli.wait(params["wait"])
        have, source, there = look(params, sacli)
        load = bool(licence) and (not there or remembered(params["remembered"]) != checksum)
        if load and not params["report"]:
            if module.check_mode:
                module.exit_json(changed=True, connections=params["expected"])
            sacli.load_subscription(licence)
            have, source, there = look(params, sacli)
            remember(params["remembered"], checksum)
        elif load and have < params["expected"]:
            have, source = params["expected"], "openvpn_as_connections, since the subscription is not loaded yet"
    except access_server.AccessServerError as error:
        module.fail_json(msg=str(error))
    problem = access_server.too_small(params["host"], have, params["nodes"], params["instances"], source)
    if problem and not params["report"]:
        module.fail_json(msg=str(problem), connections=have)
    module.exit_json(changed=load and not params["report"], connections=have, problems=[problem.as_dict()] if problem else [])


if __name__ == "__main__":
    main()
