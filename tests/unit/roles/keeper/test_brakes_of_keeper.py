# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's brakes against the lab's AWS with its IAM enforced: what suspends launches, what lifts that, and what never does."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from fpga_hybrid.aws import DeniedError
from fpga_hybrid_keeper import record as records
from fpga_hybrid_keeper.brakes import UNREAD, stamp
from fpga_hybrid_keeper.keeper import LONGEST_PAUSE, Keeper
from fpga_hybrid_keeper.plan import Cloud
from tests.unit.roles.keeper.site import BOARD, ID, TAINT, Site


def loses(site: Site, keeper, *, told: bool) -> str:
    """The paid loop's turn: an instance starts, does not join, and is ended by the autoscaler."""
    (name,) = site.scale(1)
    site.after(keeper)
    if told:
        site.fails(name)
        site.after(keeper)
    site.scale(0)
    site.after(keeper)
    return name


def third_try(site: Site, keeper) -> str:
    """The instance that is on its way after two that failed."""
    loses(site, keeper, told=True)
    loses(site, keeper, told=True)
    (name,) = site.scale(1)
    site.after(keeper)
    return name


def has_one_to_keep(site: Site) -> tuple[Keeper, str]:
    """A pool that keeps a failed instance for a look, and one that says that it has failed."""
    site.write_config(keep_failed={"f2": 1})
    keeper = site.keeper()
    (name,) = site.scale(1)
    site.after(keeper)
    site.fails(name)
    return keeper, name


def goes_on(site: Site, keeper, passes: int = 8) -> None:
    for _pass in range(passes):
        site.after(keeper)


@pytest.mark.parametrize("told", [True, False], ids=["with a failure parameter", "without a word"])
def test_three_failed_joins_suspend_the_launches_of_their_pool_and_no_fourth_instance_starts(site, capsys, told):
    site.make_group("lab-other", {"fpga.hybrid/cluster-id": ID, "fpga.hybrid/pool": "other"})
    keeper = site.keeper()
    names = [loses(site, keeper, told=told) for _turn in range(3)]
    assert site.scale(1) == []
    goes_on(site, keeper)
    assert site.scale(1) == []
    assert (site.suspended(), site.suspended("lab-other")) == (True, False)
    pool = site.status()["pools"]["f2"]
    assert pool["paused"]["kind"] == "failed_joins"
    assert "pools.yml -e resume=f2" in pool["paused"]["why"]
    assert [one["instance"] for one in pool["failed_joins"]] == names
    assert {(one["kind"], one["status"]) for one in pool["failed_joins"]} == {("vpn", 40) if told else ("never-joined", None)}
    assert any("Pool f2 is paused" in warning for warning in site.status()["warnings"])
    assert site.status()["pools"]["other"]["paused"] is None
    assert capsys.readouterr().err.count("pool f2: paused: 3 instances failed to join") == 1
    assert (site.failures(), site.parameters()) == (set(), {})
    assert all(client["revoked"] for client in site.clients().values())


def test_the_third_failure_stops_launches_while_its_instance_still_runs(site):
    keeper = site.keeper()
    name = third_try(site, keeper)
    site.fails(name)
    site.after(keeper)
    assert site.suspended()
    assert site.instance(name)["State"]["Name"] == "running"


def test_while_the_third_try_is_on_its_way_no_fourth_starts_and_when_it_joins_the_pool_goes_on(site):
    keeper = site.keeper()
    name = third_try(site, keeper)
    assert site.scale(2) == [name]
    site.joins(name, given={BOARD: "1"})
    site.after(keeper)
    assert not site.suspended()
    assert site.status()["pools"]["f2"]["paused"] is None
    assert len(site.scale(2)) == 2


@pytest.mark.parametrize("joins", [True, False], ids=["one has joined since", "none has"])
def test_failures_of_more_than_an_hour_ago_count_until_an_instance_of_the_pool_has_joined(site, joins):
    keeper = site.keeper()
    loses(site, keeper, told=True)
    loses(site, keeper, told=True)
    if joins:
        site.gone_silently(keeper)
        goes_on(site, keeper)
    site.now += 3600
    keeper = site.keeper()  # which knows it from the record
    loses(site, keeper, told=True)
    goes_on(site, keeper)
    assert site.suspended() is not joins


