# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module swap on made-up hosts: folders with fstab, /proc and units. No program is run there."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from ansible.module_utils.testing import patch_module_args
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _swap
from ansible_collections.fpga.hybrid.plugins.modules import swap

FSTAB = """# made by the installer
UUID=1 / ext4 errors=remount-ro 0 1
UUID=2 none swap sw 0 0
/dev/vg/old none swap noauto 0 0
"""
SWAPS = """Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/sda2                               partition\t2097148\t\t1024\t\t-2
/swap\\040file                           file\t\t1048572\t\t0\t\t-3
"""


class Host:
    def __init__(self, root):
        self.root = root
        self.write("/etc/fstab", FSTAB)
        self.write("/proc/swaps", SWAPS.splitlines()[0] + "\n")
        self.write("/proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable:    4000000 kB\n")

    def write(self, path, text):
        full = self.root / path.lstrip("/")
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text)

    def read(self, path):
        return (self.root / path.lstrip("/")).read_text()

    def masked(self):
        folder = self.root / "etc/systemd/system"
        return sorted(name for name in (os.listdir(folder) if folder.exists() else []) if (folder / name).is_symlink())


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture
def call(capfd, host):
    def do(policy="off", check=False, **arguments):
        with patch_module_args({"policy": policy, "root": str(host.root), "_ansible_check_mode": check, **arguments}), pytest.raises(SystemExit):
            swap.main()
        return json.loads(capfd.readouterr().out)

    return do


def test_fstab_is_commented_once_and_comes_back_as_it_was(host, call):
    first = call()
    assert first["changes"] == ["/etc/fstab: UUID=2 commented out"]
    assert f"{_swap.MARK}UUID=2 none swap sw 0 0\n" in host.read("/etc/fstab")
    assert "\n/dev/vg/old none swap noauto 0 0\n" in host.read("/etc/fstab")
    assert not call()["changed"]
    assert call("restore")["changed"]
    assert host.read("/etc/fstab") == FSTAB
    assert not call("restore")["changed"]


def test_an_entry_that_somebody_adds_is_the_only_thing_that_is_mended(host, call):
    call()
    host.write("/etc/fstab", host.read("/etc/fstab") + "/new.swap none swap sw 0 0\n")
    assert call()["changes"] == ["/etc/fstab: /new.swap commented out"]


def test_check_mode_says_the_same_and_touches_nothing(host, call):
    host.write("/proc/swaps", SWAPS)
    host.write("/usr/lib/systemd/system/dev-sdb1.swap", "[Swap]\nWhat=/dev/sdb1\n")
    predicted = call(check=True)
    assert host.read("/etc/fstab") == FSTAB
    assert host.masked() == []
    assert not (host.root / "etc/fpga-hybrid").exists()
    real = call()
    assert predicted["changes"] == real["changes"]
    assert predicted["diff"] == real["diff"]


def test_units_are_masked_but_not_those_that_fstab_made(host, call):
    host.write("/run/systemd/generator/dev-sda2.swap", "[Unit]\nSourcePath=/etc/fstab\n")
    host.write("/run/systemd/generator.late/dev-sda3.swap", "[Unit]\nDocumentation=man:systemd-gpt-auto-generator(8)\n")
    host.write("/usr/lib/systemd/zram-generator.conf", "[zram0]\nzram-size = ram / 2\n")
    host.write("/usr/lib/systemd/system/dphys-swapfile.service", "[Unit]\n")
    call()
    assert host.masked() == ["dev-sda3.swap", "dev-zram0.swap", "dphys-swapfile.service", "systemd-zram-setup@zram0.service"]
    assert not call()["changed"]
    call("restore")
    assert host.masked() == []


def test_a_mask_that_was_there_before_stays_when_ours_go(host, call):
    (host.root / "etc/systemd/system").mkdir(parents=True)
    (host.root / "etc/systemd/system/dev-sdb1.swap").symlink_to("/dev/null")
    host.write("/usr/lib/systemd/system/dev-sdb1.swap", "[Swap]\n")
    host.write("/usr/lib/systemd/system/dev-sdc1.swap", "[Swap]\n")
    call()
    call("restore")
    assert host.masked() == ["dev-sdb1.swap"]


def test_the_administrators_own_unit_is_put_aside_and_comes_back(host, call):
    host.write("/etc/systemd/system/data.swap", "[Swap]\nWhat=/data\n")
    call()
    assert host.masked() == ["data.swap"]
    assert host.read("/etc/systemd/system/data.swap.fpga-hybrid-off") == "[Swap]\nWhat=/data\n"
    call("restore")
    assert host.read("/etc/systemd/system/data.swap") == "[Swap]\nWhat=/data\n"


def test_what_memory_cannot_take_is_refused_before_anything_is_changed(host, call):
    host.write("/proc/swaps", SWAPS.replace("\t1024\t", "\t2000000\t"))
    host.write("/proc/meminfo", "MemAvailable: 1000000 kB\n")
    answer = call()
    assert answer["failed"]
    assert "1953 MiB are swapped out, and only 976 MiB of memory are free" in answer["msg"]
    assert "node_swap" in answer["msg"]
    assert host.read("/etc/fstab") == FSTAB


def test_swap_in_use_is_turned_off_and_remembered(host, call):
    host.write("/proc/swaps", SWAPS)
    assert call()["changes"][-2:] == ["/dev/sda2 turned off (2047 MiB)", "/swap file turned off (1023 MiB)"]
    host.write("/proc/swaps", SWAPS.splitlines()[0] + "\n")
    assert not call()["changed"]
    assert "/dev/sda2 turned on again" in call("restore")["changes"]


