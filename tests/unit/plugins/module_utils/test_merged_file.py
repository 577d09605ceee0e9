# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._merged_file import leaves, masked, merge, retire, same, summary

# Few keys, so that two trees often meet in the same place.
KEYS = st.sampled_from(["a", "b", "c"])
LEAVES = st.booleans() | st.integers(0, 2) | st.text("xy", max_size=2) | st.lists(st.integers(0, 1), max_size=2)
TREES = st.dictionaries(KEYS, st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8), max_size=3)


def touches(path, other):
    """One path lies on the way to the other."""
    length = min(len(path), len(other))
    return path[:length] == other[:length]


@given(TREES, TREES)
def test_every_key_of_ours_is_set(found, ours):
    merged = dict(leaves(merge(found, ours)))
    assert all(path in merged and same(merged[path], value) for path, value in leaves(ours))


@given(TREES, TREES)
def test_every_key_of_the_users_that_we_do_not_name_is_kept(found, ours):
    merged, our_paths = dict(leaves(merge(found, ours))), [path for path, dummy in leaves(ours)]
    for path, value in leaves(found):
        if not any(touches(path, other) for other in our_paths):
            assert same(merged[path], value)


@given(TREES, TREES)
def test_a_second_merge_changes_nothing(found, ours):
    once = merge(found, ours)
    assert same(merge(once, ours), once)


@given(TREES, TREES)
def test_merging_leaves_its_arguments_alone(found, ours):
    before = copy.deepcopy((found, ours))
    merge(found, ours)
    assert (found, ours) == before


@given(TREES, TREES)
def test_what_was_set_can_be_taken_out_again(found, ours):
    """As long as no table of the user's had to give way to a value of ours, or the other way round."""
    found_paths, our_paths = [path for path, dummy in leaves(found)], [path for path, dummy in leaves(ours)]
    if any(touches(one, other) and one != other for one in found_paths for other in our_paths):
        return
    assert dict(leaves(retire(merge(found, ours), ours, found, keep={}))) == dict(leaves(found))


def test_a_key_that_is_no_longer_wanted_goes_back_to_what_it_was():
    original, former = {"debug": {"level": "warn"}}, {"debug": {"level": "info", "format": "json"}}
    assert retire(merge(original, former), former, original, keep={}) == original


def test_a_key_that_somebody_changed_after_us_is_theirs():
    former = {"live-restore": True, "log-level": "debug"}
    assert retire({"live-restore": False, "log-level": "debug"}, former, {}, keep={}) == {"live-restore": False}


def test_a_key_that_is_still_wanted_is_not_given_back_meanwhile():
    former = {"debug": {"level": "info"}}
    assert retire(former, former, {}, keep={"debug": {"level": "warn"}}) == former


def test_true_is_not_one():
    """TOML and JSON tell them apart, Python's == does not."""
    assert not same({"a": [True]}, {"a": [1]})
    assert merge({"a": 1}, {"a": True})["a"] is True
    assert summary({"a": 1}, {"a": True}) == ["a: 1 -> True"]


def test_a_difference_is_told_by_key_and_without_secrets():
    before = {"plugins": {"x": {"SystemdCgroup": False}}, "auth": "c2VjcmV0", "proxy": "http://u:secret@proxy:3128"}
    after = {"plugins": {"x": {"SystemdCgroup": True}, "y": 1}, "auth": "b3RoZXI=", "proxy": "http://u:other@proxy:3128"}
    lines = summary(before, after)
    assert "plugins.x.SystemdCgroup: False -> True" in lines
    assert "plugins.y: unset -> 1" in lines
    assert not any(secret in "\n".join(lines) for secret in ("c2VjcmV0", "b3RoZXI", "secret", "other"))


def test_secrets_are_hidden_wherever_they_stand():
    tree = {"configs": {"depot": {"auth": {"username": "lab", "password": "hunter2"}}}, "args": ["--url=https://u:hunter2@host"]}
    assert "hunter2" not in str(masked(tree))
    assert "lab" in str(masked(tree))
