# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpga-hybrid-keeper: looks, plans, acts, again and again. See --help, and plan.py for its rules."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils._keeper_status import moment, stamp
from ansible_collections.fpga.hybrid.plugins.module_utils._kubeadm import KubeadmError, ca_cert_hashes
from fpga_hybrid.aws import AwsError
from fpga_hybrid.bundle import BundleError, JoinBundle, encode, encode_refusal
from fpga_hybrid.credentials import shared_file
from fpga_hybrid.kube import KubeError
from fpga_hybrid.run import Log
from fpga_hybrid_keeper import brakes, shown
from fpga_hybrid_keeper import plan as plans
from fpga_hybrid_keeper import record as records
from fpga_hybrid_keeper.authority import Authority, AuthorityError
from fpga_hybrid_keeper.brakes import Evidence
from fpga_hybrid_keeper.cloud import AwsEdge, ExistsError
from fpga_hybrid_keeper.cluster import Kubernetes
from fpga_hybrid_keeper.plan import (
    ENROLLED,
    ENROLLING,
    JOINED,
    SEEN,
    Action,
    Cloud,
    End,
    Enrol,
    Entry,
    Forget,
    Group,
    Keep,
    LiftTaint,
    Plan,
    Reap,
    Record,
    Refuse,
    Resume,
    Rules,
    SetTaint,
    Suspend,
    TellAddress,
    World,
    make_plan,
)
from fpga_hybrid_keeper.settings import PROGRAM, Options, Settings, SettingsError, options, read
from fpga_hybrid_keeper.upkeep import Upkeep, is_due

DONE, INCOMPLETE, USAGE, BUSY = 0, 1, 2, 75
#: Seconds between looks while a node is awaited; between looks for instances that are in none of our groups; that a pass may go on to act.
EAGER, EVERYWHERE, BUDGET = 2.0, 60.0, 60.0
#: Seconds between looks for failure parameters of instances that keeper never met.
LEFT = 3600.0
#: A look at rest is one call, and once a minute two: with this, two calls in ten seconds are not passed at an interval of five.
CALM = 1.1
#: Seconds between two tries at most, of what fails.
LONGEST_PAUSE = 60.0
#: Seconds after which the status is written, also if nothing has changed, so that one sees that keeper lives.
STATUS_AGE = 60.0

#: What an edge raises. Anything else is a defect, and ends the program.
FAILURES = (AwsError, KubeError, AuthorityError, BundleError, KubeadmError, OSError)


class SecondEnrolmentError(Exception):
    """Somebody has had what this instance was to get; the message says what was found."""


class Trial:
    """Something that may fail: said when it begins to, or fails otherwise, and tried again after pauses that grow."""

    def __init__(self, name: str, log: Log, first_pause: float) -> None:
        self._name, self._log, self._first = name, log, first_pause
        self._failures, self._pause, self._kind = 0, 0.0, ""
        self._tried: float | None = None
        self.trouble = ""

    def is_due(self, now: float) -> bool:
        return is_due(self._tried, now, self._pause)

    def failed(self, error: Exception, now: float) -> None:
        sentence, kind = _sentence(error), _kind(error)
        pause = min(LONGEST_PAUSE, self._first * 2**self._failures) * random.uniform(0.8, 1.0)  # noqa: S311 - so that keepers do not come back together
        self._failures, self._tried, self._pause = min(self._failures + 1, 10), now, pause
        if kind != self._kind:
            self._log.say(f"{self._name}: {sentence} It is tried again, at least every {LONGEST_PAUSE:.0f} s.")
        self._kind, self.trouble = kind, self._log.masked(sentence)

    def succeeded(self, now: float, pause: float) -> None:
        if self.trouble:
            self._log.say(f"{self._name}: works again, after {self._failures} failures")
        self._failures, self._tried, self._pause, self._kind, self.trouble = 0, now, pause, "", ""


@dataclass
class Edges:
    aws: AwsEdge
    kubernetes: Kubernetes
    authority: Authority


