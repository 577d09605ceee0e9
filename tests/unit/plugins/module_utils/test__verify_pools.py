# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verify table's lines about what is paid for: each is seen passing, warning and failing, and none is there without keeper."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone

import pytest
import yaml

from ansible_collections.fpga.hybrid.plugins.module_utils import _keeper_status as statuses
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify as verify
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify_pools as pools
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl
from ansible_collections.fpga.hybrid.plugins.module_utils._verify import Line
from tests.unit.roles.keeper.statuses import NOW, ill, old, paused, pool, well
from tests.unit.site import ROOT

HOUR = 3600
UNNEEDED = 300


def at(seconds_ago: float) -> str:
    return datetime.fromtimestamp(NOW - seconds_ago, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def judge(document: dict, running: bool | None = True, now: float = NOW) -> list[Line]:
    return pools.judge("cp1", pools.Keeper(statuses.parse(json.dumps(document)), "", running), now)


def of(check: str, lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.check == check]


# --- keeper


def test_a_keeper_that_works_passes():
    (line,) = of(verify.KEEPER, judge(well()))
    assert (line.node, line.ok, line.found) == ("cp1", True, "runs, looked 3 s ago")


@pytest.mark.parametrize(
    ("document", "running", "later", "found"),
    [
        (well(), False, 0, "does not run"),
        (well(), True, 200, "last looked 3 min ago"),
        ({**well(), "troubles": {"aws": "denied."}}, True, 0, "aws: denied."),
        ({**well(), "troubles": {"pool f2: suspension of its launches": "denied."}}, True, 0, "pool f2: suspension of its launches: denied."),
        ({**well(), "troubles": {"account": "found account 2", "i-0: refusal": "x"}}, True, 0, "account: found account 2; i-0: refusal: x"),
    ],
    ids=["stopped", "hangs", "AWS", "a brake that does not hold", "wrong account"],
)
def test_a_keeper_that_does_not_fails_and_says_what_to_do(document, running, later, found):
    (line,) = of(verify.KEEPER, judge(document, running, NOW + later))
    assert (line.ok, line.found) == (False, found)
    assert "fpga-hybrid-keeper" in line.remedy


def test_what_one_instance_is_in_for_is_a_warning():
    (line,) = of(verify.KEEPER, judge({**well(), "troubles": {"i-0: enrolment": "throttled."}}))
    assert (line.ok, line.warns) == (None, True)


def test_keepers_own_warnings_are_told_but_not_twice():
    document = {**well(), "pools": {"f2": paused("failed_joins", "Three did not join.")}, "warnings": ["f2: Three did not join.", "The CA ends in 12 days."]}
    assert [line.found for line in of(verify.KEEPER, judge(document)) if line.warns] == ["The CA ends in 12 days."]


# --- pools, joins, today


@pytest.mark.parametrize(
    ("kind", "ok", "warns", "remedy"),
    [
        ("failed_joins", False, False, "pools.yml -e resume=f2"),
        ("instances", None, True, "cluster_cloud_limits.instances"),
        ("instance_hours", False, False, "next day"),
        ("hand", None, True, "pools.yml -e resume=f2"),
    ],
)
def test_a_brake_that_holds_fails_and_a_persons_own_is_a_warning(kind, ok, warns, remedy):
    (line,) = of(verify.POOL, judge({**well(), "pools": {"f2": paused(kind, "Because of this.")}}))
    assert (line.node, line.ok, line.warns) == ("f2", ok, warns)
    assert line.found == "paused since 2026-11-26T11:30:00Z: Because of this."
    assert remedy in line.remedy


def test_a_pool_that_only_waits_for_joins_under_way_is_a_warning():
    (line,) = of(verify.POOL, judge({**well(), "pools": {"f2": paused("failed_joins", firm=False, since=None)}}))
    assert (line.warns, line.found) == (True, "paused: Three instances did not join within an hour.")
    assert line.remedy.startswith("Goes on by itself")


def test_a_pool_that_launches_passes_and_says_what_it_keeps():
    document = {**well(), "pools": {"f1": pool(price_per_hour=None, running=0), "f2": pool(kept=[{"instance": "i-0c", "until": "2026-11-26T13:20:00Z"}])}}
    assert [(line.node, line.ok, line.found) for line in of(verify.POOL, judge(document))] == [
        ("f1", True, "launches; 0 instances there"),
        ("f2", True, "launches; 1 instance there, 1.98 an hour each; i-0c is kept for a look until 2026-11-26T13:20:00Z"),
    ]


def test_each_failed_join_is_a_warning_with_its_exit_status_the_last_one_first():
    found = of(verify.FAILED_JOIN, judge(ill()))
    assert [(line.node, line.peer, line.found, line.warns) for line in found] == [
        ("f1", "i-0cccccccccccccccc", "vpn (exit status 40), 40 min ago: Nothing answers at 203.0.113.9:1194.", True),
        ("f1", "i-0fffffffffffffffa", "never-joined, 50 min ago: It left no word of why.", True),
        ("f1", "i-0eeeeeeeeeeeeeeee", "vpn (exit status 40), 60 min ago: Nothing answers at 203.0.113.9:1194.", True),
    ]
    assert (ROOT / found[0].remedy.split()[0]).exists()


def test_todays_bill_is_information_and_a_cost_only_where_prices_are_known():
    (line,) = of(verify.TODAY, judge(well()))
    assert (line.ok, line.warns, line.found) == (None, False, "3 instances, 4.2 instance-hours, cost 8.32, on 2026-11-26 (UTC)")
    (line,) = of(verify.TODAY, judge(ill()))
    assert "cost unknown (price_per_hour is not declared)" in line.found


def test_an_older_keeper_is_not_taken_for_one_without_pools():
    lines = judge(old())
    assert [(line.check, line.ok, line.warns) for line in lines] == [("keeper", True, False), ("pool", None, True)]
    assert [line.check for line in judge({**well(), "pools": {}})] == ["keeper", "today"]


# --- where it stands


def installed(folder, text: str | None) -> str:
    config = folder / "keeper.json"
    config.write_text(json.dumps({"state": str(folder)}))
    if text is not None:
        (folder / "status.json").write_text(text)
    return str(config)


def test_without_keeper_there_is_nothing_to_judge_and_nobody_is_asked(tmp_path):
    assert pools.read(str(tmp_path / "keeper.json"), lambda: pytest.fail("asked")) is None


@pytest.mark.parametrize(
    ("text", "found"), [(None, "has made no pass yet"), ("{", "cannot be read"), ('{"schema": 2}', "is of another version of the collection")]
)
def test_a_status_that_cannot_be_used_fails_the_one_line(tmp_path, text, found):
    keeper = pools.read(installed(tmp_path, text), lambda: True)
    (line,) = pools.judge("cp1", keeper, NOW)
    assert (line.check, line.ok) == ("keeper", False)
    assert found in line.found


def test_a_configuration_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "keeper.json").write_text("[]")
    (line,) = pools.judge("cp1", pools.read(str(tmp_path / "keeper.json"), lambda: True), NOW)
    assert (line.ok, "keeper.json cannot be read" in line.found) == (False, True)


