#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_ready
short_description: Wait until nodes take pods
version_added: 0.9.0
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
description:
  - Waits until each node is Ready and has a ready pod of the pod network. Runs on the control plane.
  - Says what is missing on which node when the time is over.
  - Where there is no control plane, that is to say no O(kubeconfig), there is nothing to wait for.
requirements:
  - C(kubectl) on the host.
attributes:
  check_mode:
    support: full
    description: Looks once and never fails, because what a real run would have changed was not changed.
  diff_mode:
    support: none
    description: Changes nothing.
options:
  nodes:
    description: Names of the nodes.
    type: list
    elements: str
    required: true
  network_pods:
    description: Label selector of the pods of the network, of which each node must have a ready one. Empty asks for none.
    type: str
    default: ""
  timeout:
    description: Seconds to wait.
    type: int
    default: 240
  kubeconfig:
    description: The kubeconfig to use.
    type: path
    default: /etc/kubernetes/admin.conf
"""

EXAMPLES = r"""
- name: Wait for two workers
  fpga.hybrid.cluster_ready:
    nodes: [worker1, worker2]
    network_pods: k8s-app=calico-node
"""

RETURN = r"""
missing:
  description: A sentence for each thing that is not as it should be; empty unless in check mode.
  returned: success
  type: list
  elements: str
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import ADMIN_KUBECONFIG, Kubectl, KubeError, decode, run
from ansible_collections.fpga.hybrid.plugins.module_utils._ready import network_troubles, node_troubles

EVERY = 1.0


def look(kubectl: Kubectl, names: list[str], network_pods: str) -> list[str]:
    """What is missing now; an API server that does not answer at this moment is one more thing that is."""
    try:
        troubles = node_troubles(names, decode(kubectl.call("get", "nodes", "-o", "json")))
        if network_pods and not troubles:
            troubles = network_troubles(names, decode(kubectl.call("get", "pods", "--all-namespaces", "--selector", network_pods, "-o", "json")))
    except KubeError as error:
        return [str(error)]
    return troubles


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "str", "required": True},
            "network_pods": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 240},
            "kubeconfig": {"type": "path", "default": ADMIN_KUBECONFIG},
        },
        supports_check_mode=True,
    )
    names, timeout = module.params["nodes"], module.params["timeout"]
    if not os.path.exists(module.params["kubeconfig"]):
        module.exit_json(changed=False, missing=[])
    kubectl = Kubectl(run, module.params["kubeconfig"], request_timeout=10)
    end = time.monotonic() + timeout
    while (missing := look(kubectl, names, module.params["network_pods"])) and not module.check_mode:
        if time.monotonic() >= end:
            listed = "\n".join(f"  {line}" for line in missing)
            module.fail_json(
                msg=f"Not every node takes pods after {timeout} s:\n{listed}\n"
                "verify.yml says which part does not work on which node; after that run site.yml again, it goes on from here.",
                missing=missing,
            )
        time.sleep(EVERY)
    module.exit_json(changed=False, missing=missing)


if __name__ == "__main__":
    main()
