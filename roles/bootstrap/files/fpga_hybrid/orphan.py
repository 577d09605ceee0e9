# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an instance is nobody's any more: how long its API server has been gone, and what AWS' answers to its ending itself mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._duration import duration
from ansible_collections.fpga.hybrid.plugins.module_utils._node import ORPHAN_TIMEOUT
from fpga_hybrid.aws import AwsError, BadCredentialsError, ClockError, DeniedError, NotFoundError

#: What lies between two looks is not known; of a process that did not run for longer (a machine that stood still), no more than this counts as absence.
LONGEST_STEP = 60.0
#: Seconds between two attempts: at first, at most, and where only somebody else's change can help.
FIRST_PAUSE, LONGEST_PAUSE, RARE_PAUSE = 30.0, 300.0, 600.0
#: Seconds that keeper leaves a failed instance running for a look, out of its group (keep_failed).
KEPT = 7200.0


@dataclass(frozen=True)
class Timeouts:
    """Seconds of absence after which an instance without a job, and one with a job, ends itself."""

    idle: float
    busy: float

    @classmethod
    def of(cls, aws: Mapping[str, Any] | None) -> Timeouts:
        """From section C(aws) of node.json; what an older one does not say is the default."""
        declared = {**ORPHAN_TIMEOUT, **((aws or {}).get("orphan_timeout") or {})}
        return cls(float(declared["idle"]), float(declared["busy"]))

    @property
    def alone(self) -> Timeouts:
        """Of one that no group has: as much longer as somebody may look at it."""
        return Timeouts(self.idle + KEPT, self.busy + KEPT)


class Timer:
    """Seconds for which the API server was seen to be gone at each look, and of these the last ones without a job.

    Only the monotonic clock counts, and only between two looks of one process: neither a clock that is set nor the time of a reboot makes it more.
    One answer begins it anew. What it knows outlives process and machine as a document.
    """

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        self.gone, self.idle = (_seconds((document or {}).get(key)) for key in ("gone", "idle"))
        self._looked: float | None = None

    def look(self, now: float, *, alive: bool, busy: bool) -> None:
        """now: of the monotonic clock."""
        if alive:
            self.gone, self.idle, self._looked = 0.0, 0.0, None
            return
        step = 0.0 if self._looked is None else min(max(0.0, now - self._looked), LONGEST_STEP)
        self.gone += step
        # A job that has just ended would be done again, if its instance went before its end could be told: it waits for as long as any idle one.
        self.idle = 0.0 if busy else self.idle + step
        self._looked = now

    def is_over(self, timeouts: Timeouts) -> bool:
        return self.idle >= timeouts.idle or self.gone >= timeouts.busy

    def document(self) -> dict[str, float]:
        return {"gone": round(self.gone, 1), "idle": round(self.idle, 1)}


def _seconds(value: object) -> float:
    """A file that was damaged counts for nothing."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf") else 0.0


@dataclass(frozen=True)
class Refusal:
    """Why an instance could not end itself, and seconds until it tries again.

    One that a group has, or may have, never powers itself off: its group would put another in its place.
    """

    sentence: str
    pause: float


def may_have_no_group(error: AwsError) -> bool:
    """The right to end itself is one on its group: of none, AWS may say that it is not allowed before it says that there is none."""
    return isinstance(error, (NotFoundError, DeniedError))


def refusal(error: AwsError, attempt: int) -> Refusal:
    """attempt: counted from 1."""
    if "min size" in error.message:
        # Without the decrement its group would start another, which nobody enrols: the same bill, and a launch more in each orphan time.
        remedy = "It goes on running, since its pool's min_size asks for that many: lower min_size (pools.yml), and it ends itself."
        return Refusal(f"{error}. {remedy}", RARE_PAUSE)
    if isinstance(error, NotFoundError):
        # Already on its way out; or started by hand, or taken out of its group for a look, by keeper or by a person.
        return Refusal(f"{error}. No group has it, which may be for somebody to look at it: it powers itself off {duration(int(KEPT))} after that.", RARE_PAUSE)
    if isinstance(error, (DeniedError, BadCredentialsError, ClockError)):
        remedy = "See the policy of the instances' role (playbook iam.yml writes it), and end this one yourself (aws autoscaling"
        command = "terminate-instance-in-auto-scaling-group --should-decrement-desired-capacity)."
        return Refusal(f"{error}. {remedy} {command}", LONGEST_PAUSE)
    return Refusal(f"{error}.", min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 10)))
