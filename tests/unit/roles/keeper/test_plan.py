# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's plan: its rules one by one, and what holds whatever happens, in a world that hypothesis makes up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import node_template
from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint
from fpga_hybrid_keeper import plan as plans
from fpga_hybrid_keeper.plan import (
    ENROLLED,
    ENROLLING,
    GONE,
    JOINED,
    LAPSED,
    REFUSED,
    SEEN,
    STARTUP_TAINT,
    Cloud,
    Enrol,
    Entry,
    Forget,
    Group,
    Instance,
    Kept,
    Life,
    LiftTaint,
    Node,
    Plan,
    Reap,
    Record,
    Refuse,
    Rules,
    SetTaint,
    TellAddress,
    World,
    make_plan,
)

ID, OTHER_ID = "5c9e8f6a-0000-4000-8000-000000000001", "5c9e8f6a-0000-4000-8000-000000000002"
RULES = Rules(ID, "lab", grace=20.0, lifetime=1800.0)
BOARD = "xilinx/aws-vu47p-f2"
PROMISE = {"cpu": "23500m", "memory": "200Gi", "pods": "110", BOARD: "1"}
GIVEN = {"cpu": "24", "memory": "210Gi", "pods": "110", BOARD: "1"}
ONE, TWO, THREE, FOUR = (f"i-0123456789abcdef{number}" for number in range(1, 5))
ACCOUNT, REGION, ZONE = "123456789012", "us-east-1", "us-east-1a"
NOW = 1_000_000.0
ON_PREM = Node("worker1", "fpga-hybrid:///lab/worker1", ready=False, taints=(STARTUP_TAINT,))
GROUP = Group("lab-f2", "f2", owned=True, promise=PROMISE)


def arn(name: str) -> str:
    return f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{name}"


def instance(name: str = ONE, state: str = "running", group: str = "lab-f2", cluster_id: str = ID) -> Instance:
    return Instance(name, state, ZONE, arn(name), group, cluster_id)


def cloud(*found: Instance, asked: tuple[str, ...] = (), group: Group | None = GROUP, **more: str) -> Cloud:
    groups = {group.name: replace(group, instances=frozenset(one.id for one in found if one.group == group.name))} if group else {}
    return Cloud(more.get("account", ACCOUNT), more.get("region", REGION), groups, {one.id: one for one in found}, frozenset(asked))


def node(name: str = ONE, ready: bool = True, taints: tuple[Taint, ...] = (STARTUP_TAINT,), given: dict[str, str] | None = None, provider: str = "") -> Node:
    return Node(name, provider or f"aws:///{ZONE}/{name}", ready, taints, GIVEN if given is None else given, version="7")


def nodes(*found: Node) -> dict[str, Node]:
    return {one.name: one for one in (ON_PREM, *found)}


def entry(phase: str = JOINED, name: str = ONE, since: float = NOW - 100, **more) -> Entry:
    standard = {"zone": ZONE, "arn": arn(name), "pool": "f2", "promise": PROMISE, "vpn_address": "172.27.232.1", "tagged": True, "complete": True}
    return Entry(phase, since, **{**standard, **more})


def record(**entries: Entry) -> Record:
    return Record(ACCOUNT, REGION, {{"one": ONE, "two": TWO, "three": THREE}[name]: one for name, one in entries.items()})


def plan(world: World, known: Record | None = None, now: float = NOW) -> Plan:
    return make_plan(world, known or Record(), RULES, now)


# --- enrolment --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "running"])
def test_an_instance_of_our_group_is_enrolled_from_its_first_second(state):
    found = plan(World(cloud(instance(state=state)), nodes()))
    assert found.actions == (Enrol(ONE, "f2", ZONE, arn(ONE), PROMISE),)


@pytest.mark.parametrize("state", ["shutting-down", "stopping", "stopped", "terminated"])
def test_an_instance_that_goes_or_stands_still_is_not(state):
    assert plan(World(cloud(instance(state=state)), nodes())).actions == ()


@pytest.mark.parametrize("phase", [ENROLLED, LAPSED, JOINED, REFUSED, GONE])
def test_no_instance_is_enrolled_a_second_time(phase):
    found = plan(World(cloud(instance()), nodes()), record(one=entry(phase)))
    assert not [action for action in found.actions if isinstance(action, (Enrol, Refuse))]


