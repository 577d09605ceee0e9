# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real network namespaces for tests, where this machine lets us make them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

FOLDER = Path("/run/netns")
PREFIX = "fpgah-test-"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def namespace(purpose: str) -> Iterator[str]:
    """The name of a new one, which goes with the block. Skips the test where none can be made."""
    if os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    _remove_those_of_killed_runs()
    name = f"{PREFIX}{purpose}-{os.getpid()}"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.decode().strip()}")
    try:
        yield name
    finally:
        if (FOLDER / name).exists():
            ip("netns", "del", name)


def _remove_those_of_killed_runs() -> None:
    for left in FOLDER.glob(f"{PREFIX}*"):
        if not Path("/proc", left.name.rpartition("-")[2]).exists():
            with suppress(subprocess.CalledProcessError):  # another run has seen it, too
                ip("netns", "del", left.name)