def test_an_hour_later_a_pool_is_still_paused_and_a_new_keeper_knows_why(site):
    keeper = site.keeper()
    for _turn in range(3):
        loses(site, keeper, told=True)
    site.now += 7200
    keeper = site.keeper()
    goes_on(site, keeper)
    assert site.suspended()
    assert site.status()["pools"]["f2"]["paused"]["kind"] == "failed_joins"


def test_who_resumes_it_lifts_the_brake_and_counting_begins_anew(site):
    keeper = site.keeper()
    for _turn in range(3):
        loses(site, keeper, told=True)
    site.after(keeper, 30)
    site.cloud.client("autoscaling").resume_processes(AutoScalingGroupName="lab-f2", ScalingProcesses=["Launch"])
    goes_on(site, keeper)
    assert not site.suspended()
    assert site.status()["pools"]["f2"]["paused"] is None
    assert len(site.status()["pools"]["f2"]["failed_joins"]) == 3, "they are still told"
    for _turn in range(3):
        assert not site.suspended()
        loses(site, keeper, told=True)
    assert site.suspended()


def test_what_somebody_else_suspended_is_told_and_never_resumed(site):
    site.cloud.client("autoscaling").suspend_processes(AutoScalingGroupName="lab-f2", ScalingProcesses=["Launch"])
    keeper = site.keeper()
    goes_on(site, keeper)
    paused = site.status()["pools"]["f2"]["paused"]
    assert (paused["kind"], paused["since"]) == ("hand", None)
    assert site.suspended()


def test_what_fails_while_somebody_else_has_suspended_it_is_forgiven_when_that_is_lifted(site):
    keeper = site.keeper()
    names = site.scale(3)
    site.after(keeper)
    site.cloud.client("autoscaling").suspend_processes(AutoScalingGroupName="lab-f2", ScalingProcesses=["Launch"])
    site.after(keeper)
    for name in names:
        site.fails(name)
    goes_on(site, keeper)
    assert (site.status()["pools"]["f2"]["paused"]["kind"], len(site.status()["pools"]["f2"]["failed_joins"])) == ("hand", 3)
    keeper = site.keeper()  # which knows from the record that it was
    site.cloud.client("autoscaling").resume_processes(AutoScalingGroupName="lab-f2", ScalingProcesses=["Launch"])
    goes_on(site, keeper)
    assert not site.suspended()
    assert site.status()["pools"]["f2"]["paused"] is None


@pytest.mark.parametrize("state", ["interrupted", "orphaned"])
def test_a_spot_notice_and_an_orphans_end_are_no_failed_joins(site, state):
    keeper = site.keeper()
    for _turn in range(4):
        (name,) = site.scale(1)
        site.after(keeper)
        site.fails(name, state=state)
        site.after(keeper)
        site.scale(0)
        goes_on(site, keeper)
    assert not site.suspended()
    assert site.status()["pools"]["f2"]["failed_joins"] == []
    assert site.failures() == set()


@pytest.mark.parametrize("seconds", [0, 60], ids=["seen at its end", "seen while it shuts down"])
def test_spot_instances_that_ec2_takes_back_during_their_join_are_no_failed_joins(site, seconds):
    """Nobody on the instance has said so: the watch begins after bootstrap, which says nothing of its being shut down."""
    site.cloud.settings(shutdown_seconds=seconds)
    keeper = site.keeper()
    names = set()
    for _turn in range(4):
        (name,) = (one for one in site.scale(1) if one not in names)  # its group has replaced the last one
        names.add(name)
        site.after(keeper)
        site.cloud.interrupt(name)
        site.after(keeper)
        site.cloud.advance(120)
        goes_on(site, keeper)
    assert not site.suspended()
    assert site.status()["pools"]["f2"]["failed_joins"] == []
    assert {name for name, client in site.clients().items() if client["revoked"]} == names


def comes_without_boards(site: Site, keeper) -> str:
    """As from an image without the device plugin: it joins, the job does not fit, and the autoscaler ends it as idle."""
    (name,) = site.scale(1)
    site.after(keeper)
    site.joins(name)
    goes_on(site, keeper, 3)
    site.scale(0)
    site.joins(name, ready=False)
    goes_on(site, keeper)
    assert name not in site.api.nodes
    return name


