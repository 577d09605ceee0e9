# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tutorial's evaluation as steps, each of which waits for what has to happen, fails with what happened instead, and tells it with times.

Two jobs want the same accelerator. The first finds an idle board on-prem; the second finds none, and makes an instance appear, join, run it, and go away.
C(Kubectl) is the only thing that talks to the cluster. What one step has learned the next one gets: C(Story) is plain data.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._fpga_selftest import RESTRICTED, restricted, why
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl, KubeError
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import POOL_LABEL
from ansible_collections.fpga.hybrid.plugins.module_utils._ready import conditions, is_true
from ansible_collections.fpga.hybrid.plugins.module_utils.node_template import STARTUP_TAINT

Object = dict[str, Any]

NAMESPACE = "fpga-hybrid-evaluation"
FIRST, SECOND = "job-1", "job-2"
SCALE_UP = re.compile(r"pod triggered scale-up: \[(?P<groups>.*)\]")
GROUP = re.compile(r"\{(?P<group>\S+) (?P<before>\d+)->(?P<after>\d+)")
#: Seconds between two looks.
PAUSE = 0.5
HELP = "docs/when-a-job-stays-pending.md leads from here to the cause."
#: Of a job's log so many lines are told.
LINES = 8


class EvaluationError(Exception):
    """The story went otherwise; the text says what was found, what was expected, and where to look."""


@dataclass(frozen=True)
class Plan:
    """What is wanted. promises: pool -> copies of the resource that one of its nodes gives. groups: pool -> name of its Auto Scaling group."""

    resource: str
    copies: int
    promises: Mapping[str, int]
    groups: Mapping[str, str]
    image: str
    arguments: Sequence[str] = ()
    seconds: Mapping[str, int] = field(default_factory=lambda: {FIRST: 90, SECOND: 60})
    #: Seconds for an instance to come, and for anything else.
    patience: float = 900.0

    @property
    def expected_pools(self) -> list[str]:
        """The smallest pools, mostly one, whose node alone can run the job. Raises EvaluationError."""
        fitting = {pool: copies for pool, copies in self.promises.items() if copies >= self.copies}
        if not fitting:
            told = ", ".join(f"{pool} {copies}" for pool, copies in self.promises.items()) or "no pool"
            raise EvaluationError(
                f"cluster_node_pools: found {told} of {self.resource} on one node; expected a pool with {self.copies}. "
                "Declare one, and run pools.yml and site.yml."
            )
        return [pool for pool, copies in fitting.items() if copies == min(fitting.values())]


@dataclass
class Story:
    """What is known so far. Times are seconds since the epoch, by the API server's clock where it tells them, else by this host's.

    on_prem: by what each node is known again. pools: any of which the autoscaler may choose, until it has chosen one. pods: of each job uid, node,
    start and end. told: every line of every step.
    """

    begun: float = 0.0
    on_prem: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    pools: list[str] = field(default_factory=list)
    node: str = ""
    times: dict[str, float] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    @classmethod
    def restore(cls, known: Mapping[str, Any]) -> Story:
        return cls(**known)

    def keep(self) -> dict[str, Any]:
        return asdict(self)