def test_an_enrolment_that_a_crash_has_cut_short_is_ended():
    found = plan(World(cloud(instance()), nodes()), record(one=entry(ENROLLING, promise={"cpu": "1"})))
    assert found.actions == (Enrol(ONE, "f2", ZONE, arn(ONE), {"cpu": "1"}, again=True),)


def test_nobody_is_enrolled_while_the_cluster_cannot_give_a_token():
    assert plan(World(cloud(instance()), None)).actions == ()
    assert plan(World(cloud(instance()), None), record(one=entry(ENROLLING))).actions == ()


def test_an_instance_that_its_group_does_not_list_yet_is_waited_for():
    world = World(Cloud(ACCOUNT, REGION, {"lab-f2": GROUP}, {ONE: instance()}), nodes())
    assert plan(world).actions == ()
    assert plan(world).record.entries == {}


def test_many_newcomers_are_enrolled_some_at_a_time():
    many = [instance(f"i-{number:017x}") for number in range(50)]
    assert len(plan(World(cloud(*many), nodes())).actions) == RULES.enrolments


def test_a_node_that_is_not_on_record_is_put_there_and_gets_no_second_bundle():
    found = plan(World(cloud(instance()), nodes(node(taints=()))))
    assert found.actions == (Forget(ONE),)
    assert (found.record.entries[ONE].phase, found.record.entries[ONE].complete) == (JOINED, True)


# --- foreign instances ------------------------------------------------------------------------------------------------------------------

REMEDY = "Instances of this cluster are started by the groups of its pools only (playbook pools.yml). End this one."


@pytest.mark.parametrize(
    ("stranger", "group", "reason"),
    [
        (instance(group=""), GROUP, f"{ONE} was started by no group; expected a group with the tags"),
        (instance(group="theirs"), GROUP, f"{ONE} was started by group theirs, which does not carry this cluster's id; expected"),
        (instance(), replace(GROUP, owned=False), f"{ONE} was started by group lab-f2, which lacks the tag k8s.io/cluster-autoscaler/lab=owned; expected"),
        (instance(cluster_id=OTHER_ID), GROUP, f"{ONE} carries the id of another cluster, {OTHER_ID}; this is {ID}."),
    ],
)
def test_a_foreign_instance_is_refused_with_the_reason_at_the_second_sighting(stranger, group, reason):
    world = World(cloud(stranger, group=group), nodes())
    first = plan(world)
    assert first.actions == ()
    assert first.record.entries[ONE].phase == SEEN
    assert plan(world, first.record, NOW + 19).actions == ()
    (refusal,) = plan(world, first.record, NOW + 20).actions
    assert isinstance(refusal, Refuse)
    assert refusal.reason.startswith(reason)
    assert refusal.reason.endswith(REMEDY)


def test_an_instance_whose_group_was_only_too_new_is_enrolled_after_all():
    first = plan(World(cloud(instance(), group=None), nodes()))
    assert [type(action) for action in plan(World(cloud(instance()), nodes()), first.record, NOW + 30).actions] == [Enrol]


# --- joining ----------------------------------------------------------------------------------------------------------------------------


def test_when_its_node_is_there_bundle_and_token_go_and_the_inventory_learns_the_address():
    known = record(one=entry(ENROLLED, secret=True, tagged=False, complete=False))
    found = plan(World(None, nodes(node(given={}))), known)
    assert found.actions == (Forget(ONE), TellAddress(ONE, "172.27.232.1"))
    assert found.record.entries[ONE].phase == JOINED


@pytest.mark.parametrize(
    ("settled", "listed", "looked", "joins"),
    [(False, True, True, True), (True, True, True, False), (False, False, True, False), (False, True, False, False)],
    ids=["still of its group", "settled", "out of its group", "AWS was not asked"],
)
def test_one_that_joins_while_keeping_it_has_only_begun_becomes_a_node_as_long_as_its_group_has_it(settled, listed, looked, joins):
    """Where it can never be taken out of its group, as at min_size, nobody would ever end it."""
    group = replace(GROUP, instances=frozenset({ONE} if listed else ()))
    seen = replace(cloud(instance()), groups={GROUP.name: group}) if looked else None
    known = replace(record(one=entry(ENROLLED, complete=False)), kept={ONE: Kept("f2", GROUP.name, NOW + 7200, settled)})
    found = plan(World(seen, nodes(node())), known)
    assert (found.record.entries[ONE].phase, ONE in found.record.kept) == ((JOINED, False) if joins else (ENROLLED, True))
    assert (LiftTaint(ONE, node()) in found.actions) == joins


