# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boards out of files: the tree, the program in a host, and the double of AWS' tools, judged by AWS' own words."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import time
from ipaddress import IPv4Address

import pytest

from lab.fpga import aws_tools, hosts, tree, xbutil
from lab.fpga.tree import MODELS, Plugged, Tree, TreeError
from lab.hosts import container
from lab.settings import HOSTS, ONPREM, Host

IMAGE = "agfi-0fedcba9876543210"
F2 = "aws-vu47p-f2"


@pytest.fixture
def made(tmp_path):
    return Tree(tmp_path, real_nodes=False)


# --- the tree


@pytest.mark.parametrize("board", MODELS)
def test_a_board_that_is_taken_out_leaves_nothing(made, board):
    slot = made.free_slot(board)
    made.plug(Plugged(board, slot))
    assert list(made.devices.iterdir())
    made.unplug(slot)
    assert list(made.devices.iterdir()) == []
    assert [path for path in made.dev.rglob("*") if not path.is_dir()] == []


def test_a_board_that_comes_back_has_another_inode_and_its_own_node(made):
    for slot in ("0000:3b:00", "0000:43:00"):
        made.plug(Plugged("u250", slot))
    before = (made.devices / "0000:3b:00.1").stat().st_ino
    made.set_state("0000:3b:00", "no-driver")
    made.set_state("0000:3b:00", "ready")
    assert (made.devices / "0000:3b:00.1" / "drm" / "renderD128").exists()
    assert (made.dev / "dri" / "renderD128").exists()
    assert (made.devices / "0000:3b:00.1").stat().st_ino != before or (made.devices / "0000:3b:00.1").stat().st_ctime_ns


@pytest.mark.parametrize(
    ("plugged", "says"),
    [
        (Plugged("u9", "0000:3b:00"), "no board 'u9'; there are: u200"),
        (Plugged("u250", "0000:3b:00", "no-bars"), "u250 has no state 'no-bars'; there are: ready, no-driver"),
        (Plugged(F2, "0000:34:00", "factory"), "aws-vu47p-f2 has no state 'factory'"),
        (Plugged("u55c", "0000:3b:00", "factory"), "the factory image of u55c is not known"),
    ],
)
def test_what_there_is_not_cannot_be_plugged_in(made, plugged, says):
    with pytest.raises(TreeError, match=says):
        made.plug(plugged)
    assert made.plugged() == {}


def test_a_slot_without_a_board_has_no_state(made):
    with pytest.raises(TreeError, match="no board in slot 0000:99:00; there are: none"):
        made.set_state("0000:99:00", "ready")


def test_eight_boards_of_each_kind_find_slots(made):
    for board in MODELS:
        for _number in range(8):
            made.plug(Plugged(board, made.free_slot(board)))
        assert sum(one.board == board for one in made.plugged().values()) == 8
        for slot in list(made.plugged()):
            made.unplug(slot)


@pytest.mark.skipif(os.geteuid() != 0, reason="device nodes are root's to make")
def test_nodes_can_be_opened_and_do_nothing(tmp_path):
    Tree(tmp_path).plug(Plugged("u250", "0000:3b:00"))
    node = tmp_path / "dev" / "dri" / "renderD128"
    assert stat.S_ISCHR(node.stat().st_mode)
    assert stat.S_IMODE(node.stat().st_mode) == 0o666
    node.write_bytes(b"x")
    assert node.read_bytes() == b""


# --- the program in a host


def run_program(folder, *arguments):
    """As in a host, with its folders elsewhere."""
    text = (
        hosts.program()
        .decode()
        .replace('Path("/run/lab-fpga")', f"Path({str(folder / 'run')!r})")
        .replace('"/etc/lab-fpga.json"', repr(str(folder / "record.json")))
    )
    (folder / "lab-fpga").write_text(text.replace("real_nodes: bool = True", "real_nodes: bool = False"))
    return subprocess.run([sys.executable, "-I", folder / "lab-fpga", *arguments], capture_output=True, text=True, check=False)


