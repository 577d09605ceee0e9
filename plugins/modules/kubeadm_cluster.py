#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubeadm keeps in the cluster for later joins, compared with the declaration."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_cluster
short_description: Keeps the configuration that kubeadm stores in the cluster as declared
version_added: 0.1.0
description:
  - Runs on a control plane. What a living cluster can no longer become (its name, endpoint, networks, domain) is compared with the declaration and refused
    with the difference.
  - Declared keys of ConfigMaps C(kubelet-config) and C(kube-proxy) are mended; when kube-proxy's differ its pods start anew.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  cluster:
    description: The cluster as declared.
    type: dict
    required: true
    suboptions:
      name: {description: Its name., type: str, required: true}
      kubernetes_version: {description: The exact version., type: str, required: true}
      pod_network: {description: Network of the pods., type: str, required: true}
      service_network: {description: Network of the services., type: str, required: true}
      dns_domain: {description: Domain of the services., type: str, required: true}
      cert_sans: {description: Not compared., type: list, elements: str, default: []}
  endpoint:
    description: Name and port of the API server, C(name:port).
    type: str
    required: true
  kubelet_configuration:
    description: Declared keys of C(KubeletConfiguration).
    type: dict
    default: {}
  kube_proxy_configuration:
    description: Declared keys of C(KubeProxyConfiguration).
    type: dict
    default: {}
attributes:
  check_mode:
    description: Compares, and changes nothing.
    support: full
  diff_mode:
    description: Shows the differences.
    support: full
"""

EXAMPLES = r"""
- name: Keep the cluster's own configuration as declared
  fpga.hybrid.kubeadm_cluster:
    cluster:
      name: example
      kubernetes_version: 1.36.3
      pod_network: 10.244.0.0/16
      service_network: 10.96.0.0/16
      dns_domain: cluster.local
    endpoint: api.example.org:6443
    kubelet_configuration: {maxPods: 200}
"""

RETURN = r"""
changes:
  description: What was mended, one line each.
  type: list
  elements: str
  returned: always
"""

import hashlib
import json

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import (
    ClusterConfig,
    KubeadmError,
    Object,
    differences,
    immutable_differences,
    merge,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError, Run, parse_yaml, run, to_yaml

SUBOPTIONS = {
    "name": {"type": "str", "required": True},
    "kubernetes_version": {"type": "str", "required": True},
    "pod_network": {"type": "str", "required": True},
    "service_network": {"type": "str", "required": True},
    "dns_domain": {"type": "str", "required": True},
    "cert_sans": {"type": "list", "elements": "str", "default": []},
}


class Stored:
    """One ConfigMap with a configuration in YAML below one key."""

    def __init__(self, run: Run, kubectl: Kubectl, name: str, key: str) -> None:
        self._run = run
        self._kubectl = kubectl
        self._key = key
        self.name = name
        found = kubectl.get("-n", "kube-system", f"configmap/{name}")
        if found is None:
            raise KubeadmError(f"ConfigMap kube-system/{name} is missing, so no node can join. kubeadm init phase upload-config all restores it.")
        self.content: Object = parse_yaml(run, found["data"][key], f"ConfigMap kube-system/{name}")[0]

    def mend(self, declared: Object) -> Object:
        content = merge(self.content, declared)
        self._kubectl.merge_patch({"data": {self._key: to_yaml(self._run, content)}}, "-n", "kube-system", f"configmap/{self.name}")
        return content


def restart_kube_proxy(kubectl: Kubectl, content: Object) -> None:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    template = {"metadata": {"annotations": {"fpga.hybrid/configuration": digest}}}
    kubectl.merge_patch({"spec": {"template": template}}, "-n", "kube-system", "daemonset/kube-proxy")


def reconcile(params: Object, kubectl_run: Run, *, check_mode: bool) -> list[str]:
    """What differed, one line each; mended but in check mode."""
    kubectl = Kubectl(kubectl_run)
    cluster = ClusterConfig(
        **{**params["cluster"], "cert_sans": ()},
        endpoint=params["endpoint"],
        kubelet=params["kubelet_configuration"],
        kube_proxy=params["kube_proxy_configuration"],
    )
    live = Stored(kubectl_run, kubectl, "kubeadm-config", "ClusterConfiguration")
    refused = immutable_differences(cluster, live.content)
    if refused:
        raise KubeadmError(
            "This cluster cannot become what is declared:\n"
            + "\n".join(f"  {name} says {wanted}, the cluster has {there}" for name, wanted, there in refused)
            + "\nDeclare what it has, or build a new one (reset.yml, then site.yml). The cluster was left as it is."
        )
    stored = (
        (Stored(kubectl_run, kubectl, "kubelet-config", "kubelet"), cluster.kubelet_document()),
        (Stored(kubectl_run, kubectl, "kube-proxy", "config.conf"), cluster.kube_proxy_document()),
    )
    changes: list[str] = []
    for config, declared in stored:
        found = differences(declared, config.content)
        changes += [f"{config.name} {line}" for line in found]
        if found and not check_mode:
            content = config.mend(declared)
            if config.name == "kube-proxy":
                restart_kube_proxy(kubectl, content)
    return changes


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "dict", "required": True, "options": SUBOPTIONS},
            "endpoint": {"type": "str", "required": True},
            "kubelet_configuration": {"type": "dict", "default": {}},
            "kube_proxy_configuration": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        changes = reconcile(module.params, run, check_mode=module.check_mode)
    except (KubeadmError, KubeError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(changes), changes=changes, diff={"before": "", "after": "".join(f"{line}\n" for line in changes)})


if __name__ == "__main__":
    main()
