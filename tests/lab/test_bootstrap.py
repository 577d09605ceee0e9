# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On-prem joins through bootstrap on the lab: worker3 is taken out and comes back, also when its join is killed; then by hand, as in the tutorial."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from tests.lab.site import ROOT, on, playbook

pytestmark = [pytest.mark.lab, pytest.mark.slow]

HOST = "worker3"
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
PROGRAM = "/opt/fpga-hybrid/bin/fpga-hybrid-bootstrap"
STATUS = "/var/lib/fpga-hybrid/bootstrap.json"


def leave() -> None:
    """As after kubeadm reset and the removal of the Node: the host is a worker no more, all of our files but kubeadm's stay."""
    on(HOST, "kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock >/dev/null 2>&1; rm -rf /etc/cni/net.d/*")
    on("cp1", f"{KUBECTL} delete node {HOST} --ignore-not-found")


def come_back() -> None:
    playbook("site").check()


def node() -> dict:
    found = on("cp1", f"{KUBECTL} get node {HOST} -o json --ignore-not-found")
    return json.loads(found) if found else {}


def is_ready() -> bool:
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in node().get("status", {}).get("conditions", []))


def status() -> dict:
    return json.loads(on(HOST, f"cat {STATUS}"))


@pytest.fixture
def left():
    leave()
    yield
    if not is_ready():
        come_back()


def test_a_worker_joins_through_bootstrap_and_a_second_run_changes_nothing(left):
    run = playbook("site").check()
    assert "Join the cluster" in " ".join(run.changed()[HOST])
    found = status()
    assert (found["state"], found["node_name"], found["failure"]) == ("joined", HOST, None)
    assert [step["name"] for step in found["steps"]] == ["identify", "capacity", "bundle", "vpn", "hosts", "cluster", "join", "ready"]
    # Roles openvpn and host were there before: bootstrap found the VPN up and the name known.
    assert found["changes"] == ["kubeadm join"]
    assert node()["spec"]["providerID"] == f"fpga-hybrid:///lab/{HOST}"
    before = on(HOST, f"cat {STATUS}; systemctl show --property=ExecMainStartTimestampMonotonic kubelet")
    assert playbook("site").check().changed() == {}
    assert on(HOST, f"cat {STATUS}; systemctl show --property=ExecMainStartTimestampMonotonic kubelet") == before


def test_no_secret_of_a_join_stays_on_the_host(left):
    come_back()
    left_there = on(HOST, "ls /run/fpga-hybrid").split()
    assert [name for name in left_there if not name.endswith(".lock")] == []
    tokens = on("cp1", f"{KUBECTL} -n kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token -o json")
    secrets = [on("cp1", f"echo {item['data']['token-secret']} | base64 -d") for item in json.loads(tokens)["items"]]
    assert secrets
    for secret in secrets:
        # In brackets, so that the search does not find itself.
        pattern = f"[{secret[0]}]{secret[1:]}"
        assert on(HOST, f"grep -rIl '{pattern}' /etc /run /var/lib/fpga-hybrid /var/log /root 2>/dev/null; journalctl | grep -c '{pattern}'", check=False) in (
            "0",
            "",
        )


@pytest.mark.parametrize("moment", ["kubeadm join", "kubelet.conf"])
def test_a_join_killed_in_the_middle_is_taken_up_by_the_next_run(left, moment):
    """The program and its kubeadm die with kill -9, as at a power cut; once while kubeadm works, once when it has just written the kubelet's own identity."""
    condition = "pgrep -f '[k]ubeadm join'" if moment == "kubeadm join" else "test -e /etc/kubernetes/kubelet.conf"
    killer = f"until {condition} >/dev/null; do sleep 0.02; done; pkill -9 -f '[f]pga-hybrid-bootstrap'; pkill -9 -f '[k]ubeadm join'"
    waiting = subprocess.Popen([ROOT / "lab" / "lab", "host", "exec", HOST, "--", "timeout", "300", "sh", "-c", killer])
    failed = playbook("site", "--limit", f"control_plane,vpn_server,{HOST}")
    waiting.wait(timeout=60)
    assert failed.status != 0
    assert "gave no answer" in failed.output
    come_back()
    assert status()["state"] == "joined" or moment == "kubelet.conf"
    assert node()["spec"]["providerID"] == f"fpga-hybrid:///lab/{HOST}"
    assert playbook("site").check().changed() == {}