def test_what_was_plugged_in_is_there_again_after_a_boot(tmp_path):
    boards = json.loads(run_program(tmp_path, "plug", "u250").stdout)
    assert [(one["board"], one["slot"], one["state"]) for one in boards] == [("u250", "0000:3b:00", "ready")]
    run_program(tmp_path, "set", "0000:3b:00", "no-driver")
    (tmp_path / "run").rename(tmp_path / "gone")
    assert json.loads(run_program(tmp_path, "list").stdout) == []
    (restored,) = json.loads(run_program(tmp_path, "restore").stdout)
    assert (restored["slot"], restored["state"]) == ("0000:3b:00", "no-driver")


def test_a_mistake_is_told_with_what_there_is(tmp_path):
    done = run_program(tmp_path, "unplug", "0000:99:00")
    assert done.returncode == 0
    done = run_program(tmp_path, "set", "0000:99:00", "ready")
    assert (done.returncode, done.stderr) == (1, "lab-fpga: no board in slot 0000:99:00; there are: none\n")


def test_a_host_is_made_with_its_boards_and_the_program():
    with tarfile.open(fileobj=io.BytesIO(container.settings_tar(next(host for host in HOSTS if host.name == "worker1"), "key"))) as tar:
        members = {member.name: member for member in tar}
        boards = json.loads(tar.extractfile("etc/lab-fpga.json").read())
    assert [one["board"] for one in boards] == ["u250", "u280"]
    assert members["usr/local/sbin/lab-fpga"].mode == 0o755
    assert members["etc/systemd/system/sysinit.target.wants/lab-fpga.service"].linkname == "/etc/systemd/system/lab-fpga.service"


def test_any_other_host_is_made_without_boards_and_can_get_some():
    with tarfile.open(fileobj=io.BytesIO(container.settings_tar(Host("x", ONPREM, IPv4Address("10.203.10.99")), "key"))) as tar:
        assert json.loads(tar.extractfile("etc/lab-fpga.json").read()) == []


def test_the_hosts_records_are_boards_of_the_tree(made):
    for boards in hosts.BOARDS.values():
        for plugged in boards:
            made.plug(plugged)


# --- the double of AWS' tools


def tool(made, command, *arguments, timeout=20):
    environment = {**os.environ, "LAB_FPGA_ROOT": str(made.root)}
    return subprocess.run(
        [sys.executable, "-S", aws_tools.__file__, command, *arguments], capture_output=True, text=True, env=environment, timeout=timeout, check=False
    )


def ids(made, address):
    return tuple((made.devices / address / name).read_text().strip() for name in ("vendor", "device"))


@pytest.fixture
def f2(made):
    for _number in range(2):
        made.plug(Plugged(F2, made.free_slot(F2)))
    return made


def test_slots_are_listed_as_aws_lists_them(f2):
    assert tool(f2, "DescribeFpgaImageSlots").stdout.splitlines() == [
        "AFIDEVICE    0       0x1d0f      0x9048      0000:34:00.0",
        "AFIDEVICE    1       0x1d0f      0x9048      0000:36:00.0",
    ]