def test_a_node_of_its_name_with_another_provider_id_is_not_it():
    known = record(one=entry(ENROLLED, secret=True, tagged=False, complete=False))
    found = plan(World(cloud(instance()), nodes(node(provider="aws:///us-east-1b/i-0dead"))), known)
    assert found.actions == ()
    assert found.notes[ONE].startswith(f"Node {ONE} has provider ID aws:///us-east-1b/i-0dead, expected aws:///{ZONE}/{ONE}: it is not this instance")


def test_a_bundle_that_nobody_used_in_its_tokens_time_goes():
    known = record(one=entry(ENROLLED, since=NOW - 1801, secret=True))
    found = plan(World(None, None), known)
    assert found.actions == (Forget(ONE),)
    after = plans.done(known, Forget(ONE), NOW)
    assert after.entries[ONE].phase == LAPSED
    again = plan(World(cloud(instance()), nodes()), after)
    assert again.actions == ()
    assert again.notes[ONE].startswith("did not join within the 30 minutes that its token lived")


# --- startup taint ----------------------------------------------------------------------------------------------------------------------


def test_it_is_the_taint_that_nodes_register_with():
    assert node_template.STARTUP_TAINT == STARTUP_TAINT


@pytest.mark.parametrize(
    "given",
    [GIVEN, {**GIVEN, "cpu": "23500m", "memory": "214748364800"}, {**GIVEN, "example.org/else": "3"}],
    ids=["more than promised", "just what was promised", "something else besides"],
)
def test_the_startup_taint_goes_when_the_node_gives_what_was_promised(given):
    found = plan(World(None, nodes(node(given=given))), record(one=entry(complete=False)))
    assert found.actions == (LiftTaint(ONE, node(given=given)),)
    assert found.record.entries[ONE].complete


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({**GIVEN, BOARD: "0"}, f"{BOARD} is 0, promised 1"),
        ({**GIVEN, BOARD: "2"}, f"{BOARD} is 2, promised 1"),
        ({name: value for name, value in GIVEN.items() if name != BOARD}, f"{BOARD} is 0, promised 1"),
        ({**GIVEN, "cpu": "23499m"}, "cpu is 23499m, promised 23500m"),
        ({**GIVEN, "memory": "many"}, "memory: 'many' is no quantity"),
    ],
)
def test_it_stays_while_the_node_does_not(given, says):
    found = plan(World(None, nodes(node(given=given))), record(one=entry(complete=False)))
    assert found.actions == ()
    assert says in found.notes[ONE]


def test_a_node_that_has_registered_without_it_gets_it_until_it_gives_what_was_promised():
    bare = node(taints=(Taint("a", "b", "NoSchedule"),), given={**GIVEN, BOARD: "0"})
    assert plan(World(None, nodes(bare)), record(one=entry(complete=False))).actions == (SetTaint(ONE, bare),)


@pytest.mark.parametrize(("network", "lifted"), [(None, False), (False, False), (True, True)])
def test_where_the_pods_network_tells_the_taint_stays_until_it_is_up(network, lifted):
    """The kubelet calls itself ready as soon as there is a configuration; a pod that comes before the network's own is refused, and waits."""
    there = replace(node(), network=network)
    found = make_plan(World(None, nodes(there)), record(one=entry(complete=False)), replace(RULES, network_told=True), NOW)
    assert found.actions == ((LiftTaint(ONE, there),) if lifted else ())
    assert lifted or "its pods' network is not up" in found.notes[ONE]


def test_a_node_that_was_complete_once_keeps_its_pods_while_its_plugin_restarts():
    bare = node(taints=(), given={**GIVEN, BOARD: "0"})
    assert plan(World(None, nodes(bare)), record(one=entry(complete=True))).actions == ()


def test_a_pool_that_publishes_nothing_needs_no_startup_taint():
    bare = node(taints=(), given={"cpu": "1"})
    assert plan(World(None, nodes(bare)), record(one=entry(complete=False, promise={"cpu": "2"}))).actions == ()


# --- clearing away ----------------------------------------------------------------------------------------------------------------------


