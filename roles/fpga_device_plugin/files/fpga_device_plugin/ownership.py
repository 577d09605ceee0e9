# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has which board. One owner a board: one resource, whatever it is published under.

Which pod has which device of one resource is the kubelet's to know, and it never gives a device away twice. What it cannot know is that devices of two
resources, or several copies, are one board: that is kept here. It learns of the end of a pod only by asking, so a board is freed late rather than early.
Pure: time is given, nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fpga_device_plugin.catalogue import Resource, slot_of
from fpga_device_plugin.discovery import Board


class RefusalError(Exception):
    """Why devices are not given out. The text becomes the reason in the pod's status."""


@dataclass(frozen=True)
class Grace:
    """Seconds until a device that the kubelet does not name is taken for free.

    seen: one that it named before. unseen: one that it never named, which is a pod that was refused in the end, or, where its checkpoint cannot be read,
    one whose init containers alone ask for it.
    """

    seen: float = 30.0
    unseen: float = 600.0


@dataclass
class Hold:
    """A device in use, as far as known. seen: the kubelet has named it. missing_since: when it was first asked and did not."""

    seen: bool = False
    missing_since: float | None = None


@dataclass
class Owner:
    resource: str
    holds: dict[str, Hold] = field(default_factory=dict)
    #: Whether the board still has to be put in order for its new user.
    fresh: bool = False


@dataclass(frozen=True)
class Device:
    """What ListAndWatch tells. reason: why it is unhealthy, else ""."""

    id: str
    reason: str
    numa_node: int | None

    @property
    def healthy(self) -> bool:
        return not self.reason


