# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeper says of itself in C(status.json), for those who show it: C(fpga-hybrid-keeper status) and the verify table.

Pure. A key that an older keeper does not write is None, which is not the same as empty. Role keeper installs it beside its program.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

SCHEMA = 1
#: Seconds after which what was written says nothing any more: it is written at least every minute, and a pass may last another one.
STALE = 180.0
UNIT = "fpga-hybrid-keeper.service"
IS_ACTIVE = ("systemctl", "is-active", "--quiet", UNIT)
#: Of a pause: three failed joins; the ceilings of cluster_cloud_limits; somebody's own suspension.
FAILED_JOINS, INSTANCES, INSTANCE_HOURS, HAND = "failed_joins", "instances", "instance_hours", "hand"
#: Phases of instances that are no more, or never were the cluster's.
GONE, REFUSED = "gone", "refused"


class StatusError(Exception):
    """It cannot be used; the message says what was found."""


@dataclass(frozen=True)
class Pause:
    """since: Unix time, None where nobody knows.

    firm: of one for failed joins, whether a person lifts it, or that all that failed have joined after all; else it waits for joins that are under way.
    """

    kind: str
    why: str
    since: float | None
    firm: bool = True

    @property
    def is_fault(self) -> bool:
        """Whether jobs wait for instances that nobody starts.

        What a person has suspended, a person knows of; and as many instances as were declared are what was asked for.
        """
        return self.kind == INSTANCE_HOURS or (self.kind == FAILED_JOINS and self.firm)

    def remedy(self, pool: str) -> str:
        """How launches go on."""
        resume = f"ansible-playbook pools.yml -e resume={pool}"
        if self.kind == FAILED_JOINS:
            if not self.firm:
                return "Goes on by itself when those that are on their way have joined."
            return f"Goes on by itself only if all that failed join after all. Else mend what its instances said, then: {resume}"
        if self.kind == INSTANCES:
            return "Goes on by itself when fewer run, or raise cluster_cloud_limits.instances and run site.yml."
        if self.kind == INSTANCE_HOURS:
            return "Goes on by itself when the next day begins (UTC), or raise cluster_cloud_limits.instance_hours_per_day and run site.yml."
        return f"keeper never lifts what somebody else has suspended. Find out why it was, then: {resume}"


@dataclass(frozen=True)
class FailedJoin:
    """kind, status: bootstrap's word and exit status, the latter empty of one that left no word. at: Unix time."""

    instance: str
    at: float
    kind: str
    status: str
    sentence: str

    @property
    def what(self) -> str:
        return f"{self.kind} (exit status {self.status})" if self.status else self.kind


@dataclass(frozen=True)
class Kept:
    """A failed instance that is kept for a look. until: Unix time."""

    instance: str
    until: float


@dataclass(frozen=True)
class Pool:
    group: str
    running: int
    price: float | None
    pause: Pause | None
    failed_joins: tuple[FailedJoin, ...]
    kept: tuple[Kept, ...]


@dataclass(frozen=True)
class Today:
    """Of the cluster, in UTC. cost is None where a price is not declared."""

    date: str
    instances: int
    hours: float
    cost: float | None

    def __str__(self) -> str:
        cost = "cost unknown (price_per_hour is not declared)" if self.cost is None else f"cost {self.cost:.2f}"
        return f"{counted(self.instances, 'instance')}, {self.hours:.1f} instance-hours, {cost}"


@dataclass(frozen=True)
class Limits:
    """The ceilings of cluster_cloud_limits that keeper goes by. None: no ceiling."""

    instances: float | None
    hours: float | None


@dataclass(frozen=True)
class Upkeep:
    """What keeper does by the clock. Times are Unix times, None before there was a first one. troubles: by what cannot be done."""

    snapshot: float | None
    path: str
    revocation_list: float | None
    first_end: float | None
    what_ends: str
    troubles: Mapping[str, str]


@dataclass(frozen=True)
class Instance:
    """notes: what keeps it from being what it should, and why it was refused."""

    phase: str
    pool: str
    vpn_address: str
    since: float
    notes: str


