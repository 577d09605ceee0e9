# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found of XRT on a host: files as they lie there, programs that are scripted."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _xrt
from ansible_collections.fpga.hybrid.plugins.module_utils._xrt_host import FlashError, Host
from lab.fpga.tree import Plugged, Tree

KERNEL = os.uname().release


@pytest.fixture
def world(tmp_path):
    """A host's files, its boards, and its programs: command -> answer."""
    tree = Tree(tmp_path / "boards", real_nodes=False)
    root = tmp_path / "root"
    answers = {}
    called = []

    def run(argv):
        called.append(list(argv))
        command = " ".join([os.path.basename(argv[0]), *argv[1:]])
        return next((answer for start, answer in answers.items() if command.startswith(start)), (127, "", "not found"))

    def write(name, content):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    write("etc/os-release", 'ID=ubuntu\nVERSION_ID="22.04"\n')
    return SimpleNamespace(tree=tree, root=root, answers=answers, called=called, write=write, host=Host("worker1", run, root, tree.sys, tree.dev))


def test_a_host_with_a_working_xrt_is_seen_as_one(world):
    world.tree.plug(Plugged("u250", "0000:3b:00"))
    tool = world.write("opt/xilinx/xrt/bin/xbutil", "")
    tool.chmod(0o755)
    world.answers.update(
        {
            "dkms status": (0, f"xrt/2.16.204, {KERNEL}, x86_64: installed\n", ""),
            "modinfo": (0, "version: 2.16.204,fa4f\n", ""),
            "xbutil examine": (0, "[0000:3b:00.1]  :  xilinx_u250  n/a  user  Yes\n", ""),
            "dpkg-query --show --showformat=${db:Status-Status} ${Version} xrt": (0, "installed 2.16.204", ""),
        }
    )
    found = world.host.look(ours=True)
    assert (found.system, found.loaded, found.package, found.tool) == ("ubuntu 22.04", "2.16.204", "2.16.204", str(tool))
    assert _xrt.judge(found, _xrt.Wanted("2.16.204")) == []


def test_a_distributions_driver_is_found_under_the_names_that_it_has(world):
    world.tree.plug(Plugged("u250", "0000:3b:00"))
    asked = "dpkg-query --show --showformat=${db:Status-Status} ${Version}"
    world.answers.update(
        {
            "dkms status": (0, f"xrt-xocl/2.21.75, {KERNEL}, x86_64: installed\n", ""),
            f"{asked} xrt-xocl-dkms": (0, "installed 1:2.21.75+dfsg-4", ""),
            f"{asked} xrt": (1, "", "no packages found matching xrt"),
            "dpkg-query --listfiles xrt-xocl-dkms": (0, "/usr/src\n/usr/src/xrt-xocl-2.21.75\n/usr/src/xrt-xocl-2.21.75/dkms.conf\n", ""),
        }
    )
    world.write("var/lib/dkms/xrt-xocl/2.21.75/build/make.log", "x.c:1: error: no such thing\n")
    found = world.host.look(ours=True)
    assert (found.package, found.package_name, found.dkms) == ("1:2.21.75+dfsg-4", "xrt-xocl-dkms", "xrt-xocl")
    assert found.built_for(KERNEL, "2.21.75")
    assert found.build_log == "x.c:1: error: no such thing"
    world.host.build(found, "2.21.75")
    assert ["dkms", "install", "-m", "xrt-xocl", "-v", "2.21.75", "-k", KERNEL] in world.called


def test_a_bare_host_has_nothing_and_says_so(world):
    found = world.host.look(ours=False)
    assert (found.cards, found.loaded, found.builds, found.tool, found.package, found.next_kernel) == ([], "", [], "", "", "")
    assert not found.secure_boot


def test_the_newer_tool_is_taken(world):
    for name in ("xbutil", "xrt-smi"):
        world.write(f"opt/xilinx/xrt/bin/{name}", "").chmod(0o755)
    assert world.host.tool().endswith("/xrt-smi")


def test_a_package_that_was_removed_is_not_there(world):
    world.answers["dpkg-query"] = (0, "config-files 2.16.204", "")
    assert world.host.package() == ("xrt", "")


@pytest.mark.parametrize(("value", "on"), [(b"\x06\x00\x00\x00\x01", True), (b"\x06\x00\x00\x00\x00", False), (b"", False)])
def test_secure_boot_is_read_from_the_firmware(world, value, on):
    path = world.tree.sys / "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    path.parent.mkdir(parents=True)
    path.write_bytes(value)
    assert world.host.secure_boot() is on


def test_the_next_kernel_is_the_newest_in_boot(world):
    for kernel in ("5.15.0-91-generic", "5.15.0-100-generic"):
        world.write(f"boot/vmlinuz-{kernel}", "")
    assert world.host.next_kernel() == "5.15.0-100-generic"
    world.write("etc/default/grub", '# GRUB_DEFAULT=7\nGRUB_DEFAULT="Advanced options>Ubuntu, with Linux 5.15.0-91-generic"\n')
    assert world.host.next_kernel() == "5.15.0-91-generic"


def test_the_compilers_first_error_is_taken_out_of_the_log(world):
    world.write("var/lib/dkms/xrt/2.16.204/build/make.log", "DKMS make.log\nCC x.o\nx.c:3: error: implicit declaration\nmake: *** Error 2\n")
    world.answers["dkms status"] = (0, "xrt/2.16.204: added\n", "")
    assert world.host.look(ours=True).build_log == "x.c:3: error: implicit declaration"


def test_packages_that_keep_the_kernel_are_those_of_this_kernel_and_those_that_bring_the_next(world):
    listed = f"installed linux-image-{KERNEL}\ninstalled linux-image-amd64\nconfig-files linux-image-cloud-amd64\ninstalled linux-base\n"
    world.answers["dpkg-query"] = (0, listed, "")
    assert world.host.kernel_packages() == sorted([f"linux-image-{KERNEL}", "linux-image-amd64"])


def test_what_was_flashed_is_remembered_until_it_is_not(world):
    world.host.remember({"X": "base"})
    assert world.host.pending() == {"X": "base"}
    world.host.remember({})
    assert world.host.pending() == {}
    assert not (world.root / "var/lib/fpga-hybrid/xrt-flashed.json").exists()


def test_a_damaged_record_of_flashing_counts_as_none(world):
    world.write("var/lib/fpga-hybrid/xrt-flashed.json", "[")
    assert world.host.pending() == {}


def test_a_flash_that_fails_says_what_xbmgmt_said(world):
    world.tree.plug(Plugged("u250", "0000:3b:00", "factory"))
    world.answers["xbmgmt program"] = (1, "", "ERROR: No shells found")
    (card,) = world.host.look(ours=True).cards
    (step,) = _xrt.plan_flash("worker1", [card], [card.serial], {}, {})
    with pytest.raises(FlashError, match=r"serial LAB00003B00.*No shells found"):
        world.host.flash(step)
    assert world.called[-1][1:] == ["program", "--device", "0000:3b:00.0", "--base", "--force"]


def test_both_modules_are_loaded_the_management_first(world):
    world.host.load()
    assert world.called == [["modprobe", "xclmgmt"], ["modprobe", "xocl"]]


def test_a_driver_is_built_before_it_is_installed_for_the_kernel_that_runs(world):
    world.answers["dkms status"] = (0, "xrt/2.16.204: added\n", "")
    found = world.host.look(ours=True)
    world.called.clear()
    world.host.build(found, "2.16.204")
    assert world.called == [["dkms", verb, "-m", "xrt", "-v", "2.16.204", "-k", KERNEL] for verb in ("build", "install")]
