# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift on a cluster that stands: one thing is broken at a time, and the next run mends exactly that."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.lab.site import on, playbook

pytestmark = [pytest.mark.lab, pytest.mark.slow]

KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"


@dataclass(frozen=True)
class Drift:
    """How to break something, how to look at it, and the role whose tasks alone may say `changed`."""

    host: str
    break_it: str
    look: str
    role: str
    looked_at_from: str = ""


DRIFTS = {
    "config file": Drift(
        "worker1",
        "sed -i 's/SystemdCgroup = true/SystemdCgroup = false/' /etc/containerd/config.toml",
        "grep SystemdCgroup /etc/containerd/config.toml",
        "containerd",
    ),
    "package hold": Drift("worker1", "apt-mark unhold kubelet", "apt-mark showhold | grep -x kubelet || echo none", "kubeadm"),
    "enabled unit": Drift("worker1", "systemctl disable --quiet kubelet", "systemctl is-enabled kubelet || :", "kubeadm"),
    "sysctl": Drift("worker1", "sysctl -qw net.ipv4.ip_forward=0", "sysctl -n net.ipv4.ip_forward", "host"),
    "node label": Drift(
        "worker1",
        "true",
        f"{KUBECTL} get node worker1 -o jsonpath='{{.metadata.labels.example\\.org/rack}}'",
        "kubeadm",
        looked_at_from="cp1",
    ),
    "VPN client entry": Drift(
        "cp1", "echo 'ifconfig-push 172.27.224.99 255.255.240.0' > /etc/fpga-hybrid/vpn/ccd/worker2", "cat /etc/fpga-hybrid/vpn/ccd/worker2", "openvpn"
    ),
}
LABEL = ("-e", '{"node_labels": {"example.org/rack": "a1"}}')


@pytest.fixture(scope="module", autouse=True)
def labelled():
    """Nodes with a declared label, which the lab's own inventory has not; taken off again."""
    playbook("site", *LABEL).check()
    yield
    on("cp1", f"{KUBECTL} label node --all example.org/rack-")


@pytest.mark.parametrize("name", DRIFTS)
def test_the_next_run_mends_exactly_that(name):
    drift = DRIFTS[name]
    looking = drift.looked_at_from or drift.host
    before = on(looking, drift.look)
    if name == "node label":
        on("cp1", f"{KUBECTL} label --overwrite node worker1 example.org/rack=z9")
    on(drift.host, drift.break_it)
    assert on(looking, drift.look) != before
    run = playbook("site", *LABEL).check()
    assert on(looking, drift.look) == before
    assert list(run.changed()) == [drift.host]
    assert {task.partition(" : ")[0] for task in run.changed()[drift.host]} == {f"fpga.hybrid.{drift.role}"}
