# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that the lab has built, for tests that want the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.depot import golang
from lab.depot.base import Cache

TABLE, CACHE = golang.read_table(), Cache.default()


def use(monkeypatch: pytest.MonkeyPatch, home: Path, *names: str) -> None:
    """Puts them on PATH, without anybody's settings. Skips the test where the lab has not built them."""
    folders = [TABLE.program(name).path(CACHE).parent for name in names]
    if missing := [folder.name for folder in folders if not folder.exists()]:
        pytest.skip(f"the lab has not built {' and '.join(missing)} yet: `make lab` does")
    monkeypatch.setenv("PATH", ":".join([*map(str, folders), "/usr/bin:/bin"]))
    monkeypatch.setenv("HOME", str(home))