def test_three_nodes_that_came_without_their_boards_and_were_ended_pause_their_pool(site):
    keeper = site.keeper()
    names = []
    for _turn in range(3):
        assert not site.suspended()
        names.append(comes_without_boards(site, keeper))
    assert site.suspended()
    assert site.scale(1) == []
    pool = site.status()["pools"]["f2"]
    assert (pool["paused"]["kind"], pool["paused"]["firm"]) == ("failed_joins", True)
    assert [(one["instance"], one["kind"], one["status"]) for one in pool["failed_joins"]] == [(name, "incomplete", None) for name in names]
    assert "Does its image have the device plugin?" in pool["paused"]["why"]
    assert all(site.record()[name]["phase"] == "gone" for name in names), "and nothing is left of them"


def test_what_is_known_of_an_instance_that_failed_is_said_once(site, capsys):
    """Between two looks at AWS less is known of it."""
    keeper = site.keeper()
    (name,) = site.scale(1)
    site.after(keeper)
    site.fails(name)
    goes_on(site, keeper)
    site.now += 1900  # its token has ended, which is known without AWS
    capsys.readouterr()
    for _pass in range(20):
        site.after(keeper, seconds=1)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{name}: did not join")]
    assert len(said) <= 1, said


def test_nodes_that_gave_their_boards_once_and_were_ended_are_no_failed_joins(site):
    keeper = site.keeper()
    for _turn in range(3):
        (name,) = site.scale(1)
        site.after(keeper)
        site.joins(name, given={BOARD: "1"})
        site.after(keeper)
        site.joins(name, given={BOARD: "0"})
        site.after(keeper)
        site.scale(0)
        site.joins(name, ready=False)
        goes_on(site, keeper)
    assert not site.suspended()
    assert site.status()["pools"]["f2"]["failed_joins"] == []


def test_after_two_failures_a_node_that_has_not_given_its_boards_yet_keeps_a_fourth_from_starting(site):
    keeper = site.keeper()
    name = third_try(site, keeper)
    site.joins(name)
    goes_on(site, keeper, 3)
    assert site.scale(2) == [name]
    site.joins(name, given={BOARD: "1"})
    site.after(keeper)
    assert len(site.scale(2)) == 2


# --- ceilings ---------------------------------------------------------------------------------------------------------------------------


def runs(site: Site, keeper, count: int = 1) -> list[str]:
    names = site.scale(count)
    site.after(keeper)
    for name in names:
        site.joins(name, given={BOARD: "1"})
    site.after(keeper)
    site.after(keeper)
    return names


def launched(site: Site) -> float:
    """moto's clock is the real one; keeper's begins with it here."""
    return time.time()


def test_at_the_ceiling_on_instances_no_pool_starts_another_and_below_it_they_go_on(site, capsys):
    site.make_group("lab-other", {"fpga.hybrid/cluster-id": ID, "fpga.hybrid/pool": "other", "k8s.io/cluster-autoscaler/lab": "owned"})
    site.write_config(limits={"instances": 2, "instance_hours_per_day": None}, prices={"f2": 2})
    site.now = launched(site)
    keeper = site.keeper()
    names = runs(site, keeper, 2)
    assert (site.suspended(), site.suspended("lab-other")) == (True, True)
    assert site.scale(3) == names
    status = site.status()
    assert {name: pool["paused"]["kind"] for name, pool in status["pools"].items()} == {"f2": "instances", "other": "instances"}
    assert (status["pools"]["f2"]["running"], status["pools"]["f2"]["price_per_hour"], status["today"]["instances"]) == (2, 2, 2)
    assert status["limits"] == {"instances": 2, "instance_hours_per_day": None}
    assert set(site.api.nodes) == set(names), "no job is touched"
    site.scale(1)
    goes_on(site, keeper, 2)
    assert (site.suspended(), site.suspended("lab-other")) == (False, False)
    assert "pool other: resumption of its launches, done" in capsys.readouterr().err


