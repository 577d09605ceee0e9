# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boards out of files: each in the table, in each state that a card can be in, and a bus that changes while it is looked at."""

from __future__ import annotations

import os

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._instance_types import BOARDS as BOARDS_OF_AWS
from fpga_device_plugin.boards import BY_ID, KINDS, Role
from fpga_device_plugin.discovery import Host, SysfsError
from lab.fpga.tree import MODELS, Plugged, Tree

ALVEO = [name for name, model in MODELS.items() if not model.aws]
AWS = [name for name, model in MODELS.items() if model.aws]


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path, real_nodes=False)


@pytest.fixture
def host(tree):
    return Host(tree.sys, tree.dev)


def only(host):
    (board,) = host.look().values()
    return board


def test_every_board_of_the_table_can_be_made_in_the_lab():
    assert set(MODELS) == set(KINDS)


def test_every_board_that_a_pool_may_promise_is_known_but_the_video_card():
    """A U30 of VT1 is a card with two FPGAs, of which AWS counts cards; no source says how it shows on the bus there."""
    assert set(BOARDS_OF_AWS.values()) - set(KINDS) == {"u30"}


@pytest.mark.parametrize("name", ALVEO)
def test_an_alveo_board_whose_driver_is_bound_is_ready(tree, host, name):
    tree.plug(Plugged(name, "0000:3b:00", numa=1))
    board = only(host)
    assert (board.kind.name, board.slot, board.reason) == (name, "0000:3b:00", "")
    assert (board.address, board.numa_node, board.nodes) == ("0000:3b:00.1", 1, ("dri/renderD128",))
    assert board.management == ("xclmgmt15104",)
    assert board.shell == MODELS[name].shell
    assert board.bars == ()


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("no-driver", "0000:3b:00.1 has no driver, expected xocl"),
        ("vfio", "0000:3b:00.1 has driver vfio-pci, expected xocl"),
        ("not-ready", "its file ready is 0"),
        ("no-node", "dev/dri/renderD128 is not there, although xocl names it"),
        ("no-user", r"0000:3b:00.0 (10ee:5004) is a management function, and its card shows no user function"),
        ("factory", r"0000:3b:00.0 (10ee:d004) holds the image it was sold with"),
    ],
)
def test_a_board_that_no_pod_could_use_is_there_with_the_reason(tree, host, state, says):
    tree.plug(Plugged("u250", "0000:3b:00", state))
    board = only(host)
    assert board.kind.name == "u250"
    assert says in board.reason
    assert not board.ready


def test_a_card_whose_driver_makes_no_render_node_is_told_apart(tree, host):
    tree.plug(Plugged("u250", "0000:3b:00"))
    os.rmdir(tree.devices / "0000:3b:00.1" / "drm" / "renderD128")
    assert "no render node of xocl's" in only(host).reason


@pytest.mark.parametrize("name", [name for name in ALVEO if MODELS[name].golden])
def test_every_factory_image_is_known(tree, host, name):
    tree.plug(Plugged(name, "0000:3b:00", "factory"))
    assert only(host).kind.name == name


def test_a_virtual_machine_shows_the_user_function_alone(tree, host):
    tree.plug(Plugged("u55c", "0000:3b:00"))
    tree.remove_function("0000:3b:00.0")
    board = only(host)
    assert board.ready
    assert board.management == ()


def test_a_qdma_shells_node_comes_with_the_render_node(tree, host):
    tree.plug(Plugged("u50", "0000:3b:00"))
    (tree.devices / "0000:3b:00.1" / "dma.qdma.u.15105.0").mkdir()
    (tree.dev / "xfpga").mkdir()
    (tree.dev / "xfpga" / "dma.qdma.u15105.0").touch()
    assert only(host).nodes == ("dri/renderD128", "xfpga/dma.qdma.u15105.0")


@pytest.mark.parametrize(("name", "slot"), [("aws-vu47p-f2", "0000:34:00"), ("aws-vu9p-f1", "0000:00:1d")])
def test_a_board_of_aws_is_ready_when_its_bars_can_be_mapped(tree, host, name, slot):
    tree.plug(Plugged(name, slot, numa=0))
    board = only(host)
    assert (board.kind.name, board.slot, board.address, board.reason, board.image_slot) == (name, slot, f"{slot}.0", "", 0)
    folder = f"devices/pci{slot[:7]}/{slot}.0"
    assert board.bars == tuple(f"{folder}/{bar}" for bar in ("resource0", "resource2", "resource4", "resource4_wc"))
    assert all((tree.sys / bar).exists() for bar in board.bars)


@pytest.mark.parametrize("name", AWS)
def test_a_board_of_aws_without_bars_is_not_ready(tree, host, name):
    tree.plug(Plugged(name, "0000:34:00", "no-bars"))
    assert "has no BAR to map" in only(host).reason


@pytest.mark.parametrize("name", AWS)
def test_an_image_may_call_the_board_what_it_likes(tree, host, name):
    """The application function takes the ids of the image; the management function keeps AWS'."""
    tree.plug(Plugged(name, "0000:34:00"))
    before = only(host)
    tree.add_function("0000:34:00.0", 0x6789, 0x1D50, numa=0, bars={"resource0": 4096})
    after = only(host)
    assert (after.kind, after.slot, after.ready, after.image_slot) == (before.kind, before.slot, True, 0)


def test_a_declared_slot_is_a_board_whatever_it_shows(tree):
    tree.plug(Plugged("aws-vu47p-f2", "0000:34:00"))
    tree.add_function("0000:34:00.0", 0x6789, 0x1D50, bars={"resource0": 4096})
    board = only(Host(tree.sys, tree.dev, {"0000:34:00": KINDS["aws-vu47p-f2"]}))
    assert (board.kind.name, board.reason, board.image_slot) == ("aws-vu47p-f2", "", 0)


