# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark measures and what it says of it. Each half of `make bench-aws` gives rows; this prints them and keeps the samples."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

SECTION_COLUMNS = ("figure", "ours", "peer", "ratio", "goal", "")


@dataclass
class Samples:
    """What the runs of one contender took; figures are medians."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **measured: float) -> None:
        for name, value in measured.items():
            self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.values[name])


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ratio: how many times less than the peer's ours is (or, for a limit, ours as a share of the peer's), None where there is no peer.
    goal: as a person would write it; met: None where the figure has none; missed_by: as a share of the goal.
    times: whether ratio is the one or the other.
    """

    figure: str
    ours: str
    peer: str = ""
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None
    times: bool = True
    missed_by: float | None = None

    @property
    def verdict(self) -> str:
        if self.met is None or self.met:
            return "met" if self.met else ""
        return "missed" if self.missed_by is None else f"missed by {max(1, round(self.missed_by * 100))} %"


def at_least(figure: str, ours: float, peer: float, goal: float | None, unit: str = "s", stretch: float | None = None) -> Row:
    """Ours has to be `goal` times less than the peer's."""
    ratio = peer / ours
    said = "" if goal is None else f">= {goal:g}x" + (f" (stretch {stretch:g}x)" if stretch else "")
    row = Row(figure, f"{ours:.2f} {unit}", f"{peer:.2f} {unit}", ratio, said)
    return row if goal is None else replace(row, met=ratio >= goal, missed_by=1 - ratio / goal)


def at_most(figure: str, ours: float, peer: float, share: float | None, unit: str = "MB") -> Row:
    """Ours may be at most this share of the peer's."""
    said = "" if share is None else f"<= {share:g}"
    row = Row(figure, f"{ours:.0f} {unit}", f"{peer:.0f} {unit}", ours / peer, said, times=False)
    return row if share is None else replace(row, met=ours / peer <= share, missed_by=ours / peer / share - 1)


def render(title: str, rows: Sequence[Row]) -> str:
    """A table that is also Markdown."""
    cells = [SECTION_COLUMNS, *((row.figure, row.ours, row.peer, _ratio(row), row.goal, row.verdict) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(SECTION_COLUMNS))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([f"### {title}", "", *lines])


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return ""
    return f"{row.ratio:.1f}x" if row.times else f"{row.ratio:.2f}"


def write_json(path: Path, about: dict[str, Any], sections: dict[str, Sequence[Row]], samples: dict[str, Samples]) -> None:
    content = {
        **about,
        "rows": {title: [{**asdict(row), "verdict": row.verdict} for row in rows] for title, rows in sections.items()},
        "samples": {name: found.values for name, found in samples.items()},
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
