#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site_repository
short_description: Makes a site's own repository, and never overwrites what was edited in it
version_added: 0.9.0
description:
  - Writes files into a folder that is empty, does not exist yet, or was made by this module.
  - A file that the user edited or removed since is left as it is, and named in the result; one that nobody touched follows a new version of the collection.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
attributes:
  check_mode:
    support: full
    description: Says what it would write.
  diff_mode:
    support: full
    description: Shows the difference of each file that is written.
options:
  dest:
    description: The folder. An absolute path.
    type: path
    required: true
  version:
    description: The collection's version, for the record.
    type: str
    required: true
  files:
    description: Contents by path, relative to O(dest).
    type: dict
    required: true
  trees:
    description: Folders to copy, source by path relative to O(dest).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Write the site's repository
  fpga.hybrid.site_repository:
    dest: /home/me/site
    version: 0.1.0
    files:
      verify.yml: |
        ---
        - name: Verify the cluster
          ansible.builtin.import_playbook: fpga.hybrid.verify
    trees:
      inventory: /usr/share/ansible/collections/ansible_collections/fpga/hybrid/inventories/example
"""

RETURN = r"""
created:
  description: Files that did not exist.
  returned: success
  type: list
  elements: str
updated:
  description: Files that nobody had edited and that this version writes differently.
  returned: success
  type: list
  elements: str
edited:
  description: Files that differ because the user edited them. Left alone.
  returned: success
  type: list
  elements: str
removed:
  description: Files that the user removed. Left out.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils._site_repository import (
    STATE,
    SiteRepositoryError,
    make_plan,
    next_state,
    read_found,
    read_tree,
    read_written,
    settle,
)


def write(path: Path, content: str) -> None:
    # what is secret by its name must not be readable by others even before it is encrypted
    _files.write(str(path), _files.File(content, 0o600 if path.name == "vault.yml" else 0o644))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "files": {"type": "dict", "required": True},
            "trees": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    dest = Path(module.params["dest"])
    if not dest.is_absolute():
        module.fail_json(msg=f"dest is {module.params['dest']!r}, expected an absolute path. Name the folder for the repository: -e dest=DIR.")
    wanted = dict(module.params["files"])
    for folder, source in module.params["trees"].items():
        wanted.update({f"{folder}/{path}": content for path, content in read_tree(Path(source)).items()})
    wanted = settle(wanted)
    try:
        written = read_written(dest)
        found = read_found(dest, wanted)
    except (SiteRepositoryError, OSError) as error:
        module.fail_json(msg=str(error))
    plan = make_plan(wanted, found, written)
    state = next_state(module.params["version"], wanted, plan, written)
    before = (dest / STATE).read_text(encoding="utf-8") if (dest / STATE).is_file() else ""
    changed = bool(plan.write) or state != before
    if changed and not module.check_mode:
        for path in plan.write:
            write(dest / path, wanted[path])
        write(dest / STATE, state)
    diff = [{"before": found.get(path, ""), "after": wanted[path], "before_header": path, "after_header": path} for path in plan.write]
    module.exit_json(changed=changed, diff=diff, created=list(plan.create), updated=list(plan.update), edited=list(plan.edited), removed=list(plan.removed))


if __name__ == "__main__":
    main()
