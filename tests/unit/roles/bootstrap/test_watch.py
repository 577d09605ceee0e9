# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga-hybrid-watch on a host in a folder, among doubles of everybody it talks to. Its clock is the test's: hours pass in no time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._command import Output
from fpga_hybrid import watch as watch_module
from fpga_hybrid.imds import Imds
from fpga_hybrid.orphan import KEPT
from fpga_hybrid.watch import STATE, Watch
from tests.unit.roles.bootstrap.doubles import Authority, node_object, pod_object
from tests.unit.roles.bootstrap.test_bootstrap import CLUSTER
from tests.unit.roles.bootstrap.test_orphan import JOB, SET, cgroup, scope
from tests.unit.roles.bootstrap.world import BRISK, INSTANCE, LIBRARY, PROVIDER_ID, ROOT, World

NOTICE = "/latest/meta-data/spot/instance-action"
ENDED = f"""<TerminateInstanceInAutoScalingGroupResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">
<TerminateInstanceInAutoScalingGroupResult><Activity><Description>Terminating EC2 instance: {INSTANCE}</Description></Activity>
</TerminateInstanceInAutoScalingGroupResult></TerminateInstanceInAutoScalingGroupResponse>"""


def refused(code: str, message: str) -> str:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"


MIN_SIZE = (400, refused("ValidationError", "Currently, desiredSize equals minSize (1). Terminating ... will violate group's min size constraint."))
DENIED = (403, refused("AccessDenied", "User: arn:aws:sts::1:assumed-role/lab-instance/i-1 is not authorized to perform"))
THROTTLED = (400, refused("Throttling", "Rate exceeded"))
NOT_FOUND = (400, refused("ValidationError", f"Instance Id not found - No managed instance found for instance ID: {INSTANCE}"))


def in_groups(*states: str) -> tuple[int, str]:
    """What AWS says of an instance that one group has, or none."""
    members = "".join(f"<member><InstanceId>{INSTANCE}</InstanceId><LifecycleState>{state}</LifecycleState></member>" for state in states)
    return 200, (
        '<DescribeAutoScalingInstancesResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><DescribeAutoScalingInstancesResult>'
        f"<AutoScalingInstances>{members}</AutoScalingInstances></DescribeAutoScalingInstancesResult></DescribeAutoScalingInstancesResponse>"
    )