def test_at_the_ceiling_on_hours_nothing_starts_before_the_next_day_and_a_restart_forgets_no_hour(site):
    site.write_config(limits={"instances": None, "instance_hours_per_day": 3}, prices={"f2": 2})
    midnight = launched(site) // 86400 * 86400
    site.now = launched(site)
    keeper = site.keeper()
    (name,) = runs(site, keeper)
    # The day of the launch may be about to end: the next one is whole.
    site.now = midnight + 86400 + 2.5 * 3600
    site.after(keeper)
    assert not site.suspended()
    site.now = midnight + 86400 + 3.5 * 3600
    keeper = site.keeper()
    site.after(keeper)
    assert site.suspended()
    assert site.status()["pools"]["f2"]["paused"]["kind"] == "instance_hours"
    assert (site.status()["today"]["hours"], site.status()["today"]["cost"]) == (3.5, 7.0)
    assert site.instance(name)["State"]["Name"] == "running"
    site.scale(0)
    site.after(keeper)
    assert site.suspended()
    site.now = midnight + 2 * 86400 + 10
    site.after(keeper)
    assert not site.suspended()
    assert site.status()["today"]["hours"] == 0


@pytest.mark.parametrize("restarts", [False, True], ids=["AWS cannot be asked", "and keeper is started again"])
def test_after_an_outage_no_hours_are_counted_that_nobody_saw(site, monkeypatch, restarts):
    site.write_config(limits={"instances": None, "instance_hours_per_day": 5})
    site.now = (launched(site) // 86400 + 1) * 86400
    keeper = site.keeper()
    (name,) = runs(site, keeper)
    site.now += 3600
    site.after(keeper)
    site.cloud.fault("deny", identity="*:user/keeper", action="DescribeAutoScalingGroups")
    for _look in range(3):  # its status is written on
        site.after(keeper, LONGEST_PAUSE)
    site.now += 10 * 3600
    site.cloud.client("ec2").terminate_instances(InstanceIds=[name])
    site.scale(0)
    site.joins(name, ready=False)
    if restarts:
        keeper = site.keeper()
        site.after(keeper)
    site.cloud.lift()
    site.after(keeper, LONGEST_PAUSE)
    goes_on(site, keeper)
    assert site.status()["today"]["hours"] == pytest.approx(1.0, abs=0.02)
    assert not site.suspended()


@pytest.mark.parametrize("status", [None, "", "[]", "{}", '{"asked_aws": 3}', '{"asked_aws": "yesterday"}', '{"asked_aws": null}'])
def test_a_keeper_without_a_status_of_before_begins_as_the_first_one(site, status):
    site.state.mkdir(exist_ok=True)
    if status is not None:
        (site.state / "status.json").write_text(status)
    site.now = launched(site)
    keeper = site.keeper()
    runs(site, keeper)
    site.scale(0)
    goes_on(site, keeper)
    assert site.status()["today"]["instances"] == 1


# --- mishaps of keeper itself -----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """No handler of the program's has a chance."""


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, keeper: Keeper, at: str) -> Iterator[None]:
    """What is done meanwhile ends at a step: before or after an action of AWS' API, or before another part of keeper's is asked."""
    when, _space, what = at.partition(" ")
    aws, authority, kubernetes = keeper.edges.aws._aws, keeper.edges.authority, keeper.edges.kubernetes
    subject, method = {"revocation": (authority, "revoke"), "token": (kubernetes, "forget_token"), "record": (records, "save")}.get(what, (aws, "call"))
    act = getattr(subject, method)

    def acts(*arguments: Any, **options: Any) -> Any:
        concerns = subject is not aws or arguments[1] == what
        if subject is records:  # the one that follows upon the action, not the one before it
            concerns = any(one.settled for one in arguments[1].kept.values())
        if concerns and when == "before":
            raise Killed
        answer = act(*arguments, **options)
        if concerns:
            raise Killed
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(subject, method, acts)
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize("at", ["before SuspendProcesses", "after SuspendProcesses"])
def test_killed_between_record_and_suspension_the_next_keeper_ends_what_was_begun(site, monkeypatch, at):
    keeper = site.keeper()
    loses(site, keeper, told=True)
    loses(site, keeper, told=True)
    with killed(monkeypatch, keeper, at):
        loses(site, keeper, told=True)
    assert set(site.keeper().record.brakes) == {"lab-f2"}, "on record before it is done"
    site.scale(0)
    keeper = site.keeper()
    goes_on(site, keeper, 3)
    assert site.suspended()
    assert site.status()["pools"]["f2"]["paused"]["kind"] == "failed_joins"


