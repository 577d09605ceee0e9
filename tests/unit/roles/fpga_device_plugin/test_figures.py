# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures that hold on a busy machine, too: memory, and processor where the limit is a time. All of them: make bench-device-plugin."""

from __future__ import annotations

import asyncio

import pytest

from tests.bench.device_plugin import measure


@pytest.fixture(scope="module")
def figures():
    """Of the program as a process of its own, with 16 boards among 200 other devices."""
    return asyncio.run(measure(boards=16, others=200, idle_seconds=0, allocations=20))


def test_it_stays_below_60_mib(figures):
    assert figures.resident < 60


def test_sixteen_boards_are_published_with_less_than_a_second_of_processor(figures):
    """Two seconds by the clock, of a machine that has something to give."""
    assert figures.cpu < 1


def test_an_answer_to_allocate_takes_less_than_50_ms(figures):
    """The median, since a single one may have to wait for the processor."""
    assert figures.percentile(50) < 0.05
