"""Ansible's programs, run from the checkout on the lab and the node pools of its AWS."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from lab.settings import LabError
from lab.tools import ROOT

INVENTORIES = ("-i", "inventories/lab", "-i", "inventories/lab_cloud")


def ansible(program: str, *arguments: str, environment: Mapping[str, str] | None = None, shown: bool = False) -> str:
    """What it printed; nothing if that is shown at once, for somebody to read. Raises LabError, with the end of it."""
    words = [str(ROOT / ".venv/bin" / program), *arguments, *INVENTORIES]
    output = None if shown else subprocess.PIPE
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(words, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        said = f": {done.stdout[-4000:]}" if done.stdout else ", see above"
        raise LabError(f"{' '.join([program, *arguments])} ended with status {done.returncode}{said}")
    return done.stdout or ""