@pytest.mark.parametrize("stale", [False, True], ids=["AWS says so", "AWS does not say so yet"])
@pytest.mark.parametrize("at", ["before SuspendProcesses", "after SuspendProcesses"])
def test_a_suspension_that_was_begun_and_is_not_needed_any_more_is_taken_back(site, monkeypatch, at, stale):
    site.write_config(limits={"instances": 1, "instance_hours_per_day": None})
    site.now = launched(site)
    keeper = site.keeper()
    site.scale(1)
    with killed(monkeypatch, keeper, at):
        site.after(keeper)
    site.scale(0)
    keeper = site.keeper()
    look = keeper.edges.aws.look
    if stale:
        with monkeypatch.context() as patch:
            patch.setattr(keeper.edges.aws, "look", lambda *arguments: as_before(look(*arguments)))
            site.after(keeper)
    goes_on(site, keeper)
    assert not site.suspended()
    assert site.status()["pools"]["f2"]["paused"] is None
    assert keeper.record.brakes == {}


def as_before(cloud: Cloud) -> Cloud:
    """What AWS says shortly after a suspension may be what was before it."""
    return replace(cloud, groups={name: replace(group, suspended=False) for name, group in cloud.groups.items()})


@pytest.mark.parametrize("at", ["before ResumeProcesses", "after ResumeProcesses"])
def test_killed_between_record_and_resumption_launches_go_on_and_no_failure_is_forgiven(site, monkeypatch, at):
    """A resumption that keeper did not remember would be taken for a person's, after which counting begins anew."""
    keeper = site.keeper()
    loses(site, keeper, told=True)
    loses(site, keeper, told=True)
    (name,) = site.scale(1)
    goes_on(site, keeper, 4)
    assert site.suspended(), "no fourth one while the third is on its way"
    site.joins(name, given={BOARD: "1"})
    with killed(monkeypatch, keeper, at):
        site.after(keeper)
    keeper = site.keeper()
    goes_on(site, keeper)
    assert not site.suspended()
    assert (keeper.record.brakes, keeper.record.resumed) == ({}, {})
    site.scale(2)
    site.after(keeper)
    (second,) = set(site.parameters())
    site.fails(second)
    site.after(keeper)
    assert site.suspended(), "the third failure"


@pytest.mark.parametrize(
    "at",
    [
        "before CreateTags",
        "before DetachInstances",
        "after DetachInstances",
        "before revocation",
        "before DeleteParameter",
        "before token",
        "before record",
        "after record",
    ],
)
def test_killed_between_two_steps_of_keeping_one_for_a_look_the_next_keeper_ends_it_the_same_way_and_keeps_no_other(site, monkeypatch, at):
    keeper, name = has_one_to_keep(site)
    with killed(monkeypatch, keeper, at):
        site.after(keeper)
    until = stamp(site.keeper().record.kept[name].until)
    keeper = site.keeper()
    goes_on(site, keeper, 3)
    assert (group_of(site)["DesiredCapacity"], group_of(site)["Instances"]) == (0, [])
    assert kept_until(site, name) == until
    assert site.status()["pools"]["f2"]["kept"] == [{"instance": name, "until": until}]
    assert site.clients()[name]["revoked"]
    assert (site.parameters(), site.api.secrets, site.failures()) == ({}, {}, {name})
    assert site.status()["healthy"]
    (second,) = site.scale(1)
    site.after(keeper)
    site.fails(second)
    goes_on(site, keeper, 2)
    assert kept_until(site, second) is None
    site.scale(0)
    site.now += 7200
    goes_on(site, site.keeper())
    assert site.instance(name)["State"]["Name"] == "terminated"
    assert (site.failures(), site.record()[name]["phase"], site.status()["pools"]["f2"]["kept"]) == (set(), "gone", [])


