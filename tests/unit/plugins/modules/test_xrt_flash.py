# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module xrt_flash on cards out of files, with an xbmgmt of the tests'."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils._boards import alveo_cards
from ansible_collections.fpga.hybrid.plugins.module_utils._xrt_host import Host
from ansible_collections.fpga.hybrid.plugins.modules import xrt_flash
from lab.fpga.tree import Plugged, Tree

FIRST, SECOND = "LAB00003B00", "LAB00004300"


class Cards:
    """Two cards as they were sold. answers: what xbmgmt ends with, one call after the other; then with success."""

    def __init__(self, folder):
        self.folder = folder
        self.tree = Tree(folder, real_nodes=False)
        for slot in ("0000:3b:00", "0000:43:00"):
            self.tree.plug(Plugged("u250", slot, "factory"))
        self.called, self.answers = [], []
        self.host = Host("worker1", self.run, folder, self.tree.sys, self.tree.dev)

    def run(self, argv):
        self.called.append(argv[argv.index("--device") + 1])
        status = self.answers.pop(0) if self.answers else 0
        if isinstance(status, BaseException):
            raise status
        return status, "", "ERROR: No shells found" if status else ""

    @property
    def remembered(self):
        return self.host.pending()


@pytest.fixture
def cards(tmp_path, monkeypatch):
    made = Cards(tmp_path)
    monkeypatch.setattr(xrt_flash, "host_of", lambda _module: made.host)
    return made


def test_a_card_that_was_not_written_is_flashed_by_the_next_run(cards, call):
    cards.answers = [1]
    answer = call("xrt_flash", host="worker1", serials=[FIRST])
    assert "No shells found" in answer["msg"]
    assert cards.remembered == {}
    answer = call("xrt_flash", host="worker1", serials=[FIRST])
    assert cards.called == ["0000:3b:00.0"] * 2
    assert answer["cold_boot_due"] == [FIRST]


def test_what_was_written_before_another_card_failed_is_remembered(cards, call):
    cards.answers = [0, 1]
    assert "msg" in call("xrt_flash", host="worker1", serials=[FIRST, SECOND])
    assert cards.remembered == {FIRST: "base"}


def test_a_flash_that_is_killed_may_have_written_and_is_not_begun_anew(cards, call):
    cards.answers = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        call("xrt_flash", host="worker1", serials=[FIRST])
    assert cards.remembered == {FIRST: "base"}


def test_check_mode_does_not_refuse_a_number_that_no_driver_can_tell_yet(cards, call, monkeypatch):
    """Before the first installation nothing reads it."""
    monkeypatch.setattr(xrt_flash, "alveo_cards", lambda *_roots: [replace(card, serial="") for card in alveo_cards(cards.tree.sys, cards.tree.dev)])
    warned = []
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.warn", lambda _module, text: warned.append(text))
    answer = call("xrt_flash", True, host="worker1", serials=[FIRST])
    assert not answer["changed"]
    assert "whether a card has the number LAB00003B00 cannot be read before the driver is there" in warned[0]
    assert "no card LAB00003B00" in call("xrt_flash", host="worker1", serials=[FIRST])["msg"]
