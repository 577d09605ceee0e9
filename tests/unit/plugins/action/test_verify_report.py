# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verify table goes past the result callbacks, into a file if one is named, and a failed line is a failure that names it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader

from ansible_collections.fpga.hybrid.plugins.action.verify_report import ActionModule

DNS = {"check": "DNS", "node": "worker1", "peer": "", "ok": True, "found": "10.96.0.1", "expected": "10.96.0.1", "remedy": ""}


def report(*lines: dict[str, Any], check: bool = False, cluster: list[dict[str, Any]] | None = None, **options: str) -> dict[str, Any]:
    given = {"title": "Cluster lab", "cluster": cluster or [{"lines": list(lines)}], "hosts": {}, **options}
    task = Task.load({"fpga.hybrid.verify_report": given})
    task.check_mode = check
    context = PlayContext()
    return ActionModule(task, connection_loader.get("ansible.builtin.local", context), context, None, None, None).run()


def test_a_cluster_that_does_what_it_should_is_a_success(capsys):
    result = report(DNS)
    assert (result.get("failed", False), result["failed_lines"]) == (False, 0)
    shown = capsys.readouterr().out
    assert "Cluster lab" in shown
    assert "ok      DNS" in shown


def test_a_failed_line_is_named(capsys):
    result = report({**DNS, "ok": False, "remedy": "Look at CoreDNS."})
    assert (result["failed"], result["failed_lines"]) == (True, 1)
    assert "DNS" in result["msg"]
    assert "Look at CoreDNS." in capsys.readouterr().out


def test_a_control_plane_that_said_nothing_is_a_failed_line(capsys):
    assert report(cluster=[{"msg": "Permission denied"}])["failed_lines"] == 1
    assert "Permission denied" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["report.md", "report.json"])
def test_a_report_may_be_kept_but_not_in_check_mode(tmp_path, name):
    report(DNS, dest=str(tmp_path / name), check=True)
    assert not list(tmp_path.iterdir())
    report(DNS, dest=str(tmp_path / name))
    text = (tmp_path / name).read_text()
    assert "10.96.0.1" in text
    if name.endswith(".json"):
        json.loads(text)
