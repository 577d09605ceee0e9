# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules image_building, image_clean and image_check on made-up roots."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.fpga.hybrid.plugins.module_utils._image import BUILDING_POLICY
from ansible_collections.fpga.hybrid.plugins.modules import image_building, image_check, image_clean

COLLECTIONS = Path(__file__).resolve().parents[4] / "collections"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "image"
    for path in ("etc/apt", "usr/sbin", "usr/bin", "run", "var/lib/apt/lists", "var/lib/fpga-hybrid/apt"):
        (folder / path).mkdir(parents=True)
    (folder / "etc/machine-id").touch()
    return folder


@pytest.fixture
def call(capfd, root):
    def do(module, check=False, **arguments):
        with patch_module_args({"root": str(root), **arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capfd.readouterr().out)

    return do


def tree(root):
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()}


# Building


def test_what_the_building_needs_is_there_while_it_lasts_and_gone_afterwards(root, call):
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    before = tree(root)
    assert call(image_building, resolver="nameserver 192.0.2.1\n", hosts={"depot": "10.0.0.2"})["changed"]
    assert (root / "usr/sbin/policy-rc.d").read_text() == BUILDING_POLICY
    assert os.access(root / "usr/sbin/policy-rc.d", os.X_OK)
    assert "10.0.0.2 depot" in (root / "etc/hosts").read_text()
    assert not call(image_building, resolver="nameserver 192.0.2.1\n", hosts={"depot": "10.0.0.2"})["changed"]
    assert call(image_building, state="absent")["changed"]
    assert tree(root) == before
    assert not call(image_building, state="absent")["changed"]


def own(root):
    """Everything below etc, links as links, with what chmod and touch leave."""
    return {
        path.name: (os.readlink(path) if path.is_symlink() else path.read_text(), path.lstat().st_mode, path.lstat().st_mtime_ns)
        for path in (root / "etc").iterdir()
        if path.name in {"hosts", "resolv.conf"} or "aside" in path.name
    }


BUILDING = {"resolver": "nameserver 192.0.2.1\n", "hosts": {"depot": "10.0.0.2"}}
FILES = {
    "none": (None, None),
    "a link of systemd-resolved": ("../run/systemd/resolve/stub-resolv.conf", "127.0.0.1 localhost\n"),
    "files": ("nameserver 198.51.100.1\n", "127.0.0.1 localhost\n\n"),
    "empty files": ("", ""),
    "a file without an end of line": ("nameserver 198.51.100.1", "127.0.0.1 localhost"),
}


@pytest.fixture(params=FILES)
def files(request, root):
    resolver, hosts = FILES[request.param]
    if resolver and resolver.startswith(".."):
        (root / "etc/resolv.conf").symlink_to(resolver)
    elif resolver is not None:
        (root / "etc/resolv.conf").write_text(resolver)
    if hosts is not None:
        (root / "etc/hosts").write_text(hosts)
        (root / "etc/hosts").chmod(0o664)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("times", [1, 2], ids=["once", "after a killed building"])
def test_the_images_own_resolver_and_names_come_back_as_they_were(root, call, times):
    before = own(root)
    for _time in range(times):
        call(image_building, **BUILDING)
    assert not (root / "etc/resolv.conf").is_symlink()
    assert "nameserver 192.0.2.1\n" in (root / "etc/resolv.conf").read_text()
    assert "198.51.100.1" not in (root / "etc/resolv.conf").read_text()
    assert "10.0.0.2 depot" in (root / "etc/hosts").read_text()
    assert call(image_building, check=True, **BUILDING)["changes"] == []
    call(image_building, state="absent")
    assert own(root) == before
    assert call(image_building, state="absent")["changes"] == []


