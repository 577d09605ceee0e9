# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where programs are run without a module object: bounded in time, with untranslated messages."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import os
import subprocess
import typing as t

NOT_INSTALLED = 127
TIMED_OUT = 124


class Output(t.NamedTuple):
    """What a program did. code is as a shell says it: 127 where the program is not there, 124 where it gave no answer in time."""

    code: int
    out: str
    err: str


def run(argv: t.Sequence[str], data: str = "", pass_fds: t.Sequence[int] = (), timeout: float | None = None) -> Output:
    """Not C(AnsibleModule.run_command): that one writes all of C(data) before it reads, and kubectl answers while it reads (a manifest of 250 KB hangs)."""
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            list(argv),
            input=data,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            pass_fds=pass_fds,
            timeout=timeout,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError:
        return Output(NOT_INSTALLED, "", f"{argv[0]}: not found")
    except subprocess.TimeoutExpired:
        return Output(TIMED_OUT, "", f"{argv[0]}: no answer within {timeout:g} s")
    return Output(done.returncode, done.stdout, done.stderr)
