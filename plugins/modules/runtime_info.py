#!/usr/bin/python

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime_info
short_description: Look at a host's container engines, and judge them
version_added: 0.1.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Reports containerd, Docker's engine and cri-dockerd, their versions, whether this collection brought them, and the containers that run.
  - Fails, with what to do, if an engine that was there before us does not fit a wanted version. Changes nothing.
attributes:
  check_mode:
    description: Can run in check mode and return what would change.
    support: full
  diff_mode:
    description: Nothing is changed.
    support: none
options:
  containerd:
    description: The versions of containerd that fit, as V(2.*), V(2.4.2) or V(>=2.0). Unset judges nothing.
    type: str
  docker:
    description: The versions of Docker's engine that fit.
    type: str
  cri_dockerd:
    description: The versions of cri-dockerd that fit. Unlike the others it has to be there already, because no package repository has it.
    type: str
  reason:
    description: Why these versions are wanted, for the message.
    type: str
    default: This collection
"""

EXAMPLES = r"""
- name: Look at what is there
  fpga.hybrid.runtime_info:
    containerd: "2.*"
    reason: Kubernetes 1.36
  register: __containerd_found
"""

RETURN = r"""
engines:
  description: C(containerd), C(docker) and C(cri_dockerd), each null if it is not there.
  returned: success
  type: dict
  contains:
    version:
      description: Its version.
      type: str
    origin:
      description: The package that brought it, or where it lies.
      type: str
    ours:
      description: Whether this collection installed it.
      type: bool
  sample:
    containerd: {version: 2.4.2, origin: package containerd.io 2.4.2-1, ours: true}
    docker: null
    cri_dockerd: null
containers:
  description: Running containers by containerd's namespace.
  returned: success
  type: dict
  sample: {k8s.io: 12, moby: 1}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _runtime
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import EngineError, Program, find_program

PROGRAMS = {"containerd": "containerd", "docker": "dockerd", "cri_dockerd": "cri-dockerd"}


def main() -> None:
    module = AnsibleModule(
        argument_spec={**{name: {"type": "str"} for name in PROGRAMS}, "reason": {"type": "str", "default": "This collection"}},
        supports_check_mode=True,
    )
    try:
        apt = Record.load().section("apt")
        engines: dict[str, t.Any] = {}
        for name, program in PROGRAMS.items():
            found = find_program(program)
            ours = bool(found and _runtime.is_ours(found, apt))
            if module.params[name]:
                judge(name, found, ours, module.params[name], module.params["reason"])
            engines[name] = {"version": found.version, "origin": found.origin, "ours": ours} if found else None
    except (EngineError, RecordError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, engines=engines, containers=dict(_runtime.running_containers()))


def judge(name: str, found: Program | None, ours: bool, wanted: str, reason: str) -> None:
    """What we brought ourselves is brought into its range by the package module; what we found is not touched, so it has to fit."""
    if found is None:
        if name == "cri_dockerd":
            raise EngineError(_runtime.cri_dockerd_missing(wanted))
    elif not ours:
        _runtime.judge_found(name, found, wanted, reason)


if __name__ == "__main__":
    main()
