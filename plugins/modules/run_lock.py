#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The remote half of fpga.hybrid.run_lock: the file. The action plugin adds what only the controller knows."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lock
short_description: Only one run at a time changes a cluster
version_added: 0.9.0
description:
  - Holds a lock on the control plane's host in the name of the running C(ansible-playbook) process.
  - A lock of this controller whose process is gone is taken over at once, with a line saying so.
    Any other is refused until it expires, or until O(break_lock) names its holder.
  - Never reports a change, because taking and giving back the lock is part of every run and leaves nothing behind.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  state:
    description: V(held) takes or renews the lock, V(released) gives it back.
    type: str
    choices: [held, released]
    required: true
  folder:
    description: The state folder; the file is C(lock) in it.
    type: path
    default: /etc/fpga-hybrid
  lifetime:
    description: Seconds after which a lock that is not renewed counts no more.
    type: int
    default: 7200
  break_lock:
    description: The holder whose lock is to be broken, as the refusal names it.
    type: str
    default: ""
  holder:
    description: This run. Filled in by the action plugin.
    type: dict
  dead:
    description: A holder known to be gone. Filled in by the action plugin.
    type: dict
attributes:
  check_mode:
    support: full
    description: Takes no lock.
  diff_mode:
    support: none
    description: Nothing that lasts is changed.
"""

EXAMPLES = r"""
- name: Be the only one who changes this cluster
  fpga.hybrid.run_lock:
    state: held
  delegate_to: "{{ groups['control_plane'] | first }}"
  run_once: true
"""

RETURN = r"""
verdict:
  description: What the lock that was found meant, V(free), V(mine), V(dead), V(expired), V(broken) or V(held).
  returned: with O(state=held), outside of check mode
  type: str
found:
  description: The lock that stood there.
  returned: success
  type: dict
now:
  description: The host's time.
  returned: success
  type: float
"""

import time
from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._lock import LIFETIME, LockError, LockFile, holder_from


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "released"], "required": True},
            "folder": {"type": "path", "default": "/etc/fpga-hybrid"},
            "lifetime": {"type": "int", "default": LIFETIME},
            "break_lock": {"type": "str", "default": ""},
            "holder": {"type": "dict"},
            "dead": {"type": "dict"},
        },
        required_by={"state": "holder"},
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False)
    lock = LockFile(Path(module.params["folder"]), module.params["lifetime"])
    me, dead = holder_from(module.params["holder"]), module.params["dead"]
    try:
        if module.params["state"] == "released":
            standing = lock.release(me)
            module.exit_json(changed=False, found=asdict(standing) if standing else None, now=time.time())
        verdict, found, now = lock.take(me, holder_from(dead) if dead else None, module.params["break_lock"])
    except LockError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, verdict=verdict, found=asdict(found) if found else None, now=now)


if __name__ == "__main__":
    main()
