# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a declaration or a host, said so that a stranger can mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong: where, what was found, what was expected, what to do. host is "" for what concerns the whole cluster."""

    host: str
    variable: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.host}, {self.variable}" if self.host else self.variable
        return f"{where}: {self.found}; expected {self.expected}. {self.remedy}"

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def listing(problems: Iterable[Problem]) -> str:
    """All problems, one below the other, each told once."""
    return "\n".join(f"- {problem}" for problem in sorted(set(problems)))
