# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keeper's memory on the disk: whom it has enrolled. Holds no secret; without it an instance could be enrolled twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from fpga_hybrid_keeper.plan import PHASES, Brake, Entry, FailedJoin, Kept, Life, Record

SCHEMA = 1
#: What records of older keepers do not have.
PARTS: dict[str, Any] = {
    "failed": FailedJoin,
    "lives": Life,
    "brakes": lambda failed=(), **others: Brake(**others, failed=tuple(failed)),  # JSON has no tuples
    "kept": Kept,
}

#: The same: by pool or group, when something was so.
MOMENTS = ("resumed", "proven", "by_hand")


class RecordError(Exception):
    """The record cannot be used. It is never taken for empty: that would enrol everybody once more."""


def to_json(record: Record, cluster_id: str) -> str:
    document = {
        "schema": SCHEMA,
        "cluster_id": cluster_id,
        "account": record.account,
        "region": record.region,
        "instances": {name: asdict(entry) for name, entry in record.entries.items()},
        **{part: {name: asdict(one) for name, one in getattr(record, part).items()} for part in PARTS},
        **{part: dict(getattr(record, part)) for part in MOMENTS},
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def from_json(text: str, cluster_id: str, path: str) -> Record:
    remedy = f"Restore it from a backup. Without one, move {path} away: nodes that have joined are known again by their Node objects."
    try:
        document = json.loads(text)
        found, schema = document["cluster_id"], document["schema"]
        entries = {name: Entry(**entry) for name, entry in document["instances"].items()}
        parts = {part: {name: kind(**one) for name, one in document.get(part, {}).items()} for part, kind in PARTS.items()}
        moments: dict[str, Any] = {part: {name: float(moment) for name, moment in document.get(part, {}).items()} for part in MOMENTS}
        if "proven" not in document:
            moments["proven"] = _proven_by(parts["failed"])
        record = Record(document["account"], document["region"], entries, **parts, **moments)
        unknown = sorted({entry.phase for entry in entries.values()} - set(PHASES))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path} cannot be read ({type(error).__name__}: {error}). {remedy}") from error
    if schema != SCHEMA or unknown:
        raise RecordError(f"{path} was written by another version of the collection (schema {schema}, expected {SCHEMA}). Use that one.")
    if found != cluster_id:
        raise RecordError(f"{path} is of cluster {found}, this is {cluster_id}. If that cluster is no more, move {path} away.")
    return record


def _proven_by(failed: Mapping[str, FailedJoin]) -> dict[str, float]:
    """Of an older keeper's record, which does not tell who has joined between its failures: as if one had after each, so that no healthy pool is paused."""
    return {one.pool: one.at for one in sorted(failed.values(), key=lambda one: one.at)}


def load(path: str, cluster_id: str) -> Record:
    try:
        with open(path, encoding="utf-8") as stream:
            return from_json(stream.read(), cluster_id, path)
    except FileNotFoundError:
        return Record()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}.") from error


def save(path: str, record: Record, cluster_id: str) -> None:
    """On the disk before it returns."""
    _files.write(path, _files.File(to_json(record, cluster_id), 0o600))
