# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ran, when, and how it ended: the table in docs/test-all.md. A run replaces the rows of what it ran and leaves the others with their dates."""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HEAD = """\
# Results of `make test-all`

Written by `tests/run.py`: each row is replaced when its step or test runs again, so a row's date says how old it is. Steps first, then each test
that runs on the lab. Seconds are of a machine with {cores} cores and compare with nothing but each other.

| step or test | result | seconds | when (UTC) | commit |
|---|---|---|---|---|
"""
RESULT = r"passed|failed|failed as expected|skipped[^|]*?"
ROW = re.compile(rf"^\| (?P<name>.+?) \| (?P<result>{RESULT}) \| (?P<seconds>[\d.]+) \| (?P<when>\S+ \S+) \| (?P<commit>\S+) \|$")


@dataclass(frozen=True)
class Row:
    name: str
    result: str
    seconds: float
    when: str
    commit: str

    def __str__(self) -> str:
        return f"| {self.name} | {self.result} | {self.seconds:.1f} | {self.when} | {self.commit} |"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M")


def commit(root: Path) -> str:
    """The commit that ran; with a plus sign where the checkout differs from it."""
    described = subprocess.run(["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=root, capture_output=True, text=True, check=False)
    return described.stdout.strip() or "unknown"


def parse(text: str) -> dict[str, Row]:
    found = (ROW.match(line) for line in text.splitlines())
    return {row["name"]: Row(row["name"], row["result"], float(row["seconds"]), row["when"], row["commit"]) for row in found if row}


def of_pytest(junit: str, when: str, commit: str, how: str = "", passed: str = "passed") -> list[Row]:
    """A row for each test, from pytest's --junitxml. Names are files and sentences: `test_drift: the next run mends exactly that [sysctl]`.

    how: what tells it from the same test that was run in another way; passed: what it is called when it passes then.
    """
    rows = []
    for case in ET.fromstring(junit).iter("testcase"):
        file = case.get("classname", "").rpartition(".")[2]
        sentence = case.get("name", "").removeprefix("test_").partition("[")
        name = f"{file}: {sentence[0].replace('_', ' ')}{f' [{sentence[2]}' if sentence[2] else ''}{how}".replace("|", "/")
        skipped = case.find("skipped")
        failed = case.find("failure") is not None or case.find("error") is not None
        result = "failed" if failed else f"skipped: {skipped.get('message', '')}".replace("|", "/") if skipped is not None else passed
        rows.append(Row(name, result, float(case.get("time", 0)), when, commit))
    return rows


def render(rows: Iterable[Row]) -> str:
    """Steps have no colon in their names and come first."""
    ordered = sorted(rows, key=lambda row: (":" in row.name, row.name))
    return HEAD.format(cores=os.cpu_count()) + "".join(f"{row}\n" for row in ordered)


def write(path: Path, rows: Iterable[Row]) -> None:
    known = parse(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(render({**known, **{row.name: row for row in rows}}.values()), encoding="utf-8")
