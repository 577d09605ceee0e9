# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the lab's cache: what a power cut may leave of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab import files
from lab.depot.base import Stamp


@pytest.fixture
def on_the_disk(monkeypatch):
    """Paths whose file system was written out, each with what its folder held then."""
    seen: list[tuple[str, list[str]]] = []

    def run(command: list[str | Path], *, check: bool) -> None:
        assert check
        path = Path(command[-1])
        seen.append((path.name, sorted(entry.name for entry in (path if path.is_dir() else path.parent).iterdir())))

    monkeypatch.setattr(files.subprocess, "run", run)
    return seen


def test_a_name_is_given_to_what_is_on_the_disk(tmp_path, on_the_disk):
    (tmp_path / "unfinished").write_text("whole")
    files.put_in_place(tmp_path / "unfinished", tmp_path / "archive")
    assert on_the_disk == [("unfinished", ["unfinished"])]
    assert (tmp_path / "archive").read_text() == "whole"


def test_a_stamp_is_written_when_what_it_vouches_for_is_on_the_disk(tmp_path, on_the_disk):
    (tmp_path / "program").write_text("whole")
    stamp = Stamp(tmp_path / "program.stamp")
    stamp.write("inputs")
    assert on_the_disk == [(tmp_path.name, ["program"])]
    assert stamp.is_current("inputs", tmp_path / "program")


def test_a_small_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    there: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: there.append((tmp_path / "file").exists()))
    files.write_atomically(tmp_path / "file", "content", mode=0o600)
    assert there == [False]
    assert (tmp_path / "file").read_text() == "content"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_file_system_that_cannot_be_written_out_is_a_failure(tmp_path):
    with pytest.raises(files.subprocess.CalledProcessError):
        files.put_in_place(tmp_path / "nothing", tmp_path / "archive")
