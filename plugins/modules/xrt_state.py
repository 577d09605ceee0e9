#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xrt_state
short_description: Whether a host's Alveo cards work, and what XRT they need
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Looks at the cards on the PCI bus, at the driver that is loaded, at C(dkms status), C(modinfo) and C(xrt-smi examine). Changes nothing.
  - Refuses a version of XRT that is not known to work with this system, kernel and the cards' shells, before anything is installed.
  - Refuses cards that no driver will make ready, where the host has no other. One beside a card that is ready is warned of.
  - Warns when the kernel of the next boot has no driver.
extends_documentation_fragment: [fpga.hybrid.attributes.read_only]
options:
  host:
    description: The host's name, for messages.
    type: str
    required: true
  version:
    description: The version of XRT that is wanted, as V(2.16.204).
    type: str
    required: true
  source:
    description: Where XRT comes from, by which O(table) is read, too.
    type: str
    choices: [amd, distro, files]
    default: amd
  existing:
    description: V(adopt) leaves an XRT that works and that we did not install. V(replace) doesn't.
    type: str
    choices: [adopt, replace]
    default: adopt
  table:
    description: What is known to work, each with C(xrt), C(system), C(kernels), C(shells), C(sources), and C(broken), kernels with the reason.
    type: list
    elements: dict
    default: []
  allow_untested:
    description: Take what O(table) doesn't know.
    type: bool
    default: false
  allow_disruption:
    description: Replace the driver while boards are in use.
    type: bool
    default: false
  flash:
    description: Cards without a shell are to be flashed, so they are no reason to refuse.
    type: bool
    default: false
  report:
    description: Return what is refused as RV(problems), and don't fail. For role C(preflight), which reports all hosts together.
    type: bool
    default: false
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
- name: Look at the cards and their driver
  fpga.hybrid.xrt_state:
    host: "{{ inventory_hostname }}"
    version: 2.16.204
    table: "{{ xrt_table }}"
  register: xrt
"""

RETURN = r"""
problems:
  description: What stands in the way, each with C(host), C(variable), C(found), C(expected), C(remedy).
  returned: O(report=true)
  type: list
  elements: dict
situation:
  description: V(none), no Alveo card; V(adopted), somebody else's XRT works and stays; V(install), ours is to be brought, or kept as declared.
  returned: success
  type: str
cards:
  description: The Alveo cards, each with C(slot), C(board), C(ready), C(serial), C(shell), and why it is not ready as C(why).
  returned: success
  type: list
  elements: dict
driver:
  description: Version of the xocl that is loaded, empty for none.
  returned: success
  type: str
kernel:
  description: The kernel that runs.
  returned: success
  type: str
kernel_packages:
  description: Installed packages by which this kernel stays.
  returned: success
  type: list
  elements: str
system:
  description: As O(table) calls it.
  returned: success
  type: str
  sample: ubuntu 22.04
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _xrt
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError
from ansible_collections.fpga.hybrid.plugins.module_utils._xrt_host import host_of


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "source": {"type": "str", "choices": list(_xrt.SOURCES), "default": "amd"},
            "existing": {"type": "str", "choices": [_xrt.ADOPT, _xrt.REPLACE], "default": _xrt.ADOPT},
            "table": {"type": "list", "elements": "dict", "default": []},
            "allow_untested": {"type": "bool", "default": False},
            "allow_disruption": {"type": "bool", "default": False},
            "flash": {"type": "bool", "default": False},
            "report": {"type": "bool", "default": False},
            "sysfs_root": {"type": "path", "default": "/sys"},
            "dev_root": {"type": "path", "default": "/dev"},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = _xrt.Wanted(**{name: params[name] for name in ("version", "source", "existing", "allow_untested", "allow_disruption", "flash")})
    host = host_of(module)
    try:
        ours = Record.load().get("apt", "xrt") is not None
        found = host.look(ours)
    except (RecordError, OSError) as error:
        problem = Problem(host.name, "/etc/fpga-hybrid/record.json", str(error), "the record of what we have installed", "Restore it from a backup.")
        if not params["report"]:
            module.fail_json(msg=str(problem))
        module.exit_json(changed=False, problems=[problem.as_dict()])
    situation = _xrt.situation(found, wanted)
    problems: list[Problem] = []
    if situation == "install":
        problems = _xrt.foreign_problems(found, wanted) or [
            *_xrt.combination_problems(found, wanted, params["table"]),
            *_xrt.hopeless_problems(found, wanted),
            *_xrt.disruption_problems(found, wanted),
        ]
        if problems and not params["report"]:
            module.fail_json(msg="\n".join(map(str, problems)))
    for warning in _xrt.warnings(found):
        module.warn(f"{found.host}: {warning}")
    module.exit_json(
        changed=False,
        situation=situation,
        cards=[{**asdict(card), "why": card.why_not_ready()} for card in found.cards],
        driver=found.loaded,
        kernel=found.kernel,
        kernel_packages=host.kernel_packages() if situation == "install" else [],
        system=found.system,
        **({"problems": [problem.as_dict() for problem in problems]} if params["report"] else {}),
    )


if __name__ == "__main__":
    main()