@dataclass(frozen=True)
class Status:
    """pools, today, limits, upkeep, warnings: None of a keeper that does not tell them."""

    cluster_id: str
    account: str
    region: str
    looked: float
    troubles: Mapping[str, str]
    instances: Mapping[str, Instance]
    pools: Mapping[str, Pool] | None = None
    today: Today | None = None
    limits: Limits | None = None
    upkeep: Upkeep | None = None
    warnings: tuple[str, ...] | None = None

    @property
    def untold(self) -> list[str]:
        return [name for name in ("pools", "today", "limits", "upkeep", "warnings") if getattr(self, name) is None]


def parse(text: str) -> Status:
    """Raises StatusError."""
    try:
        document = json.loads(text)
        schema = document["schema"]
        if schema != SCHEMA:
            raise StatusError(f"is of another version of the collection (schema {schema}, expected {SCHEMA})")
        return Status(
            cluster_id=plain(document["cluster_id"]),
            account=plain(document["account"]),
            region=plain(document["region"]),
            looked=moment(document["looked"]),
            troubles={plain(name): plain(trouble) for name, trouble in document["troubles"].items()},
            instances={plain(name): _instance(found) for name, found in document["instances"].items()},
            pools={plain(name): _pool(found) for name, found in document["pools"].items()} if "pools" in document else None,
            today=_today(document["today"]) if "today" in document else None,
            limits=_limits(document["limits"]) if "limits" in document else None,
            upkeep=_upkeep(document["upkeep"]) if "upkeep" in document else None,
            warnings=tuple(map(plain, document["warnings"])) if "warnings" in document else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StatusError(f"cannot be read ({type(error).__name__}: {error})") from error


def _instance(found: Mapping[str, Any]) -> Instance:
    notes = [found[key] for key in ("reason", "note") if found.get(key)]
    return Instance(plain(found["phase"]), plain(found.get("pool", "")), plain(found.get("vpn_address", "")), moment(found["since"]), plain(" ".join(notes)))


def _pool(found: Mapping[str, Any]) -> Pool:
    pause = found["paused"]
    return Pool(
        group=plain(found["group"]),
        running=int(found["running"]),
        price=None if found["price_per_hour"] is None else float(found["price_per_hour"]),
        pause=Pause(plain(pause["kind"]), plain(pause["why"]), _moment_if_any(pause["since"]), bool(pause.get("firm", True))) if pause else None,
        failed_joins=tuple(
            FailedJoin(
                plain(one["instance"]), moment(one["at"]), plain(one["kind"]), plain("" if one["status"] is None else one["status"]), plain(one["sentence"])
            )
            for one in found["failed_joins"]
        ),
        kept=tuple(Kept(plain(one["instance"]), moment(one["until"])) for one in found["kept"]),
    )


def _today(found: Mapping[str, Any]) -> Today:
    return Today(plain(found["date"]), int(found["instances"]), float(found["hours"]), None if found["cost"] is None else float(found["cost"]))


def _limits(found: Mapping[str, Any]) -> Limits:
    return Limits(*(None if found[key] is None else float(found[key]) for key in ("instances", "instance_hours_per_day")))


def _upkeep(found: Mapping[str, Any]) -> Upkeep:
    snapshot, ends = found["snapshot"], found.get("certificates", {})
    return Upkeep(
        snapshot=_moment_if_any(snapshot["last"]),
        path=plain(snapshot["path"]),
        revocation_list=_moment_if_any(found["revocation_list"]["next_update"]),
        first_end=_moment_if_any(ends.get("first_end")),
        what_ends=plain(ends.get("what", "")),
        troubles={plain(name).replace("_", " "): plain(section["trouble"]) for name, section in found.items() if section.get("trouble")},
    )


def _moment_if_any(text: str | None) -> float | None:
    return moment(text) if text else None


def is_running(code: int) -> bool | None:
    """By the exit status of IS_ACTIVE: 3 is not active, 4 no such unit. None where there is no systemd to answer."""
    return {0: True, 3: False, 4: False}.get(code)


def moment(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def plain(value: object) -> str:
    """In one line, and nothing that a terminal would obey: an instance's own words are among it."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(str(value).split()))


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def lasted(seconds: float) -> str:
    """As people say it. A clock that was set back shows no negative age."""
    count = max(0, int(seconds))
    if count < 120:
        return f"{count} s"
    if count < 2 * 3600:
        return f"{count // 60} min"
    return f"{count // 3600} h" if count < 2 * 86400 else f"{count // 86400} days"
