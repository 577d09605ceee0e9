# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga-hybrid-keeper status: what the running keeper has written, for people. Asks nobody but systemd, and the file holds no secret."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.fpga.hybrid.plugins.module_utils import _command
from ansible_collections.fpga.hybrid.plugins.module_utils import _keeper_status as statuses
from ansible_collections.fpga.hybrid.plugins.module_utils._keeper_status import GONE, STALE, Limits, Pool, Status, counted, lasted, stamp

WELL, NOT_WELL = 0, 1


def show(folder: str, as_json: bool, now: float) -> int:
    """Prints; returns the exit status."""
    path = os.path.join(folder, "status.json")
    running = statuses.is_running(_command.run(statuses.IS_ACTIVE, timeout=10).code)
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        found = statuses.parse(text)
    except FileNotFoundError:
        return _nothing(f"{path} is not there: keeper has made no pass yet.", running)
    except (OSError, UnicodeDecodeError) as error:
        return _nothing(f"{path} cannot be read: {error}.", running)
    except statuses.StatusError as error:
        return _nothing(f"{path} {error}.", running)
    if as_json:
        print(json.dumps({**json.loads(text), "running": running, "age": round(now - found.looked)}, indent=1))
    else:
        print("\n".join(lines(found, running, now)))
    return NOT_WELL if alarms(found, running, now) or found.troubles else WELL


def _nothing(sentence: str, running: bool | None) -> int:
    print("\n".join([*([NOT_RUNNING] if running is False else []), sentence]))
    return NOT_WELL


NOT_RUNNING = "KEEPER DOES NOT RUN: no instance is let in, cleared away or stopped. systemctl status fpga-hybrid-keeper"


# --- pure -------------------------------------------------------------------------------------------------------------------------------


def alarms(status: Status, running: bool | None, now: float) -> list[str]:
    """Why nothing below them may be true any more."""
    found = [NOT_RUNNING] if running is False else []
    if now - status.looked > STALE:
        found.append(f"WHAT FOLLOWS IS {lasted(now - status.looked).upper()} OLD: keeper writes it every minute. journalctl -u fpga-hybrid-keeper")
    return found


def lines(status: Status, running: bool | None, now: float) -> list[str]:
    """Worst first."""
    where = f"Cluster {status.cluster_id}, account {status.account or 'not known yet'}, region {status.region}."
    return [
        *alarms(status, running, now),
        f"keeper last looked {lasted(now - status.looked)} ago, at {stamp(status.looked)}. {where}{'' if status.troubles else ' No troubles.'}",
        *_section("Troubles", [f"{name}: {trouble}" for name, trouble in sorted(status.troubles.items())]),
        *_section("Paused", list(_pauses(status.pools or {}, now))),
        *_section("Warnings", list(status.warnings or ())),
        *_section("Today", [f"{status.today} since {status.today.date} 00:00 UTC"] if status.today else []),
        *_section("Ceilings", list(_ceilings(status.limits)) if status.limits else []),
        *_section("Pools", _table(("pool", "group", "running", "per hour", "launches"), list(_pools(status.pools or {})))),
        *_section("Failed joins", list(_failed_joins(status.pools or {}, now))),
        *_section("Kept for a look", list(_kept(status.pools or {}, now))),
        *_section("Instances", list(_instances(status, now))),
        *_section("Upkeep", list(_upkeep(status, now))),
        *(["", f"Not told by the keeper that wrote this, which is an older one: {', '.join(status.untold)}. Run site.yml."] if status.untold else []),
    ]


def _section(title: str, content: Sequence[str]) -> list[str]:
    return ["", title, *(f"  {line}".rstrip() for line in content)] if content else []


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The last column is as long as it likes."""
    if not rows:
        return []
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header) - 1)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip() for row in table]


def _pauses(pools: Mapping[str, Pool], now: float) -> Iterator[str]:
    for name, pool in sorted(pools.items()):
        if pool.pause:
            since = "" if pool.pause.since is None else f", for {lasted(now - pool.pause.since)}"
            yield f"{name}{since}: {pool.pause.why}"
            yield f"  {pool.pause.remedy(name)}"


def _pools(pools: Mapping[str, Pool]) -> Iterator[tuple[str, ...]]:
    for name, pool in sorted(pools.items()):
        price = "-" if pool.price is None else f"{pool.price:g}"
        yield name, pool.group, str(pool.running), price, f"paused: {pool.pause.kind}" if pool.pause else "yes"


def _ceilings(limits: Limits) -> Iterator[str]:
    for what, limit in (("instances", limits.instances), ("instance-hours a day", limits.hours)):
        yield f"{what}: {'no ceiling' if limit is None else f'{limit:g}'}"


def _failed_joins(pools: Mapping[str, Pool], now: float) -> Iterator[str]:
    for name, pool in sorted(pools.items()):
        for one in sorted(pool.failed_joins, key=lambda failed: failed.at, reverse=True):
            yield f"{one.instance}, {name}, {lasted(now - one.at)} ago: {one.what}"
            yield f"  {one.sentence}"


def _kept(pools: Mapping[str, Pool], now: float) -> Iterator[str]:
    for name, pool in sorted(pools.items()):
        for one in sorted(pool.kept, key=lambda kept: kept.until):
            yield f"{one.instance}, {name}: until {stamp(one.until)}, {f'{lasted(one.until - now)} from now' if one.until > now else 'which is over'}"


def _instances(status: Status, now: float) -> Iterator[str]:
    there = {name: one for name, one in status.instances.items() if one.phase != GONE}
    rows = [(name, one.pool or "-", one.phase, one.vpn_address or "-", lasted(now - one.since), one.notes) for name, one in sorted(there.items())]
    yield from _table(("instance", "pool", "phase", "VPN address", "for", "note"), rows) or ["none"]
    gone = len(status.instances) - len(there)
    if gone:
        yield f"{counted(gone, 'instance')} of the last 7 days gone: --json"


def _upkeep(status: Status, now: float) -> Iterator[str]:
    upkeep = status.upkeep
    if upkeep is None:
        return
    yield f"snapshot: {f'{lasted(now - upkeep.snapshot)} ago, {upkeep.path}' if upkeep.snapshot is not None else 'none yet'}"
    yield f"revocation list: {f'valid until {stamp(upkeep.revocation_list)}' if upkeep.revocation_list is not None else 'not seen yet'}"
    if upkeep.first_end is not None:
        yield f"ends first: {upkeep.what_ends}, {stamp(upkeep.first_end)}"
    for name, trouble in sorted(upkeep.troubles.items()):
        yield f"TROUBLE with {name}: {trouble}"
