# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds of images in AWS: which of them nobody carries on, and which images are no longer of use. Pure but for who this run is."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._lock import Holder, is_dead

#: Another tag than the cluster's id, which keeper, inventory and audit take for a node: an image may be older than its cluster, and outlive it.
OF, BUILD, BUILDER, UNTIL = (f"fpga.hybrid/image-{name}" for name in ("of", "build", "builder", "until"))
TIME = "%Y-%m-%dT%H:%M:%SZ"


class BuildError(Exception):
    """A list of images that cannot be judged."""


def build_tags(cluster_name: str, hours: int, holder: Holder, now: datetime) -> dict[str, str]:
    """What everything that a build starts carries. Its id tells the second, and the run."""
    builder = _written(holder)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    return {
        OF: cluster_name,
        BUILD: f"{stamp}-{hashlib.sha256(builder.encode()).hexdigest()[:6]}",
        BUILDER: builder,
        UNTIL: (now + timedelta(hours=hours)).strftime(TIME),
    }


def left_builds(tags: Iterable[Mapping[str, str]], me: Holder, now: datetime) -> list[str]:
    """Ids of builds that nobody carries on: their time is over, or their run, of this controller, is gone."""
    return sorted({found[BUILD] for found in tags if BUILD in found and (_over(found.get(UNTIL, ""), now) or _gone(found.get(BUILDER, ""), me))})


def spare_images(images: Sequence[Mapping[str, Any]], keep: int, used: Collection[str]) -> list[str]:
    """Ids of all but the newest, without those in use. images: as ec2_ami_info tells them. creation_date sorts as text."""
    if keep < 1:
        raise BuildError(f"image_keep: found {keep}, expected 1 or more, since the newest image is the one that was just made. Raise it.")
    newest_first = sorted(images, key=lambda image: (image["creation_date"], image["image_id"]), reverse=True)
    return [image["image_id"] for image in newest_first[keep:] if image["image_id"] not in used]


def _over(until: str, now: datetime) -> bool:
    """What says no time is not ours to end."""
    try:
        return datetime.strptime(until, TIME).replace(tzinfo=timezone.utc) <= now
    except ValueError:
        return False


def _written(holder: Holder) -> str:
    """A tag's value: no name of a machine or user in it, because whoever may list instances reads it."""
    return "/".join([*(_digest(text) for text in (holder.machine_id, holder.boot_id, holder.pid_namespace)), str(holder.pid), str(holder.pid_started)])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "-"


def _gone(builder: str, me: Holder) -> bool:
    return _is_builder(builder) and is_dead(_read(builder), _read(_written(me)))


def _is_builder(text: str) -> bool:
    parts = text.split("/")
    return len(parts) == 5 and parts[3].isdecimal() and parts[4].isdecimal()


def _read(builder: str) -> Holder:
    machine, boot, namespace, pid, started = builder.split("/")
    # Who has no machine id is not known again: nobody's run is dead to it.
    return Holder("" if machine == "-" else machine, boot, namespace, int(pid), int(started), "", "")
