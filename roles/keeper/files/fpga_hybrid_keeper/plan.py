# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done, from what was seen and what is on record. Pure: asks nobody, changes nothing.

    plan = make_plan(world, record, rules, now)
    record = plan.record                  # what was seen this time is remembered first
    for action in plan.actions: ...       # begun(record, action), do it, done(record, action)

The rules that never bend: an id is enrolled once; nothing is done to a node that is not on record with its provider ID; nothing is cleared away on the
word of somebody who could not be asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, Union

from ansible_collections.fpga.hybrid.plugins.module_utils._labels import Taint, is_extended_resource
from ansible_collections.fpga.hybrid.plugins.module_utils._quantity import Quantity, QuantityError
from fpga_hybrid.orphan import KEPT

CLUSTER_ID_TAG, POOL_TAG, OWNED_PREFIX = "fpga.hybrid/cluster-id", "fpga.hybrid/pool", "k8s.io/cluster-autoscaler/"
#: As nodes register with it (node.json), and as the autoscaler knows it.
STARTUP_TAINT = Taint("startup-taint.cluster-autoscaler.kubernetes.io/fpga", "", "NoSchedule")

#: EC2's states of an instance that is there, or on its way in.
LIVE = ("pending", "running")
TERMINATED = "terminated"

# --- what was seen ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """An Auto Scaling group that carries the cluster's id. owned: whether it carries the autoscaler's mark, too.

    promise: resource -> quantity, from the tags by which the autoscaler makes its template. suspended: whether its process Launch is.
    instances: those that are to stay. ending: those that it ends, which may still run.
    """

    name: str
    pool: str
    owned: bool
    promise: Mapping[str, str] = field(default_factory=dict)
    instances: frozenset[str] = frozenset()
    suspended: bool = False
    ending: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Instance:
    """group: the one that EC2 says has started it, empty where none has. launched: when (Unix time), 0 where EC2 does not say.

    reason: the code of why it is in its state, as EC2 has it of one that ends.
    """

    id: str
    state: str
    zone: str
    arn: str
    group: str = ""
    cluster_id: str = ""
    launched: float = 0.0
    reason: str = ""

    @property
    def provider_id(self) -> str:
        return provider_id(self.zone, self.id)


@dataclass(frozen=True)
class Cloud:
    """One look at AWS, whole. asked: the ids that were asked for by their names; what is missing among the answers is not there.

    left: instances of which there is a failure parameter, whatever became of them, and that were asked for because of it; empty where nobody looked for any.
    """

    account: str
    region: str
    groups: Mapping[str, Group] = field(default_factory=dict)
    instances: Mapping[str, Instance] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Node:
    """ready_since: by the clock of its kubelet (Unix time), None where it is not ready, or does not say.

    network: whether the pods' network says that it is up there; None where it says nothing.
    """

    name: str
    provider_id: str | None
    ready: bool
    taints: tuple[Taint, ...] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    network: bool | None = None
    ready_since: float | None = None


@dataclass(frozen=True)
class World:
    """cloud, nodes: None where nobody was asked, or nobody has answered."""

    cloud: Cloud | None = None
    nodes: Mapping[str, Node] | None = None


def provider_id(zone: str, instance_id: str) -> str:
    """As the kubelet has it, and as the autoscaler compares it, as a whole."""
    return f"aws:///{zone}/{instance_id}"


# --- what is on record ------------------------------------------------------------------------------------------------------------------

#: Of an entry. seen: an instance that may not be ours. enrolling: begun, and to be ended, also after a crash. lapsed: its bundle came to its end unused.
SEEN, ENROLLING, ENROLLED, LAPSED, JOINED, REFUSED, GONE = "seen", "enrolling", "enrolled", "lapsed", "joined", "refused", "gone"
PHASES = (SEEN, ENROLLING, ENROLLED, LAPSED, JOINED, REFUSED, GONE)
CERTIFIED = (ENROLLING, ENROLLED, LAPSED, JOINED)


@dataclass(frozen=True)
class Entry:
    """An instance that was met. since: when its phase began (Unix time). secret: whether its parameter, and its token, may still be there.

    absent: how often in a row AWS has said that there is no such instance any more; absent_since: when it first did.
    complete: whether its node has given what the template promised.
    """

    phase: str
    since: float
    zone: str = ""
    arn: str = ""
    pool: str = ""
    promise: Mapping[str, str] = field(default_factory=dict)
    vpn_address: str = ""
    reason: str = ""
    secret: bool = False
    tagged: bool = False
    complete: bool = False
    absent: int = 0
    absent_since: float = 0.0

    @property
    def is_live(self) -> bool:
        return self.phase != GONE

    @property
    def has_certificate(self) -> bool:
        return self.phase in CERTIFIED


@dataclass(frozen=True)
class FailedJoin:
    """Of an instance. at: when it became known (Unix time). state, kind, status, sentence: as its failure parameter has them (brakes.py)."""

    pool: str
    at: float
    state: str
    kind: str
    status: int | None
    sentence: str


@dataclass(frozen=True)
class Life:
    """What an instance has cost: from its launch to its end, 0 before that. seen: until when it is known to have run, 0 as long as no look misses it."""

    pool: str
    start: float
    end: float = 0.0
    seen: float = 0.0


@dataclass(frozen=True)
class Brake:
    """Of a group: why its process Launch is suspended (brakes.py). firm: only a person lifts it, or that all have joined after all that it was set for.

    set_at: when it was suspended, 0 while that has only begun. lifting: keeper's own resumption has begun. lifted_at: when keeper has resumed it, 0 before.
    missed: since when no look has shown its group, 0 while the last one did. failed: the instances that a firm one was set for, or that failed since.
    """

    pool: str
    kind: str
    why: str
    since: float
    firm: bool = True
    set_at: float = 0.0
    lifting: bool = False
    lifted_at: float = 0.0
    missed: float = 0.0
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """A failed instance that is left running for a look. settled: whether all that belongs to it was done."""

    pool: str
    group: str
    until: float
    settled: bool = False


@dataclass(frozen=True)
class Record:
    """account, region: where the instances on record live; empty before there was one.

    failed, lives, kept: by instance; brakes: by group; resumed: group -> when somebody has lifted its brake or suspension, or it went with the group.
    proven: pool -> when an instance of it last came to give what was promised. by_hand: group -> when it was first seen to be suspended by somebody else.
    """

    account: str = ""
    region: str = ""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    failed: Mapping[str, FailedJoin] = field(default_factory=dict)
    lives: Mapping[str, Life] = field(default_factory=dict)
    brakes: Mapping[str, Brake] = field(default_factory=dict)
    resumed: Mapping[str, float] = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)
    proven: Mapping[str, float] = field(default_factory=dict)
    by_hand: Mapping[str, float] = field(default_factory=dict)

    @property
    def live(self) -> dict[str, Entry]:
        return {name: entry for name, entry in self.entries.items() if entry.is_live}

    def with_entry(self, instance_id: str, entry: Entry) -> Record:
        return replace(self, entries={**self.entries, instance_id: entry})


@dataclass(frozen=True)
class Rules:
    """grace: seconds between the first and the last sighting of what is acted upon at the second one. lifetime: seconds of a bundle's token.

    network_told: whether the pods' network sets the node's condition NetworkUnavailable. Before that is False a pod is refused its network, and tried again
    a quarter of a minute later.
    most, window: so many failed joins of a pool within so many seconds, or in a row, are too many; most 0: no such brake. instances, hours: the cluster's
    ceilings, None: no ceiling.
    remembered: seconds that one that has gone, and a failed join, are on record.
    keep: pool -> how many of its failed instances are left running at a time, each for kept seconds.
    """

    cluster_id: str
    cluster_name: str
    grace: float = 20.0
    lifetime: float = 1800.0
    remembered: float = 7 * 86400.0
    enrolments: int = 20
    network_told: bool = False
    most: int = 3
    window: float = 3600.0
    instances: int | None = None
    hours: float | None = None
    keep: Mapping[str, int] = field(default_factory=dict)
    kept: float = KEPT

    @property
    def owned_tag(self) -> str:
        return f"{OWNED_PREFIX}{self.cluster_name}"


# --- what is to be done -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Enrol:
    """Certificate, address, token; all of it into the instance's parameter. again: begun by a run that did not get to its end."""

    instance: str
    pool: str
    zone: str
    arn: str
    promise: Mapping[str, str]
    again: bool = False


