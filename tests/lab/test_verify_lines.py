# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each line of the verify table is seen failing: a test breaks that thing on the running lab, looks at the table, and mends it.

A line that cannot fail proves nothing. What cannot be broken here without waiting a year (an expired certificate) is broken in
tests/unit; `versions` and `join tokens` are information and never fail. What is paid for by the hour has lines where there is keeper, which this lab has not:
tests/unit/plugins/module_utils/test__verify_pools.py sees each of those fail.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _verify
from tests.lab.site import on, playbook, verify

pytestmark = [pytest.mark.lab, pytest.mark.slow]

NODES = ("cp1", "worker1", "worker2", "worker3")
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
Failure = tuple[str, str, str]  # check, node, peer


def pairs(check: str, *, of: str) -> set[Failure]:
    """That check between a node and every other, in both directions."""
    others = [node for node in NODES if node != of]
    return {(check, of, other) for other in others} | {(check, other, of) for other in others}


def each(check: str, *nodes: str) -> set[Failure]:
    return {(check, node, "") for node in nodes or NODES}


def firewall(host: str, rule: str) -> None:
    """A table of the test's own in the host's network namespace, with nft of the machine (hosts need not have it)."""
    hook, _space, match = rule.partition(" ")
    text = f"table inet fpgahtest {{ chain c {{ type filter hook {hook} priority -300; {match}; }}; }}\n"
    namespace(host, "nft", "-f", "-", stdin=text)


def mend_firewall(host: str) -> None:
    namespace(host, "nft", "delete", "table", "inet", "fpgahtest")


def namespace(host: str, *command: str, stdin: str = "") -> None:
    pid = subprocess.run(["podman", "inspect", "--format", "{{.State.Pid}}", f"fpga-hybrid-{host}"], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["nsenter", "-t", pid, "-n", *command], input=stdin, text=True, check=True)


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(1)


def ready(node: str) -> str:
    return on("cp1", KUBECTL + " get node " + node + """ -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}'""", check=False)


def all_well() -> bool:
    coredns = on("cp1", f"{KUBECTL} -n kube-system get deployment coredns -o jsonpath='{{.status.readyReplicas}}'", check=False)
    return coredns.isdigit() and int(coredns) > 0 and all(ready(node) == "True" for node in NODES)


@dataclass(frozen=True)
class Breakage:
    """What is done to the lab and undone again; which lines must fail, and which may because they hang on the same thing."""

    name: str
    must: set[Failure]
    breaks: tuple[tuple[str, str], ...] = ()  # (host, shell command)
    mends: tuple[tuple[str, str], ...] = ()
    rules: tuple[tuple[str, str], ...] = ()  # (host, "hook match verdict")
    waits: Callable[[], bool] | None = None
    arguments: tuple[str, ...] = ()
    may: Callable[[Failure], bool] = field(default=lambda _failure: False)


def touches(node: str, *checks: str) -> Callable[[Failure], bool]:
    return lambda failure: failure[0] in checks and node in failure[1:]


KUBELET_FILES = "/etc/default/kubelet /var/lib/kubelet/kubeadm-flags.env /etc/systemd/system/kubelet.service.d/*.conf"
OTHER_ADDRESS = f"""
for file in {KUBELET_FILES}; do
    [ ! -e $file ] || sed -i.fpgahtest 's/--node-ip=[0-9.]*/--node-ip=10.203.10.14/' $file
done
systemctl daemon-reload
systemctl restart kubelet
"""
DECLARED_ADDRESS = f"""
for file in {KUBELET_FILES}; do
    [ ! -e $file.fpgahtest ] || mv $file.fpgahtest $file
done
systemctl daemon-reload
systemctl restart kubelet
"""
# Without an answer from every API there is, the control plane cannot know whether a namespace is empty.
DEAD_API = json.dumps(
    {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1.fpgahtest.example"},
        "spec": {
            "group": "fpgahtest.example",
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": "none", "namespace": "default"},
        },
    }
)

