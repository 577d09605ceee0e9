# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations as people write them and as Go's time package reads them: 45s, 30m, 1h30m, 24h."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import re

EXAMPLE = "a duration as 45s, 30m or 1h30m"

_UNITS = {"h": 3600, "m": 60, "s": 1}
_WRITTEN = re.compile(r"(?=[0-9])((?P<h>[0-9]{1,6})h)?((?P<m>[0-9]{1,6})m)?((?P<s>[0-9]{1,6})s)?", re.ASCII)


class DurationError(ValueError):
    """It is no duration; the message quotes it."""


def seconds(written: object) -> int:
    """A number without a unit is refused, since its unit would have to be guessed."""
    match = _WRITTEN.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise DurationError(f"found {written!r}")
    return sum(int(match[unit] or 0) * size for unit, size in _UNITS.items())


def duration(count: int) -> str:
    """Whole seconds as Go's time package prints them, without the units that are zero."""
    parts = []
    for unit, size in _UNITS.items():
        whole, count = divmod(count, size)
        parts += [f"{whole}{unit}"] if whole else []
    return "".join(parts) or "0s"