@dataclass(frozen=True)
class Refuse:
    """Into the instance's parameter goes, instead of a bundle, why it gets none."""

    instance: str
    arn: str
    reason: str


@dataclass(frozen=True)
class Forget:
    """Parameter and token have done their work, or have come to their end."""

    instance: str


@dataclass(frozen=True)
class TellAddress:
    """The tag that the inventory reads."""

    instance: str
    address: str


@dataclass(frozen=True)
class LiftTaint:
    instance: str
    node: Node


@dataclass(frozen=True)
class SetTaint:
    """On a node that has registered without it and does not give yet what its template promises."""

    instance: str
    node: Node


@dataclass(frozen=True)
class Reap:
    """node: the Node object that goes; None where there is none. certificate, secret: whether there may be one."""

    instance: str
    node: Node | None
    certificate: bool
    secret: bool


@dataclass(frozen=True)
class Suspend:
    """Process Launch of a group. The only thing that a brake does."""

    group: str
    brake: Brake

    @property
    def instance(self) -> str:
        return f"pool {self.brake.pool}"


@dataclass(frozen=True)
class Resume:
    group: str
    pool: str

    @property
    def instance(self) -> str:
        return f"pool {self.pool}"


@dataclass(frozen=True)
class Keep:
    """Out of its group, so that nobody ends it or waits for it, and out of the VPN."""

    instance: str
    kept: Kept


