"""Gives every instance of the lab's AWS a real host, and ends it when AWS says so.

    with Cloud("10.203.10.1", 5055) as cloud, SideCar(cloud, image) as cars: ...

A host is a container of the lab in network `vpc`: systemd, its own metadata service on 169.254.169.254 (lab.cloud.imds), which answers before the
first process of the host runs, the boards of its instance's type (lab.fpga), and a serial console, of which GetConsoleOutput tells. Its user-data is
run by its own cloud-init (cloud.cfg beside this file says how).

As EC2 does
- shutting-down, terminated or no longer listed: the system is shut down, within `shutdown_seconds`, and the host removed with its disks.
- StopInstances: shut down, its disks kept until it is started again or terminated.
- Powered off from within: stopped or terminated, as its InstanceInitiatedShutdownBehavior says; a group's instance that was stopped is then
  terminated and replaced by the group's health check. Rebooted from within: the same instance, booted anew.
- A spot instance that is interrupted gets its notice in its metadata, and is terminated when that is due.

Addresses: what AWS says, where that is one of ADDRESSES; `make_subnets` makes a VPC of which every address is. For an instance elsewhere, or with the
address of another one that lives, a free one is taken, and its metadata says so, although DescribeInstances doesn't.

What goes wrong with one host is said and tried again. What goes wrong with the side-car itself ends its work: whatever a program asks of it then raises.

One side-car at a time on a machine, by the lock `cloud`. A host whose side-car has gone is nobody's: lab.recovery removes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import select
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lab import lifecycle, podman
from lab.cloud.imds import Imds, Instance, credentials_from, instance_from, listen_in
from lab.fpga import hosts as fpga
from lab.hosts import container
from lab.lock import held
from lab.run import CommandError, run, say, wait_until
from lab.settings import LABEL, VPC, InstanceHost, LabError

if TYPE_CHECKING:
    from lab.cloud.server import Control

ADDRESSES = tuple(VPC.subnet[number] for number in range(100, 200))
#: By zone, of the VPC's 10.203.30.0/24. AWS keeps the first four and the last address of a subnet for itself; the others are all of ADDRESSES.
SUBNETS = {"us-east-1a": "10.203.30.96/27", "us-east-1b": "10.203.30.128/27", "us-east-1c": "10.203.30.160/27"}

CLOUD_INIT = Path(__file__).with_name("cloud.cfg")
CLOUD_INIT_FILE = "etc/cloud/cloud.cfg.d/90-lab.cfg"
#: cloud-init takes a container for an unknown cloud, and asks by version 1 (cloud.cfg); some of it under the name of its HTTP library. It is done long
#: before that, and long before anything else of the host asks.
LENIENT_TO = "(Cloud-Init|python-requests)/"
LENIENT_SECONDS = 120
#: It has a serial console: /dev/console is a terminal, of which podman keeps what is written to it.
OPTIONS = ("--tty",)

#: What a container's init ends with when its system reboots: the kernel ends a PID namespace's init by SIGHUP for a reboot, by SIGINT for a power-off.
#: Source: reboot(2), "Behavior inside PID namespaces".
REBOOTED = 128 + 1

POLL_SECONDS = 0.5
#: As long as an answer of the metadata service may be old; what cloud-init asks in one go is then looked up once.
DESCRIBED_SECONDS = 1.0
RETRY_SECONDS = 5.0
SPOT_SECONDS = 120
#: Hosts that are started or ended at the same time.
SIDE_BY_SIDE = 4
#: A line of podman's log: time, stream, whether it is a whole one.
LOG_LINE = re.compile(r"^\S+ std(?:out|err) (?P<kind>[FP]) (?P<text>.*)$")

ALIVE = ("pending", "running")
HALTED = ("stopping", "stopped")
#: An instance that has its address and its disks.
LIVE = (*ALIVE, *HALTED)
#: What may go wrong with one host without being a mistake of this program.
MISHAPS = (LabError, OSError, BotoCoreError, ClientError)


class Phase(Enum):
    """Of a host."""

    CHANGING = "changing"
    UP = "up"
    OFF = "off"
    FAILED = "failed"  # at its making or its end: what is left of it is to be removed


class Action(Enum):
    START = "start"  # make it, boot it
    BOOT = "boot"  # the one that is off
    STOP = "stop"
    END = "end"


@dataclass(frozen=True)
class Listed:
    """What DescribeInstances says of an instance, as far as its host depends on it."""

    id: str
    type: str
    state: str
    address: str

    @classmethod
    def parse(cls, instance: Mapping[str, Any]) -> Listed:
        return cls(instance["InstanceId"], instance["InstanceType"], instance["State"]["Name"], instance.get("PrivateIpAddress", ""))


@dataclass(frozen=True)
class Event:
    """seconds: since AWS listed the instance first."""

    instance: str
    seconds: float
    text: str


@dataclass
class Guest:
    """An instance's host and what belongs to it."""

    host: InstanceHost
    type: str
    phase: Phase = Phase.CHANGING
    #: By time.monotonic(): nothing is done with it until then.
    not_before: float = 0.0
    imds: Imds | None = None
    #: Of the host's first process: tells when it has ended, and never of another process with its number.
    process: int | None = None
    log: Path | None = None
    log_size: int = 0
    described: tuple[float, Instance] | None = None


