#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's kubelet runs with, compared and mended."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_kubelet
short_description: Keeps a node's description and its kubelet's settings as declared
version_added: 0.9.0
description:
  - Writes C(/etc/fpga-hybrid/node.json) and the kubelet's drop-in for systemd, and keeps the unit enabled.
  - On a node of a cluster it compares C(/var/lib/kubelet/config.yaml) with the cluster's ConfigMap C(kubelet-config) and the declaration, and
    C(/var/lib/kubelet/kubeadm-flags.env) with the node's flags, mends what differs, and restarts the kubelet only then, or when it has been
    running since before these files were written (a run that was killed before its restart, files put back from a backup).
    If the kubelet does not become healthy with the mended files, the former ones come back.
  - While the API cannot be asked, only declared values are compared.
author:
  - The fpga.hybrid maintainers (@fpga-hybrid)
options:
  node:
    description: Content of C(node.json), which is checked before anything is written. Taints may be dictionaries; the file has them as C(key=value:effect).
    type: dict
    required: true
  configuration:
    description: Declared keys of C(KubeletConfiguration).
    type: dict
    default: {}
  extra_args:
    description: Flags that the kubelet has to have.
    type: dict
    default: {}
  after:
    description: Units that the kubelet starts after, and asks systemd to start. It does not depend on them.
    type: list
    elements: str
    default: []
  health_timeout:
    description: Seconds that the kubelet may take to be healthy after a restart.
    type: int
    default: 60
attributes:
  check_mode:
    description: Compares, and changes nothing.
    support: full
  diff_mode:
    description: Shows the files.
    support: full
"""

EXAMPLES = r"""
- name: Describe the node
  fpga.hybrid.kubeadm_kubelet:
    node:
      schema: 1
      cluster_name: example
      cluster_id: 6b1f0f5e-94c9-4d5e-8a55-0a7f0c1e2d3b
      pool:
      labels: {example.org/rack: "4"}
      taints: []
      startup_taints: []
      resources: {}
      reserved: {}
      provider_id: fpga-hybrid:///example/worker1
      vpn: {backend: openvpn, mtu: 1400}
      aws:
      ignore_preflight: []
      fpga:
    configuration: {maxPods: 200}
    extra_args: {node-ip: 172.27.224.12}
    after: [openvpn-client@fpga-hybrid.service]
"""

RETURN = r"""
changes:
  description: What was mended, one line each.
  type: list
  elements: str
  returned: always
restarted:
  description: Whether the kubelet was restarted.
  type: bool
  returned: always
