# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a user has it: installed from its tarball, with the collections that it names beside it, in a home that holds nothing else."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Installed:
    """collections: the folder that ansible_collections stands in. output, seconds, seconds of the processor: of the installation."""

    collections: Path
    tarball: Path
    output: str
    seconds: float
    processor: float


def run(program: str, *arguments: str, cwd: Path, collections: Path) -> str:
    """Nothing of the checkout is found: neither its ansible.cfg nor the collections of the tools environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"PWD": str(cwd), "HOME": str(collections), "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false"}
    environment |= {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}
    done = subprocess.run([str(BIN / program), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def processor() -> float:
    """Seconds that children have computed so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def install(folder: Path) -> Installed:
    """Built and installed with README's commands; those it depends on are there as Galaxy would have brought them."""
    subprocess.run(["make", "--silent", "dist", f"BUILD={folder}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (built,) = re.findall(r"ansible-galaxy collection install build/(\S+)", README)
    (site_packages,) = BIN.parent.glob("lib/python3*/site-packages/ansible_collections")
    for there in site_packages.glob("*/*/MANIFEST.json"):
        place = folder / "ansible_collections" / there.parent.relative_to(site_packages)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(there.parent)
    started, before = time.monotonic(), processor()
    output = run("ansible-galaxy", "collection", "install", "--offline", "-p", str(folder), str(folder / built), cwd=folder, collections=folder)
    return Installed(folder, folder / built, output, time.monotonic() - started, processor() - before)
