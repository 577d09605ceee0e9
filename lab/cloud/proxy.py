"""The WSGI application in front of moto: records, faults, authorises, refuses, and then lets moto answer."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from lab.cloud import errors, gaps, identities, policies
from lab.cloud.checks import checks_for
from lab.cloud.errors import Refusal, Response
from lab.cloud.faults import Fault, Faults, Settings
from lab.cloud.groups import Clock, Groups
from lab.cloud.identities import Identity
from lab.cloud.request import Request, parse
from lab.cloud.world import World

#: More calls than any scenario makes; older ones are forgotten.
REMEMBERED = 200_000
ANONYMOUS = Identity(arn="anonymous", account=identities.DEFAULT_ACCOUNT)

#: What AWS does by itself, the side-car's doings for one, is signed with this key: not recorded, not faulted, not asked of IAM.
OWN_KEY = "AKIALABSOWNMACHINERY"
#: EC2 keeps as much of what an instance has said on its console. Source: EC2, GetConsoleOutput.
CONSOLE_CHARACTERS = 64 * 1024

#: What is done when a call has been authorised, before moto has it.
Hook = Callable[[Request], None]


@dataclass
class Call:
    """One recorded call. authorised: what IAM was asked, beginning with the action itself."""

    number: int
    at: float
    service: str
    action: str
    region: str
    access_key: str
    identity: str
    digest: str
    params: dict[str, Any]
    write: bool
    authorised: list[str] = field(default_factory=list)
    status: int = 0
    error: str = ""
    seconds: float = 0.0


class HangUpError(Exception):
    """Close the connection without an answer."""


class Proxy:
    """One account's AWS, or several: moto tells them apart by the access key."""

    def __init__(self, moto: WSGIApplication) -> None:
        self.faults = Faults()
        self.clock = Clock()
        self.groups = Groups(self.faults, lambda: self.settings, self.clock)
        self._settings = Settings()
        self._moto = moto
        self._calls: deque[Call] = deque(maxlen=REMEMBERED)
        self._numbers = 0
        #: What each instance has said on its console; EC2 keeps that over the instance's end.
        self.consoles: dict[str, str] = {}
        self._hooks: list[tuple[str, str, Hook]] = []
        #: moto isn't made for several threads: one call at a time changes it.
        self.lock = threading.RLock()

    # ---- what it is told

    @property
    def settings(self) -> Settings:
        return self._settings

    @settings.setter
    def settings(self, new: Settings) -> None:
        with self.lock:
            self._settings = new
            self.groups.retry()

    def lift(self, fault_id: int | None = None) -> None:
        with self.lock:
            self.faults.lift(fault_id)
            self.groups.retry()

    def advance(self, seconds: float) -> None:
        with self.lock:
            self.clock.advance(seconds)
            self.groups.advance()

    def before(self, service: str, action: str, hook: Hook) -> None:
        """Once, right before the next such call reaches moto: how somebody else changes things between a read and a write."""
        self._hooks.append((service, action, hook))

    def calls(self) -> list[dict[str, Any]]:
        return [asdict(call) for call in list(self._calls)]

    def forget_calls(self) -> None:
        self._calls.clear()

    def console(self, instance_id: str, output: str) -> None:
        self.consoles[instance_id] = output[-CONSOLE_CHARACTERS:]

    def interrupt(self, instance_id: str) -> None:
        with self.lock:
            self.groups.interrupt(instance_id)

    def reset(self) -> None:
        """As new: nothing in the account, no faults, no calls, settings as at the start."""
        from moto.moto_api._internal.models import moto_api_backend

        with self.lock:
            moto_api_backend.reset()
            self.groups.reset()
            self.faults.lift()
            self._settings = Settings()
            self.clock.restart()
            self._hooks.clear()
            self._calls.clear()
            self.consoles.clear()

    # ---- a call

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        request = parse(environ, body)
        if request is None or request.access_key == OWN_KEY:
            return self._pass_on(environ, body, start_response)
        started = time.monotonic()
        identity = identities.identify(request.access_key) or self._stranger()
        call = self._record(request, identity)
        try:
            status, headers, content = self._answer(request, identity, call, environ, body)
        except HangUpError:
            call.error = "hung up"
            _close(environ)
            raise
        finally:
            call.seconds = round(time.monotonic() - started, 4)
        call.status = status
        if status >= 400:
            call.error = _code(content)
        start_response(f"{status} {'OK' if status < 400 else 'Error'}", [*headers, ("Content-Length", str(len(content)))])
        return [content]

    def _stranger(self) -> Identity | None:
        return identities.root() if self.settings.unknown_keys == "root" else None

    def _record(self, request: Request, identity: Identity | None) -> Call:
        self._numbers += 1
        call = Call(
            number=self._numbers,
            at=self.clock.now(),
            service=request.service,
            action=request.action,
            region=request.region,
            access_key=request.access_key,
            identity=(identity or ANONYMOUS).arn,
            digest=request.digest,
            params=request.shown_params(),
            write=request.is_write,
        )
        self._calls.append(call)
        return call

    def _answer(self, request: Request, identity: Identity | None, call: Call, environ: WSGIEnvironment, body: bytes) -> Response:
        faults = self.faults.take(request, call.identity)
        refused = _afflict(faults, request, call.identity)
        with self.lock:
            self.groups.advance()
            refused = refused or self._refusal(request, identity, call, environ, body)
        if refused is None:
            self._run_hooks(request)
            with self.lock:
                world = World(identity.account if identity else ANONYMOUS.account, request.region)
                refused = gaps.refusal(request, world)
                if refused is None and request.is_dry_run:
                    refused = errors.dry_run()
                if refused is None:
                    try:
                        status, headers, content = _ask(self._moto, environ, body)
                    except Exception as error:
                        logging.getLogger("lab.cloud").exception("moto failed at %s:%s", request.service, request.action)
                        return errors.render(Refusal("InternalFailure", f"moto failed: {error!r}", 500), request.protocol)
                    if status < 300:
                        gaps.after(request, world)
                    return status, headers, content
        return errors.render(refused, request.protocol)

    def _refusal(self, request: Request, identity: Identity | None, call: Call, environ: WSGIEnvironment, body: bytes) -> Refusal | None:
        if identity is None:
            return errors.unknown_key(request)
        if not identity.is_root and not identities.signature_matches(identity, request, environ, body):
            return errors.wrong_signature(request)
        if identity.is_expired():
            return errors.expired(request)
        return self._authorise(request, identity, call)

    def _authorise(self, request: Request, identity: Identity, call: Call) -> Refusal | None:
        everywhere = {"aws:RequestedRegion": request.region, "ec2:Region": request.region, "aws:SecureTransport": "false", **identity.context}
        for check in checks_for(request, World(identity.account, request.region)):
            call.authorised.append(check.action)
            if identity.policies is None:
                continue
            try:
                decision = policies.evaluate(identity.policies, identity.boundary, check.action, check.resource, {**everywhere, **check.context})
            except policies.PolicyError as error:
                return Refusal("MalformedPolicyDocument", f"{identity.arn}: {error}", 500)
            if not decision.allowed:
                explicit = decision.effect is policies.Effect.EXPLICIT_DENY
                because = f"because no identity-based policy allows the {check.action} action"
                if explicit:
                    because = "with an explicit deny in an identity-based policy"
                return errors.denied(request, identity.arn, check.action, check.resource, because)
        return None

    def _run_hooks(self, request: Request) -> None:
        for entry in [entry for entry in self._hooks if entry[:2] == (request.service, request.action)]:
            self._hooks.remove(entry)
            entry[2](request)

    def _pass_on(self, environ: WSGIEnvironment, body: bytes, start_response: StartResponse) -> Iterable[bytes]:
        """What nobody is charged with: moto's own pages, and what AWS does by itself."""
        with self.lock:
            self.groups.advance()
            status, headers, content = _ask(self._moto, environ, body)
        start_response(f"{status} {'OK' if status < 400 else 'Error'}", [*headers, ("Content-Length", str(len(content)))])
        return [content]