BREAKAGES = [
    Breakage("a host that Ansible cannot reach", must=each("host reached", "worker3"), rules=(("worker3", "input tcp dport 22 reject with tcp reset"),)),
    Breakage("an API server that refuses", must=each("API server", "cp1"), rules=(("cp1", "output tcp dport 6443 reject with tcp reset"),)),
    Breakage(
        "a kubelet that stands",
        must=each("node Ready", "worker3") | each("probe pod", "worker3") | each("logs", "worker3") | each("exec", "worker3"),
        breaks=(("worker3", "systemctl stop kubelet"),),
        mends=(("worker3", "systemctl start kubelet"),),
        waits=lambda: ready("worker3") != "True",
    ),
    Breakage(
        "a node under another address than declared",
        must=each("InternalIP", "worker3"),
        breaks=(("worker3", OTHER_ADDRESS),),
        mends=(("worker3", DECLARED_ADDRESS),),
        waits=lambda: "10.203.10.14" in on("cp1", f"{KUBECTL} get node worker3 -o jsonpath='{{.status.addresses}}'", check=False),
        # Calico's address is then another one than the node's, and its own pods start anew
        may=lambda failure: "worker3" in failure[1:],
    ),
    Breakage(
        "Calico under another address than the node",
        must=each("Calico address", "worker3"),
        breaks=(("cp1", f"{KUBECTL} annotate node worker3 --overwrite projectcalico.org/IPv4Address=10.203.10.14/24"),),
        mends=(("cp1", f"{KUBECTL} annotate node worker3 --overwrite projectcalico.org/IPv4Address=172.27.224.14/20"),),
        # the other nodes send to the wrong address now
        may=touches("worker3", "DF ping", "DNS", "Service", "fragments"),
    ),
    Breakage(
        "OpenVPN stopped at the other site",
        must=each("VPN", "worker2") | each("logs", "worker2") | each("exec", "worker2"),
        breaks=(("worker2", "systemctl stop openvpn-client@fpga-hybrid"),),
        mends=(("worker2", "systemctl start openvpn-client@fpga-hybrid"),),
        may=lambda failure: "worker2" in failure[1:],
    ),
    Breakage(
        "OpenVPN stopped at the server",
        must=each("VPN"),
        breaks=(("cp1", "systemctl stop openvpn-server@fpga-hybrid"),),
        mends=(("cp1", "systemctl start openvpn-server@fpga-hybrid"),),
        may=lambda _failure: True,
    ),
    Breakage("pods that cannot start", must=each("probe pod"), arguments=("-e", "verify_probe_image=registry.k8s.io/no-such-image:1")),
    Breakage(
        "a path that carries less than the pod MTU",
        must=pairs("DF ping", of="worker2"),
        rules=(("worker2", "input udp dport 4789 meta length > 1300 drop"),),
    ),
    Breakage(
        "a pod MTU that is larger than declared",
        must={("DF ping", node, peer) for node in NODES for peer in NODES if node != peer},
        arguments=("-e", '{"cluster_vpn_mtu": 1380}'),
    ),
    Breakage(
        "a tunnel with a smaller MTU, so that packets are split",
        must=each("fragments", "worker2"),
        breaks=(("worker2", "ip link set tun0 mtu 1300"),),
        mends=(("worker2", "ip link set tun0 mtu 1400"),),
        # its peers put the pieces of its answers together again
        may=lambda failure: failure[0] == "fragments",
    ),
    Breakage(
        "a DNS service without endpoints",
        must=each("DNS"),
        breaks=(("cp1", f"{KUBECTL} -n kube-system scale deployment coredns --replicas=0"),),
        mends=(("cp1", f"{KUBECTL} -n kube-system scale deployment coredns --replicas=2"),),
        waits=lambda: on("cp1", f"{KUBECTL} -n kube-system get pods -l k8s-app=kube-dns -o name") == "",
    ),
    Breakage(
        "pods of a node that do not reach the API server",
        must=each("ClusterIP", "worker3"),
        rules=(("worker3", "forward ip saddr 10.244.0.0/16 tcp dport 6443 drop"),),
    ),
    Breakage(
        "a node whose pods reach no Service on another node",
        must={("Service", "worker3", peer) for peer in NODES if peer != "worker3"},
        rules=(("worker3", 'forward iifname "cali*" tcp dport 8099 drop'),),
    ),
    Breakage(
        "a kubelet that the API server does not reach",
        must=each("logs", "worker3") | each("exec", "worker3"),
        rules=(("worker3", "input tcp dport 10250 drop"),),
    ),
    Breakage(
        "a cluster without its record",
        must=each("record", "cp1"),
        breaks=(
            ("cp1", f"{KUBECTL} -n kube-system get configmap fpga-hybrid -o json > /root/fpgahtest-record.json"),
            ("cp1", f"{KUBECTL} -n kube-system delete configmap fpga-hybrid"),
        ),
        mends=(("cp1", f"{KUBECTL} replace --force -f /root/fpgahtest-record.json && rm /root/fpgahtest-record.json"),),
    ),
    Breakage(
        "a namespace that cannot be removed",
        must=each("clean-up", "cp1"),
        breaks=(("cp1", f"{KUBECTL} apply -f - <<'YAML'\n{DEAD_API}\nYAML"),),
        mends=(("cp1", f"{KUBECTL} delete apiservice v1.fpgahtest.example"),),
    ),
]


