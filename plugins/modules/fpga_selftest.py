#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fpga_selftest
short_description: Whether a pod gets each resource that nodes publish of their FPGA boards
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Runs on a control plane host. Makes one pod for each resource and node, none of them privileged, in namespace C(fpga-hybrid-selftest), and removes them.
  - A pod that is refused, or that finds no free board in time, is a result, not a failure of the module. The cluster is afterwards as it was.
attributes:
  check_mode:
    support: full
    description: Makes no pods in check mode.
  diff_mode:
    support: none
    description: There is nothing to compare.
options:
  nodes:
    description: The nodes to try.
    type: list
    elements: str
    required: true
  accelerators:
    description: C(cluster_accelerators), whose resources are tried beside those of whole boards.
    type: dict
    default: {}
  image:
    description: An image with a shell, C(env), C(grep) and C(sort).
    type: str
    required: true
  wait:
    description: Seconds to wait for the pods' ends.
    type: int
    default: 120
  kubeconfig:
    description: An administrator's kubeconfig on this host.
    type: path
    default: /etc/kubernetes/admin.conf
"""

EXAMPLES = r"""
- name: Run a pod for each resource
  fpga.hybrid.fpga_selftest:
    nodes: [worker1]
    image: docker.io/library/busybox:1.37
"""

RETURN = r"""
pods:
  description: For each pod C(node), C(resource), C(count), C(phase), and C(said), what it printed, or why it did not run.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils import _fpga_selftest as selftest
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError, run
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import PoolError, parse_accelerators


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "str", "required": True},
            "accelerators": {"type": "dict", "default": {}},
            "image": {"type": "str", "required": True},
            "wait": {"type": "int", "default": 120},
            "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
        },
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=False, pods=[])
    try:
        counts = selftest.askable(parse_accelerators(params["accelerators"]).values())
        pods = selftest.run(Kubectl(run, params["kubeconfig"], request_timeout=60), params["nodes"], counts, params["image"], params["wait"])
    except (PoolError, KubeError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, pods=pods)


if __name__ == "__main__":
    main()