def test_an_image_changes_the_ids_of_the_application_function_and_clearing_takes_them_back(f2):
    inode = (f2.devices / "0000:34:00.0").stat()
    loaded = tool(f2, "LoadFpgaImage", "-S", "0", "-I", IMAGE)
    assert loaded.returncode == 0
    # AWS' own README, "Synchronously Loading an AFI", with a shell's version filled in
    assert loaded.stdout.splitlines() == [
        "AFI          0       agfi-0fedcba9876543210  loaded            0        ok               0       0x10212415",
        "AFIDEVICE    0       0x6789      0x1d50      0000:34:00.0",
    ]
    assert ids(f2, "0000:34:00.0") == ("0x6789", "0x1d50")
    assert ids(f2, "0000:34:00.1") == ("0x1d0f", "0x9248")
    assert ids(f2, "0000:36:00.0") == ("0x1d0f", "0x9048")
    assert (f2.devices / "0000:34:00.0" / "resource4").stat().st_size == tree.AWS_BARS["resource4"]
    after = (f2.devices / "0000:34:00.0").stat()
    assert (after.st_ino, after.st_ctime_ns) != (inode.st_ino, inode.st_ctime_ns)
    assert "cleared" in tool(f2, "ClearFpgaImage", "-S", "0").stdout
    assert ids(f2, "0000:34:00.0") == ("0x1d0f", "0x9048")


def test_f1_has_its_application_function_one_device_earlier(made):
    made.plug(Plugged("aws-vu9p-f1", made.free_slot("aws-vu9p-f1")))
    assert "0x1042      0000:00:1d.0" in tool(made, "DescribeFpgaImageSlots").stdout
    tool(made, "LoadFpgaImage", "-S", "0", "-I", IMAGE)
    assert ids(made, "0000:00:1d.0") == ("0x6789", "0x1d50")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("-S", "0", "-I", "agfi-00000000000000000"), 5, "Error: (5) invalid-afi-id\n"),
        (("-S", "0", "-I", "afi-0fedcba9876543210"), 5, "Error: (5) invalid-afi-id\n"),
        (("-S", "7", "-I", IMAGE), 20, "Error: (20) pci-device-missing\n"),
    ],
)
def test_it_fails_with_aws_numbers_and_words(f2, arguments, status, says):
    failed = tool(f2, "LoadFpgaImage", *arguments)
    assert failed.returncode == status
    assert failed.stdout.startswith(says)
    assert ids(f2, "0000:34:00.0") == ("0x1d0f", "0x9048")


def write(made, name, content):
    (made.root / "aws").mkdir(exist_ok=True)
    (made.root / "aws" / name).write_text(json.dumps(content))


def test_it_fails_as_told_for_one_slot_or_for_all(f2):
    write(f2, "faults.json", {"load 1": "fail 16"})
    assert tool(f2, "LoadFpgaImage", "-S", "0", "-I", IMAGE).returncode == 0
    assert tool(f2, "LoadFpgaImage", "-S", "1", "-I", IMAGE).returncode == 16
    write(f2, "faults.json", {"load": "fail 14"})
    assert tool(f2, "LoadFpgaImage", "-S", "0", "-I", IMAGE).returncode == 14


def test_it_hangs_as_told_and_leaves_the_slot_busy(f2):
    write(f2, "faults.json", {"load": "hang"})
    with pytest.raises(subprocess.TimeoutExpired):
        tool(f2, "LoadFpgaImage", "-S", "0", "-I", IMAGE, timeout=1)
    write(f2, "faults.json", {})
    assert "busy" in tool(f2, "DescribeFpgaImage", "-S", "0").stdout


def test_a_large_image_takes_its_time(f2):
    write(f2, "images.json", {"agfi-1": {"vendor": 1, "device": 2, "seconds": 0.3}})
    started = time.monotonic()
    assert tool(f2, "LoadFpgaImage", "-S", "0", "-I", "agfi-1").returncode == 0
    assert time.monotonic() - started > 0.3


@pytest.mark.parametrize(("program", "command"), [("xbutil", "examine"), ("xbmgmt", "examine"), ("xbmgmt", "program")])
def test_xrts_tools_fail_when_they_are_told_to(tmp_path, program, command):
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / program).write_text(f"{command}\n")
    link = tmp_path / program
    link.symlink_to(xbutil.__file__)
    done = subprocess.run([sys.executable, str(link), command], env={**os.environ, "LAB_FPGA_ROOT": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: ")
    assert not (tmp_path / "xbmgmt.log").exists()