def gone_world(*silent: Node, **more) -> World:
    return World(cloud(asked=(ONE, TWO, THREE), **more), nodes(*silent))


def test_what_is_left_of_an_instance_goes_at_the_second_sighting_and_not_before():
    silent = node(ready=False, taints=())
    first = plan(gone_world(silent), record(one=entry()))
    assert first.actions == ()
    second = plan(gone_world(silent), first.record, NOW + 5)
    assert second.actions == ()
    third = plan(gone_world(silent), second.record, NOW + 20)
    assert third.actions == (Reap(ONE, silent, certificate=True, secret=False),)


@pytest.mark.parametrize("state", ["terminated", None])
def test_terminated_and_not_there_are_the_same(state):
    found = cloud(*([instance(state=state)] if state else []), asked=(ONE,))
    known = record(one=entry(absent=1, absent_since=NOW - 20))
    assert [type(action) for action in plan(World(found, nodes()), known).actions] == [Reap]


@pytest.mark.parametrize("state", ["pending", "running", "shutting-down", "stopped"])
def test_an_instance_that_is_back_begins_anew(state):
    known = record(one=entry(absent=1, absent_since=NOW - 20))
    found = plan(World(cloud(instance(state=state), asked=(ONE,)), nodes(node(ready=False))), known)
    assert not [action for action in found.actions if isinstance(action, Reap)]
    assert found.record.entries[ONE].absent == 0


def test_who_was_not_asked_about_was_not_said_to_be_gone():
    assert plan(World(cloud(asked=(TWO,)), nodes()), record(one=entry())).record.entries[ONE].absent == 0


LONG_GONE = {"absent": 2, "absent_since": NOW - 500}


@pytest.mark.parametrize(
    "world",
    [
        World(None, nodes(node(ready=False))),
        World(cloud(asked=()), nodes(node(ready=False))),
        World(cloud(asked=(ONE,)), None),
        World(cloud(asked=(ONE,), account="999999999999"), nodes(node(ready=False))),
        World(cloud(asked=(ONE,), region="eu-west-1"), nodes(node(ready=False))),
        World(cloud(asked=(ONE,)), nodes(node(ready=True, taints=()))),
    ],
    ids=["AWS was not asked", "not about this one", "the cluster was not asked", "another account", "another region", "its node is Ready"],
)
def test_nothing_is_cleared_away_on_the_word_of_somebody_who_does_not_know(world):
    found = plan(world, record(one=entry(**LONG_GONE)))
    assert not [action for action in found.actions if isinstance(action, Reap)]


def test_another_account_is_told_with_both_and_enrols_nobody():
    found = plan(World(cloud(instance(TWO), account="999999999999"), nodes()), record(one=entry()))
    assert found.actions == ()
    assert found.notes[""].startswith("found account 999999999999 and region us-east-1; the 1 instances on record are in account 123456789012")
    assert found.record.account == ACCOUNT


def test_another_account_is_taken_on_when_nobody_is_left_in_the_former():
    found = plan(World(cloud(instance(TWO), account="999999999999"), nodes()), record(one=entry(GONE)))
    assert [type(action) for action in found.actions] == [Enrol]
    assert found.record.account == "999999999999"


@pytest.mark.parametrize(("others", "removed"), [(0, 1), (5, 1), (6, 2), (12, 3)])
def test_at_most_a_fifth_of_the_nodes_go_in_one_pass_and_one_always(others, removed):
    more = [Node(f"worker{number}", None, ready=True) for number in range(2, 2 + others)]
    known = record(one=entry(**LONG_GONE), two=entry(name=TWO, **LONG_GONE), three=entry(name=THREE, **LONG_GONE))
    world = gone_world(*more, *(node(name, ready=False) for name in (ONE, TWO, THREE)))
    assert len([action for action in plan(world, known).actions if isinstance(action, Reap)]) == removed


def test_a_certificate_goes_also_where_there_was_never_a_node():
    found = plan(gone_world(), record(one=entry(ENROLLED, secret=True, **LONG_GONE)))
    assert found.actions == (Reap(ONE, None, certificate=True, secret=True),)


@pytest.mark.parametrize("phase", [ENROLLED, LAPSED, JOINED, REFUSED])
def test_its_node_goes_whatever_became_of_its_enrolment(phase):
    """After the loss of the record it is refused as a second one, and joins with what it has read before."""
    silent = node(ready=False)
    found = plan(gone_world(silent), record(one=entry(phase, **LONG_GONE)))
    assert Reap(ONE, silent, certificate=True, secret=False) in found.actions


