# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's brakes: their rules, and what holds whatever fails and in whatever order."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_hybrid_keeper import brakes
from fpga_hybrid_keeper import plan as plans
from fpga_hybrid_keeper import record as records
from fpga_hybrid_keeper.brakes import DAY, FAILED, FAILED_JOINS, HAND, INSTANCE_HOURS, INSTANCES, MISSED, UNREAD, Evidence, read_evidence
from fpga_hybrid_keeper.cluster import read_node
from fpga_hybrid_keeper.plan import (
    ENROLLED,
    JOINED,
    LAPSED,
    REFUSED,
    Brake,
    Cloud,
    End,
    Entry,
    FailedJoin,
    Group,
    Instance,
    Keep,
    Kept,
    Life,
    Node,
    Record,
    Resume,
    Rules,
    Suspend,
    World,
)

ID, ACCOUNT, REGION, ZONE = "5c9e8f6a-0000-4000-8000-000000000001", "123456789012", "us-east-1", "us-east-1a"
RULES = Rules(ID, "lab", grace=20.0, most=3, window=3600.0)
NOON = 1_800_000_000.0 // 86400 * 86400 + 43200
GROUP = Group("lab-f2", "f2", owned=True)
VPN = Evidence(FAILED, "vpn", 40, "The VPN does not come up.")


def name_of(number: int) -> str:
    return f"i-{number:017x}"


