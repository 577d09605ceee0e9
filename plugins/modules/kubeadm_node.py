#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: what kubeadm is told and what follows from what it left behind is in module_utils/_kubeadm.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_node
short_description: Makes a host a control plane, or takes a node out, with kubeadm
version_added: 0.1.0
description:
  - Runs C(kubeadm init) with a configuration file (kubeadm v1beta4) that lives in C(/run) with mode 0600 while kubeadm runs,
    after C(kubeadm config validate). A worker is joined by M(fpga.hybrid.bootstrap_join).
  - A run that was killed in the middle is recovered. An init that has written to etcd is continued over what is there, nothing is deleted.
    An init that has not starts afresh. State that is not ours is refused.
  - O(state=absent) is C(kubeadm reset) of a node of this cluster, and of nothing else.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  state:
    description: What the host is to be.
    type: str
    choices: [init, absent]
    required: true
  node_name:
    description: Name of the node.
    type: str
    required: true
  node_address:
    description: The address that becomes the node's InternalIP. Needed but for O(state=absent).
    type: str
  cri_socket:
    description: Socket of the container runtime.
    type: str
    default: unix:///run/containerd/containerd.sock
  provider_id:
    description: Provider ID of the node. It cannot be changed later.
    type: str
  taints:
    description: Taints that it registers with beside the control plane's, as dictionaries or as C(key=value:effect).
    type: list
    elements: raw
    default: []
  kubelet_extra_args:
    description: Further flags of this node's kubelet.
    type: dict
    default: {}
  kubelet_configuration:
    description: Keys of C(KubeletConfiguration) over what kubeadm sets.
    type: dict
    default: {}
  kube_proxy_configuration:
    description: Keys of C(KubeProxyConfiguration) over what kubeadm sets. For O(state=init).
    type: dict
    default: {}
  cluster:
    description: The cluster to make. For O(state=init).
    type: dict
    suboptions:
      name: {description: Its name., type: str, required: true}
      kubernetes_version: {description: The exact version., type: str, required: true}
      pod_network: {description: Network of the pods., type: str, required: true}
      service_network: {description: Network of the services., type: str, required: true}
      dns_domain: {description: Domain of the services., type: str, required: true}
      cert_sans: {description: Names and addresses that the API server's certificate holds for., type: list, elements: str, default: []}
  endpoint:
    description: Name and port of the API server, C(name:port). Needed but for O(state=absent).
    type: str
  cluster_id:
    description: Id of the cluster. With O(state=absent) a node of another one is refused.
    type: str
    required: true
  token_ttl:
    description: How long the token lives that an init makes, in minutes.
    type: int
    default: 20
  cni_files:
    description:
      - CNI configurations that may be there, by file name. Any other in C(/etc/cni/net.d) is refused, because the runtime would give pods that network.
      - Left out, anything may be there.
    type: list
    elements: str
  ignore_preflight_errors:
    description: Checks of kubeadm's that may fail.
    type: list
    elements: str
    default: []
  api_timeout:
    description: Seconds to wait for the API of a control plane that is there.
    type: int
    default: 90
attributes:
  check_mode:
    description: Says whether it would run kubeadm.
    support: full
  diff_mode:
    description: Shows the step that is to be made.
    support: partial
    details: The files that kubeadm makes are not shown.
"""

EXAMPLES = r"""
- name: Make the control plane
  fpga.hybrid.kubeadm_node:
    state: init
    node_name: cp1
    node_address: 172.27.224.1
    endpoint: api.example.org:6443
    cluster_id: "{{ cluster_id }}"
    cluster:
      name: example
      kubernetes_version: 1.36.3
      pod_network: 10.244.0.0/16
      service_network: 10.96.0.0/12
      dns_domain: cluster.local
"""

RETURN = r"""
situation:
  description: What was found, as in M(fpga.hybrid.kubeadm_state).
  type: str
  returned: always
reason:
  description: The same in words.
  type: str
  returned: always
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import (
    CLEAN,
    FRESH,
    JOINED,
    RESUME,
    RESUME_IGNORES,
    ClusterConfig,
    KubeadmError,
    NodeConfig,
    Object,
    Situation,
    init_documents,
    parse_taints,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host, Kubeadm, refuse_foreign_networks, refuse_situation
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import KubeError, run

SUBOPTIONS = {
    "name": {"type": "str", "required": True},
    "kubernetes_version": {"type": "str", "required": True},
    "pod_network": {"type": "str", "required": True},
    "service_network": {"type": "str", "required": True},
    "dns_domain": {"type": "str", "required": True},
    "cert_sans": {"type": "list", "elements": "str", "default": []},
}


def documents(params: Object) -> list[Object]:
    node = NodeConfig(
        name=params["node_name"],
        address=params["node_address"],
        cri_socket=params["cri_socket"],
        provider_id=params["provider_id"],
        taints=tuple(parse_taints(params["taints"], params["node_name"])),
        extra_args=params["kubelet_extra_args"],
    )
    declared = params["cluster"]
    cluster = ClusterConfig(
        **{**declared, "cert_sans": tuple(declared["cert_sans"])},
        endpoint=params["endpoint"],
        kubelet=params["kubelet_configuration"],
        kube_proxy=params["kube_proxy_configuration"],
    )
    making: list[Object] = init_documents(cluster, node, f"{params['token_ttl']}m0s")
    return making


def make(params: Object, host: Host, *, check_mode: bool) -> tuple[bool, Situation]:
    """The control plane, whatever is missing of it."""
    with host.lock(timeout=300) as handle:
        _found, situation = host.situation("control_plane", params["api_timeout"])
        refuse_situation(params["node_name"], "control plane", situation, params["api_timeout"])
        if situation.state in (FRESH, CLEAN):
            refuse_foreign_networks(host, params["node_name"], params["cni_files"])
        if check_mode or situation.state == JOINED:
            if not check_mode:
                host.end()
            return situation.state != JOINED, situation
        kubeadm = Kubeadm(host, params["node_name"], handle)
        wanted = documents(params)
        if situation.state == CLEAN:
            kubeadm.reset(params["cri_socket"])
        host.begin("init", params["cluster_id"])
        kubeadm.configure("init", wanted, [*params["ignore_preflight_errors"], *(RESUME_IGNORES if situation.state == RESUME else ())])
        host.end()
        return True, situation


def unmake(params: Object, host: Host, *, check_mode: bool) -> tuple[bool, Situation]:
    """kubeadm reset, and the files of ours that say what the node is."""
    node = host.read_json(host.paths.node)
    if node is not None and node.get("cluster_id") not in (None, params["cluster_id"]):
        raise KubeadmError(
            f"{params['node_name']} belongs to cluster {node.get('cluster_name')} (id {node['cluster_id']}), this run is for {params['cluster_id']}. "
            "It was left as it is: run reset.yml in that cluster's repository."
        )
    with host.lock(timeout=300) as handle:
        files = host.files()
        if files and node is None and host.journal() is None:
            raise KubeadmError(
                f"{params['node_name']} has Kubernetes files that we did not make ({', '.join(files)}), and no {host.paths.node}. It was left as it is."
            )
        ours = [path for path in (host.paths.node, host.paths.journal, host.paths.drop_in) if os.path.exists(path)]
        changed = bool(files or ours)
        if changed and not check_mode:
            if files:
                Kubeadm(host, params["node_name"], handle).reset(params["cri_socket"])
            for path in ours:
                host.remove(path)
            host.systemctl("daemon-reload")
        return changed, Situation(JOINED if files else FRESH)


def main() -> None:
    spec: dict[str, t.Any] = {
        "state": {"type": "str", "choices": ["init", "absent"], "required": True},
        "node_name": {"type": "str", "required": True},
        "node_address": {"type": "str"},
        "cri_socket": {"type": "str", "default": "unix:///run/containerd/containerd.sock"},
        "provider_id": {"type": "str"},
        "taints": {"type": "list", "elements": "raw", "default": []},
        "kubelet_extra_args": {"type": "dict", "default": {}},
        "kubelet_configuration": {"type": "dict", "default": {}},
        "kube_proxy_configuration": {"type": "dict", "default": {}},
        "cluster": {"type": "dict", "options": SUBOPTIONS},
        "endpoint": {"type": "str"},
        "cluster_id": {"type": "str", "required": True},
        "token_ttl": {"type": "int", "default": 20, "no_log": False},
        "cni_files": {"type": "list", "elements": "str"},
        "ignore_preflight_errors": {"type": "list", "elements": "str", "default": []},
        "api_timeout": {"type": "int", "default": 90},
    }
    module = AnsibleModule(
        argument_spec=spec,
        required_if=[("state", "init", ["cluster", "endpoint", "node_address"])],
        supports_check_mode=True,
    )
    host = Host(run)
    action = unmake if module.params["state"] == "absent" else make
    try:
        changed, situation = action(module.params, host, check_mode=module.check_mode)
    except (KubeadmError, KubeError) as error:
        module.fail_json(msg=str(error))
    step = f"kubeadm {'reset' if module.params['state'] == 'absent' else module.params['state']}\n" if changed else ""
    diff = {"before": "", "after": step} if changed else {"before": "", "after": ""}
    module.exit_json(changed=changed, situation=situation.state, reason=situation.reason, diff=diff)


if __name__ == "__main__":
    main()
