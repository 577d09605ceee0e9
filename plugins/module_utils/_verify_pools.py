# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verify table's lines about what is paid for by the hour: keeper and what it says of the pools, and what stands on their nodes.

PRIVATE to the collection. C(_kubectl.Kubectl) is the only thing that talks to the cluster; everything else works on what it returned, and on keeper's status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _keeper_status as statuses
from ansible_collections.fpga.hybrid.plugins.module_utils import _verify as verify
from ansible_collections.fpga.hybrid.plugins.module_utils._keeper_status import STALE, Pool, Status, counted, lasted, moment, stamp
from ansible_collections.fpga.hybrid.plugins.module_utils._kubectl import Kubectl
from ansible_collections.fpga.hybrid.plugins.module_utils._node_pool import POOL_LABEL
from ansible_collections.fpga.hybrid.plugins.module_utils._verify import Line

Object = Mapping[str, Any]

#: Troubles of keeper as a whole, and of a pool whose launches it cannot stop; others are of one instance, and may be over at its next try.
WHOLE = re.compile(r"aws|kubernetes|disk|account|failures|pool .*")
DAY = 86400
#: Seconds after the autoscaler's unneeded time until an idle instance is worth a word: a scan, its drain and its shutdown.
GRACE = 120
#: cluster-autoscaler/utils/taints/taints.go: on a node that it does not need, with the Unix time since which.
CANDIDATE = "DeletionCandidateOfClusterAutoscaler"
#: Whose objects go on a level further up.
BETWEEN = {"ReplicaSet": "replicasets", "Job": "jobs"}


@dataclass(frozen=True)
class Keeper:
    """status: None where there is none that can be read, and problem says why. running: None where nobody could say."""

    status: Status | None
    problem: str
    running: bool | None


def read(path: str, asked: Callable[[], bool | None]) -> Keeper | None:
    """path: of keeper.json, which names its folder. asked: whether keeper's unit runs. None where keeper is not installed."""
    try:
        with open(path, encoding="utf-8") as stream:
            file = f"{json.load(stream)['state']}/status.json"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Keeper(None, f"{path} cannot be read ({type(error).__name__}: {error})", asked())
    running = asked()
    try:
        with open(file, encoding="utf-8") as stream:
            return Keeper(statuses.parse(stream.read()), "", running)
    except FileNotFoundError:
        return Keeper(None, "has made no pass yet", running)
    except statuses.StatusError as error:
        return Keeper(None, f"{file} {error}", running)
    except (OSError, UnicodeDecodeError) as error:
        return Keeper(None, f"{file} cannot be read ({error})", running)


# --- what keeper says ---------------------------------------------------------------------------------------------


def judge(here: str, keeper: Keeper, now: float) -> list[Line]:
    """All that follows from its status. here: the control plane."""
    lines = [judge_keeper(here, keeper, now)]
    status = keeper.status
    if status is None:
        return lines
    lines += judge_warnings(here, status)
    if status.pools is None:
        lines.append(Line(verify.POOL, here, None, "not told: the keeper that runs is older than this", remedy="Run site.yml."))
    for name, pool in sorted((status.pools or {}).items()):
        lines.append(judge_pool(name, pool))
        lines += judge_failed_joins(name, pool, now)
    if status.today is not None:
        lines.append(Line(verify.TODAY, here, None, f"{status.today}, on {status.today.date} (UTC)"))
    return lines


def judge_keeper(here: str, keeper: Keeper, now: float) -> Line:
    expected = f"runs, and has looked within {STALE / 60:.0f} minutes"
    remedy = (
        f"On {here}: `systemctl status fpga-hybrid-keeper`, `journalctl -u fpga-hybrid-keeper -n 50`; site.yml starts it. Until then no instance is let in."
    )
    status = keeper.status
    if keeper.running is False:
        return Line(verify.KEEPER, here, False, "does not run", expected, remedy=remedy)
    if status is None:
        return Line(verify.KEEPER, here, False, keeper.problem, expected, remedy=remedy)
    age = now - status.looked
    if age > STALE:
        return Line(verify.KEEPER, here, False, f"last looked {lasted(age)} ago", expected, remedy=remedy)
    told = "; ".join(f"{name}: {trouble}" for name, trouble in sorted(status.troubles.items()))
    if any(map(WHOLE.fullmatch, status.troubles)):
        remedy = f"`fpga-hybrid-keeper status` on {here}; docs/runbooks.md. It tries again by itself, and clears nothing away meanwhile."
        return Line(verify.KEEPER, here, False, told, "AWS, cluster and disk do what it asks", remedy=remedy)
    if told:
        return Line(verify.KEEPER, here, None, told, expected, remedy=f"It is tried again at least every minute; `fpga-hybrid-keeper status` on {here}.")
    return Line(verify.KEEPER, here, True, f"runs, looked {lasted(age)} ago", expected)


def judge_warnings(here: str, status: Status) -> list[Line]:
    """But for what a pool's own line says."""
    pauses = [pool.pause.why for pool in (status.pools or {}).values() if pool.pause]
    told = [warning for warning in status.warnings or () if not any(why in warning for why in pauses)]
    return [Line(verify.KEEPER, here, None, warning, remedy=f"docs/runbooks.md; `fpga-hybrid-keeper status` on {here}.") for warning in told]


