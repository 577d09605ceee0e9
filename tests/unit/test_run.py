# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The goals in time that tests/run.py judges."""

from __future__ import annotations

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
