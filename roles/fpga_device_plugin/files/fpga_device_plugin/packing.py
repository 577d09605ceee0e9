# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the free devices a container should get: copies of an accelerator on as few boards as possible, and those near to each other. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fpga_device_plugin.catalogue import slot_of


def prefer(
    available: Iterable[str], must_include: Iterable[str], size: int, *, numa: Mapping[str, int | None], whole: Mapping[str, int] | None = None
) -> list[str]:
    """At most size devices, those of must_include first. numa: node of each board, by slot.

    whole: how many devices each board has, where a container may only have all of a board's: then boards that are partly taken are left alone.
    """
    chosen = sorted(set(must_include))
    free: dict[str, list[str]] = {}
    for device in sorted(set(available) - set(chosen)):
        free.setdefault(slot_of(device), []).append(device)
    if whole is not None:
        taken = [slot_of(device) for device in chosen]
        free = {slot: devices for slot, devices in free.items() if len(devices) + taken.count(slot) == whole.get(slot)}
    # Where there are some already, there they should all be.
    for slot in dict.fromkeys(slot_of(device) for device in chosen):
        chosen += free.pop(slot, [])[: max(0, size - len(chosen))]
    while len(chosen) < size and free:
        slot = _next_board(free, size - len(chosen), near=_nodes(chosen, numa), numa=numa)
        chosen += free.pop(slot)[: size - len(chosen)]
    return chosen[:size]


def _nodes(devices: Iterable[str], numa: Mapping[str, int | None]) -> set[int | None]:
    return {numa.get(slot_of(device)) for device in devices}


def _next_board(free: Mapping[str, list[str]], missing: int, *, near: set[int | None], numa: Mapping[str, int | None]) -> str:
    """The board on which the rest fits most tightly; if it fits on none, the one with most. So the fewest are used, and large gaps are kept."""

    def cost(slot: str) -> tuple[bool, int, bool, str]:
        count = len(free[slot])
        fits = count >= missing
        return (not fits, count if fits else -count, bool(near) and numa.get(slot) not in near, slot)

    return min(free, key=cost)
