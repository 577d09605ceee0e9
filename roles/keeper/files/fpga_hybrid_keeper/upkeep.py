# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done each day, whether or not there are instances: the revocation list, the snapshot, a look at what ends, and telling of it.

It works beside keeper's passes, in one thread at a time, so that no instance waits for a slow line.
"""

from __future__ import annotations

import json
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils._keeper_status import stamp
from fpga_hybrid.kube import KubeError
from fpga_hybrid.run import Log
from fpga_hybrid_keeper import told
from fpga_hybrid_keeper.authority import AuthorityError
from fpga_hybrid_keeper.expiry import DAY, Expiry, Files, of_authority, revocation_list
from fpga_hybrid_keeper.settings import Settings
from fpga_hybrid_keeper.snapshot import Etcd, Kept, SnapshotError, Snapshots
from fpga_hybrid_keeper.told import CommandError

#: Seconds until what has failed is tried again; that it may go on failing before it is a warning; between two looks whether a certificate was renewed.
RETRY, PATIENCE, LOOK = 600.0, 7200.0, 60.0
#: Seconds that a user's command may take: to carry a snapshot away, to pass a warning on.
CARRYING, PASSING = 1800.0, 60.0
#: Seconds at one thing after which the thread stands still: everything that it does is bounded, by less.
STANDING = CARRYING + 600.0
#: Seconds after which metrics are written also if nothing has changed, and for which it is remembered that a warning was told.
METRICS_AGE, REMEMBERED = 60.0, 2 * DAY

FAILURES = (AuthorityError, KubeError, SnapshotError, CommandError, OSError)


def is_due(last: float | None, now: float, every: float) -> bool:
    """A clock that was set back makes it due, too: what is from the future says nothing."""
    return last is None or not 0 <= now - last < every


class Chore:
    """Something that is done each day. What fails is said when it begins to, or fails otherwise, and tried again."""

    def __init__(self, name: str, log: Log, *, last: float | None = None, patience: float = PATIENCE) -> None:
        self.name, self._log, self._last, self._patience = name, log, last, patience
        self._tried: float | None = None
        self._since: float | None = None
        self.trouble = ""

    def is_due(self, now: float) -> bool:
        return is_due(self._tried, now, RETRY) if self.trouble else is_due(self._last, now, DAY)

    def renew(self) -> None:
        """Something has changed: it is due now."""
        self._last = None

    def do(self, action: Callable[[], str | None], now: float) -> None:
        """action returns what is to be known of it, if anything is."""
        self._tried = now
        try:
            said = action()
        except FAILURES as error:
            text = str(error) or type(error).__name__
            sentence = text if text.endswith((".", "!", "?")) else f"{text}."
            if sentence != self.trouble:
                self._log.say(f"{self.name}: {sentence} It is tried again, every {RETRY / 60:.0f} minutes.")
            self._since = now if self._since is None else self._since
            self.trouble = self._log.masked(sentence)
            return
        except Exception as error:  # a defect here is no reason for instances to wait
            self._since = now if self._since is None else self._since
            self.trouble = f"{type(error).__name__}: {error}. This is a defect: its traceback is in the journal."
            self._log.say(f"{self.name}: {self.trouble}\n{traceback.format_exc()}")
            return
        words = [*(["works again"] if self.trouble else []), *([said] if said else [])]
        if words:
            self._log.say(f"{self.name}: {', '.join(words)}")
        self._last, self._since, self.trouble = now, None, ""

    def warning(self, now: float) -> str:
        late = self._since is not None and not 0 <= now - self._since < self._patience
        return f"{self.name} fails: {self.trouble}" if self.trouble and late else ""


class Authority(Protocol):
    """What is used of the VPN's authority."""

    def renew(self) -> list[str]: ...

    def overview(self) -> dict[str, Any]: ...


class Kubernetes(Protocol):
    def warn(self, warning: str, node: str, now: float) -> None: ...


