# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's scenarios switch off is still there: they run for an hour, and too seldom to notice that it was renamed."""

from __future__ import annotations

import pytest

from lab.settings import LabError
from tests.lab import protections, test_faults
from tests.lab.site import ROOT

SCENARIOS = [getattr(test_faults, name) for name in dir(test_faults) if name.startswith("test_")]


def marks(scenario):
    """Its own, and those of its parameters."""
    for mark in scenario.pytestmark:
        if mark.name == "protection":
            yield mark
        elif mark.name == "parametrize":
            yield from (one for parameter in mark.args[1] for one in parameter.marks if one.name == "protection")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)
def test_every_scenario_says_what_protects(scenario):
    found = list(marks(scenario))
    assert found
    assert all(what and switches for what, switches in (mark.args for mark in found))


EDITS = [switch for scenario in SCENARIOS for mark in marks(scenario) for switch in mark.args[1] if isinstance(switch, protections.Edit)]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.source)
def test_what_is_switched_off_stands_once_in_its_source(edit):
    assert protections.replaced((ROOT / edit.source).read_text(), edit.old, edit.new, edit.source) != (ROOT / edit.source).read_text()


@pytest.mark.parametrize("text", ["", "old old"])
def test_what_is_not_there_once_is_an_error(text):
    with pytest.raises(LabError, match=f"found {text.count('old')} times"):
        protections.replaced(text, "old", "new", "file")