# ---- what is to be done


def plan(listed: Collection[Listed], phases: Mapping[str, Phase]) -> dict[str, Action]:
    """By instance. A host that is changing is looked at again when it has changed."""
    states = {one.id: one.state for one in listed}
    wanted = {identifier: _action(states.get(identifier, "gone"), phases.get(identifier)) for identifier in {**states, **phases}}
    return {identifier: action for identifier, action in wanted.items() if action is not None}


def _action(state: str, phase: Phase | None) -> Action | None:
    if phase is Phase.CHANGING:
        return None
    if phase is Phase.FAILED:
        return Action.END
    if phase is None:
        return Action.START if state in ALIVE else None
    if state in ALIVE:
        return Action.BOOT if phase is Phase.OFF else None
    if state in HALTED:
        return Action.STOP if phase is Phase.UP else None
    return Action.END


def said_address(said: str) -> IPv4Address | None:
    """What AWS says, where a host can have that."""
    try:
        return address if (address := IPv4Address(said)) in ADDRESSES else None
    except AddressValueError:
        return None


def free_address(taken: Collection[IPv4Address]) -> IPv4Address:
    """From the end: what AWS gives from SUBNETS it gives from the beginning."""
    for address in reversed(ADDRESSES):
        if address not in taken:
            return address
    raise LabError(f"no address is left for another instance: all of {ADDRESSES[0]} to {ADDRESSES[-1]} are taken. End some of the lab's instances")


def console_text(log: str) -> str:
    """What stands on the console, of podman's k8s-file log."""
    found = [match for line in log.splitlines() if (match := LOG_LINE.match(line))]
    return "".join(match["text"] + ("\n" if match["kind"] == "F" else "") for match in found)


# ---- a network for them


def make_subnets(cloud: Control) -> dict[str, str]:
    """A VPC with the addresses of the lab's, in an account that has none such; subnet ids by zone."""
    ec2 = cloud.client("ec2")
    vpc = ec2.create_vpc(CidrBlock=str(VPC.subnet))["Vpc"]["VpcId"]
    return {zone: ec2.create_subnet(VpcId=vpc, CidrBlock=network, AvailabilityZone=zone)["Subnet"]["SubnetId"] for zone, network in SUBNETS.items()}


class SideCarError(LabError):
    """A mistake of the side-car's own, after which it does nothing any more."""


