"""Serves the lab's AWS, in this process: in a thread for tests, in the foreground for the command line."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

# Lets groups have types that AWS has retired; asked of moto before it is imported, lest the environment says otherwise.
os.environ.pop("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", None)

import boto3
from botocore.config import Config
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from lab.cloud import gaps, groups
from lab.cloud.control import PREFIX, steerable
from lab.cloud.proxy import OWN_KEY, HangUpError, Proxy
from lab.cloud.request import Request

REGION = "us-east-1"
#: Known to no IAM, so it is the account's root user.
ROOT_KEYS = {"aws_access_key_id": "AKIALABROOTLABROOTLA", "aws_secret_access_key": "nothing-secret-of-the-lab-s-root-user"}

OWN_KEYS = {"aws_access_key_id": OWN_KEY, "aws_secret_access_key": "nothing-secret-of-aws-itself"}

_running = threading.Lock()


class _Handler(WSGIRequestHandler):
    """Keeps connections open, as AWS does, and says nothing on the terminal."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        logging.getLogger("lab.cloud").debug(message, *args)

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        pass

    def run_wsgi(self) -> None:
        try:
            super().run_wsgi()
        except HangUpError:
            self.close_connection = True


class Control:
    """Speaks the control URL of a running lab cloud, in this process or another."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: dict[str, Any] = {}

    @property
    def control_url(self) -> str:
        return self.url + PREFIX

    def calls(self, action: str | None = None, *, service: str | None = None, writes: bool = False) -> list[dict[str, Any]]:
        """Calls so far; of one action or service, or only those that were meant to change something."""
        found: list[dict[str, Any]] = self._ask("GET", "/calls")
        return [call for call in found if action in (None, call["action"]) and service in (None, call["service"]) and (call["write"] or not writes)]

    def forget_calls(self) -> None:
        self._ask("DELETE", "/calls")

    def fault(self, kind: str, **values: Any) -> int:
        """Sets one (lab.cloud.faults); returns what lift() wants."""
        return int(self._ask("POST", "/faults", {"kind": kind, **values})["id"])

    def lift(self, fault: int | None = None) -> None:
        self._ask("DELETE", "/faults" if fault is None else f"/faults/{fault}")

    def settings(self, **values: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask("PATCH", "/settings", values)
        return answer

    def advance(self, seconds: float) -> None:
        self._ask("POST", "/advance", {"seconds": seconds})

    def console(self, instance_id: str, output: str) -> None:
        """What the instance has said on its console until now."""
        self._ask("POST", "/console", {"instance": instance_id, "output": output})

    def interrupt(self, instance_id: str) -> None:
        """EC2 takes a spot instance back, now: its notice is the side-car's."""
        self._ask("POST", "/interrupt", {"instance": instance_id})

    def reset(self) -> None:
        self._ask("POST", "/reset")

    def client(self, service: str, region: str = REGION, credentials: Mapping[str, str] | None = None, **config: Any) -> Any:
        """A boto3 client; without credentials the account's root user's. Kept, because making one takes long."""
        key = json.dumps([service, region, credentials, config])
        if key not in self._clients:
            session = boto3.session.Session(region_name=region, **(credentials or ROOT_KEYS))
            self._clients[key] = session.client(service, endpoint_url=self.url, config=Config(**{"retries": {"max_attempts": 0}, **config}))
        return self._clients[key]

    def own_client(self, service: str, region: str = REGION) -> Any:
        """For what AWS does by itself: no call of it is recorded, none is faulted or refused."""
        return self.client(service, region, OWN_KEYS)

    def environment(self, credentials: Mapping[str, str] | None = None, region: str = REGION) -> dict[str, str]:
        """For a process that shall talk to this AWS and to no other."""
        keys = {name.upper(): value for name, value in (credentials or ROOT_KEYS).items()}
        return {**keys, "AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": region, "AWS_REGION": region, "AWS_EC2_METADATA_DISABLED": "true"}

    def user(self, name: str, policies: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (), **keys: str) -> dict[str, str]:
        """Makes a user that these policies hang on; returns its credentials."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        for number, policy in enumerate([policies] if isinstance(policies, Mapping) else policies):
            arn = iam.create_policy(PolicyName=f"{name}-{number}", PolicyDocument=json.dumps(policy))["Policy"]["Arn"]
            iam.attach_user_policy(UserName=name, PolicyArn=arn)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"], **keys}

    def assume(self, role_arn: str, session: str = "lab") -> dict[str, str]:
        """Credentials of a role; a session named after an instance is what the instance itself gets."""
        found = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName=session)["Credentials"]
        return {"aws_access_key_id": found["AccessKeyId"], "aws_secret_access_key": found["SecretAccessKey"], "aws_session_token": found["SessionToken"]}

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.control_url + path, data=data, method=method, headers={"Content-Type": "application/json"})
        try:
            # Never by a proxy: it is this machine's own.
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error).get("error", error.reason)) from error


class Cloud(Control):
    """The lab's AWS in this process, for the length of a `with`. One at a time: moto's state belongs to the process."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self._address, self._port = address, port
        self._server: BaseWSGIServer | None = None
        self._restore: list[Callable[[], None]] = []
        self.proxy = Proxy(DomainDispatcherApplication(create_backend_app))
        super().__init__("")

    def __enter__(self) -> Cloud:
        if not _running.acquire(blocking=False):
            raise RuntimeError("another Cloud runs in this process, and they would share moto's state")
        try:
            self._restore = [groups.install(self.proxy.groups), gaps.install(lambda: self.proxy.settings, self.proxy.consoles)]
            self.proxy.reset()
            # Bound here: where the address is taken, werkzeug ends the process.
            with socket.create_server((self._address, self._port), backlog=128) as listener:
                self._server = make_server(self._address, self._port, steerable(self.proxy), threaded=True, request_handler=_Handler, fd=listener.fileno())
            self._server.daemon_threads = True  # type: ignore[attr-defined]
        except BaseException:
            self._release()
            raise
        self.url = f"http://{self._address}:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="lab.cloud", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._release()

    def _release(self) -> None:
        for restore in reversed(self._restore):
            restore()
        self._restore = []
        _running.release()

    def reset(self) -> None:
        self.proxy.reset()

    @contextmanager
    def before_next(self, service: str, action: str, act: Callable[[Request], None]) -> Iterator[list[Request]]:
        """act once, right before the next such call takes effect; what has been seen of it tells whether it came."""
        seen: list[Request] = []

        def hook(request: Request) -> None:
            seen.append(request)
            act(request)

        self.proxy.before(service, action, hook)
        yield seen

    def admin_of(self, account: str) -> dict[str, str]:
        """Credentials of somebody who may do everything in another account. Somebody new each time: a user has two keys at most."""
        backend = iam_backends[account]["aws"]
        admin = f"admin-{secrets.token_hex(4)}"
        backend.create_user(REGION, admin, "/", [])
        everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        backend.put_user_policy(admin, "everything", json.dumps(everything))
        key = backend.create_access_key(admin)
        return {"aws_access_key_id": key.access_key_id, "aws_secret_access_key": key.secret_access_key}
