# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify.yml where nobody answers: the table comes all the same, and so does the report."""

from __future__ import annotations

import json

import pytest

from tests.unit.site import play


@pytest.mark.parametrize("limit", [[], ["--limit", "worker1"]])
def test_hosts_that_are_down_cost_their_lines_not_the_table(limit, tmp_path):
    report = tmp_path / "report.json"
    done = play(tmp_path, "playbooks/verify.yml", {"verify_report": str(report)}, *limit)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = json.loads(report.read_text())["lines"]
    expected = {("API server", "control plane"), *(("host reached", host) for host in (["worker1"] if limit else ["cp1", "worker1"]))}
    assert {(line["check"], line["node"]) for line in lines} == expected
    assert all(line["ok"] is False and "can be reached over ssh" in line["found"].lower() and line["remedy"] for line in lines)
    assert "FAILED  host reached  worker1" in done.stdout
