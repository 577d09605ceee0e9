# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga-hybrid-bootstrap: makes this host a node of its cluster, and says what it did. See --help."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from fpga_hybrid import failure, report, steps
from fpga_hybrid.failure import Failure
from fpga_hybrid.options import PROGRAM, parse
from fpga_hybrid.run import Deadline, Log, PendingError, Run

LOCK = "run/fpga-hybrid/bootstrap.lock"
#: Where OpenVPN and others are, also for who comes with a user's PATH.
PROGRAM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def main(argv: Sequence[str] | None = None) -> int:
    log = Log()
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
    except Failure as wrong:
        log.say(f"{PROGRAM}: {wrong.sentence}")
        return wrong.kind.status
    log.hide(options.token or "", *(options.openvpn_login or "").splitlines()[1:2])
    for warning in options.warnings:
        log.say(f"warning: {warning}")
    os.environ["PATH"] = os.pathsep.join(dict.fromkeys([*os.environ.get("PATH", "").split(os.pathsep), *PROGRAM_FOLDERS]))
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _interrupt)
    total = Deadline(options.timeout)
    run = Run(options, log, total, total)
    try:
        with alone(run):
            return perform(run, report.Status(run))
    except Failure as found:  # somebody else is at work, whose status file it is
        log.say(f"{PROGRAM}: {found.sentence}")
        return found.kind.status
    finally:
        steps.forget_secrets(run)


def perform(run: Run, status: report.Status) -> int:
    """All steps, and what is left behind."""
    found = _failure(run, status)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if found:
        run.log.say(f"{PROGRAM}: step {status.step}: {found.kind.name} (exit status {found.kind.status}): {found.sentence}")
    else:
        run.log.say("nothing was changed" if run.options.dry_run else f"{run.node.name} is a node")
    status.finish(found)
    document = status.document()
    if found and found.kind is not failure.INTERRUPTED:
        report.leave_evidence(run, document)
    with suppress(OSError):
        print(json.dumps({**document, **(planned(run) if run.options.dry_run else {})}, indent=2), flush=True)
    return found.kind.status if found else 0


def _failure(run: Run, status: report.Status) -> Failure | None:
    """What ended the steps before their end, or None."""
    try:
        run.endpoint = status.former_endpoint()
        for step in steps.STEPS:
            if not run.joined or step.of_a_node:
                take(run, status, step)
    except Failure as found:
        return found
    except Exception as error:
        run.log.say("".join(traceback.format_exception(type(error), error, error.__traceback__)))
        where = traceback.extract_tb(error.__traceback__)[-1]
        words = f"{type(error).__name__} in {os.path.basename(where.filename)}:{where.lineno}: {error}"
        return Failure(failure.INTERNAL, f"a defect of {PROGRAM}: {words}. Please report it with the journal of this run.")
    return None


def take(run: Run, status: report.Status, step: steps.Step) -> None:
    run.deadline = run.total.within(step.seconds)
    started = time.monotonic()
    status.begin(step.name)
    try:
        step.do(run)
    except BaseException:
        status.end(step.name, started, "failed")
        raise
    status.end(step.name, started, "done")


@contextmanager
def alone(run: Run) -> Iterator[None]:
    """One bootstrap at a time. A play that was killed leaves its own at work: the next one waits for it, and finds a node."""
    if run.options.dry_run:
        yield
        return
    os.makedirs(os.path.dirname(run.path(LOCK)), mode=0o700, exist_ok=True)
    with open(run.path(LOCK), "w", encoding="utf-8") as stream:

        def look() -> None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                words = f"another {PROGRAM} is at work on this host. Wait for it, or see what it does: journalctl -u {PROGRAM}, fuser -v /{LOCK}"
                raise PendingError(failure.BUSY, words) from None

        run.wait(look)
        yield


def planned(run: Run) -> dict[str, Any]:
    """What a dry run shows beside the status."""
    node = run.node if run.knows_itself else None
    return {
        "labels": dict(node.labels) if node else {},
        "taints": [dict(taint) for taint in node.taints] if node else [],
        "kubelet_configuration": run.kubelet,
        "join_configuration": json.loads(run.log.masked(json.dumps(run.documents))) if run.documents else [],
    }


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise Failure(failure.INTERRUPTED, "ended by SIGTERM. The next start goes on from here.")
