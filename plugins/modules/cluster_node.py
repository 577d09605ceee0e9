#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_node
short_description: Take a node's object out of a cluster that stays
version_added: 0.9.0
description:
  - Removes the Node object of a host that has left the cluster. Runs on the control plane.
  - Where the API cannot be asked, or refuses, this is a warning and no failure, because the host itself has left already. The next run tries again.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
requirements:
  - C(kubectl) on the host.
options:
  name:
    description: Name of the node.
    type: str
    required: true
  state:
    description: The only thing that can be wanted. A kubelet makes its object by itself.
    type: str
    choices: [absent]
    default: absent
  kubeconfig:
    description: The kubeconfig to use.
    type: path
    default: /etc/kubernetes/admin.conf
attributes:
  check_mode:
    support: full
    description: Looks for the object.
  diff_mode:
    support: full
    description: Names the object that goes.
"""

EXAMPLES = r"""
- name: Take its Node object out of the cluster
  fpga.hybrid.cluster_node:
    name: "{{ inventory_hostname }}"
  delegate_to: "{{ groups['control_plane'] | first }}"
"""

RETURN = r""" # """

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import ADMIN_KUBECONFIG, Kubectl, KubeError, NotFoundError, run


def remove(kubectl: Kubectl, name: str, *, check_mode: bool) -> bool:
    """Whether there was an object to remove."""
    if kubectl.get("node", name) is None:
        return False
    if not check_mode:
        try:
            kubectl.call("delete", "node", name)
        except NotFoundError:
            return False  # somebody was faster
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["absent"], "default": "absent"},
            "kubeconfig": {"type": "path", "default": ADMIN_KUBECONFIG},
        },
        supports_check_mode=True,
    )
    name, changed = module.params["name"], False
    try:
        changed = remove(Kubectl(run, module.params["kubeconfig"]), name, check_mode=module.check_mode)
    except KubeError as error:
        module.warn(
            f"{name} has left, but its Node object may still be in the cluster ({error}). "
            f"When the API answers: kubectl --kubeconfig {module.params['kubeconfig']} delete node {name}, or this run once more."
        )
    module.exit_json(changed=changed, diff={"before": f"node/{name}\n" if changed else "", "after": ""})


if __name__ == "__main__":
    main()
