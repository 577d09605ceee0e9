# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""moto as a server in a thread of this process, with a record of every call and a place to step in before one."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import boto3
from moto.core.base_backend import BackendDict
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

REGION = "us-east-1"
ACCOUNT = "123456789012"
CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
READS = ("Describe", "Get", "List")


@dataclass(frozen=True)
class Call:
    """A request as it went over the wire; params are the flat ones of AWS' query protocol."""

    service: str
    operation: str
    params: dict[str, str]

    @property
    def is_write(self) -> bool:
        return not self.operation.startswith(READS)


@dataclass
class Fault:
    operation: str
    code: str
    message: str
    status: int
    times: int
    when: Callable[[Call], bool]


class Quiet(WSGIRequestHandler):
    def log(self, *arguments: Any, **keywords: Any) -> None:
        pass


@dataclass
class Moto:
    """recorded: calls since the last forget, in their order. everything: all of the test."""

    recorded: list[Call] = field(default_factory=list)
    everything: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    interventions: dict[str, Callable[[], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._inside = threading.local()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()

    def reset(self) -> None:
        BackendDict.reset()
        self.recorded.clear()
        self.everything.clear()
        self.faults.clear()
        self.interventions.clear()

    # --- what tests say

    def client(self, service: str) -> Any:
        """Past the record: for what a test does itself."""
        client = boto3.client(service, region_name=REGION, endpoint_url=self.url, **CREDENTIALS)
        client.meta.events.register("before-sign", lambda request, **_: request.headers.add_header("X-Unrecorded", "1"))
        return client

    def before(self, operation: str, do: Callable[[], None]) -> None:
        """do happens once, right before the next call of operation is answered."""
        self.interventions[operation] = do

    def fail(
        self, operation: str, code: str, message: str = "made to fail", *, status: int = 400, times: int = 1, when: Callable[[Call], bool] = lambda _: True
    ) -> None:
        self.faults.append(Fault(operation, code, message, status, times, when))

    def forget(self) -> None:
        self.recorded.clear()

    def calls(self, operation: str | None = None) -> list[Call]:
        return [call for call in self.recorded if operation in (None, call.operation)]

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.recorded if call.is_write]

    # --- the server

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        params = dict(parse_qsl(body.decode(), keep_blank_values=True))
        if "Action" in params and "HTTP_X_UNRECORDED" not in environ:
            scope = re.search(r"Credential=[^/]+/\d+/[^/]+/(\w+)/", environ.get("HTTP_AUTHORIZATION", ""))
            call = Call(scope[1] if scope else "", params.pop("Action"), {key: value for key, value in params.items() if key != "Version"})
            refused = self._step_in(call)
            if refused:
                start_response(f"{refused.status} Refused", [("Content-Type", "text/xml")])
                kind = "Response" if call.service == "ec2" else "ErrorResponse"
                error = f"<Error><Code>{refused.code}</Code><Message>{refused.message}</Message></Error>"
                return [(f"<{kind}>{f'<Errors>{error}</Errors>' if kind == 'Response' else error}<RequestID>1</RequestID></{kind}>").encode()]
        return self._application(environ, start_response)

    def _step_in(self, call: Call) -> Fault | None:
        with self._lock:
            self.recorded.append(call)
            self.everything.append(call)
            intervention = self.interventions.pop(call.operation, None)
        if intervention:
            intervention()
        with self._lock:
            for fault in self.faults:
                if fault.operation == call.operation and fault.times > 0 and fault.when(call):
                    fault.times -= 1
                    return fault
        return None
