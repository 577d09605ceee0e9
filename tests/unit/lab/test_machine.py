# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the machine: what counts as different, and what is put back in which order."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import machine
from lab.machine import Machine

BEFORE = Machine(
    boot="b1",
    taken=1.0,
    swap=("/dev/sda2",),
    clock={"source": "tsc"},
    firewall="table inet mine {\n\tchain a {\n\t}\n}\n",
    mounts=("ext4 /dev/vda /",),
    cgroups=(),
    interfaces=("eth0", "lo"),
    addresses=("eth0 192.0.2.2/24",),
    routes=("default via 192.0.2.1 dev eth0",),
    podman_networks=("podman",),
    sysctls={"vm.overcommit_memory": "0", "net.ipv4.ip_forward": "0", "net.ipv4.conf.all.accept_redirects": "1", "kernel.sysrq": "16"},
)


def after(**changes) -> Machine:
    return dataclasses.replace(BEFORE, **changes)


def shown(machine_after: Machine) -> list[str]:
    return [str(difference) for difference in machine.differences(BEFORE, machine_after)]


def test_the_same_machine_later_does_not_differ():
    assert shown(after(taken=99.0)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"swap": ()}, "swap: was /dev/sda2, is absent"),
        ({"clock": {"source": "hpet"}}, "clock source: was tsc, is hpet"),
        ({"firewall": BEFORE.firewall + "table ip nat {\n}\n"}, "firewall: was absent, is table ip nat {"),
        ({"mounts": (*BEFORE.mounts, "tmpfs x /mnt")}, "mounts: was absent, is tmpfs x /mnt"),
        ({"cgroups": ("/sys/fs/cgroup/libpod_parent",)}, "cgroups: was absent, is /sys/fs/cgroup/libpod_parent"),
        ({"interfaces": ("eth0", "lo", "podman1")}, "interfaces: was absent, is podman1"),
        ({"routes": ()}, "routes: was default via 192.0.2.1 dev eth0, is absent"),
        ({"podman_networks": ("lab", "podman")}, "podman_networks: was absent, is lab"),
        ({"sysctls": {**BEFORE.sysctls, "kernel.sysrq": "1"}}, "sysctl kernel.sysrq: was 16, is 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_kind_of_change_is_seen(changes, expected):
    assert shown(after(**changes)) == [expected]


def test_settings_of_an_interface_that_came_are_not_told_beside_it():
    changed = after(interfaces=("eth0", "lo", "podman1"), sysctls={**BEFORE.sysctls, "net.ipv4.conf.podman1.forwarding": "1"})
    assert shown(changed) == ["interfaces: was absent, is podman1"]


def test_only_what_the_lab_is_known_to_set_is_put_back_and_forwarding_first():
    now = {"vm.overcommit_memory": "1", "net.ipv4.ip_forward": "1", "net.ipv4.conf.all.accept_redirects": "0", "kernel.sysrq": "1"}
    assert list(machine.to_restore(BEFORE.sysctls, now).items()) == [
        ("net.ipv4.ip_forward", "0"),
        ("net.ipv4.conf.all.accept_redirects", "1"),
        ("vm.overcommit_memory", "0"),
    ]


names = st.sampled_from([*BEFORE.sysctls, "kernel.panic", "fs.protected_fifos", "net.ipv4.conf.eth0.forwarding", "net.ipv4.neigh.eth0.locktime"])
values = st.dictionaries(names, st.sampled_from("012"))


@given(values, values)
def test_writing_what_is_to_be_restored_leaves_nothing_to_restore(before, now):
    restored = {**now, **machine.to_restore(before, now)}
    assert machine.to_restore(before, restored) == {}
    assert restored.keys() == now.keys()


@given(values, values)
def test_values_that_are_not_the_labs_are_never_written(before, now):
    assert all(machine.ours(key) for key in machine.to_restore(before, now))


@pytest.mark.parametrize(
    ("sysctl", "interface"),
    [
        ("net.ipv4.conf.eth0.forwarding", "eth0"),
        ("net.ipv6.neigh.podman1.locktime", "podman1"),
        ("net.ipv4.conf.eth0/5.forwarding", "eth0/5"),
        ("net.ipv4.ip_forward", None),
        ("kernel.panic", None),
    ],
)
def test_whose_interface_a_setting_is(sysctl, interface):
    assert machine.interface_of(sysctl) == interface


def test_a_setting_of_an_interface_with_a_dot_in_its_name_finds_its_file():
    assert str(machine.sysctl_file("net.ipv4.conf.eth0/5.forwarding")) == "/proc/sys/net/ipv4/conf/eth0.5/forwarding"


@pytest.fixture
def record_file(tmp_path, monkeypatch):
    path = tmp_path / "machine.json"
    monkeypatch.setattr(machine, "RECORD", path)
    monkeypatch.setattr(machine, "boot_id", lambda: "b1")
    monkeypatch.setattr(Machine, "now", classmethod(lambda cls: after(taken=2.0)))
    return path


def test_the_first_record_of_a_boot_is_kept(record_file):
    BEFORE.save(record_file)
    assert machine.record(hosts_run=True) == BEFORE
    assert Machine.load(record_file) == BEFORE


def test_after_a_reboot_the_machine_is_recorded_anew(record_file):
    dataclasses.replace(BEFORE, boot="b0").save(record_file)
    assert machine.record(hosts_run=False) == after(taken=2.0)
    assert Machine.load(record_file) == after(taken=2.0)


def test_the_labs_own_networks_are_not_recorded_as_the_machines(record_file, monkeypatch):
    monkeypatch.setattr(Machine, "now", classmethod(lambda cls: after(podman_networks=("fpga-hybrid-vpc", "mine"))))
    assert machine.record(hosts_run=False).podman_networks == ("mine",)


def test_a_machine_on_which_hosts_run_already_is_not_recorded_as_if_it_were_untouched(record_file):
    assert machine.record(hosts_run=True) is None
    assert not record_file.exists()


def test_half_a_record_counts_as_none(record_file):
    BEFORE.save(record_file)
    record_file.write_text(record_file.read_text()[:100])
    assert Machine.load(record_file) is None


def test_nothing_is_put_back_from_a_record_of_another_boot(monkeypatch):
    monkeypatch.setattr(machine, "boot_id", lambda: "b2")
    told: list[str] = []
    assert machine.put_back(BEFORE, told.append) == []
    assert told == ["the machine was booted anew since the lab was made: nothing to put back"]


def test_sysctls_are_written_and_said_with_their_reason(tmp_path, monkeypatch):
    """Against a made-up /proc/sys: the kubelet's value goes back, the user's own change stays and is told."""
    for key, value in {"vm/overcommit_memory": "1", "kernel/sysrq": "1"}.items():
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    monkeypatch.setattr(machine, "SYSCTLS", tmp_path)
    monkeypatch.setattr(machine, "boot_id", lambda: "b1")
    before = after(sysctls={"vm.overcommit_memory": "0", "kernel.sysrq": "16"})
    monkeypatch.setattr(Machine, "now", classmethod(lambda cls: after(sysctls=machine.sysctls())))
    told: list[str] = []
    left = machine.put_back(before, told.append)
    assert (tmp_path / "vm/overcommit_memory").read_text() == "0\n"
    assert told == ["sysctl vm.overcommit_memory = 0 again (the kubelet wants memory to be promised freely)"]
    assert [str(difference) for difference in left] == ["sysctl kernel.sysrq: was 16, is 1"]
