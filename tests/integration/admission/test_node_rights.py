# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instance may do by its kubelet's certificate, on a real API server with the Node authorizer and NodeRestriction: clear itself, and nobody else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT / "roles/bootstrap/files") not in sys.path:
    sys.path.insert(0, str(ROOT / "roles/bootstrap/files"))

from fpga_hybrid import kube, pods, spot, watch  # noqa: E402
from tests.integration.admission.server import ApiServer  # noqa: E402
from tests.unit.roles.bootstrap.doubles import Authority  # noqa: E402

NODE, OTHER = "i-0000000000000000a", "i-0000000000000000b"
DAEMONSET = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "proxy", "uid": "6c9e8f6a-0000-4000-8000-000000000001", "controller": True}
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def kubelet(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], kube.Api]:
    """The client of a node that has registered itself, as its own kubelet."""
    folder = tmp_path_factory.mktemp("kubelets")

    def client(node: str) -> kube.Api:
        (folder / node).write_text(api.authority.issue(f"system:node:{node}", organisation="system:nodes"))
        return kube.Api(kube.Server.of(api.url.removeprefix("https://")), api.certificate.read_text(), certificate=str(folder / node))

    for node in (NODE, OTHER):
        client(node).request("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    return client


def running(api: ApiServer, name: str, node: str = NODE, **metadata: Any) -> dict[str, Any]:
    """A pod as it runs on a node; without a kubelet that would end it."""
    spec = {"nodeName": node, "containers": [{"name": "main", "image": "none"}], "terminationGracePeriodSeconds": 3600}
    api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec})
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    made = api.ask("GET", f"{PODS}/{name}")[0]
    return api.ask("PUT", f"{PODS}/{name}/status", {**made, "status": status})[0]


def told_to_go(api: ApiServer, name: str) -> bool:
    return "deletionTimestamp" in api.ask("GET", f"{PODS}/{name}")[0]["metadata"]


def interruption(said: list[str], seconds: float = 120) -> spot.Interruption:
    return spot.Interruption(spot.Notice("terminate", ""), NODE, seconds, said.append)


def test_it_cordons_itself_and_evicts_its_own_pods(api: ApiServer, kubelet: Callable[[str], kube.Api]) -> None:
    running(api, "job")
    running(api, "proxy", ownerReferences=[DAEMONSET])
    running(api, "elsewhere", OTHER)
    said: list[str] = []
    interruption(said).step(kubelet(NODE), 0)
    node = api.ask("GET", f"/api/v1/nodes/{NODE}")[0]
    assert node["spec"]["unschedulable"] is True
    assert [told_to_go(api, name) for name in ("job", "proxy", "elsewhere")] == [True, False, False]
    job = api.ask("GET", f"{PODS}/job")[0]
    assert job["metadata"]["deletionGracePeriodSeconds"] == 105
    assert said == [f"cordoned Node {NODE}", "evicted pod default/job"]


def test_a_disruption_budget_is_respected_until_it_lets_go(api: ApiServer, kubelet: Callable[[str], kube.Api]) -> None:
    running(api, "guarded", labels={"app": "guarded"})
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}
    api.ask("POST", budgets, {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": spec})
    said: list[str] = []
    clearing = interruption(said)
    for now in (0, 5, 10):
        clearing.step(kubelet(NODE), now)
    assert not told_to_go(api, "guarded")
    assert len([line for line in said if line.startswith("waiting: pod default/guarded")]) == 1
    assert "disruption budget" in said[-1]
    api.ask("DELETE", f"{budgets}/b")
    clearing.step(kubelet(NODE), 15)
    assert told_to_go(api, "guarded")


def test_another_nodes_pods_and_node_are_not_its_own(api: ApiServer, kubelet: Callable[[str], kube.Api]) -> None:
    theirs = running(api, "theirs", OTHER)
    own = kubelet(NODE)
    with pytest.raises(kube.ForbiddenError):
        own.merge_patch(f"/api/v1/nodes/{OTHER}", {"spec": {"unschedulable": True}})
    with pytest.raises(kube.ForbiddenError):
        own.pods_of(OTHER)
    with pytest.raises(kube.ForbiddenError):
        own.evict("default", "theirs", theirs["metadata"]["uid"])
    assert not told_to_go(api, "theirs")


def test_it_may_not_taint_itself(kubelet: Callable[[str], kube.Api]) -> None:
    """Which is why keeper lifts the startup taint, and why a notice cordons."""
    with pytest.raises(kube.ForbiddenError, match="not allowed to modify taints"):
        kubelet(NODE).merge_patch(f"/api/v1/nodes/{NODE}", {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}})


def test_a_pod_of_the_same_name_that_came_after_it_is_left(api: ApiServer, kubelet: Callable[[str], kube.Api]) -> None:
    running(api, "again")
    with pytest.raises(kube.ConflictError):
        kubelet(NODE).evict("default", "again", "6c9e8f6a-0000-4000-8000-00000000dead")
    assert not told_to_go(api, "again")


@pytest.mark.parametrize("known", [True, False])
def test_the_watch_knows_the_api_server_by_its_answers_also_one_that_does_not_know_it(
    api: ApiServer, kubelet: Callable[[str], kube.Api], tmp_path: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    if known:
        running(api, "of-the-host", ownerReferences=[DAEMONSET])
    files = {
        watch.KUBECONFIG: f"    server: {api.url}\n",
        watch.CA: api.certificate.read_text(),
        kube.CLIENT_CERTIFICATE: (api.authority if known else Authority()).issue(f"system:node:{NODE}", organisation="system:nodes"),
        watch.STATUS: json.dumps({"node_name": NODE}),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    watch.Watch(str(tmp_path), None).look()
    saved = json.loads((tmp_path / watch.STATE).read_text())
    expected = sorted(pods.of_the_host(kubelet(NODE).pods_of(NODE))) if known else []
    assert (saved["gone"], saved["own"]) == (0.0, expected)
    assert bool(expected) is known
