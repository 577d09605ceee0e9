# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluation's steps, on a cluster that is a few dictionaries and a clock: the story as it should go, and each way in which it may not."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _evaluation as evaluation
from ansible_collections.fpga.hybrid.plugins.module_utils._evaluation import Evaluation, EvaluationError, Plan, Story
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl

XGBOOST = "inaccel.com/xgboost.exact"
INSTANCE = "i-0123456789abcdef0"
BEGUN = 1_790_000_000.0
PLAN = Plan(
    resource=XGBOOST,
    copies=4,
    promises={"f2-6xlarge": 2, "f2-12xlarge": 4},
    groups={"f2-6xlarge": "lab-f2-6xlarge", "f2-12xlarge": "lab-f2-12xlarge"},
    image="registry.example/fit:1",
    patience=100,
)
STARTUP = {"key": "startup-taint.cluster-autoscaler.kubernetes.io/fpga", "effect": "NoSchedule"}


def stamp(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def node(name, pool="", **allocatable):
    labels = {"fpga.hybrid/pool": pool} if pool else {}
    return {
        "metadata": {"name": name, "uid": f"uid of {name}", "labels": labels, "creationTimestamp": stamp(BEGUN + 20)},
        "spec": {"providerID": f"aws:///us-east-1a/{name}"} if pool else {},
        "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]},
    }


class Cluster(Kubectl):
    """at: what happens when, in seconds since it began: {seconds: function}. The API's answers are what stands in nodes and pods then."""

    def __init__(self):
        super().__init__(lambda *_arguments, **_options: (1, "", "unused"))
        self.now = BEGUN
        self.nodes = {"cp1": node("cp1"), "worker1": node("worker1", **{XGBOOST: "4", "xilinx/u280": "1"})}
        self.pods, self.jobs, self.events = {}, {}, []
        self.keeper, self.at, self.deletes = None, {}, 0

    # --- what the steps call

    def sleep(self, seconds):
        self.now += seconds
        self.happen()

    def happen(self):
        for due in sorted(moment for moment in self.at if BEGUN + moment <= self.now):
            self.at.pop(due)()

    def try_call(self, *arguments, data=None):
        verb, rest = arguments[0], arguments[1:]
        if verb == "create":
            for made in json.loads(data)["items"]:
                if made["kind"] == "Job":
                    self.jobs[made["metadata"]["name"]] = made
                    made["metadata"]["creationTimestamp"] = stamp(self.now)
                    self.pod(made["metadata"]["name"], made["spec"]["template"]["spec"])
            return 0, "", ""
        if verb == "delete":
            self.deletes += 1
            return 0, "", ""
        if verb == "logs":
            return 0, "stand-in: on the CPU\n", ""
        return 0, json.dumps(self.get_kind(rest)), ""

    def get_kind(self, rest):
        kind = rest[0]
        if kind == "namespace":
            return {"kind": "Namespace"}
        if kind == "job":
            return self.jobs[rest[1]]  # as kubectl prints one that is named
        if kind == "nodes":
            items = list(self.nodes.values())
        elif kind == "events":
            items = self.events
        elif "kube-system" in rest:
            items = [{"spec": {"containers": [{"image": "lab.test/cluster-autoscaler-stand-in:v1"}]}}]
        elif "-l" in rest:
            name = rest[rest.index("-l") + 1].split("=")[1]
            items = [pod for pod in self.pods.values() if pod["metadata"]["labels"]["job"] == name]
        else:
            items = list(self.pods.values())
        return {"kind": "List", "items": items}

    # --- what happens in it

    def pod(self, job, spec, name=""):
        name = name or f"{job}-pod"
        containers = [{**one, "resources": {"requests": one["resources"]["limits"]}} for one in spec["containers"]]
        self.pods[name] = {
            "metadata": {"name": name, "uid": f"uid of {name}", "labels": {"job": job}},
            "spec": {**spec, "containers": containers},
            "status": {"phase": "Pending", "conditions": []},
        }

    def runs(self, job, where):
        pod = self.pods[f"{job}-pod"]
        pod["spec"]["nodeName"] = where
        pod["status"] = {"phase": "Running", "containerStatuses": [{"state": {"running": {"startedAt": stamp(self.now)}}}]}

    def ends(self, job, phase="Succeeded"):
        pod = self.pods[f"{job}-pod"]
        started = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
        pod["status"] = {"phase": phase, "containerStatuses": [{"state": {"terminated": {"startedAt": started, "finishedAt": stamp(self.now)}}}]}

    def waits(self, message=f"0/2 nodes are available: 2 Insufficient {XGBOOST}."):
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self.pods["job-2-pod"]["status"]["conditions"] = [condition]

    def scales(self, *groups):
        self.events.append({"message": f"pod triggered scale-up: [{' '.join(f'{{{group} 0->1 (max: 2)}}' for group in groups)}] (who)"})

    def joins(self, copies="4", pool="f2-12xlarge", name=INSTANCE):
        self.nodes[name] = node(name, pool, **{XGBOOST: "0"})
        self.nodes[name]["spec"]["taints"] = [STARTUP]
        self.keeper = "joined"
        self.at[self.now - BEGUN + 2] = lambda: self.complete(name, copies)

    def complete(self, name, copies):
        self.nodes[name]["status"]["allocatable"][XGBOOST] = copies
        del self.nodes[name]["spec"]["taints"]

    def leaves(self):
        del self.nodes[INSTANCE]
        self.at[self.now - BEGUN + 3] = lambda: setattr(self, "keeper", "gone")


def story(cluster):
    """As it should go."""
    cluster.at = {
        2: lambda: cluster.runs("job-1", "worker1"),
        5: cluster.waits,
        10: lambda: cluster.scales("lab-f2-12xlarge"),
        30: cluster.joins,
        34: lambda: cluster.runs("job-2", INSTANCE),
        60: lambda: cluster.ends("job-1"),
        90: lambda: cluster.ends("job-2"),
        120: cluster.leaves,
    }
    return cluster


def tell(cluster, plan=PLAN):
    """All steps, each as a run of the module of its own; the lines."""
    known, told = {}, []
    for step in evaluation.STEPS:
        before = Story.restore(copy.deepcopy(known))
        run = Evaluation(cluster, plan, before, keeper=lambda _name: cluster.keeper, sleep=cluster.sleep, clock=lambda: cluster.now)
        cluster.happen()
        run.do(step)
        known = json.loads(json.dumps(run.story.keep()))
        told += run.told
    return told


def test_the_story_as_it_should_go():
    told = "\n".join(tell(story(Cluster())))
    for line in (
        "worker1 is on-prem and gives 4 inaccel.com/xgboost.exact, 1 xilinx/u280; all of it is free",
        "a node of the pools would give of inaccel.com/xgboost.exact: f2-6xlarge 2, f2-12xlarge 4; none is there",
        "job-1 asks for 4 of inaccel.com/xgboost.exact and runs on worker1, 2 s after it was made",
        f"job-2 asks for 4 more and is pending: 0/2 nodes are available: 2 Insufficient {XGBOOST}.",
        "the autoscaler (lab.test/cluster-autoscaler-stand-in:v1) starts an instance of f2-12xlarge, not of f2-6xlarge, which gives 2, 8 s after",
        f"{INSTANCE} has joined by itself as aws:///us-east-1a/{INSTANCE}: registered 18 s after, and takes pods",
        f"job-2 runs on {INSTANCE}, 32 s after it was made",
        "job-1 has ended after 58 s; worker1's board is free again, and job-2 runs on where it is",
        "job-1: stand-in: on the CPU",
        "job-2 has ended after 56 s, in the pod that it began in",
        f"{INSTANCE} was idle and has gone, Node object, VPN certificate and all, 33 s after job-2 ended",
        "the on-prem nodes are as they were",
    ):
        assert line in told


def test_jobs_have_no_second_try_and_no_privilege():
    made = evaluation.job("job-1", PLAN)
    assert made["spec"]["backoffLimit"] == 0
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {XGBOOST: "4"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert {"name": "EVALUATION_SECONDS", "value": "90"} in container["env"]


def two_boards(cluster):
    cluster.nodes["worker2"] = node("worker2", **{XGBOOST: "4"})


def taken(cluster):
    limits = {"containers": [{"resources": {"limits": {XGBOOST: "1"}}}]}
    cluster.pod("somebody's", limits)
    cluster.runs("somebody's", "worker1")


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (lambda cluster: cluster.nodes.pop("worker1"), f"Free of {XGBOOST} on-prem: none; expected 4 on one node and room for one such job in all"),
        (two_boards, "on-prem: worker1 4, worker2 4; expected 4 on one node and room for one such job in all: the second is to find none"),
        (taken, "on-prem: worker1 3; expected 4"),
        (lambda cluster: cluster.nodes["worker1"]["spec"].update(unschedulable=True), "on-prem: none; expected 4.*a cordoned node takes none"),
        (lambda cluster: cluster.nodes.update(old=node("old", "f2-12xlarge")), "Found nodes of the pools: old; expected none"),
    ],
)
def test_a_site_where_the_story_cannot_be_told(before, message):
    cluster = story(Cluster())
    before(cluster)
    with pytest.raises(EvaluationError, match=message):
        tell(cluster)
    assert cluster.jobs == {}


