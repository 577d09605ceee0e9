# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The goals in time that tests/run.py judges."""

from __future__ import annotations

import runpy
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

from tests import run
from tests.run import Result


def steps(**seconds: float) -> list[Result]:
    return [Result(name, value, "") for name, value in seconds.items()]


@pytest.mark.parametrize(
    ("done", "warm", "said"),
    [
        (steps(lab_hosts=60, make_lab=240), True, ["lab_hosts + make_lab: 5.0 minutes with a warm cache (goal: at most 6)"]),
        (steps(lab_hosts=200, make_lab=240), True, ["lab_hosts + make_lab: 7.3 minutes with a warm cache (goal: at most 6, MISSED)"]),
        (steps(lab_hosts=1200, make_lab=240), False, ["lab_hosts + make_lab: 24.0 minutes with a cold cache (goal: at most 35)"]),
        (steps(make_lab=400), True, []),  # one alone says nothing of both
        (steps(make_lab_again=126), True, ["make_lab_again: 2.1 minutes with a warm cache (goal: at most 2, MISSED)"]),
    ],
)
def test_goals_are_told_where_all_their_steps_have_run(done, warm, said):
    assert run.goals(done, 99, warm=warm) == said


@pytest.mark.parametrize(("minutes", "warm", "said"), [(39, True, "at most 40"), (41, True, "at most 40, MISSED"), (41, False, "at most 75")])
def test_the_whole_of_ci_is_judged_by_the_clock_as_steps_run_beside_each_other(minutes, warm, said):
    done = steps(**{step.__name__: 60 for step in run.CI})
    assert said in run.goals(done, minutes, warm=warm)[-1]


def test_what_only_computes_runs_beside_what_waits_and_its_output_comes_in_one_piece(monkeypatch, capfd):
    """Each waits for the other, which ends only if they run at the same time."""
    here, there = threading.Event(), threading.Event()

    def waits() -> None:
        here.set()
        assert there.wait(20)

    def computes() -> None:
        run.run("echo", "computed")
        assert here.wait(20)
        there.set()

    def fails() -> None:
        run.run("sh", "-c", "echo said; exit 3")

    def after() -> None:
        run.run("echo", "after")

    monkeypatch.setattr(run, "WAITING", (waits,))
    monkeypatch.setattr(run, "BESIDE", (computes, fails))
    done = run.perform((waits, computes, fails, after))
    assert [result.name for result in done] == ["waits", "computes", "fails", "after"]
    assert [bool(result.error) for result in done] == [False, False, True, False]
    shown = capfd.readouterr().out
    assert [shown.index(word) for word in ("==== waits", "==== computes", "computed", "==== fails", "said", "==== after")] == sorted(
        shown.index(word) for word in ("==== waits", "==== computes", "computed", "==== fails", "said", "==== after")
    )


def test_without_what_waits_everything_runs_in_its_turn(monkeypatch):
    ran = []

    def lints() -> None:
        ran.append(run.OUTPUT.file)

    monkeypatch.setattr(run, "BESIDE", (lints,))
    assert [result.name for result in run.perform((lints,))] == ["lints"]
    assert ran == [None]


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
