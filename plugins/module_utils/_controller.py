# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who this run is. Used by action plugins, so it runs on the controller, in a worker process of the run."""

from __future__ import annotations

import getpass
import multiprocessing
import os
import socket
from pathlib import Path

from ansible_collections.fpga.hybrid.plugins.module_utils._lock import Holder, proc_start


def this_run() -> Holder:
    """The long-living ansible-playbook process, whose child this worker is."""
    parent = multiprocessing.parent_process()
    pid = parent.pid if parent and parent.pid else os.getpid()
    return Holder(
        machine_id=_first_line("/etc/machine-id"),
        boot_id=_first_line("/proc/sys/kernel/random/boot_id"),
        pid_namespace=os.readlink("/proc/self/ns/pid"),
        pid=pid,
        pid_started=proc_start(pid) or 0,
        user=_user(),
        controller=socket.gethostname().partition(".")[0],
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return str(os.getuid())


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
