# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host: the command that creates it, what stands in it, and what makes its image another one."""

from __future__ import annotations

import io
import resource
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.hosts import container, image, modules
from lab.settings import HOSTS, ONPREM, SITE2, Host, LabError

HOST = Host("worker2", SITE2, IPv4Address("10.203.20.13"))


def command() -> str:
    return " ".join(container.create_command(HOST, image_reference="image:1", modules_folder=Path("/m"), ulimits=("nofile=20000:20000",)))


def test_a_host_gets_cgroups_of_its_own_and_never_the_machines():
    """--systemd=always would share the machine's systemd hierarchy on cgroup v1; a writable /sys/fs/cgroup would be the machine's."""
    assert "--systemd=false" in command()
    assert "--cgroupns=private" in command()
    assert "/sys/fs/cgroup" not in command()


def test_a_host_stands_in_its_network_with_its_address_and_name():
    assert "--network fpga-hybrid-site2:ip=10.203.20.13" in command()
    assert "--name fpga-hybrid-worker2 --hostname worker2" in command()


@pytest.mark.parametrize("folder", ["containerd", "kubelet", "etcd", "docker"])
def test_what_must_not_lie_on_an_overlay_has_a_volume(folder):
    assert f"--volume fpga-hybrid-worker2-{folder}:/var/lib/{folder}" in command()


def test_etcd_has_time_to_end():
    assert container.STOP_SECONDS > 30
    assert f"--stop-timeout {container.STOP_SECONDS} " in command()


def test_a_host_is_told_again_by_its_labels():
    words = container.create_command(HOST, image_reference="image:1", modules_folder=Path("/m"), ulimits=())
    labels = dict(words[n + 1].split("=", 1) for n, word in enumerate(words) if word == "--label")
    assert container.from_labels(labels) == HOST
    assert container.from_labels({"fpga-hybrid.lab": "1"}) is None


def settings(host: Host) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(container.settings_tar(host, "ssh-ed25519 AAAA lab\n"))) as tar:
        return {member.name: tar.extractfile(member).read().decode() for member in tar if member.isfile()}


def test_a_host_asks_no_resolver_of_the_machines():
    assert settings(HOST)["etc/resolv.conf"].splitlines()[0] == "nameserver 10.203.20.2"


def test_a_host_finds_the_depot_in_its_own_network_and_lets_the_labs_key_in():
    assert "10.203.20.2\tdepot\n" in settings(HOST)["etc/hosts"]
    assert settings(HOST)["root/.ssh/authorized_keys"] == "ssh-ed25519 AAAA lab\n"


def test_the_labs_hosts_differ_in_name_and_address_and_one_is_debian_13():
    assert len({host.address for host in HOSTS}) == len({host.name for host in HOSTS}) == len(HOSTS)
    assert [host.name for host in HOSTS if host.debian == 13] == ["worker3"]


@pytest.mark.parametrize(
    ("address", "reason"), [("10.203.10.7", "not in network site2"), ("10.203.20.1", "machine or the depot"), ("10.203.20.2", "machine or the depot")]
)
def test_an_address_that_cannot_be_given_is_refused_before_anything_is_made(monkeypatch, address, reason):
    monkeypatch.setattr(container, "every", list)
    with pytest.raises(LabError, match=reason):
        container.check_address_is_free(Host("x", SITE2, IPv4Address(address)))


def test_an_address_in_use_names_who_uses_it(monkeypatch):
    monkeypatch.setattr(container, "every", lambda: [HOST])
    with pytest.raises(LabError, match="taken by worker2"):
        container.check_address_is_free(Host("x", SITE2, HOST.address))
    container.check_address_is_free(Host("x", SITE2, IPv4Address("10.203.20.14")))


@pytest.mark.parametrize(("hard", "expected"), [(resource.RLIM_INFINITY, 20000), (1 << 20, 20000), (4096, 4096)])
def test_a_limit_is_never_above_what_may_be_handed_on(monkeypatch, hard, expected):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (0, hard))
    assert container.limits()[0] == f"nofile={expected}:{expected}"


