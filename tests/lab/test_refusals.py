# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot work is refused by name before anything is changed, and once it is mended the next run just goes on."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.lab.site import CACHE, Run, lab, on, playbook

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LOCK = "/etc/fpga-hybrid/lock"


@dataclass(frozen=True)
class Refusal:
    """Extra variables that cannot work, and what the refusal says: each of these words."""

    variables: dict
    words: tuple[str, ...]


DECLARED = {
    "overlapping networks": Refusal({"cluster_pod_network": "172.27.0.0/16"}, ("cluster_vpn_network", "overlaps cluster_pod_network 172.27.0.0/16")),
    "an unknown minor": Refusal({"cluster_kubernetes_version": "1.29"}, ("cluster_kubernetes_version", "1.35", "1.37")),
    "another version than the recorded one": Refusal({"cluster_kubernetes_version": "1.36.4"}, ("cluster_kubernetes_version", "1.36.3", "upgrade")),
    "a CNI version that does not fit": Refusal({"cluster_calico_version": "v3.30.7"}, ("cluster_calico_version", "v3.30.7")),
    "a runtime that nobody knows": Refusal({"cluster_container_runtime": "crio"}, ("cluster_container_runtime", "containerd or docker")),
    "Docker as the runtime with a mirror of images": Refusal(
        {"cluster_container_runtime": "docker"}, ("cluster_mirrors.images", "where Docker is the runtime")
    ),
    "a pod network that the living cluster does not have": Refusal(
        {"cluster_pod_network": "10.243.0.0/16"}, ("cp1, cluster_pod_network: the cluster has 10.244.0.0/16",)
    ),
    "an endpoint that is no name": Refusal({"cluster_control_plane_endpoint": "https://api"}, ("cluster_control_plane_endpoint", "'https://api'")),
    "a proxy's password": Refusal({"cluster_proxy": {"http": "http://user:planted@proxy:3128"}}, ("cluster_proxy.http: found credentials",)),
    "an address twice": Refusal({"vpn_address": "172.27.224.1"}, ("vpn_address", "which cp1 has as well")),
    "a mirror that is down": Refusal({"cluster_mirrors": {"kubernetes": {"url": "https://depot:9"}}}, ("worker1, cluster_mirrors.kubernetes", "refused")),
}


def refused(run: Run, *words: str) -> None:
    assert run.status != 0, run.output[-3000:]
    assert [word for word in words if word not in run.output] == [], run.output[-6000:]
    assert run.changed() == {}


@pytest.mark.parametrize("name", DECLARED)
def test_a_declaration_that_cannot_work_is_refused_by_its_variable(name):
    refused(playbook("site", "-e", json.dumps(DECLARED[name].variables)), *DECLARED[name].words)


def test_a_mirror_that_wants_another_login_is_refused_by_its_variable():
    mirror = {"url": "https://depot/kubernetes", "ca": (CACHE / "depot" / "tls" / "ca.crt").read_text(), "username": "lab", "password": "wrong"}
    run = playbook("site", "-e", json.dumps({"cluster_mirrors": {"kubernetes": mirror}}))
    refused(run, "worker1, cluster_mirrors.kubernetes", "https://depot/kubernetes", "answers 401")


@contextmanager
def broken(host: str, break_it: str, mend_it: str):
    on(host, break_it)
    try:
        yield
    finally:
        on(host, mend_it)


# What a cluster says of itself is asked where the record is lost.
PATCH = "kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system patch configmap fpga-hybrid --type=merge -p"
NAME_ANOTHER = f"""{PATCH} '{{"data": {{"cluster_id": "11111111-2222-4333-8444-555555555555"}}}}'"""
NAME_OURS = rf'{PATCH} "{{\"data\": {{\"cluster_id\": \"$(grep -oE "[0-9a-f-]{{36}}" /etc/fpga-hybrid/cluster.json)\"}}}}"'

