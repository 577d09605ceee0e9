# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preferred allocation: few boards, near ones, large gaps kept; and for every request a sound answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fpga_device_plugin.catalogue import slot_of
from fpga_device_plugin.packing import prefer


def copies(slot, *numbers):
    return [f"{slot}/{number}" for number in numbers]


def test_four_copies_land_on_one_board():
    available = copies("a", 0, 1, 2, 3) + copies("b", 0, 1, 2, 3)
    assert prefer(available, [], 4, numa={}) == copies("a", 0, 1, 2, 3)


def test_a_gap_that_just_fits_is_filled_before_an_idle_board_is_opened():
    available = copies("a", 0, 1, 2, 3) + copies("b", 2, 3)
    assert prefer(available, [], 2, numa={}) == copies("b", 2, 3)


def test_what_fits_on_no_board_takes_the_fullest_first():
    available = copies("a", 3) + copies("b", 0, 1, 2, 3) + copies("c", 2, 3)
    assert {slot_of(device) for device in prefer(available, [], 5, numa={})} == {"a", "b"}


def test_more_copies_go_where_the_container_has_some_already():
    available = copies("a", 0, 1, 2, 3) + copies("b", 1, 2, 3)
    chosen = prefer([*available, "b/0"], ["b/0"], 3, numa={})
    assert chosen == copies("b", 0, 1, 2)


def test_two_boards_are_taken_from_one_numa_node():
    assert prefer(["a", "b", "c"], [], 2, numa={"a": 0, "b": 1, "c": 0}) == ["a", "c"]


def test_copies_that_are_not_shared_come_by_whole_boards():
    available = copies("a", 2, 3) + copies("b", 0, 1, 2, 3)
    assert prefer(available, [], 4, numa={}, whole={"a": 4, "b": 4}) == copies("b", 0, 1, 2, 3)


def test_where_only_parts_are_left_nothing_is_preferred():
    assert prefer(copies("a", 2, 3), [], 2, numa={}, whole={"a": 4}) == []


@st.composite
def requests(draw):
    boards = draw(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 6), min_size=1))
    available = [device for slot, count in boards.items() for device in copies(slot, *range(count))]
    must = draw(st.lists(st.sampled_from(available), unique=True, max_size=len(available)))
    size = draw(st.integers(len(must), len(available)))
    numa = draw(st.fixed_dictionaries({slot: st.sampled_from([None, 0, 1]) for slot in boards}))
    return boards, available, must, size, numa


@given(requests())
def test_an_answer_is_what_was_asked_for_and_all_of_it(request):
    _boards, available, must, size, numa = request
    chosen = prefer(available, must, size, numa=numa)
    assert len(chosen) == len(set(chosen)) == size
    assert set(must) <= set(chosen) <= set(available)


@given(requests())
def test_no_smaller_number_of_boards_would_do(request):
    boards, available, _must, size, numa = request
    chosen = {slot_of(device) for device in prefer(available, [], size, numa=numa)}
    largest = sorted(boards.values(), reverse=True)
    fewest = next(number for number in range(len(largest) + 1) if sum(largest[:number]) >= size)
    assert len(chosen) == fewest
