# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stops new launches, before they cost more than they are worth. Pure, as plan.py, after whose plan this one is made.

A brake is one thing only: process Launch of a pool's group is suspended. No instance is ended by it and no job is touched. Three things set one:

- failed joins: `most` of a pool within `window` seconds, or in a row: the autoscaler's pauses grow, and where it has other pools to try, a fault of all of
  them fails once in half an hour in each. A person lifts it (pools.yml -e resume=<pool>), and nobody else but those that failed, if all of them join after
  all. After a first failure, no more instances are let in at a time than could fail without being too many: until they have joined and are of use, the pool
  waits, and goes on by itself.
- the ceiling on instances at the same time, and the one on instance-hours in a UTC day, over all pools of the cluster. These lift themselves. Where a
  ceiling is declared as null there is none.

Auto Scaling holds on to the desired capacity while Launch is suspended. What the autoscaler has asked for then and did not get, it takes back after its
max-node-provision-time, and tries another pool; what it still wants when the brake is lifted, it asks for again. A ceiling is seen to be reached when it is
reached: what one call of the autoscaler starts beyond it runs, so a pool's max_size is the hard limit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Union

from ansible_collections.fpga.hybrid.plugins.module_utils._keeper_status import FAILED_JOINS, HAND, INSTANCE_HOURS, INSTANCES, plain, stamp
from fpga_hybrid_keeper.plan import (
    ENROLLED,
    GONE,
    JOINED,
    LAPSED,
    LIVE,
    REFUSED,
    Action,
    Brake,
    Cloud,
    End,
    Entry,
    FailedJoin,
    Group,
    Keep,
    Kept,
    Life,
    Node,
    Reap,
    Record,
    Resume,
    Rules,
    Suspend,
)

#: State of a failure parameter that tells of a failed join. Any other is of an end that somebody else has brought.
FAILED = "failed"
#: State and kind of what EC2 took back before it could join, as the watch reports it; and EC2's own codes for it. Source: EC2 API reference, StateReason.
INTERRUPTED, SPOT = "interrupted", "spot"
TAKEN = ("Server.SpotInstanceTermination", "Server.SpotInstanceShutdown")
#: Kinds of bootstrap's failures that are none of a join: it goes on at the next start, or another one is at work.
UNFINISHED = ("interrupted", "busy")
#: What bootstrap says when the node is there and does not get ready.
NOT_READY = "not-ready"
#: The kind of a failed join of which no word was left.
SILENT = "never-joined"
DAY = 86400.0
#: Seconds that a group has to be missing in every look until its brake is forgotten: one answer may lack it.
MISSED = 3600.0
#: Of one that came and never was of use, as from an image without the device plugin.
INCOMPLETE = "incomplete"
#: Seconds from its end, or its token's, that what an instance said of its failure is to be read in. Then it is judged, and cleared away, unread.
UNREAD = 600.0
#: Seconds that a node which is Ready has to give what its pool's template promises: fewer than the autoscaler waits, who buys another one after 15 minutes.
USELESS = 600.0
#: Seconds since it was met that are enough, too: one that restarts again and again, as of a bad image, is never Ready for long in a row.
RESTLESS = 6 * USELESS
#: Failed joins of a pool that the status shows.
SHOWN = 10


@dataclass(frozen=True)
class Evidence:
    """What an instance's failure parameter says. It was written on the instance, and is believed in this only: that this instance did not join."""

    state: str
    kind: str = ""
    status: int | None = None
    sentence: str = ""


def read_evidence(text: str) -> Evidence:
    """Whatever stands there: it is shown to people, so it is one line, and not a long one."""
    try:
        document = json.loads(text)
        failure = document.get("failure") or {}
        state, status = str(document.get("state") or FAILED), failure.get("status")
        kind, sentence = (plain(failure.get(key) or "")[:length] for key, length in (("kind", 40), ("sentence", 600)))
    except (ValueError, AttributeError, RecursionError):
        return Evidence(FAILED, "unknown", None, "its failure parameter cannot be read")
    return Evidence(plain(state)[:40], kind or "unknown", status if isinstance(status, int) else None, sentence or "it gave no reason")