def test_what_a_package_makes_of_resolver_and_names_meanwhile_stays(root, call):
    (root / "etc/resolv.conf").write_text("nameserver 198.51.100.1\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    call(image_building, **BUILDING)
    (root / "etc/resolv.conf").unlink()
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    with (root / "etc/hosts").open("a") as file:
        file.write("127.0.0.2 package\n")
    call(image_building, state="absent")
    assert os.readlink(root / "etc/resolv.conf") == "../run/systemd/resolve/stub-resolv.conf"
    assert (root / "etc/hosts").read_text() == "127.0.0.1 localhost\n127.0.0.2 package\n"
    assert {name for name in own(root) if "aside" in name} == set()


def test_what_the_builder_does_not_give_is_left_alone(root, call):
    (root / "etc/resolv.conf").symlink_to("/run/resolv.conf")
    (root / "etc/hosts").touch()
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    before = own(root)
    assert call(image_building)["changes"] == []
    assert call(image_building, state="absent")["changes"] == []
    assert own(root) == before
    assert (root / "usr/sbin/policy-rc.d").read_text() == "#!/bin/sh\nexit 101\n"


def test_check_mode_of_the_building_touches_nothing(root, call):
    before = tree(root)
    assert call(image_building, check=True, hosts={"depot": "10.0.0.2"})["changes"] == ["/etc/hosts", "/usr/sbin/policy-rc.d"]
    assert tree(root) == before


# Cleaning


def dirty(root):
    for path in ("etc/ssh/ssh_host_rsa_key", "var/log/apt/history.log", "var/lib/apt/lists/x_Packages", "root/.ssh/authorized_keys", "tmp/left/over"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x\n")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "var/log/wtmp").write_text("x")
    (root / "var/lib/fpga-hybrid/apt/host.updated").touch()


def test_cleaning_takes_out_what_the_check_finds_and_a_second_one_nothing(root, call):
    dirty(root)
    predicted = call(image_clean, check=True)
    assert (root / "tmp/left/over").exists()
    done = call(image_clean)
    assert done["changed"]
    assert done["removed"] == predicted["removed"]
    assert set(tree(root)) == {"etc/machine-id", "var/log/wtmp", "var/lib/fpga-hybrid/apt/host.updated"}
    assert (root / "etc/machine-id").read_text() == ""
    assert not call(image_clean)["changed"]


def test_the_diff_is_what_changes(root, call):
    dirty(root)
    diff = call(image_clean, check=True)["diff"]
    assert call(image_clean)["diff"] == diff
    assert "/etc/ssh/ssh_host_rsa_key: ssh host keys\n" in diff["before"]
    assert "/var/log/wtmp: records of logins\n" in diff["before"]
    assert diff["after"] == "/etc/machine-id: empty\n/var/log/wtmp: empty\n"
    assert call(image_clean)["diff"] == {"before": "", "after": ""}
    (root / "etc/machine-id").unlink()
    assert call(image_clean)["diff"] == {"before": "", "after": "/etc/machine-id: empty\n"}


def test_lists_that_were_taken_out_are_old_for_who_installs_next(root, call):
    dirty(root)
    call(image_clean)
    assert (root / "var/lib/apt/lists").stat().st_mtime == 0
    assert (root / "var/lib/fpga-hybrid/apt/host.updated").stat().st_mtime == 0


def test_a_missing_machine_id_becomes_an_empty_one(root, call):
    (root / "etc/machine-id").unlink()
    assert call(image_clean)["removed"] == {"no machine id": ["/etc/machine-id"]}
    assert (root / "etc/machine-id").read_text() == ""


def test_cleaning_follows_no_link_out_of_the_image(root, call, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (root / "tmp").mkdir()
    (root / "tmp/link").symlink_to(outside)
    (root / "var/log").mkdir(parents=True)
    (root / "var/log/link.log").symlink_to(outside / "kept")
    call(image_clean)
    assert (outside / "kept").read_text() == "x"
    assert not (root / "tmp/link").is_symlink()


BOUND = """
import sys
from ansible.module_utils.testing import patch_module_args
from ansible_collections.fpga.hybrid.plugins.modules import image_clean

with patch_module_args({"root": sys.argv[1]}):
    image_clean.main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize(("mount", "at"), [("--bind", "tmp"), ("--bind", "tmp/left/over"), ("--bind", "root"), ("-t tmpfs", "tmp/left")])
def test_what_is_mounted_in_the_image_is_not_its_own_and_stays(root, tmp_path, mount, at):
    """A bind mount of the same file system, too, which has the image's device number."""
    dirty(root)
    outside = tmp_path / "outside"
    (outside / ".ssh").mkdir(parents=True)
    (outside / ".ssh/kept").write_text("x")
    if at == "tmp/left/over":
        (root / at).unlink()
        (root / at).mkdir()
    script = f'mount {mount} "{outside}" "{root}/{at}" && exec "{sys.executable}" -c "$1" "{root}"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", BOUND]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(COLLECTIONS)}, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert "mount than the image's root, so that it is not the image's own; nothing was removed" in answer["msg"]
    assert f"/{at.split('/')[0]}/" in answer["msg"]
    assert (outside / ".ssh/kept").exists()
    assert (root / "etc/ssh/ssh_host_rsa_key").exists()


def test_a_running_system_is_never_cleaned(root, call):
    dirty(root)
    (root / "run/systemd/system").mkdir(parents=True)
    told = call(image_clean)
    assert "running system, not an image: nothing was removed" in told["msg"]
    assert (root / "etc/ssh/ssh_host_rsa_key").exists()


# The check


def program(root, text):
    path = root / "usr/bin/kubelet"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


RUN = {"runs": [{"command": ["kubelet", "--version"], "says": r"v1\.36\.3"}], "runtime": "docker"}


@pytest.fixture
def taken(root):
    (root / "etc/docker").mkdir()
    (root / "etc/docker/daemon.json").write_text('{"exec-opts": ["native.cgroupdriver=systemd"]}')


@pytest.mark.usefixtures("taken")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("#!/bin/sh\necho Kubernetes v1.36.3\n", None),
        ("#!/bin/sh\necho Kubernetes v1.35.9\n", "`kubelet --version` says 'Kubernetes v1.35.9'; expected v1"),
        ("#!/bin/sh\nexit 0\n", "`kubelet --version` says 'nothing'"),
        ("#!/bin/sh\necho libc.so.6: not found >&2\nexit 127\n", "`kubelet --version` ends with status 127: libc.so.6: not found; expected it to run"),
    ],
)
def test_programs_must_run_and_say_what_they_should(root, call, text, told):
    program(root, text)
    result = call(image_check, **RUN)
    assert told in result["msg"] if told else not result.get("failed")


@pytest.mark.usefixtures("taken")
def test_a_program_that_should_run_must_be_there(call):
    assert "program kubelet: not there, or not executable" in call(image_check, **RUN)["msg"]


def test_all_findings_come_at_once(root, call):
    dirty(root)
    result = call(image_check, units=["kubelet.service"], packages=[{"name": "kubelet"}])
    variables = {problem["variable"] for problem in result["problems"]}
    assert {"unit kubelet.service", "package kubelet", "/etc/containerd/config.toml", "/etc/machine-id", "/var/log/wtmp"} <= variables
    assert result["msg"].startswith(f"This is no image for instances, for {len(result['problems'])} reasons:\n- ")


# An instance that runs, of which an image is made

INSTANCE = "i-0123456789abcdef0"


@pytest.fixture
def instance(root):
    for path, text in {
        "var/lib/cloud/data/instance-id": f"{INSTANCE}\n",
        "etc/ssh/ssh_host_rsa_key": "key",
        "etc/resolv.conf": "nameserver 10.0.0.2\n",
        "var/log/syslog": "booted\n",
        "tmp/x": "x",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "run/systemd/system").mkdir(parents=True)
    return root


@pytest.mark.parametrize("other", ["", "i-0fedcba9876543210"])
def test_a_running_system_is_cleaned_only_if_it_is_the_instance_that_was_started_for_the_image(instance, call, other):
    before = tree(instance)
    answer = call(image_clean, instance_id=other)
    assert answer["failed"]
    assert "nothing was removed" in answer["msg"]
    assert tree(instance) == before


def test_a_machine_that_is_no_instance_is_never_cleaned_as_one(instance, call):
    (instance / "var/lib/cloud/data/instance-id").unlink()
    assert f"instance-id: found none, expected {INSTANCE}" in call(image_clean, instance_id=INSTANCE)["msg"]
    assert (instance / "etc/ssh/ssh_host_rsa_key").exists()


def test_of_an_instance_all_is_taken_out_but_what_it_needs_as_long_as_it_runs(instance, call):
    call(image_clean, instance_id=INSTANCE)
    assert sorted(tree(instance)) == ["etc/machine-id", "etc/resolv.conf"]


def test_what_an_instances_services_write_again_is_not_held_against_it_and_all_else_is(instance, call):
    call(image_clean, instance_id=INSTANCE)
    (instance / "var/log/syslog").write_text("cleaned\n")

    def found(**options):
        return {problem["variable"] for problem in call(image_check, **options)["problems"]}

    assert {"/var/log/syslog", "/etc/resolv.conf"} <= found()
    assert not {"/var/log/syslog", "/etc/resolv.conf"} & found(running=True)
    (instance / "etc/ssh/ssh_host_rsa_key").write_text("key")
    assert "/etc/ssh/ssh_host_rsa_key" in found(running=True)
