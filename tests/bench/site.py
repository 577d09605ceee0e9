# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-site`: site.yml against a bare shell script that makes the same cluster on the same hosts, in one run.

Machines are noisy, so the figure is the ratio. Each contender gets the lab's four hosts made anew, the depot is ready.
This removes the cluster that runs in the lab; site.yml goes last, so one stands there afterwards.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOAL = 1.5
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
    "FPGA_HYBRID_LAB_CACHE": os.environ.get("FPGA_HYBRID_LAB_CACHE") or str(Path.home() / ".cache" / "fpga-hybrid-lab"),
}
CONTENDERS = {"shell": ["bash", "tests/bench/bare.sh"], "site.yml": ["ansible-playbook", "site.yml"]}


def run(*command: str) -> float:
    """Seconds that the command took; ends the benchmark with its output when it fails."""
    started = time.monotonic()
    finished = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if finished.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{finished.stdout[-4000:]}")
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(parser.parse_args().rounds):
        for name, command in CONTENDERS.items():
            run("lab/lab", "reset")
            run("lab/lab", "up")
            seconds[name].append(run(*command))
            print(f"{name:<10} {seconds[name][-1]:7.1f} s", flush=True)
    ratio = statistics.median(site / shell for shell, site in zip(seconds["shell"], seconds["site.yml"]))
    print(f"site.yml / shell = {ratio:.2f} (goal: at most {GOAL})")
    if ratio > GOAL:
        sys.exit(1)


if __name__ == "__main__":
    main()
