# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door for who knows nox: each step of tests/run.py as a session, in the tools environment that `make tools` makes. What a step does stands there only."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYTHON = ROOT / ".venv" / "bin" / "python"

subprocess.run(["make", "--silent", "tools"], cwd=ROOT, check=True)
LISTED = subprocess.run([PYTHON, "tests/run.py", "--list"], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def door(name: str, told: str) -> None:
    def session(session: nox.Session) -> None:
        session.run(str(PYTHON), "tests/run.py", name, *session.posargs, external=True)

    session.__doc__ = told
    nox.session(session, name=name, venv_backend="none", default=name == "quick")


for line in LISTED.splitlines():
    door(*line.split("\t"))
