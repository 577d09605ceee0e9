# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import json

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _kubectl as k


def thing(kind, name, **more):
    versions = {"CustomResourceDefinition": "apiextensions.k8s.io/v1", "IPPool": "example.org/v1"}
    return {"apiVersion": versions.get(kind, "v1"), "kind": kind, "metadata": {"name": name}, **more}


class Server:
    """A kubectl with an API behind it: objects by kind and name, and the rule that a kind of ours needs its definition."""

    def __init__(self, *objects):
        self.objects = {(value["kind"], value["metadata"]["name"]): value for value in objects}
        self.calls = []
        self.version = 1

    def knows(self, kind):
        return kind != "IPPool" or ("CustomResourceDefinition", "ippools") in self.objects

    def __call__(self, argv, data=None, pass_fds=()):
        words = [word for word in argv[1:] if not word.startswith("--kubeconfig") and not word.startswith("--request-timeout")]
        words = words[1:] if words[0].startswith("/") else words
        self.calls.append(words)
        verb = words[0]
        items = json.loads(data)["items"] if data else []
        unknown = [item for item in items if not self.knows(item["kind"])]
        if unknown:
            return 1, "", f'error: no matches for kind "{unknown[0]["kind"]}" in version "example.org/v1"'
        if verb == "get":
            found = [self.objects[key] for key in ((item["kind"], item["metadata"]["name"]) for item in items) if key in self.objects]
            return 0, json.dumps({"kind": "List", "items": found}) if found else "", ""
        if verb == "apply":
            return 0, "".join(json.dumps(self.apply(item, dry="--dry-run=server" in words)) for item in items), ""
        return 0, "", ""

    def apply(self, item, *, dry):
        key = (item["kind"], item["metadata"]["name"])
        old = self.objects.get(key, {})
        new = {**copy.deepcopy(old), **item, "metadata": {**old.get("metadata", {}), **item["metadata"]}}
        if new != old:
            self.version += 1
        new["metadata"] = {**new["metadata"], "resourceVersion": str(self.version), "generation": self.version}
        if not dry:
            self.objects[key] = new
        return new

    def applied(self):
        """What was really written, in order."""
        return [words for words in self.calls if words[0] == "apply" and "--dry-run=server" not in words]


def run(server, wanted):
    apply = k.ServerSideApply(k.Kubectl(server))
    plan = apply.plan(wanted)
    apply.apply(wanted, plan)
    return plan


WANTED = [thing("IPPool", "pool", spec={"cidr": "10.0.0.0/8"}), thing("ConfigMap", "a", data={"x": "1"}), thing("CustomResourceDefinition", "ippools")]


def test_on_an_empty_server_everything_is_created_and_definitions_come_first():
    server = Server()
    plan = run(server, WANTED)
    assert plan.created == ["example.org/v1 IPPool pool", "v1 ConfigMap a", "apiextensions.k8s.io/v1 CustomResourceDefinition ippools"]
    assert not plan.updated
    verbs = [words[0] for words in server.calls if words[0] in ("apply", "wait")]
    assert verbs == ["apply", "wait", "apply"]
    assert set(server.objects) == {("IPPool", "pool"), ("ConfigMap", "a"), ("CustomResourceDefinition", "ippools")}


def test_a_second_apply_changes_and_writes_nothing():
    server = Server()
    run(server, WANTED)
    writes = len(server.applied())
    plan = run(server, WANTED)
    assert not plan.changed
    assert len(server.applied()) == writes


def test_only_what_drifted_is_written_and_both_sides_are_shown():
    server = Server()
    run(server, WANTED)
    server.objects[("ConfigMap", "a")]["data"] = {"x": "2"}
    server.calls.clear()
    plan = run(server, WANTED)
    assert (plan.created, plan.updated) == ([], ["v1 ConfigMap a"])
    assert plan.before["v1 ConfigMap a"]["data"] == {"x": "2"}
    assert plan.after["v1 ConfigMap a"]["data"] == {"x": "1"}
    assert len(server.applied()) == 1
    assert server.objects[("ConfigMap", "a")]["data"] == {"x": "1"}


def test_a_plan_alone_writes_nothing():
    server = Server(thing("ConfigMap", "a", data={"x": "2"}))
    before = copy.deepcopy(server.objects)
    plan = k.ServerSideApply(k.Kubectl(server)).plan(WANTED)
    assert plan.changed
    assert server.objects == before
    assert not server.applied()


def test_what_the_server_changes_by_itself_is_no_difference():
    live = thing("ConfigMap", "a", data={"x": "1"})
    live["metadata"].update(resourceVersion="7", generation=3, managedFields=[{}], uid="u", creationTimestamp="now")
    assert k.comparable({**live, "status": {"a": 1}}) == thing("ConfigMap", "a", data={"x": "1"})


def test_an_error_of_the_server_is_passed_on():
    def refuses(argv, data=None, pass_fds=()):
        return 1, "", "Error from server (Forbidden): no"

    with pytest.raises(k.KubeError, match="Forbidden"):
        k.ServerSideApply(k.Kubectl(refuses)).plan(WANTED)


def test_not_there_is_told_from_nobody_could_be_asked():
    def answers(text):
        return k.Kubectl(lambda argv, data=None, pass_fds=(): (1, "", text))

    assert answers('Error from server (NotFound): nodes "x" not found').get("node", "x") is None
    with pytest.raises(k.KubeError, match="refused"):
        answers("The connection to the server was refused").get("node", "x")


