# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubeadm_node with a kubeadm that only writes the files the real one writes, step by step, and can be killed at each of them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import RESUME_IGNORES, KubeadmError
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm_host import Host, Paths
from ansible_collections.fpga.hybrid.plugins.modules.kubeadm_node import make, unmake

INIT_STEPS = (
    "etc/kubernetes/pki/ca.crt",
    "etc/kubernetes/pki/ca.key",
    "etc/kubernetes/admin.conf",
    "etc/kubernetes/manifests/kube-apiserver.yaml",
    "etc/kubernetes/manifests/etcd.yaml",
    "var/lib/etcd/member/wal",
)


class Killed(BaseException):
    """As after kill -9: nothing of ours runs any more."""


class Machine:
    def __init__(self, root):
        self.root = Path(root)
        self.calls = []
        self.seen = {}
        self.steps = None  # how many steps kubeadm gets to make before it is killed
        self.fails = ""
        self.essentials = True
        self.of_cluster = None  # the id in ConfigMap kube-system/fpga-hybrid

    def put(self, name, text=""):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def __call__(self, argv, data=None, pass_fds=()):
        self.calls.append(argv)
        if argv[0] == "kubectl":
            return self.kubectl(argv)
        if argv[:2] == ["kubeadm", "init"]:
            return self.kubeadm(argv, pass_fds)
        if argv[:2] == ["kubeadm", "reset"]:
            for name in INIT_STEPS:
                (self.root / name).unlink(missing_ok=True)
        return 0, "", ""

    def kubectl(self, argv):
        if "/readyz" in argv:
            up = (self.root / INIT_STEPS[-1]).exists() and not self.fails
            return (0, "ok", "") if up else (1, "", "refused")
        if "configmap/fpga-hybrid" in argv:
            answers = self.of_cluster and not self.fails
            return (0, json.dumps({"data": {"cluster_id": self.of_cluster}}), "") if answers else (1, "", "Error from server (NotFound)")
        asked = [word for word in argv if word.startswith(("configmap/", "deployment/", "daemonset/"))]
        return 0, "\n".join(asked if self.essentials else asked[:1]), ""

    def kubeadm(self, argv, pass_fds):
        config = Path(argv[argv.index("--config") + 1])
        self.seen.update(config=list(yaml.safe_load_all(config.read_text())), mode=stat.S_IMODE(config.stat().st_mode), path=config, locked=bool(pass_fds))
        if self.fails:
            return 1, "", self.fails
        for number, name in enumerate(INIT_STEPS):
            if self.steps is not None and number >= self.steps:
                raise Killed
            self.put(name)
        return 0, "", ""

    def actions(self):
        return [argv[1] if argv[1] != "config" else "validate" for argv in self.calls if argv[0] == "kubeadm"]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def host(machine):
    return Host(machine, Paths(str(machine.root)))


def params(state, **more):
    cluster = {
        "name": "c",
        "kubernetes_version": "1.36.3",
        "pod_network": "10.244.0.0/16",
        "service_network": "10.96.0.0/16",
        "dns_domain": "cluster.local",
        "cert_sans": [],
    }
    return {
        "state": state,
        "node_name": "worker1",
        "node_address": "172.27.224.12",
        "cri_socket": "unix:///x",
        "provider_id": None,
        "taints": [],
        "kubelet_extra_args": {},
        "kubelet_configuration": {"maxPods": 5},
        "kube_proxy_configuration": {},
        "cluster": cluster,
        "endpoint": "api:6443",
        "cluster_id": "id-1",
        "cluster_name": "c",
        "token_ttl": 20,
        "cni_files": ["10-calico.conflist"],
        "ignore_preflight_errors": ["Mem"],
        "api_timeout": 0,
        **more,
    }


def test_an_init_is_validated_first_and_leaves_nothing_behind(host, machine):
    changed, _situation = make(params("init"), host, check_mode=False)
    assert changed
    assert machine.actions() == ["validate", "init"]
    assert machine.seen["mode"] == 0o600
    assert machine.seen["locked"]
    assert os.listdir(host.paths.run) == ["kubeadm.lock"]
    assert host.journal() is None


def test_a_control_plane_is_left_alone(host, machine):
    make(params("init"), host, check_mode=False)
    machine.calls.clear()
    changed, situation = make(params("init"), host, check_mode=False)
    assert (changed, situation.state) == (False, "joined")
    assert not machine.actions()