@dataclass(frozen=True)
class End:
    """Of one that was kept, when its time has come."""

    instance: str


Action = Union[Enrol, Refuse, Forget, TellAddress, LiftTaint, SetTaint, Reap, Suspend, Resume, Keep, End]


@dataclass(frozen=True)
class Plan:
    """record: with what was seen this time. notes: instance -> what keeps it from being what it should."""

    actions: tuple[Action, ...]
    record: Record
    notes: Mapping[str, str]


def make_plan(world: World, record: Record, rules: Rules, now: float) -> Plan:
    return _Planner(world, not_ahead(record, rules, now), rules, now).plan()


T = TypeVar("T", Entry, FailedJoin, Life, Brake, Kept)


def not_ahead(record: Record, rules: Rules, now: float) -> Record:
    """Without moments that are yet to come, as of a clock that was ahead and has been set back: what has just been would be just so for the whole jump."""
    parts: dict[str, Any] = {part: _none_ahead(getattr(record, part), now) for part in ("entries", "failed", "lives", "brakes")}
    kept = _none_ahead(record.kept, now + rules.kept)
    moments = ({name: min(moment, now) for name, moment in one.items()} for one in (record.resumed, record.proven, record.by_hand))
    resumed, proven, by_hand = moments
    return replace(record, **parts, kept=kept, resumed=resumed, proven=proven, by_hand=by_hand)


def _none_ahead(those: Mapping[str, T], latest: float) -> dict[str, T]:
    """Each float on record is a moment."""
    found = {}
    for name, one in those.items():
        ahead: dict[str, Any] = {field.name: latest for field in fields(one) if field.type == "float" and getattr(one, field.name) > latest}
        found[name] = replace(one, **ahead) if ahead else one
    return found