Step = Union[Suspend, Resume, Keep, End]
STEPS = (Suspend, Resume, Keep, End)


@dataclass(frozen=True)
class Today:
    """Of a UTC day so far: instances that ran in it, and what they ran. hours: by pool."""

    date: str
    instances: int
    hours: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """notes: pool or instance -> what is to be known about it."""

    steps: tuple[Step, ...]
    record: Record
    notes: Mapping[str, str]


def make_plan(
    cloud: Cloud,
    nodes: Mapping[str, Node] | None,
    evidence: Mapping[str, Evidence],
    record: Record,
    rules: Rules,
    now: float,
    unread: Collection[str] = (),
    ran_until: float | None = None,
) -> Plan:
    """cloud: of the record's account. record: as plan.make_plan has left it, with this pass' joins and absences. unread: of interest, and not read.

    ran_until: what this look misses has run until then, as the last look has shown; None where none is known.
    """
    return _Planner(cloud, nodes, evidence, record, rules, now, frozenset(unread), now if ran_until is None else min(ran_until, now)).plan()


@dataclass
class _Planner:
    cloud: Cloud
    nodes: Mapping[str, Node] | None
    evidence: Mapping[str, Evidence]
    record: Record
    rules: Rules
    now: float
    unread: frozenset[str]
    ran_until: float
    notes: dict[str, str] = field(default_factory=dict)

    def plan(self) -> Plan:
        self.record = replace(self.record, lives=self._lives())
        self.record = replace(self.record, failed={**self._unmet(), **self._failed()})
        self.record = self._without_removed()
        steps = [step for group in self.cloud.groups.values() for step in self._group(group)]
        steps += [step for group in self.cloud.groups.values() for step in self._keep(group)]
        steps += self._end()
        # What is older than each failure on record changes nothing.
        resumed, proven = ({name: at for name, at in one.items() if self._is_remembered(at)} for one in (self.record.resumed, self.record.proven))
        by_hand = {name: at for name, at in self.record.by_hand.items() if name in self.cloud.groups or self._is_remembered(at)}
        self.record = replace(self.record, resumed=resumed, proven=proven, by_hand=by_hand)
        return Plan(tuple(steps), self.record, self.notes)

    # --- failed joins -------------------------------------------------------------------------------------------------------------------

    def _is_remembered(self, moment: float) -> bool:
        return self.now - moment <= self.rules.remembered

    def _failed(self) -> dict[str, FailedJoin]:
        known = {name: one for name, one in self.record.failed.items() if self._is_remembered(one.at)}
        for name, entry in self.record.entries.items():
            found = self._judged(name, entry, known.get(name))
            if found is None:
                known.pop(name, None)
                continue
            known[name] = found
            if found.state == FAILED and entry.is_live and entry.phase != JOINED:  # of a node it is known what it lacks
                status = "" if found.status is None else f" (exit status {found.status})"
                self.notes[name] = f"did not join: {found.kind}{status}: {found.sentence}"
        return known

    def _unmet(self) -> dict[str, FailedJoin]:
        """Those that came and went before they could be enrolled, as while the control plane was away."""
        ended = {name: life for name, life in self.record.lives.items() if life.end and name not in self.record.entries}
        why = "it ended before it could be enrolled."
        return {
            name: self._taken(name, life.pool) or FailedJoin(life.pool, life.end, FAILED, SILENT, None, why)
            for name, life in ended.items()
            if name not in self.record.failed
        }

    def _taken(self, name: str, pool: str) -> FailedJoin | None:
        """What is on record of one that EC2 took back, and that did nothing wrong."""
        instance = self.cloud.instances.get(name)
        if instance is None or instance.reason not in TAKEN:
            return None
        return FailedJoin(pool, self.now, INTERRUPTED, SPOT, None, f"EC2 took this spot instance back ({instance.reason}).")

    def _judged(self, name: str, entry: Entry, known: FailedJoin | None) -> FailedJoin | None:
        """What is to be on record of an instance's join."""
        if entry.phase == GONE or not entry.pool:
            return known
        told = self.evidence.get(name)
        if entry.phase == JOINED:
            return self._judged_node(name, entry, known, told)
        if told is not None and told.kind not in UNFINISHED:
            return FailedJoin(entry.pool, known.at if known else self.now, told.state, told.kind, told.status, told.sentence)
        if entry.phase != REFUSED:
            # At once: EC2 says it for an hour, and bootstrap nothing of its being shut down.
            known = known or self._taken(name, entry.pool)
        if known is not None or not self._has_ended(name, entry) or self._may_have_said_why(name, entry):
            return known
        if entry.phase == REFUSED:
            return FailedJoin(entry.pool, self.now, FAILED, "refused", None, entry.reason)
        late = entry.phase == LAPSED and entry.absent == 0
        sentence = "it did not join while its token lived" if late else "it ended without having joined"
        return FailedJoin(entry.pool, self.now, FAILED, SILENT, None, f"{sentence}, and left no word of why. Its console output may tell.")

    def _judged_node(self, name: str, entry: Entry, known: FailedJoin | None, told: Evidence | None) -> FailedJoin | None:
        """One that has come is of no use if it does not get ready, or does not give what was promised: to its end, or until another one would be bought."""
        if entry.complete:
            return None
        if told is not None and (told.kind == NOT_READY or told.state != FAILED):
            return FailedJoin(entry.pool, known.at if known else self.now, told.state, told.kind, told.status, told.sentence)
        if known is None or (known.state == FAILED and known.kind not in (NOT_READY, INCOMPLETE)):
            known = self._taken(name, entry.pool)
        if known is not None:
            return known
        if self._has_ended(name, entry):
            if self._may_have_said_why(name, entry):
                return None
            how_long = "to its end"
        else:
            had = self._had(name, entry)
            if not had:
                return None
            how_long = f"in {had / 60:.0f} minutes"
        why = f"it became a node, and {how_long} did not give what its pool's template promises, its boards above all. Does its image have the device plugin?"
        return FailedJoin(entry.pool, self.now, FAILED, INCOMPLETE, None, why)

    def _had(self, name: str, entry: Entry) -> float:
        """Seconds that a Ready one has had, 0 before they are enough. In a row, as one that an outage has kept from giving anything has had no time since.

        Its own clock may be wrong, so not before it was met.
        """
        node, met = (self.nodes or {}).get(name), self.now - entry.since
        if node is None or not node.ready:
            return 0.0
        if node.ready_since is not None and min(met, self.now - node.ready_since) > USELESS:
            return USELESS
        return RESTLESS if met > RESTLESS else 0.0

    def _has_ended(self, name: str, entry: Entry) -> bool:
        """Of one that has not joined. While the cluster cannot be asked it may have."""
        instance = self.cloud.instances.get(name)
        return self.nodes is not None and (entry.phase == LAPSED or entry.absent > 1 or (instance is not None and instance.state not in LIVE))

    def _may_have_said_why(self, name: str, entry: Entry) -> bool:
        """Which is not known yet: a brake that only a person lifts does not rest on what could not be read for a moment."""
        if name not in self.unread:
            return False
        if entry.absent:
            return _may_be_read(entry, self.now)
        # Else its end has only begun.
        return entry.phase != LAPSED or self.now - entry.since - self.rules.lifetime < UNREAD

    def _counted(self, group: Group) -> dict[str, FailedJoin]:
        """Those of the window, whatever has joined in between; and those since which none has joined, however long ago."""
        since = max(min(self.now - self.rules.window, self.record.proven.get(group.pool, 0.0)), self.record.resumed.get(group.name, 0.0))
        return {name: one for name, one in self.record.failed.items() if one.pool == group.pool and one.state == FAILED and one.at > since}

    def _on_their_way(self, group: Group) -> set[str]:
        """Of which nobody knows yet whether they join, and are of use then."""
        entries = self.record.entries
        named = group.instances | {name for name, entry in self.record.live.items() if entry.pool == group.pool}
        known = {*self.record.failed, *(name for name in named & set(entries) if entries[name].complete or not entries[name].is_live)}
        return set(named) - known

    # --- what runs ----------------------------------------------------------------------------------------------------------------------

    def _lives(self) -> dict[str, Life]:
        """From launch to end, of all that ran today. An end is dated by the last look before it: after hours without one, they are not known to have cost."""
        midnight = day_of(self.now)
        lives = {name: life for name, life in self.record.lives.items() if not life.end or life.end > midnight}
        for name, instance in self.cloud.instances.items():
            group, entry, life = self.cloud.groups.get(instance.group), self.record.entries.get(name), lives.get(name)
            pool = group.pool if group else entry.pool if entry else ""
            if life is not None:
                lives[name] = replace(life, end=0.0, seen=0.0) if instance.state in LIVE else self._ended(life)
            elif pool and instance.state in LIVE:
                lives[name] = Life(pool, min(instance.launched or self.now, self.now))
        for name in self.cloud.asked - set(self.cloud.instances):
            entry, life = self.record.entries.get(name), lives.get(name)
            if life is None:
                continue
            # Of a new one AWS may not know yet, but one that has a life has been seen.
            is_over = entry is None or entry.absent > 1 or not entry.is_live
            lives[name] = self._ended(life) if is_over else replace(life, seen=life.seen or self.ran_until)
        return lives

    def _ended(self, life: Life) -> Life:
        return life if life.end else replace(life, end=max(life.start, life.seen or self.ran_until))

    # --- brakes -------------------------------------------------------------------------------------------------------------------------

    def _without_removed(self) -> Record:
        """Brakes of groups that have been removed. A suspension that keeper does not know for its own would never be lifted.

        Nor would what failed in that group ever be forgiven, should another one have its name: nobody can lift a brake that is no more.
        """
        known, resumed = {}, dict(self.record.resumed)
        for name, brake in self.record.brakes.items():
            missed = 0.0 if name in self.cloud.groups else brake.missed or self.now
            if not missed or self.now - missed <= MISSED:
                known[name] = replace(brake, missed=missed)
            else:
                resumed[name] = self.now
        return replace(self.record, brakes=known, resumed=resumed)

    def _group(self, group: Group) -> Iterator[Step]:
        brake = self.record.brakes.get(group.name)
        # What AWS says may be older than what it was told last.
        if brake is not None and brake.lifted_at:
            if group.suspended and self.now - brake.lifted_at < self.rules.grace:
                return
            brake = self._set(group, None)
        elif brake is not None and brake.set_at and not group.suspended:
            if self.now - brake.set_at < self.rules.grace:
                self._note(brake)
                return
            if not brake.lifting:  # else it was keeper's own, by a run that did not get to its end, and says nothing about failures
                self.record = replace(self.record, resumed={**self.record.resumed, group.name: self.now})
            brake = self._set(group, None)
        elif brake is not None and not brake.set_at and group.suspended:
            brake = self._set(group, replace(brake, set_at=self.now))  # by a run that did not get to its end
        self._see_by_hand(group, brake)
        brake = self._with_failed(group, brake)
        holds = brake is not None and brake.firm and brake.set_at and not self._have_joined(brake.failed)
        wanted = self._wanted(group)
        if brake is None and group.suspended:
            self.notes[f"pool {group.pool}"] = (
                f"process Launch of group {group.name} was suspended by somebody else, not by keeper: no instance is started. "
                f"To lift it: pools.yml -e resume={group.pool}"
            )
            return
        if brake is not None and wanted is not None and not holds:
            brake = self._revised(group, brake, wanted)
        if brake is None:
            if wanted is not None:
                self._note(wanted)
                yield Suspend(group.name, wanted)
            return
        if wanted is None and not holds:
            yield Resume(group.name, group.pool)
            return
        if not brake.set_at:
            yield Suspend(group.name, brake)
        self._note(brake)

    def _see_by_hand(self, group: Group, brake: Brake | None) -> None:
        """Somebody else's suspension. What fails during it is counted, too, and who lifts it means what one who lifts keeper's means."""
        if brake is not None:
            return
        by_hand = dict(self.record.by_hand)
        if group.suspended:
            by_hand.setdefault(group.name, self.now)
        elif by_hand.pop(group.name, None) is not None:
            self.record = replace(self.record, resumed={**self.record.resumed, group.name: self.now})
        self.record = replace(self.record, by_hand=by_hand)

    def _with_failed(self, group: Group, brake: Brake | None) -> Brake | None:
        """What fails while a firm one holds is a reason for it, too. Keeper's own resumption, if it did not come about before that, is given up."""
        if brake is None or not brake.firm:
            return brake
        failed = tuple(sorted({*brake.failed, *self._counted(group)}))
        return self._set(group, replace(brake, failed=failed, lifting=brake.lifting and self._have_joined(failed)))

    def _have_joined(self, names: Collection[str]) -> bool:
        """All of them, and are of use. Of one that is not on record any more it is not known."""
        entries = self.record.entries
        return bool(names) and all(name in entries and entries[name].complete for name in names)

    def _revised(self, group: Group, brake: Brake, wanted: Brake) -> Brake | None:
        """Another reason than the one on record, which may have passed meanwhile."""
        if (wanted.kind, wanted.firm) != (brake.kind, brake.firm):
            return self._set(group, replace(wanted, set_at=brake.set_at))
        current = replace(brake, why=wanted.why, lifting=False)
        return brake if current == brake else self._set(group, current)

    def _set(self, group: Group, brake: Brake | None) -> Brake | None:
        others = {name: one for name, one in self.record.brakes.items() if name != group.name}
        self.record = replace(self.record, brakes={**others, group.name: brake} if brake else others)
        return brake

    def _note(self, brake: Brake) -> None:
        self.notes[f"pool {brake.pool}"] = f"paused: {brake.why}"

    def _wanted(self, group: Group) -> Brake | None:
        rules, pool = self.rules, group.pool
        failures, waiting = self._counted(group), self._on_their_way(group)
        recent = all(one.at > self.now - rules.window for one in failures.values())
        together = f"within {rules.window / 60:.0f} minutes" if recent else "in a row"
        if rules.most and len(failures) >= rules.most:
            last = max(failures.values(), key=lambda one: one.at)
            why = f"{len(failures)} instances failed to join {together}, the last one with {last.kind}: {last.sentence}"
            return Brake(pool, FAILED_JOINS, f"{why} When that is mended: pools.yml -e resume={pool}", self.now, failed=tuple(sorted(failures)))
        if rules.instances is not None and self._running() >= rules.instances:
            why = f"{rules.instances} instances run in this cluster, which is its ceiling (cluster_cloud_limits.instances). It goes on when there are fewer."
            return Brake(pool, INSTANCES, why, self.now, firm=False)
        if rules.hours is not None and sum(today(self.record, self.now).hours.values()) >= rules.hours:
            why = f"{rules.hours} instance-hours have been used today, which is the cluster's ceiling (cluster_cloud_limits.instance_hours_per_day)."
            return Brake(pool, INSTANCE_HOURS, f"{why} It goes on at midnight UTC.", self.now, firm=False)
        if rules.most and failures and len(failures) + len(waiting) >= rules.most:
            why = (
                f"{len(failures)} of its instances failed to join {together}, and {len(waiting)} are on their way; {rules.most} failures would be too "
                "many. It goes on by itself when they have joined."
            )
            return Brake(pool, FAILED_JOINS, why, self.now, firm=False)
        return None

    def _running(self) -> int:
        return sum(not life.end for life in self.record.lives.values())

    # --- one for a look -----------------------------------------------------------------------------------------------------------------

    def _keep(self, group: Group) -> Iterator[Step]:
        """The first failed one of a pool that says so, until its time has come; one at a time."""
        entries = self.record.entries
        live = {name: one for name, one in self.record.kept.items() if name in entries and entries[name].is_live}
        kept = {name: one for name, one in live.items() if one.settled or name not in group.ending}
        self.record = replace(self.record, kept=kept)
        mine = {name: one for name, one in kept.items() if one.pool == group.pool}
        for name, one in mine.items():
            if not one.settled and self._may_be_kept(name):
                yield Keep(name, one)
        if mine or self.rules.keep.get(group.pool, 0) < 1:
            return
        failed = [(one.at, name) for name, one in self.record.failed.items() if one.pool == group.pool and one.state == FAILED and one.kind != SILENT]
        candidates = [name for _at, name in sorted(failed) if name in group.instances and self._may_be_kept(name)]
        if candidates:
            yield Keep(candidates[0], Kept(group.pool, group.name, self.now + self.rules.kept))

    def _may_be_kept(self, name: str) -> bool:
        entry = self.record.entries.get(name)
        return entry is not None and entry.phase in (ENROLLED, LAPSED, REFUSED) and self._runs(name)

    def _runs(self, name: str) -> bool:
        instance = self.cloud.instances.get(name)
        return instance is not None and instance.state in LIVE

    def _end(self) -> Iterator[Step]:
        members = {name for group in self.cloud.groups.values() for name in group.instances}
        for name, one in self.record.kept.items():
            if not _is_out(name, one, self.cloud.groups):
                continue
            self.notes[name] = f"{self.notes.get(name, 'did not join')} It is kept for a look until {stamp(one.until)}, then it is ended."
            # One that a group has, as again by hand, is not ended by keeper: the group would start another one.
            if self.now >= one.until and name not in members and self._runs(name):
                yield End(name)


