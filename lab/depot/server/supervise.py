"""PID 1 of the depot's container: keeps its three servers running, reaps what is left to it, and takes them down when told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

COMMANDS = {
    "nginx": ["nginx", "-c", "/etc/depot/nginx.conf", "-g", "daemon off;"],
    "registry": ["docker-registry", "serve", "/etc/depot/registry.yml"],
    "time": [sys.executable, "/etc/depot/ntp.py", "/srv/time/offset"],
}
PAUSE = 1.0


def main() -> int:
    running: dict[int, str] = {}
    started: dict[str, float] = {}
    stopping = False

    def start(name: str) -> None:
        started[name] = time.monotonic()
        running[subprocess.Popen(COMMANDS[name]).pid] = name

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in running:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for name in COMMANDS:
        start(name)
    while running:
        pid, status = os.wait()
        name = running.pop(pid, "")
        if name and not stopping:
            print(f"depot: {name} ended with {os.waitstatus_to_exitcode(status)}; starting it again", flush=True)
            # A server that cannot start must not keep the machine busy.
            time.sleep(max(0.0, PAUSE - (time.monotonic() - started[name])))
            start(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
