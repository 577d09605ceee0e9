#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xrt_driver
short_description: XRT's driver, built for this kernel, loaded, and judged
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Has dkms build the driver where its sources are there and this kernel has none, and loads it.
  - Then fails with the reason unless C(dkms status), C(modinfo), the kernel, the cards and C(xrt-smi examine) (before 2024.2 C(xbutil)) all say that it
    works. What the package manager said counts for nothing, because XRT's package always ends with success.
  - Warns of a card that isn't ready beside one that is, and when the kernel of the next boot has no driver.
attributes:
  check_mode:
    support: full
    description: Builds and loads nothing, and judges nothing that a run would build.
  diff_mode:
    support: full
    description: Shows what is built and loaded.
options:
  host:
    description: The host's name, for messages.
    type: str
    required: true
  version:
    description: The version of XRT that is wanted, as V(2.16.204).
    type: str
    required: true
  ready:
    description: Whether a card must be ready. Not so while one is still to be flashed.
    type: bool
    default: true
  sysfs_root:
    description: Where the kernel's C(/sys) is.
    type: path
    default: /sys
  dev_root:
    description: Where the kernel's C(/dev) is.
    type: path
    default: /dev
"""

EXAMPLES = r"""
- name: Build and load the driver
  fpga.hybrid.xrt_driver:
    host: "{{ inventory_hostname }}"
    version: 2.16.204
"""

RETURN = r"""
changes:
  description: What was, or would be, done.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _xrt
from ansible_collections.fpga.hybrid.plugins.module_utils._xrt_host import host_of


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "ready": {"type": "bool", "default": True},
            "sysfs_root": {"type": "path", "default": "/sys"},
            "dev_root": {"type": "path", "default": "/dev"},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = _xrt.Wanted(params["version"])
    host = host_of(module)
    found = host.look(ours=True)
    changes = []
    if _xrt.to_build(found, wanted):
        changes.append(f"xrt {params['version']} built for kernel {found.kernel}")
        if not module.check_mode:
            host.build(found, params["version"])
            found = host.look(ours=True)
    if not found.loaded and (found.built_for(found.kernel, params["version"]) or module.check_mode) and found.package:
        changes.append("xclmgmt and xocl loaded")
        if not module.check_mode:
            host.load()
            found = host.look(ours=True)
    pending = module.check_mode and (changes or not _xrt.same_version(found.package, params["version"]))
    problems = [] if pending else _xrt.judge(found, wanted, cards=params["ready"])
    if problems:
        module.fail_json(msg="\n".join(map(str, problems)), changes=changes)
    for warning in _xrt.warnings(found):
        module.warn(f"{found.host}: {warning}")
    module.exit_json(changed=bool(changes), changes=changes, diff={"before": "", "after": "".join(f"{change}\n" for change in changes)})


if __name__ == "__main__":
    main()
