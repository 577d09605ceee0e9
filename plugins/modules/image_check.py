#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_check
short_description: Refuses an image that lacks a part or holds what it must not
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Runs in the image and looks for everything that an instance needs to become a node, and for everything that must not be in an image (see
    M(fpga.hybrid.image_clean)), secrets in any settings among it. All findings are told at once, each with what to do. Changes nothing.
  - Secrets are looked for in text files (no zero byte among the first 1024) of any length below C(/etc), C(/root), C(/home), C(/opt), C(/srv),
    C(/usr/local), C(/var/lib) and C(/var/spool), without what dpkg, apt, containerd and Docker keep in C(/var/lib). They are kubeadm's join tokens,
    private keys (PEM), OpenVPN's static keys, AWS' access keys (C(AKIA...), C(ASIA...)) and values of C(secret_access_key) in any spelling, of 16 characters
    or more. Nothing else is known for a secret.
  - Links at home folders by names of keys and credentials (C(.ssh), C(.aws)) are told, because what they lead to is not taken out.
  - Secrets themselves are never shown, only the files in which they stand.
extends_documentation_fragment: [fpga.hybrid.attributes.read_only]
attributes:
  platform:
    support: full
    description: Works on Debian and Ubuntu.
    platforms: debian
options:
  packages:
    description: Packages that must be installed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the package.
        type: str
        required: true
      version:
        description: Version, or a pattern with C(*).
        type: str
        default: "*"
      hold:
        description: Whether it must be held.
        type: bool
        default: false
  programs:
    description: Programs that must be there, by path, or by name where the search path has them.
    type: list
    elements: str
    default: []
  runs:
    description: Programs that must be there and run, so that their libraries are there, too.
    type: list
    elements: dict
    default: []
    suboptions:
      command:
        description: Program and arguments, without a shell.
        type: list
        elements: str
        required: true
      says:
        description: A regular expression that must be found in what it writes.
        type: str
        default: ""
  units:
    description: Units that must be there, enabled and not masked.
    type: list
    elements: str
    default: []
  files:
    description: Files that must be there.
    type: list
    elements: path
    default: []
  modules:
    description: Kernel modules that must be loaded at boot.
    type: list
    elements: str
    default: []
  runtime:
    description: The container runtime whose settings for the kubelet are looked at.
    type: str
    choices: [containerd, docker]
    default: containerd
  registries:
    description: Registries that containerd must reach by settings of their own, for example a mirror's.
    type: list
    elements: str
    default: []
  swap_off:
    description: Whether C(/etc/fstab) may turn no swap on.
    type: bool
    default: true
  bootable:
    description:
      - Whether there must be a kernel with its modules, C(/boot/vmlinuz-VERSION) and C(/lib/modules/VERSION). Where C(/etc/fstab) has C(/boot) on a partition
        of its own, which isn't seen here, the modules must be there.
    type: bool
    default: false
  running:
    description:
      - Whether it is an instance that runs, of which an image is to be made, and no folder. What its own services write at any time (logs, leases, records of
        logins, C(/tmp)) and the C(resolv.conf) that it needs are not held against it then.
    type: bool
    default: false
    version_added: 0.9.0
  root:
    description: Another folder than C(/), for tests.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: Refuse an image without a kubelet
  fpga.hybrid.image_check:
    packages:
      - name: kubelet
        version: 1.36.4-*
        hold: true
    runs:
      - command: [kubelet, --version]
        says: v1\.36\.4
    units: [kubelet.service]
"""

RETURN = r"""
problems:
  description: The findings; success means that there are none.
  returned: always
  type: list
  elements: dict
  contains:
    variable:
      description: The file, package, program or unit.
      type: str
    found:
      description: What was found.
      type: str
    expected:
      description: What was expected.
      type: str
    remedy:
      description: What to do.
      type: str
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _image
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem, listing

SECONDS = 60


def not_running(module: AnsibleModule, runs: t.Sequence[dict[str, t.Any]], root: str) -> t.Iterator[Problem]:
    """Programs that are there and do not do what they are for. A missing one is told with the other programs."""
    for run in runs:
        path = _image.find_program(run["command"][0], root)
        if path is None:
            continue
        shown = " ".join(run["command"])
        # Shorter than Ansible waits for the module, and outside of its messages: a hanging program is a finding like others.
        status, out, err = module.run_command(["timeout", str(SECONDS), root + path, *run["command"][1:]])
        said = (out + err).strip()
        if status:
            last = said.splitlines()[-1][:200] if said else "nothing was said"
            yield Problem("", f"program {path}", f"`{shown}` ends with status {status}: {last}", "it to run", _image.BRING)
        elif not re.search(run["says"], said):
            yield Problem("", f"program {path}", f"`{shown}` says {said.splitlines()[0][:200] if said else 'nothing'!r}", run["says"], _image.BRING)


def main() -> None:
    texts = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "packages": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "default": "*"},
                    "hold": {"type": "bool", "default": False},
                },
            },
            "programs": texts,
            "runs": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"command": {"type": "list", "elements": "str", "required": True}, "says": {"type": "str", "default": ""}},
            },
            "units": texts,
            "files": {"type": "list", "elements": "path", "default": []},
            "modules": texts,
            "runtime": {"type": "str", "choices": ["containerd", "docker"], "default": "containerd"},
            "registries": texts,
            "bootable": {"type": "bool", "default": False},
            "swap_off": {"type": "bool", "default": True},
            "running": {"type": "bool", "default": False},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    params, root = module.params, module.params["root"].rstrip("/")
    wanted = _image.Wanted(
        packages=tuple(_image.Package(**package) for package in params["packages"]),
        programs=tuple(dict.fromkeys([*params["programs"], *(run["command"][0] for run in params["runs"])])),
        units=tuple(params["units"]),
        files=tuple(params["files"]),
        modules=tuple(params["modules"]),
        runtime=params["runtime"],
        registries=tuple(params["registries"]),
        swap_off=params["swap_off"],
        bootable=params["bootable"],
    )
    rules = _image.HELD_RUNNING if params["running"] else _image.UNWANTED
    problems = [*_image.lacking(wanted, root), *not_running(module, params["runs"], root), *_image.held(root, rules)]
    if problems:
        told = listing(problems)
        module.fail_json(msg=f"This is no image for instances, for {len(set(problems))} reasons:\n{told}", problems=[problem.as_dict() for problem in problems])
    module.exit_json(changed=False, problems=[])


if __name__ == "__main__":
    main()
