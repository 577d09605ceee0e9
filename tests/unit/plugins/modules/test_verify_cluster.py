# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify_cluster on a host: keeper's lines are there where keeper is, also while the API server is not."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins.modules.calling import Call
from tests.unit.roles.keeper.statuses import paused, well

ABOUT_KEEPER = ["keeper", "pool", "today"]


@pytest.fixture
def finish(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """On a host whose API server is down, and whose systemd says that keeper runs."""
    for name, script in {"kubectl": "echo 'connection refused' >&2; exit 1", "systemctl": "exit 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return functools.partial(call, "verify_cluster", state="finished", control_plane="cp1", keeper=str(tmp_path / "keeper.json"))


def lines(result: dict[str, Any]) -> dict[str, tuple[bool | None, str]]:
    return {line["check"]: (line["ok"], line["found"]) for line in result["lines"]}


def test_without_keeper_none_of_its_lines_is_there(finish: Call) -> None:
    assert {*lines(finish())} == {"API server", "clean-up"}


def test_keeper_is_judged_although_the_api_server_is_down(finish: Call, tmp_path: Path) -> None:
    (tmp_path / "keeper.json").write_text(json.dumps({"state": str(tmp_path)}))
    (tmp_path / "status.json").write_text(json.dumps({**well(), "looked": "2026-01-01T00:00:00Z", "pools": {"f2": paused("failed_joins")}}))
    found = lines(finish(check=True))
    assert [check for check in found if check != "API server"] == ABOUT_KEEPER
    assert found["keeper"][0] is False
    assert found["keeper"][1].startswith("last looked")
    assert found["pool"] == (False, "paused since 2026-11-26T11:30:00Z: Three instances did not join within an hour.")


def test_a_unit_that_does_not_run_fails(finish: Call, tmp_path: Path) -> None:
    (tmp_path / "keeper.json").write_text(json.dumps({"state": str(tmp_path)}))
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexit 3\n")
    assert lines(finish())["keeper"] == (False, "does not run")


def test_a_time_without_a_unit_is_refused(finish: Call) -> None:
    assert "unneeded: found '5', expected a duration as 45s, 30m or 1h30m." in finish(unneeded="5")["msg"]
