# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verify table's questions to the API server, answered by a cluster that is a few dictionaries."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from ansible_collections.fpga.hybrid.plugins.action import verify_report
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify as verify
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify_cluster as cluster
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl
from ansible_collections.fpga.hybrid.plugins.module_utils._verify import Line


def a_node(name: str, ready: bool = True, images: tuple[str, ...] = ("registry.k8s.io/pause:3.10.2",), zone: str = "") -> dict:
    return {
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone} if zone else {}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
            "addresses": [{"type": "InternalIP", "address": f"172.27.224.{len(name)}"}],
            "images": [{"names": [f"{image.split(':')[0]}@sha256:00", image]} for image in images],
            "nodeInfo": {"kubeletVersion": "v1.36.3", "containerRuntimeVersion": "containerd://2.4.2", "osImage": "Debian 12"},
        },
    }


@dataclass
class FakeKubectl(Kubectl):
    """Answers as a cluster would in which every pod of a Ready node runs at the second look."""

    nodes: dict[str, dict]
    left_over: bool = False
    broken: tuple[str, ...] = ()  # pods whose kubelet does not answer
    proxies: dict[str, str] = field(default_factory=dict)
    record: dict | None = field(default_factory=lambda: {"data": {"cluster_id": "42"}})
    calls: list[tuple[str, ...]] = field(default_factory=list)
    created: dict | None = None
    looks: int = 0

    def within(self, seconds: int) -> FakeKubectl:
        return self

    def try_call(self, *arguments: str, data: str | None = None) -> tuple[int, str, str]:
        self.calls.append(arguments)
        if arguments[-2:] == ("-o", "json"):
            found = self._get(*arguments[1:-2])
            return (0, json.dumps(found), "") if found else (1, "", "Error from server (NotFound): no such thing")
        if arguments[0] == "create":
            assert not self.left_over, "made beside what a killed run left"
            self.created = json.loads(data or "")
        elif arguments[:2] == ("delete", "namespace"):
            self.left_over, self.created = False, None
        elif arguments[:2] == ("get", "--raw"):
            return 0, '{"gitVersion": "v1.36.3"}', ""
        elif arguments[0] in {"logs", "exec"}:
            if arguments[3] in self.broken:
                return 1, "", "error: dial tcp 172.27.224.13:10250:\n  i/o timeout\n"
            return 0, "Kubernetes v1.36.3\n", ""
        return 0, "", ""

    def _get(self, *arguments: str) -> dict | None:
        if arguments[0] == "namespace":
            return {"kind": "Namespace"} if self.left_over or self.created else None
        if arguments[:2] == ("service", "kubernetes"):
            return {"spec": {"clusterIP": "10.96.0.1"}}
        if arguments[:2] == ("service", "kube-dns"):
            return {"spec": {"clusterIP": "10.96.0.10"}}
        if arguments[0] == "configmap":
            return self.record
        return {"kind": "List", "items": self._all(*arguments)}

    def _all(self, *arguments: str) -> list[dict]:
        if arguments[0] == "nodes":
            return list(self.nodes.values())
        if arguments[0] == "services":
            made = [item for item in self.created["items"] if item["kind"] == "Service"]
            return [{"metadata": item["metadata"], "spec": {"clusterIP": f"10.96.1.{number}"}} for number, item in enumerate(made)]
        if arguments[0] == "pods" and cluster.NAMESPACE in arguments:
            self.looks += 1
            return [self._pod(item) for item in self.created["items"] if item["kind"] == "Pod"]
        if arguments[0] == "pods":
            return [{"metadata": {"name": pod}, "spec": {"nodeName": node}} for node, pod in self.proxies.items()]
        if arguments[0] == "secrets":
            return [{}, {}]
        raise AssertionError(arguments)

    def _pod(self, item: dict) -> dict:
        node = item["spec"]["nodeName"]
        running = verify.node_ready(self.nodes[node])[0] and self.looks > 1
        status = (
            {"phase": "Running", "podIP": f"10.244.0.{len(node)}", "conditions": [{"type": "Ready", "status": "True"}]} if running else {"phase": "Pending"}
        )
        return {"metadata": item["metadata"], "spec": item["spec"], "status": status}


def start(kubectl: FakeKubectl, image: str = "", only_checking: bool = False) -> dict:
    inventory = cluster.Inventory({}, [])
    return cluster.start_probes(kubectl, image, 12, 5, inventory=inventory, only_checking=only_checking, sleep=lambda _seconds: None)


def lines(found: list[Line] | list[dict]) -> dict[tuple[str, str], tuple]:
    return {(line.check, line.node): (line.ok, line.found) for line in (Line.from_dict(line) if isinstance(line, dict) else line for line in found)}


# --- sites