def test_pools_that_cannot_run_the_job_are_told():
    plan = Plan(XGBOOST, 4, {"f2-6xlarge": 2}, {}, "image")
    with pytest.raises(EvaluationError, match=r"found f2-6xlarge 2 of inaccel\.com/xgboost\.exact on one node; expected a pool with 4"):
        tell(story(Cluster()), plan)


def test_pools_that_are_alike_are_the_autoscaler_s_choice():
    groups = {**PLAN.groups, "f2-12xlarge-spot": "lab-f2-12xlarge-spot"}
    plan = replace(PLAN, promises={"f2-12xlarge-spot": 4, **PLAN.promises}, groups=groups)
    assert plan.expected_pools == ["f2-12xlarge-spot", "f2-12xlarge"]
    assert any("starts an instance of f2-12xlarge, not of f2-6xlarge" in line for line in tell(story(Cluster()), plan))


def evicted(cluster):
    """Somebody ends the job to move it; its Job makes another pod."""
    del cluster.pods["job-2-pod"]
    cluster.pod("job-2", cluster.jobs["job-2"]["spec"]["template"]["spec"], "job-2-again")


def another(cluster):
    cluster.nodes["i-1"] = node("i-1", "f2-12xlarge", **{XGBOOST: "4"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({2: lambda c: c.runs("job-1", "i-1")}, "job-1 runs on i-1; expected the on-prem board"),
        ({2: lambda c: None}, "Expected job-1 running within 100 s"),
        ({5: lambda c: c.runs("job-2", "worker1")}, "job-2 was given to worker1; expected that it finds no place"),
        ({5: lambda c: c.waits("0/2 nodes are available: 2 Insufficient cpu.")}, f"2 Insufficient cpu.; expected Insufficient {XGBOOST}"),
        ({10: lambda c: c.scales("lab-f2-6xlarge")}, "The autoscaler did lab-f2-6xlarge 0->1; expected one instance of f2-12xlarge"),
        ({10: lambda c: c.scales("lab-f2-12xlarge", "lab-f2-12xlarge")}, "lab-f2-12xlarge 0->1, lab-f2-12xlarge 0->1; expected one instance"),
        ({10: lambda c: None}, r"Expected the autoscaler starting an instance within 100 s. Found: .*Insufficient"),
        ({30: lambda c: c.joins("2")}, f"gives 2 of {XGBOOST}; its pool promises 4"),
        ({30: lambda c: c.joins("4", "f2-6xlarge")}, "is of pool f2-6xlarge; expected f2-12xlarge"),
        ({30: lambda c: (c.joins(), another(c))}, "expected one: an instance too many is paid for"),
        ({30: lambda c: None}, "Expected the instance's node taking pods within 100 s"),
        ({34: lambda c: c.runs("job-2", "worker1")}, f"job-2 runs on worker1; expected {INSTANCE}"),
        ({50: evicted}, "job-2: found pods job-2-again; expected the one that it began in. It was lost and begun anew"),
        ({50: another}, f"Found nodes i-1 beside {INSTANCE}; expected no other instance"),
        ({60: lambda c: (c.ends("job-2"), c.ends("job-1"))}, "job-2 is Succeeded when job-1 ends; expected Running.*evaluation_seconds is too short"),
        ({60: lambda c: c.ends("job-1", "Failed")}, "job-1 was lost"),
        ({70: evicted}, "It was lost and begun anew"),
        ({70: another}, "expected no other instance"),
        ({90: lambda c: c.ends("job-2", "Failed")}, "job-2 was lost"),
        ({90: lambda c: None}, "Expected job-2 ending well within 180 s"),
        ({120: lambda c: None}, f"Expected {INSTANCE} going away .* Found: there is {INSTANCE}; keeper's status says of {INSTANCE}: joined"),
        ({120: lambda c: c.nodes.pop(INSTANCE)}, f"there is no node; keeper's status says of {INSTANCE}: joined"),
        ({120: lambda c: (c.nodes.pop(INSTANCE), setattr(c, "keeper", None))}, f"there is no node; keeper's status says of {INSTANCE}: nothing"),
        ({121: lambda c: c.nodes["worker1"]["spec"].update(unschedulable=True)}, "On-prem nodes differ from before: worker1"),
    ],
)
def test_each_way_in_which_it_goes_otherwise_is_an_error_that_says_so(changes, message):
    cluster = story(Cluster())
    before = {moment: event for moment, event in cluster.at.items() if moment < min(changes)}
    cluster.at = {**before, **{moment: lambda change=change: change(cluster) for moment, change in changes.items()}}
    with pytest.raises(EvaluationError, match=message):
        tell(cluster)
