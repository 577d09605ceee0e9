# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's brakes against the lab's AWS with its IAM enforced: what suspends launches, what lifts that, and what never does."""

from __future__ import annotations

import pytest

from tests.unit.roles.keeper.site import BOARD, Site


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
    site.make_group("lab-other", {**{"fpga.hybrid/cluster-id": "5c9e8f6a-0000-4000-8000-000000000001"}, "fpga.hybrid/pool": "other"})
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
