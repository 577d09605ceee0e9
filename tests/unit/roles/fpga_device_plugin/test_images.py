# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS' tools for several slots at once: what of a failure is another slot's doing."""

from __future__ import annotations

import asyncio

import pytest

from fpga_device_plugin import images
from fpga_device_plugin.images import ImageError, Tools

ADDRESS = "0000:00:1d.0"
FOUND = f"AFI 1 No AFI cleared 1 ok 0 0x04261818\nAFIDEVICE 1 0x1d0f 0xf002 {ADDRESS}\n"


class Disturbed(Tools):
    """Its first call fails; while it runs, the other slot changes if it is told to."""

    def __init__(self, disturbed: bool) -> None:
        super().__init__("/nowhere")
        self.disturbed, self.calls = disturbed, 0

    async def _run_once(self, slot: int, tool: str, *options: str) -> str:
        self.calls += 1
        if self.calls > 1:
            return FOUND
        if self.disturbed:
            with self._change(0):
                await asyncio.sleep(0)
        raise ImageError("pci-device-missing")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(images, "PAUSE", 0.0)


def test_a_tool_is_called_again_where_another_slots_change_has_come_and_gone_meanwhile():
    tools = Disturbed(disturbed=True)
    assert asyncio.run(tools.describe(1, ADDRESS)).status == "cleared"
    assert tools.calls == 2


def test_a_failure_without_any_change_is_the_slots_own():
    tools = Disturbed(disturbed=False)
    with pytest.raises(ImageError, match="pci-device-missing"):
        asyncio.run(tools.describe(1, ADDRESS))
    assert tools.calls == 1
