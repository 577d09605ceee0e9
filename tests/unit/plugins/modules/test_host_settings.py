# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module host_settings on made-up hosts below a folder."""

from __future__ import annotations

import json
import os
import stat

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.fpga.hybrid.plugins.modules import host_settings

MODULES = "/etc/modules-load.d/fpga-hybrid.conf"
SYSCTL = "/etc/sysctl.d/99-zz-fpga-hybrid.conf"
WANTED = {
    "modules": ["overlay", "tun"],
    "sysctl": {"net.ipv4.ip_forward": 1},
    "hosts": {"api.test": "172.27.224.1"},
    "folders": [{"path": "/etc/fpga-hybrid", "mode": "0700"}],
    "files": [{"path": "/etc/chrony/sources.d/x.sources", "content": "server depot\n", "group": "time"}],
}


class Host:
    def __init__(self, root):
        self.root = root
        self.write("/etc/hosts", "127.0.0.1 localhost\n")
        self.write("/proc/modules", "overlay 1 0 - Live 0x0\ntun 1 0 - Live 0x0\n")
        self.write("/proc/sys/net/ipv4/ip_forward", "0\n")
        self.write("/proc/sys/net/ipv4/conf/all/rp_filter", "0\n")

    def path(self, path):
        return self.root / path.lstrip("/")

    def write(self, path, text):
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def read(self, path):
        return self.path(path).read_text()


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture
def call(capfd, host):
    def do(check=False, **changed):
        with patch_module_args({**WANTED, "root": str(host.root), "_ansible_check_mode": check, **changed}), pytest.raises(SystemExit):
            host_settings.main()
        return json.loads(capfd.readouterr().out)

    return do


def test_everything_once_and_nothing_twice(host, call):
    first = call()
    assert first["changes"] == [
        "/etc/fpga-hybrid made",
        f"{MODULES} written",
        f"{SYSCTL} written",
        "/etc/chrony/sources.d/x.sources written",
        "/etc/hosts: our block written",
        "sysctl net.ipv4.ip_forward set to 1 (was 0)",
    ]
    assert first["groups"] == ["time"]
    assert host.read("/proc/sys/net/ipv4/ip_forward") == "1"
    assert stat.S_IMODE(os.stat(host.path("/etc/fpga-hybrid")).st_mode) == 0o700
    assert call()["changes"] == []


def test_check_mode_says_the_same_and_touches_nothing(host, call):
    before = {path: path.read_bytes() for path in host.root.rglob("*") if path.is_file()}
    predicted = call(check=True)
    assert {path: path.read_bytes() for path in host.root.rglob("*") if path.is_file()} == before
    real = call()
    assert predicted["changes"] == real["changes"]
    assert predicted["diff"] == real["diff"]


@pytest.mark.parametrize(
    ("path", "broken", "says"),
    [
        (SYSCTL, "", f"{SYSCTL} mended"),
        (MODULES, "x\n", f"{MODULES} mended"),
        ("/proc/sys/net/ipv4/ip_forward", "0\n", "sysctl net.ipv4.ip_forward set to 1 (was 0)"),
        ("/etc/hosts", "127.0.0.1 localhost\n", "/etc/hosts: our block written"),
        ("/etc/chrony/sources.d/x.sources", "pool other\n", "/etc/chrony/sources.d/x.sources mended"),
    ],
)
def test_what_drifted_is_mended_and_nothing_else(path, broken, says, host, call):
    call()
    host.write(path, broken)
    assert call()["changes"] == [says]


def test_strict_reverse_path_filtering_is_made_loose_stays_so_and_is_given_back(host, call):
    host.write("/proc/sys/net/ipv4/conf/all/rp_filter", "1\n")
    call()
    assert "net.ipv4.conf.all.rp_filter = 2" in host.read(SYSCTL)
    assert call()["changes"] == []
    call(state="absent")
    assert host.read("/proc/sys/net/ipv4/conf/all/rp_filter") == "1"


def test_absent_gives_back_what_was_found_and_nothing_that_somebody_set_since(host, call):
    host.write("/proc/sys/net/core/x", "5\n")
    call(sysctl={"net.ipv4.ip_forward": 1, "net.core.x": 7})
    host.write("/proc/sys/net/core/x", "9\n")
    call(state="absent")
    assert host.read("/etc/hosts") == "127.0.0.1 localhost\n"
    assert host.read("/proc/sys/net/ipv4/ip_forward") == "0"
    assert host.read("/proc/sys/net/core/x") == "9\n"
    assert not host.path(SYSCTL).exists()
    assert not host.path("/etc/chrony/sources.d/x.sources").exists()
    assert call(state="absent")["changes"] == []


def test_an_image_gets_files_only(host, call):
    call(apply=False)
    assert host.path(SYSCTL).exists()
    assert host.read("/proc/sys/net/ipv4/ip_forward") == "0\n"
    assert host.read("/etc/hosts") == "127.0.0.1 localhost\n"


def test_a_name_that_has_another_address_is_refused(host, call):
    host.write("/etc/hosts", "10.1.1.1 api.test\n")
    answer = call()
    assert answer["failed"]
    assert "'10.1.1.1 api.test'" in answer["msg"]
    assert "cluster_control_plane_endpoint" in answer["msg"]


def test_a_hosts_file_that_is_mounted_is_written_in_place(host, call, monkeypatch):
    def busy(source, destination):
        raise OSError(16, "Device or resource busy")

    inode = os.stat(host.path("/etc/hosts")).st_ino
    monkeypatch.setattr(host_settings.os, "replace", busy)
    answer = call(modules=[], sysctl={}, files=[], folders=[])
    assert answer["changes"] == ["/etc/hosts: our block written"]
    assert os.stat(host.path("/etc/hosts")).st_ino == inode
    assert "172.27.224.1 api.test" in host.read("/etc/hosts")
    assert [name for name in os.listdir(host.path("/etc")) if name.startswith(".fpga")] == []


def test_a_kernel_without_a_module_is_told_with_what_to_do(host, call, monkeypatch):
    monkeypatch.setattr(host_settings.AnsibleModule, "run_command", lambda *_, **__: (1, "", "FATAL: Module no_such_module not found"))
    answer = call(modules=["no_such_module"])
    assert answer["failed"]
    assert "has no module no_such_module (FATAL" in answer["msg"]
    assert "linux-modules-extra" in answer["msg"]


def test_a_sysctl_that_the_kernel_does_not_have(call):
    answer = call(sysctl={"net.bridge.nothing": 1})
    assert answer["failed"]
    assert "has no net.bridge.nothing" in answer["msg"]