def test_a_play_that_is_killed_leaves_a_join_that_goes_on(left):
    """The play dies, bootstrap does not; the next play waits for it and finds a node."""
    process = subprocess.Popen(
        ["ansible-playbook", "site.yml", "--limit", f"control_plane,vpn_server,{HOST}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # On the host itself: a join is over in seconds.
    on(HOST, "timeout 300 sh -c \"until pgrep -f '[f]pga-hybrid-bootstrap' >/dev/null; do sleep 0.02; done\"")
    process.kill()
    process.wait()
    come_back()
    assert status()["state"] == "joined"


def test_by_hand_with_the_tutorials_options_it_joins_too(left):
    """A token from kubeadm, the profile of the VPN's authority; secrets in files. It waits for Ready."""
    command = on("cp1", "kubeadm token create --ttl 10m --print-join-command").split()
    endpoint, token, pin = command[2], command[command.index("--token") + 1], command[command.index("--discovery-token-ca-cert-hash") + 1]
    on(HOST, f"umask 077; echo {token} > /root/token; cp /etc/openvpn/client/fpga-hybrid.conf /root/worker.ovpn")
    arguments = f"--apiserver-endpoint {endpoint} --discovery-token-ca-cert-hash {pin} --token @/root/token --openvpn-config /root/worker.ovpn"
    try:
        # With node.json, which says that a check of kubeadm's may fail in a container.
        join = f"{PROGRAM} --config /etc/fpga-hybrid/node.json {arguments} --node-name {HOST}"
        printed = on(HOST, f"{join} --labels inaccel/fpga=enabled 2>/root/log || cat /root/log")
        assert json.loads(printed)["state"] == "joined", printed
        assert node()["metadata"]["labels"]["inaccel/fpga"] == "enabled"
        assert is_ready()
        again = json.loads(on(HOST, f"{join} 2>/dev/null"))
        assert (again["state"], again["changes"]) == ("joined", [])
    finally:
        on(HOST, "rm -f /root/token /root/worker.ovpn /root/log")
        come_back()  # the profile was adapted, as a foreign one would be


def test_a_dry_run_is_quick_and_changes_nothing(left):
    """Its own share of a join, without kubeadm's and OpenVPN's: what the promise of 1.3 times the bare commands has to hold with."""
    command = on("cp1", "kubeadm token create --ttl 10m --print-join-command").split()
    endpoint, token, pin = command[2], command[command.index("--token") + 1], command[command.index("--discovery-token-ca-cert-hash") + 1]
    on(HOST, f"umask 077; echo {token} > /root/token")
    arguments = f"--apiserver-endpoint {endpoint} --discovery-token-ca-cert-hash {pin} --token @/root/token --node-name {HOST}"
    before = on(HOST, "find /etc /var/lib/fpga-hybrid -type f -newermt '1 minute ago' | sort")
    started = time.monotonic()
    planned = json.loads(on(HOST, f"{PROGRAM} --config /etc/fpga-hybrid/node.json {arguments} --dry-run 2>/dev/null"))
    seconds = time.monotonic() - started
    on(HOST, "rm /root/token")
    assert planned["changes"] == ["kubeadm join"]
    assert planned["join_configuration"][0]["nodeRegistration"]["name"] == HOST
    assert token not in json.dumps(planned)
    assert on(HOST, "find /etc /var/lib/fpga-hybrid -type f -newermt '1 minute ago' | sort") == before
    assert seconds < 5