def test_what_is_read_is_the_file_that_the_configuration_names(tmp_path):
    keeper = pools.read(installed(tmp_path, json.dumps(well())), lambda: None)
    assert (keeper.running, keeper.status.today.instances) == (None, 3)


# --- nodes and pods


def a_node(name: str = "i-0a", age: float = 2 * HOUR, taints: list[dict] | None = None) -> dict:
    return {"metadata": {"name": name, "labels": {"fpga.hybrid/pool": "f2"}, "creationTimestamp": at(age)}, "spec": {"taints": taints} if taints else {}}


def a_pod(name: str = "work", owner: str = "", *, age: float = HOUR, phase: str = "Running", ended: float | None = None, namespace: str = "alice") -> dict:
    kind, _slash, owned_by = owner.partition("/")
    owners = {"ownerReferences": [{"kind": kind, "name": owned_by, "controller": True}]} if owner else {}
    containers = [{"state": {"terminated": {"finishedAt": at(ended)}}}] if ended is not None else [{"state": {"running": {}}}]
    status = {"phase": phase, "startTime": at(age), "containerStatuses": containers}
    return {"metadata": {"name": name, "namespace": namespace, "creationTimestamp": at(age + HOUR), **owners}, "spec": {}, "status": status}


CALICO = a_pod("calico-node-x", "DaemonSet/calico-node", age=40 * HOUR, namespace="kube-system")


