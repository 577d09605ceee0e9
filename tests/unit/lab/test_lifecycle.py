# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as a whole: what is not begun while somebody else is at it."""

from __future__ import annotations

import pytest

from lab import lifecycle, lock
from lab.lock import BusyError, held


@pytest.mark.parametrize("verb", [lifecycle.down, lifecycle.reset, lifecycle.clean])
def test_while_a_side_car_runs_the_lab_is_not_taken_away_under_it(monkeypatch, tmp_path, verb):
    """It would start its hosts anew, on networks that go."""
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    monkeypatch.setattr(lifecycle, "require_root", lambda: None)
    for name in ("after_reboot", "after_kill", "end_forgotten"):
        monkeypatch.setattr(lifecycle.recovery, name, lambda: pytest.fail("something was done"))
    with held("cloud", seconds=0), pytest.raises(BusyError, match=r"the lab's cloud runs .* end it first"):
        verb()