"""

import json
import os
import time
import typing as t
import urllib.error

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import (
    KubeadmError,
    Object,
    differences,
    kubelet_config,
    parse_flags,
    render_flags,
)
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import DROP_IN, RECORD, Host
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError, parse_yaml, run, to_yaml
from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint, TaintError
from ansible_collections.fpga.hybrid.plugins.module_utils._node import node_violations
from ansible_collections.fpga.hybrid.plugins.module_utils._record import RecordError
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import Unit


class File(t.NamedTuple):
    path: str
    mode: int
    before: str | None
    after: str
    why: str


class Plan:
    """Everything that differs, found before anything is changed; check mode stops here."""

    def __init__(self, host: Host, params: Object) -> None:
        self._host = host
        self._params = params
        self.joined = os.path.exists(host.paths.kubelet_kubeconfig)
        self.files = [file for file in self._described() if file.before != file.after]
        self.kubelet_files = [file for file in self._kubelet() if file.before != file.after] if self.joined else []
        self.enable = host.systemctl("is-enabled", "kubelet")[1] != "enabled"
        self.unread = self._unread() if self.joined and not self.kubelet_files else []
        self.start = self.joined and host.systemctl("is-active", "kubelet")[1] not in ("active", "activating")

    @property
    def changes(self) -> list[str]:
        lines = [f"{file.path}: {file.why}" for file in (*self.files, *self.kubelet_files)]
        lines += [f"kubelet.service: restarted, it has run since before {path} was written" for path in self.unread]
        return [*lines, *(["kubelet.service: enabled"] if self.enable else []), *(["kubelet.service: started"] if self.start else [])]

    def diff(self) -> list[Object]:
        return [{"before_header": f.path, "after_header": f.path, "before": f.before or "", "after": f.after} for f in (*self.files, *self.kubelet_files)]

    def _described(self) -> list[File]:
        host = self._host
        node = json.dumps(self._params["node"], indent=2, sort_keys=True) + "\n"
        files = [File(host.paths.node, 0o644, host.read(host.paths.node), node, "node as declared")]
        units, found = " ".join(self._params["after"]), host.read(host.paths.drop_in)
        if units or found is not None:
            files.append(File(host.paths.drop_in, 0o644, found, DROP_IN.format(units=units), f"starts after {units or 'nothing of ours'}"))
        return files

    def _unread(self) -> list[str]:
        """The kubelet's files that the one that runs cannot have read."""
        pid = self._host.systemctl("show", "--property=MainPID", "--value", "kubelet")[1]
        unit = Unit(active=True, exists=True, main_pid=int(pid) if pid.isdecimal() else 0)
        found: list[str] = unit.older_than([self._host.paths.kubelet_config, self._host.paths.kubelet_flags])
        return found

    def _kubelet(self) -> list[File]:
        return [self._configuration(), self._flags()]

    def _configuration(self) -> File:
        host, path = self._host, self._host.paths.kubelet_config
        text = host.read(path)
        try:
            live: Object | None = parse_yaml(host.run, text or "", path)[0]
        except (KubeError, IndexError):
            live = None
        instance = self._instance() if live is None else live
        wanted = kubelet_config(self._cluster(), instance, self._params["configuration"])
        if live is not None and live == wanted:
            return File(path, 0o644, text, text or "", "")
        why = "; ".join(differences(wanted, live or {})) or f"undeclared: {', '.join(sorted(set(live or {}) - set(wanted)))}"
        return File(path, 0o644, text, to_yaml(host.run, wanted), why)

    def _instance(self) -> Object | None:
        """The host's own keys from the file that kubeadm keeps beside config.yaml, for when that is lost."""
        key, _sep, value = (self._host.read(self._host.paths.kubelet_instance) or "").strip().partition(": ")
        return {key: value.strip('"')} if key == "containerRuntimeEndpoint" else None

    def _cluster(self) -> Object | None:
        kubectl = Kubectl(self._host.run, self._host.paths.kubelet_kubeconfig, request_timeout=10)
        try:
            found = kubectl.get("-n", "kube-system", "configmap/kubelet-config")
        except KubeError:
            return None
        return parse_yaml(self._host.run, found["data"]["kubelet"], "ConfigMap kube-system/kubelet-config")[0] if found else None

    def _flags(self) -> File:
        path = self._host.paths.kubelet_flags
        text = self._host.read(path)
        live = parse_flags(text or "")
        wanted = {name: str(value) for name, value in self._params["extra_args"].items()}
        why = "; ".join(differences(wanted, live))
        return File(path, 0o644, text, render_flags({**live, **wanted}) if why else text or "", why)

    # --- doing it -----------------------------------------------------------------------------------------------------------------------------

    def apply(self) -> bool:
        """Says whether the kubelet was restarted."""
        host = self._host
        # Not a change of the host's: only reset.yml asks for it.
        record = host.record()
        record.put(RECORD, "node", True)
        record.save()
        for file in self.files:
            host.write(file.path, file.after, file.mode)
        if any(file.path == host.paths.drop_in for file in self.files):
            host.systemctl("daemon-reload")
        if self.enable:
            self._systemctl("enable", "kubelet")
        for file in self.kubelet_files:
            host.write(file.path, file.after, file.mode)
        if self.kubelet_files or self.unread:
            self._restart()
        elif self.start:
            self._systemctl("start", "kubelet")
        return bool(self.kubelet_files or self.unread)

    def _systemctl(self, *arguments: str) -> None:
        code, answer = self._host.systemctl(*arguments)
        if code != 0:
            raise KubeadmError(f"systemctl {' '.join(arguments)}: {answer}. Look at: systemctl status kubelet, journalctl -u kubelet -n 50.")

    def _restart(self) -> None:
        self._host.systemctl("restart", "kubelet")
        if healthy(self._params["health_timeout"], self._params["configuration"]):
            return
        if not self.kubelet_files:
            raise KubeadmError(
                f"The kubelet had not read {', '.join(self.unread)} since its start, so it was restarted, and did not become healthy in "
                f"{self._params['health_timeout']} s. Look at journalctl -u kubelet -n 50."
            )
        for file in self.kubelet_files:
            if file.before is not None:
                self._host.write(file.path, file.before, file.mode)
        self._host.systemctl("restart", "kubelet")
        raise KubeadmError(
            f"The kubelet did not become healthy in {self._params['health_timeout']} s with these changes, so the former files are back:\n"
            + "\n".join(f"  {file.path}: {file.why}" for file in self.kubelet_files)
            + "\nLook at journalctl -u kubelet -n 50 and correct kubeadm_kubelet_configuration or kubeadm_kubelet_extra_args."
        )


def healthy(timeout: int, configuration: Object) -> bool:
    """The kubelet's own answer; only given when it has read its configuration."""
    address, port = configuration.get("healthzBindAddress", "127.0.0.1"), configuration.get("healthzPort", 10248)
    end = time.monotonic() + timeout
    # The old process may still answer in the first moment.
    time.sleep(1)
    while time.monotonic() < end:
        try:
            if open_url(f"http://{address}:{port}/healthz", timeout=2, use_proxy=False).getcode() == 200:
                return True
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.5)
    return False


def checked_node(declared: Object) -> Object:
    """bootstrap and the device plugin read what is written here, so it is checked here."""
    node = {**declared, "taints": [str(Taint.parse(taint)) for taint in declared["taints"]]} if isinstance(declared.get("taints"), list) else declared
    violations = node_violations(node)
    if violations:
        raise KubeadmError(f"node is no content for node.json: {'; '.join(violations)}. Correct it; the schema stands in module_utils/_node.py.")
    return node


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "node": {"type": "dict", "required": True},
            "configuration": {"type": "dict", "default": {}},
            "extra_args": {"type": "dict", "default": {}},
            "after": {"type": "list", "elements": "str", "default": []},
            "health_timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    host = Host(run)
    try:
        plan = Plan(host, {**module.params, "node": checked_node(module.params["node"])})
        restarted = False if module.check_mode else plan.apply()
    except (KubeadmError, KubeError, RecordError, TaintError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(plan.changes), changes=plan.changes, restarted=restarted, diff=plan.diff())


if __name__ == "__main__":
    main()