def _is_out(name: str, kept: Kept, groups: Mapping[str, Group]) -> bool:
    """Until then its group may end it at any time, and nobody is told that it is kept. One look may lack the group, which says nothing."""
    return kept.settled or (kept.group in groups and name not in groups[kept.group].instances)


def day_of(now: float) -> float:
    """Its beginning, UTC."""
    return now - now % DAY


def today(record: Record, now: float) -> Today:
    hours: dict[str, float] = {}
    midnight, count = day_of(now), 0
    for life in record.lives.values():
        end = life.end or now
        if end < midnight or (life.end and life.end == midnight):
            continue
        count += 1
        hours[life.pool] = hours.get(life.pool, 0.0) + max(0.0, end - max(life.start, midnight)) / 3600
    return Today(datetime.fromtimestamp(midnight, timezone.utc).strftime("%Y-%m-%d"), count, hours)


def paused(group: Group, record: Record) -> Brake | None:
    """Why no instance is started, for a person to read. since is 0 where nobody knows."""
    brake = record.brakes.get(group.name)
    if brake is not None and brake.lifted_at:
        return None
    if brake is None and group.suspended:
        return Brake(group.pool, HAND, f"Process Launch of group {group.name} was suspended by somebody else, not by keeper.", 0.0)
    return brake