def _afflict(faults: list[Fault], request: Request, who: str) -> Refusal | None:
    """Latency first, so that a slow endpoint may also be one that throttles."""
    time.sleep(sum(fault.seconds for fault in faults if fault.kind == "latency"))
    if any(fault.kind == "down" for fault in faults):
        raise HangUpError
    return next((refusal for fault in faults if (refusal := fault.refusal(request, who))), None)


def _ask(moto: WSGIApplication, environ: WSGIEnvironment, body: bytes) -> Response:
    answered: list[tuple[int, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
        answered.append((int(status.split(maxsplit=1)[0]), headers))
        return lambda _data: None

    content = moto({**environ, "wsgi.input": io.BytesIO(body)}, start_response)
    try:
        data = b"".join(content)
    finally:
        if hasattr(content, "close"):
            content.close()
    status, headers = answered[-1]
    return status, [(name, value) for name, value in headers if name.lower() not in ("content-length", "connection")], data


def _code(content: bytes) -> str:
    """The error's code, wherever the protocol has it."""
    text = content.decode("utf-8", "replace")
    for start, end in (("<Code>", "</Code>"), ('"__type": "', '"')):
        if start in text:
            return text.partition(start)[2].partition(end)[0]
    return "error"


def _close(environ: WSGIEnvironment) -> None:
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        import socket

        connection.shutdown(socket.SHUT_RDWR)
