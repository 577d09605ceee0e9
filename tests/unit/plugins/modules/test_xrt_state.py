# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules xrt_state and xrt_driver on cards out of files, with no program of XRT's there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _xrt
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record
from ansible_collections.fpga.hybrid.plugins.module_utils._xrt_host import Host
from ansible_collections.fpga.hybrid.plugins.modules import xrt_driver, xrt_state
from lab.fpga.tree import Plugged, Tree

LOOK = {"host": "worker1", "version": "2.16.204", "allow_untested": True}


@pytest.fixture
def world(tmp_path, monkeypatch):
    tree, warned = Tree(tmp_path / "boards", real_nodes=False), []
    host = Host("worker1", lambda _argv: (127, "", ""), tmp_path / "root", tree.sys, tree.dev)
    for module in (xrt_state, xrt_driver):
        monkeypatch.setattr(module, "host_of", lambda _module: host)
    load = Record.load
    monkeypatch.setattr(xrt_state.Record, "load", lambda: load(str(tmp_path / "record.json")))
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.warn", lambda _module, text: warned.append(text))
    return SimpleNamespace(tree=tree, warned=warned, record=tmp_path / "record.json")


def test_what_is_refused_is_returned_to_who_asks_for_a_report(world, call):
    world.tree.plug(Plugged("u250", "0000:3b:00", "factory"))
    assert "worker1, board 0000:3b:00: u250: it holds the image" in call("xrt_state", **LOOK)["msg"]
    answer = call("xrt_state", **LOOK, report=True)
    assert [problem["variable"] for problem in answer["problems"]] == ["board 0000:3b:00"]
    assert answer["situation"] == "install"
    assert call("xrt_state", **LOOK, report=True, flash=True)["problems"] == []
    assert "problems" not in call("xrt_state", **LOOK, flash=True)


def test_a_record_that_cannot_be_read_is_reported_like_the_rest(world, call):
    world.record.write_text("{")
    (problem,) = call("xrt_state", **LOOK, report=True)["problems"]
    assert "record.json" in problem["variable"]
    assert "msg" in call("xrt_state", **LOOK)


def test_a_blank_card_beside_one_that_works_is_a_warning(world, call):
    world.tree.plug(Plugged("u250", "0000:3b:00"))
    world.tree.plug(Plugged("u250", "0000:43:00", "factory"))
    assert call("xrt_state", **LOOK)["situation"] == "adopted"
    (warning,) = world.warned
    assert warning.startswith("worker1: u250 0000:43:00: it holds the image")


def test_the_driver_that_was_just_built_is_warned_of_as_well(world, call, monkeypatch):
    """A next boot without it is as bad as one that was found so."""
    monkeypatch.setattr(_xrt, "judge", lambda *_found, **_cards: [])
    monkeypatch.setattr(_xrt, "warnings", lambda found: [f"{len(found.cards)} card(s)"])
    world.tree.plug(Plugged("u250", "0000:3b:00"))
    call("xrt_driver", host="worker1", version="2.16.204")
    assert world.warned == ["worker1: 1 card(s)"]