# --- what a step leaves on record -------------------------------------------------------------------------------------------------------


def begun(record: Record, step: Step) -> Record:
    """Before it: a suspension that is not on record would be somebody else's, and never be lifted; a resumption would be a person's, and forgive failures."""
    if isinstance(step, Suspend):
        return replace(record, brakes={**record.brakes, step.group: step.brake})
    if isinstance(step, Keep):
        return replace(record, kept={**record.kept, step.instance: step.kept})
    if isinstance(step, Resume):
        return replace(record, brakes={**record.brakes, step.group: replace(record.brakes[step.group], lifting=True)})
    return record


def done(record: Record, step: Step, now: float) -> Record:
    if isinstance(step, Suspend):
        return replace(record, brakes={**record.brakes, step.group: replace(step.brake, set_at=now)})
    if isinstance(step, Keep):
        entry = replace(record.entries[step.instance], secret=False)
        return replace(record.with_entry(step.instance, entry), kept={**record.kept, step.instance: replace(step.kept, settled=True)})
    if isinstance(step, End):
        return record
    brake = record.brakes[step.group]
    return replace(record, brakes={**record.brakes, step.group: replace(brake, lifted_at=now)})


# --- what is asked and told -------------------------------------------------------------------------------------------------------------


def alive(record: Record) -> Iterator[str]:
    """Instances whose end is yet to be seen, for the hours."""
    return (name for name, life in record.lives.items() if not life.end)


