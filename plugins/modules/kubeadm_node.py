#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: what kubeadm is told and what follows from what it left behind is in module_utils/_kubeadm.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_node
short_description: Makes a host a node of a cluster, with kubeadm
version_added: 0.1.0
description:
  - Runs C(kubeadm init) or C(kubeadm join) with a configuration file (kubeadm v1beta4) that lives in C(/run) with mode 0600 while kubeadm runs,
    after C(kubeadm config validate).
  - A run that was killed in the middle is recovered. An init that has written to etcd is continued over what is there, nothing is deleted.
    An init that has not, and a join, start afresh. State that is not ours is refused.
  - An init is written down in C(/etc/fpga-hybrid/record.json) before it starts. A control plane that neither this record nor its own
    ConfigMap C(kube-system/fpga-hybrid) calls ours is neither joined nor reset, whatever its name and addresses.
  - O(state=absent) is C(kubeadm reset) of a node of this cluster, and of nothing else.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  state:
    description: What the host is to be.
    type: str
    choices: [init, join, absent]
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
    description: Taints that the node registers with, as dictionaries or as C(key=value:effect).
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
  token:
    description: Join token. For O(state=join).
    type: str
  ca_cert_hashes:
    description: The hashes that pin the cluster's CA. For O(state=join).
    type: list
    elements: str
    default: []
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
  timeout:
    description: Seconds that a join waits for the API, and for the kubelet's certificate.
    type: int
    default: 120
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

- name: Join
  fpga.hybrid.kubeadm_node:
    state: join
    node_name: worker1
    node_address: 172.27.224.12
    endpoint: api.example.org:6443
    cluster_id: "{{ cluster_id }}"
    token: "{{ __kubeadm_token.token }}"
    ca_cert_hashes: "{{ __kubeadm_token.ca_cert_hashes }}"
  no_log: true
"""

RETURN = r"""
situation:
  description: What was found, as in M(fpga.hybrid.kubeadm_state).
  type: str
  returned: O(state=init) and O(state=join)
reason:
  description: The same in words.
  type: str
  returned: O(state=init) and O(state=join)
was_node:
  description: Whether we had made the host a node. What Kubernetes' programs left in its kernel is then ours to take out.
  type: bool
  returned: O(state=absent)
"""

import datetime
import glob
import json
import os
import shutil
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import (
    CLEAN,
    DOWN,
    FRESH,
    JOINED,
    RESUME,
    RESUME_IGNORES,
    ClusterConfig,
    KubeadmError,
    NodeConfig,
    Object,
    Situation,
    failure,
    foreign_control_plane,
    has_api_server,
    init_documents,
    join_documents,
    kubelet_document,
    parse_taints,
    redact,
    refusal,
    render,
    reset_refusal,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import RECORD, Host
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import KubeError, run
from ansible_collections.fpga.hybrid.plugins.module_utils._record import RecordError

SUBOPTIONS = {
    "name": {"type": "str", "required": True},
    "kubernetes_version": {"type": "str", "required": True},
    "pod_network": {"type": "str", "required": True},
    "service_network": {"type": "str", "required": True},
    "dns_domain": {"type": "str", "required": True},
    "cert_sans": {"type": "list", "elements": "str", "default": []},
}


class Kubeadm:
    """kubeadm with the lock's file descriptor handed on, so that the lock lives as long as kubeadm does."""

    def __init__(self, host: Host, name: str, handle: int) -> None:
        self._host = host
        self._name = name
        self._handle = handle

    def configure(self, action: str, documents: list[Object], ignore: list[str], secret: str = "") -> None:
        folder = tempfile.mkdtemp(prefix="kubeadm-", dir=self._host.paths.run)
        try:
            path = os.path.join(folder, "config.yaml")
            self._host.write(path, render(documents), 0o600)
            self._run("config validate", ["kubeadm", "config", "validate", "--config", path], secret)
            argv = ["kubeadm", action, "--config", path]
            argv += [f"--ignore-preflight-errors={','.join(ignore)}"] if ignore else []
            argv += ["--skip-token-print"] if action == "init" else []
            self._run(action, argv, secret)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def reset(self, cri_socket: str) -> None:
        self._run("reset", ["kubeadm", "reset", "--force", "--cri-socket", cri_socket])

    def _run(self, action: str, argv: list[str], secret: str = "") -> None:
        code, out, err = self._host.run(argv, pass_fds=[self._handle])
        if code != 0:
            raise KubeadmError(redact(failure(action, self._name, f"{out}\n{err}"), secret))


def patches(host: Host, declared: Object) -> str:
    """A folder that lays the host's own declaration over the cluster's kubelet configuration, so that a join is right from its first start."""
    folder = os.path.join(host.paths.run, "kubeadm-patches")
    shutil.rmtree(folder, ignore_errors=True)
    host.write(os.path.join(folder, "kubeletconfiguration+merge.json"), json.dumps(kubelet_document(declared)), 0o600)
    return folder


