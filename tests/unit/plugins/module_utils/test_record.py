# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
from multiprocessing import get_context

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _record
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record, RecordError


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "fpga-hybrid" / "record.json")


def test_first_finding_wins_over_later_ones(path):
    first = Record.load(path)
    assert first.note("files", "/etc/docker/daemon.json", {"text": "{}"})
    assert first.save()
    later = Record.load(path)
    assert not later.note("files", "/etc/docker/daemon.json", {"text": "ours"})
    assert not later.save()
    assert Record.load(path).get("files", "/etc/docker/daemon.json") == {"text": "{}"}


def test_nothing_found_is_a_finding_too(path):
    record = Record.load(path)
    record.note("sysctl", "net.ipv4.ip_forward", None)
    record.note("sysctl", "net.ipv4.ip_forward", "1")
    record.save()
    assert Record.load(path).section("sysctl") == {"net.ipv4.ip_forward": None}


def test_put_keeps_the_last_state_and_forget_removes_it(path):
    record = Record.load(path)
    record.put("apt", "kubernetes", {"a": 1})
    record.put("apt", "kubernetes", {"a": 2})
    record.save()
    assert Record.load(path).get("apt", "kubernetes") == {"a": 2}
    record.forget("apt", "kubernetes")
    record.save()
    assert Record.load(path).section("apt") == {}


def test_two_roles_do_not_lose_each_others_entries(path):
    one, other = Record.load(path), Record.load(path)
    one.note("files", "/a", "old a")
    other.note("files", "/b", "old b")
    other.note("files", "/a", "seen later")
    one.save()
    other.save()
    assert Record.load(path).section("files") == {"/a": "old a", "/b": "old b"}


def note_number(path, number):
    record = Record.load(path)
    record.note("files", f"/{number}", number)
    record.save()


def test_many_processes_at_once_lose_nothing(path):
    with get_context("fork").Pool(8) as pool:
        pool.starmap(note_number, [(path, number) for number in range(40)])
    assert len(Record.load(path).section("files")) == 40


def test_only_root_can_read_it(path):
    record = Record.load(path)
    record.note("files", "/etc/secret", "text")
    record.save()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def test_an_unchanged_record_is_not_written(path):
    record = Record.load(path)
    record.put("apt", "x", 1)
    record.save()
    before = os.stat(path).st_ino
    again = Record.load(path)
    again.put("apt", "x", 1)
    assert not again.changed
    assert not again.save()
    assert os.stat(path).st_ino == before


def test_values_are_copies(path):
    record = Record.load(path)
    value = {"list": [1]}
    record.put("apt", "x", value)
    value["list"].append(2)
    record.get("apt", "x")["list"].append(3)
    assert record.get("apt", "x") == {"list": [1]}


@pytest.mark.parametrize(("text", "says"), [("{", "cannot be read"), ('{"schema": 99}', "schema 99"), ("[]", "schema list")])
def test_a_broken_record_is_never_overwritten(path, text, says):
    os.makedirs(os.path.dirname(path))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    with pytest.raises(RecordError, match=says):
        Record.load(path)
    with open(path, encoding="utf-8") as file:
        assert file.read() == text


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):
    record = Record.load(path)
    record.put("apt", "x", 1)
    record.save()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_record.os, "fsync", full)
    record.put("apt", "x", 2)
    with pytest.raises(RecordError, match="No space left"):
        record.save()
    with open(path, encoding="utf-8") as file:
        assert json.load(file)["apt"] == {"x": 1}
    assert sorted(os.listdir(os.path.dirname(path))) == [".record.lock", "record.json"]
