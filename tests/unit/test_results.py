# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of what ran: written, read again, and never better than what happened."""

from __future__ import annotations

from tests.results import Row, of_pytest, parse, render, write

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.lab.test_drift" name="test_the_next_run_mends_exactly_that[sysctl]" time="12.34"/>
<testcase classname="tests.lab.test_drift" name="test_b" time="1"><failure message="x"/></testcase>
<testcase classname="tests.lab.test_drift" name="test_c" time="1"><error message="x"/></testcase>
<testcase classname="tests.lab.test_drift" name="test_d" time="0"><skipped message="no | lab"/></testcase>
</testsuite></testsuites>"""


def test_each_test_of_pytest_becomes_a_row_that_says_how_it_ended():
    rows = of_pytest(JUNIT, "2026-11-25 14:00", "abc1234")
    assert [(row.name, row.result) for row in rows] == [
        ("test_drift: the next run mends exactly that [sysctl]", "passed"),
        ("test_drift: b", "failed"),
        ("test_drift: c", "failed"),
        ("test_drift: d", "skipped: no / lab"),
    ]


def test_a_test_that_runs_in_another_way_has_a_row_of_its_own():
    rows = of_pytest(JUNIT, "2026-11-25 14:00", "abc1234", how=", otherwise", passed="failed as expected")
    assert [(row.name, row.result) for row in rows[:2]] == [
        ("test_drift: the next run mends exactly that [sysctl], otherwise", "failed as expected"),
        ("test_drift: b, otherwise", "failed"),
    ]
    assert parse(render(rows)).keys() == {row.name for row in rows}


def test_what_is_written_is_read_again():
    rows = of_pytest(JUNIT, "2026-11-25 14:00", "abc1234")
    assert {row.name: (row.result, row.when) for row in parse(render(rows)).values()} == {row.name: (row.result, row.when) for row in rows}


def test_a_run_replaces_its_own_rows_and_keeps_the_dates_of_the_others(tmp_path):
    file = tmp_path / "test-all.md"
    write(file, [Row("make_lab", "passed", 60, "2026-11-24 10:00", "a"), Row("unit", "passed", 90, "2026-11-24 10:00", "a")])
    write(file, [Row("unit", "failed", 91, "2026-11-25 10:00", "b")])
    found = parse(file.read_text())
    assert (found["make_lab"].result, found["make_lab"].when) == ("passed", "2026-11-24 10:00")
    assert (found["unit"].result, found["unit"].when, found["unit"].commit) == ("failed", "2026-11-25 10:00", "b")