def of_interest(record: Record, cloud: Cloud, rules: Rules, now: float) -> list[str]:
    """Whose failure parameter is to be read: of those that are awaited, and of those that have gone without having joined."""
    return sorted(name for name, entry in record.live.items() if entry.pool and _is_doubtful(name, entry, record, cloud, rules, now))


def _is_doubtful(name: str, entry: Entry, record: Record, cloud: Cloud, rules: Rules, now: float) -> bool:
    known, instance = record.failed.get(name), cloud.instances.get(name)
    if (known is not None and known.kind not in (SILENT, INCOMPLETE)) or (entry.phase == JOINED and entry.complete):
        return False
    ends = entry.absent > 0 or (instance is not None and instance.state not in LIVE)
    return ends or now - entry.since <= rules.lifetime + UNREAD


def _may_be_read(entry: Entry, now: float) -> bool:
    """What one that is no more said of its failure."""
    return now - entry.absent_since < UNREAD


def until_read(actions: Sequence[Action], unread: Collection[str], record: Record, now: float) -> tuple[tuple[Action, ...], dict[str, str]]:
    """Without those that would clear away what an instance said of its failure before it was read. And what is to be known of them."""
    going, notes = [], {}
    for action in actions:
        if isinstance(action, Reap) and action.instance in unread:
            waits = _may_be_read(record.entries[action.instance], now)
            then = "it is not cleared away before that" if waits else f"after {UNREAD / 60:.0f} minutes it is cleared away unread"
            notes[action.instance] = f"its failure parameter could not be read, which says whether and why it did not join: {then}"
            if waits:
                continue
        going.append(action)
    return tuple(going), notes


