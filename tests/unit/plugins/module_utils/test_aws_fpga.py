# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS' tools: fetched sources are unpacked, built, installed below another root, and compared; the compiler is the real one."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _aws_fpga as aws
from ansible_collections.fpga.hybrid.plugins.module_utils._aws_fpga import Places, ToolsError
from lab.fpga import aws_sources

URL = "https://mirror/aws-fpga-2.3.2.tar.gz"


def run(argv, cwd, environment):
    if argv[0] == "ldconfig":
        return 0, "", ""
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def without_a_compiler(argv, cwd, environment):
    return run(argv, cwd, {**environment, "MAKEFLAGS": "CC=no-such-compiler"})


def tar_of(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def unpacked(tmp_path):
    def do(content):
        archive = tmp_path / "a.tar"
        archive.write_bytes(content)
        return aws.unpack(archive, URL, tmp_path / "sources")

    return do


@pytest.fixture
def installed(tmp_path, unpacked):
    """Places with the tools of the stand-in, and what the record would keep."""
    places = Places(tmp_path / "root")
    sources = unpacked(aws_sources.archive())
    aws.build(sources, run)
    return places, {"version": "2.3.2", "sha256": "a" * 64, "files": aws.install(sources, places, run)}


def test_the_tools_are_built_and_run(installed):
    places, kept = installed
    assert {Path(path).name for path in kept["files"]} == {*aws_sources.WRAPPERS, "fpga-local-cmd", "libfpga_mgmt.so.1.0.0"}
    assert aws.version(run, str(places.programs / "fpga-local-cmd")) == "2.3.2"
    assert (places.libraries / "libfpga_mgmt.so").resolve().name == "libfpga_mgmt.so.1.0.0"
    assert aws.drift(kept, "a" * 64, places) == ""


def test_what_was_changed_or_removed_since_is_named(installed):
    places, kept = installed
    (places.programs / "fpga-load-local-image").write_text("harmed")
    (places.libraries / "libfpga_mgmt.so.1.0.0").unlink()
    assert aws.drift(kept, "a" * 64, places) == "/usr/local/bin/fpga-load-local-image, /usr/local/lib/libfpga_mgmt.so.1.0.0 not as built"


def test_a_link_that_was_lost_is_made_again(installed, tmp_path):
    places, kept = installed
    (places.libraries / "libfpga_mgmt.so.1").unlink()
    assert aws.drift(kept, "a" * 64, places) == "/usr/local/lib/libfpga_mgmt.so.1 not as built"
    aws.install(next((tmp_path / "sources").iterdir()), places, run)
    assert aws.drift(kept, "a" * 64, places) == ""


def test_a_library_of_somebody_else_keeps_its_link(installed, tmp_path):
    """Neither taken from him at installation nor when ours goes."""
    places, kept = installed
    link = places.libraries / "libfpga_mgmt.so"
    link.unlink()
    link.symlink_to("/opt/theirs/libfpga_mgmt.so.9")
    with pytest.raises(ToolsError, match=r"libfpga_mgmt.so leads to /opt/theirs/libfpga_mgmt.so.9.*expected"):
        aws.install(next((tmp_path / "sources").iterdir()), places, run)
    aws.remove(kept, places, run)
    assert link.is_symlink()
    assert not (places.libraries / "libfpga_mgmt.so.1").is_symlink()


def test_another_release_and_none_are_told(installed):
    places, kept = installed
    assert aws.drift(kept, "b" * 64, places) == "they are those of 2.3.2"
    assert aws.drift(None, "b" * 64, places) == "the tools are not there"


def test_what_was_put_in_is_taken_out_and_nothing_else(installed):
    places, kept = installed
    (places.programs / "fpga-of-the-user").write_text("")
    aws.remove(kept, places, run)
    assert [path.name for path in places.root.rglob("*") if path.is_file() or path.is_symlink()] == ["fpga-of-the-user"]


def test_tools_of_somebody_else_that_run_are_adopted():
    def theirs(argv, cwd, environment):
        return (234, "AFI Management Tools Version: 1.5.0\n", "") if argv[0] == aws.PROGRAM else (127, "", "")

    assert aws.foreign(None, theirs) == "1.5.0"
    assert aws.foreign({"version": "2.3.2"}, theirs) == ""
    assert aws.foreign(None, lambda *_: (127, "", "not found")) == ""


@pytest.mark.parametrize("sha256", ["", "abc", "sha256:" + "a" * 64, "A" * 64])
def test_sources_are_not_taken_unpinned(sha256):
    with pytest.raises(ToolsError, match="aws_fpga_sha256"):
        aws.check_sha256(sha256, URL)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>403</html>", "cannot be unpacked"),
        (aws_sources.archive()[:2000], "cannot be unpacked"),
        (tar_of(**{"other/README": "x"}), "holds no sdk/userspace/mkall_fpga_mgmt_tools.sh"),
        (tar_of(**{"../outside": "x"}), "cannot be unpacked"),
    ],
)
def test_an_archive_of_something_else_is_refused(content, said, unpacked, tmp_path):
    with pytest.raises(ToolsError, match=said):
        unpacked(content)
    assert not (tmp_path / "outside").exists()


def test_a_host_without_a_compiler_says_what_make_said(unpacked):
    with pytest.raises(ToolsError, match=r"(?s)do not build.*no-such-compiler"):
        aws.build(unpacked(aws_sources.archive()), without_a_compiler)


def test_tools_that_were_built_and_do_not_run_are_no_success(tmp_path, unpacked):
    sources = unpacked(aws_sources.archive())
    aws.build(sources, run)
    (sources / aws.TOOLS / "fpga-local-cmd").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ToolsError, match="does not run"):
        aws.install(sources, Places(tmp_path / "root"), run)


def test_the_stand_ins_archive_is_the_same_each_time():
    assert aws_sources.archive() == aws_sources.archive()