class Life:
    """An instance with its watch. now: of its monotonic clock. step: from one turn to the next, which is 5 in truth, of which every second one looks at
    the API server."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world, self._capsys, self._said = world, capsys, ""
        self.now, self.step = 1000.0, 10.0
        self.declared = {
            "schema": 1,
            "cluster_name": "c",
            "cluster_id": CLUSTER["id"],
            "pool": "f2",
            "aws": {"region": "us-east-1", "ssm_prefix": "/fpga-hybrid/c", "endpoint_url": world.aws.url, "orphan_timeout": {"idle": 120, "busy": 240}},
        }
        world.aws.answer(200, ENDED)
        world.aws.puts = "{}"
        #: Of its host: how often it was to power off, and what came of that.
        self.power_offs, self.power_off = 0, Output(0, "", "")
        self.begins()

    def begins(self) -> None:
        """The process, anew: also after a reboot."""
        self.watch = Watch(str(self.world.root), self.declared, monotonic=lambda: self.now, sleep=lambda _seconds: None, run=self._run)

    def _run(self, argv: Sequence[str], **_limits: float) -> Output:
        assert list(argv) == ["systemctl", "poweroff"]
        self.power_offs += 1
        return self.power_off

    def joins(self) -> None:
        world = self.world
        world.write("etc/kubernetes/kubelet.conf", f"clusters:\n- cluster:\n    server: https://{world.api.endpoint}\n")
        world.write("etc/kubernetes/pki/ca.crt", world.api.authority.pem)
        world.write("var/lib/kubelet/pki/kubelet-client-current.pem", (world.doubles / "kubelet.pem").read_text(), 0o600)
        self.bootstrap_says("joined", None)
        world.api.nodes[INSTANCE] = node_object(INSTANCE, PROVIDER_ID, ready=True)

    def bootstrap_says(self, state: str, failure: dict[str, object] | None) -> None:
        endpoint = {"name": self.world.api.endpoint, "address": "127.0.0.1"}
        status = {"state": state, "node_name": INSTANCE, "provider_id": PROVIDER_ID, "endpoint": endpoint, "failure": failure}
        self.world.write("var/lib/fpga-hybrid/bootstrap.json", json.dumps(status))

    def passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.watch.look()
            self.now += self.step

    def ends(self) -> list[dict[str, list[str]]]:
        """The requests to end an instance."""
        return [request for request in self.world.aws.requests if request["body"].startswith("Action=TerminateInstanceInAutoScalingGroup")]

    def report(self) -> dict[str, object] | None:
        put = self.world.evidence()
        return json.loads(put["Value"]) if put else None

    def said(self) -> str:
        self._said += self._capsys.readouterr().err
        return self._said

    def console(self) -> str:
        return self.world.read("dev/console")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def life(authority, monkeypatch, capsys) -> Iterator[Life]:
    world = World(authority)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", world.imds.url)
    yield Life(world, capsys)
    world.close()


@pytest.fixture
def node(life) -> Life:
    """One that has joined and has no job."""
    life.joins()
    return life


# --- orphans ----------------------------------------------------------------------------------------------------------------------------


def test_a_node_whose_api_server_answers_is_left_alone_and_nothing_is_written(node):
    node.passes(600)
    assert node.ends() == []
    assert node.report() is None
    assert json.loads(node.world.read(STATE)) == {"schema": 1, "gone": 0.0, "idle": 0.0, "own": []}
    assert node.said() == "the API server answers\n"


def test_an_idle_node_whose_api_server_is_gone_ends_itself_with_a_smaller_group(node):
    node.passes(60)
    node.world.api.fails = 0
    node.passes(115)
    assert node.ends() == []
    node.passes(20)
    (request,) = node.ends()
    fields = dict(part.split("=") for part in request["body"].split("&"))
    assert (fields["InstanceId"], fields["ShouldDecrementDesiredCapacity"]) == (INSTANCE, "true")
    report = node.report()
    assert (report["state"], report["node_name"], report["provider_id"], report["pool"]) == ("orphaned", INSTANCE, PROVIDER_ID, "f2")
    assert "the API server is gone" in report["sentence"]
    assert "for 2m" in report["sentence"]
    assert report["sentence"] in node.console()
    assert f"AWS ends this instance: Terminating EC2 instance: {INSTANCE}" in node.said()


def test_the_report_is_written_before_the_end_is_asked_for(node):
    node.world.api.fails = 0
    node.passes(140)
    kinds = ["report" if "AmazonSSM.PutParameter" in request.values() else "end" for request in node.world.aws.requests]
    assert kinds == ["report", "end"]


def test_an_api_server_that_flaps_begins_the_count_anew(node):
    for _time in range(5):
        node.world.api.fails = 0
        node.passes(100)
        node.world.api.fails = None
        node.passes(15)
    assert node.ends() == []


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_refusal_from_the_pinned_ca_is_a_sign_of_life(node, status):
    node.world.api.fails = status
    node.passes(300)
    assert node.ends() == []


@pytest.mark.parametrize("status", [500, 503])
def test_an_api_server_that_only_fails_is_as_good_as_none(node, status):
    node.world.api.fails = status
    node.passes(140)
    assert len(node.ends()) == 1
    assert f"does nothing but fail: https://{node.world.api.endpoint} (127.0.0.1): HTTP status {status}" in node.report()["sentence"]


def test_whoever_else_answers_at_the_address_is_not_the_api_server(node):
    node.world.write("etc/kubernetes/pki/ca.crt", Authority("another").pem)
    node.passes(140)
    assert len(node.ends()) == 1
    assert "its certificate does not hold" in node.report()["sentence"]


def test_a_kubelets_certificate_that_cannot_be_used_proves_nothing_against_the_api_server(node):
    node.world.write("var/lib/kubelet/pki/kubelet-client-current.pem", "")
    node.passes(300)
    assert node.ends() == []
    assert "cannot be used" in node.said()


def test_a_renewed_certificate_is_taken(node):
    node.passes(10)
    path = node.world.root / "var/lib/kubelet/pki/kubelet-client-current.pem"
    os.replace(node.world.write("var/lib/kubelet/pki/new", node.world.api.authority.issue(f"system:node:{INSTANCE}", organisation="system:nodes")), path)
    node.world.api.pods = [pod_object("proxy", INSTANCE, SET, owner="DaemonSet")]
    node.passes(20)
    assert json.loads(node.world.read(STATE))["own"] == [SET]


def test_a_node_with_a_job_has_the_longer_time(node):
    node.world.api.pods = [pod_object("proxy", INSTANCE, SET, owner="DaemonSet"), pod_object("job", INSTANCE, JOB)]
    for uid in (JOB, SET):
        cgroup(node.world.root, scope(uid))
    node.passes(20)
    node.world.api.fails = 0
    node.passes(235)
    assert node.ends() == []
    assert "after 4m, or 2m after its job has ended" in node.said()
    node.passes(20)
    assert len(node.ends()) == 1
    assert f"with 1 pods that nobody asks after ({JOB})" in node.report()["sentence"]


def test_pods_that_belong_to_the_node_are_no_job_also_after_a_reboot_without_api_server(node):
    node.world.api.pods = [pod_object("proxy", INSTANCE, SET, owner="DaemonSet")]
    cgroup(node.world.root, scope(SET))
    node.passes(20)
    node.world.api.fails = 0
    node.passes(60)
    node.begins()
    node.passes(55)
    assert node.ends() == []
    node.passes(30)
    assert len(node.ends()) == 1


def test_a_job_that_ends_meanwhile_leaves_time_to_tell(node):
    cgroup(node.world.root, scope(JOB))
    node.world.api.fails = 0
    node.passes(200)
    (node.world.root / "sys/fs/cgroup" / scope(JOB) / "cgroup.procs").write_text("")
    node.passes(35)
    assert node.ends() == []
    node.passes(30)
    assert len(node.ends()) == 1  # by the longest of all times, which goes on counting


def test_the_wall_clock_has_no_say(node, monkeypatch):
    """It jumps by ten minutes at each look, to and fro."""
    wall = time.time
    node.world.api.fails = 0
    for number in range(11):
        monkeypatch.setattr(time, "time", lambda number=number: wall() + (600 if number % 2 else -600))
        node.passes(10)
    assert node.ends() == []
    monkeypatch.setattr(time, "time", wall)
    node.passes(30)
    assert len(node.ends()) == 1


def test_an_api_server_that_is_back_before_aws_listens_keeps_the_instance(node):
    node.world.aws.forget()
    node.world.aws.answer(*DENIED)
    node.world.api.fails = 0
    node.passes(140)
    assert len(node.ends()) == 1
    node.world.api.fails = None
    node.passes(400)
    assert len(node.ends()) == 1
    assert node.report()["state"] == "returned"


@pytest.mark.parametrize(
    ("answer", "attempts", "words"),
    [
        (MIN_SIZE, 2, "lower min_size (pools.yml), and it ends itself"),
        (NOT_FOUND, 2, "No group has it"),
        (DENIED, 4, "playbook iam.yml writes it"),
        (THROTTLED, 7, "Rate exceeded"),
    ],
)
def test_what_aws_refuses_is_told_once_and_tried_again_with_pauses(node, monkeypatch, answer, attempts, words):
    monkeypatch.setattr(watch_module.random, "uniform", lambda low, high: high if high == 1.0 else 1.0)
    node.world.aws.forget()
    node.world.aws.answer(*answer)
    node.world.api.fails = 0
    node.step = 30.0
    node.passes(120 + 1090)
    assert abs(len(node.ends()) - attempts) <= 1
    assert words in node.report()["sentence"]
    assert node.report()["state"] == "orphaned"
    assert node.console().count(words) == 1
    node.world.aws.forget()
    node.world.aws.answer(200, ENDED)
    node.passes(700)
    assert "AWS ends this instance" in node.said()


def is_in_no_group(life: Life) -> None:
    """As one that is kept for a look, or that somebody took out of its group by hand. What comes of it takes hours."""
    life.step = 30.0
    life.world.aws.forget()
    life.world.aws.answer(*NOT_FOUND)
    life.world.aws.in_groups = in_groups()


def test_one_that_no_group_has_powers_itself_off_when_the_time_for_a_look_has_passed_too(life):
    """Its own end is asked for in vain: without keeper, as at a site that stays dark, it would run for ever."""
    life.bootstrap_says("failed", {"kind": "vpn", "status": 40, "step": "vpn", "sentence": "Nothing answers."})
    is_in_no_group(life)
    life.passes(120 + KEPT - 10)
    assert life.power_offs == 0
    assert "powers itself off 2h after that" in life.report()["sentence"]
    life.passes(750)
    assert life.power_offs >= 1
    assert life.report()["state"] == "orphaned"
    assert "No group has this instance, and its time for a look is over: it powers itself off" in life.report()["sentence"]
    assert life.said().count("it powers itself off.") == 1


def test_one_with_a_job_that_no_group_has_is_given_the_longer_time(node):
    cgroup(node.world.root, scope(JOB))
    is_in_no_group(node)
    node.world.api.fails = 0
    node.passes(240 + KEPT - 10)
    assert node.power_offs == 0
    node.passes(750)
    assert node.power_offs >= 1


def test_the_time_for_a_look_outlasts_a_reboot_and_ends_with_an_answer(node):
    is_in_no_group(node)
    node.world.api.fails = 0
    node.passes(120 + KEPT - 600)
    node.begins()
    node.world.api.fails = None
    node.passes(20)
    node.world.api.fails = 0
    node.passes(KEPT)
    assert node.power_offs == 0
    node.begins()
    node.passes(800)
    assert node.power_offs >= 1


def test_one_that_no_group_has_powers_itself_off_where_its_right_to_end_itself_is_one_on_its_group(node):
    is_in_no_group(node)
    node.world.aws.forget()
    node.world.aws.answer(*DENIED)
    node.world.api.fails = 0
    node.passes(120 + KEPT - 10)
    assert node.power_offs == 0
    node.passes(750)
    assert node.power_offs >= 1


def never_powers_off(node: Life) -> None:
    """Long after its time, and that for a look."""
    node.world.api.fails = 0
    node.step = 60.0
    node.passes(240 + 2 * KEPT)
    assert node.power_offs == 0


SOMETHING_ELSE = (200, "<DescribeAutoScalingInstancesResponse><Other/></DescribeAutoScalingInstancesResponse>")


@pytest.mark.parametrize(
    ("answer", "in_groups"),
    [
        (MIN_SIZE, in_groups()),
        (THROTTLED, in_groups()),
        (DENIED, in_groups("InService")),
        (DENIED, in_groups("Terminating")),
        (NOT_FOUND, in_groups("InService")),
        (NOT_FOUND, DENIED),
        (DENIED, THROTTLED),
        (NOT_FOUND, SOMETHING_ELSE),
    ],
    ids=["min_size", "throttled", "denied in service", "denied terminating", "not found in service", "not to be asked", "asked too often", "another answer"],
)
def test_one_that_a_group_may_have_never_powers_itself_off(node, answer, in_groups):
    """Its group would put another in its place, which nobody enrols."""
    node.world.aws.forget()
    node.world.aws.answer(*answer)
    node.world.aws.in_groups = in_groups
    never_powers_off(node)


def test_one_whose_declaration_is_of_another_region_asks_there_in_vain_and_never_powers_itself_off(node):
    is_in_no_group(node)
    node.declared["aws"]["region"] = "eu-west-1"
    node.begins()
    never_powers_off(node)


def test_a_power_off_that_fails_is_told_and_tried_again(node):
    is_in_no_group(node)
    node.world.api.fails = 0
    node.power_off = Output(1, "", "Failed to connect to bus")
    node.passes(120 + KEPT + 1500)
    assert node.power_offs >= 2
    assert "could not power itself off (Failed to connect to bus)" in node.report()["sentence"]
    assert node.said().count("could not power itself off") == 1


def test_where_aws_cannot_be_reached_it_goes_on_trying_and_reports_later(node):
    puts, node.world.aws.puts = node.world.aws.puts, None
    node.world.aws.forget()
    node.world.aws.hang_up()
    node.world.api.fails = 0
    node.passes(200)
    assert len(node.ends()) >= 2
    assert node.said().count("could not write the report") == 1
    node.world.aws.forget()
    node.world.aws.puts = puts
    node.world.aws.answer(200, ENDED)
    node.passes(400)
    assert "AWS ends this instance" in node.said()
    assert node.report()["state"] == "orphaned"


def test_an_instance_that_did_not_join_ends_itself_and_says_what_it_failed_of(life):
    failure = {"kind": "vpn", "status": 40, "step": "vpn", "sentence": "Nothing answers."}
    life.bootstrap_says("failed", failure)
    life.passes(120)
    assert life.ends() == []
    life.passes(20)
    assert len(life.ends()) == 1
    assert (life.report()["state"], life.report()["failure"]) == ("orphaned", failure)
    assert "this instance did not join (vpn), for 2m" in life.report()["sentence"]


def test_another_clusters_api_server_is_no_sign_of_life(life):
    life.joins()
    life.bootstrap_says("failed", {"kind": "foreign", "status": 13, "step": "identify", "sentence": "A copy."})
    life.passes(140)
    assert len(life.ends()) == 1


def test_without_metadata_service_it_counts_and_says_what_it_cannot_do(node, monkeypatch):
    node.world.imds.mode = "disabled"
    node.begins()
    node.world.api.fails = 0
    node.passes(140)
    assert node.ends() == []
    assert node.said().count("no spot notice is seen, and this instance has no credentials to end itself") == 1
    node.world.imds.mode = "v2"
    node.passes(60)
    assert len(node.ends()) == 1
    assert "the metadata service answers" in node.said()


def test_without_node_json_it_goes_by_what_the_instance_knows(life, monkeypatch):
    """By default times, in the instance's own region, and without a report."""
    life.declared = None
    life.begins()
    asked = []
    monkeypatch.setattr(watch_module, "Aws", lambda region, *_arguments, **_options: asked.append(region) or pytest.skip.Exception)
    with pytest.raises(AttributeError):
        life.passes(3700)
    assert asked == ["us-east-1"]
    assert life.report() is None