@dataclass
class Ownership:
    """known: whether it is certain that nobody has a board who does not stand here. Until then boards under several resources are offered to none."""

    grace: Grace = field(default_factory=Grace)
    known: bool = False
    resources: Mapping[str, Resource] = field(default_factory=dict)
    boards: Mapping[str, Board] = field(default_factory=dict)
    owners: dict[str, Owner] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)

    # --- what is there

    def devices(self, resource: str) -> list[Device]:
        """All devices of a resource, by board; those of boards that cannot be used now are there, unhealthy."""
        own = self.resources[resource]
        return [
            Device(device, self.reason(resource, board), board.numa_node)
            for board in self.boards.values()
            if board.kind.name in own.copies
            for device in own.devices(board.slot, board.kind.name)
        ]

    def reason(self, resource: str, board: Board) -> str:
        """Why the resource's devices on a board cannot be given out, else ""."""
        owner = self.owners.get(board.slot)
        if board.reason:
            return board.reason
        if board.slot in self.conflicts:
            return self.conflicts[board.slot]
        if owner and owner.resource != resource:
            return f"board {board.slot} is taken: a pod has it as {owner.resource}"
        if not owner and not self.known and sum(board.kind.name in other.copies for other in self.resources.values()) > 1:
            return f"board {board.slot} is published under several resources, and the kubelet has not said yet who has it"
        return ""

    @property
    def unseen(self) -> bool:
        """Whether something is given out that the kubelet has not named yet."""
        return any(not hold.seen for owner in self.owners.values() for hold in owner.holds.values())

    # --- what happens

    def allocate(self, resource: str, devices: Iterable[str]) -> None:
        """Gives devices out, all or none. Raises RefusalError.

        A device that is held is given out again: its pod has ended, or an init container passes it on to the next container of its pod.
        """
        by_board = self._by_board(resource, devices)
        for board, wanted in by_board.items():
            if reason := self.reason(resource, board):
                raise RefusalError(reason)
            whole = self.resources[resource].devices(board.slot, board.kind.name)
            if not self.resources[resource].shared and len(wanted) < len(whole):
                raise RefusalError(
                    f"{len(wanted)} of the {len(whole)} copies of {resource} on board {board.slot} were asked for, and they are not shared (shared: false). "
                    f"Ask for a multiple of {max(self.resources[resource].copies.values())}, so that a pod has whole boards."
                )
        for board, wanted in by_board.items():
            owner = self.owners.setdefault(board.slot, Owner(resource))
            # Who joins others on a board finds it in order; who is alone with what was given out before may be somebody new. What the kubelet named no more
            # when it was last asked is no neighbour: its pod has ended, and is only kept for its grace.
            neighbours = {device for device, hold in owner.holds.items() if hold.missing_since is None} - wanted
            owner.fresh = owner.fresh or not neighbours
            owner.holds.update({device: Hold() for device in wanted})

    def confirm(self, resource: str, devices: Iterable[str]) -> list[Board]:
        """The boards of devices that the kubelet is about to start a container with, so they are in use whatever we knew. Raises RefusalError."""
        by_board = self._by_board(resource, devices)
        for board, wanted in by_board.items():
            owner = self.owners.setdefault(board.slot, Owner(resource))
            if owner.resource != resource:
                raise RefusalError(f"board {board.slot} is taken: a pod has it as {owner.resource}")
            for device in wanted:
                owner.holds.setdefault(device, Hold())
        return list(by_board)

    def others(self, slot: str, devices: Iterable[str]) -> list[str]:
        """Devices on a board that somebody else may have: all that are held, since a board's image is nothing to take a chance with."""
        return sorted(set(self.owners[slot].holds) - set(devices)) if slot in self.owners else []

    def in_order(self, slot: str) -> None:
        """The board has been put in order for who has it."""
        if slot in self.owners:
            self.owners[slot].fresh = False

    def observe(self, held: Mapping[str, Iterable[str]], now: float, *, complete: bool) -> list[str]:
        """What the kubelet says of its pods: devices by resource. Returns the slots that have become free.

        complete: whether it knows its pods already. After its start it knows none until the API server has told it, and they run all the same.
        """
        self.conflicts = {}
        named: dict[str, set[str]] = {}
        for resource, devices in held.items():
            for device in filter(self._is_ours, devices):
                self._found(resource, device)
                named.setdefault(slot_of(device), set()).add(device)
        if not complete:
            return []
        self.known = True
        for slot, owner in self.owners.items():
            for device, hold in owner.holds.items():
                if device in named.get(slot, ()):
                    continue
                hold.missing_since = now if hold.missing_since is None else hold.missing_since
            owner.holds = {device: hold for device, hold in owner.holds.items() if not self._is_over(hold, now)}
        freed = [slot for slot, owner in self.owners.items() if not owner.holds]
        for slot in freed:
            del self.owners[slot]
        return freed

    def _found(self, resource: str, device: str) -> None:
        slot = slot_of(device)
        owner = self.owners.setdefault(slot, Owner(resource))
        if owner.resource == resource:
            owner.holds[device] = Hold(seen=True)
        elif any(hold.seen for hold in owner.holds.values()):
            self.conflicts[slot] = f"board {slot} is in use as {owner.resource} and as {resource}: end one of the pods"
        else:  # what the kubelet says is truer than what we only promised
            self.owners[slot] = Owner(resource, {device: Hold(seen=True)})

    def _is_over(self, hold: Hold, now: float) -> bool:
        grace = self.grace.seen if hold.seen else self.grace.unseen
        return hold.missing_since is not None and now - hold.missing_since >= grace

    def _is_ours(self, device: str) -> bool:
        """By its board, under whatever resource: the host may have published it as something else when the pod came, and nobody may remember."""
        return slot_of(device) in self.boards or slot_of(device) in self.owners

    def _by_board(self, resource: str, devices: Iterable[str]) -> dict[Board, set[str]]:
        if resource not in self.resources:
            raise RefusalError(f"{resource} is not published here any more")
        found: dict[Board, set[str]] = {}
        for device in devices:
            board = self.boards.get(slot_of(device))
            if board is None or device not in self._devices_of(resource, board):
                raise RefusalError(f"{resource} has no device {device}; it has: {', '.join(one.id for one in self.devices(resource)) or 'none'}")
            found.setdefault(board, set()).add(device)
        return found

    def _devices_of(self, resource: str, board: Board) -> tuple[str, ...]:
        own = self.resources[resource]
        return own.devices(board.slot, board.kind.name) if board.kind.name in own.copies else ()

    # --- over a restart

    def as_dict(self) -> dict[str, Any]:
        """To be kept over a restart. Times are not: after one, every grace begins anew."""
        owners = {
            slot: {"resource": owner.resource, "fresh": owner.fresh, "devices": {device: hold.seen for device, hold in owner.holds.items()}}
            for slot, owner in self.owners.items()
        }
        return {"known": self.known, "owners": owners}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """What as_dict gave. Raises KeyError, TypeError or AttributeError if it is nothing of the kind; then it knows nothing."""
        self.owners = {
            slot: Owner(one["resource"], {device: Hold(seen=bool(seen)) for device, seen in one["devices"].items()}, bool(one["fresh"]))
            for slot, one in kept["owners"].items()
        }
        # What was kept before the kubelet had told is no more certain than it was then.
        self.known = bool(kept["known"])
