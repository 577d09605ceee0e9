#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_building
short_description: What an image needs while it is made, and never afterwards
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Puts three things into an image that is being made, and takes them out again. C(/usr/sbin/policy-rc.d) refuses the start of services by packages,
    C(/etc/resolv.conf) resolves names as the builder does, and a block in C(/etc/hosts) gives names that only the builder knows.
  - The image's own C(resolv.conf) and C(hosts) are set aside meanwhile, links as links, because what a link of an official image leads to is only there where
    its resolver runs. They come back as they were, unless a package has replaced them or added to them. A C(policy-rc.d) of somebody else is left alone.
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
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _files, _host
from ansible_collections.fpga.hybrid.plugins.module_utils._image import ASIDE, BUILDING_POLICY, HOSTS, POLICY, RESOLVER, RESOLVER_MARK, read

#: Files of ours with the image's own set aside: how ours is known.
SET_ASIDE: dict[str, t.Callable[[str], bool]] = {
    RESOLVER: lambda text: text.startswith(RESOLVER_MARK),
    HOSTS: lambda text: _host.BEGIN in text.splitlines(),
}


class Building:
    """The image's files as they are to be, step by step; nothing is written before apply()."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.steps: list[tuple[str, t.Callable[[], None]]] = []

    def plan(self, path: str, act: t.Callable[[], None]) -> None:
        self.steps.append((path, act))

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        self.plan(path, lambda: _files.write(self.root + path, _files.File(text, mode)))

    def move(self, path: str, old: str, new: str) -> None:
        self.plan(path, lambda: os.rename(self.root + old, self.root + new))

    def remove(self, path: str, which: str) -> None:
        self.plan(path, lambda: os.unlink(self.root + which))

    def policy(self, *, present: bool) -> None:
        found = read(self.root, POLICY)
        if present and found is None:
            self.write(POLICY, BUILDING_POLICY, 0o755)
        elif not present and found == BUILDING_POLICY:
            self.remove(POLICY, POLICY)

    # Files of which the image has its own

    def put(self, path: str, text: str) -> None:
        """Ours in place of the image's own, which is set aside as it is, be it a link."""
        found = self.ours(path)
        if found is None and os.path.lexists(self.root + path):
            self.move(path, path, path + ASIDE)
        if found != text:
            self.write(path, text)

    def put_back(self, path: str, *, left: t.Callable[[str], str] = lambda text: "") -> None:
        """The image's own in place of ours. left: what of ours a package wrote; then the one that was set aside is an older one."""
        found, aside = self.ours(path), os.path.lexists(self.root + path + ASIDE)
        kept = left(found) if found is not None else ""
        replaced = found is None and os.path.lexists(self.root + path)
        if aside and not replaced and lines(kept) in ([], lines(read(self.root, path + ASIDE) or "")):
            self.move(path, path + ASIDE, path)
            return
        if lines(kept):
            self.write(path, kept, stat.S_IMODE(os.stat(self.root + path).st_mode))
        elif found is not None:
            self.remove(path, path)
        if aside:
            self.remove(path, path + ASIDE)

    def ours(self, path: str) -> str | None:
        """Text of a file that is ours, or in which something of ours stands."""
        text = None if os.path.islink(self.root + path) else read(self.root, path)
        return text if text is not None and SET_ASIDE[path](text) else None

    def hosts(self, names: dict[str, str]) -> str:
        return _host.with_block(read(self.root, HOSTS) or "", [f"{address} {name}" for name, address in names.items()])

    def apply(self) -> None:
        for _path, act in self.steps:
            act()


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def without_block(text: str) -> str:
    return _host.with_block(text, [])


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
        building, present = Building(root), params["state"] == "present"
        building.policy(present=present)
        if present and params["resolver"]:
            building.put(RESOLVER, RESOLVER_MARK + params["resolver"])
        else:
            building.put_back(RESOLVER)
        if present and params["hosts"]:
            building.put(HOSTS, building.hosts(params["hosts"]))
        else:
            building.put_back(HOSTS, left=without_block)
        if not module.check_mode:
            building.apply()
    except (_host.HostError, OSError) as error:
        module.fail_json(msg=str(error))
    changes = sorted({path for path, _act in building.steps})
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()
