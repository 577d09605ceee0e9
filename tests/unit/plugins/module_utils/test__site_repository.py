# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new version of the collection may do to a site's repository."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _site_repository as site

PATHS = st.sampled_from(["a.yml", "b.yml", "c/d.yml"])
FILES = st.dictionaries(PATHS, st.sampled_from(["one", "two", "three"]))


@given(first=FILES, edits=FILES, removals=st.sets(PATHS), second=FILES)
def test_nothing_that_a_user_touched_is_ever_written(first, edits, removals, second):
    """A run, then edits and removals, then a run of another version."""
    plan = site.make_plan(first, {}, {})
    written = json.loads(site.next_state("1", first, plan, {}))["written"]
    found = {path: content for path, content in {**first, **edits}.items() if path not in removals}
    plan = site.make_plan(second, found, written)
    touched = {path for path in second if (path in removals and path in first) or (path in edits and found.get(path) not in {None, first.get(path)})}
    assert not touched & set(plan.write)
    assert set(plan.create + plan.update + plan.edited + plan.removed + plan.same) == set(second)


@given(FILES, FILES)
def test_a_second_run_writes_nothing(first, second):
    plan = site.make_plan(first, {}, {})
    written = json.loads(site.next_state("1", first, plan, {}))["written"]
    plan = site.make_plan(second, first, written)
    state = site.next_state("2", second, plan, written)
    found = {**first, **{path: second[path] for path in plan.write}}
    again = site.make_plan(second, found, json.loads(state)["written"])
    assert again.write == ()
    assert site.next_state("2", second, again, json.loads(state)["written"]) == state


def test_an_untouched_file_follows_a_new_version():
    written = {"a.yml": site.digest("old")}
    assert site.make_plan({"a.yml": "new"}, {"a.yml": "old"}, written).update == ("a.yml",)
    assert site.make_plan({"a.yml": "new"}, {"a.yml": "mine"}, written).edited == ("a.yml",)
    assert site.make_plan({"a.yml": "new"}, {}, written).removed == ("a.yml",)


def test_somebody_elses_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(site.SiteRepositoryError, match=r"not empty \(thesis.tex\)"):
        site.read_written(tmp_path)


def test_a_fresh_clone_counts_as_empty(tmp_path):
    (tmp_path / ".git").mkdir()
    assert site.read_written(tmp_path) == {}
    assert site.read_written(tmp_path / "not-there-yet") == {}


def test_a_damaged_state_is_not_taken_for_permission(tmp_path):
    (tmp_path / site.STATE).write_text('{"written": 3}')
    with pytest.raises(site.SiteRepositoryError, match="damaged"):
        site.read_written(tmp_path)


def test_a_link_is_never_replaced(tmp_path):
    (tmp_path / "a.yml").symlink_to("/etc/hostname")
    found = site.read_found(tmp_path, {"a.yml": "new"})
    assert site.make_plan({"a.yml": "new"}, found, {"a.yml": site.digest("old")}).edited == ("a.yml",)


def test_variables_beside_a_folder_of_their_name_move_into_it():
    """Ansible reads group_vars/all/ and passes over group_vars/all.yml."""
    files = {"i/group_vars/all.yml": "1", "i/group_vars/all/vault.yml": "2", "i/hosts.yml": "3"}
    assert site.settle(files) == {"i/group_vars/all/main.yml": "1", "i/group_vars/all/vault.yml": "2", "i/hosts.yml": "3"}