def test_a_full_disk_is_told_and_takes_nothing_but_memory_across_reboots(node, monkeypatch):
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watch_module._files, "write", full)
    node.world.api.fails = 0
    node.passes(140)
    assert len(node.ends()) == 1
    assert node.said().count("No space left on device") == 1


# --- spot notices -----------------------------------------------------------------------------------------------------------------------


def notice(life: Life, seconds: float = 120, action: str = "terminate") -> None:
    at = (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    life.world.imds.data[NOTICE] = json.dumps({"action": action, "time": at})
    life.step = 5.0


def evicted(life: Life) -> list[str]:
    return [eviction["metadata"]["name"] for eviction in life.world.api.evictions]


def test_on_a_notice_the_node_is_cordoned_and_its_own_pods_are_evicted(node):
    node.world.api.pods = [
        pod_object("job", INSTANCE, JOB),
        pod_object("proxy", INSTANCE, SET, owner="DaemonSet"),
        pod_object("static", INSTANCE, "s", owner="Node", **{"kubernetes.io/config.mirror": "x"}),
        pod_object("done", INSTANCE, "d", phase="Succeeded"),
        pod_object("elsewhere", "i-other", "e"),
    ]
    node.passes(30)
    assert evicted(node) == []
    notice(node)
    node.passes(5)
    assert node.world.api.nodes[INSTANCE]["spec"]["unschedulable"] is True
    assert evicted(node) == ["job"]
    assert node.report()["state"] == "interrupted"
    assert "EC2 takes this spot instance back (terminate at " in node.console()
    node.passes(115)
    assert evicted(node) == ["job"]
    assert node.ends() == []


def test_a_disruption_budget_is_asked_again_until_thirty_seconds_before_the_end(node):
    node.world.api.pods = [pod_object("job", INSTANCE, JOB), pod_object("other", INSTANCE, SET)]
    node.world.api.budgets = {"job", "other"}
    notice(node)
    node.passes(60)
    assert evicted(node) == []
    node.world.api.budgets = {"other"}
    node.passes(5)
    assert evicted(node) == ["job"]
    node.passes(60)
    tries = sum(path.endswith("/other/eviction") for path in node.world.api.asked)
    assert 15 <= tries <= 19
    assert "left pod default/other where it is" in node.said()
    assert "disruption budget" in node.said()
    assert node.said().count("waiting: pod default/other") == 1


def test_a_pod_that_takes_longer_than_there_is_time_is_given_what_there_is(node):
    node.world.api.pods = [pod_object("long", INSTANCE, JOB, grace=3600), pod_object("short", INSTANCE, SET, grace=30)]
    notice(node)
    node.passes(5)
    grace = {one["metadata"]["name"]: one["deleteOptions"].get("gracePeriodSeconds") for one in node.world.api.evictions}
    assert grace["short"] is None
    assert 95 <= grace["long"] <= 105


def test_an_api_server_that_does_not_answer_is_asked_again(node):
    node.world.api.pods = [pod_object("job", INSTANCE, JOB)]
    node.world.api.fails = 0
    notice(node)
    node.passes(30)
    node.world.api.fails = None
    node.passes(5)
    assert evicted(node) == ["job"]


@pytest.mark.parametrize("off", [-900, 900])
def test_a_wrong_clock_takes_nothing_of_the_two_minutes(node, off):
    node.world.api.pods = [pod_object("job", INSTANCE, JOB)]
    node.world.api.budgets = {"job"}
    notice(node, 120 + off)
    node.passes(80)
    node.world.api.budgets = set()
    node.passes(5)
    assert evicted(node) == ["job"]


def test_a_notice_that_cannot_be_read_is_one_all_the_same(node):
    node.world.api.pods = [pod_object("job", INSTANCE, JOB)]
    node.world.imds.data[NOTICE] = "terminate"
    node.passes(1)
    assert evicted(node) == ["job"]


def interrupted(life: Life, action: str = "terminate") -> None:
    """It has had its notice, and one look since; its job has been told to go and has not gone yet."""
    life.world.api.pods = [pod_object("job", INSTANCE, JOB), pod_object("proxy", INSTANCE, SET, owner="DaemonSet")]
    life.passes(20)
    notice(life, action=action)
    life.passes(5)


def empties(life: Life) -> None:
    """What is left are the host's own."""
    life.world.api.pods = [pod for pod in life.world.api.pods if pod["metadata"]["name"] == "proxy"]


def test_an_interrupted_instance_makes_its_group_smaller_once_all_its_pods_have_gone_and_not_before(node):
    interrupted(node)
    assert evicted(node) == ["job"]
    node.passes(60)
    assert node.ends() == [], "an evicted pod is still saving its work"
    empties(node)
    node.passes(5)
    (request,) = node.ends()
    fields = dict(part.split("=") for part in request["body"].split("&"))
    assert (fields["InstanceId"], fields["ShouldDecrementDesiredCapacity"]) == (INSTANCE, "true")
    assert f"AWS ends this instance: Terminating EC2 instance: {INSTANCE}" in node.said()
    node.passes(60)
    assert len(node.ends()) == 1
    assert node.report()["state"] == "interrupted"


def test_an_interrupted_instance_without_a_job_goes_at_once(node):
    node.passes(20)
    notice(node)
    node.passes(5)
    assert len(node.ends()) == 1
    assert node.world.api.nodes[INSTANCE]["spec"]["unschedulable"] is True, "first, so that nothing comes"


def test_pods_that_need_almost_all_of_the_two_minutes_are_waited_for_too(node):
    interrupted(node)
    node.passes(95)
    assert node.ends() == []
    empties(node)
    node.passes(10)
    assert len(node.ends()) == 1


@pytest.mark.parametrize("action", ["stop", "hibernate"])
def test_what_ec2_only_stops_is_not_ended(node, action):
    interrupted(node, action)
    assert evicted(node) == ["job"]
    empties(node)
    node.passes(200)
    assert node.ends() == []
    assert node.report()["state"] == "interrupted"


def test_while_a_budget_keeps_a_pod_its_instance_does_not_end_itself(node):
    node.world.api.budgets = {"job"}
    interrupted(node)
    node.passes(200)
    assert (evicted(node), node.ends()) == ([], [])


def test_while_the_api_server_does_not_say_what_runs_here_an_interrupted_instance_does_not_end_itself(node):
    node.passes(20)
    node.world.api.fails = 0
    notice(node)
    node.passes(115)
    assert node.ends() == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [(DENIED, "AccessDenied"), (MIN_SIZE, "violate group's min size"), (THROTTLED, "Rate exceeded")],
    ids=["denied", "min size", "throttled"],
)
def test_an_interrupted_instance_that_aws_does_not_end_says_so_once_and_asks_again_after_pauses(node, answer, words):
    node.world.aws.forget()
    node.world.aws.answer(*answer)
    interrupted(node)
    empties(node)
    node.passes(5)
    assert len(node.ends()) == 1
    node.passes(25)
    assert len(node.ends()) == 1, "not at each look"
    node.passes(30)
    assert len(node.ends()) in (2, 3)
    report = node.report()
    assert report["state"] == "interrupted"
    assert report["sentence"].startswith("This instance could not end itself: ")
    assert words in report["sentence"]
    assert node.console().count(words) == 1
    asked = len(node.ends())
    node.world.aws.forget()
    node.world.aws.answer(200, ENDED)
    node.passes(35)
    assert len(node.ends()) == asked + 1
    assert "AWS ends this instance" in node.said()
    assert node.report()["state"] == "interrupted"


