# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has which board: single cases, and the rule over any sequence of events with a model of the kubelet."""

from __future__ import annotations

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fpga_device_plugin.boards import KINDS
from fpga_device_plugin.catalogue import Resource, slot_of
from fpga_device_plugin.discovery import Board
from fpga_device_plugin.ownership import Grace, Ownership, RefusalError
from fpga_device_plugin.packing import prefer

BOARD, COPIES = "xilinx/u250", "inaccel.com/xgboost.exact"
SLOT = "0000:3b:00"
GRACE = Grace(seen=30, unseen=600)


def board(slot=SLOT, kind="u250", reason=""):
    return Board(slot, KINDS[kind], reason, f"{slot}.1", 0)


def whole_board():
    return Resource(BOARD, {"u250": 1})


def copies(shared=True, count=4):
    return Resource(COPIES, {"u250": count}, "com.inaccel.xgboost.exact", shared=shared)


def ownership(*resources, boards=(board(),), known=True):
    return Ownership(GRACE, known, {resource.name: resource for resource in resources}, {one.slot: one for one in boards})


def device(number):
    return f"{SLOT}/{number}"


def health(plugin, resource):
    return {one.id: one.healthy for one in plugin.devices(resource)}


def test_taking_a_board_leaves_its_own_resource_as_it_was():
    plugin = ownership(whole_board())
    plugin.allocate(BOARD, [SLOT])
    assert health(plugin, BOARD) == {SLOT: True}


def test_under_both_a_taken_board_makes_its_other_resource_unhealthy_and_is_refused_there():
    plugin = ownership(whole_board(), copies())
    plugin.allocate(COPIES, [device(0)])
    assert health(plugin, COPIES) == dict.fromkeys(map(device, range(4)), True)
    (other,) = plugin.devices(BOARD)
    assert other.reason == f"board {SLOT} is taken: a pod has it as {COPIES}"
    with pytest.raises(RefusalError, match=f"board {SLOT} is taken: a pod has it as {COPIES}"):
        plugin.allocate(BOARD, [SLOT])


def test_an_unhealthy_board_is_refused_with_its_reason():
    plugin = ownership(whole_board(), boards=[board(reason="no driver")])
    assert health(plugin, BOARD) == {SLOT: False}
    with pytest.raises(RefusalError, match="no driver"):
        plugin.allocate(BOARD, [SLOT])


@pytest.mark.parametrize("wrong", [["0000:99:00"], [SLOT, "0000:99:00"], [device(0)], [""]])
def test_a_device_that_is_none_is_refused_with_those_that_are(wrong):
    plugin = ownership(whole_board())
    with pytest.raises(RefusalError, match=f"{BOARD} has no device .*; it has: {SLOT}"):
        plugin.allocate(BOARD, wrong)
    assert plugin.owners == {}


def test_a_resource_that_is_not_published_any_more_is_refused():
    with pytest.raises(RefusalError, match=r"example\.org/gone is not published here any more"):
        ownership(whole_board()).allocate("example.org/gone", [SLOT])


def test_a_refusal_gives_out_nothing_of_the_request():
    good, bad = board(), board("0000:43:00", reason="no driver")
    plugin = ownership(whole_board(), boards=[good, bad])
    with pytest.raises(RefusalError):
        plugin.allocate(BOARD, [good.slot, bad.slot])
    assert plugin.owners == {}


def test_copies_may_go_to_several_pods_where_they_are_shared():
    plugin = ownership(copies())
    plugin.allocate(COPIES, [device(0)])
    plugin.allocate(COPIES, [device(1)])
    assert set(plugin.owners[SLOT].holds) == {device(0), device(1)}


def test_a_part_of_a_board_is_refused_where_they_are_not_shared():
    plugin = ownership(copies(shared=False))
    with pytest.raises(RefusalError, match=r"2 of the 4 copies .* not shared \(shared: false\)\. Ask for a multiple of 4"):
        plugin.allocate(COPIES, [device(0), device(1)])
    plugin.allocate(COPIES, list(map(device, range(4))))


def test_a_device_is_given_out_again_within_its_resource():
    """A new pod before we learn of the old one's end, or an init container that passes it on."""
    plugin = ownership(whole_board())
    plugin.allocate(BOARD, [SLOT])
    plugin.observe({BOARD: [SLOT]}, 0, complete=True)
    plugin.allocate(BOARD, [SLOT])
    assert not plugin.owners[SLOT].holds[SLOT].seen


