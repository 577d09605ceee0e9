# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one command and writes what it took: timed.py RESULT COMMAND [ARGUMENT ...]

A small process of its own, because Linux counts a parent's memory at the fork into the child's peak.
"""

import json
import os
import sys
import time

started = time.monotonic()
_pid, status, used = os.wait4(os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ), 0)
result = {"wall": time.monotonic() - started, "cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss / 1024}
with open(sys.argv[1], "w") as file:
    json.dump(result, file)
sys.exit(os.waitstatus_to_exitcode(status))
