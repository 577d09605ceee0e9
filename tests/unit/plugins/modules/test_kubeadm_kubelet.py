# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kubelet runs with: compared with the cluster's ConfigMap and the declaration, mended, and put back when the kubelet cannot live with it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import KUBELET_API_VERSION, KubeadmError
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host, Paths
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import started_at
from ansible_collections.fpga.hybrid.plugins.modules import kubeadm_kubelet
from ansible_collections.fpga.hybrid.plugins.modules.kubeadm_kubelet import Plan

ROOT = Path(__file__).resolve().parents[4]
BASE = {
    "apiVersion": KUBELET_API_VERSION,
    "kind": "KubeletConfiguration",
    "cgroupDriver": "systemd",
    "maxPods": 110,
    "staticPodPath": "/etc/kubernetes/manifests",
}
LIVE = {**BASE, "containerRuntimeEndpoint": "unix:///x", "resolvConf": "/run/systemd/resolve/resolv.conf"}


class Machine:
    def __init__(self):
        self.cluster = BASE
        self.enabled, self.active = "enabled", "active"
        self.pid = 0
        self.did = []

    def __call__(self, argv, data=None, pass_fds=()):
        if argv[0] == "systemctl":
            if argv[1] == "is-enabled":
                return 0, self.enabled, ""
            if argv[1] == "is-active":
                return 0, self.active, ""
            if argv[1] == "show":
                return 0, f"{self.pid}\n", ""
            self.did.append(" ".join(argv[1:]))
            return 0, "", ""
        if "--local" in argv:
            value = yaml.safe_load(data)
            if not isinstance(value, dict) or "kind" not in value:
                return 1, "", "error: no kind"
            return 0, json.dumps(value) if "json" in argv else yaml.safe_dump(value), ""
        if self.cluster is None:
            return 1, "", "connection refused"
        return 0, json.dumps({"data": {"kubelet": yaml.safe_dump(self.cluster)}}), ""


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def host(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(kubeadm_kubelet, "healthy", lambda timeout, configuration: True)
    host = Host(machine, Paths(str(tmp_path)))
    host.write(host.paths.kubelet_kubeconfig, "x", 0o600)
    host.write(host.paths.kubelet_config, yaml.safe_dump(LIVE), 0o644)
    host.write(host.paths.kubelet_flags, 'KUBELET_KUBEADM_ARGS="--node-ip=10.0.0.1 --hostname-override=w"\n', 0o644)
    return host


def params(**more):
    return {"node": {"schema": 1}, "configuration": {}, "extra_args": {"node-ip": "10.0.0.1"}, "after": [], "health_timeout": 1, **more}


def settled(host, **more):
    """A node after its first run."""
    Plan(host, params(**more)).apply()
    host.run.did.clear()
    return host


def test_a_second_run_changes_nothing_and_restarts_nothing(host, machine):
    settled(host, after=["openvpn-client@fpga-hybrid.service"])
    plan = Plan(host, params(after=["openvpn-client@fpga-hybrid.service"]))
    assert plan.changes == []
    assert not plan.apply()
    assert machine.did == []


def test_a_host_that_has_not_joined_gets_its_description_only(host, machine):
    Path(host.paths.kubelet_kubeconfig).unlink()
    machine.active = "inactive"
    plan = Plan(host, params())
    plan.apply()
    assert [file.path for file in plan.files] == [host.paths.node]
    assert machine.did == []


def test_that_the_host_was_made_a_node_is_written_down_for_the_reset(host):
    Plan(host, params()).apply()
    assert host.record().get("kubeadm", "node")


def test_the_drop_in_orders_after_the_vpn_without_depending_on_it(host, machine):
    Plan(host, params(after=["openvpn-client@fpga-hybrid.service"])).apply()
    text = Path(host.paths.drop_in).read_text()
    assert "After=openvpn-client@fpga-hybrid.service" in text
    assert "Wants=openvpn-client@fpga-hybrid.service" in text
    assert "\nRequires=" not in text
    assert machine.did == ["daemon-reload"]


@pytest.mark.parametrize(
    ("live", "why"),
    [
        ({**LIVE, "cgroupDriver": "cgroupfs"}, 'cgroupDriver: found "cgroupfs", expected "systemd"'),
        ({**LIVE, "maxPods": 5}, "maxPods: found 5, expected 110"),
        ({**LIVE, "stray": True}, "undeclared: stray"),
    ],
)
def test_a_kubelet_configuration_that_drifted_is_mended_with_one_restart(host, machine, live, why):
    settled(host)
    host.write(host.paths.kubelet_config, yaml.safe_dump(live), 0o644)
    plan = Plan(host, params())
    assert plan.changes == [f"{host.paths.kubelet_config}: {why}"]
    assert plan.apply()
    assert machine.did == ["restart kubelet"]
    assert yaml.safe_load(Path(host.paths.kubelet_config).read_text()) == LIVE


def test_a_key_added_by_hand_stays_while_the_api_cannot_be_asked(host, machine):
    settled(host)
    machine.cluster = None
    host.write(host.paths.kubelet_config, yaml.safe_dump({**LIVE, "stray": True}), 0o644)
    assert Plan(host, params()).changes == []


@pytest.mark.parametrize("content", ["", "{ this is: no [yaml", None])
def test_a_configuration_that_is_broken_or_gone_is_written_anew(host, content):
    settled(host)
    host.write(host.paths.kubelet_instance, 'containerRuntimeEndpoint: "unix:///x"\n', 0o644)
    if content is None:
        Path(host.paths.kubelet_config).unlink()
    else:
        host.write(host.paths.kubelet_config, content, 0o644)

    def strict(argv, data=None, pass_fds=()):
        try:
            return machine_call(argv, data, pass_fds)
        except yaml.YAMLError as error:
            return 1, "", str(error)

    machine_call = host.run
    host.run = strict
    assert Plan(host, params()).apply()
    assert yaml.safe_load(Path(host.paths.kubelet_config).read_text()) == {**BASE, "containerRuntimeEndpoint": "unix:///x"}


def test_a_flag_that_drifted_is_mended_and_kubeadms_own_stay(host):
    settled(host)
    host.write(host.paths.kubelet_flags, 'KUBELET_KUBEADM_ARGS="--node-ip=10.9.9.9 --hostname-override=w"\n', 0o644)
    plan = Plan(host, params())
    assert plan.changes == [f'{host.paths.kubelet_flags}: node-ip: found "10.9.9.9", expected "10.0.0.1"']
    plan.apply()
    assert Path(host.paths.kubelet_flags).read_text() == 'KUBELET_KUBEADM_ARGS="--node-ip=10.0.0.1 --hostname-override=w"\n'


def test_a_unit_that_was_disabled_or_stopped_comes_back_without_a_restart(host, machine):
    settled(host)
    machine.enabled, machine.active = "disabled", "inactive"
    plan = Plan(host, params())
    assert plan.changes == ["kubelet.service: enabled", "kubelet.service: started"]
    plan.apply()
    assert machine.did == ["enable kubelet", "start kubelet"]


@pytest.fixture
def stale(host, machine):
    """A run was killed between writing the files and restarting the kubelet, which is as old as this very process."""
    settled(host)
    machine.pid = os.getpid()
    started = started_at(machine.pid)
    os.utime(host.paths.kubelet_flags, (started - 9, started - 9))
    os.utime(host.paths.kubelet_config, (started + 0.5, started + 0.5))
    return host


def test_a_restart_that_a_killed_run_missed_is_made_good(stale, machine):
    plan = Plan(stale, params())
    assert plan.changes == [f"kubelet.service: restarted, it has run since before {stale.paths.kubelet_config} was written"]
    assert plan.apply()
    assert machine.did == ["restart kubelet"]


def test_a_kubelet_that_has_read_its_files_is_not_restarted(stale, machine):
    started = started_at(machine.pid)
    os.utime(stale.paths.kubelet_config, (started - 9, started - 9))
    assert Plan(stale, params()).changes == []


def test_a_missed_restart_that_the_kubelet_does_not_survive_is_said(stale, machine, monkeypatch):
    monkeypatch.setattr(kubeadm_kubelet, "healthy", lambda timeout, configuration: False)
    with pytest.raises(KubeadmError, match=r"had not read .*config.yaml.* did not become healthy"):
        Plan(stale, params()).apply()
    assert machine.did == ["restart kubelet"]


def test_what_the_kubelet_cannot_live_with_is_taken_back(host, machine, monkeypatch):
    settled(host)
    before = Path(host.paths.kubelet_config).read_text()
    monkeypatch.setattr(kubeadm_kubelet, "healthy", lambda timeout, configuration: False)
    with pytest.raises(KubeadmError, match="the former files are back"):
        Plan(host, params(configuration={"maxPods": -1})).apply()
    assert Path(host.paths.kubelet_config).read_text() == before
    assert machine.did == ["restart kubelet", "restart kubelet"]


def test_a_plan_alone_writes_nothing(host, machine):
    plan = Plan(host, params(configuration={"maxPods": 7}, after=["x.service"]))
    assert len(plan.changes) == 3
    assert {entry["after_header"] for entry in plan.diff()} == {host.paths.node, host.paths.drop_in, host.paths.kubelet_config}
    assert not Path(host.paths.node).exists()
    assert machine.did == []


def test_the_description_of_the_example_is_one_that_bootstrap_can_read():
    (task,) = yaml.safe_load(kubeadm_kubelet.EXAMPLES)
    kubeadm_kubelet.checked_node(task["fpga.hybrid.kubeadm_kubelet"]["node"])


def test_a_description_that_bootstrap_could_not_read_is_refused():
    with pytest.raises(KubeadmError, match=r"node is no content for node\.json: cluster_name: found nothing"):
        kubeadm_kubelet.checked_node({"schema": 2})


def trusted(value):
    """As Ansible loads it from a role: its texts are templates, at any depth."""
    if isinstance(value, dict):
        return {name: trusted(member) for name, member in value.items()}
    if isinstance(value, list):
        return [trusted(member) for member in value]
    return trust_as_template(value) if isinstance(value, str) else value


@pytest.mark.parametrize("vpn", [True, False])
def test_what_role_kubeadm_writes_on_prem_is_one_that_bootstrap_can_read(vpn):
    role = yaml.safe_load((ROOT / "roles" / "kubeadm" / "vars" / "main.yml").read_text())
    used = ("__kubeadm_labels", "__kubeadm_taints", "__kubeadm_provider_id", "__kubeadm_swap", "__kubeadm_kubelet_configuration")
    variables = {name: trusted(role[name]) for name in used}
    declared = {
        "cluster_name": "lab",
        "cluster_id": "6b1f0f5e",
        "cluster_vpn_backend": "openvpn",
        "cluster_vpn_mtu": "1400",
        "cluster_vpn_member": vpn,
        "inventory_hostname": "worker1",
        "kubeadm_ignore_preflight_errors": ["SystemVerification"],
        "node_labels": {"example.org/rack": "4"},
        "node_taints": ["example.org/fpga:NoSchedule", {"key": "example.org/slow", "value": "yes", "effect": "NoExecute"}],
        "__kubeadm_version_has_provider_id": vpn,
        "kubeadm_cri_socket": "unix:///run/containerd/containerd.sock",
        "kubeadm_kubelet_configuration": {"maxPods": 50},
        "kubeadm_kubelet_extra_args": {"v": 4},
        "swap_policy": "node_swap",
    }
    node = Templar(loader=DataLoader(), variables={**variables, **declared}).template(trusted(role["__kubeadm_node"]))
    assert kubeadm_kubelet.checked_node(node)["taints"] == ["example.org/fpga=:NoSchedule", "example.org/slow=yes:NoExecute"]
    assert node["kubelet"] == {
        "cri_socket": "unix:///run/containerd/containerd.sock",
        "configuration": {"maxPods": 50, "failSwapOn": False, "memorySwap": {"swapBehavior": "LimitedSwap"}},
        "extra_args": {"v": "4"},
    }
