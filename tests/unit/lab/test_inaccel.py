# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's stand-ins for InAccel's programs: what they do to a host, and how they fail."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.depot import debs
from lab.fpga import inacceld

DOCKER, KUBELET = "run/docker/plugins/inaccel.sock", "var/lib/kubelet/plugins_registry/inaccel.sock"


def environment(root: Path, **variables: str) -> dict[str, str]:
    return {**os.environ, "LAB_INACCEL_ROOT": str(root), "LAB_FPGA_ROOT": str(root / "lab"), **variables}


@contextlib.contextmanager
def daemon(root: Path, *sockets: str, **variables: str) -> Iterator[None]:
    with subprocess.Popen([sys.executable, inacceld.__file__], env=environment(root, **variables)) as process:
        end = time.monotonic() + 20
        while not all((root / path).exists() for path in sockets) and time.monotonic() < end and process.poll() is None:
            time.sleep(0.01)
        try:
            yield
        finally:
            process.kill()


def ask(path: Path, what: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        for _attempt in range(100):
            with contextlib.suppress(ConnectionRefusedError):
                client.connect(str(path))
                break
            time.sleep(0.02)
        client.sendall(f"POST {what} HTTP/1.0\r\n\r\n".encode())
        return client.makefile().read()


def test_docker_is_answered_and_gets_no_volume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with daemon(Path(), DOCKER, KUBELET="disabled"):
        assert '{"Implements": ["VolumeDriver"]}' in ask(Path(DOCKER), "/Plugin.Activate")
        assert "500" in ask(Path(DOCKER), "/VolumeDriver.Mount").splitlines()[0]
        assert not Path(KUBELET).exists()


def test_the_kubelet_finds_a_socket_where_it_is_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with daemon(Path(), KUBELET, DOCKER="disabled"):
        assert Path(KUBELET).is_socket()
        assert not Path(DOCKER).exists()


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [("etc/inaccel/daemon.json", "{", "daemon.json"), ("lab/faults/inacceld", "no such platform", "no such platform")],
)
def test_it_ends_on_a_bad_configuration_and_when_told_to(path, content, says, tmp_path):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(content)
    done = subprocess.run([sys.executable, inacceld.__file__], env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert says in done.stderr


def test_both_generations_have_a_package_of_the_same_name():
    found = {spec.repository: spec.version for spec in debs.read_specs() if spec.name == "inaccel"}
    assert found == {"inaccel": "2.1.0", "inaccel-2020": "1.8.0"}


@pytest.mark.parametrize("script", ["inaccel-runc", "inaccel-cli-2020"])
def test_scripts_are_shell(script):
    subprocess.run(["sh", "-n", str(debs.FOLDER / script)], check=True)
