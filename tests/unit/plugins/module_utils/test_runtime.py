# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import time

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _runtime as r

CONTAINERD_IO = r.Program("/usr/bin/containerd", "2.4.2", "containerd.io", "2.4.2-1")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("containerd github.com/containerd/containerd/v2 v2.4.2 8f2c4e9", "2.4.2"),
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", "1.6.20"),
        ("Docker version 20.10.24+dfsg1, build 5d6db84", "20.10.24"),
        ("cri-dockerd 0.4.3 (abcdef)", "0.4.3"),
        ("", None),
    ],
)
def test_versions_are_found_in_what_programs_say(text, version):
    assert r.version_in(text) == version


@pytest.mark.parametrize(
    ("version", "wanted", "fit"),
    [
        ("2.4.2", "2.*", True),
        ("1.7.24", "2.*", False),
        ("20.10.24", ">=20.10", True),
        ("19.3.1", ">=20.10", False),
        ("2.4.2", "2.4", True),
        ("2.40.2", "2.4", False),
    ],
)
def test_ranges(version, wanted, fit):
    assert r.fits(version, wanted) is fit


def test_a_package_is_ours_only_if_it_was_not_there_before():
    assert r.is_ours(CONTAINERD_IO, {"containerd": {"packages": {"containerd.io": {"was": None}}}})
    assert r.is_ours(CONTAINERD_IO, {"docker": {"packages": {}, "brought": ["containerd.io"]}})
    assert not r.is_ours(CONTAINERD_IO, {"containerd": {"packages": {"containerd.io": {"was": "2.1.0-1"}}}})
    assert not r.is_ours(CONTAINERD_IO, {})
    assert not r.is_ours(r.Program("/usr/local/bin/containerd", "2.4.2", None, None), {"containerd": {"packages": {"containerd.io": {"was": None}}}})


def test_an_engine_that_does_not_fit_is_refused_with_what_was_found_and_what_to_do():
    debians = r.Program("/usr/bin/containerd", "1.7.24", "containerd", "1.7.24~ds1-6")
    with pytest.raises(r.EngineError) as refused:
        r.judge_found("containerd", debians, "2.*", "Kubernetes 1.36")
    message = str(refused.value)
    for part in ("1.7.24", "package containerd 1.7.24~ds1-6", "Kubernetes 1.36 needs 2.*", "apt-get remove containerd", "Nothing was changed"):
        assert part in message


def test_an_engine_that_fits_is_taken_as_it_is():
    r.judge_found("containerd", CONTAINERD_IO, "2.*", "Kubernetes 1.36")


def test_a_snap_is_refused():
    with pytest.raises(r.EngineError, match="snap remove docker"):
        r.judge_found("docker", r.Program("/snap/bin/dockerd", "28.1", None, None), ">=20.10", "x")


def test_an_engine_that_tells_no_version_is_refused():
    with pytest.raises(r.EngineError, match="tells no version"):
        r.judge_found("docker", r.Program("/usr/bin/dockerd", None, None, None), ">=20.10", "x")


def process(folder, pid, *arguments):
    (folder / str(pid)).mkdir()
    (folder / str(pid) / "cmdline").write_bytes(b"\0".join(a.encode() for a in arguments) + b"\0")


def test_containers_are_counted_by_the_namespace_of_their_shims(tmp_path):
    shim = "/usr/bin/containerd-shim-runc-v2"
    process(tmp_path, 10, shim, "-namespace", "moby", "-id", "a", "-address", "/run/containerd/containerd.sock")
    process(tmp_path, 11, shim, "-namespace", "k8s.io", "-id", "b")
    process(tmp_path, 12, shim, "--namespace", "moby", "--id", "c")
    process(tmp_path, 13, "grep", "-namespace", "moby", "containerd-shim")
    (tmp_path / "self").mkdir()
    (tmp_path / "14").mkdir()  # it ended meanwhile
    assert r.running_containers(str(tmp_path)) == {"moby": 2, "k8s.io": 1}
    assert r.foreign(r.running_containers(str(tmp_path))) == {"moby": 2}


def test_a_process_is_known_by_when_it_started():
    assert abs(r.started_at(os.getpid()) - time.time()) < 600
    assert r.started_at(2**22 + 1) is None


def test_a_file_written_after_the_service_started_has_not_been_read(tmp_path):
    """So a run that was killed before its restart is made good by the next one."""
    started = r.started_at(os.getpid())
    files = {name: tmp_path / name for name in ("before", "after", "future")}
    for name, at in (("before", started - 0.2), ("after", started + 0.2), ("future", time.time() + 900)):
        files[name].write_text("")
        os.utime(files[name], (at, at))
    unit = r.Unit(active=True, exists=True, main_pid=os.getpid())
    assert unit.older_than([*map(str, files.values()), str(tmp_path / "absent")]) == [str(files["after"])]


def test_the_refusal_names_service_containers_difference_and_the_way_on():
    text = r.refusal("containerd", {"moby": 2}, ["a.b: False -> True"], "They survive.", look="docker ps")
    for part in ("containerd", "2 in moby", "a.b: False -> True", "They survive.", "docker ps", "allow_disruption=true"):
        assert part in text


def test_a_program_that_hangs_or_is_missing_is_an_answer_too():
    assert r.run(["fpga-hybrid-no-such-program"]).code == 127
    assert r.run(["sleep", "5"], timeout=0.1).code == 124