def role_of(params: Object) -> str:
    return "control_plane" if params["state"] == "init" else "worker"


def refuse(params: Object, situation: Situation) -> None:
    name = params["node_name"]
    refused = refusal(name, role_of(params), situation)
    if refused:
        raise KubeadmError(refused)
    if situation.state == DOWN:
        raise KubeadmError(
            f"{name}: {situation.reason}, also after {params['api_timeout']} s. Nothing was changed. "
            f"Look on {name} at: journalctl -u kubelet -n 100, systemctl status containerd, and the logs below /var/log/pods/kube-system_kube-apiserver-* "
            "and kube-system_etcd-*."
        )


def refuse_foreign_networks(params: Object, host: Host) -> None:
    if params["cni_files"] is None:
        return
    foreign = [found for found in host.cni_configurations() if found["file"] not in params["cni_files"]]
    if foreign:
        raise KubeadmError(
            f"{params['node_name']} has a CNI configuration of somebody else, and the container runtime would give that network to pods:\n"
            + "\n".join(f"  {host.paths.cni}/{found['file']}: network {found['network']}, plugins {', '.join(map(str, found['types']))}" for found in foreign)
            + f"\nExpected there: nothing, or {', '.join(params['cni_files'])}. Move it away if nothing uses it, "
            "or name the file in kubeadm_cni_tolerated if its name sorts behind ours."
        )


def documents(params: Object, host: Host) -> list[Object]:
    node = NodeConfig(
        name=params["node_name"],
        address=params["node_address"],
        cri_socket=params["cri_socket"],
        provider_id=params["provider_id"],
        taints=tuple(parse_taints(params["taints"], params["node_name"])),
        extra_args=params["kubelet_extra_args"],
    )
    if params["state"] == "join":
        folder = patches(host, params["kubelet_configuration"])
        joining: list[Object] = join_documents(node, params["endpoint"], params["token"], params["ca_cert_hashes"], folder, params["timeout"])
        return joining
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
    """Init or join, whatever is missing of it."""
    with host.lock(timeout=300) as handle:
        _found, situation = host.situation(role_of(params), params["api_timeout"], params["cluster_id"])
        refuse(params, situation)
        if situation.state in (FRESH, CLEAN):
            refuse_foreign_networks(params, host)
        if check_mode or situation.state == JOINED:
            if not check_mode:
                host.remove(host.paths.journal)
            return situation.state != JOINED, situation
        kubeadm = Kubeadm(host, params["node_name"], handle)
        for left in glob.glob(os.path.join(host.paths.run, "kubeadm-*", "")):
            shutil.rmtree(left, ignore_errors=True)
        wanted = documents(params, host)
        if situation.state == CLEAN:
            kubeadm.reset(params["cri_socket"])
        started = datetime.datetime.now(tz=datetime.timezone.utc).isoformat(timespec="seconds")
        if params["state"] == "init":
            record = host.record()
            record.put(RECORD, "init", {"cluster_id": params["cluster_id"], "started": started})
            record.save()
        host.write(host.paths.journal, json.dumps({"action": params["state"], "cluster_id": params["cluster_id"], "started": started}) + "\n", 0o600)
        ignore = [*params["ignore_preflight_errors"], *(RESUME_IGNORES if situation.state == RESUME else ())]
        kubeadm.configure(params["state"], wanted, ignore, params["token"] or "")
        host.remove(host.paths.journal)
        shutil.rmtree(os.path.join(host.paths.run, "kubeadm-patches"), ignore_errors=True)
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
        "state": {"type": "str", "choices": ["init", "join", "absent"], "required": True},
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
        "cluster_name": {"type": "str"},
        "token": {"type": "str", "no_log": True},
        "ca_cert_hashes": {"type": "list", "elements": "str", "default": []},
        "token_ttl": {"type": "int", "default": 20, "no_log": False},
        "cni_files": {"type": "list", "elements": "str"},
        "ignore_preflight_errors": {"type": "list", "elements": "str", "default": []},
        "timeout": {"type": "int", "default": 120},
        "api_timeout": {"type": "int", "default": 90},
    }
    module = AnsibleModule(
        argument_spec=spec,
        required_if=[
            ("state", "init", ["cluster", "endpoint", "node_address"]),
            ("state", "join", ["endpoint", "node_address"]),
            ("state", "absent", ["cluster_name"]),
        ],
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
    except (KubeadmError, KubeError, RecordError) as error:
        module.fail_json(msg=str(error))
    step = f"kubeadm {'reset' if params['state'] == 'absent' else params['state']}\n" if changed else ""
    module.exit_json(changed=changed, diff={"before": "", "after": step}, **result)


if __name__ == "__main__":
    main()