@pytest.mark.parametrize("steps", range(len(INIT_STEPS)))
def test_an_init_that_was_killed_before_etcd_wrote_starts_afresh(host, machine, steps):
    machine.steps = steps
    with pytest.raises(Killed):
        make(params("init"), host, check_mode=False)
    machine.steps = None
    machine.calls.clear()
    make(params("init"), host, check_mode=False)
    assert machine.actions() == ([] if steps == 0 else ["reset"]) + ["validate", "init"]


def test_an_init_that_was_killed_after_etcd_wrote_goes_on_over_its_data(host, machine):
    machine.essentials = False
    make(params("init"), host, check_mode=False)
    host.write(host.paths.journal, '{"action": "init"}', 0o600)
    machine.calls.clear()
    _changed, situation = make(params("init"), host, check_mode=False)
    assert situation.state == "resume"
    assert machine.actions() == ["validate", "init"]
    (ignored,) = [word for argv in machine.calls for word in argv if word.startswith("--ignore-preflight-errors=")]
    assert set(ignored.partition("=")[2].split(",")) == {"Mem", *RESUME_IGNORES}


def test_an_init_that_was_killed_after_its_last_step_is_done(host, machine):
    make(params("init"), host, check_mode=False)
    host.write(host.paths.journal, '{"action": "init"}', 0o600)
    machine.calls.clear()
    changed, _situation = make(params("init"), host, check_mode=False)
    assert not changed
    assert not machine.actions()
    assert host.journal() is None


def test_a_control_plane_that_is_down_is_not_touched(host, machine):
    make(params("init"), host, check_mode=False)
    machine.calls.clear()
    machine.fails = "down"
    with pytest.raises(KubeadmError, match=r"control plane whose API does not answer, also after 0 s. Nothing was changed"):
        make(params("init"), host, check_mode=False)
    assert not machine.actions()


def by_hand(host, machine):
    """A control plane that somebody made with kubeadm, on the very address that is declared for ours."""
    make(params("init"), host, check_mode=False)
    os.unlink(host.paths.record)
    machine.calls.clear()


def test_an_init_is_written_down_before_it_starts_and_not_again(host, machine):
    machine.steps = 0
    with pytest.raises(Killed):
        make(params("init"), host, check_mode=False)
    assert host.record().get("kubeadm", "init")["cluster_id"] == "id-1"
    machine.steps = None
    make(params("init"), host, check_mode=False)
    before = Path(host.paths.record).read_text()
    make(params("init"), host, check_mode=False)
    assert Path(host.paths.record).read_text() == before


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("named", [None, "id-2"])
def test_a_control_plane_of_somebody_else_is_neither_joined_nor_reset(host, machine, down, named):
    by_hand(host, machine)
    machine.of_cluster, machine.fails = named, "down" if down else ""
    with pytest.raises(KubeadmError, match=r"cannot be made a control plane: it is (a|the) control plane"):
        make(params("init"), host, check_mode=False)
    host.write(host.paths.node, '{"cluster_id": "id-1", "cluster_name": "c"}', 0o644)  # as an earlier version left it there
    with pytest.raises(KubeadmError, match=r"was left as it is: it is (a|the) control plane"):
        unmake(params("absent"), host, check_mode=False)
    assert not machine.actions()


def test_a_control_plane_of_ours_whose_record_is_lost_is_known_by_its_configmap(host, machine):
    by_hand(host, machine)
    machine.of_cluster = "id-1"
    host.write(host.paths.node, '{"cluster_id": "id-1", "cluster_name": "c"}', 0o644)
    assert make(params("init"), host, check_mode=False)[1].state == "joined"
    assert unmake(params("absent"), host, check_mode=False) == (True, True)
    assert machine.actions() == ["reset"]


def test_check_mode_starts_nothing_and_writes_nothing(host, machine):
    changed, _situation = make(params("init"), host, check_mode=True)
    assert changed
    assert not machine.actions()
    assert host.journal() is None


def test_a_failed_init_says_why_and_keeps_the_journal(host, machine):
    machine.fails = "error: no more"
    with pytest.raises(KubeadmError, match="error: no more"):
        make(params("init"), host, check_mode=False)
    assert not machine.seen["path"].exists()
    assert host.journal() is not None


