# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures that hold on a busy machine, too: memory, and a ratio within one run. The goals in seconds are the bench's: make bench-device-plugin."""

from __future__ import annotations

import asyncio

import pytest

from tests.bench.device_plugin import measure


@pytest.fixture(scope="module")
def figures():
    """Of the program as a process of its own, with 16 boards among 200 other devices."""
    return asyncio.run(measure(boards=16, others=200, idle_seconds=0, allocations=1))


def test_it_stays_below_60_mib(figures):
    assert figures.resident < 60


def test_sixteen_boards_are_published_for_little_more_than_what_the_modules_take(figures):
    """1.7 times is usual, a third of which is the program's own modules."""
    assert figures.start_ratio < 4
