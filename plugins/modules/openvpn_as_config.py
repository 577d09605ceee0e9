#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: what is known of the keys, and the difference, stand in module_utils/_openvpn_as.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_as_config
short_description: Keeps settings of OpenVPN Access Server as declared
version_added: 0.9.0
description:
  - Asks once what Access Server has, writes only the keys that differ, and restarts it warm, once, where something was written.
  - A run that ended between writing and restarting is made good by the next one.
  - C(sacli) takes any key and any value. A key that neither this module nor the server knows is therefore refused with those that are near,
    and so is a value that a known key does not take.
  - A warm restart cuts every session. Clients come back by themselves, after about 10 seconds.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
extends_documentation_fragment: fpga.hybrid.openvpn_as
attributes:
  check_mode:
    support: full
    description: Compares, and changes nothing. On a host without Access Server, all settings are told.
  diff_mode:
    support: full
    description: Shows the keys that differ; of a secret, only that it does.
options:
  settings:
    description:
      - Keys of C(sacli ConfigQuery) with their values. Texts, numbers and truth values are written as Access Server has them.
      - A key that is null is taken out.
    type: dict
    required: true
  exclusive:
    description: Beginnings of keys of which only those in O(settings) may be there, for example V(vpn.server.routing.private_network.).
    type: list
    elements: str
    default: []
  unknown_keys:
    description: Keys that this module does not know and you answer for, of a newer Access Server for example.
    type: list
    elements: str
    default: []
  pending:
    description: A file that is there while something was written and not yet applied.
    type: path
    default: /etc/fpga-hybrid/vpn/restart-due
"""

EXAMPLES = r"""
- name: One daemon that listens for UDP
  fpga.hybrid.openvpn_as_config:
    settings:
      vpn.server.daemon.enable: false
      vpn.daemon.0.listen.protocol: udp
      vpn.daemon.0.listen.port: 1194
      vpn.server.routing.private_access: route
      vpn.server.routing.private_network.0: 10.0.0.0/24
    exclusive: [vpn.server.routing.private_network.]
"""

RETURN = r"""
changed_keys:
  description: The keys that were, or would be, written or taken out.
  returned: success
  type: list
  elements: str
restarted:
  description: Whether Access Server was, or would be, restarted.
  returned: success
  type: bool
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_as as access_server


def mark(path: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    _files.write(path, _files.File("Settings of Access Server were written and not yet applied. The next run of site.yml does it.\n"))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "dict", "required": True},
            "exclusive": {"type": "list", "elements": "str", "default": []},
            "unknown_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "pending": {"type": "path", "default": "/etc/fpga-hybrid/vpn/restart-due"},
            **access_server.ARGUMENTS,
        },
        supports_check_mode=True,
    )
    params = module.params
    sacli = access_server.Sacli(params["program"])
    try:
        found = {}
        if sacli.installed or not module.check_mode:
            sacli.wait(params["wait"])
            found = sacli.config()
        wanted = access_server.checked(params["settings"], found, params["unknown_keys"])
        changes = access_server.config_plan(found, wanted, params["exclusive"])
        due = bool(changes) or os.path.exists(params["pending"])
        if due and not module.check_mode:
            mark(params["pending"])
            sacli.configure(changes)
            sacli.restart()
            sacli.wait(params["wait"])
            os.unlink(params["pending"])
    except access_server.AccessServerError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=due, changed_keys=[change.key for change in changes], restarted=due, diff=access_server.diff(changes))


if __name__ == "__main__":
    main()