def test_an_interruption_is_over_when_its_end_has_come(node):
    """EC2 may be late; then it is EC2's to say."""
    node.world.aws.forget()
    node.world.aws.answer(*DENIED)
    interrupted(node)
    empties(node)
    node.passes(120)
    asked = len(node.ends())
    node.passes(600)
    assert len(node.ends()) == asked


def test_a_rebalance_recommendation_is_told_once_and_nothing_is_done(node):
    node.world.api.pods = [pod_object("job", INSTANCE, JOB)]
    node.step = 5.0
    node.world.imds.data["/latest/meta-data/events/recommendations/rebalance"] = '{"noticeTime": "2026-11-26T10:00:00Z"}'
    node.passes(100)
    assert evicted(node) == []
    assert "unschedulable" not in node.world.api.nodes[INSTANCE]["spec"]
    assert node.said().count("recommends to rebalance") == 1


def test_one_token_of_the_metadata_service_lasts_for_hours_of_looks(node):
    node.passes(100)
    assert len(node.world.imds.tokens) == 1
    assert node.world.imds.without_token == []


def test_an_instance_that_did_not_join_has_nothing_to_clear(life):
    notice(life)
    life.passes(100)
    assert life.report()["state"] == "interrupted"
    assert life.world.api.asked == []


# --- the program ------------------------------------------------------------------------------------------------------------------------


