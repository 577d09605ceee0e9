# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The goals in time that tests/run.py judges."""

from __future__ import annotations

import runpy
import sys
from types import ModuleType, SimpleNamespace

import pytest

from tests import run
from tests.run import Result


def steps(**seconds: float) -> list[Result]:
    return [Result(name, value, "") for name, value in seconds.items()]


@pytest.mark.parametrize(
    ("done", "warm", "said"),
    [
        (steps(lab_hosts=60, make_lab=240), True, ""),
        (steps(lab_hosts=200, make_lab=240), True, "lab_hosts + make_lab took 7.3 minutes, expected at most 6 with a warm cache"),
        (steps(lab_hosts=1200, make_lab=240), False, ""),
        (steps(lab_hosts=2000, make_lab=240), False, "lab_hosts + make_lab took 37.3 minutes, expected at most 35 from nothing"),
        # one alone says nothing of both, and a goal that was missed is said once
        (steps(make_lab=400), True, ""),
        (steps(lab_hosts=200, make_lab=240, ruff=1), True, ""),
        (steps(make_lab_again=121), True, "make_lab_again took 2.0 minutes, expected at most 2 with a warm cache"),
    ],
)
def test_steps_are_judged_together_with_the_last_of_them(done, warm, said):
    assert run.missed(done, warm=warm) == said


@pytest.mark.parametrize(("minutes", "warm", "ok"), [(39, True, True), (41, True, False), (41, False, True), (76, False, False)])
def test_the_whole_of_ci_has_a_goal(minutes, warm, ok):
    share = minutes * 60 / len(run.CI)
    done = steps(**{step.__name__: share for step in run.CI})
    last = [result for result in done if result.name == run.CI[-1].__name__]
    assert done[-1:] == last
    assert (run.missed(done, warm=warm) == "") == ok


@pytest.mark.parametrize(
    ("line", "objects"),
    [
        ("Linting module apt_packages via flake8...", False),
        ("WARNING: plugins/modules/m.py:185:13: W503 line break before binary operator", False),
        ("WARNING: plugins/modules/m.py:1:1: F401 'os' imported but unused", True),
        ("WARNING: No changelog found.", True),
        ("ERROR: The import failed for the following reason: Invalid collection metadata. At least one tag required from tag list", True),
    ],
)
def test_what_galaxy_importer_only_prints_is_an_objection_but_for_the_formatters_own_style(line, objects):
    assert run.objections(f"Loading role xrt\n{line}\n") == ([line] if objects else [])


def test_nox_has_a_session_for_each_step_and_does_none_of_it_itself(tmp_path, monkeypatch):
    """With the nox of whoever has it; here a double that takes the sessions down."""
    sessions, ran = {}, []
    double = ModuleType("nox")
    double.session = lambda function, name, venv_backend, default: sessions.update({name: (function, venv_backend, default)})
    double.Session = object
    monkeypatch.setitem(sys.modules, "nox", double)
    runpy.run_path(str(run.ROOT / "noxfile.py"))
    assert set(sessions) == {*run.STEPS, "lint", "quick", "ci", "all"}
    assert [name for name, (_function, backend, default) in sessions.items() if backend != "none" or default] == ["quick"]
    sessions["unit"][0](SimpleNamespace(run=lambda *command, external: ran.append((command[1:], external)), posargs=["--record"]))
    assert ran == [(("tests/run.py", "unit", "--record"), True)]
