#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: ConfigMap kube-system/fpga-hybrid."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_record
short_description: Write what this cluster is into the cluster itself
version_added: 0.9.0
description:
  - Keeps ConfigMap C(kube-system/fpga-hybrid) with the cluster's id, name, exact versions, the collection's version, and the last run.
  - The last run is written each time, and doesn't count as a change, since it says nothing about the cluster's state.
  - Does nothing where kubeadm has not made a control plane yet. A cluster that carries another id is refused.
author: The fpga.hybrid maintainers (@fpga-hybrid)
options:
  cluster_id:
    description: The cluster's id.
    type: str
    required: true
  cluster_name:
    description: The cluster's name.
    type: str
    required: true
  versions:
    description: The exact versions.
    type: dict
    required: true
  collection:
    description: Version of the collection that the run used.
    type: str
    required: true
  user:
    description: Who started the run.
    type: str
    required: true
  kubeconfig:
    description: The kubeconfig to use.
    type: path
    default: /etc/kubernetes/admin.conf
attributes:
  check_mode:
    support: full
    description: Compares, and writes nothing.
  diff_mode:
    support: full
    description: Shows the record before and after, without the last run.
"""

EXAMPLES = r"""
- name: Record what stands now
  fpga.hybrid.cluster_record:
    cluster_id: "{{ cluster_id }}"
    cluster_name: "{{ cluster_name }}"
    versions: {kubernetes: 1.36.3}
    collection: 0.1.0
    user: maria
"""

RETURN = r"""
record:
  description: The ConfigMap's data.
  returned: where there is a control plane
  type: dict
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._cluster_state import config_map, foreign_record, record_of
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import FIELD_MANAGER, Kubectl, KubeError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cluster_id": {"type": "str", "required": True},
            "cluster_name": {"type": "str", "required": True},
            "versions": {"type": "dict", "required": True},
            "collection": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    if not Path(parameters["kubeconfig"]).exists():
        module.exit_json(changed=False)
    kubectl = Kubectl(module.run_command, parameters["kubeconfig"])
    wanted = record_of(parameters["cluster_id"], parameters["cluster_name"], parameters["versions"], parameters["collection"])
    try:
        existing = kubectl.get("configmap", "fpga-hybrid", "--namespace=kube-system")
        found = dict((existing or {}).get("data") or {})
        found.pop("last_run", None)
        if refusal := foreign_record(found, wanted):
            module.fail_json(msg=refusal)
        if not module.check_mode:
            last_run = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {parameters['user']}"
            text = config_map({**wanted, "last_run": last_run})
            kubectl.call("apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", "-f", "-", data=text)
    except KubeError as error:
        module.fail_json(
            msg=f"ConfigMap kube-system/fpga-hybrid: {error}; expected the API server to take it. "
            "See that kube-apiserver runs (crictl or ctr, journalctl -u kubelet), then start again."
        )
    module.exit_json(
        changed=found != wanted,
        record=wanted,
        diff={"before": found, "after": wanted, "before_header": "kube-system/fpga-hybrid", "after_header": "kube-system/fpga-hybrid"},
    )


if __name__ == "__main__":
    main()