class Keeper:
    def __init__(self, settings: Settings, log: Log, edges: Edges, *, dry_run: bool = False, clock: Callable[[], float] = time.time) -> None:
        self.settings, self.log, self.edges, self.dry_run, self.clock = settings, log, edges, dry_run, clock
        self.rules = rules_of(settings)
        self.record = records.load(self.record_path, settings.cluster_id)
        self.aws = Trial("AWS", log, settings.interval)
        self.kubernetes = Trial("Kubernetes", log, EAGER)
        self.disk = Trial("record and status", log, settings.interval)
        self.daily = Trial("upkeep", log, settings.interval)
        self.evidence = Trial("failure parameters", log, settings.interval)
        self.left = Trial("list of failure parameters", log, settings.interval)
        self.groups: Mapping[str, Group] = {}
        self.trials: dict[tuple[str, str], Trial] = {}
        self.notes: Mapping[str, str] = {}
        self.plan: Plan | None = None
        self.stop = threading.Event()
        self.upkeep = Upkeep(settings, log, edges.authority, edges.kubernetes, clock())
        self._everywhere: float | None = None
        self._asked_aws = last_asked(self.status_path)
        self._left: frozenset[str] = frozenset()
        self._status, self._written = "", 0.0
        self._ready: frozenset[str] = frozenset()

    @property
    def record_path(self) -> str:
        return os.path.join(self.settings.state, "record.json")

    @property
    def status_path(self) -> str:
        return os.path.join(self.settings.state, "status.json")

    # --- one pass -----------------------------------------------------------------------------------------------------------------------

    def one_pass(self, alive: Callable[[], None] = lambda: None) -> bool:
        """Whether everybody answered who was asked, and everything was done."""
        now = self.clock()
        world = self._look(now)
        self.plan = self._plan(world, now)
        whole = world.cloud is not None and (world.nodes is not None or not self.plan.record.live)
        self._note(self.plan.notes, whole=whole)
        if not self.dry_run:
            try:
                self._remember(self.plan.record)
                self._act(self.plan.actions, alive, whole=whole)
                self._write_status(self.clock())
            except OSError as error:
                # Nothing is done that could not be remembered.
                self.disk.failed(error, now)
            else:
                self.disk.succeeded(now, 0)
        return not self.troubles

    def _plan(self, world: World, now: float) -> Plan:
        """What stops launches comes first: everything else costs no money by waiting."""
        plan = make_plan(world, self.record, self.rules, now)
        cloud = world.cloud
        if cloud is None or "" in plan.notes:
            return plan
        self.groups = cloud.groups
        self._left = self._look_for_left(now)
        asked = brakes.of_interest(plan.record, cloud, self.rules, now)
        evidence = self._look_at_evidence(asked, now)
        unread = asked if evidence is None else []
        braking = brakes.make_plan(cloud, world.nodes, evidence or {}, plan.record, self.rules, now, unread, self._ran_until())
        self._asked_aws = now
        actions, waiting = brakes.until_read(plan.actions, unread, plan.record, now)
        return Plan((*braking.steps, *actions), braking.record, {**plan.notes, **braking.notes, **waiting})

    def _ran_until(self) -> float | None:
        """What the next look misses may have ended since the last one, or just before that would have come."""
        return None if self._asked_aws is None else self._asked_aws + self.settings.interval

    def _look_at_evidence(self, instances: Sequence[str], now: float) -> Mapping[str, Evidence] | None:
        """None where it could not be read."""
        if not instances:
            return {}
        if not self.evidence.is_due(now):
            return None
        try:
            found = self.edges.aws.evidence(instances)
        except FAILURES as error:
            self.evidence.failed(error, now)
            return None
        self.evidence.succeeded(now, 0)
        return found

    def _look(self, now: float) -> World:
        cloud = self._look_at_aws(now) if self.aws.is_due(now) else None
        if not self.record.live and not (cloud and cloud.instances):
            return World(cloud, None)  # nobody's node to look at
        self._ready = frozenset()
        try:
            nodes = self.edges.kubernetes.nodes() if self.kubernetes.is_due(now) else None
        except FAILURES as error:
            self.kubernetes.failed(error, now)
            return World(cloud, None)
        if nodes is not None:
            self.kubernetes.succeeded(now, 0)
            self._ready = frozenset(name for name, node in nodes.items() if node.ready)
        return World(cloud, nodes)

    def _look_at_aws(self, now: float) -> Cloud | None:
        everywhere = is_due(self._everywhere, now, EVERYWHERE)
        known = {*self.record.live, *brakes.alive(self.record), *self._left}
        try:
            cloud = self.edges.aws.look(known, everywhere, self._steady())
        except FAILURES as error:
            self.aws.failed(error, now)
            return None
        self.aws.succeeded(now, self.settings.interval)
        self._everywhere = now if everywhere else self._everywhere
        return replace(cloud, left=self._left)

    def _look_for_left(self, now: float) -> frozenset[str]:
        """For the next look, which asks for them by their names: of those that nobody has asked for it is not known that they are no more."""
        if not self.left.is_due(now):
            return frozenset()
        try:
            found = self.edges.aws.left()
        except FAILURES as error:
            self.left.failed(error, now)
            return frozenset()
        self.left.succeeded(now, LEFT)
        return found

    def _steady(self) -> frozenset[str]:
        """Nodes that are as they should be, and whose hours are counted. One that dies falls silent, and is asked about then."""
        entries, lives = self.record.live, self.record.lives
        return frozenset(name for name in self._ready if name in lives and name in entries and entries[name].complete and not entries[name].absent)

    def _note(self, notes: Mapping[str, str], *, whole: bool) -> None:
        """Says each once. A pass in which not everybody was asked takes none back, and knows less of what it names: it does not change any either."""
        current = dict(notes) if whole else {**notes, **self.notes}
        for name, note in current.items():
            if self.notes.get(name) != note:
                self.log.say(f"{name or 'AWS'}: {note}")
        self.notes = current

    def _remember(self, record: Record) -> None:
        if record == self.record:
            return
        for name, entry in record.entries.items():
            if entry.phase == JOINED and self.record.entries.get(name, entry).phase != JOINED:
                self.log.say(f"{name} is a node of the cluster")
            elif entry.phase == JOINED and name not in self.record.entries:
                self.log.say(f"{name} is a node of the cluster that was not on record: it was put there, and gets no join bundle")
        records.save(self.record_path, record, self.settings.cluster_id)
        self.record = record

    def _act(self, actions: Sequence[Action], alive: Callable[[], None], *, whole: bool) -> None:
        if whole:
            # What is planned no more needs no further try.
            planned = {_key(action) for action in actions}
            self.trials = {key: trial for key, trial in self.trials.items() if key in planned}
        end = time.monotonic() + BUDGET
        for action in actions:
            if self.stop.is_set() or time.monotonic() > end:
                return
            trial = self.trials.get(_key(action)) or Trial(f"{action.instance}: {WORDS[type(action)]}", self.log, self.settings.interval)
            if trial.is_due(self.clock()):
                self._try(action, trial)
                alive()
            self.trials.pop(_key(action), None)
            if trial.trouble:
                self.trials[_key(action)] = trial

    def _try(self, action: Action, trial: Trial) -> None:
        try:
            self._remember(_begun(self.record, action, self.clock()))
            address = self._do(action)
        except SecondEnrolmentError as error:
            self._refuse_second(action.instance, str(error))
        except FAILURES as error:
            trial.failed(error, self.clock())
        else:
            self._remember(_done(self.record, action, self.clock(), address))
            trial.succeeded(self.clock(), 0)
            self.log.say(f"{action.instance}: {WORDS[type(action)]}, done{_details(action, address)}")

    # --- actions ------------------------------------------------------------------------------------------------------------------------

    def _do(self, action: Action) -> str:
        """Each can be done again after it was begun. Returns the address that an enrolment gave."""
        aws, kubernetes, name = self.edges.aws, self.edges.kubernetes, action.instance
        if isinstance(action, Enrol):
            return self._enrol(action)
        if isinstance(action, Refuse):
            with suppress(ExistsError):
                aws.put(name, action.arn, encode_refusal(action.reason))
        elif isinstance(action, Forget):
            aws.delete(name)
            kubernetes.forget_token(name)
        elif isinstance(action, TellAddress):
            aws.tell_address(name, action.address)
        elif isinstance(action, LiftTaint):
            kubernetes.lift_taint(action.node)
        elif isinstance(action, SetTaint):
            kubernetes.set_taint(action.node)
        elif isinstance(action, Suspend):
            aws.suspend(action.group)
        elif isinstance(action, Resume):
            aws.resume(action.group)
        elif isinstance(action, Keep):
            self._keep(action)
        elif isinstance(action, End):
            aws.end(name)
        else:
            self._reap(action)
        return ""

    def _enrol(self, action: Enrol) -> str:
        name, settings = action.instance, self.settings
        with open(settings.ca, encoding="ascii") as stream:
            pins = tuple(ca_cert_hashes(stream.read()))
        issued = self.edges.authority.issue(name)
        if not issued.new and not action.again:
            raise SecondEnrolmentError("the VPN's authority has issued a certificate for it before, and keeper's record does not know of it")
        token = self.edges.kubernetes.token(name, self.rules.lifetime)
        bundle = JoinBundle(name, settings.endpoint, settings.endpoint_address, token, pins, issued.profile, issued.address)
        encoded = encode(bundle)
        try:
            if action.again:
                self.edges.aws.delete(name)
            self.edges.aws.put(name, action.arn, encoded)
        except ExistsError as error:
            raise SecondEnrolmentError(f"{error.message}, and keeper's record does not know of it") from None
        except AwsError as error:
            # AWS quotes the value that it refuses. Masked here, because it is logged, and shown, when this program knows the secrets no more.
            with self.log.hiding(encoded.text, *bundle.secrets):
                raise type(error)(error.call, error.code, self.log.masked(error.message)) from None
        return issued.address

    def _refuse_second(self, name: str, found: str) -> None:
        reason = f"an instance is enrolled once: {found}. End {name}; its group starts another one."
        entry = self.record.entries[name]
        self._remember(plans.refused(self.record, name, reason, self.clock()))
        self.log.say(f"{name}: refused: {reason}")
        try:
            self.edges.kubernetes.forget_token(name)
            self.edges.aws.put(name, entry.arn, encode_refusal(reason))
        except FAILURES as error:
            self.log.say(f"{name}: could not be told so: {_sentence(error)}")

    def _reap(self, action: Reap) -> None:
        if action.certificate:
            self._revoke(action.instance)
        if action.secret:
            self.edges.aws.delete(action.instance)
            self.edges.kubernetes.forget_token(action.instance)
        self.edges.aws.forget_failure(action.instance)
        if action.node is not None:
            self.edges.kubernetes.delete_node(action.node)

    def _keep(self, action: Keep) -> None:
        self.edges.aws.keep(action.instance, action.kept.group, stamp(action.kept.until))
        self._revoke(action.instance)
        self.edges.aws.delete(action.instance)
        self.edges.kubernetes.forget_token(action.instance)

    def _revoke(self, instance: str) -> None:
        warning = self.edges.authority.revoke(instance)
        if warning:
            self.log.say(warning)

    # --- what it says of itself ---------------------------------------------------------------------------------------------------------

    @property
    def troubles(self) -> dict[str, str]:
        found = {"aws": self.aws.trouble, "kubernetes": self.kubernetes.trouble, "disk": self.disk.trouble, "account": self.notes.get("", "")}
        found |= {"failures": self.evidence.trouble or self.left.trouble, "upkeep": self.daily.trouble or self.upkeep.standing}
        found |= {f"{name}: {words}": trial.trouble for (name, words), trial in self.trials.items()}
        return {name: trouble for name, trouble in found.items() if trouble}

    def status(self) -> dict[str, Any]:
        """No secret."""
        instances = {
            name: {
                **{key: value for key, value in vars(entry).items() if key in ("phase", "pool", "vpn_address", "reason", "complete") and value != ""},
                "since": stamp(entry.since),
                **({"note": self.notes[name]} if self.notes.get(name) else {}),
            }
            for name, entry in self.record.entries.items()
        }
        braking = brakes.report(self.groups, self.record, self.settings.prices, self.clock(), self.log.masked)
        return {
            "schema": 1,
            "cluster_id": self.settings.cluster_id,
            "account": self.record.account,
            "region": self.settings.region,
            "healthy": not self.troubles,
            "troubles": self.troubles,
            "instances": instances,
            **braking,
            "limits": dict(self.settings.limits),
            "upkeep": self.upkeep.status(),
            "warnings": [*braking["warnings"], *self.upkeep.warnings],
        }

    def _write_status(self, now: float) -> None:
        status = self.status()
        text = json.dumps(status, sort_keys=True)
        if text != self._status or is_due(self._written, now, STATUS_AGE):
            moments = {"looked": stamp(now), "asked_aws": None if self._asked_aws is None else stamp(self._asked_aws)}
            _files.write(self.status_path, _files.File(json.dumps({**status, **moments}, indent=1) + "\n", 0o644))
            self._status, self._written = text, now

    # --- again and again ----------------------------------------------------------------------------------------------------------------

    @property
    def pause(self) -> float:
        """Eager while somebody waits for us: an instance on its way in, or one whose pods cannot start yet."""
        awaited = any(is_awaited(entry) for name, entry in self.record.live.items() if name not in self.record.failed or entry.absent)
        return min(EAGER, self.settings.interval) if awaited else self.settings.interval * CALM

    def _keep_up(self) -> None:
        """A disk that fails, or a defect there, is no reason for instances to wait."""
        now = self.clock()
        try:
            self.upkeep.one_pass(now, self.status())
        except Exception as error:
            self.daily.failed(error, now)
        else:
            self.daily.succeeded(now, 0)

    def run(self, alive: Callable[[], None], is_outdated: Callable[[], bool]) -> None:
        while not self.stop.is_set() and not is_outdated():
            self.one_pass(alive)
            self._keep_up()
            alive()
            self.stop.wait(self.pause)