def test_a_board_is_put_in_order_once_for_each_new_user():
    plugin = ownership(whole_board())
    plugin.allocate(BOARD, [SLOT])
    assert plugin.owners[SLOT].fresh
    plugin.in_order(SLOT)
    plugin.confirm(BOARD, [SLOT])  # a container of the pod starts again
    assert not plugin.owners[SLOT].fresh
    plugin.allocate(BOARD, [SLOT])  # another pod
    assert plugin.owners[SLOT].fresh


def test_who_joins_others_on_a_board_does_not_have_it_put_in_order_under_them():
    plugin = ownership(copies())
    plugin.allocate(COPIES, [device(0)])
    plugin.in_order(SLOT)
    plugin.allocate(COPIES, [device(1)])
    assert not plugin.owners[SLOT].fresh


def test_a_board_that_the_kubelet_names_no_more_is_free_after_a_grace():
    plugin = ownership(whole_board())
    plugin.allocate(BOARD, [SLOT])
    assert plugin.observe({BOARD: [SLOT]}, 100, complete=True) == []
    assert plugin.observe({}, 110, complete=True) == []
    assert plugin.observe({}, 139, complete=True) == []
    assert plugin.observe({}, 140, complete=True) == [SLOT]
    assert plugin.owners == {}


def test_the_grace_begins_anew_when_the_kubelet_names_it_again():
    plugin = ownership(whole_board())
    plugin.observe({BOARD: [SLOT]}, 0, complete=True)
    plugin.observe({}, 10, complete=True)
    plugin.observe({BOARD: [SLOT]}, 20, complete=True)
    assert plugin.observe({}, 45, complete=True) == []


def test_what_was_never_seen_is_kept_longer():
    """A pod whose init containers alone ask for a board: the kubelet does not name those."""
    plugin = ownership(whole_board())
    plugin.allocate(BOARD, [SLOT])
    assert plugin.observe({}, 0, complete=True) == []
    assert plugin.observe({}, 599, complete=True) == []
    assert plugin.observe({}, 600, complete=True) == [SLOT]


def test_copies_are_freed_one_by_one_and_the_board_with_the_last():
    plugin = ownership(copies())
    plugin.observe({COPIES: [device(0), device(1)]}, 0, complete=True)
    assert plugin.observe({COPIES: [device(1)]}, 1, complete=True) == []
    assert plugin.observe({COPIES: [device(1)]}, 40, complete=True) == []
    assert set(plugin.owners[SLOT].holds) == {device(1)}
    plugin.observe({}, 41, complete=True)
    assert plugin.observe({}, 80, complete=True) == [SLOT]


def test_a_kubelet_that_knows_no_pods_yet_frees_nothing():
    """It has been started while the API server cannot be reached: its pods run all the same."""
    plugin = ownership(whole_board())
    plugin.observe({BOARD: [SLOT]}, 0, complete=True)
    for now in (100, 1000, 100000):
        assert plugin.observe({}, now, complete=False) == []
    assert plugin.observe({}, 100001, complete=True) == []  # only now does the grace begin


def test_ownership_is_found_again_from_the_kubelet():
    plugin = ownership(whole_board(), copies(), known=False)
    assert set(health(plugin, BOARD).values()) == {False}  # nobody can say who has it
    plugin.observe({COPIES: [device(2)], "nvidia.com/gpu": ["GPU-1"]}, 0, complete=True)
    assert health(plugin, BOARD) == {SLOT: False}
    assert set(health(plugin, COPIES).values()) == {True}
    assert list(plugin.owners) == [SLOT]


def test_a_board_under_one_resource_need_not_wait_for_the_kubelet_to_tell():
    assert health(ownership(whole_board(), known=False), BOARD) == {SLOT: True}


def test_what_was_kept_over_a_restart_is_known_at_once():
    plugin = ownership(whole_board(), copies())
    plugin.allocate(COPIES, [device(0)])
    again = ownership(whole_board(), copies(), known=False)
    again.restore(json.loads(json.dumps(plugin.as_dict())))
    assert again.owners == plugin.owners
    assert health(again, BOARD) == {SLOT: False}


@pytest.mark.parametrize("damaged", [{"a": {}}, {"a": None}, {"a": {"resource": "x", "fresh": True, "devices": []}}, {"a": []}])
def test_what_is_damaged_is_not_believed(damaged):
    plugin = ownership(whole_board(), known=False)
    with pytest.raises((KeyError, TypeError, AttributeError)):
        plugin.restore({"known": True, "owners": damaged})
    assert not plugin.known
    assert plugin.owners == {}


def test_what_was_kept_before_the_kubelet_had_told_is_no_more_certain_after_a_restart():
    plugin = ownership(whole_board(), copies(), known=False)
    plugin.observe({}, 0, complete=False)
    again = ownership(whole_board(), copies(), known=False)
    again.restore(json.loads(json.dumps(plugin.as_dict())))
    assert not again.known
    assert set({**health(again, BOARD), **health(again, COPIES)}.values()) == {False}


