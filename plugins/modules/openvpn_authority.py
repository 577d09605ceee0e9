#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_authority
short_description: Has the VPN's authority issue, revoke or renew something
version_added: 0.9.0
description:
  - Calls C(fpga-hybrid-vpn), the only writer of client certificates, client entries and the revocation list. Runs on the VPN server, so delegate it there.
  - The answer to V(issue) holds a private key. Give the task C(no_log=true).
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
attributes:
  check_mode:
    support: full
    description: The program itself predicts what it would change.
  diff_mode:
    support: none
    description: The changes are returned as sentences.
options:
  verb:
    description: What is wanted. See C(fpga-hybrid-vpn --help).
    type: str
    choices: [issue, revoke, renew-crl, list]
    required: true
  name:
    description: The client's name. Needed for V(issue) and V(revoke).
    type: str
  address:
    description: The client's address, for V(issue). Unset means the recorded one, else the next free one of the instances' range.
    type: str
  endpoint:
    description: Name or address that this client dials, for V(issue). Unset means the cluster's.
    type: str
  port:
    description: The port that this client dials, for V(issue). Unset means the cluster's.
    type: int
  missing_ok:
    description: Whether V(revoke) of an unknown name, or on a host without an authority, is a success. For taking hosts out.
    type: bool
    default: false
  program:
    description: Where the program is.
    type: path
    default: /opt/fpga-hybrid/bin/fpga-hybrid-vpn
"""

EXAMPLES = r"""
- name: Get this host's profile
  fpga.hybrid.openvpn_authority:
    verb: issue
    name: "{{ inventory_hostname }}"
    address: 172.27.224.12
  delegate_to: cp1
  register: __profile
  no_log: true
"""

RETURN = r"""
changes:
  description: What was, or would be, changed, in sentences. Without secrets.
  returned: success
  type: list
  elements: str
profile:
  description: The client's whole configuration with its private key. Null in check mode when it would only be made.
  returned: with O(verb=issue)
  type: str
address:
  description: The client's address.
  returned: with O(verb=issue) and O(verb=revoke)
  type: str
clients:
  description: What each client has, and who is connected.
  returned: with O(verb=list)
  type: list
  elements: dict
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule

UNKNOWN_NAME = 3
NOT_SET_UP = 5


def command(module: AnsibleModule) -> list[str]:
    params = module.params
    words = [params["program"], params["verb"]]
    if params["verb"] in ("issue", "revoke"):
        words.append(params["name"])
    if params["verb"] == "issue":
        words += [params["address"]] if params["address"] else []
        words += ["--endpoint", params["endpoint"]] if params["endpoint"] else []
        words += ["--port", str(params["port"])] if params["port"] else []
    if module.check_mode and params["verb"] != "list":
        words.append("--check")
    return words


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "verb": {"type": "str", "choices": ["issue", "revoke", "renew-crl", "list"], "required": True},
            "name": {"type": "str"},
            "address": {"type": "str"},
            "endpoint": {"type": "str"},
            "port": {"type": "int"},
            "missing_ok": {"type": "bool", "default": False},
            "program": {"type": "path", "default": "/opt/fpga-hybrid/bin/fpga-hybrid-vpn"},
        },
        required_if=[("verb", "issue", ["name"]), ("verb", "revoke", ["name"])],
        supports_check_mode=True,
    )
    params = module.params
    if not os.path.exists(params["program"]):
        if params["verb"] == "revoke" and params["missing_ok"]:
            module.exit_json(changed=False, changes=[])
        if module.check_mode:
            module.exit_json(changed=params["verb"] != "list", changes=["the authority would be set up first"], profile=None, clients=[])
        module.fail_json(
            msg=f"{params['program']} does not exist on this host. It comes with the VPN server: run site.yml without --limit, "
            "or with the VPN server in it, and see that group vpn_server names the right host."
        )
    rc, out, error = module.run_command(command(module))
    try:
        answer = json.loads(out)
    except ValueError:
        module.fail_json(msg=f"{params['program']} gave no answer (exit code {rc}): {error.strip() or 'nothing said'}")
    if rc == 0:
        module.exit_json(**{"changed": False, "changes": [], **answer})
    if params["verb"] == "revoke" and params["missing_ok"] and rc in (UNKNOWN_NAME, NOT_SET_UP):
        module.exit_json(changed=False, changes=[])
    if module.check_mode and rc == NOT_SET_UP:
        module.exit_json(changed=True, changes=["the authority would be completed first"], profile=None)
    module.fail_json(msg=answer.get("error") or f"{params['name']}: {answer.get('session')}", rc=rc)


if __name__ == "__main__":
    main()