@pytest.mark.parametrize("phase", [JOINED, REFUSED])
def test_the_node_of_somebody_else_stays_when_its_namesake_goes(phase):
    known = record(one=entry(phase, **LONG_GONE))
    found = plan(gone_world(node(provider="fpga-hybrid:///lab/odd", ready=False)), known)
    assert found.actions == (Reap(ONE, None, certificate=True, secret=False),)


def test_of_whom_only_a_failure_parameter_is_left_comes_on_record_and_goes_the_usual_way():
    there = replace(cloud(instance(TWO, state="terminated"), instance(THREE), asked=(ONE, TWO, THREE)), left=frozenset({ONE, TWO, THREE, FOUR}))
    known = replace(record(three=entry(ENROLLED, THREE)), lives={TWO: Life("f2", NOW - 900, NOW - 60)})
    first = plan(World(there, nodes()), known)
    assert first.actions == ()
    assert FOUR not in first.record.entries, "nobody has asked for it"
    assert {name: (first.record.entries[name].phase, first.record.entries[name].pool) for name in (ONE, TWO)} == {ONE: (SEEN, ""), TWO: (SEEN, "f2")}
    later = first.record
    for seconds in (5, 10):
        later = plan(World(cloud(asked=(ONE, TWO, THREE)), nodes()), later, NOW + seconds).record
    assert Reap(ONE, None, certificate=False, secret=False) in plan(World(cloud(asked=(ONE, TWO)), nodes()), later, NOW + 30).actions


def test_who_has_gone_is_remembered_for_a_week():
    known = record(one=entry(GONE, since=NOW - 6 * 86400), two=entry(GONE, name=TWO, since=NOW - 8 * 86400))
    assert set(plan(World(), known).record.entries) == {ONE}


# --- whatever happens -------------------------------------------------------------------------------------------------------------------

PHASES = st.sampled_from(plans.PHASES)
IDS = st.sampled_from([ONE, TWO, THREE])
GIVEN_ANY = st.dictionaries(st.sampled_from([*PROMISE]), st.sampled_from(["0", "1", "110", "300Gi", "many"]))
TAINTS = st.lists(st.sampled_from([STARTUP_TAINT, Taint("a", "", "NoExecute")]), unique=True).map(tuple)
PROVIDERS = st.sampled_from([None, "", "fpga-hybrid:///lab/worker1", *(f"aws:///{ZONE}/{name}" for name in (ONE, TWO, THREE))])
NODES = st.builds(Node, st.sampled_from([ONE, TWO, THREE, "worker1", "cp1"]), PROVIDERS, st.booleans(), TAINTS, GIVEN_ANY)
ENTRIES = st.builds(
    Entry,
    phase=PHASES,
    since=st.floats(NOW - 5000, NOW),
    zone=st.sampled_from([ZONE, "us-east-1b"]),
    promise=st.sampled_from([PROMISE, {}, {"cpu": "1"}]),
    vpn_address=st.sampled_from(["", "172.27.232.1"]),
    secret=st.booleans(),
    tagged=st.booleans(),
    complete=st.booleans(),
    absent=st.integers(0, 2),
    absent_since=st.floats(NOW - 100, NOW),
)
RECORDS = st.builds(Record, st.just(ACCOUNT), st.just(REGION), st.dictionaries(IDS, ENTRIES))
INSTANCES = st.builds(
    instance, IDS, st.sampled_from(["pending", "running", "shutting-down", "terminated", "stopped"]), st.sampled_from(["lab-f2", "", "theirs"])
)
CLOUDS = st.builds(lambda found, asked: cloud(*found, asked=tuple(asked)), st.lists(INSTANCES, unique_by=lambda one: one.id), st.sets(IDS))
WORLDS = st.builds(World, st.none() | CLOUDS, st.none() | st.lists(NODES, unique_by=lambda one: one.name).map(lambda found: {one.name: one for one in found}))


@settings(max_examples=300)
@given(WORLDS, RECORDS)
def test_only_nodes_of_instances_on_record_are_ever_touched(world, known):
    found = plan(world, known)
    for action in found.actions:
        touched = getattr(action, "node", None)
        if touched is not None:
            on_record = found.record.entries[action.instance]
            assert touched.name == action.instance
            assert touched.provider_id == f"aws:///{on_record.zone}/{action.instance}"
            assert not (isinstance(action, Reap) and touched.ready)
        if isinstance(action, Reap):
            assert world.cloud is not None
            assert world.nodes is not None
            assert action.instance in known.entries