class _Planner:
    def __init__(self, world: World, record: Record, rules: Rules, now: float) -> None:
        self.world, self.rules, self.now = world, rules, now
        self.record = replace(record, entries={name: entry for name, entry in record.entries.items() if not self._is_forgotten(entry)})
        self.notes: dict[str, str] = {}

    def _is_forgotten(self, entry: Entry) -> bool:
        return entry.phase == GONE and self.now - entry.since > self.rules.remembered

    def plan(self) -> Plan:
        actions: list[Action] = []
        cloud = self.world.cloud
        if cloud is not None and self._is_the_records(cloud):
            self.record = replace(self.record, account=cloud.account, region=cloud.region)
            self._note_absences(cloud)
            actions += self._newcomers(cloud)
            self._note_left(cloud)
        else:
            cloud = None
        if self.world.nodes is not None:
            actions += self._nodes(self.world.nodes, cloud.groups if cloud else {})
            if cloud is not None:
                actions += self._reap(cloud, self.world.nodes)
        actions += self._lapsed()
        return Plan(tuple(actions), self.record, self.notes)

    def _is_the_records(self, cloud: Cloud) -> bool:
        """Whether this is the account and region of the instances on record. In any other, none of them is found, and that says nothing."""
        record = self.record
        if not (record.live or record.brakes) or (record.account, record.region) == (cloud.account, cloud.region):
            return True
        self.notes[""] = (
            f"found account {cloud.account} and region {cloud.region}; the {len(record.live)} instances on record are in account {record.account}, region "
            f"{record.region}. Nothing is enrolled or cleared away. Give keeper the credentials of that account, or, if those instances are no more and "
            "never will be, stop keeper, move its record away and start it again."
        )
        return False

    # --- instances ----------------------------------------------------------------------------------------------------------------------

    def _note_absences(self, cloud: Cloud) -> None:
        for name, entry in self.record.live.items():
            found = cloud.instances.get(name)
            if found is None and name not in cloud.asked:
                continue
            if found is None or found.state == TERMINATED:
                since = entry.absent_since if entry.absent else self.now
                self.record = self.record.with_entry(name, replace(entry, absent=min(2, entry.absent + 1), absent_since=since))
            elif entry.absent:
                self.record = self.record.with_entry(name, replace(entry, absent=0, absent_since=0.0))

    def _newcomers(self, cloud: Cloud) -> Iterator[Action]:
        """Those that are not on record, and those whose enrolment has only begun."""
        begun = 0
        for name, instance in sorted(cloud.instances.items()):
            entry = self.record.entries.get(name)
            if instance.state not in LIVE or not (entry is None or entry.phase in (SEEN, ENROLLING)):
                continue
            group = cloud.groups.get(instance.group)
            refusal = self._refusal(instance, group)
            if entry is not None and entry.phase == ENROLLING:
                # What has begun has passed the checks; its group may have gone meanwhile, and the promise is the one of then.
                if self.world.nodes is not None:
                    yield Enrol(name, entry.pool, entry.zone, entry.arn, entry.promise, again=True)
            elif refusal or group is None:
                # That somebody has written its name below the failures makes it no stranger of ours.
                if name not in cloud.left:
                    yield from self._stranger(instance, entry, refusal)
            elif name in group.instances and self.world.nodes is not None and begun < self.rules.enrolments:
                if self._adopt(instance, group, self.world.nodes):
                    continue
                begun += 1
                yield Enrol(name, group.pool, instance.zone, instance.arn, group.promise)

    def _refusal(self, instance: Instance, group: Group | None) -> str:
        """Why an instance is none of ours, or nothing."""
        rules = self.rules
        expected = f"expected a group with the tags {CLUSTER_ID_TAG}={rules.cluster_id} and {rules.owned_tag}=owned"
        remedy = "Instances of this cluster are started by the groups of its pools only (playbook pools.yml). End this one."
        if group is None:
            found = f"was started by group {instance.group}, which does not carry this cluster's id" if instance.group else "was started by no group"
            return f"{instance.id} {found}; {expected}. {remedy}"
        if not group.owned:
            return f"{instance.id} was started by group {group.name}, which lacks the tag {rules.owned_tag}=owned; {expected}. {remedy}"
        if instance.cluster_id and instance.cluster_id != rules.cluster_id:
            return f"{instance.id} carries the id of another cluster, {instance.cluster_id}; this is {rules.cluster_id}. {remedy}"
        return ""

    def _stranger(self, instance: Instance, entry: Entry | None, refusal: str) -> Iterator[Action]:
        """Refused at the second sighting: groups and instances are two questions, and a group may be new between them."""
        if entry is None:
            self.record = self.record.with_entry(instance.id, Entry(SEEN, self.now, zone=instance.zone, arn=instance.arn))
        elif self.now - entry.since >= self.rules.grace:
            yield Refuse(instance.id, instance.arn, refusal)

    def _adopt(self, instance: Instance, group: Group, nodes: Mapping[str, Node]) -> bool:
        """A node of the cluster that is not on record, as after the loss of the record: it has had its bundle, and gets no second one."""
        node = nodes.get(instance.id)
        if node is None or node.provider_id != instance.provider_id:
            return False
        entry = Entry(JOINED, self.now, instance.zone, instance.arn, group.pool, dict(group.promise), secret=True, tagged=True)
        self.record = self.record.with_entry(instance.id, replace(entry, complete=not any(map(_is_startup, node.taints))))
        return True

    def _note_left(self, cloud: Cloud) -> None:
        """Of those that came and went while nobody looked, only what they said of their failure is left. On record, they go as all others do."""
        for name in sorted(cloud.left & cloud.asked - set(self.record.entries)):
            found, life = cloud.instances.get(name), self.record.lives.get(name)
            if found is None or found.state not in LIVE:
                self.record = self.record.with_entry(name, Entry(SEEN, self.now, pool=life.pool if life else ""))

    def _lapsed(self) -> Iterator[Action]:
        """A bundle whose token has ended is of no use to anybody but a thief."""
        for name, entry in self.record.live.items():
            if entry.phase == LAPSED or (entry.phase == ENROLLED and self.now - entry.since > self.rules.lifetime):
                minutes = f"{self.rules.lifetime / 60:.0f} minutes"
                self.notes.setdefault(name, f"did not join within the {minutes} that its token lived. See why (console output), and end it.")
                if entry.secret:
                    yield Forget(name)

    # --- nodes --------------------------------------------------------------------------------------------------------------------------

    def _node_of(self, name: str, entry: Entry, nodes: Mapping[str, Node]) -> Node | None:
        """Its Node object, if it is its: a node of the same name with another provider ID is somebody else."""
        node = nodes.get(name)
        if node is None:
            return None
        expected = provider_id(entry.zone, name)
        if node.provider_id != expected:
            self.notes[name] = (
                f"Node {name} has provider ID {node.provider_id or 'none'}, expected {expected}: it is not this instance, and is left alone. "
                f"If it is a relic: kubectl delete node {name}"
            )
            return None
        return node

    def _nodes(self, nodes: Mapping[str, Node], groups: Mapping[str, Group]) -> Iterator[Action]:
        for name, entry in self.record.live.items():
            node = self._node_of(name, entry, nodes) if entry.has_certificate else None
            if node is None or self._stays_out(name, groups):
                continue
            known = entry
            if known.phase in (ENROLLED, LAPSED):
                known = replace(known, phase=JOINED, since=self.now)
            if known.phase == JOINED and known.secret:
                yield Forget(name)
            if known.phase == JOINED and not known.tagged and known.vpn_address:
                yield TellAddress(name, known.vpn_address)
            lacking = list(_lacking(known.promise, node.allocatable))
            if self.rules.network_told and not node.network:
                lacking.append("its pods' network is not up")
            if not lacking:
                known = replace(known, complete=True)
            if known != entry:
                self.record = self.record.with_entry(name, known)
            if known.complete and not entry.complete:
                self.record = replace(self.record, proven={**self.record.proven, known.pool: self.now})
            yield from self._taint(name, known, node, lacking)

    def _stays_out(self, name: str, groups: Mapping[str, Group]) -> bool:
        """Of one that joins after all, while it is taken out of its group and then of the VPN: it becomes no node that jobs could go to.

        While its group has it nothing was done to it yet, and what only has begun is given up: it may never succeed.
        """
        kept = self.record.kept.get(name)
        if kept is None:
            return False
        group = groups.get(kept.group)
        if kept.settled or group is None or name not in group.instances:
            return True
        self.record = replace(self.record, kept={other: one for other, one in self.record.kept.items() if other != name})
        return False

    def _taint(self, name: str, entry: Entry, node: Node, lacking: list[str]) -> Iterator[Action]:
        tainted = any(map(_is_startup, node.taints))
        if tainted and not lacking:
            yield LiftTaint(name, node)
        elif lacking and not entry.complete:
            self.notes.setdefault(name, f"Node {name} does not give yet what its pool's template promises: {'; '.join(lacking)}. Its startup taint stays.")
            # A node that gave it once keeps its pods: a restart of the device plugin shows none for a moment.
            if not tainted and any(is_extended_resource(resource) for resource in entry.promise):
                yield SetTaint(name, node)

    def _reap(self, cloud: Cloud, nodes: Mapping[str, Node]) -> Iterator[Action]:
        """What is left of an instance that has gone: said twice, and by a node that has fallen silent."""
        allowed = max(1, len(nodes) // 5)
        for name, entry in self.record.live.items():
            if entry.absent < 2 or self.now - entry.absent_since < self.rules.grace or not self._was_asked_now(name, cloud):
                continue
            # Also of one that was refused: it may have read a bundle that is not on record.
            node = self._node_of(name, entry, nodes) if entry.phase != SEEN else None
            if node is not None and node.ready:
                self.notes[name] = f"AWS knows no instance {name}, but its Node is Ready: nothing is cleared away while both are said. See which is wrong."
                continue
            if node is not None:
                if not allowed:
                    self.notes.setdefault(name, "waits for the next pass: at most a fifth of the nodes are removed in one")
                    continue
                allowed -= 1
            yield Reap(name, node, certificate=entry.phase != SEEN, secret=entry.secret)

    @staticmethod
    def _was_asked_now(name: str, cloud: Cloud) -> bool:
        return name in cloud.asked or name in cloud.instances


def _is_startup(taint: Taint) -> bool:
    return taint.key == STARTUP_TAINT.key


def _lacking(promise: Mapping[str, str], allocatable: Mapping[str, str]) -> Iterator[str]:
    """Where a node is not what was promised: extended resources are to be the same, the others no less."""
    for resource, promised in promise.items():
        found = allocatable.get(resource, "0")
        try:
            wanted, given = Quantity.parse(promised), Quantity.parse(found)
        except QuantityError as error:
            yield f"{resource}: {error}"
            continue
        if (given != wanted) if is_extended_resource(resource) else (given < wanted):
            yield f"{resource} is {found}, promised {promised}"


# --- what an action leaves on record ----------------------------------------------------------------------------------------------------


def begun(record: Record, action: Action, now: float) -> Record:
    """What must be on record before anything is done: whatever happens then, no id is enrolled twice and nothing that was made is forgotten."""
    if isinstance(action, Enrol):
        entry = Entry(ENROLLING, now, action.zone, action.arn, action.pool, dict(action.promise), secret=True)
        return record if action.again else record.with_entry(action.instance, entry)
    if isinstance(action, Refuse):
        entry = record.entries.get(action.instance) or Entry(SEEN, now, arn=action.arn)
        return record.with_entry(action.instance, replace(entry, secret=True))
    return record


def done(record: Record, action: Action, now: float, address: str = "") -> Record:
    """After it. address: what an enrolment has given."""
    entry = record.entries[action.instance]
    if isinstance(action, Enrol):
        return record.with_entry(action.instance, replace(entry, phase=ENROLLED, since=now, vpn_address=address))
    if isinstance(action, Refuse):
        return record.with_entry(action.instance, replace(entry, phase=REFUSED, since=now, reason=action.reason))
    if isinstance(action, Forget):
        phase = LAPSED if entry.phase == ENROLLED else entry.phase
        return record.with_entry(action.instance, replace(entry, phase=phase, secret=False))
    if isinstance(action, TellAddress):
        return record.with_entry(action.instance, replace(entry, tagged=True))
    if isinstance(action, Reap):
        return record.with_entry(action.instance, replace(entry, phase=GONE, since=now, secret=False))
    return record


def refused(record: Record, instance: str, reason: str, now: float) -> Record:
    """An enrolment that turned out to be a second one."""
    entry = record.entries[instance]
    return record.with_entry(instance, replace(entry, phase=REFUSED, since=now, reason=reason))