@dataclass
class FakeKubectl(Kubectl):
    """A cluster of a few dictionaries. objects: "plural/name" -> object."""

    nodes: list[dict]
    pods: dict[str, list[dict]] = field(default_factory=dict)
    objects: dict[str, dict] = field(default_factory=dict)

    def try_call(self, *arguments: str, data: str | None = None) -> tuple[int, str, str]:
        _get, kind, *rest = arguments[:-2]
        if kind == "nodes":
            assert rest == ["-l", "fpga.hybrid/pool"]
            return 0, json.dumps({"kind": "List", "items": self.nodes}), ""
        if kind == "pods":
            assert rest[0] == "--all-namespaces"
            return 0, json.dumps({"kind": "List", "items": self.pods.get(rest[1].rpartition("=")[2], [])}), ""
        found = self.objects.get(f"{kind}/{rest[0]}")
        assert rest[1:] == ["-n", "alice"]
        return (0, json.dumps(found), "") if found else (1, "", "Error from server (NotFound): no such thing")


def look(node: dict, *pods: dict, objects: dict[str, dict] | None = None) -> list[Line]:
    return pools.look(FakeKubectl([node], {node["metadata"]["name"]: list(pods)}, objects or {}), "cp1", UNNEEDED, NOW, "fpga-hybrid-verify")


@pytest.mark.parametrize(
    ("node", "given", "words"),
    [
        (a_node(), [CALICO], "it is a node for 2 h"),
        (a_node(), [CALICO, a_pod("kube-proxy", "Node/i-0a")], "it is a node for 2 h"),
        (a_node(), [a_pod(phase="Succeeded", ended=1800), a_pod("before", phase="Failed", ended=2400)], "the last one ended 30 min ago"),
        (a_node(taints=[{"key": pools.CANDIDATE, "value": str(int(NOW) - 900)}]), [CALICO], "the autoscaler does not need it for 15 min"),
        (a_node(taints=[{"key": pools.CANDIDATE, "value": "odd"}]), [CALICO], "it is a node for 2 h"),
    ],
    ids=["nothing", "static pod", "all have ended", "marked", "marked oddly"],
)
def test_an_instance_that_nobody_uses_is_a_warning_with_since_when(node, given, words):
    (line,) = of(verify.IDLE, look(node, *given))
    assert (line.node, line.warns) == ("i-0a", True)
    assert line.found == f"has no pod but those of DaemonSets; {words}"


@pytest.mark.parametrize(
    ("node", "given"),
    [
        (a_node(), [CALICO, a_pod()]),
        (a_node(), [a_pod(phase="Pending")]),
        (a_node(age=400), [CALICO]),
        (a_node(), [a_pod(phase="Succeeded", ended=400)]),
        (a_node(taints=[{"key": pools.CANDIDATE, "value": str(int(NOW) - 60)}]), [CALICO]),
    ],
    ids=["in use", "about to be", "young", "just ended", "just marked"],
)
def test_one_that_works_or_that_the_autoscaler_will_end_in_a_moment_is_not(node, given):
    (line,) = of(verify.IDLE, look(node, *given))
    assert (line.node, line.warns, line.found) == ("cp1", False, "none of 1 instance")


