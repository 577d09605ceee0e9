# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
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
    message = str(r.engine_problem("containerd", debians, False, "2.*", "Kubernetes 1.36", host="worker1"))
    for part in ("worker1, containerd_version", "1.7.24", "package containerd 1.7.24~ds1-6", "2.*, which Kubernetes 1.36 needs", "apt-get remove containerd"):
        assert part in message


@pytest.mark.parametrize(
    ("program", "ours"),
    [(CONTAINERD_IO, False), (dataclasses.replace(CONTAINERD_IO, version="1.7.24"), True), (None, False)],
    ids=["it fits", "ours, which the package module brings into its range", "none, which we shall bring"],
)
def test_no_obstacle(program, ours):
    assert r.engine_problem("containerd", program, ours, "2.*", "Kubernetes 1.36") is None


@pytest.mark.parametrize(
    ("name", "program", "said"),
    [
        ("docker", r.Program("/snap/bin/dockerd", "28.1", None, None), "snap remove docker"),
        ("docker", r.Program("/usr/bin/dockerd", None, None, None), "tells no version"),
        ("cri_dockerd", None, "docker_cri_dockerd_version: cri-dockerd was not found; expected >=0.4.0, "),
        ("cri_dockerd", r.Program("/usr/bin/cri-dockerd", "0.3.16", "cri-dockerd", "0.3.16"), "cri-dockerd/releases"),
    ],
)
def test_an_engine_that_cannot_be_used_is_said_with_the_way_out(name, program, said):
    assert said in str(r.engine_problem(name, program, False, ">=0.4.0" if name == "cri_dockerd" else ">=20.10", "fpga.hybrid"))


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


@pytest.mark.parametrize(
    ("shown", "settled"),
    [
        ({}, True),
        ({"ActiveState": "failed"}, False),
        ({"UnitFileState": "disabled"}, False),
        ({"NeedDaemonReload": "yes"}, False),
    ],
)
def test_a_unit_is_settled_when_nothing_is_left_to_do_about_it(monkeypatch, shown, settled):
    state = {"ActiveState": "active", "LoadState": "loaded", "NeedDaemonReload": "no", "MainPID": "7", "UnitFileState": "enabled", **shown}
    monkeypatch.setattr(r.os.path, "isdir", lambda path: True)
    answer = r.Output(0, "".join(f"{name}={value}\n" for name, value in state.items()), "")
    assert r.Unit.read("x.service", lambda argv: answer).settled is settled


def test_the_refusal_names_service_containers_difference_and_the_way_on():
    text = r.refusal("containerd", {"moby": 2}, ["a.b: False -> True"], "They survive.", look="docker ps")
    for part in ("containerd", "2 in moby", "a.b: False -> True", "They survive.", "docker ps", "allow_disruption=true"):
        assert part in text


def test_a_program_that_hangs_or_is_missing_is_an_answer_too():
    assert r.run(["fpga-hybrid-no-such-program"]).code == 127
    assert r.run(["sleep", "5"], timeout=0.1).code == 124
