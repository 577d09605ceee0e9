# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""reset.yml on the running lab: only when it is meant, only what is ours, and afterwards site.yml builds the same cluster again."""

from __future__ import annotations

import json

import pytest

from tests.lab.site import on, playbook

pytestmark = [pytest.mark.lab, pytest.mark.slow]

HOSTS = ("cp1", "worker1", "worker2", "worker3")
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
# What of ours, or of what our programs made, may be found on a host.
TRACES = """
ls -d /etc/fpga-hybrid /var/lib/fpga-hybrid /opt/fpga-hybrid /etc/kubernetes/*.conf /etc/cni/net.d/10-calico.conflist \
      /etc/apt/sources.list.d/fpga-hybrid-* /etc/apt/preferences.d/fpga-hybrid-* /etc/systemd/system/*/fpga-hybrid.conf 2>/dev/null
ip -brief link show | grep -oE '^(tun0|vxlan.calico|cali[0-9a-f]{11}|kube-ipvs0)'
dpkg-query -W -f '${Package} ${Status}\\n' kubelet kubeadm kubectl containerd.io openvpn 'python3*-venv' 2>/dev/null | grep ' installed$'
ps -eo comm= | grep -E '^(kubelet|containerd|openvpn|etcd|kube-.*|calico-node|fpga-hybrid-dev.*)$' | sort -u
! command -v iptables-save >/dev/null || iptables-save | grep -E 'KUBE-|cali-'
true
"""


def verified() -> None:
    playbook("verify").check()


def test_without_the_clusters_name_nothing_happens():
    for arguments in ((), ("-e", "confirm=another")):
        run = playbook("reset", *arguments)
        assert run.status != 0
        assert "-e confirm=lab" in run.output
        assert run.changed() == {}


def test_check_mode_lists_what_would_go_and_takes_nothing():
    before = {host: on(host, TRACES) for host in HOSTS}
    run = playbook("reset", "-e", "confirm=lab", "--check", "--diff").check()
    assert set(run.changed()) == set(HOSTS)
    assert "kubelet" in run.output
    assert {host: on(host, TRACES) for host in HOSTS} == before
    verified()


def certificates() -> dict[str, tuple[str | None, str | None]]:
    """VPN client -> serial number of its certificate, when it was revoked; as the authority tells it."""
    clients = json.loads(on("cp1", "/opt/fpga-hybrid/bin/fpga-hybrid-vpn list"))["clients"]
    return {client["name"]: (client["serial"], client["revoked"]) for client in clients}


def test_a_worker_leaves_its_cluster_and_comes_back():
    before = certificates()
    run = playbook("reset", "-e", "confirm=lab", "--limit", "worker1").check()
    assert run.changed()
    assert on("worker1", TRACES) == ""
    assert "node/worker1" not in on("cp1", f"{KUBECTL} get nodes -o name").split()
    after = certificates()
    assert after["worker1"][0] is None
    assert after["worker1"][1], "its certificate still holds"
    assert {name: entry for name, entry in after.items() if name != "worker1"} == {name: entry for name, entry in before.items() if name != "worker1"}
    assert playbook("reset", "-e", "confirm=lab", "--limit", "worker1").check().changed() == {}
    playbook("site").check()
    assert certificates()["worker1"][0] not in (None, before["worker1"][0])
    assert certificates()["worker1"][1] is None
    verified()


def test_a_worker_that_missed_the_reset_of_its_cluster_leaves_it_afterwards():
    """Its control plane is gone by then, so nobody drains it and nothing is asked there but whether there is still a cluster."""
    playbook("reset", "-e", "confirm=lab", "--limit", "!worker1").check()
    assert on("worker1", TRACES) != ""
    playbook("reset", "-e", "confirm=lab", "--limit", "worker1").check()
    assert {host: on(host, TRACES) for host in HOSTS} == dict.fromkeys(HOSTS, "")
    playbook("site").check()
    verified()


def test_the_whole_cluster_goes_and_comes_back():
    playbook("reset", "-e", "confirm=lab").check()
    assert {host: on(host, TRACES) for host in HOSTS} == dict.fromkeys(HOSTS, "")
    assert playbook("reset", "-e", "confirm=lab").check().changed() == {}
    playbook("site").check()
    verified()
