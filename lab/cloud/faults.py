"""Faults that the proxy injects, and the settings of what isn't a fault. Set over the control URL; pure."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from lab.cloud import errors
from lab.cloud.errors import Refusal
from lab.cloud.request import Request

#: What a fault may do.
KINDS = {
    "throttle": "AWS's answer to too many calls, in the service's own words",
    "deny": "not authorized, whatever the policies say",
    "error": "the error `code` with `message` and `status`",
    "latency": "the answer comes after `seconds`",
    "down": "the connection is closed without an answer",
    "no_capacity": "groups can launch no more than `free` instances of `instance_type` in `zone`",
}


class FaultError(ValueError):
    """A fault or setting that there is none of; the message says what there is."""


@dataclass(frozen=True)
class Fault:
    """service, action, region, identity (an ARN), instance_type and zone are patterns with * and ?. times: None until it is lifted."""

    kind: str
    service: str = "*"
    action: str = "*"
    region: str = "*"
    identity: str = "*"
    times: int | None = None
    seconds: float = 0.0
    code: str = ""
    message: str = ""
    status: int = 400
    instance_type: str = "*"
    zone: str = "*"
    free: int = 0
    id: int = 0

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Fault:
        known = {entry.name for entry in fields(cls)} - {"id"}
        if unknown := set(values) - known:
            raise FaultError(f"a fault has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
        if values.get("kind") not in KINDS:
            raise FaultError(f"no fault is called {values.get('kind')!r}; there are {', '.join(KINDS)}")
        if values["kind"] == "error" and not values.get("code"):
            raise FaultError("an error needs a code")
        return cls(**values)

    def concerns(self, request: Request, who: str) -> bool:
        pairs = ((request.service, self.service), (request.action, self.action), (request.region, self.region), (who, self.identity))
        return self.kind != "no_capacity" and all(fnmatchcase(value, pattern) for value, pattern in pairs)

    def refusal(self, request: Request, who: str) -> Refusal | None:
        if self.kind == "throttle":
            return errors.throttled(request)
        if self.kind == "deny":
            return errors.denied(request, who, request.iam_action, "*", "with an explicit deny in a service control policy")
        if self.kind == "error":
            return Refusal(self.code, self.message or self.code, self.status)
        return None


class Faults:
    """Those that are set now. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._faults: dict[int, Fault] = {}

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            fault = replace(fault, id=next(self._ids))
            self._faults[fault.id] = fault
            return fault

    def lift(self, fault_id: int | None = None) -> None:
        """One, or all."""
        with self._lock:
            if fault_id is None:
                self._faults.clear()
            elif self._faults.pop(fault_id, None) is None:
                raise FaultError(f"no fault {fault_id} is set; set are {', '.join(map(str, self._faults)) or 'none'}")

    def listed(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(fault) for fault in self._faults.values()]

    def take(self, request: Request, who: str) -> list[Fault]:
        """Those that concern this call, each used once."""
        with self._lock:
            found = [fault for fault in self._faults.values() if fault.concerns(request, who)]
            for fault in found:
                self._use(fault)
            return found

    def capacity(self, instance_type: str, zone: str) -> int | None:
        """How many more can be launched there; None for no end."""
        with self._lock:
            free = [fault.free for fault in self._lacks(instance_type, zone)]
            return min(free) if free else None

    def launched(self, instance_type: str, zone: str) -> None:
        with self._lock:
            for fault in self._lacks(instance_type, zone):
                self._faults[fault.id] = replace(fault, free=max(0, fault.free - 1))

    def _lacks(self, instance_type: str, zone: str) -> list[Fault]:
        return [
            fault
            for fault in self._faults.values()
            if fault.kind == "no_capacity" and fnmatchcase(instance_type, fault.instance_type) and fnmatchcase(zone, fault.zone)
        ]

    def _use(self, fault: Fault) -> None:
        if fault.times is None:
            return
        if fault.times <= 1:
            del self._faults[fault.id]
        else:
            self._faults[fault.id] = replace(fault, times=fault.times - 1)


@dataclass(frozen=True)
class Settings:
    """What the lab's AWS is like when nothing is wrong."""

    #: Seconds that a group's instance is pending, and that any instance is shutting-down.
    pending_seconds: float = 0.0
    shutdown_seconds: float = 0.0
    #: Seconds after which a terminated instance is no longer listed; about an hour at AWS.
    forget_seconds: float = 3600.0
    #: Seconds between two tries of a group to launch what it could not launch.
    retry_seconds: float = 10.0
    #: root: a key that moto's IAM doesn't know is the account's own, which may do everything. refused: it is no key.
    unknown_keys: str = "root"
    #: vCPUs that an account may run, by quota code. On-demand and spot of F, and of G and VT (where VT1 belongs).
    quotas: Mapping[str, float] = field(default_factory=lambda: {"L-74FC7D96": 512.0, "L-88CF9481": 512.0, "L-DB2E81BA": 64.0, "L-3819A6DF": 64.0})

    def changed(self, values: Mapping[str, Any]) -> Settings:
        known = {entry.name for entry in fields(self)}
        if unknown := set(values) - known:
            raise FaultError(f"no setting is called {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
        if values.get("unknown_keys", "root") not in ("root", "refused"):
            raise FaultError("unknown_keys is root or refused")
        quotas = {**self.quotas, **values.get("quotas", {})}
        return replace(self, **{**values, "quotas": quotas})