@pytest.mark.parametrize("at", ["before TerminateInstances", "after TerminateInstances"])
def test_killed_at_the_end_of_one_that_was_kept_the_next_keeper_ends_it(site, monkeypatch, at):
    keeper, name = keeps_one(site)
    site.now += 7200
    with killed(monkeypatch, keeper, at):
        site.after(keeper)
    goes_on(site, site.keeper())
    assert site.instance(name)["State"]["Name"] == "terminated"
    assert site.record()[name]["phase"] == "gone"


def test_one_that_is_out_of_its_group_is_ended_at_its_time_also_if_not_all_was_done_that_belongs_to_it(site, monkeypatch):
    """Nobody else would end it."""
    keeper, name = has_one_to_keep(site)
    site.cloud.fault("deny", action="DeleteParameter")
    goes_on(site, keeper, 2)
    assert not keeper.record.kept[name].settled
    site.now += 7200
    site.after(keeper)
    assert site.instance(name)["State"]["Name"] in ("shutting-down", "terminated")


def test_one_that_could_not_leave_its_group_is_not_ended_because_the_group_would_start_another(site):
    keeper, name = has_one_to_keep(site)
    site.cloud.fault("deny", action="DetachInstances")
    goes_on(site, keeper, 2)
    site.now += 7200
    goes_on(site, keeper)
    assert [one["InstanceId"] for one in group_of(site)["Instances"]] == [name]
    assert site.instance(name)["State"]["Name"] == "running"


def test_one_that_its_group_ends_meanwhile_is_not_said_to_be_kept(site, capsys, monkeypatch):
    """As at the autoscaler's word, while a hook or a slow end of Auto Scaling leaves it running."""
    keeper, _name = has_one_to_keep(site)
    site.cloud.fault("deny", action="DetachInstances")
    site.after(keeper)
    pages = keeper.edges.aws._aws.pages

    def ending(*arguments: Any) -> Iterator[Any]:
        for page in pages(*arguments):
            for one in (one for group in page.get("AutoScalingGroups") or [] for one in group["Instances"] or []):
                one["LifecycleState"] = "Terminating:Wait"
            yield page

    monkeypatch.setattr(keeper.edges.aws._aws, "pages", ending)
    site.after(keeper)
    assert (site.status()["pools"]["f2"]["kept"], keeper.record.kept) == ([], {})
    assert "It is kept for a look" not in capsys.readouterr().err
    assert site.status()["healthy"], "nobody goes on trying to take it out of its group"


def group_of(site: Site) -> dict[str, Any]:
    return dict(site.cloud.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=["lab-f2"])["AutoScalingGroups"][0])


def kept_until(site: Site, name: str) -> str | None:
    return next((tag["Value"] for tag in site.instance(name)["Tags"] if tag["Key"] == "fpga.hybrid/kept-until"), None)


def keeps_one(site: Site) -> tuple[Keeper, str]:
    keeper, name = has_one_to_keep(site)
    site.after(keeper)
    assert keeper.record.kept[name].settled
    return keeper, name


def wants_suspension(site: Site) -> tuple[Keeper, str]:
    keeper = site.keeper()
    loses(site, keeper, told=True)
    site.scale(2)
    return keeper, "pool f2: suspension of its launches"


def wants_resumption(site: Site) -> tuple[Keeper, str]:
    keeper, _about = wants_suspension(site)
    goes_on(site, keeper, 2)
    assert site.suspended()
    for name in site.parameters():
        site.joins(name, given={BOARD: "1"})
    return keeper, "pool f2: resumption of its launches"


def wants_detachment(site: Site) -> tuple[Keeper, str]:
    keeper, name = has_one_to_keep(site)
    return keeper, f"{name}: keeping it for a look"


def wants_end(site: Site) -> tuple[Keeper, str]:
    keeper, name = keeps_one(site)
    site.now += 7200
    return keeper, f"{name}: its end after it was kept for a look"


OTHER = {"fpga.hybrid/cluster-id": ID, "fpga.hybrid/pool": "other", "k8s.io/cluster-autoscaler/lab": "owned"}