def report(groups: Mapping[str, Group], record: Record, prices: Mapping[str, float | None], now: float, masked: Callable[[str], str]) -> dict[str, Any]:
    """Its part of the status. No secret."""
    day = today(record, now)
    cost = [None if (price := prices.get(pool)) is None else price * hours for pool, hours in day.hours.items()]
    pools = {group.pool: _pool(group, record, prices.get(group.pool), masked) for group in groups.values()}
    return {
        "pools": pools,
        "today": {
            "date": day.date,
            "instances": day.instances,
            "hours": round(sum(day.hours.values()), 2),
            "cost": round(sum(one or 0.0 for one in cost), 2) if None not in cost else None,
        },
        # As many instances as were declared are no reason to warn anybody.
        "warnings": [f"Pool {pool} is paused: {one['paused']['why']}" for pool, one in pools.items() if one["paused"] and one["paused"]["kind"] != INSTANCES],
    }


def _pool(group: Group, record: Record, price: float | None, masked: Callable[[str], str]) -> dict[str, Any]:
    brake = paused(group, record)
    failures = sorted((one.at, name, one) for name, one in record.failed.items() if one.pool == group.pool and one.state == FAILED)
    kept = [(name, one) for name, one in record.kept.items() if one.pool == group.pool and _is_out(name, one, {group.name: group})]
    return {
        "group": group.name,
        "running": sum(life.pool == group.pool and not life.end for life in record.lives.values()),
        "price_per_hour": price,
        "paused": ({"kind": brake.kind, "why": masked(brake.why), "since": stamp(brake.since) if brake.since else None, "firm": brake.firm} if brake else None),
        "failed_joins": [
            {"instance": name, "at": stamp(at), "kind": one.kind, "status": one.status, "sentence": masked(one.sentence)} for at, name, one in failures[-SHOWN:]
        ],
        "kept": [{"instance": name, "until": stamp(one.until)} for name, one in kept],
    }
