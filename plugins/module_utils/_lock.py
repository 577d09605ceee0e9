# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a run: who may change the cluster now. Rules and file are separate: `judge` is pure, `LockFile` is the file."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _files

#: Seconds that a lock outlives the last play of its run, for controllers that can't be asked whether the run still lives.
LIFETIME = 2 * 60 * 60


class LockError(Exception):
    """The lock can't be had; the message says whose it is and what to do."""


@dataclass(frozen=True)
class Holder:
    """A run: the long-living ansible-playbook process on its controller.

    Process ids mean something only within one pid namespace and one boot, and are used again: namespace and start time (in clock ticks
    after boot) tell the processes of two containers, and of two times, apart. Execution environments often share machine-id and low pids.
    """

    machine_id: str
    boot_id: str
    pid_namespace: str
    pid: int
    pid_started: int
    user: str
    controller: str

    @property
    def name(self) -> str:
        """What break_lock must repeat: unmistakable, and short enough to type."""
        return f"{self.user}@{self.controller}:{self.pid}"


@dataclass(frozen=True)
class Lock:
    """started and expires in seconds since 1970, by the clock of the host that holds the file."""

    holder: Holder
    started: float
    expires: float

    @staticmethod
    def parse(text: str) -> Lock:
        content = json.loads(text)
        known = {field.name for field in fields(Holder)}
        return Lock(Holder(**{name: value for name, value in content["holder"].items() if name in known}), float(content["started"]), float(content["expires"]))

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def judge(found: Lock | None, me: Holder, now: float, dead: Holder | None = None, break_lock: str = "") -> str:
    """What the lock that was found means to this run: free, mine, dead, expired, broken, or held by another.

    dead: a holder whose process is known to be gone (only its own controller can know).
    """
    if found is None:
        return "free"
    if found.holder == me:
        return "mine"
    if found.holder == dead:
        return "dead"
    if found.expires <= now:
        return "expired"
    return "broken" if break_lock == found.holder.name else "held"


def sentence(verdict: str, found: Lock | None, now: float) -> str:
    """What to tell the user about a lock that was not simply free; "" when there is nothing to tell."""
    if found is None or verdict in ("free", "mine"):
        return ""
    whose = f"the lock of {found.holder.name}, taken {_ago(now - found.started)} ago"
    reasons = {
        "dead": f"Took over {whose}: that run has ended without giving it back.",
        "expired": f"Took over {whose}: it expired {_ago(now - found.expires)} ago.",
        "broken": f"Broke {whose}, as break_lock says.",
    }
    return reasons.get(verdict) or (
        f"Found {whose}, which holds for {_ago(found.expires - now)} more unless renewed; expected no other run. "
        f"Wait for it, or if you know that it is gone: -e break_lock={found.holder.name}"
    )


def _ago(seconds: float) -> str:
    seconds = max(0, int(seconds))
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"


def proc_start(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Start time of a process in clock ticks after boot, or None when there is no such process. Source: proc(5), stat, field 22."""
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command's name stands in parentheses and may itself contain spaces and parentheses.
    fields_after_name = stat.rpartition(")")[2].split()
    return None if fields_after_name[0] in ("Z", "X") else int(fields_after_name[19])


def is_dead(holder: Holder, me: Holder, proc: Path = Path("/proc")) -> bool:
    """Whether a run of this very controller is known to be gone. Runs of others, and of other containers here, can't be judged."""
    if holder.machine_id != me.machine_id or not me.machine_id:
        return False
    if holder.boot_id != me.boot_id:
        return True
    return holder.pid_namespace == me.pid_namespace and proc_start(holder.pid, proc) != holder.pid_started


class LockFile:
    """The file, on the control plane's host. Every change is made under flock and by rename: two runs can't both succeed."""

    def __init__(self, folder: Path, lifetime: int = LIFETIME) -> None:
        self.folder = folder
        self.path = folder / "lock"
        self.lifetime = lifetime

    def take(self, me: Holder, dead: Holder | None, break_lock: str) -> tuple[str, Lock | None, float]:
        """Take or renew the lock where `judge` allows it. Returns the verdict, what was found, and this host's time."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._exclusive():
            now, found = time.time(), self.read()
            verdict = judge(found, me, now, dead, break_lock)
            if verdict != "held":
                started = found.started if found and verdict == "mine" else now
                self._write(Lock(me, started, now + self.lifetime))
            return verdict, found, now

    def renew(self, me: Holder) -> Lock | None:
        """Renew the lock if it is mine. Returns the lock that then stands, mine or not."""
        if not self.path.exists():
            return None
        with self._exclusive():
            found = self.read()
            if found and found.holder == me:
                found = Lock(me, found.started, time.time() + self.lifetime)
                self._write(found)
            return found

    def release(self, me: Holder) -> Lock | None:
        """Give the lock back if it is mine. Returns the lock that stands instead."""
        if not self.path.exists():
            return None
        with self._exclusive():
            found = self.read()
            if found is None or found.holder != me:
                return found
            self.path.unlink()
            return None

    def read(self) -> Lock | None:
        try:
            return Lock.parse(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise LockError(
                f"{self.path}: found no lock that can be read ({error}); expected one of ours. Look who is at work, then remove the file."
            ) from error

    def _write(self, lock: Lock) -> None:
        _files.write(str(self.path), _files.File(lock.text(), 0o600))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def holder_from(values: dict[str, Any]) -> Holder:
    return Holder(**{**values, "pid": int(values["pid"]), "pid_started": int(values["pid_started"])})