@pytest.mark.parametrize(("kind", "said"), [("throttle", r"Rate exceeded|RequestLimitExceeded"), ("deny", "not authorized")], ids=["throttled", "denied"])
@pytest.mark.parametrize(
    ("action", "wants"),
    [
        ("SuspendProcesses", wants_suspension),
        ("ResumeProcesses", wants_resumption),
        ("DetachInstances", wants_detachment),
        ("TerminateInstances", wants_end),
    ],
)
def test_what_aws_does_not_do_is_told_once_and_tried_again_and_nothing_else_waits_for_it(site, capsys, monkeypatch, action, wants, kind, said):
    site.make_group("lab-other", OTHER)
    keeper, about = wants(site)
    monkeypatch.setattr(keeper.edges.aws._aws, "_sleep", lambda seconds: None)
    site.cloud.fault(kind, action=action)
    capsys.readouterr()
    assert not site.after(keeper)
    assert re.search(said, site.status()["troubles"][about]), site.status()["troubles"]
    (other,) = site.scale(1, "lab-other")
    for _pass in range(4):
        assert not site.after(keeper, LONGEST_PAUSE)
    assert set(site.status()["troubles"]) == {about}
    assert other in site.parameters(), "another pool's instance is enrolled meanwhile"
    assert not site.suspended("lab-other")
    log = capsys.readouterr().err
    assert len([line for line in log.splitlines() if line.startswith(f"{about}: ") and "It is tried again" in line]) == 1, log
    site.cloud.lift()
    site.cloud.forget_calls()
    assert site.after(keeper, LONGEST_PAUSE)
    assert action in {call["action"] for call in site.cloud.calls(writes=True) if call["status"] == 200}
    assert f"{about}, done" in capsys.readouterr().err


def test_failure_parameters_that_cannot_be_read_stop_nothing_else(site):
    keeper = site.keeper()
    site.cloud.fault("deny", action="GetParameters")
    (name,) = site.scale(1)
    site.after(keeper)
    assert not site.after(keeper)
    assert "GetParameters" in site.status()["troubles"]["failures"]
    assert name in site.parameters()


@pytest.mark.parametrize("joins", [False, True], ids=["a failed join", "a spot notice to a node without boards"])
def test_what_an_instance_said_of_its_failure_is_not_cleared_away_before_it_was_read(site, joins):
    keeper = site.keeper()
    (name,) = site.scale(1)
    site.after(keeper)
    if joins:
        site.joins(name)
        site.after(keeper)
    site.cloud.fault("deny", action="GetParameters")
    site.fails(name, state="interrupted" if joins else "failed")
    site.scale(0)
    if joins:
        site.joins(name, ready=False)
    goes_on(site, keeper, 12)
    assert site.failures() == {name}
    assert "its failure parameter could not be read" in site.status()["instances"][name]["note"]
    site.cloud.lift()
    site.after(keeper, LONGEST_PAUSE)
    goes_on(site, keeper, 2)
    assert [one["kind"] for one in site.status()["pools"]["f2"]["failed_joins"]] == ([] if joins else ["vpn"])
    assert (site.failures(), site.record()[name]["phase"]) == (set(), "gone")


def test_after_ten_minutes_it_is_cleared_away_unread_which_is_said(site, capsys):
    keeper = site.keeper()
    (name,) = site.scale(1)
    site.after(keeper)
    site.cloud.fault("deny", action="GetParameters")
    site.fails(name)
    site.scale(0)
    goes_on(site, keeper, 12)
    site.after(keeper, UNREAD)
    assert (site.failures(), site.record()[name]["phase"]) == (set(), "gone")
    assert "after 10 minutes it is cleared away unread" in capsys.readouterr().err


def test_what_could_not_be_read_for_some_minutes_sets_no_brake_that_only_a_person_lifts(site):
    keeper = site.keeper()
    loses(site, keeper, told=True)
    names = site.scale(2)
    site.after(keeper)
    for name in names:
        site.fails(name, state="interrupted")
    site.cloud.fault("deny", action="GetParameters")
    site.scale(0)
    goes_on(site, keeper, 12)
    assert not site.status()["pools"]["f2"]["paused"]["firm"], "they may have failed, and no further one starts"
    site.cloud.lift()
    site.after(keeper, LONGEST_PAUSE)
    goes_on(site, keeper, 2)
    assert not site.suspended()


