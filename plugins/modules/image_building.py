#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_building
short_description: What an image needs while it is made, and never afterwards
version_added: 0.1.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Puts three things into an image that is being made, and takes them out again. C(/usr/sbin/policy-rc.d) refuses the start of services by packages,
    C(/etc/resolv.conf) resolves names as the builder does, and a block in C(/etc/hosts) gives names that only the builder knows.
  - A C(resolv.conf) that is a link is left alone, because the image's own resolver makes what it leads to. A C(policy-rc.d) of somebody else is left, too.
attributes:
  check_mode:
    support: full
    description: Predicts without touching anything.
  diff_mode:
    support: none
    description: Says in RV(changes) what changes; nothing of it stays.
  platform:
    support: full
    description: Works on Debian and Ubuntu.
    platforms: debian
options:
  state:
    description: V(present) puts them in, V(absent) takes them out.
    type: str
    choices: [present, absent]
    default: present
  resolver:
    description: Text of C(/etc/resolv.conf). Empty writes none.
    type: str
    default: ""
  hosts:
    description: Names with their addresses.
    type: dict
    default: {}
  root:
    description: Another folder than C(/), for tests.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: Have packages start nothing
  fpga.hybrid.image_building:
    hosts: {mirror.site.example: 192.0.2.10}

- name: Take out what only the building needed
  fpga.hybrid.image_building:
    state: absent
"""

RETURN = r"""
changes:
  description: The files that were changed, or would be.
  returned: success
  type: list
  elements: str
  sample: [/usr/sbin/policy-rc.d]
"""

import os
import stat

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _files, _host
from ansible_collections.fpga.hybrid.plugins.module_utils._image import BUILDING_POLICY, POLICY, RESOLVER, read


def wanted(root: str, resolver: str, hosts: dict[str, str], *, present: bool) -> dict[str, tuple[str | None, int]]:
    """Text (None: no such file) and mode of each file that is to change."""
    found: dict[str, str | None] = {path: read(root, path) for path in (POLICY, RESOLVER, "/etc/hosts")}
    files: dict[str, tuple[str | None, int]] = {}
    if found[POLICY] in (None, BUILDING_POLICY):
        files[POLICY] = (BUILDING_POLICY if present else None, 0o755)
    if not os.path.islink(root + RESOLVER) and (resolver or not present):
        files[RESOLVER] = (resolver if present else None, 0o644)
    text = _host.with_block(found["/etc/hosts"] or "", [f"{address} {name}" for name, address in hosts.items()] if present else [])
    # It was not there before us if nothing but our block was in it.
    files["/etc/hosts"] = (text or None, stat.S_IMODE(os.stat(f"{root}/etc/hosts").st_mode) if found["/etc/hosts"] is not None else 0o644)
    return {path: file for path, file in files.items() if file[0] != found[path]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "resolver": {"type": "str", "default": ""},
            "hosts": {"type": "dict", "default": {}},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    params = module.params
    root = params["root"].rstrip("/")
    try:
        _host.valid_hosts(params["hosts"])
        changes = wanted(root, params["resolver"], params["hosts"], present=params["state"] == "present")
        if not module.check_mode:
            for path, (text, mode) in changes.items():
                if text is None:
                    os.unlink(root + path)
                else:
                    _files.write(root + path, _files.File(text, mode))
    except (_host.HostError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(changes), changes=sorted(changes))


if __name__ == "__main__":
    main()
