# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit's table goes past the result callbacks, and something left over is a failure that counts it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader

from ansible_collections.fpga.hybrid.plugins.action.cloud_audit_report import ActionModule

VOLUME = {"kind": "volume", "id": "vol-1", "pool": "f2", "state": "8 GiB", "orphan": ""}


def report(*resources: dict[str, Any]) -> dict[str, Any]:
    task = Task.load({"fpga.hybrid.cloud_audit_report": {"title": "Cluster lab", "resources": list(resources)}})
    context = PlayContext()
    return ActionModule(task, connection_loader.get("ansible.builtin.local", context), context, None, None, None).run()


@pytest.mark.parametrize(
    ("orphan", "failed", "mark", "summary"),
    [("", False, "  volume", "1 in all, none of them orphaned."), ("no instance has it", True, "!  ", "1 in all, 1 of them orphaned.")],
)
def test_something_left_over_is_a_failure(capsys, orphan, failed, mark, summary):
    result = report({**VOLUME, "orphan": orphan})
    assert (result["failed"], result["changed"], result["orphans"]) == (failed, False, int(failed))
    assert summary in result["msg"]
    shown = capsys.readouterr().out
    assert "Cluster lab" in shown
    assert next(line for line in shown.splitlines() if "vol-1" in line).startswith(mark)


def test_nothing_is_a_clean_bill(capsys):
    assert not report()["failed"]
    assert "Nothing in AWS carries this cluster's id." in capsys.readouterr().out
