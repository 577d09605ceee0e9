# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EC2 wants a spot instance back: what is done in the two minutes between its notice and the end.

Source: EC2 User Guide, "Spot Instance interruption notices" (spot/instance-action: 404, or the action and its time).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from fpga_hybrid import pods
from fpga_hybrid.kube import Api, KubeError, NotFoundError

ACTION = "/latest/meta-data/spot/instance-action"
#: One of EC2's actions; the others are stop and hibernate.
TERMINATE = "terminate"
#: Says only that a notice has become likelier. Moving a job for that could be for nothing.
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
#: Seconds from a notice to the end.
WARNING = 120.0
#: Seconds before the end at which a pod is left where it is: what begins then does not end in time.
TOO_LATE = 30.0


@dataclass(frozen=True)
class Notice:
    """action: terminate, stop or hibernate. at: AWS' text."""

    action: str
    at: str

    @classmethod
    def of(cls, text: str) -> Notice:
        """A notice that cannot be read is one all the same."""
        try:
            document = json.loads(text)
            return cls(str(document["action"]), str(document["time"]))
        except (ValueError, KeyError, TypeError):
            return cls(TERMINATE, "")

    def seconds(self, now: datetime) -> float:
        """What is left. More than AWS ever gives, or nothing, is a wrong clock: then all of it, from now on."""
        try:
            left = (datetime.fromisoformat(self.at.replace("Z", "+00:00")).astimezone(timezone.utc) - now).total_seconds()
        except ValueError:
            return WARNING
        return left if 0 < left <= WARNING else WARNING


class Interruption:
    """Cordon, then evict, a step at a time: whoever calls has more to do. A PodDisruptionBudget that says no is asked again until it is too late.

    What becomes of an evicted pod is Kubernetes' affair: a Job or Deployment makes another, elsewhere.
    """

    def __init__(self, notice: Notice, node: str, end: float, say: Callable[[str], None]) -> None:
        """end: when it goes, by the monotonic clock."""
        self.notice, self._node, self._end, self._say = notice, node, end, say
        self._cordoned = self._is_late = False
        self._evicted: set[str] = set()
        self._last_words: dict[str, str] = {}
        #: Its end has come. is_clear: the last look found no pod here that is not the host's own, not even one on its way out.
        self.is_done = False
        self.is_clear = False

    def step(self, api: Api, now: float) -> None:
        if self.is_done:
            return
        try:
            if not self._cordoned:
                api.merge_patch(f"/api/v1/nodes/{self._node}", {"spec": {"unschedulable": True}})
                self._cordoned = True
                self._say(f"cordoned Node {self._node}")
            here = [pod for pod in api.pods_of(self._node) if not pods.belongs_to_the_host(pod) and not pods.is_over(pod)]
            self.is_clear = not here
            waiting = [pod for pod in here if not pods.is_leaving(pod)]
        except KubeError as error:
            self._repeat("the API server", str(error))
            waiting = []
        left = self._end - now
        if left > TOO_LATE:
            for pod in waiting:
                self._evict(api, pod, left)
        elif not self._is_late:
            # From now on it is only seen whether those that were told go in time.
            self._is_late = True
            for pod in waiting:
                if _uid(pod) not in self._evicted:
                    self._say(f"left {_name(pod)} where it is: {self._last_words.get(_name(pod), 'there is no time to evict it')}")
        self.is_done = left <= 0

    def _evict(self, api: Api, pod: Mapping[str, Any], left: float) -> None:
        name, uid = _name(pod), _uid(pod)
        if uid in self._evicted:
            return
        own = (pod.get("spec") or {}).get("terminationGracePeriodSeconds")
        # A pod that takes longer would be ended by the power: so it is told, and in time.
        grace = int(left - TOO_LATE / 2)
        try:
            api.evict(pod["metadata"]["namespace"], pod["metadata"]["name"], uid, grace if isinstance(own, int) and own > grace else None)
        except NotFoundError:
            pass
        except KubeError as error:
            self._repeat(name, str(error))
            return
        self._evicted.add(uid)
        self._say(f"evicted {name}")

    def _repeat(self, name: str, words: str) -> None:
        """Says it when it is new."""
        if self._last_words.get(name) != words:
            self._last_words[name] = words
            self._say(f"waiting: {name}: {words}")


def _name(pod: Mapping[str, Any]) -> str:
    return f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _uid(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("uid") or "")