def instance(name: str, state: str = "running", launched: float = 0.0) -> Instance:
    return Instance(name, state, ZONE, f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{name}", "lab-f2", ID, launched)


def cloud(*found: Instance, group: Group = GROUP, asked: tuple[str, ...] = ()) -> Cloud:
    members = frozenset(one.id for one in found if one.state in ("pending", "running"))
    return Cloud(ACCOUNT, REGION, {group.name: replace(group, instances=members)}, {one.id: one for one in found}, frozenset(asked))


def failed(at: float, kind: str = "vpn") -> FailedJoin:
    return FailedJoin("f2", at, FAILED, kind, 40, "The VPN does not come up.")


def failures(*ages: float) -> dict[str, FailedJoin]:
    return {name_of(number): failed(NOON - age) for number, age in enumerate(ages, 100)}


def plan(found: Cloud, record: Record, evidence: dict[str, Evidence] | None = None, rules: Rules = RULES, now: float = NOON) -> brakes.Plan:
    return brakes.make_plan(found, {}, evidence or {}, record, rules, now)


@pytest.mark.parametrize(("ages", "suspends"), [((), False), ((1, 2), False), ((1, 2, 3), True), ((1, 2, 3601), False), ((1, 2, 3, 4), True)])
def test_so_many_failures_within_the_window_are_too_many_also_if_others_join(ages, suspends):
    found = plan(cloud(), Record(failed=failures(*ages), proven={"f2": NOON}))
    assert [type(step) for step in found.steps] == ([Suspend] if suspends else [])


WEEK = 7 * 86400


@pytest.mark.parametrize(
    ("ages", "proven", "suspends"),
    [
        ((60, 7200, 86400), None, True),
        ((60, 7200), None, False),
        ((60, 7200, 86400), 90000, True),
        ((60, 7200, 86400), 80000, False),
        ((60, 120, 86400), 80000, False),
        ((60, 7200, WEEK + 1), None, False),
    ],
    ids=["none has joined ever", "too few", "one had before", "one has in between", "one has before the last two", "longer ago than is remembered"],
)
def test_so_many_in_a_row_are_too_many_however_far_apart(ages, proven, suspends):
    record = Record(failed=failures(*ages), proven={} if proven is None else {"f2": NOON - proven, "other": NOON})
    found = plan(cloud(), record)
    assert [step.brake.firm for step in found.steps if isinstance(step, Suspend)] == ([True] if suspends else [])
    assert not suspends or found.notes["pool f2"].startswith("paused: 3 instances failed to join in a row, the last one with vpn:")


def test_after_two_in_a_row_the_third_try_is_the_only_one_however_far_apart_they_were():
    record = Record(entries={name_of(1): Entry(ENROLLED, NOON - 60, pool="f2")}, failed=failures(7200, 86400))
    (step,) = plan(cloud(instance(name_of(1))), record).steps
    assert isinstance(step, Suspend)
    assert not step.brake.firm
    assert "2 of its instances failed to join in a row, and 1 are on their way" in step.brake.why


def test_a_persons_resumption_forgives_also_what_was_long_before_it():
    record = Record(failed=failures(60, 7200, 86400), resumed={"lab-f2": NOON - 3600})
    later = plan(cloud(), plan(cloud(), record).record, now=NOON + 86400)
    assert later.steps == ()
    assert later.record.resumed == record.resumed, "as long as what it forgives is remembered"
    assert plan(cloud(), record, now=NOON + WEEK).record.resumed == {}


def test_failures_of_another_pool_do_not_count():
    others = {name: replace(one, pool="other") for name, one in failures(1, 2, 3).items()}
    assert plan(cloud(), Record(failed=others)).steps == ()


def test_none_are_too_many_where_the_brake_is_switched_off():
    assert plan(cloud(), Record(failed=failures(1, 2, 3, 4)), rules=replace(RULES, most=0)).steps == ()


@pytest.mark.parametrize("kind", ["interrupted", "busy"])
def test_an_interrupted_bootstrap_is_no_failed_join(kind):
    entries = {name_of(1): Entry(ENROLLED, NOON - 60, pool="f2")}
    found = plan(cloud(instance(name_of(1))), Record(entries=entries), {name_of(1): Evidence(FAILED, kind, 143, "")})
    assert found.record.failed == {}


@pytest.mark.parametrize(
    ("state", "complete", "evidence", "kinds"),
    [
        ("terminated", False, {}, ["incomplete"]),
        ("terminated", True, {}, []),
        ("running", False, {}, []),
        ("terminated", False, {name_of(1): Evidence("interrupted")}, []),
    ],
)
def test_a_node_that_ends_without_ever_having_given_what_was_promised_is_a_failed_join(state, complete, evidence, kinds):
    """As from an image without the device plugin: the autoscaler takes it for idle, and starts another one for the job."""
    entries = {name_of(1): Entry(JOINED, NOON - 60, pool="f2", complete=complete)}
    found = plan(cloud(instance(name_of(1), state)), Record(entries=entries), evidence)
    for _later in range(3):  # when its failure parameter is not asked for again
        assert [one.kind for one in found.record.failed.values() if one.state == FAILED] == kinds
        found = plan(cloud(instance(name_of(1), state)), found.record)


@pytest.mark.parametrize(
    ("minutes", "ready_for", "complete", "kinds"),
    [
        (11, 11, False, ["incomplete"]),
        (9, 9, False, []),
        (11, None, False, []),
        (11, 11, True, []),
        (13, 1, False, []),
        (9, 30, False, []),
        (61, 1, False, ["incomplete"]),
        (59, 1, False, []),
        (61, None, False, []),
        (61, 1, True, []),
    ],
    ids=[
        "Ready and useless",
        "not for long enough",
        "cut off",
        "of use",
        "Ready again after an outage",
        "its clock is behind",
        "Ready again and again",
        "not for an hour",
        "cut off for an hour",
        "of use, again and again",
    ],
)
def test_a_ready_node_that_does_not_give_what_was_promised_is_a_failed_join_before_another_one_is_bought(minutes, ready_for, complete, kinds):
    """The autoscaler waits 15 minutes for it, and longer until it ends it: at its end there would be more than three of them."""
    name = name_of(1)
    record = Record(entries={name: Entry(JOINED, NOON - minutes * 60, pool="f2", complete=complete)})
    node = Node(name, None, ready=ready_for is not None, ready_since=None if ready_for is None else NOON - ready_for * 60)
    found = brakes.make_plan(cloud(instance(name)), {name: node}, {}, record, RULES, NOON)
    assert [one.kind for one in found.record.failed.values()] == kinds


@pytest.mark.parametrize(
    ("condition", "since"),
    [
        ({"status": "True", "lastTransitionTime": "2027-01-15T08:00:00Z"}, 1_800_000_000.0),
        ({"status": "False", "lastTransitionTime": "2027-01-15T08:00:00Z"}, None),
        ({"status": "True", "lastTransitionTime": "yesterday"}, None),
        ({"status": "True", "lastTransitionTime": None}, None),
        ({"status": "True"}, None),
        (None, None),
    ],
    ids=["ready", "not ready", "in other words", "null", "without", "not told"],
)
def test_since_when_a_node_is_ready_is_what_its_condition_says(condition, since):
    conditions = [{"type": "MemoryPressure", "status": "True", "lastTransitionTime": "2026-01-15T08:00:00Z"}]
    found = read_node({"metadata": {"name": "a"}, "status": {"conditions": conditions + ([{"type": "Ready", **condition}] if condition else [])}})
    assert found.ready_since == since


@pytest.mark.parametrize(("minutes", "kinds"), [(59, []), (61, ["incomplete"])])
def test_a_ready_node_that_does_not_say_since_when_has_an_hour(minutes, kinds):
    name = name_of(1)
    record = Record(entries={name: Entry(JOINED, NOON - minutes * 60, pool="f2")})
    found = brakes.make_plan(cloud(instance(name)), {name: Node(name, None, ready=True)}, {}, record, RULES, NOON).record.failed
    assert [one.kind for one in found.values()] == kinds
    assert all("in 60 minutes" in one.sentence for one in found.values())


def braked_for(*names: str, of_use: tuple[str, ...] = ()) -> Record:
    """Three that failed, their pool's brake, and those of them that came to be of use since."""
    entries = {name: Entry(JOINED, NOON - 900, pool="f2", complete=name in of_use) for name in names}
    known = {name: failed(NOON - 60, "incomplete") for name in names}
    brake = Brake("f2", FAILED_JOINS, "why", NOON - 60, set_at=NOON - 60, failed=tuple(names))
    return Record(entries=entries, failed=known, brakes={"lab-f2": brake})


THREE = (name_of(1), name_of(2), name_of(3))
SUSPENDED = replace(GROUP, suspended=True)


@pytest.mark.parametrize(("of_use", "lifted"), [(THREE, True), (THREE[:2], False), ((), False)], ids=["all", "but one", "none"])
def test_a_brake_is_lifted_by_itself_when_all_that_it_was_set_for_have_joined_after_all(of_use, lifted):
    found = plan(cloud(*map(instance, THREE), group=SUSPENDED), braked_for(*THREE, of_use=of_use))
    assert [type(step) for step in found.steps] == ([Resume] if lifted else [])
    assert ("pool f2" in found.notes) is not lifted


def test_one_that_fails_while_the_brake_holds_is_among_those_that_have_to_join():
    record = braked_for(*THREE)
    record = record.with_entry(name_of(4), Entry(ENROLLED, NOON - 60, pool="f2"))
    found = plan(cloud(*map(instance, (*THREE, name_of(4))), group=SUSPENDED), record, {name_of(4): VPN})
    entries = {name: replace(entry, complete=name in THREE) for name, entry in found.record.entries.items()}
    later = plan(cloud(*map(instance, (*THREE, name_of(4))), group=SUSPENDED), replace(found.record, entries=entries), now=NOON + 60)
    assert (later.steps, later.record.brakes["lab-f2"].failed) == ((), (*THREE, name_of(4)))


def test_what_is_forgotten_is_not_withdrawn():
    """After a week nothing is on record of those that failed, and a person has not lifted the brake yet."""
    found = plan(cloud(group=SUSPENDED), Record(brakes=braked_for(*THREE).brakes), now=NOON + WEEK + 60)
    assert (found.steps, set(found.record.brakes)) == ((), {"lab-f2"})
    older = replace(braked_for(*THREE, of_use=THREE).brakes["lab-f2"], failed=())
    assert plan(cloud(group=SUSPENDED), Record(brakes={"lab-f2": older})).steps == (), "of a keeper that did not write down what it was set for"


def test_a_suspension_that_somebody_else_has_made_stays_whoever_joins():
    record = replace(braked_for(*THREE, of_use=THREE), brakes={})
    assert plan(cloud(*map(instance, THREE), group=SUSPENDED), record).steps == ()


def test_who_lifts_somebody_elses_suspension_forgives_what_failed_until_then():
    """Three become known while it is suspended: told to resume it, a person would do so in vain."""
    record = plan(cloud(group=SUSPENDED), Record(), now=NOON - WEEK - 3600).record
    for now in (NOON - 30, NOON):
        waits = plan(cloud(group=SUSPENDED), replace(record, failed=failures(60, 120, 180)), now=now)
        assert (waits.steps, waits.record.brakes, waits.record.resumed) == ((), {}, {})
        record = waits.record
    lifted = plan(cloud(), record, now=NOON + 60)
    assert (lifted.steps, lifted.record.resumed, lifted.record.by_hand) == ((), {"lab-f2": NOON + 60}, {})
    more = {**lifted.record.failed, **{name_of(number): failed(NOON + 90) for number in range(1, 4)}}
    assert [type(step) for step in plan(cloud(), replace(lifted.record, failed=more), now=NOON + 120).steps] == [Suspend]


def test_a_group_that_was_never_suspended_forgives_nothing_and_one_that_was_removed_is_forgotten():
    assert plan(cloud(), Record(failed=failures(60, 120))).record.resumed == {}
    record = plan(cloud(group=SUSPENDED), Record()).record
    for seconds, known in ((60, {"lab-f2": NOON}), (WEEK + 60, {})):
        record = plan(Cloud(ACCOUNT, REGION), record, now=NOON + seconds).record
        assert record.by_hand == known


def test_a_ceiling_that_is_reached_goes_on_holding_what_failed_joins_hold_no_more():
    record = replace(braked_for(*THREE, of_use=THREE), lives={name: Life("f2", NOON - 900) for name in THREE})
    found = plan(cloud(*map(instance, THREE), group=SUSPENDED), record, rules=replace(RULES, instances=3))
    assert (found.steps, found.record.brakes["lab-f2"].kind, found.record.brakes["lab-f2"].firm) == ((), INSTANCES, False)


def test_three_nodes_that_are_of_use_again_after_an_outage_pause_no_pool_and_a_pause_that_was_made_passes():
    """The whole story: Ready again, and a look comes before the network's own word of each node."""
    record = Record(ACCOUNT, REGION, {name: Entry(JOINED, NOON - 780, ZONE, pool="f2", tagged=True) for name in THREE})
    rules, steps = replace(RULES, network_told=True), []
    for now, ready, network in ((NOON - 5, None, None), (NOON, NOON - 1, None), (NOON + 60, NOON - 1, True)):
        nodes = {name: Node(name, f"aws:///{ZONE}/{name}", ready is not None, ready_since=ready, network=network) for name in THREE}
        found = cloud(*map(instance, THREE))
        made = brakes.make_plan(found, nodes, {}, plans.make_plan(World(found, nodes), record, rules, now).record, rules, now)
        record, steps = made.record, [*steps, *made.steps]
    assert (steps, record.failed, all(entry.complete for entry in record.entries.values())) == ([], {}, True)


def test_a_node_that_gives_late_what_was_promised_is_no_failed_join_any_more():
    name = name_of(1)
    entries = {name: Entry(JOINED, NOON - 900, pool="f2", complete=True)}
    known = {name: FailedJoin("f2", NOON - 60, FAILED, "incomplete", None, "")}
    assert plan(cloud(instance(name)), Record(entries=entries, failed=known)).record.failed == {}


@pytest.mark.parametrize("text", ["[" * 4096, '{"failure": 1}', "null", '{"state": "\u001b[2J", "failure": {"kind": "\ud800", "sentence": "a\u001b]0;b"}}'])
def test_whatever_an_instance_writes_about_itself_is_read_and_is_nothing_that_a_terminal_obeys(text):
    found = read_evidence(text)
    assert all(word.isprintable() for word in (found.state, found.kind, found.sentence))


def taken(name: str, state: str = "terminated") -> Instance:
    """As EC2 shows a spot instance that it has taken back."""
    return replace(instance(name, state), reason="Server.SpotInstanceTermination")


@pytest.mark.parametrize("state", ["shutting-down", "terminated"])
@pytest.mark.parametrize("nodes", [{}, None], ids=["the cluster answers", "it does not"])
def test_an_instance_that_ec2_takes_back_before_it_has_joined_is_no_failed_join(state, nodes):
    """bootstrap says nothing of its being shut down, and the watch begins after it. What EC2 said of it outlasts EC2's saying so."""
    name = name_of(1)
    record = Record(entries={name: Entry(ENROLLED, NOON - 60, pool="f2")})
    seen = brakes.make_plan(cloud(taken(name, state)), nodes, {}, record, RULES, NOON, unread=[name]).record
    gone = replace(seen, entries={name: Entry(ENROLLED, NOON - 60, pool="f2", absent=2, absent_since=NOON)})
    later = plan(cloud(asked=(name,)), gone, now=NOON + UNREAD + 60).record
    for known in (seen, later):
        assert [(one.state, one.kind) for one in known.failed.values()] == [("interrupted", "spot")]
    assert name not in plan(cloud(taken(name, state)), record).notes


def test_of_one_that_is_described_no_more_it_is_not_known_that_ec2_took_it():
    gone = Record(entries={name_of(1): Entry(ENROLLED, NOON - 60, pool="f2", absent=2, absent_since=NOON)})
    assert [one.kind for one in plan(cloud(asked=(name_of(1),)), gone).record.failed.values()] == ["never-joined"]


def test_an_instance_that_failed_before_ec2_took_it_has_failed():
    name = name_of(1)
    record = Record(entries={name: Entry(ENROLLED, NOON - 60, pool="f2")})
    at_once = plan(cloud(taken(name)), record, {name: VPN}).record
    before = plan(cloud(taken(name)), plan(cloud(instance(name)), record, {name: VPN}).record).record
    assert [[(one.state, one.kind) for one in known.failed.values()] for known in (at_once, before)] == [[(FAILED, "vpn")]] * 2


def test_a_refused_instance_has_failed_also_if_ec2_takes_it():
    record = Record(entries={name_of(1): Entry(REFUSED, NOON - 60, pool="f2", reason="A second enrolment.")})
    assert [(one.state, one.kind) for one in plan(cloud(taken(name_of(1))), record).record.failed.values()] == [(FAILED, "refused")]


def test_a_node_without_its_boards_yet_that_ec2_takes_back_is_no_failed_join():
    record = Record(entries={name_of(1): Entry(JOINED, NOON - 60, pool="f2")})
    found = plan(cloud(taken(name_of(1))), record)
    for _later in range(3):
        assert [(one.state, one.kind) for one in found.record.failed.values()] == [("interrupted", "spot")]
        found = plan(cloud(taken(name_of(1))), found.record)


def test_an_instance_that_ec2_takes_back_before_it_could_be_enrolled_is_no_failed_join():
    """As while the control plane was away."""
    name = name_of(1)
    seen = plan(cloud(instance(name)), Record()).record
    found = plan(cloud(taken(name)), seen, now=NOON + 60).record
    assert [(one.state, one.kind) for one in found.failed.values()] == [("interrupted", "spot")]


def test_one_that_joins_after_all_is_no_failed_join_any_more():
    entries = {name_of(1): Entry(JOINED, NOON, pool="f2", complete=True)}
    assert plan(cloud(instance(name_of(1))), Record(entries=entries, failed={name_of(1): failed(NOON)})).record.failed == {}


def test_a_node_that_never_gets_ready_is_a_failed_join():
    entries = {name_of(1): Entry(JOINED, NOON, pool="f2")}
    found = plan(cloud(instance(name_of(1))), Record(entries=entries), {name_of(1): Evidence(FAILED, "not-ready", 55, "")})
    assert found.record.failed[name_of(1)].kind == "not-ready"


def test_while_the_cluster_cannot_be_asked_an_end_is_no_failed_join():
    entries = {name_of(1): Entry(ENROLLED, NOON - 60, pool="f2")}
    found = brakes.make_plan(cloud(instance(name_of(1), "terminated")), None, {}, Record(entries=entries), RULES, NOON)
    assert found.record.failed == {}


@pytest.mark.parametrize(
    ("entry", "state", "kind"),
    [
        (Entry(ENROLLED, NOON - 900, pool="f2", absent=2, absent_since=NOON), "terminated", "never-joined"),
        (Entry(LAPSED, NOON - RULES.lifetime, pool="f2"), "running", "never-joined"),
        (Entry(JOINED, NOON - 900, pool="f2", absent=2, absent_since=NOON), "terminated", "incomplete"),
    ],
    ids=["it ended", "its token ended", "a node ended"],
)
def test_nobody_is_judged_for_want_of_a_word_while_what_was_said_cannot_be_read(entry, state, kind):
    name = name_of(1)
    record = Record(entries={name: entry})

    def kinds(now: float, unread: tuple[str, ...] = (name,)) -> list[str]:
        found = brakes.make_plan(cloud(instance(name, state)), {}, {}, record, RULES, now, unread)
        return [one.kind for one in found.record.failed.values()]

    assert (kinds(NOON), kinds(NOON + UNREAD - 1), kinds(NOON + UNREAD), kinds(NOON, ())) == ([], [], [kind], [kind])
    assert name in brakes.of_interest(record, cloud(instance(name, state)), RULES, NOON + UNREAD - 1)


@pytest.mark.parametrize("state", ["shutting-down", "stopped"])
def test_of_one_whose_end_has_only_begun_what_it_said_is_waited_for(state):
    name, record = name_of(1), Record(entries={name_of(1): Entry(ENROLLED, NOON - 900, pool="f2")})
    assert brakes.make_plan(cloud(instance(name, state)), {}, {}, record, RULES, NOON, (name,)).record.failed == {}


def test_what_aws_says_shortly_after_a_suspension_is_not_taken_for_a_lift():
    brake = Brake("f2", FAILED_JOINS, "why", NOON - 10, set_at=NOON - 10)
    found = plan(cloud(), Record(failed=failures(20, 30, 40), brakes={"lab-f2": brake}))
    assert (found.steps, found.record.brakes, found.record.resumed) == ((), {"lab-f2": brake}, {})


def test_shortly_after_keepers_own_resumption_it_is_nobody_elses_suspension():
    brake = Brake("f2", INSTANCES, "why", NOON - 60, firm=False, set_at=NOON - 60, lifted_at=NOON - 5)
    suspended = replace(GROUP, suspended=True)
    assert plan(cloud(group=suspended), Record(brakes={"lab-f2": brake})).notes == {}
    assert brakes.paused(suspended, Record(brakes={"lab-f2": brake})) is None
    late = plan(cloud(group=suspended), Record(brakes={"lab-f2": brake}), now=NOON + 60)
    assert "was suspended by somebody else" in late.notes["pool f2"]
    assert brakes.paused(suspended, late.record).kind == HAND


def test_a_group_that_one_look_lacks_loses_neither_its_brake_nor_a_persons_word():
    brake = Brake("f2", INSTANCES, "why", NOON - 600, firm=False, set_at=NOON - 600)
    suspended, resumed = replace(GROUP, suspended=True), {"lab-f2": NOON - 900}
    missing = plan(Cloud(ACCOUNT, REGION), Record(brakes={"lab-f2": brake}, resumed=resumed))
    assert (missing.steps, set(missing.record.brakes), missing.record.resumed) == ((), {"lab-f2"}, resumed)
    back = plan(cloud(group=suspended), missing.record, now=NOON + 7200)
    assert back.steps == (Resume("lab-f2", "f2"),), "it is keeper's own, and lifts itself"
    assert back.record.brakes == {"lab-f2": brake}


def test_the_brake_of_a_group_that_was_removed_is_forgotten_after_an_hour_of_looks_without_it():
    record = Record(brakes={"lab-f2": Brake("f2", FAILED_JOINS, "why", NOON - 86400, set_at=NOON - 86400)})
    for now, remembered in ((NOON, True), (NOON + MISSED, True), (NOON + MISSED + 1, False)):
        record = plan(Cloud(ACCOUNT, REGION), record, now=now).record
        assert bool(record.brakes) == remembered


def test_a_group_made_anew_under_its_name_is_not_paused_for_what_failed_in_the_old_one():
    """Nobody has lifted the old one's brake: it went with it."""
    record = Record(failed=failures(60, 120, 180), brakes={"lab-f2": Brake("f2", FAILED_JOINS, "why", NOON - 60, set_at=NOON - 60)})
    for seconds in (0, MISSED + 1):
        record = plan(Cloud(ACCOUNT, REGION), record, now=NOON + seconds).record
    later = NOON + MISSED + 60
    found = plan(cloud(), record, now=later)
    assert (found.steps, found.record.brakes) == ((), {})
    more = {**found.record.failed, **{name_of(number): failed(later + 60) for number in range(1, 4)}}
    assert [type(step) for step in plan(cloud(), replace(found.record, failed=more), now=later + 120).steps] == [Suspend]


def test_a_brake_that_holds_again_after_keepers_resumption_has_failed_is_lifted_by_a_person_who_forgives():
    """All had joined after all; ResumeProcesses was throttled; one more has failed."""
    record = braked_for(*THREE, of_use=THREE)
    (step,) = plan(cloud(*map(instance, THREE), group=SUSPENDED), record).steps
    record = brakes.begun(record, step).with_entry(name_of(4), Entry(ENROLLED, NOON - 60, pool="f2"))
    others = {name_of(number): failed(NOON - 30) for number in (5, 6)}
    record = replace(record, failed={**record.failed, **others})
    held = plan(cloud(*map(instance, (*THREE, name_of(4))), group=SUSPENDED), record, {name_of(4): VPN})
    assert (held.steps, held.record.brakes["lab-f2"].lifting) == ((), False)
    lifted = plan(cloud(*map(instance, (*THREE, name_of(4)))), held.record, now=NOON + 600)
    assert (lifted.steps, lifted.record.resumed) == ((), {"lab-f2": NOON + 600})


def kept(settled: bool = False) -> Record:
    name = name_of(1)
    return Record(entries={name: Entry(ENROLLED, NOON - 900, pool="f2")}, failed={name: failed(NOON - 60)}, kept={name: Kept("f2", "lab-f2", NOON, settled)})


@pytest.mark.parametrize(
    ("settled", "group", "is_out"),
    [
        (False, None, False),
        (True, None, True),
        (False, GROUP, True),
        (False, replace(GROUP, instances=frozenset({name_of(1)})), False),
        (False, replace(GROUP, ending=frozenset({name_of(1)})), False),
    ],
    ids=["a look lacks its group", "that of a settled one", "out of its group", "still of its group", "its group ends it"],
)
def test_one_is_kept_and_ended_when_its_group_is_seen_without_it_and_not_on_the_word_of_a_look_without_the_group(settled, group, is_out):
    seen = Cloud(ACCOUNT, REGION, {"lab-f2": group} if group else {}, {name_of(1): instance(name_of(1))})
    found = plan(seen, kept(settled))
    assert (End(name_of(1)) in found.steps) == is_out
    assert ("kept for a look" in found.notes[name_of(1)]) == is_out
    pools = brakes.report(seen.groups, found.record, {}, NOON, str)["pools"]
    assert any(pool["kept"] for pool in pools.values()) == (is_out and group is not None)


def test_one_that_its_group_ends_is_not_taken_out_of_it_any_more_and_the_next_one_is_kept_instead():
    two, other = replace(GROUP, instances=frozenset({name_of(2)}), ending=frozenset({name_of(1)})), name_of(2)
    record = kept()
    record = replace(record, entries={**record.entries, other: Entry(ENROLLED, NOON - 900, pool="f2")}, failed={**record.failed, other: failed(NOON - 30)})
    seen = Cloud(ACCOUNT, REGION, {"lab-f2": two}, {name: instance(name) for name in (name_of(1), other)})
    found = plan(seen, record, rules=replace(RULES, keep={"f2": 1}))
    assert [step.instance for step in found.steps if isinstance(step, Keep)] == [other]
    assert found.record.kept == {}


def test_hours_are_those_of_the_utc_day_and_money_is_told_only_where_every_price_is_known():
    midnight = brakes.day_of(NOON)
    lives = {"a": Life("f2", midnight - 3600, midnight + 1800), "b": Life("f2", NOON - 3600), "c": Life("other", midnight - 7200, midnight - 3600)}
    day = brakes.today(Record(lives=lives), NOON)
    assert (day.instances, day.hours) == (2, {"f2": 1.5})
    groups = {"lab-f2": GROUP}
    assert brakes.report(groups, Record(lives=lives), {"f2": 2.0}, NOON, str)["today"]["cost"] == 3.0
    assert brakes.report(groups, Record(lives=lives), {"f2": None}, NOON, str)["today"]["cost"] is None


MIDNIGHT = brakes.day_of(NOON)


def looks_again(record: Record, found: Cloud, now: float, ran_until: float | None) -> Record:
    made = plans.make_plan(World(found, {}), record, RULES, now)
    return brakes.make_plan(found, {}, {}, made.record, RULES, now, ran_until=ran_until).record


@pytest.mark.parametrize(("on_record", "state"), [(True, None), (False, None), (True, "terminated"), (False, "terminated")])
@pytest.mark.parametrize(("until", "hours"), [(MIDNIGHT - 3600, {}), (MIDNIGHT + 1800, {"f2": 2.0}), (None, {"f2": 32.0})])
def test_of_those_that_ended_in_the_dark_the_hours_are_counted_up_to_the_last_look_at_them(on_record, state, until, hours):
    """They ended themselves when they reached nobody. Where no look is known of they are counted until they are missed."""
    names = [name_of(number) for number in range(4)]
    entry = Entry(JOINED, MIDNIGHT - 7200, ZONE, pool="f2", complete=True, tagged=True)
    record = Record(ACCOUNT, REGION, dict.fromkeys(names, entry) if on_record else {}, lives={name: Life("f2", MIDNIGHT - 9000) for name in names})
    found = cloud(*(instance(name, state) for name in names if state), asked=tuple(names))
    now = MIDNIGHT + 8 * 3600
    record = looks_again(record, found, now, until)
    for seconds in (6, 12):  # the looks after the first see nothing of them, either
        record = looks_again(record, found, now + seconds, now + seconds)
    counted = {pool: round(sum_, 1) for pool, sum_ in brakes.today(record, now + 12).hours.items()}
    assert counted == hours


def test_one_that_a_single_look_lacks_has_run_on():
    name = name_of(1)
    entries = {name: Entry(JOINED, NOON - 7200, ZONE, pool="f2", complete=True, tagged=True)}
    record = Record(ACCOUNT, REGION, entries, lives={name: Life("f2", NOON - 7200)})
    record = looks_again(record, cloud(asked=(name,)), NOON - 3600, NOON - 3605)
    assert brakes.today(record, NOON).hours == {"f2": 2.0}
    record = looks_again(record, cloud(instance(name), asked=(name,)), NOON, NOON)
    assert record.lives == {name: Life("f2", NOON - 7200)}
    record = looks_again(record, cloud(asked=(name,)), NOON + 3605, NOON + 3600)
    record = looks_again(record, cloud(asked=(name,)), NOON + 3610, NOON + 3610)
    assert record.lives[name].end == NOON + 3600


def test_nothing_ends_before_it_began_and_nothing_in_the_future():
    names = name_of(1), name_of(2)
    record = Record(ACCOUNT, REGION, lives={names[0]: Life("f2", NOON - 60), names[1]: Life("f2", NOON - 7200)})
    record = looks_again(record, cloud(asked=names[:1]), NOON, NOON - 3600)
    record = looks_again(record, cloud(asked=names), NOON, NOON + 3600)
    assert {name: life.end for name, life in record.lives.items()} == {names[0]: NOON - 60, names[1]: NOON}


def test_a_ceiling_that_is_reached_after_another_brake_changes_what_is_told_and_calls_nobody():
    brake = Brake("f2", INSTANCES, "why", NOON - 60, firm=False, set_at=NOON - 60)
    lives = {name_of(1): Life("f2", NOON - 7200)}
    found = plan(cloud(group=replace(GROUP, suspended=True)), Record(lives=lives, brakes={"lab-f2": brake}), rules=replace(RULES, hours=1))
    assert (found.steps, found.record.brakes["lab-f2"].kind) == ((), INSTANCE_HOURS)


def test_without_a_ceiling_as_many_run_as_long_as_they_like_and_with_one_they_do_not():
    lives = {name_of(number): Life("f2", NOON - 7200) for number in range(200)}
    assert plan(cloud(), Record(lives=lives), rules=replace(RULES, instances=None, hours=None)).steps == ()
    for rules in (replace(RULES, instances=200, hours=None), replace(RULES, instances=None, hours=400.0)):
        assert [type(step) for step in plan(cloud(), Record(lives=lives), rules=rules).steps] == [Suspend]


@pytest.mark.parametrize("text", ["", "[]", "null", '{"failure": 1}', '"x"', '{"state": 5, "failure": {"status": "x", "sentence": ["a"]}}'])
def test_a_failure_parameter_that_says_anything_is_read_as_something(text):
    found = read_evidence(text)
    assert found.kind == "unknown"
    assert found.status is None


def test_a_failure_parameter_fills_one_line_and_not_a_long_one():
    found = read_evidence('{"failure": {"kind": "vpn", "status": 40, "sentence": "a\\nroot: fake line ' + "x" * 4000 + '"}}')
    assert "\n" not in found.sentence
    assert len(found.sentence) <= 600


def test_records_of_older_keepers_are_read():
    text = '{"schema": 1, "cluster_id": "x", "account": "1", "region": "r", "instances": {}}'
    assert records.from_json(text, "x", "record.json") == Record("1", "r")


def test_a_record_that_does_not_say_yet_who_has_joined_and_what_a_brake_was_set_for_is_read():
    record = Record("1", "r", {}, {}, {"i": Life("f2", 1.0)}, {"lab-f2": Brake("f2", FAILED_JOINS, "why", NOON)})
    document = json.loads(records.to_json(record, "x"))
    del document["proven"], document["lives"]["i"]["seen"], document["brakes"]["lab-f2"]["failed"]
    assert records.from_json(json.dumps(document), "x", "record.json") == record


@pytest.mark.parametrize(("ages", "suspends"), [((2 * DAY, 3 * DAY, 5 * DAY), False), ((60, 120, 180), True)], ids=["of other days", "within the window"])
def test_of_failures_that_an_older_keeper_wrote_down_those_of_the_window_count_and_no_others(ages, suspends):
    """It did not write down who has joined in between: a pool that is well is not paused by an upgrade."""
    entries = {name_of(1): Entry(JOINED, NOON - 900, ZONE, pool="f2", complete=True, tagged=True)}
    document = json.loads(records.to_json(Record(ACCOUNT, REGION, entries, failures(*ages)), "x"))
    del document["proven"]
    found = plan(cloud(instance(name_of(1))), records.from_json(json.dumps(document), "x", "record.json"))
    assert [type(step) for step in found.steps] == ([Suspend] if suspends else [])


def test_what_the_brakes_remember_survives_the_disk():
    brake = Brake("f2", INSTANCE_HOURS, "why", NOON, firm=False, set_at=NOON, failed=("a", "b"))
    record = Record("1", "r", {}, failures(1), {"i": Life("f2", 1.0, 2.0)}, {"lab-f2": brake}, {"lab-f2": 3.0}, {"i": brakes.Kept("f2", "lab-f2", NOON)})
    record = replace(record, proven={"f2": 4.0}, by_hand={"lab-f2": 5.0})
    assert records.from_json(records.to_json(record, "x"), "x", "record.json") == record


# --- a clock that was ahead, and is set back -----------------------------------------------------------------------------------------------

AHEAD = 8 * 3600.0


def one_pass(found: Cloud, record: Record, evidence: dict[str, Evidence] | None = None, now: float = NOON) -> brakes.Plan:
    """Both plans, as keeper makes them."""
    return plan(found, plans.make_plan(World(found, {}), record, RULES, now).record, evidence, now=now)


def test_a_resumption_from_the_future_does_not_forgive_what_fails_after_it():
    record, steps = one_pass(cloud(), Record(ACCOUNT, REGION, resumed={"lab-f2": NOON + AHEAD})).record, []
    for number in range(1, 4):
        name, now = name_of(number), NOON + number * 1800
        record = record.with_entry(name, Entry(ENROLLED, now - 60, ZONE, pool="f2"))
        found = one_pass(cloud(instance(name)), record, {name: VPN}, now)
        record, steps = found.record, [*steps, *found.steps]
    assert [step.brake.firm for step in steps if isinstance(step, Suspend)][-1:] == [True]


def test_a_brake_from_the_future_may_be_lifted_and_holds_again_after_three_more():
    brake = Brake("f2", FAILED_JOINS, "why", NOON + AHEAD, set_at=NOON + AHEAD)
    future = {name: replace(one, at=NOON + AHEAD) for name, one in failures(1, 2, 3).items()}
    found = one_pass(cloud(group=replace(GROUP, suspended=True)), Record(ACCOUNT, REGION, failed=future, brakes={"lab-f2": brake}))
    resumed = one_pass(cloud(), found.record, now=NOON + 60)
    assert (resumed.steps, resumed.record.brakes, resumed.record.resumed) == ((), {}, {"lab-f2": NOON + 60})
    more = replace(resumed.record, failed={**resumed.record.failed, **{name_of(number): failed(NOON + 120) for number in range(1, 4)}})
    assert [type(step) for step in one_pass(cloud(), more, now=NOON + 180).steps] == [Suspend]


def moments(record: Record) -> list[tuple[str, float]]:
    """Each number on record that is a moment. Whoever adds one of another kind says so here."""
    document = json.loads(records.to_json(record, "x"))
    parts = [one for part in ("instances", *records.PARTS) for one in document[part].values()]
    named = [(name, value) for one in parts for name, value in one.items()] + [item for part in records.MOMENTS for item in document[part].items()]
    return [(name, value) for name, value in named if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in ("absent", "status")]


MOMENT = st.floats(0, NOON + WEEK)
NAMES = st.sampled_from(["a", "b", "c"])
RECORDS = st.builds(
    Record,
    entries=st.dictionaries(NAMES, st.builds(Entry, st.sampled_from(plans.PHASES), since=MOMENT, absent=st.integers(0, 2), absent_since=MOMENT)),
    failed=st.dictionaries(NAMES, st.builds(FailedJoin, st.just("f2"), MOMENT, st.just(FAILED), st.just("vpn"), st.just(40), st.just(""))),
    lives=st.dictionaries(NAMES, st.builds(Life, st.just("f2"), MOMENT, MOMENT)),
    brakes=st.dictionaries(
        NAMES, st.builds(Brake, st.just("f2"), st.just(FAILED_JOINS), st.just(""), since=MOMENT, set_at=MOMENT, lifted_at=MOMENT, missed=MOMENT)
    ),
    kept=st.dictionaries(NAMES, st.builds(Kept, st.just("f2"), st.just("lab-f2"), until=MOMENT)),
    resumed=st.dictionaries(NAMES, MOMENT),
    proven=st.dictionaries(NAMES, MOMENT),
    by_hand=st.dictionaries(NAMES, MOMENT),
)


@given(RECORDS)
@settings(deadline=None)
def test_no_moment_on_record_is_in_the_future_and_none_of_the_past_is_changed(record):
    found = plans.not_ahead(record, RULES, NOON)
    before, after = moments(record), moments(found)
    latest = {"until": NOON + RULES.kept}
    assert after == [(name, min(moment, latest.get(name, NOON))) for name, moment in before]
    assert plans.not_ahead(found, RULES, NOON) == found
    assert plans.not_ahead(record, RULES, NOON + WEEK) == record


class Loop:
    """A pool whose instances start whenever Launch allows, as the worst of autoscalers would have it, one a pass."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.now, self.record = rules, NOON, Record(ACCOUNT, REGION)
        self.states: dict[str, str] = {}
        self.suspended, self.launched = False, 0
        self.steps: list[object] = []

    def launch(self) -> None:
        if not self.suspended:
            self.launched += 1
            self.states[name_of(self.launched)] = "running"

    def one_pass(self, evidence: dict[str, Evidence]) -> None:
        self.now += 5
        for name, state in self.states.items():
            if state == "running" and name not in self.record.entries:
                self.record = self.record.with_entry(name, Entry(ENROLLED, self.now, pool="f2"))
        found = cloud(*(instance(name, state) for name, state in self.states.items()), group=replace(GROUP, suspended=self.suspended))
        made = plan(found, self.record, evidence, self.rules, self.now)
        self.record = made.record
        for step in made.steps:
            self.steps.append(step)
            self.record = brakes.begun(self.record, step)
            if isinstance(step, Suspend):
                self.suspended = True
            elif isinstance(step, Resume):
                self.suspended = False
            self.record = brakes.done(self.record, step, self.now)


@given(st.lists(st.sampled_from(["told", "silent", "wait"]), max_size=40), st.integers(1, 5))
@settings(deadline=None)
def test_in_a_paid_loop_no_more_are_launched_than_may_fail(story, most):
    loop = Loop(replace(RULES, most=most))
    for turn in story:
        running = [name for name, state in loop.states.items() if state == "running"]
        if not running:
            loop.launch()
            loop.one_pass({})
            running = [name for name, state in loop.states.items() if state == "running"]
        evidence = {running[0]: VPN} if turn == "told" and running else {}
        if turn == "silent" and running:
            loop.states[running[0]] = "shutting-down"
        loop.one_pass(evidence)
        if turn == "told" and running:
            loop.states[running[0]] = "shutting-down"
            loop.one_pass({})
    assert loop.launched <= most
    assert all(isinstance(step, (Suspend, Resume)) for step in loop.steps)


@given(st.lists(st.tuples(st.sampled_from(["launch", "told", "silent", "joins", "resumes by hand", "wait"]), st.integers(0, 9)), max_size=60))
@settings(deadline=None)
def test_after_a_failure_no_more_run_unproven_than_could_fail_and_nothing_that_joined_is_ended(story):
    loop = Loop(replace(RULES, keep={"f2": 1}))
    for what, which in story:
        unproven = [name for name, state in loop.states.items() if state == "running" and loop.record.entries[name].phase != JOINED]
        chosen = unproven[which % len(unproven)] if unproven else ""
        evidence = {}
        counted = sum(one.at > max([0.0, *loop.record.resumed.values()]) for one in loop.record.failed.values())
        before = loop.launched
        if what == "launch":
            loop.launch()
        elif what == "told" and chosen:
            evidence = {chosen: VPN}
        elif what == "silent" and chosen:
            loop.states[chosen] = "terminated"
        elif what == "joins" and chosen:
            loop.record = loop.record.with_entry(chosen, replace(loop.record.entries[chosen], phase=JOINED, complete=True))
        elif what == "resumes by hand":
            loop.suspended = False
        if loop.launched > before and counted and what == "launch":
            pending = [name for name in unproven if name not in loop.record.failed]
            assert counted + len(pending) < RULES.most
        loop.one_pass(evidence)
        loop.now += 30
    joined = {name for name, entry in loop.record.entries.items() if entry.phase == JOINED}
    for step in loop.steps:
        assert isinstance(step, (Suspend, Resume, Keep, End))
        assert not (isinstance(step, (Keep, End)) and step.instance in joined and step.instance not in loop.record.kept)