HOSTS = {
    "no /dev/net/tun": ("worker1", "mv /dev/net/tun /dev/net/tun.away", "mv /dev/net/tun.away /dev/net/tun", ("worker1, /dev/net/tun",)),
    "an operating system that is not supported": (
        "worker3",
        "cp -L /etc/os-release /run/os-release && rm /etc/os-release && sed 's/^ID=.*/ID=arch/' /run/os-release > /etc/os-release",
        "cp /run/os-release /etc/os-release",
        ("worker3, operating system", "Debian 12 or 13"),
    ),
    "a node of another cluster": (
        "worker1",
        (
            "cp -a /etc/fpga-hybrid/node.json /run/node.json && "
            'sed -i \'s/"cluster_id": "[^"]*"/"cluster_id": "11111111-2222-4333-8444-555555555555"/\' /etc/fpga-hybrid/node.json'
        ),
        "cp -a /run/node.json /etc/fpga-hybrid/node.json",
        ("worker1, cluster_id", "11111111-2222-4333-8444-555555555555"),
    ),
    "somebody else's device of the tunnel's name on a worker": (
        "worker1",
        "systemctl stop openvpn-client@fpga-hybrid && ip link delete tun0 && ip tuntap add dev tun0 mode tap",
        "ip link delete tun0; systemctl start openvpn-client@fpga-hybrid",
        ("worker1, cluster_vpn_device", "another kind (tap"),
    ),
    "a control plane that another cluster's run has made": (
        "cp1",
        f"mv /etc/fpga-hybrid/record.json /run/ && {NAME_ANOTHER}",
        f"mv /run/record.json /etc/fpga-hybrid/; {NAME_OURS}",
        ("cp1, Kubernetes: it is the control plane of the cluster with id 11111111-2222-4333-8444-555555555555",),
    ),
    "a control plane whose cluster.json is lost": (
        "cp1",
        "mv /etc/fpga-hybrid/cluster.json /run/",
        "mv /run/cluster.json /etc/fpga-hybrid/",
        ("cp1, /etc/fpga-hybrid/cluster.json: none, beside the control plane", "get configmap fpga-hybrid"),
    ),
    "a stranger on the kubelet's port of the VPN": (
        "cp1",
        (
            "systemctl stop openvpn-server@fpga-hybrid && systemd-run --quiet --unit=stranger python3 -c "
            "'import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"\", 1194)); time.sleep(600)' && sleep 1"
        ),
        "systemctl stop stranger; systemctl start openvpn-server@fpga-hybrid",
        ("cp1, port 1194/udp", "python3 listens there"),
    ),
}


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_that_cannot_work_is_refused_by_its_name(name):
    host, break_it, mend_it, words = HOSTS[name]
    with broken(host, break_it, mend_it):
        refused(playbook("site"), *words)
    assert playbook("site").check().changed() == {}


def test_a_time_source_that_lies_is_refused_on_every_host_that_asks_it():
    lab("depot", "clock", "3600")
    try:
        time.sleep(1)
        refused(playbook("preflight"), "worker1, clock", "worker2, clock", "behind time server depot")
    finally:
        lab("depot", "clock", "0")


def test_a_second_run_is_refused_while_another_controller_holds_the_lock():
    holder = {"machine_id": "m", "boot_id": "b", "pid_namespace": "n", "pid": 4711, "pid_started": 1, "user": "maria", "controller": "awx"}
    lock = {"holder": holder, "started": time.time() - 60, "expires": time.time() + 3600}
    on("cp1", f"install -m 600 /dev/null {LOCK} && echo '{json.dumps(lock)}' > {LOCK}")
    try:
        refused(playbook("site"), "maria@awx:4711", "-e break_lock=maria@awx:4711")
        refused(playbook("site", "-e", "break_lock=somebody"), "maria@awx:4711")
    finally:
        on("cp1", f"rm {LOCK}")


def test_a_manifest_whose_checksum_differs_is_refused():
    """Found only when the file is fetched, so the run got as far as the control plane; nothing there had to be changed."""
    run = playbook("site", "-e", f"cni_calico_manifest_checksum=sha256:{'0' * 64}")
    refused(run, "cni_calico_manifest_checksum", "0" * 64)