@pytest.mark.parametrize("check", [False, True])
def test_for_an_image_only_the_next_start_is_changed_and_the_machines_swap_is_left(host, call, monkeypatch, check):
    """In an image /proc is that of the machine on which it is made: even where its memory could not take what is swapped out."""
    host.write("/proc/swaps", SWAPS.replace("\t1024\t", "\t2000000\t"))
    host.write("/proc/meminfo", "MemAvailable: 1000000 kB\n")
    host.write("/usr/lib/systemd/system/zramswap.service", "[Unit]\n")
    ran = []
    monkeypatch.setattr(swap.Host, "run", lambda self, *command: ran.append(command) or (0, ""))
    answer = call(apply=False, check=check)
    assert answer["changes"] == ["/etc/fstab: UUID=2 commented out", "zramswap.service masked"]
    assert ran == []
    assert (host.read("/etc/fstab") == FSTAB) == check
    assert call(apply=False)["changed"] == check


def test_swapoff_that_fails_says_why(host, call, monkeypatch):
    host.write("/proc/swaps", SWAPS)
    monkeypatch.setattr(swap.Host, "run", lambda self, *command: (255, "swapoff: /dev/sda2: Cannot allocate memory"))
    answer = call()
    assert answer["failed"]
    assert "/dev/sda2 cannot be turned off: swapoff: /dev/sda2: Cannot allocate memory" in answer["msg"]
    assert "reboot" in answer["msg"]


@pytest.mark.parametrize(
    ("files", "service", "device"),
    [
        ({"/usr/lib/systemd/system/zramswap.service": "[Unit]\n"}, "zramswap.service", "/dev/zram0"),
        ({"/etc/systemd/zram-generator.conf": "[zram0]\n"}, "systemd-zram-setup@zram0.service", "/dev/zram0"),
        ({"/usr/lib/systemd/system/dphys-swapfile.service": "[Unit]\n"}, "dphys-swapfile.service", "/var/swap"),
    ],
)
def test_a_service_that_takes_its_swap_along_leaves_nothing_to_turn_off(host, call, monkeypatch, files, service, device):
    """As on a machine: stopping the service turns its swap off, starting it turns it on, and swapoff of what is no swap fails."""
    for path, text in files.items():
        host.write(path, text)
    head, disk = SWAPS.splitlines(keepends=True)[:2]
    of_service = f"{device} partition 1048572 0 100\n"
    host.write("/proc/swaps", head + disk + of_service)

    def run(_self, *command):
        now = host.read("/proc/swaps")
        if command == ("systemctl", "stop", service):
            host.write("/proc/swaps", now.replace(of_service, ""))
        elif command == ("systemctl", "start", service):
            host.write("/proc/swaps", now + of_service)
        elif command[0] == "swapoff":
            left = [line for line in now.splitlines(keepends=True) if not line.startswith(command[1])]
            if "".join(left) == now:
                return 255, f"swapoff: {command[1]}: swapoff failed: Invalid argument"
            host.write("/proc/swaps", "".join(left))
        elif command[0] == "swapon":
            host.write("/proc/swaps", now + disk)
        return 0, ""

    monkeypatch.setattr(swap.Host, "run", run)
    predicted = call(check=True)["changes"]
    done = call()
    assert done["changes"] == predicted
    assert f"{device} turned off (1023 MiB)" in done["changes"]
    assert done["swaps"] == []
    assert not call()["changed"]
    assert sorted(call("restore")["swaps"]) == sorted(["/dev/sda2", device])


@pytest.mark.parametrize("policy", ["off", "restore", "node_swap"])
def test_in_a_container_nothing_is_done(policy, host, call, monkeypatch):
    host.write("/proc/swaps", SWAPS)
    monkeypatch.setattr(swap, "container", lambda module: "podman")
    answer = call(policy)
    assert not answer["changed"]
    assert "that of the machine below" in answer["note"]
    assert "/dev/sda2" in answer["note"]
    assert host.read("/etc/fstab") == FSTAB


@pytest.mark.parametrize(("apply", "kind"), [(True, "podman"), (False, None)])
def test_an_image_that_is_made_in_a_container_is_none(monkeypatch, apply, kind):
    """Else it would turn its swap on at the first start."""
    monkeypatch.setattr(swap, "detected", lambda module: "podman")
    assert swap.container(SimpleNamespace(params={"root": "/", "apply": apply})) == kind


def test_ignore_does_nothing(host, call):
    host.write("/proc/swaps", SWAPS)
    assert not call("ignore")["changed"]


def test_node_swap_gives_back_what_off_had_taken(host, call):
    call("off")
    assert call("node_swap")["changed"]
    assert host.read("/etc/fstab") == FSTAB


def test_a_second_off_keeps_the_first_finding(host, call):
    """Our own mask must not be taken for the administrator's file."""
    host.write("/etc/systemd/system/data.swap", "[Swap]\nWhat=/data\n")
    call()
    call()
    record = json.loads(host.read("/etc/fpga-hybrid/record.json"))
    assert record["swap"] == {"masked data.swap": {"aside": True}}


line = st.text(st.characters(blacklist_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", blacklist_categories=("Cs",)), max_size=30)
entry = st.sampled_from(["UUID=2 none swap sw 0 0", "/s swap swap defaults", "\tUUID=3 none swap sw,noauto", "# UUID=4 none swap sw", "/ / ext4 defaults", ""])


@given(st.lists(st.one_of(line, entry)).map("\n".join))
def test_off_and_on_give_back_any_fstab(text):
    off = _swap.fstab_off(text)
    assert not any(_swap.is_swap_entry(line) for line in off.splitlines())
    assert _swap.fstab_off(off) == off
    if _swap.MARK not in text:
        assert _swap.fstab_on(off) == text


@given(st.text())
def test_any_proc_swaps_can_be_read(text):
    assert all(swap.size >= 0 for swap in _swap.parse_proc_swaps(text))
