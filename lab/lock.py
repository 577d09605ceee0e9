"""One change at a time: lock `up` for the lab as a whole, `machine` for the short steps that every new host needs, `cloud` for as long as a side-car runs,
`instance-image` for as long as that image is built.

The kernel frees a lock when its holder ends, however it ends: it cannot go stale.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.run import say
from lab.settings import LOCKS, LabError

#: A build from nothing holds the lock; the next one waits rather than fails.
WAIT_SECONDS = 3600


class BusyError(LabError):
    """Somebody else holds it."""


@contextmanager
def held(name: str, *, seconds: float = WAIT_SECONDS, busy: str = "the lab is being changed by {holder}: wait for it, or end it") -> Iterator[None]:
    """busy: what is wrong when it isn't free within the seconds."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with open(LOCKS / f"fpga-hybrid-lab-{name}.lock", "a+", encoding="ascii") as file:
        deadline = time.monotonic() + seconds
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip()
                if time.monotonic() >= deadline:
                    raise BusyError(busy.format(holder=holder or "another run")) from None
                if not told:
                    say(f"waiting for {holder or 'another run'}")
                    told = True
                time.sleep(0.5)
        file.truncate(0)
        file.write(f"process {os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