@dataclass
class Truth:
    """What is so, in AWS and in the cluster. certificates: how often one was made for each id."""

    instances: dict[str, Instance] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=lambda: {"worker1": ON_PREM})
    parameters: set[str] = field(default_factory=set)
    certificates: dict[str, int] = field(default_factory=dict)

    def seen(self, known: Record, aws: bool = True, api: bool = True) -> World:
        found = self.instances.values()
        looked = cloud(*found, asked=tuple(known.live))
        return World(looked if aws else None, dict(self.nodes) if api else None)

    def does(self, action: plans.Action) -> None:
        name = action.instance
        if isinstance(action, Enrol):
            if not action.again:
                self.certificates[name] = self.certificates.get(name, 0) + 1
            self.parameters.add(name)
        elif isinstance(action, Refuse):
            self.parameters.add(name)
        elif isinstance(action, Forget):
            self.parameters.discard(name)
        elif isinstance(action, LiftTaint):
            self.nodes[name] = replace(self.nodes[name], taints=tuple(t for t in self.nodes[name].taints if t != STARTUP_TAINT))
        elif isinstance(action, SetTaint):
            self.nodes[name] = replace(self.nodes[name], taints=(*self.nodes[name].taints, STARTUP_TAINT))
        elif isinstance(action, Reap):
            found = self.instances.get(name)
            assert found is None or found.state == "terminated", "an instance that lives was cleared away"
            self.parameters.discard(name)
            if action.node:
                assert name != "worker1"
                del self.nodes[name]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["start", "foreign", "join", "silent", "back", "terminate", "forgotten", "plugin", "time"]),
        IDS,
        st.sampled_from(["whole", "whole", "whole", "no aws", "no api", "crash before", "crash after"]),
    ),
    max_size=25,
)


@settings(max_examples=200)
@given(EVENTS)
def test_through_all_that_happens_nobody_is_enrolled_twice_and_in_the_end_there_is_nothing_left_to_do(events):
    truth, known, now = Truth(), Record(), NOW
    for event, name, course in events:
        now += 100.0 if event == "time" else 6.0
        happens(truth, event, name)
        found = plan(truth.seen(known, aws=course != "no aws", api=course != "no api"), known, now)
        known = found.record
        for action in found.actions:
            known = plans.begun(known, action, now)
            if course == "crash before":
                break
            truth.does(action)
            if course == "crash after":
                break
            known = plans.done(known, action, now, "172.27.232.1")
        assert truth.nodes["worker1"] == ON_PREM
        assert max(truth.certificates.values(), default=0) <= 1
    for _pass in range(12):
        now += 6.0
        found = plan(truth.seen(known), known, now)
        known = found.record
        for action in found.actions:
            truth.does(action)
            known = plans.done(plans.begun(known, action, now), action, now, "172.27.232.1")
    assert plan(truth.seen(known), known, now).actions == ()
    assert plan(truth.seen(known), known, now).record == known
    for name, one in known.live.items():
        assert truth.instances[name].state != "terminated" or truth.nodes[name].ready, one
    assert truth.parameters <= {name for name, one in known.live.items() if one.phase in (ENROLLED, REFUSED)}


def happens(truth: Truth, event: str, name: str) -> None:
    there = truth.instances.get(name)
    if event in ("start", "foreign") and there is None:
        truth.instances[name] = instance(name, group="lab-f2" if event == "start" else "")
    elif there is None:
        return
    elif event == "terminate" and there.group:
        truth.instances[name] = replace(there, state="terminated")
        if name in truth.nodes:
            truth.nodes[name] = replace(truth.nodes[name], ready=False)
    elif event == "join" and there.state == "running" and there.group and name in truth.parameters and name not in truth.nodes:
        truth.nodes[name] = node(name, given={**GIVEN, BOARD: "0"})
    elif event in ("silent", "back", "plugin") and name in truth.nodes and there.state == "running":
        found = truth.nodes[name]
        truth.nodes[name] = replace(found, allocatable=GIVEN) if event == "plugin" else replace(found, ready=event == "back")
