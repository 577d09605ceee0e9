#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubeadm keeps in the cluster for later joins, compared with the declaration."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_cluster
short_description: Keeps the configuration that kubeadm stores in the cluster as declared
version_added: 0.9.0
description:
  - Runs on a control plane. What a living cluster can no longer become (its name, endpoint, networks, domain) is compared with the declaration and refused
    with the difference.
  - Declared keys of ConfigMaps C(kubelet-config) and C(kube-proxy) are mended; when kube-proxy's differ its pods start anew.
  - When the declared names of the API server are not those of ConfigMap C(kubeadm-config), or its certificate does not hold for one of them, kubeadm makes
    another certificate with the cluster's CA. The API server loads it by itself, nothing is restarted.
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
      cert_sans: {description: Names and addresses that the API server's certificate holds for., type: list, elements: str, default: []}
  endpoint:
    description: Name and port of the API server, C(name:port).
    type: str
    required: true
  node_name:
    description: Name of the control plane's node, which is also in the certificate.
    type: str
    required: true
  node_address:
    description: Its address, which is also in the certificate.
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
    node_name: cp1
    node_address: 172.27.224.1
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
import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import (
    API_VERSION,
    ClusterConfig,
    KubeadmError,
    Object,
    certificate_names,
    differences,
    immutable_differences,
    merge,
    plain_name,
    render,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError, Run, parse_yaml, run, to_yaml


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


class ServingCertificate:
    """The API server's certificate. It watches the two files and serves with the new ones at once (k8s.io/apiserver, dynamiccertificates)."""

    def __init__(self, host: Host, names: list[str]) -> None:
        self._host = host
        self._path = os.path.join(host.paths.pki, "apiserver")
        self._names = names
        there = certificate_names(host.read(f"{self._path}.crt") or "")
        self.missing = [name for name in names if plain_name(name) not in there]

    def renew(self, stored: Object, node_name: str, address: str) -> None:
        """By kubeadm, in a folder beside: the API server never finds a half-written pair, and a failure leaves the old one."""
        if not os.path.exists(os.path.join(self._host.paths.pki, "ca.key")):
            raise KubeadmError(
                f"The API server's certificate has to hold for {', '.join(self._names)}, and {self._host.paths.pki} has no ca.key to sign another one with. "
                "Put it there for this run, or have the CA's keeper sign one for these names; or declare the names that it has (kubeadm_cert_sans)."
            )
        with self._host.lock(timeout=300) as handle:
            folder = tempfile.mkdtemp(prefix="kubeadm-", dir=self._host.paths.run)
            try:
                for name in ("ca.crt", "ca.key"):
                    os.symlink(os.path.join(self._host.paths.pki, name), os.path.join(folder, name))
                port = int(stored["controlPlaneEndpoint"].rpartition(":")[2])
                node = {"localAPIEndpoint": {"advertiseAddress": address, "bindPort": port}, "nodeRegistration": {"name": node_name}}
                documents = [
                    {"apiVersion": API_VERSION, "kind": "InitConfiguration", **node},
                    merge(stored, {"certificatesDir": folder, "apiServer": {"certSANs": self._names}}),
                ]
                config = os.path.join(folder, "config.yaml")
                self._host.write(config, render(documents), 0o600)
                code, out, err = self._host.run(["kubeadm", "init", "phase", "certs", "apiserver", "--config", config], pass_fds=[handle])
                if code != 0:
                    said = [line for line in (err or out).splitlines() if line.strip() and not line.startswith("To see the stack trace")]
                    raise KubeadmError(f"kubeadm cannot make the API server's certificate for {', '.join(self._names)}: {' '.join(said)}")
                made = {suffix: self._host.read(os.path.join(folder, f"apiserver{suffix}")) for suffix in (".key", ".crt")}
                if not all(made.values()):
                    raise KubeadmError(f"kubeadm made no certificate for the API server, and said: {out.strip()}")
                self._host.write(f"{self._path}.key", made[".key"] or "", 0o600)
                self._host.write(f"{self._path}.crt", made[".crt"] or "", 0o644)
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def restart_kube_proxy(kubectl: Kubectl, content: Object) -> None:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    template = {"metadata": {"annotations": {"fpga.hybrid/configuration": digest}}}
    kubectl.merge_patch({"spec": {"template": template}}, "-n", "kube-system", "daemonset/kube-proxy")


def reconcile(params: Object, host: Host, *, check_mode: bool) -> list[str]:
    """What differed, one line each; mended but in check mode."""
    kubectl = Kubectl(host.run, host.paths.admin)
    cluster = ClusterConfig.of(params)
    live = Stored(host.run, kubectl, "kubeadm-config", "ClusterConfiguration")
    refused = immutable_differences(cluster, live.content)
    if refused:
        raise KubeadmError(
            "This cluster cannot become what is declared:\n"
            + "\n".join(f"  {name} says {wanted}, the cluster has {there}" for name, wanted, there in refused)
            + "\nDeclare what it has, or build a new one (reset.yml, then site.yml). The cluster was left as it is."
        )
    changes = mend_names(params, host, cluster, live, check_mode=check_mode)
    stored = (
        (Stored(host.run, kubectl, "kubelet-config", "kubelet"), cluster.kubelet_document()),
        (Stored(host.run, kubectl, "kube-proxy", "config.conf"), cluster.kube_proxy_document()),
    )
    for config, declared in stored:
        found = differences(declared, config.content)
        changes += [f"{config.name} {line}" for line in found]
        if found and not check_mode:
            content = config.mend(declared)
            if config.name == "kube-proxy":
                restart_kube_proxy(kubectl, content)
    return changes


def mend_names(params: Object, host: Host, cluster: ClusterConfig, live: Stored, *, check_mode: bool) -> list[str]:
    """The certificate first: a run that is killed before the ConfigMap makes it once more."""
    names: list[str] = cluster.documents()[0]["apiServer"]["certSANs"]
    certificate = ServingCertificate(host, names)
    stored = sorted((live.content.get("apiServer") or {}).get("certSANs") or [])
    changes = [f"{live.name} {line}" for line in differences({"apiServer.certSANs": names}, {"apiServer.certSANs": stored})]
    if certificate.missing:
        changes.append(f"the API server's certificate: did not hold for {', '.join(certificate.missing)}")
    if changes and not check_mode:
        certificate.renew(live.content, params["node_name"], params["node_address"])
        if stored != names:
            live.mend({"apiServer": {"certSANs": names}})
    return changes


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "dict", "required": True, "options": ClusterConfig.OPTIONS},
            "endpoint": {"type": "str", "required": True},
            "node_name": {"type": "str", "required": True},
            "node_address": {"type": "str", "required": True},
            "kubelet_configuration": {"type": "dict", "default": {}},
            "kube_proxy_configuration": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        changes = reconcile(module.params, Host(run), check_mode=module.check_mode)
    except (KubeadmError, KubeError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(changes), changes=changes, diff={"before": "", "after": "".join(f"{line}\n" for line in changes)})


if __name__ == "__main__":
    main()