def test_a_board_that_two_pods_have_under_two_resources_is_offered_to_none():
    """It cannot come to that by us; another program may have given it away."""
    plugin = ownership(whole_board(), copies())
    plugin.observe({BOARD: [SLOT]}, 0, complete=True)
    plugin.observe({BOARD: [SLOT], COPIES: [device(0)]}, 1, complete=True)
    assert set({**health(plugin, BOARD), **health(plugin, COPIES)}.values()) == {False}
    plugin.observe({BOARD: [SLOT]}, 2, complete=True)
    assert health(plugin, BOARD) == {SLOT: True}


def test_an_owner_stays_when_its_resource_is_published_no_more():
    plugin = ownership(copies())
    plugin.observe({COPIES: [device(0)]}, 0, complete=True)
    plugin.resources = {BOARD: whole_board()}
    assert health(plugin, BOARD) == {SLOT: False}
    plugin.observe({COPIES: [device(0)]}, 100, complete=True)
    plugin.observe({}, 101, complete=True)
    assert plugin.observe({}, 140, complete=True) == [SLOT]
    assert health(plugin, BOARD) == {SLOT: True}


def test_an_owner_is_found_again_under_a_resource_that_is_published_no_more():
    """The file was lost, and the host publishes the board as something else now."""
    plugin = ownership(whole_board(), known=False)
    plugin.observe({COPIES: [device(0)], "example.org/nic": ["0000:3b:00.1"]}, 0, complete=True)
    assert health(plugin, BOARD) == {SLOT: False}
    with pytest.raises(RefusalError, match=f"a pod has it as {COPIES}"):
        plugin.allocate(BOARD, [SLOT])
    assert list(plugin.owners) == [SLOT]


# --- any sequence


SLOTS = ("0000:3b:00", "0000:43:00", "0000:4b:00")
SHARED, OWN = Resource("example.org/shared", {"u250": 4, "u280": 2}, "shared"), Resource("example.org/own", {"u250": 2, "u200": 1}, "own", shared=False)
PUBLICATIONS = (
    {"xilinx/u250": Resource("xilinx/u250", {"u250": 1}), "xilinx/u280": Resource("xilinx/u280", {"u280": 1})},
    {"example.org/shared": SHARED, "xilinx/u200": Resource("xilinx/u200", {"u200": 1})},
    {"example.org/own": OWN, "xilinx/u280": Resource("xilinx/u280", {"u280": 1})},
    # both, with all that fits
    {
        "xilinx/u250": Resource("xilinx/u250", {"u250": 1}),
        "xilinx/u280": Resource("xilinx/u280", {"u280": 1}),
        "xilinx/u200": Resource("xilinx/u200", {"u200": 1}),
        "example.org/shared": SHARED,
        "example.org/own": OWN,
    },
)


