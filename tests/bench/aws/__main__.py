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

from tests.bench.aws import inventory, pools
from tests.bench.aws.table import Row, Samples, render, write_json

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "bench-aws.md"
HALVES = {"inventory": inventory, "pools": pools}

INTRODUCTION = """\
# AWS: measured against amazon.aws

Each figure is the median of runs in turn with the peer's, Ansible's own programs on one machine. Seconds compare with nothing but the peer's beside them;
what counts is the ratio. CPU time (user and system, of the program and all it starts) hardly depends on what else the machine does; wall time does.

- Inventory: `amazon.aws.aws_ec2` and `fpga.hybrid.cluster` read the same replayed answers over loopback. That the groups have the same members is checked
  before anything is timed. A plugin that publishes fewer variables is faster for that alone, so `full: true` shows it with as many as aws_ec2's.
- Pools: a task of `fpga.hybrid.node_pool` with six pools, and what users have today, a task of `ec2_launch_template` and one of `autoscaling_group`, each a
  loop over six. Both leave the same groups and templates behind, which is checked first. moto answers without a network's latency; at AWS each call costs
  both sides 30 to 150 ms more.
"""


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


def document(arguments: Sequence[str], tables: str, lines: Sequence[str]) -> str:
    told = "".join(f"- {line}\n" for line in lines)
    command = f"make bench-aws BENCH='{' '.join(arguments)}'"
    return f"{INTRODUCTION}\nMade by `{command}`:\n\n{told}\n{tables}\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-aws", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender, in turn; figures are medians")
    parser.add_argument("--only", choices=list(HALVES), action="append", help="this half only")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-aws.json", help="where the samples go")
    parser.add_argument("--document", action="store_true", help="write the tables into docs/bench-aws.md, too")
    options = parser.parse_args()
    machine = about(options.rounds)
    sections: dict[str, Sequence[Row]] = {}
    samples: dict[str, Samples] = {}
    for name in options.only or HALVES:
        rows, found, notes = HALVES[name].run(options.rounds)
        sections[HALVES[name].TITLE] = rows
        samples |= {f"{name}: {key}": value for key, value in found.items()}
        machine |= notes
    lines = [f"{key}: {', '.join(f'{name} {n}' for name, n in value.items()) if isinstance(value, dict) else value}" for key, value in machine.items()]
    tables = "\n\n".join(render(title, rows) for title, rows in sections.items())
    print("\n".join([tables, "", *lines]))
    if options.document:
        DOCUMENT.write_text(document(sys.argv[1:], tables, lines))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.json, machine, sections, samples)
    print(f"samples: {options.json}")
    missed = [row.figure for rows in sections.values() for row in rows if row.met is False]
    print(f"{len(missed)} goals missed{': ' if missed else ''}{'; '.join(missed)}")


if __name__ == "__main__":
    main()
