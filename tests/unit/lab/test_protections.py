# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's scenarios switch off is still there: they run for an hour, and too seldom to notice that it was renamed."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest

from lab.settings import LabError
from tests.lab import protections, test_faults
from tests.lab.site import ROOT

SCENARIOS = [getattr(test_faults, name) for name in dir(test_faults) if name.startswith("test_")]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)
def test_every_scenario_says_what_protects_and_how_its_lack_is_seen(scenario):
    for protection in scenario.protections:
        assert protection.what
        assert protection.switches
        assert protection.seen


PROTECTIONS = [protection for scenario in SCENARIOS for protection in scenario.protections]
EDITS = [switch for protection in PROTECTIONS for switch in protection.switches if isinstance(switch, protections.Edit)] + [test_faults.FOR_A_LOOK]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.source)
def test_what_is_switched_off_stands_once_in_its_source(edit):
    assert protections.replaced((ROOT / edit.source).read_text(), edit.old, edit.new, edit.source) != (ROOT / edit.source).read_text()


@pytest.mark.parametrize("text", ["", "old old"])
def test_what_is_not_there_once_is_an_error(text):
    with pytest.raises(LabError, match=f"found {text.count('old')} times"):
        protections.replaced(text, "old", "new", "file")


@pytest.mark.parametrize("new", ["if True:", ""])
def test_an_edit_on_an_instance_may_be_repeated_until_what_follows_it_succeeds(tmp_path, new):
    program = tmp_path / "program.py"
    program.write_text("if over:\n    end()\n")
    command = (sys.executable, "-c", protections.EDIT, str(program), "if over:", new)
    for _try in range(2):
        subprocess.run(command, check=True)
        assert program.read_text() == f"{new}\n    end()\n"


def test_an_edit_on_an_instance_that_finds_something_else_fails(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("if ended:\n    end()\n")
    assert subprocess.run((sys.executable, "-c", protections.EDIT, str(program), "if over:", "if True:"), check=False, stderr=subprocess.DEVNULL).returncode


class Switch:
    def __init__(self, fails=False):
        self.is_off, self.fails = False, fails

    @contextlib.contextmanager
    def __call__(self, site):
        self.is_off = True
        yield
        if self.fails:
            raise LabError("no control plane")
        self.is_off = False


@pytest.fixture
def unprotected(monkeypatch):
    monkeypatch.setattr(protections, "UNPROTECTED", True)
    monkeypatch.setattr(protections, "put_right", lambda site: site.append("put right"))


def test_without_its_protection_a_scenario_has_to_fail_as_is_said(unprotected):
    switch, site = Switch(), []

    @protections.protected_by("a lock", switch, seen="was stolen")
    def scenario(site):
        site.append("played")
        assert not switch.is_off, "it was stolen"

    scenario(site)
    assert (site, switch.is_off) == (["played", "put right"], False)


def test_of_several_protections_each_is_needed(unprotected):
    lock, guard, site = Switch(), Switch(), []

    @protections.protected_by("a lock", lock, seen="was stolen")
    @protections.protected_by("a guard", guard, seen="was burnt")
    def scenario(_site):
        assert not (lock.is_off and guard.is_off)
        assert not lock.is_off, "it was stolen"
        assert not guard.is_off, "it was burnt"

    scenario(site)
    assert (site, lock.is_off, guard.is_off) == (["put right"] * 2, False, False)


@pytest.mark.parametrize(
    ("fails", "error", "words"),
    [(None, pytest.fail.Exception, "passed without"), (LabError("no lab"), AssertionError, "not as it should"), (KeyError("job"), KeyError, "job")],
    ids=["not at all", "otherwise", "by a defect of its own"],
)
def test_a_scenario_that_does_not_fail_so_without_its_protection_is_told(unprotected, fails, error, words):
    switch, site = Switch(), []

    @protections.protected_by("a lock", switch, seen="was stolen")
    def scenario(_site):
        if fails:
            raise fails

    with pytest.raises(error, match=words):
        scenario(site)
    assert (site, switch.is_off) == (["put right"], False)


def test_where_a_protection_stays_off_nothing_more_is_played(unprotected):
    @protections.protected_by("a lock", Switch(fails=True), seen="was stolen")
    def scenario(_site):
        raise AssertionError("it was stolen")

    with pytest.raises(pytest.exit.Exception, match="could not be switched on again: no control plane"):
        scenario([])


def test_what_a_failed_scenario_left_is_put_right_with_its_protection_too(monkeypatch):
    monkeypatch.setattr(protections, "put_right", lambda site: site.append("put right"))
    site = []

    @protections.protected_by("a lock", Switch(), seen="was stolen")
    def scenario(_site):
        raise AssertionError("something else")

    with pytest.raises(AssertionError, match="something else"):
        scenario(site)
    assert site == ["put right"]