class AnySequence(RuleBasedStateMachine):
    """The plugin's side is the real one. The kubelet's is a model: it gives a free, healthy device as it was told last to a pod, never one to two of them;
    which of them is its choice; it forgets pods only when they end, and after its start it names none until it has been told."""

    def __init__(self):
        super().__init__()
        self.plugin = Ownership(GRACE, known=True)
        self.told = {}
        self.pods = {}
        self.knows_its_pods = True
        self.kept = self.plugin.as_dict()
        self.answer_on_its_way = None
        self.now = 0.0
        self.count = 0

    @initialize(others=st.lists(st.sampled_from(["u250", "u280", "u200"]), max_size=2), publication=st.sampled_from(PUBLICATIONS))
    def a_host(self, others, publication):
        self.plugin.boards = {slot: board(slot, kind) for slot, kind in zip(SLOTS, ["u250", *others])}
        self.plugin.resources = publication
        self.tell()

    # --- the kubelet

    @rule()
    def tell(self):
        """ListAndWatch comes through. Until it does, the kubelet believes what it was told before."""
        self.told = {resource: {one.id for one in self.plugin.devices(resource) if one.healthy} for resource in self.plugin.resources}

    @rule(data=st.data(), number=st.integers(1, 4), preferred=st.booleans())
    def pods_are_admitted(self, data, number, preferred):
        """One after the other, with what was told before the first."""
        for _number in range(number):
            self.a_pod_is_admitted(data, preferred)

    def a_pod_is_admitted(self, data, preferred):
        in_use = {one for _resource, devices in self.pods.values() for one in devices}
        free = {resource: sorted(devices - in_use) for resource, devices in self.told.items() if devices - in_use}
        if not free:
            return
        resource = data.draw(st.sampled_from(sorted(free)))
        size = data.draw(st.sampled_from([1, min(2, len(free[resource])), len(free[resource])]))
        chosen = prefer(free[resource], [], size, numa={}) if preferred else data.draw(st.permutations(free[resource]))[:size]
        if not self.plugin.known:
            # It is asked then, and knows the pods that run before it admits another.
            held = {}
            for other, devices in self.pods.values():
                held.setdefault(other, set()).update(devices)
            self.plugin.observe(held, self.now, complete=bool(held))
        try:
            self.plugin.allocate(resource, chosen)
        except RefusalError:
            return
        self.kept = self.plugin.as_dict()
        self.count += 1
        self.pods[self.count] = (resource, set(chosen))

    @precondition(lambda self: self.pods)
    @rule(data=st.data())
    def a_pod_ends(self, data):
        del self.pods[data.draw(st.sampled_from(sorted(self.pods)))]

    @precondition(lambda self: self.pods)
    @rule(data=st.data())
    def a_container_starts_again(self, data):
        resource, devices = self.pods[data.draw(st.sampled_from(sorted(self.pods)))]
        if resource in self.plugin.resources:
            self.plugin.confirm(resource, devices)  # nothing that runs is refused

    @rule(api_server=st.booleans())
    def it_restarts(self, api_server):
        self.knows_its_pods = api_server
        self.answer_on_its_way = None
        self.tell()  # until then there is nothing that it could give to a pod

    @precondition(lambda self: not self.knows_its_pods)
    @rule()
    def the_api_server_tells_it_its_pods(self):
        self.knows_its_pods = True

    def held(self):
        held = {}
        for resource, devices in self.pods.values() if self.knows_its_pods else ():
            held.setdefault(resource, set()).update(devices)
        return held, self.knows_its_pods

    # --- what the plugin asks

    @rule(seconds=st.sampled_from([0, 5, 31, 601]))
    def it_is_asked(self, seconds):
        self.now += seconds
        self.it_answers()
        self.the_answer_arrives()

    @rule()
    def it_answers(self):
        self.answer_on_its_way = (self.now, self.held())

    @precondition(lambda self: self.answer_on_its_way)
    @rule()
    def the_answer_arrives(self):
        """Perhaps after something else has happened; five seconds late at most."""
        asked, (held, complete) = self.answer_on_its_way
        self.answer_on_its_way = None
        if self.now - asked > 5:
            return
        freed = self.plugin.observe(held, self.now, complete=complete)
        self.kept = self.plugin.as_dict()
        in_use = {slot_of(one) for _resource, devices in self.pods.values() for one in devices}
        assert not in_use & set(freed), "freed under a pod"

    # --- the plugin

    @rule(file_is_lost=st.booleans())
    def the_plugin_crashes(self, file_is_lost):
        self.plugin = Ownership(GRACE, resources=self.plugin.resources, boards=self.plugin.boards)
        self.answer_on_its_way = None
        if not file_is_lost:
            self.plugin.restore(self.kept)
        self.tell()

    @rule(data=st.data(), reason=st.sampled_from(["", "no driver", "gone"]))
    def a_boards_health_changes(self, data, reason):
        slot = data.draw(st.sampled_from(sorted(self.plugin.boards)))
        self.plugin.boards = {**self.plugin.boards, slot: self.plugin.boards[slot].unready(reason)}

    @precondition(lambda self: self.plugin.known)
    @rule(publication=st.sampled_from(PUBLICATIONS))
    def something_else_is_published(self, publication):
        self.plugin.resources = publication
        self.told = {resource: devices for resource, devices in self.told.items() if resource in publication}

    # --- the rule

    @invariant()
    def no_board_is_under_two_resources_nor_in_two_pods_unless_shared(self):
        by_board = {}
        for pod, (resource, devices) in self.pods.items():
            for one in devices:
                by_board.setdefault(slot_of(one), {}).setdefault(resource, set()).add(pod)
        for slot, resources in by_board.items():
            assert len(resources) == 1, f"{slot} is under {resources}"
            ((resource, pods),) = resources.items()
            assert resource != OWN.name or len(pods) == 1, f"{slot} is in {pods}"

    @invariant()
    def a_taken_board_is_offered_under_no_other_resource(self):
        for slot, owner in self.plugin.owners.items():
            for resource in self.plugin.resources:
                if resource != owner.resource:
                    assert not any(one.healthy for one in self.plugin.devices(resource) if slot_of(one.id) == slot)


AnySequence.TestCase.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
TestAnySequence = AnySequence.TestCase
