# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's own programs, each run measured: its wall and CPU seconds, its peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(sys.executable).parent


def environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the caller's but PATH: neither its configuration nor its credentials."""
    return {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }


def measured(command: Sequence[str], folder: Path, variables: Mapping[str, str], output: Path | None = None) -> dict[str, float]:
    """Wall and CPU seconds and peak memory (MB) of one run, and of all the processes it started; ends the benchmark when it fails."""
    result = folder / "timed.json"
    timed = [sys.executable, "-S", "-E", str(Path(__file__).parent / "timed.py"), str(result), str(PROGRAMS / command[0]), *command[1:]]
    said = folder / "said"
    with open(output or said, "wb") as out:
        finished = subprocess.run(timed, cwd=folder, env=environment(folder, variables), stdout=out, stderr=subprocess.PIPE, check=False)
    if finished.returncode:
        told = "" if output else said.read_text()[-2000:]
        sys.exit(f"{' '.join(command)} failed:\n{told}{finished.stderr.decode()[-2000:]}")
    return dict(json.loads(result.read_text()))