@dataclass
class Told:
    """When each warning was told by which way. On the disk, so that a restart tells nothing twice; without it everything is told once more."""

    path: str
    _moments: dict[str, float] = field(default_factory=dict)

    def load(self) -> None:
        try:
            with open(self.path, encoding="utf-8") as stream:
                self._moments = {str(key): float(moment) for key, moment in json.load(stream).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._moments = {}

    def is_due(self, way: str, key: str, now: float) -> bool:
        return is_due(self._moments.get(f"{way} {key}"), now, DAY)

    def note(self, way: str, key: str, now: float) -> None:
        kept = {name: moment for name, moment in self._moments.items() if not is_due(moment, now, REMEMBERED)}
        self._moments = {**kept, f"{way} {key}": now}
        _files.write(self.path, _files.File(json.dumps(self._moments, indent=1, sort_keys=True) + "\n", 0o600))


def in_thread(work: Callable[[], None]) -> Callable[[], bool]:
    """Returns what says whether it still works. A thread that ends with the program: what it was at is done again at the next start."""
    thread = threading.Thread(target=work, name="upkeep", daemon=True)
    thread.start()
    return thread.is_alive


class Upkeep:
    def __init__(
        self,
        settings: Settings,
        log: Log,
        authority: Authority,
        kubernetes: Kubernetes,
        now: float,
        start: Callable[[Callable[[], None]], Callable[[], bool]] = in_thread,
    ) -> None:
        self._settings, self._log, self._authority, self._kubernetes, self._start = settings, log, authority, kubernetes, start
        self._own = own = settings.upkeep
        self.snapshots = Snapshots(os.path.join(settings.state, "snapshots"), settings.cluster_name, own.saved, own.snapshots_kept)
        self._etcd = Etcd.of_kubeadm(own.etcd, os.path.join(own.kubernetes, "pki"))
        self._files = Files(own.kubernetes, own.kubelet)
        self._told = Told(os.path.join(settings.state, "told.json"))
        self._told.load()
        self._newest: Kept | None = None
        with suppress(OSError):  # then one is made, which says what is wrong with the folder
            self._newest = self.snapshots.newest(now)
        self.renewal = Chore("renewal of the VPN's revocation list", log)
        self.inspection = Chore("look at the VPN's certificates", log)
        self.reading = Chore("look at the control plane's certificates", log)
        self.snapshot = Chore("snapshot", log, last=self._newest.moment if self._newest else None)
        self.carrying = Chore("keeper_snapshot_command", log, patience=0)
        self.events = Chore("events of warnings", log)
        self.passing = Chore("keeper_warning_command", log)
        self.writing = Chore("metrics", log)
        self._of_vpn: list[Expiry] = []
        self._of_files: list[Expiry] = []
        self._list: Expiry | None = None
        self._fingerprint: tuple[tuple[str, int], ...] = ()
        self._looked: float | None = None
        self._is_busy: Callable[[], bool] = lambda: False
        self._at, self._beats = "", 0
        self._moved = (0, now)
        self.standing = ""
        self._metrics: tuple[float | None, str] = (None, "")
        self._now = now

    # --- what it says of itself -----------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, dict[str, Any]]:
        newest, crl = self._newest, self._list
        ends = min(self._expiries, key=lambda one: one.ends, default=None)
        return {
            "snapshot": {
                "last": stamp(newest.moment) if newest else None,
                "path": str(newest.path) if newest else "",
                "trouble": self.snapshot.trouble or self.carrying.trouble,
            },
            "revocation_list": {"next_update": stamp(crl.ends) if crl else None, "trouble": self.renewal.trouble},
            "certificates": {
                "first_end": stamp(ends.ends) if ends else None,
                "what": ends.what if ends else "",
                "trouble": " ".join(filter(None, (self.reading.trouble, self.inspection.trouble))),
            },
            "telling": {"trouble": " ".join(filter(None, (self.events.trouble, self.passing.trouble, self.writing.trouble)))},
        }

    @property
    def warnings(self) -> list[str]:
        return list(self._warnings().values())

    def _warnings(self) -> dict[str, str]:
        """By a name that stays when the words change."""
        now = self._now
        found = {one.name: one.warning(now, self._own.warn_days) for one in self._expiries}
        if self._list and (self.renewal.trouble or self._list.ends <= now):
            # One that is renewed when it is due is not about to end.
            found[self._list.name] = self._list.warning(now, self._own.warn_days)
        chores = (self.renewal, self.inspection, self.reading, self.snapshot, self.carrying, self.events, self.passing, self.writing)
        found |= {chore.name: chore.warning(now) for chore in chores}
        return {name: warning for name, warning in found.items() if warning}

    @property
    def _expiries(self) -> list[Expiry]:
        return [*self._of_files, *self._of_vpn]

    # --- what it does ---------------------------------------------------------------------------------------------------------------------

    def one_pass(self, now: float, status: Mapping[str, Any]) -> None:
        """Takes no time. status: what keeper says of itself, with its warnings."""
        self._now = now
        self._write_metrics(now, status)
        if is_due(self._looked, now, LOOK):
            self._looked = now
            if self._files.fingerprint() != self._fingerprint:
                self.reading.renew()
        is_busy = self._is_busy()
        self._watch(now, is_busy)
        if not is_busy:
            work = self._due(now, status)
            if work:
                self._is_busy = self._start(lambda: self._do(work, now))

    def _watch(self, now: float, is_busy: bool) -> None:
        """Whether the thread moves on. Nobody can end one that does not."""
        beats, since = self._moved
        if not is_busy or beats != self._beats or now < since:
            self._moved = (self._beats, now)
            self.standing = ""
        elif now - since > STANDING and not self.standing:
            self.standing = (
                f"upkeep stands still at this since {stamp(since)}: {self._at}. No snapshot is made and no warning told. "
                "See what it waits for, then: systemctl restart fpga-hybrid-keeper"
            )
            self._log.say(self.standing)

    def _due(self, now: float, status: Mapping[str, Any]) -> list[tuple[Chore, Callable[[], str | None]]]:
        actions: list[tuple[Chore, Callable[[], str | None]]] = [
            (self.renewal, self._renew),
            (self.inspection, self._inspect),
            (self.reading, self._read),
            (self.snapshot, lambda: self._take(now)),
        ]
        due = [(chore, action) for chore, action in actions if chore.is_due(now)]
        if self._is_to_be_carried() and (not self.carrying.trouble or self.carrying.is_due(now)):
            due.append((self.carrying, self._carry))
        own = self._warnings()
        all_ = {**own, **{sentence: sentence for sentence in status.get("warnings") or [] if sentence not in own.values()}}
        ways: list[tuple[Chore, str, Callable[[str], None]]] = [(self.events, "event", lambda text: self._tell(text, now))]
        if self._own.warning_command:
            ways.append((self.passing, "command", lambda text: told.run(self._own.warning_command, f"{text}\n", PASSING)))
        for chore, way, tell in ways:
            untold = {key: text for key, text in all_.items() if self._told.is_due(way, key, now)}
            if untold and (not chore.trouble or chore.is_due(now)):
                due.append((chore, partial(self._tell_all, way, tell, untold, now)))
        return due

    def _do(self, work: list[tuple[Chore, Callable[[], str | None]]], now: float) -> None:
        for chore, action in work:
            self._at, self._beats = chore.name, self._beats + 1
            chore.do(action, now)

    def _renew(self) -> str:
        changes = self._authority.renew()
        if changes:
            self.inspection.renew()  # its date is another one now
        return "; ".join(changes)

    def _inspect(self) -> None:
        answer = self._authority.overview()
        self._of_vpn, self._list = of_authority(answer), revocation_list(answer)

    def _read(self) -> None:
        fingerprint = self._files.fingerprint()
        self._of_files, trouble = self._files.read()
        self._fingerprint = fingerprint
        if trouble:
            raise OSError(trouble)

    def _take(self, now: float) -> str:
        about = {"cluster_name": self._settings.cluster_name, "cluster_id": self._settings.cluster_id, "node": self._own.node}
        self._newest = self.snapshots.take(self._etcd, about, now)
        return f"{self._newest.path}, {self._newest.path.stat().st_size >> 10} KiB"

    def _is_to_be_carried(self) -> bool:
        newest = self._newest
        return bool(self._own.snapshot_command and newest and newest.path.exists() and not newest.copied.exists())

    def _carry(self) -> str:
        newest = self._newest
        assert newest is not None
        told.run([*self._own.snapshot_command, str(newest.path)], "", CARRYING)
        newest.copied.touch(mode=0o600)
        return f"{newest.path} was taken"

    def _tell(self, warning: str, now: float) -> None:
        self._kubernetes.warn(warning, self._own.node, now)

    def _tell_all(self, way: str, tell: Callable[[str], None], untold: Mapping[str, str], now: float) -> None:
        for key, warning in untold.items():
            tell(warning)
            self._told.note(way, key, now)

    def _write_metrics(self, now: float, status: Mapping[str, Any]) -> None:
        last, before = self._metrics
        ends = [*self._expiries, *([self._list] if self._list else [])]
        lasting = told.metrics(status, ends, 0)
        if (lasting != before or is_due(last, now, METRICS_AGE)) and (not self.writing.trouble or self.writing.is_due(now)):
            text = told.metrics(status, ends, now)
            self.writing.do(lambda: _files.write(self._own.metrics_file, _files.File(text, 0o644)), now)
            self._metrics = (now, lasting)
