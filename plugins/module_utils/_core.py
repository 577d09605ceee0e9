# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ansible-core it takes. Pure, and of old Python too, so that an old one can be told so."""

from __future__ import annotations

import re

#: As in meta/runtime.yml, which Ansible itself only warns by.
MINIMUM = (2, 19)


def core_problem(version: str) -> str:
    """What to say to an ansible-core of this version, or ""."""
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if found >= MINIMUM:
        return ""
    return (
        f"Found ansible-core {version}; expected {'.'.join(map(str, MINIMUM))} or newer, without which nothing of fpga.hybrid works as it is tested. In AWX, "
        "give the project an execution environment that has it (docs/awx.md builds one); on a command line: pip install 'ansible-core>=2.19' with Python 3.11 "
        "or newer."
    )