class SideCar:
    """Keeps the hosts like AWS's instances for the length of a `with`; leaves none. image: podman's reference, of one that has cloud-init."""

    def __init__(self, cloud: Control, image: str, *, shutdown_seconds: int = 20, tell: Callable[[str], None] = say) -> None:
        self.events: list[Event] = []
        self._cloud, self._image, self._shutdown_seconds, self._tell = cloud, image, shutdown_seconds, tell
        self._guests: dict[str, Guest] = {}
        #: Instance -> its notice, and the moment by time.monotonic() when it is terminated.
        self._interrupted: dict[str, tuple[Mapping[str, str], float]] = {}
        self._ended = threading.Event()
        self._complaint = ""
        self._failure: BaseException | None = None
        #: Instance -> when AWS listed it first, by time.monotonic().
        self._first_listed: dict[str, float] = {}
        self._held = contextlib.ExitStack()
        self._jobs = ThreadPoolExecutor(max_workers=SIDE_BY_SIDE, thread_name_prefix="lab.cloud.sidecar")
        self._thread = threading.Thread(target=self._keep, name="lab.cloud.sidecar", daemon=True)

    def __enter__(self) -> SideCar:
        if not podman.image_exists(self._image):
            raise LabError(f"no image {self._image} for the instances' hosts: build it, or name another one")
        lifecycle.prepare(())  # and removes what a killed side-car has left
        self._held.enter_context(held("cloud", seconds=0, busy="the lab's cloud runs already ({holder}): end it, or use that one"))
        self._ec2, self._iam, self._sts = (self._cloud.own_client(service) for service in ("ec2", "iam", "sts"))
        self._public_key = container.ensure_ssh_key()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        with self._held:
            self._thread.join()
            self._jobs.shutdown(wait=True, cancel_futures=True)
            with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
                list(pool.map(self._remove, list(self._guests.values())))
        if error is None:
            self.check()

    # ---- what a program asks

    def check(self) -> None:
        """SideCarError if it has failed."""
        if self._failure is not None:
            raise SideCarError(f"the side-car has failed, and AWS's instances and their hosts go separate ways: {self._failure!r}") from self._failure

    def hosts(self) -> dict[str, InstanceHost]:
        """Those that run, by instance."""
        self.check()
        return {identifier: guest.host for identifier, guest in list(self._guests.items()) if guest.phase is Phase.UP}

    def wait_for(self, *instances: str, seconds: float = 60) -> list[InstanceHost]:
        """Until these run."""
        wait_until(lambda: set(instances) <= set(self.hosts()), seconds=seconds, what=f"hosts of {', '.join(instances)} run", every=0.1)
        return [self._guests[identifier].host for identifier in instances]

    def wait_until_gone(self, *instances: str, seconds: float = 60) -> None:
        """Until nothing is left of these."""

        def gone() -> bool:
            self.check()
            return not set(instances) & set(self._guests)

        wait_until(gone, seconds=seconds, what=f"hosts of {', '.join(instances)} are gone", every=0.1)

    def imds(self, instance: str) -> Imds:
        """The metadata service of one that runs; what it was asked (`asked`, `without_token()`) is of this boot."""
        found = self._guests[instance].imds
        if found is None:
            raise LabError(f"{instance} doesn't run")
        return found

    def interrupt(self, instance: str, seconds: float = SPOT_SECONDS) -> None:
        """EC2 wants a spot instance back: a notice, and after so many seconds its end."""
        guest = self._guests.get(instance)
        if guest is None:
            raise LabError(f"{instance} has no host that could be told of its interruption: wait_for() it first")
        due = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        self._interrupted[instance] = ({"action": "terminate", "time": due.strftime("%Y-%m-%dT%H:%M:%SZ")}, time.monotonic() + seconds)
        guest.described = None
        self._note(guest, f"spot notice: terminated in {seconds:.0f} s")

    # ---- once and again

    def _keep(self) -> None:
        try:
            while self._failure is None and not self._ended.is_set():
                self._try_a_turn()
                self._ended.wait(POLL_SECONDS)
        except Exception as error:
            self._failure = error
            self._tell(f"the side-car has failed: {traceback.format_exc()}")

    def _try_a_turn(self) -> None:
        try:
            self._turn()
            self._complaint = ""
        except MISHAPS as error:
            if str(error) != self._complaint:
                self._tell(f"the side-car cannot go on for now: {error}")
            self._complaint = str(error)

    def _turn(self) -> None:
        # In this order: AWS says it of a moment when the hosts had these phases already.
        phases = {identifier: guest.phase for identifier, guest in list(self._guests.items())}
        listed = {one.id: one for one in self._list()}
        now = time.monotonic()
        for identifier in listed:
            self._first_listed.setdefault(identifier, now)
        for identifier, action in plan(listed.values(), phases).items():
            if action is Action.START:
                self._welcome(listed[identifier], listed)
            elif self._guests[identifier].not_before <= now:
                self._act(self._guests[identifier], action)
        for guest in list(self._guests.values()):
            if guest.phase is Phase.UP:
                self._pass_console_on(guest)
                if guest.not_before <= now and _has_ended(guest):
                    self._do(guest, self._after_end, Phase.UP)
        for identifier, (_notice, due) in list(self._interrupted.items()):
            lives = identifier in listed and listed[identifier].state in LIVE
            if lives and due <= now:
                self._cloud.interrupt(identifier)
            if due <= now or not lives:
                self._interrupted.pop(identifier, None)

    def _list(self) -> Iterator[Listed]:
        for page in self._ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 1000}):
            for reservation in page["Reservations"]:
                yield from map(Listed.parse, reservation["Instances"])

    def _welcome(self, instance: Listed, listed: Mapping[str, Listed]) -> None:
        had = {guest.host.address: name for name, guest in list(self._guests.items())}
        address, fault = said_address(instance.address), f"not of {ADDRESSES[0]} to {ADDRESSES[-1]}"
        if address in had:
            holder = had[address]
            if holder not in listed or listed[holder].state not in LIVE:  # AWS gives it anew at once; the host that had it shuts down
                return
            address, fault = None, f"that of {holder}"
        if address is None:
            address = free_address({*had, *_addresses_of_others(), *(said for one in listed.values() if (said := said_address(one.address)))})
        guest = Guest(InstanceHost(instance.id, VPC, address), instance.type)
        self._guests[instance.id] = guest
        if str(address) != instance.address:
            self._note(guest, f"its address is {address}: {instance.address or 'none'}, which AWS says, is {fault}")
        self._do(guest, self._start, Phase.FAILED)

    def _act(self, guest: Guest, action: Action) -> None:
        if guest.phase is Phase.FAILED:
            self._do(guest, self._clear_away, Phase.FAILED)
        elif action is Action.BOOT:
            self._do(guest, self._boot_again, Phase.OFF)
        elif action is Action.STOP:
            self._do(guest, self._stop, Phase.UP)
        else:
            self._do(guest, self._end, Phase.FAILED)

    def _do(self, guest: Guest, work: Callable[[Guest], Phase | None], otherwise: Phase) -> None:
        """In a thread of its own. The host has the phase that comes of it, or is forgotten; otherwise: the phase that it has if that fails."""
        guest.phase = Phase.CHANGING
        self._jobs.submit(self._attempt, guest, work, otherwise).add_done_callback(self._look_at)

    def _look_at(self, job: Future[None]) -> None:
        """_attempt lets nothing through but what it cannot even tell of."""
        if not job.cancelled() and (error := job.exception()) is not None:
            self._failure = error

    def _attempt(self, guest: Guest, work: Callable[[Guest], Phase | None], otherwise: Phase) -> None:
        phase: Phase | None = otherwise
        try:
            phase = work(guest)
        except Exception as error:  # whatever it is: the next attempt may be better, and the host must not be forgotten
            guest.not_before = time.monotonic() + RETRY_SECONDS
            self._note(guest, f"error: {error if isinstance(error, MISHAPS) else repr(error)}; tried again in {RETRY_SECONDS:.0f} s")
        if phase is None:
            self._guests.pop(guest.host.name, None)
        else:
            guest.phase = phase

    def _note(self, guest: Guest, text: str) -> None:
        event = Event(guest.host.name, time.monotonic() - self._first_listed[guest.host.name], text)
        self.events.append(event)
        self._tell(f"{event.instance} ({guest.type}) +{event.seconds:.1f} s: {text}")

    # ---- one host

    def _start(self, guest: Guest) -> Phase | None:
        boards = fpga.of_type(guest.type)
        settings = container.settings_tar(guest.host, self._public_key, boards, {CLOUD_INIT_FILE: CLOUD_INIT.read_text()})
        container.make(guest.host, self._image, settings, OPTIONS)
        return self._boot(guest)

    def _boot(self, guest: Guest) -> Phase | None:
        # Its network is there and nothing runs in it yet: the metadata service is first.
        run("podman", "init", guest.host.container)
        (found,) = podman.inspect_containers(guest.host.container)
        process = found["State"]["Pid"]
        guest.log, guest.log_size = Path(found["HostConfig"]["LogConfig"]["Path"]), 0
        guest.process = os.pidfd_open(process)
        listener = listen_in(f"/proc/{process}/ns/net")
        guest.imds = Imds(
            lambda: self._describe(guest),
            lambda told: credentials_from(self._sts, self._iam, told),
            listener,
            lenient_to=LENIENT_TO,
            lenient_seconds=LENIENT_SECONDS,
        )
        guest.imds.__enter__()
        run("podman", "start", guest.host.container)
        number = len(fpga.of_type(guest.type))
        self._note(guest, f"{guest.host.hostname} boots with {number or 'no'} board{'' if number == 1 else 's'}")
        return Phase.UP

    def _boot_again(self, guest: Guest) -> Phase | None:
        """The one that is off; if it doesn't boot, it is off again, with its disks."""
        try:
            return self._boot(guest)
        except Exception:
            with contextlib.suppress(*MISHAPS):
                container.stop(guest.host, 0)
            self._let_go(guest)
            raise

    def _describe(self, guest: Guest) -> Instance:
        if guest.described is None or time.monotonic() - guest.described[0] > DESCRIBED_SECONDS:
            notice = self._interrupted.get(guest.host.name)
            try:
                found = instance_from(self._ec2, self._iam, guest.host.name, notice[0] if notice else None)
            except ClientError:
                if guest.described is None:
                    raise
                return guest.described[1]  # AWS has forgotten it; its host still shuts down
            if found.address != str(guest.host.address):
                found = dataclasses.replace(found, address=str(guest.host.address), name=f"{guest.host.hostname}.ec2.internal")
            guest.described = (time.monotonic(), found)
        return guest.described[1]

    def _stop(self, guest: Guest) -> Phase | None:
        container.stop(guest.host, self._shutdown_seconds)
        self._let_go(guest)
        self._note(guest, "stopped")
        return Phase.OFF

    def _end(self, guest: Guest) -> Phase | None:
        self._note(guest, "shuts down")
        container.stop(guest.host, self._shutdown_seconds)
        self._remove(guest)
        self._note(guest, "gone")
        return None

    def _after_end(self, guest: Guest) -> Phase | None:
        """It has ended by itself."""
        try:
            status = int(run("podman", "wait", guest.host.container, timeout=30))
        except CommandError:
            status = -1  # somebody has removed it: to EC2 a host that has failed
        if status == REBOOTED:
            self._let_go(guest)
            self._note(guest, "reboots")
            return Phase.OFF  # and AWS says that it runs
        asked = self._ec2.describe_instance_attribute(InstanceId=guest.host.name, Attribute="instanceInitiatedShutdownBehavior")
        behaviour = asked["InstanceInitiatedShutdownBehavior"]["Value"]
        self._note(guest, f"powered off (status {status}): AWS has to {behaviour} it")
        {"stop": self._ec2.stop_instances, "terminate": self._ec2.terminate_instances}[behaviour](InstanceIds=[guest.host.name])
        self._let_go(guest)
        return Phase.OFF

    def _clear_away(self, guest: Guest) -> Phase | None:
        self._remove(guest)
        self._note(guest, "removed")
        return None

    def _remove(self, guest: Guest) -> None:
        self._let_go(guest)
        container.remove(guest.host)

    def _let_go(self, guest: Guest) -> None:
        """Of what holds the network of a host that has ended, or is about to."""
        self._pass_console_on(guest)
        if guest.imds is not None:
            guest.imds.__exit__(None, None, None)
            guest.imds = None
        if guest.process is not None:
            os.close(guest.process)
            guest.process = None

    def _pass_console_on(self, guest: Guest) -> None:
        with contextlib.suppress(OSError, ValueError):  # gone with its host; the lab's AWS no longer serves
            if guest.log is not None and (size := guest.log.stat().st_size) != guest.log_size:
                self._cloud.console(guest.host.name, console_text(guest.log.read_text(errors="replace")))
                guest.log_size = size


def _has_ended(guest: Guest) -> bool:
    return guest.process is not None and bool(select.select([guest.process], [], [], 0)[0])


def _addresses_of_others() -> set[IPv4Address]:
    """Of the lab's hosts in any network, and of its depot's."""
    labels = (found.get("Labels") or {} for found in podman.lab_containers())
    return {IPv4Address(one[f"{LABEL}.address"]) for one in labels if f"{LABEL}.address" in one}