def moment(text: str) -> float:
    """Of a timestamp as the API has it."""
    return datetime.strptime(text.split(".", maxsplit=1)[0].rstrip("Z"), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()


def gives(node: Object, resource: str) -> int:
    return int(node["status"].get("allocatable", {}).get(resource, 0))


def ready(node: Object) -> bool:
    return is_true(conditions(node), "Ready")


def is_instance(node: Object) -> bool:
    return POOL_LABEL in node["metadata"].get("labels", {})


def asks(pod: Object, resource: str) -> int:
    """What its containers hold together; init containers ask for no accelerator here."""
    return sum(int(one.get("resources", {}).get("requests", {}).get(resource, 0)) for one in pod["spec"]["containers"])


def free(node: Object, pods: Sequence[Object], resource: str) -> int:
    """What the node can still give to a pod."""
    name = node["metadata"]["name"]
    there = [pod for pod in pods if pod["spec"].get("nodeName") == name and pod["status"].get("phase") not in ("Succeeded", "Failed")]
    return gives(node, resource) - sum(asks(pod, resource) for pod in there)


def boards(node: Object, resource: str) -> dict[str, str]:
    """What of its allocatable comes from FPGAs: the accelerator and whole boards. What a board was once published as stays there, as 0."""
    found = sorted(node["status"].get("allocatable", {}).items())
    return {name: value for name, value in found if (name == resource or name.startswith("xilinx/")) and value != "0"}


def remembered(node: Object, resource: str) -> dict[str, Any]:
    """By what a node is known again as the same, and untouched."""
    return {"uid": node["metadata"]["uid"], "boards": boards(node, resource), "unschedulable": bool(node["spec"].get("unschedulable"))}


def started(pod: Object) -> float | None:
    """When its container began to run, or None."""
    for status in pod["status"].get("containerStatuses", []):
        for kind in ("running", "terminated"):
            if at := status.get("state", {}).get(kind, {}).get("startedAt"):
                return moment(at)
    return None


def scale_ups(events: Sequence[Object]) -> list[tuple[str, int, int]]:
    """(group, size before, size after) of what the autoscaler says that it did for a pod."""
    found = [SCALE_UP.search(event.get("message") or event.get("note") or "") for event in events]
    return [(one["group"], int(one["before"]), int(one["after"])) for match in found if match for one in GROUP.finditer(match["groups"])]


def job(name: str, plan: Plan) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": plan.image,
        "args": list(plan.arguments),
        "env": [{"name": "EVALUATION_SECONDS", "value": str(plan.seconds[name])}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {plan.resource: str(plan.copies)}},
        "securityContext": RESTRICTED,
    }
    pod = {"restartPolicy": "Never", "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1, "containers": [container]}
    # No second try: a job that was lost has to be seen.
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


class Evaluation:
    """The steps. keeper: what keeper says of an instance (its phase), or None if it says nothing. It calls one gone that has no certificate any more."""

    def __init__(
        self,
        kubectl: Kubectl,
        plan: Plan,
        story: Story,
        keeper: Callable[[str], str | None] = lambda _instance: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.kubectl, self.plan, self.story = kubectl, plan, story
        self._keeper, self._sleep, self._clock = keeper, sleep, clock
        self.told: list[str] = []

    def do(self, step: str) -> None:
        """Raises EvaluationError and KubeError."""
        STEPS[step](self)

    # --- steps

    def site(self) -> None:
        """Who is there before anything happens, and whether the story can be told there."""
        plan, story = self.plan, self.story
        pools = plan.expected_pools
        self._clear()
        nodes, pods = self.kubectl.all("nodes"), self.kubectl.all("pods", "--all-namespaces")
        if there := [node["metadata"]["name"] for node in nodes if is_instance(node)]:
            raise EvaluationError(f"Found nodes of the pools: {', '.join(there)}; expected none. The autoscaler ends idle ones by itself; wait until it has.")
        taking = [node for node in nodes if ready(node) and not node["spec"].get("unschedulable") and gives(node, plan.resource)]
        able = {node["metadata"]["name"]: free(node, pods, plan.resource) for node in taking}
        fitting = [name for name, copies in able.items() if copies >= plan.copies]
        if not fitting or sum(copies // plan.copies for copies in able.values()) > 1:
            told = ", ".join(f"{name} {copies}" for name, copies in able.items()) or "none"
            raise EvaluationError(
                f"Free of {plan.resource} on-prem: {told}; expected {plan.copies} on one node and room for one such job in all: the second is to find none. "
                "fpga_publish says what a host gives of its boards; other jobs must have ended, and a cordoned node takes none."
            )
        story.begun = self._clock()
        story.on_prem = {node["metadata"]["name"]: remembered(node, plan.resource) for node in nodes}
        story.pools = pools
        for name, node in story.on_prem.items():
            if node["boards"]:
                self._tell(f"{name} is on-prem and gives {', '.join(f'{count} {what}' for what, count in node['boards'].items())}; all of it is free")
        told = ", ".join(f"{one} {copies}" for one, copies in plan.promises.items())
        self._tell(f"a node of the pools would give of {plan.resource}: {told}; none is there")

    def first(self) -> None:
        self._submit(FIRST)
        pod = self._running(FIRST, self.plan.patience)
        node = pod["spec"]["nodeName"]
        if node not in self.story.on_prem:
            raise EvaluationError(f"{FIRST} runs on {node}; expected the on-prem board, which was free. {HELP}")
        self._tell(f"{FIRST} asks for {self.plan.copies} of {self.plan.resource} and runs on {node}, {self._since(FIRST, started(pod))} after it was made")

    def second(self) -> None:
        self._submit(SECOND)

        def unschedulable() -> str | None:
            pod = self._pod(SECOND)
            if pod and pod["spec"].get("nodeName"):
                raise EvaluationError(f"{SECOND} was given to {pod['spec']['nodeName']}; expected that it finds no place while {FIRST} runs.")
            said = conditions(pod) if pod else []
            return next((one["message"] for one in said if one["type"] == "PodScheduled" and one.get("reason") == "Unschedulable"), None)

        message = self._wait(unschedulable, 60, f"{SECOND} being told that there is no place for it")
        if self.plan.resource not in message:
            raise EvaluationError(f"{SECOND} waits because of: {message}; expected Insufficient {self.plan.resource}. {HELP}")
        self._tell(f"{SECOND} asks for {self.plan.copies} more and is pending: {message}")

    def scale_up(self) -> None:
        story, groups = self.story, {group: pool for pool, group in self.plan.groups.items()}

        def chosen() -> list[tuple[str, int, int]] | None:
            return scale_ups(self._events(SECOND)) or None

        ups = self._wait(chosen, self.plan.patience, "the autoscaler starting an instance", lambda: self._why(SECOND))
        where = [groups.get(group, group) for group, _before, _after in ups]
        more = sum(after - before for _group, before, after in ups)
        if len(where) != 1 or where[0] not in story.pools or more != 1:
            told = ", ".join(f"{group} {before}->{after}" for group, before, after in ups)
            raise EvaluationError(
                f"The autoscaler did {told}; expected one instance of {' or '.join(story.pools)}, the smallest that gives {self.plan.copies}."
            )
        story.pools = where
        too_small = [f"{pool}, which gives {copies}" for pool, copies in self.plan.promises.items() if copies < self.plan.copies]
        story.times["scale_up"] = self._clock()
        instead = f", not of {' or '.join(too_small)}" if too_small else ""
        self._tell(f"{self._autoscaler()} starts an instance of {where[0]}{instead}, {self._since(SECOND)} after")

    def joined(self) -> None:
        """The node is there, has all that was promised, and takes pods."""
        story, resource = self.story, self.plan.resource

        def takes_pods() -> Object | None:
            found = self._instances()
            if len(found) > 1:
                raise EvaluationError(f"Found nodes {', '.join(one['metadata']['name'] for one in found)}; expected one: an instance too many is paid for.")
            startup = {taint["key"] for node in found for taint in node["spec"].get("taints", [])} & {STARTUP_TAINT.key}
            return found[0] if found and ready(found[0]) and not startup else None

        node = self._wait(takes_pods, self.plan.patience, "the instance's node taking pods", lambda: self._why(SECOND))
        name, pool = node["metadata"]["name"], node["metadata"]["labels"][POOL_LABEL]
        if [pool] != story.pools:
            raise EvaluationError(f"Node {name} is of pool {pool}; expected {story.pools[0]}.")
        if gives(node, resource) != self.plan.promises[pool]:
            raise EvaluationError(f"Node {name} gives {gives(node, resource)} of {resource}; its pool promises {self.plan.promises[pool]}.")
        story.node = name
        provider = node["spec"].get("providerID", "none")
        registered = self._since(SECOND, moment(node["metadata"]["creationTimestamp"]))
        self._tell(f"{name} has joined by itself as {provider}: registered {registered} after, and takes pods")

    def running(self) -> None:
        pod = self._running(SECOND, self.plan.patience)
        if pod["spec"]["nodeName"] != self.story.node:
            raise EvaluationError(f"{SECOND} runs on {pod['spec']['nodeName']}; expected {self.story.node}.")
        self._tell(f"{SECOND} runs on {self.story.node}, {self._since(SECOND, started(pod))} after it was made")

    def first_ends(self) -> None:
        def second_is_there() -> None:
            self._same_instance()
            self._pod(SECOND)

        ended = self._ended(FIRST, second_is_there)
        if self._phase(SECOND) != "Running":
            raise EvaluationError(
                f"{SECOND} is {self._phase(SECOND)} when {FIRST} ends; expected Running. If it had not begun or had ended, evaluation_seconds is too short for "
                f"how long instances take; else it was lost: {self._why(SECOND)}"
            )
        node = self.story.pods[FIRST]["node"]
        self._tell(f"{FIRST} has ended after {ended:.0f} s; {node}'s board is free again, and {SECOND} runs on where it is")

    def second_ends(self) -> None:
        """Untouched: the same pod from its first second to its last, although there is room for it on-prem now."""
        ended = self._ended(SECOND, self._same_instance)
        self.story.times["idle"] = self._clock()
        self._tell(f"{SECOND} has ended after {ended:.0f} s, in the pod that it began in")

    def gone(self) -> None:
        story, name = self.story, self.story.node

        def has_gone() -> bool:
            self._same_instance()
            return not self._instances() and self._keeper(name) == "gone"

        def what_is_left() -> str:
            nodes = ", ".join(node["metadata"]["name"] for node in self._instances()) or "no node"
            return f"there is {nodes}; keeper's status says of {name}: {self._keeper(name) or 'nothing'}"

        self._wait(has_gone, self.plan.patience, f"{name} going away with all that belongs to it", what_is_left)
        story.times["gone"] = self._clock()
        seconds = story.times["gone"] - story.times["idle"]
        self._tell(f"{name} was idle and has gone, Node object, VPN certificate and all, {seconds:.0f} s after {SECOND} ended")
        there = {node["metadata"]["name"]: remembered(node, self.plan.resource) for node in self.kubectl.all("nodes")}
        if there != story.on_prem:
            differing = sorted(one for one in {*there, *story.on_prem} if there.get(one) != story.on_prem.get(one))
            raise EvaluationError(f"On-prem nodes differ from before: {', '.join(differing)}: found {there}, expected {story.on_prem}.")
        self._tell("the on-prem nodes are as they were")

    def clean(self) -> None:
        """Takes the jobs away."""
        self._clear()

    # --- what they are made of

    def _tell(self, text: str) -> None:
        self._add(f"{self._clock() - self.story.begun:4.0f} s  {text}")

    def _add(self, line: str) -> None:
        self.told.append(line)
        self.story.told.append(line)

    def _since(self, name: str, until: float | None = None) -> str:
        # the API server's clock has whole seconds
        return f"{max(0.0, (self._clock() if until is None else until) - self.story.times[f'{name} made']):.0f} s"

    def _clear(self) -> None:
        self.kubectl.call("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true", "--timeout=60s")

    def _submit(self, name: str) -> None:
        items = [restricted(NAMESPACE)] if self.kubectl.get("namespace", NAMESPACE) is None else []
        self.kubectl.call("create", "-f", "-", data=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*items, job(name, self.plan)]}))
        (made,) = self.kubectl.all("job", name, "-n", NAMESPACE)
        self.story.times[f"{name} made"] = moment(made["metadata"]["creationTimestamp"])

    def _pods(self, name: str) -> list[Object]:
        return self.kubectl.all("pods", "-n", NAMESPACE, "-l", f"batch.kubernetes.io/job-name={name}")

    def _pod(self, name: str) -> Object | None:
        """The job's only pod. A second one means that the first was lost."""
        pods = self._pods(name)
        known = self.story.pods.get(name, {}).get("uid")
        if len(pods) > 1 or (known and [pod["metadata"]["uid"] for pod in pods] != [known]):
            names = ", ".join(pod["metadata"]["name"] for pod in pods) or "none"
            raise EvaluationError(f"{name}: found pods {names}; expected the one that it began in. It was lost and begun anew.")
        return pods[0] if pods else None

    def _phase(self, name: str) -> str:
        pod = self._pod(name)
        return pod["status"].get("phase", "unknown") if pod else "gone"

    def _why(self, name: str) -> str:
        pods = self._pods(name)
        events = [event for event in self._events(name) if event.get("reason") != "FailedScheduling"]  # which the pod's condition says, too
        said = [event.get("message") or event.get("note") or "" for event in events][-3:]
        return "; ".join(dict.fromkeys(text for text in [*(why(pod) for pod in pods), *said] if text)) or "nothing is said of it"

    def _events(self, name: str) -> list[Object]:
        found = []
        for pod in self._pods(name):
            found += self.kubectl.all("events", "-n", NAMESPACE, "--field-selector", f"involvedObject.uid={pod['metadata']['uid']}")
        return found

    def _instances(self) -> list[Object]:
        return [node for node in self.kubectl.all("nodes") if is_instance(node)]

    def _same_instance(self) -> None:
        """As long as the story lasts no other node comes."""
        others = [node["metadata"]["name"] for node in self._instances() if node["metadata"]["name"] != self.story.node]
        if others:
            raise EvaluationError(f"Found nodes {', '.join(others)} beside {self.story.node}; expected no other instance: it is paid for, and nobody needs it.")

    def _autoscaler(self) -> str:
        """By its image, which tells a stand-in."""
        pods = self.kubectl.all("pods", "-n", "kube-system")
        images = {one["image"] for pod in pods for one in pod["spec"]["containers"] if "cluster-autoscaler" in one["image"]}
        return f"the autoscaler ({', '.join(sorted(images)) or 'whose image is not seen here'})"

    def _running(self, name: str, seconds: float) -> Object:
        def runs() -> Object | None:
            pod = self._pod(name)
            if pod and pod["status"].get("phase") == "Failed":
                raise EvaluationError(f"{name} has failed: {why(pod) or self._log(name)}")
            return pod if pod and started(pod) else None

        pod: Object = self._wait(runs, seconds, f"{name} running", lambda: self._why(name))
        at = started(pod)
        self.story.pods[name] = {"uid": pod["metadata"]["uid"], "node": pod["spec"]["nodeName"], "started": at}
        return pod

    def _ended(self, name: str, meanwhile: Callable[[], None]) -> float:
        """Seconds that its pod ran."""

        def succeeded() -> Object | None:
            meanwhile()
            pod = self._pod(name)
            if pod is None or pod["status"].get("phase") == "Failed" or pod["metadata"].get("deletionTimestamp"):
                raise EvaluationError(f"{name} was lost: {(why(pod) if pod else 'its pod is gone') or self._log(name)}")
            return pod if pod["status"].get("phase") == "Succeeded" else None

        pod = self._wait(succeeded, self.plan.seconds[name] + 120, f"{name} ending well", lambda: self._why(name))
        for line in self._log(name).splitlines()[:LINES]:
            self._add(f"        {name}: {line}")
        known = self.story.pods[name]
        known["finished"] = moment(pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"])
        return float(known["finished"] - known["started"])

    def _log(self, name: str) -> str:
        try:
            return self.kubectl.call("logs", "-n", NAMESPACE, f"job/{name}", f"--tail={LINES}").strip()
        except KubeError as error:
            return str(error)

    def _wait(self, look: Callable[[], Any], seconds: float, what: str, found: Callable[[], str] = lambda: "") -> Any:
        """What look returns once that is something."""
        end = self._clock() + seconds
        while True:
            value = look()
            if value:
                return value
            if self._clock() > end:
                raise EvaluationError(f"Expected {what} within {seconds:.0f} s. Found: {found() or 'nothing of it'}. {HELP}")
            self._sleep(PAUSE)


STEPS: dict[str, Callable[[Evaluation], None]] = {
    "site": Evaluation.site,
    "first": Evaluation.first,
    "second": Evaluation.second,
    "scale_up": Evaluation.scale_up,
    "joined": Evaluation.joined,
    "running": Evaluation.running,
    "first_ends": Evaluation.first_ends,
    "second_ends": Evaluation.second_ends,
    "gone": Evaluation.gone,
    "clean": Evaluation.clean,
}
