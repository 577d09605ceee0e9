#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: owned_files
short_description: Writes all files that a role owns in one step
version_added: 0.9.0
description:
  - Folders, programs, units and configuration of one host in a single call, because a call costs more than a file.
  - Notes in the record what was found, so that O(state=absent) takes out exactly these files.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
attributes:
  check_mode:
    support: full
    description: Predicts.
  diff_mode:
    support: full
    description: Shows each file.
options:
  owner:
    description: Whose files these are. A file of this owner that is no longer listed goes.
    type: str
    required: true
  unit:
    description: The systemd unit that reads these files when it starts, for RV(start_needed) and RV(restart_needed).
    type: str
  state:
    description: V(absent) takes out what was written for the owner.
    type: str
    choices: [present, absent]
    default: present
  folders:
    description: Folders that must exist, parents first.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The folder.
        type: path
        required: true
      mode:
        description: Its mode in octal. Unset leaves the mode of an existing folder alone.
        type: str
  files:
    description: The files. Those that were written for the owner before and that are no longer listed go.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      content:
        description: Its text. No secret, because it is shown in the diff.
        type: str
        required: true
      mode:
        description: Its mode in octal.
        type: str
        default: "0644"
"""

EXAMPLES = r"""
- name: Write the unit's drop-in
  fpga.hybrid.owned_files:
    owner: openvpn
    files:
      - path: /etc/systemd/system/openvpn-client@fpga-hybrid.service.d/fpga-hybrid.conf
        content: "{{ lookup('ansible.builtin.template', 'unit.conf.j2') }}"
"""

RETURN = r"""
restart_needed:
  description: Whether O(unit) runs and has not read these files, or those of an earlier run that was killed before it could restart it.
  returned: O(unit) is given
  type: bool
start_needed:
  description: Whether O(unit) does not run, is not enabled, or has to be restarted.
  returned: O(unit) is given
  type: bool
paths:
  description: Files and folders that were, or would be, changed.
  returned: success
  type: list
  elements: str
"""

import os
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import Unit


@dataclass(frozen=True)
class Folder:
    path: str
    mode: int | None

    @property
    def changed(self) -> bool:
        try:
            return self.mode is not None and os.stat(self.path).st_mode & 0o7777 != self.mode
        except FileNotFoundError:
            return True

    def apply(self) -> None:
        os.makedirs(self.path, mode=0o755, exist_ok=True)
        if self.mode is not None:
            os.chmod(self.path, self.mode)


def main() -> None:
    folder: dict[str, Any] = {"path": {"type": "path", "required": True}, "mode": {"type": "str"}}
    file: dict[str, Any] = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "0644"},
    }
    module = AnsibleModule(
        argument_spec={
            "owner": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "folders": {"type": "list", "elements": "dict", "options": folder, "default": []},
            "files": {"type": "list", "elements": "dict", "options": file, "default": []},
            "unit": {"type": "str"},
        },
        supports_check_mode=True,
    )
    owner = module.params["owner"]
    present = module.params["state"] == "present"
    folders = [Folder(f["path"], int(f["mode"], 8) if f["mode"] else None) for f in module.params["folders"]] if present else []
    wanted = {f["path"]: _files.File(f["content"], int(f["mode"], 8)) for f in module.params["files"]} if present else {}
    try:
        record = Record.load()
        changes = _files.plan(owner, wanted, record)
        changed_folders = [f for f in folders if f.changed]
        changed = [change for change in changes if change.changed]
        if not module.check_mode:
            for each in changed_folders:
                each.apply()
            _files.remember(owner, wanted, changes, record)
            record.save()
            for change in changed:
                change.apply()
            _files.forget_returned(wanted, changes, record)
            record.save()
    except (RecordError, OSError) as error:
        module.fail_json(msg=str(error))
    paths = [f.path for f in changed_folders] + [change.path for change in changed]
    diffs = [{"before": "", "after": f"folder {f.path}\n"} for f in changed_folders] + [change.diff() for change in changed]
    result: dict[str, Any] = {}
    if module.params["unit"]:
        unit = Unit.read(module.params["unit"])
        result["restart_needed"] = unit.active and bool(changed or unit.older_than(wanted))
        result["start_needed"] = result["restart_needed"] or bool(changed) or not unit.settled
    module.exit_json(changed=bool(paths), paths=paths, diff=diffs, **result)


if __name__ == "__main__":
    main()
