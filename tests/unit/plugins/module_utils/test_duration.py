# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._duration import DurationError, duration, seconds


@pytest.mark.parametrize(("written", "count"), [("0s", 0), ("45s", 45), ("30m", 1800), ("1h30m", 5400), ("1h0m5s", 3605), ("24h", 86400), ("90m", 5400)])
def test_go_s_notation_is_understood(written, count):
    assert seconds(written) == count


@pytest.mark.parametrize("written", [None, 30, True, "", "30", "m", "1d", "1.5h", "30m1h", "-5m", "30 m", "30M", "1h\n", "٣m"])
def test_what_is_no_duration_is_quoted(written):
    with pytest.raises(DurationError) as error:
        seconds(written)
    assert str(error.value) == f"found {written!r}"


@given(st.integers(0, 999_999))
def test_what_is_written_is_what_is_read(count):
    assert seconds(duration(count)) == count
