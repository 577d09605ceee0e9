#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: what kubeadm is told and what follows from what it left behind is in module_utils/_kubeadm.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_node
short_description: Makes a host a control plane, or takes a node out, with kubeadm
version_added: 0.9.0
description:
  - Runs C(kubeadm init) with a configuration file (kubeadm v1beta4) that lives in C(/run) with mode 0600 while kubeadm runs,
    after C(kubeadm config validate). A worker is joined by M(fpga.hybrid.bootstrap_join).
  - A run that was killed in the middle is recovered. An init that has written to etcd is continued over what is there, nothing is deleted.
    An init that has not starts afresh. State that is not ours is refused.
  - An init is written down in C(/etc/fpga-hybrid/record.json) before it starts. A control plane that neither this record nor its own
    ConfigMap C(kube-system/fpga-hybrid) calls ours is neither joined nor reset, whatever its name and addresses.
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
    description:
      - Id of the cluster. With O(state=absent) a node of another one is refused.
      - Empty with O(state=absent) means that no cluster is recorded any more. Then a node is taken out when its cluster had the name O(cluster_name).
    type: str
    required: true
  cluster_name:
    description: Name of the cluster. Needed for O(state=absent).
    type: str
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
- name: Take a node out of its cluster
  fpga.hybrid.kubeadm_node:
    state: absent
    node_name: worker1
    cluster_id: "{{ cluster_id }}"
    cluster_name: example

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
  returned: O(state=init)
reason:
  description: The same in words.
  type: str
  returned: O(state=init)
was_node:
  description: Whether we had made the host a node. What Kubernetes' programs left in its kernel is then ours to take out.
  type: bool
  returned: O(state=absent)
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
    foreign_control_plane,
    has_api_server,
    init_documents,
    reset_refusal,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import RECORD, Host, Kubeadm, refuse_foreign_networks, refuse_situation
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import KubeError, run
from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint, TaintError
from ansible_collections.fpga.hybrid.plugins.module_utils._record import RecordError


def documents(params: Object) -> list[Object]:
    node = NodeConfig(
        name=params["node_name"],
        address=params["node_address"],
        cri_socket=params["cri_socket"],
        provider_id=params["provider_id"],
        taints=tuple(Taint.parse(taint).as_object() for taint in params["taints"]),
        extra_args=params["kubelet_extra_args"],
    )
    making: list[Object] = init_documents(ClusterConfig.of(params), node, f"{params['token_ttl']}m0s")
    return making


def make(params: Object, host: Host, *, check_mode: bool) -> tuple[bool, Situation]:
    """The control plane, whatever is missing of it."""
    with host.lock(timeout=300) as handle:
        _found, situation = host.situation("control_plane", params["api_timeout"], params["cluster_id"])
        refuse_situation(params["node_name"], "control_plane", situation, params["api_timeout"])
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
        record = host.record()
        record.put(RECORD, "init", {"cluster_id": params["cluster_id"]})
        record.save()
        host.begin("init", params["cluster_id"])
        kubeadm.configure("init", wanted, [*params["ignore_preflight_errors"], *(RESUME_IGNORES if situation.state == RESUME else ())])
        host.end()
        return True, situation


def refuse_reset(params: Object, host: Host, node: Object | None, files: tuple[str, ...]) -> None:
    name = params["node_name"]
    refused = reset_refusal(name, node, params["cluster_id"], params["cluster_name"])
    if refused:
        raise KubeadmError(refused)
    if files and node is None and host.journal() is None and not host.record().section(RECORD):
        raise KubeadmError(f"{name} has Kubernetes files that we did not make ({', '.join(files)}), and no {host.paths.node}. It was left as it is.")
    if has_api_server(files):
        # A node.json is written before an init: it alone does not say that this init was ours, and with a reset goes all that etcd holds.
        foreign = foreign_control_plane(host.maker(), params["cluster_id"] or (node or {}).get("cluster_id") or "")
        if foreign and host.journal() is None:
            raise KubeadmError(
                f"{name} was left as it is: {foreign}. If it is this cluster's and its record is lost, bring its API up and run again; "
                "if nobody needs it, kubeadm reset takes it and all its data away."
            )


def unmake(params: Object, host: Host, *, check_mode: bool) -> tuple[bool, bool]:
    """kubeadm reset, and the files of ours that say what the node is. Says what changed, and whether we had made it a node."""
    with host.lock(timeout=300) as handle:
        node, files, record = host.read_json(host.paths.node), host.files(), host.record()
        refuse_reset(params, host, node, files)
        ours = [path for path in (host.paths.node, host.paths.journal, host.paths.drop_in) if os.path.exists(path)]
        was_node = bool(files or ours or record.section(RECORD))
        changed = bool(files or ours)
        if changed and not check_mode:
            # What comes after this step must know it, also in a later run when this one is killed.
            record.put(RECORD, "node", True)
            record.save()
            if files:
                Kubeadm(host, params["node_name"], handle).reset(params["cri_socket"])
            for path in ours:
                host.remove(path)
            record.forget(RECORD, "init")
            record.save()
            host.systemctl("daemon-reload")
        return changed, was_node


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
        "cluster": {"type": "dict", "options": ClusterConfig.OPTIONS},
        "endpoint": {"type": "str"},
        "cluster_id": {"type": "str", "required": True},
        "cluster_name": {"type": "str"},
        "token_ttl": {"type": "int", "default": 20, "no_log": False},
        "cni_files": {"type": "list", "elements": "str"},
        "ignore_preflight_errors": {"type": "list", "elements": "str", "default": []},
        "api_timeout": {"type": "int", "default": 90},
    }
    module = AnsibleModule(
        argument_spec=spec,
        required_if=[("state", "init", ["cluster", "endpoint", "node_address"]), ("state", "absent", ["cluster_name"])],
        supports_check_mode=True,
    )
    params, host = module.params, Host(run)
    result: dict[str, t.Any] = {}
    try:
        if params["state"] == "absent":
            changed, result["was_node"] = unmake(params, host, check_mode=module.check_mode)
        else:
            changed, situation = make(params, host, check_mode=module.check_mode)
            result = {"situation": situation.state, "reason": situation.reason}
    except (KubeadmError, KubeError, RecordError, TaintError) as error:
        module.fail_json(msg=str(error))
    step = f"kubeadm {'reset' if params['state'] == 'absent' else params['state']}\n" if changed else ""
    module.exit_json(changed=changed, diff={"before": "", "after": step}, **result)


if __name__ == "__main__":
    main()
