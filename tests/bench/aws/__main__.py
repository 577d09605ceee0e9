# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-aws`: what needs AWS and no cluster, against what Ansible users have today. One table, and a JSON file with every sample.

A half is a module with TITLE and run(rounds) -> rows, samples, notes; HALVES names them all.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tests.bench.aws import inventory
from tests.bench.aws.table import Row, Samples, render, write_json

ROOT = Path(__file__).resolve().parents[3]
HALVES = {"inventory": inventory}


def about(rounds: int) -> dict[str, object]:
    packages = ("ansible-core", "boto3", "botocore", "moto")
    collection = (
        ROOT / ".venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages/ansible_collections/amazon/aws/MANIFEST.json"
    )
    found = collection.read_text().partition('"version": "')[2].partition('"')[0] if collection.exists() else "?"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "rounds": rounds,
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start",
        "versions": {"python": platform.python_version(), "amazon.aws": found, **{name: version(name) for name in packages}},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-aws", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender, in turn; figures are medians")
    parser.add_argument("--only", choices=list(HALVES), action="append", help="this half only")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-aws.json", help="where the samples go")
    options = parser.parse_args()
    machine = about(options.rounds)
    sections: dict[str, Sequence[Row]] = {}
    samples: dict[str, Samples] = {}
    for name in options.only or HALVES:
        rows, found, notes = HALVES[name].run(options.rounds)
        sections[HALVES[name].TITLE] = rows
        samples |= {f"{name}: {key}": value for key, value in found.items()}
        machine |= notes
    print("\n\n".join(render(title, rows) for title, rows in sections.items()))
    print()
    for key, value in machine.items():
        print(f"{key}: {', '.join(f'{name} {number}' for name, number in value.items()) if isinstance(value, dict) else value}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.json, machine, sections, samples)
    print(f"samples: {options.json}")
    missed = [row.figure for rows in sections.values() for row in rows if row.met is False]
    print(f"{len(missed)} goals missed{': ' if missed else ''}{'; '.join(missed)}")


if __name__ == "__main__":
    main()