@pytest.mark.parametrize(
    ("state", "usable"),
    [
        ({"Status": "running"}, True),
        ({"Status": "exited"}, True),
        ({"Status": "created"}, False),
        ({"Status": "removing"}, False),
        ({"Status": "running", "Dead": True}, False),
    ],
)
def test_a_host_that_was_not_made_to_the_end_is_not_taken_over(tmp_path, monkeypatch, state, usable):
    monkeypatch.setattr(container, "STATE", tmp_path)
    assert container.usable({"Id": "abc", "State": state}) is usable


def test_a_finished_host_is_taken_over_after_a_reboot_of_the_machine(tmp_path, monkeypatch):
    """podman then calls it created, as one that was killed while it was made."""
    monkeypatch.setattr(container, "STATE", tmp_path)
    container.completed("abc").parent.mkdir()
    container.completed("abc").write_text("worker2\n")
    assert container.usable({"Id": "abc", "State": {"Status": "created"}})
    assert not container.usable({"Id": "def", "State": {"Status": "created"}})


def test_the_image_is_another_one_when_a_file_in_it_changes(tmp_path, monkeypatch):
    unit = tmp_path / "etc/systemd/system/a.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Unit]\n")
    monkeypatch.setattr(image, "ROOTFS", tmp_path)
    first = image.root(12).definition()
    assert image.root(12).definition() == first
    unit.write_text("[Unit]\nDescription=x\n")
    assert image.root(12).definition() != first
    assert image.root(13).definition() != image.root(12).definition()


def test_the_image_has_no_package_source_and_no_identity():
    assert "rm -f /etc/ssh/ssh_host_* /etc/apt/sources.list /etc/apt/sources.list.d/*" in image.SETUP
    assert ": > /etc/machine-id" in image.SETUP


def test_nothing_is_in_the_image_that_a_role_should_install():
    assert not {"kmod", "openvpn", "containerd", "runc", "iptables", "conntrack", "curl", "gnupg", "chrony"} & set(image.PACKAGES)


def test_hosts_that_are_made_side_by_side_get_one_folder_of_modules(monkeypatch, tmp_path):
    monkeypatch.setattr(modules, "STATE", tmp_path)

    def depmod(*_words):
        time.sleep(0.01)
        (tmp_path / "lib").mkdir()  # a second one at the same time, or after it, would fail here
        (tmp_path / "modules" / "lib" / "modules" / "6.1" / "modules.builtin.bin").touch()
        return ""

    monkeypatch.setattr(modules, "run", depmod)
    monkeypatch.setattr(modules.os, "uname", lambda: SimpleNamespace(release="6.1"))
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: modules.folder(), range(8))) == {tmp_path / "modules" / "lib" / "modules"}


def test_a_host_is_removed_while_another_one_is(monkeypatch, tmp_path):
    monkeypatch.setattr(container, "run", lambda *_words, **_options: "")
    monkeypatch.setattr(container, "succeeds", lambda *_words: False)
    monkeypatch.setattr(container, "completed", lambda name: tmp_path / name)
    (tmp_path / "0-others").symlink_to("gone")  # listed, and then not there
    (tmp_path / "1-own").write_text(f"{HOST.name}\n")
    container.remove(HOST)
    assert [path.name for path in tmp_path.iterdir()] == ["0-others"]


def test_built_in_modules_are_those_of_the_kernels_options():
    assert modules.built_in({"BRIDGE_NETFILTER", "TUN", "UNKNOWN"}) == ["kernel/net/bridge/br_netfilter.ko", "kernel/drivers/net/tun.ko"]


def test_the_network_of_a_host_has_its_gateway_and_depot():
    assert (str(ONPREM.gateway), str(ONPREM.depot)) == ("10.203.10.1", "10.203.10.2")
