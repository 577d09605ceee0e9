# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of the cloud's instances, made for real from the running depot: what it has, what it refuses, what it leaves on the machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lab import lifecycle
from lab.cloud import image
from lab.run import run
from tests.lab.site import CACHE, playbook

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CHROOT = image.CHECKOUT / "roles" / "image" / "files" / "chroot"


@pytest.fixture(scope="module")
def reference():
    return image.ensure()


@pytest.fixture(scope="module")
def unpacked(reference, tmp_path_factory):
    """A copy of the finished image in a folder. What a test harms in it, it puts back."""
    work = tmp_path_factory.mktemp("image")
    folder = work / "root"
    folder.mkdir()
    container = run("podman", "create", reference).strip()
    try:
        run("podman", "export", "--output", work / "root.tar", container)
    finally:
        run("podman", "rm", container)
    run("tar", "--extract", "--numeric-owner", "--file", work / "root.tar", "--directory", folder)
    (work / "root.tar").unlink()
    # podman's own, in every container.
    for path in ("etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab"):
        (folder / path).unlink(missing_ok=True)
    return folder


def check(folder: Path, *arguments: str):
    return playbook("image", "-e", "image_target=chroot", "-e", f"image_root={folder}", "--tags", "check", *arguments)


def mounts(folder: Path) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]


def test_a_second_call_finds_it_and_builds_nothing(reference, monkeypatch):
    monkeypatch.setattr(image, "_build", lambda _wanted: pytest.fail("it is built again"))
    assert image.ensure() == reference


def test_the_image_is_taken_and_a_second_run_changes_nothing(unpacked):
    check(unpacked).check()
    again = playbook("image", "-e", "image_target=chroot", "-e", f"image_root={unpacked}").check()
    assert again.changed() == {}
    predicted = playbook("image", "-e", "image_target=chroot", "-e", f"image_root={unpacked}", "--check", "--diff").check()
    assert predicted.changed() == {}
    assert mounts(unpacked) == []


LACKING = {
    "/opt/fpga-hybrid/lib/fpga_hybrid/bootstrap.py": "`/opt/fpga-hybrid/bin/fpga-hybrid-bootstrap --help` ends with status",
    "/etc/systemd/system/multi-user.target.wants/fpga-hybrid-bootstrap.service": "unit fpga-hybrid-bootstrap.service: not enabled",
    "/opt/fpga-hybrid/bin/fpga-hybrid-device-plugin": "program /opt/fpga-hybrid/bin/fpga-hybrid-device-plugin: not there",
    "/usr/bin/kubelet": "program kubelet: not there",
    "/usr/local/bin/fpga-local-cmd": "program fpga-local-cmd: not there",
    "/etc/modules-load.d/fpga-hybrid.conf": "kernel modules overlay, br_netfilter, nf_conntrack, tun are not loaded at boot",
    "/etc/containerd/config.toml": "/etc/containerd/config.toml: no such file",
}


def test_an_image_that_lacks_parts_is_refused_for_all_of_them_at_once(unpacked, tmp_path):
    status = unpacked / "var/lib/dpkg/status"
    installed = status.read_text()
    status.write_text(installed.replace("Package: kubeadm\n", "Package: another\n"))
    for number, path in enumerate(LACKING):
        os.rename(f"{unpacked}{path}", tmp_path / str(number))
    try:
        refused = check(unpacked)
    finally:
        for number, path in enumerate(LACKING):
            os.rename(tmp_path / str(number), f"{unpacked}{path}")
        status.write_text(installed)
    assert refused.status != 0
    assert "This is no image for instances, for" in refused.output
    assert [told for told in [*LACKING.values(), "package kubeadm: not installed"] if told not in refused.output] == []


PLANTED = {
    "/etc/ssh/ssh_host_ed25519_key": ("x\n", "found ssh host keys"),
    "/root/.bash_history": ("kubeadm join\n", "found shell histories"),
    "/root/.ssh/authorized_keys": ("ssh-ed25519 AAAA builder\n", "found ssh keys of whoever built it"),
    "/etc/fpga-hybrid/node.json": ("{}\n", "found state of a node"),
    "/var/log/syslog": ("x\n", "found logs"),
    "/etc/default/kubelet-join": ("TOKEN=k3j2l1.0a1b2c3d4e5f6g7h\n", "found a join token (/etc/default/kubelet-join)"),
}


def test_an_image_that_holds_what_it_must_not_is_refused_and_the_secret_is_not_shown(unpacked):
    for path, (text, _told) in PLANTED.items():
        Path(f"{unpacked}{path}").parent.mkdir(exist_ok=True)
        Path(f"{unpacked}{path}").write_text(text)
    try:
        refused = check(unpacked, "--check")  # which looks as well, where it is asked for
    finally:
        for path in PLANTED:
            Path(f"{unpacked}{path}").unlink()
    assert refused.status != 0
    assert [told for _text, told in PLANTED.values() if told not in refused.output] == []
    assert "k3j2l1" not in refused.output


