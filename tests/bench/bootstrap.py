# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-bootstrap`: a join by fpga-hybrid-bootstrap against the bare commands (openvpn, kubeadm join, waiting for Ready), on the same host in one run.

Machines are noisy, so the figure is the ratio. Each contender begins where an instance begins: packages and images are there, the tunnel is down, and the host
is no node. Takes worker3 of the running lab out of its cluster and back; site.yml at the end makes it what it was.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

from tests.lab.site import on, playbook

GOAL = 1.3
HOST = "worker3"
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
PROGRAM = "/opt/fpga-hybrid/bin/fpga-hybrid-bootstrap"
UNIT = "openvpn-client@fpga-hybrid"
PROFILE = "/etc/openvpn/client/fpga-hybrid.conf"
API = "172.27.224.1"

JOIN = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken: {{apiServerEndpoint: "{endpoint}", token: "{token}", caCertHashes: ["{pin}"]}}
nodeRegistration:
  name: {host}
  criSocket: unix:///run/containerd/containerd.sock
  ignorePreflightErrors: [SystemVerification]
  kubeletExtraArgs: [{{name: node-ip, value: "{address}"}}, {{name: provider-id, value: "fpga-hybrid:///lab/{host}"}}]
"""
#: What a person in a hurry would type, with nothing but the waiting that it takes.
BARE = f"""\
systemctl start {UNIT}
until ping -c 1 -W 1 {API} >/dev/null 2>&1; do sleep 0.1; done
kubeadm join --config /root/bench.yaml >/root/bench.log 2>&1
ready='{{.status.conditions[?(@.type=="Ready")].status}}'
until kubectl --kubeconfig /etc/kubernetes/kubelet.conf get node {HOST} -o jsonpath="$ready" 2>/dev/null | grep -q True; do sleep 0.1; done
"""


def begin() -> dict[str, str]:
    """The host as an instance finds itself; a token for its join."""
    on(HOST, f"kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock >/dev/null 2>&1; rm -rf /etc/cni/net.d/*; systemctl stop {UNIT}")
    on("cp1", f"{KUBECTL} delete node {HOST} --ignore-not-found")
    words = on("cp1", "kubeadm token create --ttl 10m --print-join-command").split()
    token, pin = words[words.index("--token") + 1], words[words.index("--discovery-token-ca-cert-hash") + 1]
    return {"endpoint": words[2], "token": token, "pin": pin}


def timed(script: str) -> float:
    """Seconds that it took, by the host's own clock."""
    printed = on(HOST, f"set -e; begun=$(date +%s.%N)\n{script}\necho; echo $begun $(date +%s.%N)")
    begun, ended = printed.splitlines()[-1].split()
    return float(ended) - float(begun)


def put(path: str, text: str) -> None:
    """By standard input: a command line is for everybody to read."""
    on(HOST, f"umask 077; cat > {path}", stdin=text)


def bare(given: dict[str, str], address: str) -> float:
    put("/root/bench.yaml", JOIN.format(host=HOST, address=address, **given))
    return timed(BARE)


def bootstrap(given: dict[str, str], _address: str) -> float:
    put("/root/bench.token", given["token"])
    on(HOST, f"umask 077; cp {PROFILE} /root/bench.ovpn")
    arguments = f"--apiserver-endpoint {given['endpoint']} --discovery-token-ca-cert-hash {given['pin']} --token @/root/bench.token"
    options = f"--config /etc/fpga-hybrid/node.json --openvpn-config /root/bench.ovpn --node-name {HOST}"
    return timed(f"{PROGRAM} {options} {arguments} >/root/bench.log 2>&1")


CONTENDERS: dict[str, Callable[[dict[str, str], str], float]] = {"bare": bare, "bootstrap": bootstrap}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    address = on("cp1", f"{KUBECTL} get node {HOST} -o jsonpath='{{.status.addresses[?(@.type==\"InternalIP\")].address}}'")
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    try:
        for _ in range(rounds):
            for name, contender in CONTENDERS.items():
                given: Any = begin()
                seconds[name].append(contender(given, address))
                print(f"{name:<10} {seconds[name][-1]:6.1f} s", flush=True)
    finally:
        on(HOST, "rm -f /root/bench.*", check=False)
        playbook("site").check()
    ratio = statistics.median(seconds["bootstrap"]) / statistics.median(seconds["bare"])
    print(f"bootstrap / bare = {ratio:.2f} (goal: at most {GOAL})")
    if ratio > GOAL:
        sys.exit(1)


if __name__ == "__main__":
    main()