@pytest.mark.parametrize(
    ("place", "zone", "site"),
    [
        ("10.203.10.11", "", "10.203.10.0/23"),
        ("10.203.11.12", "", "10.203.10.0/23"),  # another /24 of the same declared network
        ("10.203.20.13", "", "10.203.20.0/24"),
        ("10.203.20.14", "us-east-1a", "us-east-1a"),
        ("bastion.example.org", "", "on-prem"),
        ("", "", "on-prem"),
    ],
)
def test_a_nodes_site_follows_from_its_zone_or_from_where_the_inventory_has_it(place, zone, site):
    inventory = cluster.Inventory({"worker1": place} if place else {}, ["10.203.10.0/23"])
    assert inventory.site_of(a_node("worker1", zone=zone)) == site


def test_in_a_large_cluster_both_sites_of_the_inventory_are_tested_from_every_node():
    """Without labels, which nobody sets on-prem: above full_mesh a second site was no site, and its way to the first was not tested."""
    places = {f"w{number}": f"10.203.{10 if number < 10 else 20}.{number + 20}" for number in range(14)}
    kubectl = FakeKubectl({name: a_node(name) for name in places})
    inventory = cluster.Inventory(places, ["10.203.10.0/24"])
    peers = cluster.start_probes(kubectl, "", 12, 5, inventory=inventory, only_checking=True)["peers"]
    for node, tested in peers.items():
        assert {places[peer].split(".")[2] for peer in tested} == {"10", "20"}, node


# --- probe pods


def test_each_node_gets_a_pod_and_a_service():
    plan = start(FakeKubectl({name: a_node(name) for name in ("cp1", "worker1")}))
    assert plan["pods"] == {"cp1": "10.244.0.3", "worker1": "10.244.0.7"}
    assert plan["services"] == {"cp1": "10.96.1.0", "worker1": "10.96.1.1"}
    assert plan["peers"] == {"cp1": ["worker1"], "worker1": ["cp1"]}
    assert (plan["kubernetes_address"], plan["dns_address"]) == ("10.96.0.1", "10.96.0.10")
    assert {ok for ok, _found in lines(plan["lines"]).values()} == {True}


def test_a_node_that_is_down_fails_alone_and_is_not_waited_for():
    kubectl = FakeKubectl({"cp1": a_node("cp1"), "worker1": a_node("worker1", ready=False)})
    plan = start(kubectl)
    assert plan["pods"] == {"cp1": "10.244.0.3"}
    assert lines(plan["lines"])["probe pod", "worker1"] == (False, "Pending")
    assert kubectl.looks == 2


def test_what_a_killed_run_left_goes_first():
    kubectl = FakeKubectl({"cp1": a_node("cp1")}, left_over=True)
    assert start(kubectl)["pods"]


def test_check_mode_makes_nothing():
    kubectl = FakeKubectl({"cp1": a_node("cp1")}, left_over=True)
    plan = start(kubectl, only_checking=True)
    assert plan["pods"] == {}
    assert lines(plan["lines"])["probe pod", "cp1"][0] is None
    assert {call[0] for call in kubectl.calls} == {"get"}


def test_pods_run_what_their_node_has_already():
    nodes = {
        "a": a_node("a", images=("registry.k8s.io/pause:3.10.1", "registry.k8s.io/kube-proxy:v1.36.3")),
        "b": a_node("b", images=("mirror.example/pause-like:1",)),
        "c": a_node("c", images=("registry.k8s.io/pause:3.10.1",)),
    }
    # b reports none: a busy kubelet names its largest images only
    assert cluster.pause_images(nodes, "x") == dict.fromkeys("abc", "registry.k8s.io/pause:3.10.1")
    assert cluster.pause_images({"b": nodes["b"]}, "x") == {"b": "x"}


def test_a_declared_image_wins():
    kubectl = FakeKubectl({"cp1": a_node("cp1")})
    start(kubectl, image="mirror.example/probe:1")
    assert [item["spec"]["containers"][0]["image"] for item in kubectl.created["items"] if item["kind"] == "Pod"] == ["mirror.example/probe:1"]


def test_probe_pods_pass_the_strictest_pod_security_and_every_taint():
    items = cluster.probe_objects({"cp1": "pause"})["items"]
    pod = next(item for item in items if item["kind"] == "Pod")
    security = pod["spec"]["containers"][0]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["spec"]["tolerations"] == [{"operator": "Exists"}]
    assert "hostNetwork" not in pod["spec"]
    assert pod["spec"]["nodeName"] == "cp1"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"phase": "Pending", "message": "node is out of pods"}, ("", "Pending node is out of pods")),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}}]},
            ("", "ErrImagePull no such host"),
        ),
        ({"podIP": "10.244.0.3", "conditions": [{"type": "Ready", "status": "False"}], "phase": "Running"}, ("", "Running")),
        ({"podIP": "10.244.0.3", "conditions": [{"type": "Ready", "status": "True"}]}, ("10.244.0.3", "")),
    ],
)
def test_why_a_pod_does_not_run(status, expected):
    assert cluster.pod_state({"status": status}) == expected


# --- what the API server says

