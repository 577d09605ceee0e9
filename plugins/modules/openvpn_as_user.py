#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: the difference is computed by module_utils/_openvpn_as.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_as_user
short_description: A user of OpenVPN Access Server, with an address of its own and its profile
version_added: 0.9.0
description:
  - Writes only the properties that differ. They hold from the user's next connection on; nothing is restarted.
  - Sets no password, because C(sacli) takes one on its command line only, where everybody on the host can read it. A machine has a profile with a
    certificate instead (O(autologin)); a person sets a password in the Admin Web UI.
  - Nodes of a cluster are no matter of this module but of C(fpga-hybrid-vpn), see M(fpga.hybrid.openvpn_authority).
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
extends_documentation_fragment: fpga.hybrid.openvpn_as
attributes:
  check_mode:
    support: full
    description: Compares, and changes nothing. No profile is fetched, because that may make a certificate.
  diff_mode:
    support: full
    description: Shows the properties that differ.
options:
  name:
    description: The user's name.
    type: str
    required: true
  state:
    description:
      - V(present), the user may connect.
      - V(absent), the user may not, loses the address, and a live session is cut. An unknown user is left unknown. The user itself stays, denied,
        because its certificate is good for years and would be admitted again by whoever makes a user of that name.
    type: str
    choices: [present, absent]
    default: present
  address:
    description: The user's own address, out of a static network or a group's subnet. Unset leaves it to Access Server.
    type: str
  autologin:
    description: Whether the user's certificate is enough, without a password.
    type: bool
    default: true
  properties:
    description: Further properties, for example C(conn_group) or C(access_to.0). One that is null is taken out.
    type: dict
    default: {}
  profile:
    description: Which profile to fetch. Its text holds a private key, so give the task C(no_log=true).
    type: str
    choices: [none, autologin, userlogin]
    default: none
"""

EXAMPLES = r"""
- name: Let an administrator's notebook in, and get its profile
  fpga.hybrid.openvpn_as_user:
    name: notebook
    address: 172.27.225.9
    profile: autologin
  register: __notebook
  no_log: true
"""

RETURN = r"""
changed_keys:
  description: The properties that were, or would be, written or taken out.
  returned: success
  type: list
  elements: str
profile:
  description: The profile. Null where none was asked for, and in check mode.
  returned: success
  type: str
session:
  description: What became of a live session, V(none), V(cut), or V(not cut) with the reason.
  returned: with O(state=absent)
  type: str
"""

import ipaddress
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _openvpn_as as access_server

PROFILES = {"autologin": "GetAutologin", "userlogin": "GetUserlogin"}


def wanted_properties(params: dict[str, Any]) -> dict[str, str | None]:
    """Raises AccessServerError for what Access Server would take and not understand."""
    try:
        address = str(ipaddress.IPv4Address(params["address"])) if params["address"] else None
        more = {key: access_server.as_text(value) for key, value in params["properties"].items()}
    except ValueError as error:
        raise access_server.AccessServerError(f"{params['name']}: {error}. Mend address or properties.") from None
    if params["profile"] == "autologin" and not params["autologin"]:
        raise access_server.AccessServerError(f"{params['name']}: profile is autologin and autologin is false. Set autologin: true, or fetch userlogin.")
    return {**access_server.admitted(address, params["autologin"]), **more}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "address": {"type": "str"},
            "autologin": {"type": "bool", "default": True},
            "properties": {"type": "dict", "default": {}},
            "profile": {"type": "str", "choices": ["none", "autologin", "userlogin"], "default": "none"},
            **access_server.ARGUMENTS,
        },
        supports_check_mode=True,
    )
    params = module.params
    name, present = params["name"], params["state"] == "present"
    sacli = access_server.Sacli(params["program"])
    result: dict[str, Any] = {"profile": None}
    try:
        wanted = wanted_properties(params) if present else access_server.DENIED
        users = {}
        if sacli.installed or not module.check_mode:
            sacli.wait(params["wait"])
            users = sacli.users()
        # A property of an unknown user would make that user.
        changes = access_server.user_plan(users.get(name), wanted) if present or name in users else []
        if not module.check_mode:
            sacli.change_user(name, changes)
            if not present:
                result["session"] = sacli.disconnect(name)
            elif params["profile"] != "none":
                result["profile"] = sacli.profile(name, PROFILES[params["profile"]])
    except access_server.AccessServerError as error:
        module.fail_json(msg=str(error))
    session = result.get("session", "none")
    if session.startswith("not cut"):
        module.fail_json(msg=f"{name} is denied and cannot return, but the session could not be ended ({session}). Restart Access Server: sacli start")
    keys = [change.key for change in changes]
    module.exit_json(changed=bool(changes) or session == "cut", changed_keys=keys, diff=access_server.diff(changes), **result)


if __name__ == "__main__":
    main()
