# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""owned_files, called as Ansible calls it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import Unit
from ansible_collections.fpga.hybrid.plugins.modules import owned_files
from tests.unit.plugins.modules.calling import Call


@pytest.fixture
def files(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    load = Record.load
    monkeypatch.setattr(owned_files.Record, "load", lambda: load(str(tmp_path / "record.json")))

    def run(check: bool = False, state: str = "present", owner: str = "role", unit: str | None = None, **contents: str) -> dict[str, Any]:
        wanted = [{"path": str(tmp_path / "etc" / name), "content": text, "mode": "0600"} for name, text in contents.items()]
        folders = [{"path": str(tmp_path / "etc"), "mode": "0700"}]
        return call("owned_files", owner=owner, check=check, state=state, folders=folders, files=wanted, unit=unit)

    return run


def test_files_are_predicted_written_and_then_left_alone(files: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    expected = [str(tmp_path / "etc"), str(tmp_path / "etc" / "a"), str(tmp_path / "etc" / "b")]
    assert files(check=True, a="1\n", b="2\n")["paths"] == expected
    assert not (tmp_path / "etc").exists()
    assert files(a="1\n", b="2\n")["paths"] == expected
    assert stat.S_IMODE((tmp_path / "etc").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "etc" / "a").stat().st_mode) == 0o600
    assert files(a="1\n", b="2\n")["changed"] is False


def test_only_what_drifted_is_mended(files: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    files(a="1\n", b="2\n")
    (tmp_path / "etc" / "b").write_text("other\n")
    (tmp_path / "etc").chmod(0o755)
    assert files(a="1\n", b="2\n")["paths"] == [str(tmp_path / "etc"), str(tmp_path / "etc" / "b")]


def test_a_reset_takes_out_what_was_written_and_gives_back_what_was_found(files: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "b").write_text("found\n")
    files(a="1\n", b="2\n")
    files(state="absent")
    assert not (tmp_path / "etc" / "a").exists()
    assert (tmp_path / "etc" / "b").read_text() == "found\n"
    assert files(state="absent")["changed"] is False


def test_owners_keep_out_of_each_other_s_files(files: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    files(owner="one", a="1\n")
    files(owner="other", b="2\n")
    assert files(owner="one", a="1\n")["changed"] is False
    files(owner="other", state="absent")
    assert (tmp_path / "etc" / "a").exists()
    assert not (tmp_path / "etc" / "b").exists()


def test_a_file_that_is_no_longer_listed_goes(files: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    files(a="1\n", b="2\n")
    assert files(a="1\n")["paths"] == [str(tmp_path / "etc" / "b")]
    assert not (tmp_path / "etc" / "b").exists()


def a_service(**state: Any) -> Callable[[str], Unit]:
    return lambda name: Unit(**{"exists": True, "active": True, "enabled": True, **state})


@pytest.mark.parametrize(
    ("state", "start", "restart"),
    [
        ({}, False, False),
        ({"active": False}, True, False),
        ({"enabled": False}, True, False),
        ({"needs_reload": True}, True, False),
        ({"main_pid": os.getpid()}, True, True),  # this process started before the file was written: a run was killed before its restart
    ],
)
def test_a_unit_that_reads_the_files_is_started_only_where_something_is_left_to_do(
    files: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, state: dict[str, Any], start: bool, restart: bool
) -> None:
    monkeypatch.setattr(owned_files.Unit, "read", a_service(**state))
    first = files(unit="x.service", a="1\n")
    assert (first["start_needed"], first["restart_needed"]) == (True, state.get("active", True))
    again = files(unit="x.service", a="1\n")
    assert (again["start_needed"], again["restart_needed"]) == (start, restart)