def test_with_the_credentials_of_another_account_nothing_is_suspended_or_resumed(site, monkeypatch):
    keeper = site.keeper()
    for _turn in range(3):
        loses(site, keeper, told=True)
    goes_on(site, keeper)
    before = dict(keeper.record.brakes)
    monkeypatch.setattr(keeper.edges.aws, "_whose", lambda: "999999999999")
    site.cloud.forget_calls()
    goes_on(site, keeper)
    assert site.cloud.calls(writes=True) == []
    assert keeper.record.brakes == before


# --- one for a look ---------------------------------------------------------------------------------------------------------------------


def test_the_first_failed_instance_of_a_pool_is_kept_for_a_look_and_ended_at_its_time(site, capsys):
    keeper, name = has_one_to_keep(site)
    site.after(keeper)
    autoscaling = site.cloud.client("autoscaling")
    (group,) = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=["lab-f2"])["AutoScalingGroups"]
    assert (group["DesiredCapacity"], group["Instances"]) == (0, [])
    until = next(tag["Value"] for tag in site.instance(name)["Tags"] if tag["Key"] == "fpga.hybrid/kept-until")
    goes_on(site, keeper)
    log = capsys.readouterr().err
    assert log.count(f"It is kept for a look until {until}, then it is ended.") == 1
    assert f"{name}: keeping it for a look, done: until {until}, out of group lab-f2, its certificate revoked" in log
    assert site.status()["pools"]["f2"]["kept"] == [{"instance": name, "until": until}]
    assert site.clients()[name]["revoked"]
    assert (site.failures(), site.parameters()) == ({name}, {})
    assert (site.status()["pools"]["f2"]["running"], site.instance(name)["State"]["Name"]) == (1, "running")
    (second,) = site.scale(1)
    site.after(keeper)
    site.fails(second)
    goes_on(site, keeper, 2)
    assert site.scale(1) == [second], "one at a time"
    site.now += 7200
    site.after(keeper)
    assert site.instance(name)["State"]["Name"] in ("shutting-down", "terminated")
    goes_on(site, keeper)
    assert name not in site.failures()
    assert site.record()[name]["phase"] == "gone"


def test_that_one_is_kept_is_told_when_it_is_out_of_its_group_and_not_before(site, capsys):
    keeper, name = has_one_to_keep(site)
    site.cloud.fault("deny", action="DetachInstances")
    goes_on(site, keeper, 3)
    assert (kept_until(site, name), site.status()["pools"]["f2"]["kept"]) == (None, [])
    assert "It is kept for a look" not in capsys.readouterr().err
    assert "DetachInstances" in site.status()["troubles"][f"{name}: keeping it for a look"]
    site.cloud.lift()
    site.after(keeper, LONGEST_PAUSE)
    site.after(keeper)
    until = stamp(keeper.record.kept[name].until)
    assert (kept_until(site, name), site.status()["pools"]["f2"]["kept"]) == (until, [{"instance": name, "until": until}])
    assert f"It is kept for a look until {until}" in capsys.readouterr().err


@pytest.mark.parametrize("at", ["before revocation", "after record"], ids=["before its certificate is revoked", "as it is told"])
def test_one_that_joins_while_it_is_taken_out_of_its_group_gets_no_jobs_and_ends_as_if_it_had_not(site, monkeypatch, at):
    """It said that it had failed, and joined all the same: without its group nobody but keeper ends it, and without the VPN it is no node."""
    keeper, name = has_one_to_keep(site)
    with killed(monkeypatch, keeper, at):
        site.after(keeper)
    site.joins(name, given={BOARD: "1"})
    keeper = site.keeper()
    goes_on(site, keeper, 2)
    assert site.api.taints(name) == [TAINT["key"]]
    assert site.clients()[name]["revoked"]
    assert (site.parameters(), site.api.secrets) == ({}, {})
    assert [one["instance"] for one in site.status()["pools"]["f2"]["kept"]] == [name]
    site.joins(name, given={BOARD: "1"}, ready=False)
    site.now += 7200
    goes_on(site, keeper)
    assert site.instance(name)["State"]["Name"] == "terminated"
    assert (site.api.nodes, site.failures(), site.record()[name]["phase"]) == ({}, set(), "gone")


def test_an_instance_that_is_not_kept_cannot_be_ended_with_keepers_rights(site):
    (name,) = site.scale(1)
    with pytest.raises(DeniedError):
        site.keeper().edges.aws.end(name)
