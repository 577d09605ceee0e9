# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's brakes against the lab's AWS with its IAM enforced: what suspends launches, what lifts that, and what never does."""

from __future__ import annotations

import time

import pytest

from fpga_hybrid.aws import DeniedError
from fpga_hybrid_keeper.keeper import LONGEST_PAUSE
from tests.unit.roles.keeper.site import BOARD, ID, Site


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
    loses(site, keeper, told=True)
    loses(site, keeper, told=True)
    (name,) = site.scale(1)
    site.after(keeper)
    site.fails(name)
    site.after(keeper)
    assert site.suspended()
    assert site.instance(name)["State"]["Name"] == "running"


def test_while_the_third_try_is_on_its_way_no_fourth_starts_and_when_it_joins_the_pool_goes_on(site):
    keeper = site.keeper()
    loses(site, keeper, told=True)
    loses(site, keeper, told=True)
    (name,) = site.scale(1)
    site.after(keeper)
    assert site.scale(2) == [name]
    site.joins(name, given={BOARD: "1"})
    site.after(keeper)
    assert not site.suspended()
    assert site.status()["pools"]["f2"]["paused"] is None
    assert len(site.scale(2)) == 2


def test_failures_of_more_than_an_hour_ago_do_not_count(site):
    keeper = site.keeper()
    loses(site, keeper, told=True)
    loses(site, keeper, told=True)
    site.now += 3600
    loses(site, keeper, told=True)
    goes_on(site, keeper)
    assert not site.suspended()


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


# --- mishaps of keeper itself -----------------------------------------------------------------------------------------------------------


def test_a_denied_suspension_is_told_and_tried_again_until_it_is_done(site, capsys):
    keeper = site.keeper()
    site.cloud.fault("deny", action="SuspendProcesses")
    for _turn in range(3):
        loses(site, keeper, told=True)
    capsys.readouterr()
    for _pass in range(4):
        assert not site.after(keeper, LONGEST_PAUSE)
    assert capsys.readouterr().err.count("SuspendProcesses") <= 1
    assert "SuspendProcesses" in site.status()["troubles"]["pool f2: suspension of its launches"]
    site.cloud.lift()
    site.after(keeper, LONGEST_PAUSE)
    assert site.suspended()


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_killed_between_record_and_suspension_the_next_keeper_ends_what_was_begun(site, monkeypatch, after):
    keeper = site.keeper()
    loses(site, keeper, told=True)
    loses(site, keeper, told=True)
    act = keeper.edges.aws.suspend

    class Killed(BaseException):
        pass

    def killed(group: str) -> None:
        if after:
            act(group)
        raise Killed

    monkeypatch.setattr(keeper.edges.aws, "suspend", killed)
    with pytest.raises(Killed):
        loses(site, keeper, told=True)
    site.scale(0)
    keeper = site.keeper()
    goes_on(site, keeper, 3)
    assert site.suspended()
    assert site.status()["pools"]["f2"]["paused"]["kind"] == "failed_joins"


def test_failure_parameters_that_cannot_be_read_stop_nothing_else(site):
    keeper = site.keeper()
    site.cloud.fault("deny", action="GetParameters")
    (name,) = site.scale(1)
    site.after(keeper)
    assert not site.after(keeper)
    assert "GetParameters" in site.status()["troubles"]["failures"]
    assert name in site.parameters()


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
    site.write_config(keep_failed={"f2": 1})
    keeper = site.keeper()
    (name,) = site.scale(1)
    site.after(keeper)
    site.fails(name)
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


def test_an_instance_that_is_not_kept_cannot_be_ended_with_keepers_rights(site):
    (name,) = site.scale(1)
    with pytest.raises(DeniedError):
        site.keeper().edges.aws.end(name)