def test_secrets_of_a_patch_are_not_on_the_command_line():
    seen = {}

    def remember(argv, data=None, pass_fds=()):
        seen.update(argv=argv, data=data)
        return 0, "{}", ""

    k.Kubectl(remember).merge_patch({"data": {"x": "hidden"}}, "configmap/a")
    assert "hidden" not in " ".join(seen["argv"])
    assert "hidden" in seen["data"]


def test_objects_are_read_one_after_the_other_and_lists_are_taken_apart():
    text = json.dumps({"kind": "List", "items": [{"a": 1}, {"b": 2}]}) + "\n" + json.dumps({"kind": "ConfigMap", "items": "no list"})
    assert k.decode(text) == [{"a": 1}, {"b": 2}, {"kind": "ConfigMap", "items": "no list"}]


# --- waiting ------------------------------------------------------------------------------------------------------------------------------------


def workload(wanted, updated, available, generation=1, observed=1):
    status = {"observedGeneration": observed, "desiredNumberScheduled": wanted, "updatedNumberScheduled": updated, "numberAvailable": available}
    spec = {"selector": {"matchLabels": {"app": "x"}}}
    return {"kind": "DaemonSet", "metadata": {"name": "x", "generation": generation}, "spec": spec, "status": status}


@pytest.mark.parametrize(
    ("value", "missing"),
    [
        (workload(3, 3, 3), 0),
        (workload(3, 3, 2), 1),
        (workload(3, 1, 3), 2),
        (workload(3, 3, 3, generation=2), -1),
        ({"kind": "Deployment", "metadata": {}, "spec": {"replicas": 2}, "status": {"updatedReplicas": 2, "availableReplicas": 1}}, 1),
        ({"kind": "Deployment", "metadata": {}, "spec": {"replicas": 2}, "status": {"updatedReplicas": 2, "availableReplicas": 2}}, 0),
    ],
)
def test_a_rollout_is_finished_when_all_pods_are_new_and_available(value, missing):
    assert k.unfinished(value) == missing


def pod(name, node, waiting=None):
    state = {"waiting": {"reason": waiting, "message": "back-off pulling image"}} if waiting else {"running": {}}
    status = {"phase": "Pending" if waiting else "Running", "containerStatuses": [{"name": "c", "ready": not waiting, "state": state}]}
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "kube-system"}, "spec": {"nodeName": node}, "status": status}


def node(name, ready):
    return {"kind": "Node", "metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def answers(found, pods, nodes):
    def run(argv, data=None, pass_fds=()):
        what = found if "daemonset/x" in argv else {"kind": "List", "items": pods if "pods" in argv else nodes}
        return 0, json.dumps(what), ""

    return k.Kubectl(run)


def test_a_rollout_that_hangs_says_which_pod_and_why():
    kubectl = answers(workload(2, 2, 1), [pod("x-1", "cp1"), pod("x-2", "w1", "ImagePullBackOff")], [node("cp1", "True"), node("w1", "True")])
    with pytest.raises(k.KubeError, match="x-2 on w1 is Pending: c: ImagePullBackOff back-off pulling image") as caught:
        k.wait_for_rollouts(kubectl, ["daemonset/x"], "kube-system", 0)
    assert "x-1" not in str(caught.value)


def test_a_node_that_is_switched_off_holds_nobody_up():
    kubectl = answers(workload(2, 2, 1), [pod("x-1", "cp1"), pod("x-2", "w1")], [node("cp1", "True"), node("w1", "Unknown")])
    k.wait_for_rollouts(kubectl, ["daemonset/x"], "kube-system", 0)


def test_a_node_that_waits_for_its_network_is_waited_for():
    kubectl = answers(workload(1, 1, 0), [pod("x-1", "cp1", "CrashLoopBackOff")], [node("cp1", "False")])
    with pytest.raises(k.KubeError, match="CrashLoopBackOff"):
        k.wait_for_rollouts(kubectl, ["daemonset/x"], "kube-system", 0)


def test_a_pod_that_no_node_takes_says_why():
    lonely = {"metadata": {"name": "x-1", "namespace": "n"}, "spec": {}, "status": {"phase": "Pending"}}
    lonely["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]
    assert k.pod_troubles([lonely]) == ["n/x-1 on no node is Pending: PodScheduled: 0/1 nodes are available"]


def test_a_program_that_may_not_end_is_bounded_as_well_as_its_requests():
    seen = []

    def remember(argv, data=None, **bound):
        seen.append((argv[3], bound))
        return 0, "", ""

    k.Kubectl(remember, "x").call("get", "nodes")
    k.Kubectl(remember, "x", 10, bounded=True).call("exec", "pod")
    k.Kubectl(remember, "x", 10, bounded=True).within(60).call("delete", "namespace")
    assert seen == [("--request-timeout=20s", {}), ("--request-timeout=10s", {"timeout": 12}), ("--request-timeout=60s", {"timeout": 62})]


def test_a_program_without_an_answer_is_an_error_in_words():
    with pytest.raises(k.KubeError, match=r"no answer within 0\.1 s"):
        k.Kubectl(lambda argv, data=None, timeout=None: k.run(["sleep", "5"], timeout=0.1), bounded=True).call("exec", "pod")


def test_a_list_is_taken_apart_and_what_is_named_must_be_there():
    assert k.Kubectl(lambda argv, data=None: (0, '{"kind": "NodeList", "items": [{"a": 1}, {"a": 2}]}', "")).all("nodes") == [{"a": 1}, {"a": 2}]
    with pytest.raises(k.NotFoundError):
        k.Kubectl(lambda argv, data=None: (1, "", "Error from server (NotFound): x")).all("service", "kubernetes")