def test_verifys_own_pod_makes_nobody_busy():
    (line,) = of(verify.IDLE, look(a_node(), a_pod(namespace="fpga-hybrid-verify")))
    assert line.warns


@pytest.mark.parametrize(
    ("given", "objects", "whose"),
    [
        (a_pod(age=26 * HOUR), {}, "a pod by itself in namespace alice"),
        (a_pod("w-x", "Job/train", age=26 * HOUR), {}, "Job train in namespace alice"),
        (
            a_pod("w-x", "Job/train-1", age=26 * HOUR),
            {"jobs/train-1": {"metadata": {"ownerReferences": [{"kind": "CronJob", "name": "train", "controller": True}]}}},
            "CronJob train in namespace alice",
        ),
        (
            a_pod("w-x", "ReplicaSet/web-7", age=26 * HOUR),
            {"replicasets/web-7": {"metadata": {"ownerReferences": [{"kind": "Deployment", "name": "web", "controller": True}]}}},
            "Deployment web in namespace alice",
        ),
        (a_pod("w-0", "StatefulSet/db", age=26 * HOUR), {}, "StatefulSet db in namespace alice"),
    ],
)
def test_a_pod_of_more_than_a_day_is_a_warning_and_whose_it_is(given, objects, whose):
    (line,) = of(verify.OLD_POD, look(a_node(), given, objects=objects))
    assert (line.node, line.warns, line.peer) == ("i-0a", True, f"alice/{given['metadata']['name']}")
    assert line.found == f"runs for 26 h: {whose}"


@pytest.mark.parametrize(
    "given", [a_pod(age=23.5 * HOUR), CALICO, a_pod(age=30 * HOUR, phase="Succeeded", ended=20 * HOUR)], ids=["young", "DaemonSet", "over"]
)
def test_what_waited_for_its_instance_or_is_on_every_node_or_has_ended_is_not(given):
    """The first has waited for an hour before it ran."""
    (line,) = of(verify.OLD_POD, look(a_node(), given))
    assert (line.warns, line.found) == (False, "none runs for more than a day on an instance")


def test_without_instances_both_say_so():
    lines = pools.look(FakeKubectl([]), "cp1", UNNEEDED, NOW, "fpga-hybrid-verify")
    assert [(line.check, line.ok, line.warns) for line in lines] == [("idle instance", None, False), ("old pod", None, False)]
    assert lines[0].found == "none: no instance is a node"


# --- the table


def test_a_warning_stands_in_table_and_report_and_fails_nothing():
    lines = [*judge({**ill(), "troubles": {}}), *look(a_node(), a_pod(age=26 * HOUR))]
    table = verify.render_table("Cluster lab", lines)
    assert table.startswith("Cluster lab: 1 of 3 tests passed, 2 FAILED, 7 warnings\n")
    assert "warning  failed join    f1    i-0cccccccccccccccc  vpn (exit status 40), 40 min ago" in table
    assert "\nold pod, i-0a, alice/work: found runs for 26 h: a pod by itself in namespace alice. Is it still wanted?" in table
    report = json.loads(verify.render_json("t", "now", lines))
    assert (report["passed"], report["failed"], report["warnings"]) == (1, 2, 7)
    assert verify.failed_names(lines) == "pool f1, pool f3"


def test_failures_come_before_warnings_below_the_table():
    lines = [Line(verify.OLD_POD, "i-0a", None, "a", remedy="b"), Line(verify.RECORD, "cp1", False, "c", "d", remedy="e")]
    assert [sentence.split(",")[0] for sentence in verify.remedies(lines)] == ["record", "old pod"]


def test_the_role_takes_the_autoscalers_own_default_for_granted():
    options = yaml.safe_load((ROOT / "plugins/modules/verify_cluster.py").read_text().split('DOCUMENTATION = r"""')[1].split('"""')[0])["options"]
    assert options["unneeded"]["default"] == yaml.safe_load((ROOT / "roles/autoscaler/defaults/main.yml").read_text())["autoscaler_scale_down_unneeded_time"]