def test_a_host_of_somebody_else_is_refused(host, machine):
    machine.put("etc/kubernetes/kubelet.conf")
    with pytest.raises(KubeadmError, match=r"worker1 cannot be made a control plane: it is a worker, or was one \(kubelet.conf are there\)"):
        make(params("init"), host, check_mode=False)


def test_a_network_of_somebody_else_is_refused_with_its_file(host, machine):
    machine.put("etc/cni/net.d/10-flannel.conflist", json.dumps({"name": "cbr0", "plugins": [{"type": "flannel"}]}))
    with pytest.raises(KubeadmError, match=r"10-flannel.conflist: network cbr0, plugins flannel"):
        make(params("init"), host, check_mode=False)
    make(params("init", cni_files=None), host, check_mode=False)


# --- absent -------------------------------------------------------------------------------------------------------------------------------------


def test_a_node_of_this_cluster_is_taken_out_with_our_files(host, machine):
    make(params("init"), host, check_mode=False)
    for path in (host.paths.node, host.paths.drop_in):
        host.write(path, '{"cluster_id": "id-1"}', 0o644)
    assert unmake(params("absent"), host, check_mode=True) == (True, True)
    assert "reset" not in machine.actions()
    assert unmake(params("absent"), host, check_mode=False) == (True, True)
    assert "reset" in machine.actions()
    assert not os.path.exists(host.paths.node)
    assert not os.path.exists(host.paths.drop_in)
    # The record remembers, for what comes after this step, until the whole reset is done and the record goes.
    assert unmake(params("absent"), host, check_mode=False) == (False, True)


def test_our_control_plane_is_taken_out_and_an_init_by_hand_afterwards_is_not_ours(host, machine):
    make(params("init"), host, check_mode=False)
    host.write(host.paths.node, '{"cluster_id": "id-1"}', 0o644)
    assert unmake(params("absent"), host, check_mode=False) == (True, True)
    for name in INIT_STEPS:
        machine.put(name)
    machine.calls.clear()
    with pytest.raises(KubeadmError, match="a control plane that we did not make"):
        unmake(params("absent"), host, check_mode=False)
    assert not machine.actions()


def test_a_host_that_we_made_no_node_is_left_alone_and_keeps_no_trace(host, machine):
    assert unmake(params("absent"), host, check_mode=False) == (False, False)
    assert not os.path.exists(os.path.dirname(host.paths.record))


def worker(machine):
    for name in ("etc/kubernetes/pki/ca.crt", "etc/kubernetes/kubelet.conf", "var/lib/kubelet/config.yaml"):
        machine.put(name)


def test_a_node_whose_cluster_is_recorded_nowhere_any_more_goes_by_its_name(host, machine):
    """The control plane was reset while this host was off, or is gone."""
    worker(machine)
    host.write(host.paths.node, '{"cluster_id": "id-0", "cluster_name": "c"}', 0o644)
    with pytest.raises(KubeadmError, match=r"this run is for c .id id-1.*reset_former_id=id-0"):
        unmake(params("absent"), host, check_mode=False)
    assert unmake(params("absent", cluster_id=""), host, check_mode=False) == (True, True)


def test_a_control_plane_whose_cluster_json_is_lost_goes_by_its_node_json_and_record(host, machine):
    make(params("init"), host, check_mode=False)
    host.write(host.paths.node, '{"cluster_id": "id-1", "cluster_name": "c"}', 0o644)
    assert unmake(params("absent", cluster_id=""), host, check_mode=False) == (True, True)


def test_a_node_of_another_cluster_is_not_reset(host, machine):
    make(params("init"), host, check_mode=False)
    host.write(host.paths.node, '{"cluster_id": "id-2", "cluster_name": "other"}', 0o644)
    for cluster_id in ("id-1", ""):
        with pytest.raises(KubeadmError, match=r"worker1 belongs to cluster other \(id id-2\), this run is for c \(id (id-1|none any more)\)"):
            unmake(params("absent", cluster_id=cluster_id), host, check_mode=False)
    assert "reset" not in machine.actions()


def test_what_we_did_not_make_is_not_reset(host, machine):
    machine.put("etc/kubernetes/kubelet.conf")
    with pytest.raises(KubeadmError, match="files that we did not make"):
        unmake(params("absent"), host, check_mode=False)
    assert "reset" not in machine.actions()