def last_asked(path: str) -> float | None:
    """When AWS has answered a keeper last, from the status that it left: that is written each minute anyway, the record only when something changes."""
    try:
        with open(path, encoding="utf-8") as stream:
            return moment(json.load(stream)["asked_aws"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_awaited(entry: Entry) -> bool:
    return entry.phase in (SEEN, ENROLLING, ENROLLED) or (entry.phase == JOINED and not entry.complete) or entry.absent > 0


#: What an action is called in log and status.
WORDS: dict[type, str] = {
    Enrol: "enrolment",
    Refuse: "refusal",
    Forget: "removal of its join bundle",
    TellAddress: "tag with its VPN address",
    LiftTaint: "lifting of its startup taint",
    SetTaint: "setting of its startup taint",
    Reap: "clearing away",
    Suspend: "suspension of its launches",
    Resume: "resumption of its launches",
    Keep: "keeping it for a look",
    End: "its end after it was kept for a look",
}


def _begun(record: Record, action: Action, now: float) -> Record:
    return brakes.begun(record, action) if isinstance(action, brakes.STEPS) else plans.begun(record, action, now)


def _done(record: Record, action: Action, now: float, address: str) -> Record:
    return brakes.done(record, action, now) if isinstance(action, brakes.STEPS) else plans.done(record, action, now, address)


def _key(action: Action) -> tuple[str, str]:
    return action.instance, WORDS[type(action)]


def _details(action: Action, address: str) -> str:
    if isinstance(action, Enrol):
        return f": pool {action.pool}, VPN address {address}"
    if isinstance(action, Refuse):
        return f": {action.reason}"
    if isinstance(action, Keep):
        return f": until {stamp(action.kept.until)}, out of group {action.kept.group}, its certificate revoked"
    if isinstance(action, Reap):
        parts = [*(["certificate"] if action.certificate else []), *(["Node object"] if action.node else []), *(["join bundle"] if action.secret else [])]
        return f": {', '.join(parts) or 'nothing was left'}"
    return ""


def _sentence(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _kind(error: Exception) -> str:
    """What tells one failure from another: EC2's words differ each time (an encoded message), its codes do not."""
    return f"{error.call} {error.code}" if isinstance(error, AwsError) and error.code else _sentence(error)


def rules_of(settings: Settings) -> Rules:
    limits, failed = settings.limits, settings.failed_joins
    return Rules(
        settings.cluster_id,
        settings.cluster_name,
        grace=settings.grace,
        network_told=settings.network_told,
        most=int(failed["most"] or 0),
        window=failed["window"] or 0,
        instances=None if limits["instances"] is None else int(limits["instances"]),
        hours=limits["instance_hours_per_day"],
        keep=settings.keep_failed,
    )


def edges_of(settings: Settings) -> Edges:
    aws = AwsEdge(
        settings.region, shared_file(settings.credentials), settings.endpoint_url, settings.ssm_prefix.rstrip("/"), settings.account, rules_of(settings)
    )
    return Edges(aws, Kubernetes(settings.kubeconfig), Authority(settings.vpn))


def planned(keeper: Keeper) -> dict[str, Any]:
    """What --dry-run prints."""
    actions = keeper.plan.actions if keeper.plan else ()
    said = [{"action": WORDS[type(one)], "instance": one.instance, "details": _details(one, "the next free one").removeprefix(": ")} for one in actions]
    return {"actions": said, **keeper.status()}


# --- the program ------------------------------------------------------------------------------------------------------------------------


class BusyError(Exception):
    pass


@contextmanager
def alone(folder: str) -> Iterator[None]:
    os.makedirs(folder, mode=0o755, exist_ok=True)
    with open(os.path.join(folder, "lock"), "w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another {PROGRAM} is at work on this host: systemctl status {PROGRAM}. --dry-run works beside it.") from None
        yield


def notify(state: str) -> None:
    """systemd's sd_notify, where it has started us."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):
            sender.sendto(state.encode(), f"\0{path[1:]}" if path.startswith("@") else path)


def fingerprint(config: str) -> tuple[tuple[str, int], ...]:
    """Of what this process was made from. A newer one on the disk is taken up by a new start, which systemd gives."""
    packages = [Path(sys.modules[name].__file__ or "").parent for name in ("fpga_hybrid_keeper", "fpga_hybrid", _files.__name__)]
    paths = [Path(config), *(path for folder in packages for path in sorted(folder.glob("*.py")))]
    return tuple((str(path), path.stat().st_mtime_ns) for path in paths if path.exists())


def main(argv: Sequence[str] | None = None) -> int:
    chosen = options(sys.argv[1:] if argv is None else argv)
    log = Log()
    os.umask(0o077)
    made_from = fingerprint(chosen.config)
    try:
        settings = read(chosen.config)
        if chosen.status:
            return shown.show(settings.state, chosen.as_json, time.time())
        if chosen.dry_run:
            return _once(Keeper(settings, log, edges_of(settings), dry_run=True), chosen)
        with alone(settings.state):
            keeper = Keeper(settings, log, edges_of(settings))
            if chosen.once:
                return _once(keeper, chosen)
            _serve(keeper, lambda: fingerprint(chosen.config) != made_from)
            return DONE
    except (SettingsError, records.RecordError) as error:
        log.say(f"{PROGRAM}: {error}")
        return USAGE
    except BusyError as error:
        log.say(f"{PROGRAM}: {error}")
        return BUSY


def _once(keeper: Keeper, chosen: Options) -> int:
    complete = keeper.one_pass()
    if chosen.dry_run:
        print(json.dumps(planned(keeper), indent=2), flush=True)
    return DONE if complete else INCOMPLETE


def _serve(keeper: Keeper, is_outdated: Callable[[], bool]) -> None:
    def end(_signal: int, _frame: FrameType | None) -> None:
        keeper.stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    keeper.log.say(f"keeps cluster {keeper.settings.cluster_name} ({keeper.settings.cluster_id}) in {keeper.settings.region}: {_summary(keeper.record)}")
    notify("READY=1")
    keeper.run(lambda: notify("WATCHDOG=1"), is_outdated)
    keeper.log.say("ends; what has begun is gone on with at the next start")


def _summary(record: Record) -> str:
    phases: dict[str, int] = {}
    for entry in record.live.values():
        phases[entry.phase] = phases.get(entry.phase, 0) + 1
    return ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items())) or "no instances on record"
