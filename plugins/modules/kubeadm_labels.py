#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: the difference is computed by module_utils/_kubeadm.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_labels
short_description: Keeps labels, taints and provider ID of a Node as declared
version_added: 0.9.0
description:
  - Runs on a control plane, because a node may change neither its taints nor most labels itself.
  - Mends exactly what differs. What is ours stands in the Node's annotation C(fpga.hybrid/declared), so a label or taint that is no longer declared goes,
    and those of others stay.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  node_name:
    description: Name of the node.
    type: str
    required: true
  labels:
    description: Declared labels.
    type: dict
    default: {}
  taints:
    description: Declared taints, as dictionaries or as C(key=value:effect).
    type: list
    elements: raw
    default: []
  provider_id:
    description: The provider ID that the node has to have. Set only where there is none.
    type: str
  timeout:
    description: Seconds to wait for a node that has just joined to appear.
    type: int
    default: 60
attributes:
  check_mode:
    description: Compares, and changes nothing.
    support: full
  diff_mode:
    description: Shows the patch.
    support: full
"""

EXAMPLES = r"""
- name: Keep labels and taints as declared
  fpga.hybrid.kubeadm_labels:
    node_name: worker1
    labels: {example.org/rack: a1}
    taints: ["example.org/fpga=:NoSchedule"]
  delegate_to: cp1
"""

RETURN = r"""
patch:
  description: What differed, as a merge patch on the Node.
  type: dict
  returned: always
"""

import json
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import KubeadmError, Object, node_patch
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError, run
from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint, TaintError


def find(kubectl: Kubectl, name: str, timeout: int) -> Object:
    end = time.monotonic() + timeout
    while True:
        node = kubectl.get("node", name)
        if node is not None:
            return node
        if time.monotonic() >= end:
            raise KubeadmError(
                f"The API knows no node {name} (waited {timeout} s). If it has joined, its kubelet cannot reach the API or was taken out of the cluster: "
                f"look on {name} at journalctl -u kubelet -n 50; systemctl restart kubelet registers it anew."
            )
        time.sleep(1)


def mend(kubectl: Kubectl, params: Object, *, check_mode: bool) -> tuple[Object, Object, Object]:
    """The Node as it was, as it is, and the patch between. Another writer in between makes us look again."""
    name = params["node_name"]
    labels = {key: str(value) for key, value in params["labels"].items()}
    taints = [Taint.parse(taint) for taint in params["taints"]]
    for _attempt in range(5):
        node = find(kubectl, name, params["timeout"])
        patch = node_patch(node, labels, taints, params["provider_id"])
        if not patch or check_mode:
            return node, node, patch
        # Taints are replaced as a list: with the version in the patch the API refuses it when somebody else has written meanwhile.
        versioned = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": node["metadata"]["resourceVersion"]}}
        try:
            return node, kubectl.merge_patch(versioned, "node", name), patch
        except KubeError as error:
            if "(Conflict)" not in str(error) and "the object has been modified" not in str(error):
                raise
    raise KubeadmError(f"{name}: others changed the Node five times while its labels and taints were being mended. Run again.")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "node_name": {"type": "str", "required": True},
            "labels": {"type": "dict", "default": {}},
            "taints": {"type": "list", "elements": "raw", "default": []},
            "provider_id": {"type": "str"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        _before, _after, patch = mend(Kubectl(run), module.params, check_mode=module.check_mode)
    except (KubeadmError, KubeError, TaintError) as error:
        module.fail_json(msg=str(error))
    text = json.dumps(patch, indent=2, sort_keys=True) + "\n" if patch else ""
    module.exit_json(changed=bool(patch), patch=patch, diff={"before": "", "after": text})


if __name__ == "__main__":
    main()
