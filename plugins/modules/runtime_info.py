#!/usr/bin/python

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime_info
short_description: Look at a host's container engines, and judge them
version_added: 0.9.0
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

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _runtime
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError


def main() -> None:
    module = AnsibleModule(
        argument_spec={**{name: {"type": "str"} for name in _runtime.PROGRAMS}, "reason": {"type": "str", "default": "This collection"}},
        supports_check_mode=True,
    )
    try:
        engines = _runtime.look_at_engines(Record.load().section("apt"))
    except RecordError as error:
        module.fail_json(msg=str(error))
    for name, (program, ours) in engines.items():
        wanted = module.params[name]
        problem = _runtime.engine_problem(name, program, ours, wanted, module.params["reason"]) if wanted else None
        if problem:
            module.fail_json(msg=f"{problem} Nothing was changed.")
    module.exit_json(
        changed=False,
        engines={name: {"version": program.version, "origin": program.origin, "ours": ours} if program else None for name, (program, ours) in engines.items()},
        containers=dict(_runtime.running_containers()),
    )


if __name__ == "__main__":
    main()