def judge_pool(name: str, pool: Pool) -> Line:
    expected, pause = "launches when a job waits", pool.pause
    if pause:
        found = f"paused{'' if pause.since is None else f' since {stamp(pause.since)}'}: {pause.why}"
        return Line(verify.POOL, name, False if pause.is_fault else None, found, expected, remedy=pause.remedy(name))
    kept = "".join(f"; {one.instance} is kept for a look until {stamp(one.until)}" for one in pool.kept)
    price = "" if pool.price is None else f", {pool.price:g} an hour each"
    return Line(verify.POOL, name, True, f"launches; {counted(pool.running, 'instance')} there{price}{kept}", expected)


def judge_failed_joins(name: str, pool: Pool, now: float) -> list[Line]:
    remedy = "docs/an-instance-that-does-not-join.md has each exit status."
    return [
        Line(verify.FAILED_JOIN, name, None, f"{one.what}, {lasted(now - one.at)} ago: {one.sentence}", "", one.instance, remedy)
        for one in sorted(pool.failed_joins, key=lambda failed: failed.at, reverse=True)
    ]


# --- what stands on paid nodes ------------------------------------------------------------------------------------


def look(kubectl: Kubectl, here: str, unneeded: int, now: float, own_namespace: str) -> list[Line]:
    """unneeded: seconds after which the autoscaler ends an idle node. own_namespace: whose pods are verify's. Raises KubeError."""
    nodes = {node["metadata"]["name"]: node for node in kubectl.all("nodes", "-l", POOL_LABEL)}
    pods = {
        name: [
            pod for pod in kubectl.all("pods", "--all-namespaces", f"--field-selector=spec.nodeName={name}") if pod["metadata"]["namespace"] != own_namespace
        ]
        for name in nodes
    }
    idle = [line for name, node in sorted(nodes.items()) for line in judge_idle(name, node, pods[name], unneeded, now)]
    old = [line for name in sorted(nodes) for line in judge_old(name, _old(pods[name], now), kubectl, now)]
    there = f"none of {counted(len(nodes), 'instance')}" if nodes else "none: no instance is a node"
    return [*(idle or [Line(verify.IDLE, here, None, there)]), *(old or [Line(verify.OLD_POD, here, None, "none runs for more than a day on an instance")])]


def works(pod: Object) -> bool:
    """Is it what the node is there for? A DaemonSet's pods are on every node, and so are those that the kubelet has from files."""
    if pod["status"].get("phase") in ("Succeeded", "Failed"):
        return False
    return not any(owner["kind"] in ("DaemonSet", "Node") for owner in pod["metadata"].get("ownerReferences", []))


def judge_idle(name: str, node: Object, pods: Sequence[Object], unneeded: int, now: float) -> Iterator[Line]:
    """Since when is known by the autoscaler's mark, or by what has ended there; a pod that was deleted has left no trace."""
    if any(map(works, pods)):
        return
    marked = [taint.get("value", "") for taint in node["spec"].get("taints") or [] if taint["key"] == CANDIDATE]
    ended = [moment(text) for pod in pods for text in _ends(pod)]
    if marked and re.fullmatch(r"\d{1,12}", marked[0]):
        since, how = float(marked[0]), "the autoscaler does not need it for {}"
    elif ended:
        since, how = max(ended), "the last one ended {} ago"
    else:
        since, how = moment(node["metadata"]["creationTimestamp"]), "it is a node for {}"
    if now - since <= unneeded + GRACE:
        return
    remedy = (
        "Does the autoscaler run (`kubectl -n kube-system get configmap cluster-autoscaler-status -o jsonpath='{.data.status}'`)? min_size of its pool keeps "
        f"an instance, and so does annotation cluster-autoscaler.kubernetes.io/scale-down-disabled on Node {name}. docs/cost.md"
    )
    yield Line(verify.IDLE, name, None, f"has no pod but those of DaemonSets; {how.format(lasted(now - since))}", remedy=remedy)


def _ends(pod: Object) -> list[str]:
    found = [container.get("state", {}).get("terminated", {}).get("finishedAt") for container in pod["status"].get("containerStatuses", [])]
    return [text for text in found if text]


def _old(pods: Sequence[Object], now: float) -> list[Object]:
    return [pod for pod in pods if works(pod) and now - begun(pod) > DAY]


def begun(pod: Object) -> float:
    """When its node took it; what it waited for an instance is no time that is paid for."""
    return moment(pod["status"].get("startTime") or pod["metadata"]["creationTimestamp"])


def judge_old(node: str, pods: Sequence[Object], kubectl: Kubectl, now: float) -> Iterator[Line]:
    for pod in pods:
        metadata = pod["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        remedy = (
            f"Is it still wanted? Its instance is paid for until it ends: `kubectl -n {namespace} describe pod {name}`. cluster_fpga_pod_deadline ends what "
            "may end and says no deadline itself; what is restarted always has none."
        )
        yield Line(verify.OLD_POD, node, None, f"runs for {lasted(now - begun(pod))}: {whose(metadata, kubectl)}", "", f"{namespace}/{name}", remedy)


def whose(metadata: Object, kubectl: Kubectl) -> str:
    """Up to the object that somebody has made. Who that was the API does not keep: the namespace has to say."""
    top, namespace = "", metadata["namespace"]
    while owner := next((one for one in metadata.get("ownerReferences", []) if one.get("controller")), None):
        top = f"{owner['kind']} {owner['name']}"
        above = kubectl.get(BETWEEN[owner["kind"]], owner["name"], "-n", namespace) if owner["kind"] in BETWEEN else None
        if above is None:
            break
        metadata = above["metadata"]
    return f"{top or 'a pod by itself'} in namespace {namespace}"