def command(world: World) -> list[str]:
    launcher = f"{BRISK}; sys.path[:0] = [{str(LIBRARY)!r}, {str(ROOT / 'collections')!r}]; from fpga_hybrid.watch import main; sys.exit(main())"
    return [sys.executable, "-IS", "-c", launcher, "--root", str(world.root), "--config", "/etc/fpga-hybrid/node.json"]


WHOLE = {
    "labels": {},
    "taints": [],
    "startup_taints": [],
    "resources": {},
    "reserved": {},
    "provider_id": None,
    "vpn": None,
    "ignore_preflight": [],
    "fpga": None,
}


def test_the_program_watches_until_it_is_told_to_stop_and_takes_little_memory(node):
    node.world.declare({**node.declared, **WHOLE})
    node.world.api.pods = [pod_object("job", INSTANCE, JOB)]
    process = subprocess.Popen(command(node.world), env=node.world.environment(), stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while not (node.world.root / STATE).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        notice(node)
        while node.report() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        (anonymous,) = [line for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines() if line.startswith("Anonymous:")]
    finally:
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=10)[1]
    assert evicted(node) == ["job"]
    assert "Traceback" not in errors
    assert int(anonymous.split()[1]) < 20 * 1024


def test_a_host_of_no_pool_is_left_alone(node):
    node.world.declare({**node.declared, **WHOLE, "pool": None})
    done = subprocess.run(command(node.world), env=node.world.environment(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0
    assert "no pool" in done.stderr


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_a_node_json_that_cannot_be_used_is_told(world_of_none, text):
    if text is not None:
        world_of_none.write("etc/fpga-hybrid/node.json", text)
    declared, trouble = watch_module.read_declaration(str(world_of_none.root / "etc/fpga-hybrid/node.json"))
    assert declared is None
    assert "node.json" in trouble


@pytest.fixture
def world_of_none(authority) -> Iterator[World]:
    world = World(authority)
    yield world
    world.close()


def test_the_service_is_asked_as_the_other_programs_ask_it(life):
    assert life.watch._imds.endpoint == life.world.imds.url == Imds().endpoint
