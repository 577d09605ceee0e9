# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The boards that roles see on a host's bus, out of trees as the drivers make them."""

from __future__ import annotations

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _boards
from ansible_collections.fpga.hybrid.plugins.module_utils._boards import alveo_cards, boards
from fpga_device_plugin import boards as plugin
from fpga_device_plugin import discovery
from lab.fpga.tree import ALVEO_STATES, MODELS, Plugged, Tree


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path, real_nodes=False)


def test_roles_and_device_plugin_know_the_same_boards_by_the_same_ids():
    assert {pci: (kind.name, role.value) for pci, (kind, role) in plugin.BY_ID.items()} == {
        pci: (board, role.value) for pci, (board, role) in _boards.BY_ID.items()
    }


@pytest.mark.parametrize("board", MODELS)
def test_every_board_is_seen_on_the_bus(tree, board):
    tree.plug(Plugged(board, tree.free_slot(board)))
    assert set(boards(tree.sys).values()) == {board}


def test_other_devices_and_a_host_without_a_bus_have_no_boards(tree, tmp_path):
    tree.add_function("0000:00:1f.0", 0x8086, 0xA30E)
    (tree.devices / "no-address").symlink_to(tmp_path)
    assert boards(tree.sys) == {}
    assert boards(tmp_path / "nowhere") == {}


def test_a_function_that_goes_while_it_is_looked_at_is_no_board(tree):
    tree.plug(Plugged("u250", "0000:3b:00"))
    (tree.devices / "0000:3b:00.0" / "vendor").unlink()
    (tree.devices / "0000:3b:00.1" / "device").write_text("nonsense")
    assert boards(tree.sys) == {}


WHY = {
    "ready": "",
    "no-driver": "bound to no driver, expected xocl",
    "vfio": "bound to vfio-pci, expected xocl",
    "not-ready": "not ready",
    "no-node": "no render node",
    "no-user": "shows no user function",
    "factory": "the image that it was sold with",
}


@pytest.mark.parametrize("state", ALVEO_STATES)
def test_a_card_is_ready_or_says_why_not(tree, state):
    tree.plug(Plugged("u250", "0000:3b:00", state))
    (card,) = alveo_cards(tree.sys, tree.dev)
    assert card.ready is (state == "ready")
    assert WHY[state] in card.why_not_ready()
    assert bool(card.why_not_ready()) is (state != "ready")


@pytest.mark.parametrize("second", ["", "there", "not made"])
@pytest.mark.parametrize("said", ["0x1", "1", "0x0", "0", "", None])
@pytest.mark.parametrize("state", ALVEO_STATES)
def test_roles_and_device_plugin_call_the_same_cards_ready(tree, state, said, second):
    """What role xrt lets pass is published, and the other way round. said: by the driver's file ready; second: another render node."""
    tree.plug(Plugged("u250", "0000:3b:00", state))
    function = tree.devices / "0000:3b:00.1"
    if (function / "ready").exists() and state != "not-ready":
        (function / "ready").unlink() if said is None else (function / "ready").write_text(f"{said}\n")
    if second and (function / "drm").exists():
        (function / "drm" / "renderD200").mkdir()
        if second == "there":
            (tree.dev / "dri").mkdir(exist_ok=True)
            (tree.dev / "dri" / "renderD200").touch()
    (card,) = alveo_cards(tree.sys, tree.dev)
    (published,) = discovery.Host(tree.sys, tree.dev).look().values()
    assert card.ready is published.ready, (card.why_not_ready(), published.reason)


def test_a_card_tells_its_serial_number_and_its_shell(tree):
    tree.plug(Plugged("u280", "0000:43:00"))
    (card,) = alveo_cards(tree.sys, tree.dev)
    assert (card.serial, card.shell, card.management, card.user) == ("LAB00004300", "xilinx_u280_gen3x16_xdma_base_1", "0000:43:00.0", "0000:43:00.1")


def test_boards_of_aws_are_no_alveo_cards(tree):
    tree.plug(Plugged("aws-vu47p-f2", "0000:34:00"))
    assert alveo_cards(tree.sys, tree.dev) == []
