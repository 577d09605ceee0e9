# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that README tells, as scripts that a test can run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
#: A line of nothing but values, which a reader puts in for the example's.
VALUES = re.compile(r"^(\w+=\S+)( \w+=\S+)*$", re.MULTILINE)


def scripts(heading: str) -> list[str]:
    """The shell blocks below a heading, in their order."""
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^## )", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def with_values(script: str, values: Mapping[str, str]) -> str:
    """The script with our values in the place of the example's; raises KeyError for one that we have none for."""

    def ours(line: re.Match[str]) -> str:
        return " ".join(f"{name}={values[name]}" for name in re.findall(r"(\w+)=", line[0]))

    return VALUES.sub(ours, script)