@contextmanager
def broken(breakage: Breakage) -> Iterator[None]:
    done_rules = []
    try:
        for host, command in breakage.breaks:
            on(host, command)
        for host, rule in breakage.rules:
            firewall(host, rule)
            done_rules.append(host)
        if breakage.waits:
            until(breakage.waits, 90, breakage.name)
        yield
    finally:
        for host in done_rules:
            mend_firewall(host)
        for host, command in breakage.mends:
            on(host, command)
        until(all_well, 150, "the cluster is well again")


def failures(report: dict) -> set[Failure]:
    return {(line["check"], line["node"], line["peer"]) for line in report["lines"] if line["ok"] is False}


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name.replace(" ", "-"))
def test_exactly_the_line_of_what_is_broken_fails(breakage: Breakage):
    with broken(breakage):
        report = verify(*breakage.arguments)
    found = failures(report)
    assert breakage.must <= found, report["output"][-6000:]
    assert {failure for failure in found - breakage.must if not breakage.may(failure)} == set()
    assert report["status"] != 0
    assert all(line["remedy"] for line in report["lines"] if line["ok"] is False)


def test_every_check_that_can_fail_is_broken_above():
    """A line that is added to the table must be added here."""
    seen = {check for breakage in BREAKAGES for check, _node, _peer in breakage.must}
    assert set(_verify.ORDER) - seen == {_verify.VERSIONS, _verify.TOKENS, _verify.CERTIFICATES, *_verify.ABOUT_POOLS}


def test_a_whole_cluster_passes_and_nothing_is_changed():
    report = verify()
    assert failures(report) == set()
    assert not [line for line in report["lines"] if line["check"] in _verify.ABOUT_POOLS], "lines about pools, and there are none"
    assert report["status"] == 0
    assert report["changed"] == {}
    assert on("cp1", f"{KUBECTL} get namespace fpga-hybrid-verify --ignore-not-found") == ""


def test_what_a_killed_run_left_is_removed_by_the_next():
    on("cp1", f"{KUBECTL} create namespace fpga-hybrid-verify && {KUBECTL} -n fpga-hybrid-verify create configmap left-over")
    assert failures(verify()) == set()
    assert on("cp1", f"{KUBECTL} get namespace fpga-hybrid-verify --ignore-not-found") == ""


@pytest.mark.parametrize("limit", ["worker1", "cp1", "worker2,worker3"])
def test_a_limit_judges_only_its_hosts(limit: str):
    report = verify("--limit", limit)
    assert failures(report) == set()
    about_hosts = {line["node"] for line in report["lines"] if line["check"] in {"node Ready", "DF ping", "VPN"}}
    assert about_hosts == set(limit.split(","))


def test_check_mode_makes_no_pods_and_judges_the_rest():
    run = playbook("verify", "--check").check()
    assert "check mode makes no probe pods" in run.output
    assert run.changed() == {}