def test_a_declared_slot_with_nothing_in_it_is_a_board_that_is_missing(tree):
    board = only(Host(tree.sys, tree.dev, {"0000:34:00": KINDS["aws-vu47p-f2"]}))
    assert "0000:34:00.0 is not there" in board.reason


def test_aws_numbers_boards_by_their_management_functions(tree, host):
    for slot in ("0000:38:00", "0000:34:00", "0000:36:00"):
        tree.plug(Plugged("aws-vu47p-f2", slot))
    assert {slot: board.image_slot for slot, board in host.look().items()} == {"0000:34:00": 0, "0000:36:00": 1, "0000:38:00": 2}


def test_eight_boards_of_f2_48xlarge(tree, host):
    for _number in range(8):
        tree.plug(Plugged("aws-vu47p-f2", tree.free_slot("aws-vu47p-f2")))
    boards = host.look()
    assert sorted(board.image_slot for board in boards.values()) == list(range(8))
    assert all(board.ready for board in boards.values())


def test_boards_of_several_kinds_stand_side_by_side(tree, host):
    tree.plug(Plugged("u280", "0000:43:00"))
    tree.plug(Plugged("u250", "0000:3b:00"))
    assert [(slot, board.kind.name, board.nodes) for slot, board in host.look().items()] == [
        ("0000:3b:00", "u250", ("dri/renderD129",)),
        ("0000:43:00", "u280", ("dri/renderD128",)),
    ]


def test_other_devices_are_no_boards_and_are_not_read_again(tree, host, monkeypatch):
    tree.add_function("0000:00:1f.6", 0x8086, 0x15BB, pci_class=0x020000)
    tree.add_function("0000:01:00.0", 0x10EE, 0x7021)  # Xilinx, and not in the table
    assert host.look() == {}
    monkeypatch.setattr("fpga_device_plugin.discovery._number", lambda _path: pytest.fail("read again"))
    assert host.look() == {}


def test_what_was_no_board_may_come_back_as_one(tree, host):
    tree.add_function("0000:3b:00.1", 0x8086, 0x15BB)
    assert host.look() == {}
    tree.plug(Plugged("u250", "0000:3b:00"))
    assert only(host).ready


def test_a_board_that_vanishes_is_not_there_any_more(tree, host):
    tree.plug(Plugged("u250", "0000:3b:00"))
    assert len(host.look()) == 1
    tree.unplug("0000:3b:00")
    assert host.look() == {}


@pytest.mark.parametrize("broken", ["vendor", "device"])
def test_a_function_that_is_half_gone_is_not_there(tree, host, broken):
    """The bus changes while it is looked at: a folder without files, a file without text, a link to nowhere."""
    tree.plug(Plugged("aws-vu47p-f2", "0000:34:00"))
    for address in ("0000:34:00.0", "0000:34:00.1"):
        (tree.devices / address / broken).write_text("")
    (tree.devices / "0000:99:00.0").symlink_to("../nowhere")
    (tree.devices / "not-an-address").mkdir()
    assert host.look() == {}


def test_a_bus_that_cannot_be_read_is_an_error_that_says_so(tmp_path):
    with pytest.raises(SysfsError, match=r"devices cannot be read \(No such file or directory\), so no board can be seen"):
        Host(tmp_path, tmp_path).look()


def test_a_numa_node_of_minus_one_is_none(tree, host):
    tree.plug(Plugged("u250", "0000:3b:00", numa=-1))
    assert only(host).numa_node is None


def test_the_drivers_version_is_xocls(tree, host):
    assert host.driver_version() == ""
    tree.plug(Plugged("u250", "0000:3b:00"))
    assert host.driver_version() == "2.16.204"


def test_no_two_boards_share_an_id():
    kinds = [(one, kind.name) for one, (kind, _role) in BY_ID.items()]
    assert len(kinds) == len(dict(kinds))
    assert {role for _kind, role in BY_ID.values()} == set(Role)


@pytest.mark.parametrize("link", ["", "../renderD129"])
def test_a_link_that_is_missing_or_names_another_node_is_not_handed_out(tree, host, link):
    tree.plug(Plugged("u250", "0000:3b:00"))
    by_path = tree.dev / "dri" / "by-path" / "pci-0000:3b:00.1-render"
    assert only(host).by_path == "dri/by-path/pci-0000:3b:00.1-render"
    by_path.unlink()
    if link:
        by_path.symlink_to(link)
    assert only(host).by_path == ""


def test_a_slot_that_was_declared_and_holds_something_else_is_not_given_to_a_pod(tree):
    """A typo would hand out a network card's registers."""
    tree.add_function("0000:05:00.0", 0x1D0F, 0xEC20, pci_class=0x020000, bars={"resource0": 16 << 10})
    board = only(Host(tree.sys, tree.dev, {"0000:05:00": KINDS["aws-vu47p-f2"]}))
    assert "0000:05:00.0 (1d0f:ec20) has no management function of AWS' beside it" in board.reason
    assert "fpga_device_plugin_slots" in board.reason


@pytest.mark.parametrize("name", AWS)
def test_an_application_function_alone_is_not_ready(tree, host, name):
    """No tool could load or clear it."""
    plugged = Plugged(name, tree.free_slot(name))
    tree.plug(plugged)
    assert only(host).ready
    tree.remove_function(plugged.management)
    assert "has no management function of AWS' beside it" in only(host).reason
