#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: the decisions are in module_utils/_kubeadm.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_state
short_description: Looks at what kubeadm has made, or half made, on a host
version_added: 0.9.0
description:
  - One probe for role C(fpga.hybrid.kubeadm). Changes nothing.
  - Waits for a kubeadm run that is still going on, for example of a play that was killed.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  role:
    description: What the host is to be.
    type: str
    choices: [control_plane, worker]
    required: true
  node_name:
    description: Name of the node in the cluster.
    type: str
    required: true
  cluster_id:
    description: Id of the cluster that the host is to belong to. A control plane that was not made for it is refused.
    type: str
    required: true
  api_timeout:
    description: Seconds to wait for the API of a control plane that is there, for example after a reboot.
    type: int
    default: 90
  lock_timeout:
    description: Seconds to wait for a kubeadm that is running.
    type: int
    default: 300
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Never has a difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Look at what is there
  fpga.hybrid.kubeadm_state:
    role: worker
    node_name: "{{ inventory_hostname }}"
    cluster_id: "{{ cluster_id }}"
  register: __kubeadm
"""

RETURN = r"""
situation:
  description: >-
    V(fresh) nothing there; V(joined) a node of a cluster; V(resume) an init of ours that did not get to its end; V(clean) half-made state of
    ours that starts afresh; V(down) a control plane whose API does not answer; V(refused) something that is not ours.
  type: str
  returned: always
reason:
  description: What was found, in words, when the situation is neither V(fresh) nor V(joined).
  type: str
  returned: always
refusal:
  description: What to tell the user when the situation is V(refused), else empty.
  type: str
  returned: always
joined:
  description: Whether the host is a node of a cluster.
  type: bool
  returned: always
cluster_id:
  description: Id of the cluster that the host belongs to, from its node.json; null when it has none.
  type: str
  returned: always
cluster_name:
  description: Name of that cluster.
  type: str
  returned: always
server:
  description: URL of the API server that its kubelet uses.
  type: str
  returned: always
ca_cert_hashes:
  description: SHA-256 hashes of the public keys of the cluster's CA, as kubeadm pins them.
  type: list
  elements: str
  returned: always
registered:
  description: Whether the API knows the node; null when it could not be asked.
  type: bool
  returned: always
api:
  description: On a control plane V(healthy), V(down) or V(absent).
  type: str
  returned: always
api_answer:
  description: The last answer of an API that is down.
  type: str
  returned: always
versions:
  description: Versions of kubeadm, kubelet and kubectl that are installed, null for one that is not.
  type: dict
  returned: always
node:
  description: Content of node.json.
  type: dict
  returned: always
cni:
  description: The CNI configurations on the host with file, network and types.
  type: list
  elements: dict
  returned: always
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import DOWN, JOINED, KubeadmError, refusal
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError, run
from ansible_collections.fpga.hybrid.plugins.module_utils._record import RecordError


def registered(host: Host, name: str) -> bool | None:
    """Asked with the node's own credential, so it also says whether that still works."""
    code, out, _err = Kubectl(host.run, host.paths.kubelet_kubeconfig, request_timeout=5).try_call("get", "node", name, "-o", "name", "--ignore-not-found")
    return bool(out.strip()) if code == 0 else None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "role": {"type": "str", "choices": ["control_plane", "worker"], "required": True},
            "node_name": {"type": "str", "required": True},
            "cluster_id": {"type": "str", "required": True},
            "api_timeout": {"type": "int", "default": 90},
            "lock_timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    host, params = Host(run), module.params
    try:
        with host.lock(params["lock_timeout"]):
            found, situation = host.situation(params["role"], params["api_timeout"], params["cluster_id"])
        node = host.read_json(host.paths.node) or {}
        versions = host.versions()
        has_kubelet = found.has("kubelet.conf") and versions["kubectl"] is not None
        module.exit_json(
            changed=False,
            situation=situation.state,
            reason=situation.reason,
            refusal=refusal(params["node_name"], params["role"], situation),
            joined=situation.state in (JOINED, DOWN),
            cluster_id=node.get("cluster_id"),
            cluster_name=node.get("cluster_name"),
            node=node,
            server=host.server(host.paths.kubelet_kubeconfig) if has_kubelet else None,
            ca_cert_hashes=host.ca_hashes() if os.path.exists(host.paths.ca) else [],
            registered=registered(host, params["node_name"]) if has_kubelet else None,
            api=found.api,
            api_answer=host.api(0)[1] if situation.state == DOWN else "",
            versions=versions,
            cni=host.cni_configurations(),
        )
    except (KubeadmError, KubeError, RecordError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
