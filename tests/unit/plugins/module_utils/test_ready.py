# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps nodes from taking pods."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl
from ansible_collections.fpga.hybrid.plugins.module_utils._ready import network_troubles, node_troubles
from ansible_collections.fpga.hybrid.plugins.modules import cluster_ready


def node(name: str, ready: str = "True", message: str = "kubelet is posting ready status") -> dict:
    return {"kind": "Node", "metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready, "message": message}]}}


def pod(on: str | None, *, ready: bool = True, waiting: str = "") -> dict:
    container = {"name": "calico-node", "ready": ready, "state": {"waiting": {"reason": waiting}} if waiting else {"running": {}}}
    return {
        "kind": "Pod",
        "metadata": {"name": f"calico-node-{on}", "namespace": "kube-system"},
        "spec": {"nodeName": on},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}], "containerStatuses": [container]},
    }


def test_nodes_that_are_ready_are_nobody_s_trouble():
    assert node_troubles(["a", "b"], [node("a"), node("b"), node("of-another-run", "False")]) == []


def test_a_node_that_is_not_ready_says_why_and_one_that_never_joined_is_named():
    found = node_troubles(["a", "b", "c"], [node("a", "False", "cni plugin not initialized"), {"metadata": {"name": "b"}, "status": {}}])
    assert found == [
        "a is not Ready: cni plugin not initialized",
        "b is not Ready: its kubelet has said nothing yet",
        "c has no Node object: it has not joined",
    ]


def test_a_pod_of_the_network_on_another_node_does_not_count():
    assert network_troubles(["a"], [pod("b")]) == ["a has no ready pod of the pod network"]
    assert network_troubles(["a"], [pod("b"), pod("a")]) == []


def test_a_pod_that_cannot_pull_its_image_is_shown_with_kubernetes_reason():
    assert network_troubles(["a"], [pod("a", ready=False, waiting="ImagePullBackOff")]) == [
        "kube-system/calico-node-a on a is Running: calico-node: ImagePullBackOff",
    ]


class ApiServer:
    """kubectl's answers, in turn; the last one stays."""

    def __init__(self, *answers: list[dict] | str) -> None:
        self.answers = list(answers)

    def __call__(self, argv, data=None, pass_fds=()):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return (1, "", answer) if isinstance(answer, str) else (0, json.dumps({"kind": "List", "items": answer}), "")


def test_an_api_server_that_does_not_answer_now_is_one_more_thing_to_wait_for():
    server = ApiServer("The connection to the server was refused", [node("a")], [pod("a")])
    assert "connection to the server was refused" in cluster_ready.look(Kubectl(server), ["a"], "k8s-app=calico-node")[0]
    assert cluster_ready.look(Kubectl(server), ["a"], "k8s-app=calico-node") == []


class Ended(Exception):
    pass


def play(monkeypatch, server, **parameters):
    """Runs the module; returns (failed?, its result). Any file that is there stands for the kubeconfig."""
    parameters.setdefault("kubeconfig", __file__)
    monkeypatch.setattr(cluster_ready, "run", server)
    monkeypatch.setattr(cluster_ready, "EVERY", 0)
    ended = []

    def end(failed):
        def record(module, **result):
            ended.append((failed, result))
            raise Ended

        return record

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", end(False))
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", end(True))
    with patch_module_args(parameters), pytest.raises(Ended):
        cluster_ready.main()
    return ended[0]


def test_it_waits_until_all_is_well(monkeypatch):
    server = ApiServer([node("a", "False")], [node("a")], [pod("a", ready=False)], [node("a")], [pod("a")])
    assert play(monkeypatch, server, nodes=["a"], network_pods="k8s-app=calico-node") == (False, {"changed": False, "missing": []})


def test_when_the_time_is_over_everything_missing_is_said(monkeypatch):
    failed, result = play(monkeypatch, ApiServer([node("a", "False", "no network")]), nodes=["a", "b"], timeout=0)
    assert failed
    assert result["msg"].startswith(
        "Not every node takes pods after 0 s:\n  a is not Ready: no network\n  b has no Node object: it has not joined\nverify.yml says"
    )


def test_a_check_looks_once_and_never_fails(monkeypatch):
    failed, result = play(monkeypatch, ApiServer([node("a", "False", "no network")]), nodes=["a"], _ansible_check_mode=True)
    assert (failed, result["missing"]) == (False, ["a is not Ready: no network"])


def test_without_a_control_plane_there_is_nothing_to_wait_for(monkeypatch):
    assert play(monkeypatch, ApiServer("never asked"), nodes=["a"], kubeconfig="/nowhere/admin.conf") == (False, {"changed": False, "missing": []})