WANTED = cluster.Wanted(cluster_id="42", versions={"kubernetes": "1.36.3", "calico": "v3.28.5", "tested": True}, cni="none")
NODES = {name: a_node(name) for name in ("cp1", "worker1")}
PROXIES = {"cp1": "kube-proxy-a", "worker1": "kube-proxy-b"}
DECLARED = {"cp1": "172.27.224.3", "worker1": "172.27.224.7"}


def look(kubectl: FakeKubectl, nodes: tuple[str, ...] = (), wanted: cluster.Wanted = WANTED) -> dict:
    return lines(cluster.look(kubectl, "cp1", nodes, DECLARED, wanted))


def test_a_cluster_as_declared():
    found = look(FakeKubectl(NODES, proxies=PROXIES))
    assert {ok for ok, _found in found.values()} == {True, None}
    assert found["versions", "cp1"][1].endswith("this combination: tested")
    assert found["join tokens", "cp1"] == (None, "2 in the cluster")


def test_a_kubelet_that_cannot_be_reached_fails_its_two_lines():
    found = look(FakeKubectl(NODES, proxies=PROXIES, broken=("kube-proxy-b",)))
    assert [key for key, (ok, _found) in found.items() if ok is False] == [("logs", "worker1"), ("exec", "worker1")]
    assert found["exec", "worker1"][1].endswith("error: dial tcp 172.27.224.13:10250: i/o timeout")


def test_a_node_without_kube_proxy_is_said():
    found = look(FakeKubectl(NODES, proxies={"cp1": "kube-proxy-a"}))
    assert found["logs", "worker1"] == (False, "no kube-proxy pod on this node")


def test_a_limit_leaves_other_nodes_alone():
    found = look(FakeKubectl({"cp1": a_node("cp1"), "worker1": a_node("worker1", ready=False)}, proxies=PROXIES), nodes=("cp1",))
    assert ("node Ready", "worker1") not in found
    assert ("node Ready", "cp1") in found


def test_a_node_of_a_pool_is_judged_without_a_declared_address():
    """Instances are in no inventory under --limit and in nobody's declaration."""
    found = look(FakeKubectl({**NODES, "i-0123": a_node("i-0123")}, proxies={**PROXIES, "i-0123": "kube-proxy-c"}))
    assert found["InternalIP", "i-0123"] == (True, "172.27.224.6")
    assert found["logs", "i-0123"][0]


@pytest.mark.parametrize(("record", "found"), [(None, "none"), ({"data": {"cluster_id": "43"}}, "of another cluster (cluster_id)")])
def test_a_missing_or_foreign_record(record, found):
    assert look(FakeKubectl(NODES, proxies=PROXIES, record=record))["record", "cp1"] == (False, found)


def test_versions_that_we_never_ran_are_said_but_do_not_fail():
    for versions in ({"kubernetes": "1.36.3", "tested": False}, {"kubernetes": "1.36.4", "tested": True}):
        line = cluster.judge_versions("cp1", "v1.36.3", [], cluster.Wanted("42", versions, "calico"))
        assert line.ok is None
        assert line.found.endswith("this combination: never run by us")


def test_another_version_than_declared_fails():
    assert cluster.judge_api("cp1", "v1.36.3", "1.36.4").ok is False
    assert cluster.judge_api("cp1", "v1.36.3", "1.36.3").ok


DAY = 86400


@pytest.mark.parametrize(
    ("certificates", "ok", "found"),
    [
        ([("apiserver", 300 * DAY), ("etcd-server", 20 * DAY)], None, "etcd-server ends first, in 20 days"),
        ([("apiserver", -DAY), ("etcd-server", 20 * DAY)], False, "apiserver has expired"),
        ([], None, "kubeadm knows of none"),
    ],
)
def test_certificates(certificates, ok, found):
    text = json.dumps({"certificates": [{"name": name, "residualTime": seconds, "missing": False} for name, seconds in certificates]})
    line = cluster.judge_certificates("cp1", text)
    assert (line.ok, line.found) == (ok, found)


# --- gathering


def test_hosts_and_the_api_server_that_gave_nothing_are_lines():
    node_line = Line("VPN", "worker1", True, "active").as_dict()
    found = verify_report.gather(
        [{"unreachable": True, "msg": "Connection timed out"}, {"lines": []}],
        {"worker1": [{"lines": [node_line]}, {"lines": []}], "worker2": [{"unreachable": True, "msg": "No route to host"}, {}]},
    )
    assert "No route to host" in [line.found for line in found]
    assert [(line.check, line.node, line.ok) for line in found] == [
        ("API server", "control plane", False),
        ("host reached", "worker1", True),
        ("host reached", "worker2", False),
        ("VPN", "worker1", True),
    ]


def test_the_same_line_twice_is_one():
    line = Line("API server", "cp1", False, "no answer", "an answer").as_dict()
    assert len(verify_report.gather([{"lines": [line]}, {"lines": [line]}], {})) == 1
