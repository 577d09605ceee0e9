# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to write a file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils._files import File

COLLECTIONS = Path(__file__).resolve().parents[4] / "collections"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
@pytest.mark.parametrize("wanted", [0o600, 0o644, 0o755])
def test_a_file_has_the_mode_that_was_asked_for(tmp_path, umask, wanted):
    before = os.umask(umask)
    try:
        _files.write(str(tmp_path / "new" / "file"), File("text\n", wanted))
    finally:
        os.umask(before)
    assert mode(tmp_path / "new" / "file") == wanted
    assert (tmp_path / "new" / "file").read_text() == "text\n"


def test_a_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    old = os.open(path, os.O_RDONLY)
    _files.write(str(path), File("new", 0o600))
    assert os.read(old, 10) == b"old", "who has it open sees it change under his hands"
    assert (path.read_text(), mode(path), os.listdir(tmp_path)) == ("new", 0o600, ["file"])


@pytest.mark.parametrize("step", ["fsync", "replace", "fchmod"])
def test_when_the_disk_is_full_the_old_file_stays_and_nothing_else(tmp_path, monkeypatch, step):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(_files.os, step, full)
    with pytest.raises(OSError, match="No space left"):
        _files.write(str(path), File("new"))
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["file"])


def test_what_it_holds_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(_files.os, "fsync", lambda handle: (done.append("on the disk"), sync(handle)))
    monkeypatch.setattr(_files.os, "replace", lambda new, old: (done.append("named"), replace(new, old)))
    _files.write(str(tmp_path / "file"), File("text"))
    assert done == ["on the disk", "named"]


def test_bytes_that_are_no_text_survive(tmp_path):
    path = tmp_path / "hosts"
    path.write_bytes(b"10.0.0.1 caf\xe9\n")
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    _files.write(str(path), File(text + "10.0.0.2 api\n"))
    assert path.read_bytes() == b"10.0.0.1 caf\xe9\n10.0.0.2 api\n"


MOUNTED = """
import os, subprocess, sys
from ansible_collections.fpga.hybrid.plugins.module_utils._files import File, write
subprocess.run(["mount", "--bind", sys.argv[1] + "/below", sys.argv[1] + "/hosts"], check=True)
write(sys.argv[1] + "/hosts", File("new\\n"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_file_that_is_mounted_is_written_in_place(tmp_path):
    """As /etc/hosts is in a container."""
    (tmp_path / "below").write_text("a long old text\n")
    (tmp_path / "hosts").write_text("under the mount\n")
    command = ["unshare", "--mount", sys.executable, "-c", MOUNTED, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(COLLECTIONS)}, capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr or "permission denied" in done.stderr:
        pytest.skip(f"this machine mounts nothing for us: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "below").read_text() == "new\n"
    assert (tmp_path / "hosts").read_text() == "under the mount\n"
    assert sorted(os.listdir(tmp_path)) == ["below", "hosts"]