def test_no_secret_of_the_lab_is_in_it_but_the_mirrors_login_for_root_alone(unpacked):
    password = (CACHE / "depot" / "password").read_text().strip().encode()
    key = (CACHE / "ssh" / "id_ed25519.pub").read_text().split()[1].encode()
    holding = []
    for path in unpacked.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20:
            content = path.read_bytes()
            assert key not in content, path
            if password in content:
                holding.append(path)
    assert holding
    assert {path.parent.name for path in holding} == {"auth.conf.d"}
    assert {path.stat().st_mode & 0o777 for path in holding} == {0o600}


def test_an_image_of_a_machine_must_have_a_kernel(unpacked):
    refused = check(unpacked, "-e", "image_bootable=true")
    assert refused.status != 0
    assert "kernel: found /boot/vmlinuz-* of no version and /lib/modules of no version" in refused.output


def test_what_is_mounted_below_the_image_is_refused_and_stays(unpacked, tmp_path):
    (tmp_path / "kept").write_text("the machine's own\n")
    run("mount", "--bind", tmp_path, unpacked / "tmp")
    try:
        refused = playbook("image", "-e", f"image_root={unpacked}")
        assert (tmp_path / "kept").exists()
    finally:
        run("umount", unpacked / "tmp")
    assert refused.status != 0
    assert f"Run: umount {unpacked}/tmp." in refused.output


def test_a_run_that_fails_leaves_neither_mounts_nor_what_only_the_building_needs(unpacked):
    (unpacked / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    failed = playbook("image", "-e", f"image_root={unpacked}", "-e", "containerd_version=9.9.*", "-e", "image_resolver='nameserver 192.0.2.1'")
    assert os.readlink(unpacked / "etc/resolv.conf") == "../run/systemd/resolve/stub-resolv.conf"
    (unpacked / "etc/resolv.conf").unlink()
    assert failed.status != 0
    assert "containerd.io" in failed.output
    assert not (unpacked / "usr/sbin/policy-rc.d").exists()
    names = unpacked / "etc" / "hosts"
    assert not names.exists() or "depot" not in names.read_text()
    assert mounts(unpacked) == []
    playbook("image", "-e", f"image_root={unpacked}").check()


def test_what_a_killed_build_left_goes_when_the_lab_is_next_prepared():
    left = CACHE / image.FOLDER / "build-killed"
    (left / "root" / "proc").mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", left / "root" / "proc")
    lifecycle.prepare(())
    assert not left.exists()
    assert mounts(left) == []


def test_commands_in_the_image_leave_neither_mounts_nor_processes_even_when_they_are_killed(unpacked):
    sleep = f"sleep {10_000_000 + os.getpid()}"  # like nobody else's
    process = subprocess.Popen([CHROOT, unpacked, "/bin/sh", "-c", f"{sleep} & echo started; wait"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    assert sleeps(sleep)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while sleeps(sleep) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not sleeps(sleep)
    assert mounts(unpacked) == []


def sleeps(command: str) -> bool:
    return subprocess.run(["pgrep", "-fx", command], capture_output=True, check=False).returncode == 0


def test_an_image_boots_and_waits_for_its_user_data(reference):
    """systemd comes up, containerd serves the kubelet's interface, and bootstrap has nothing to do without node.json."""
    arguments = ("--privileged", "--systemd=false", "--cgroupns=private", "--env", "container=podman", "--network", "none", "--volume", "/var/lib/containerd")
    limits = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=32768:32768", "--tmpfs", "/run:exec,mode=755", "--tmpfs", "/run/lock")
    name = f"fpga-hybrid-image-test-{os.getpid()}"
    run("podman", "--runtime", "/usr/sbin/runc", "run", "--detach", "--name", name, *arguments, *limits, reference)
    try:

        def inside(command: str) -> str:
            return subprocess.run(["podman", "exec", name, "sh", "-c", command], capture_output=True, text=True, check=False).stdout.strip()

        deadline = time.monotonic() + 120
        while inside("systemctl is-active containerd") != "active" and time.monotonic() < deadline:
            time.sleep(1)
        assert inside("systemctl is-active containerd") == "active"
        assert inside("ctr version >/dev/null && echo answers") == "answers"
        # It would set the machine's clock, which is everybody's.
        assert " -x" in inside("pgrep -a chronyd")
        assert re.fullmatch("[0-9a-f]{32}", inside("cat /etc/machine-id"))
        assert inside("systemctl is-enabled fpga-hybrid-bootstrap fpga-hybrid-watch fpga-hybrid-device-plugin") == "enabled\nenabled\nenabled"
        assert inside("systemctl show --property=ConditionResult --value fpga-hybrid-bootstrap") == "no"
    finally:
        run("podman", "rm", "--force", "--time", "0", "--volumes", name)
