# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for EC2 that says what a test has written down, over real HTTP, and notes what it was asked."""

from __future__ import annotations

import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.bench.aws.replay import error_answer, instance, reservations, response

Answer = tuple[int, bytes]
#: So that what an instance is in a test is written as what a user sees of it.
ID = "i-{:017x}".format


def page(*instances: dict[str, Any], token: str = "") -> Answer:
    more = f"<nextToken>{token}</nextToken>" if token else ""
    return 200, response("DescribeInstances", f"<reservationSet>{reservations(list(instances))}</reservationSet>{more}")


def error(code: str, message: str = "as the test wants it", status: int = 400) -> Answer:
    return status, error_answer(code, message)


def ec2(number: int, tags: dict[str, str] | None = None, *, zone: str = "us-east-1a", state: str = "running", **elements: Any) -> dict[str, Any]:
    """An instance as EC2 writes it, with its number as id and just these tags."""
    made = instance(number)
    return {
        **made,
        "instanceId": ID(number),
        "instanceState": {"code": 16, "name": state},
        "placement": {**made["placement"], "availabilityZone": zone},
        "tagSet": [{"key": key, "value": value} for key, value in (tags or {}).items()],
        **elements,
    }


@dataclass
class Ec2:
    """answers: one for each request, the last one again and again; or a function from the request to its answer."""

    url: str
    answers: list[Answer] | Callable[[dict[str, str]], Answer] = field(default_factory=lambda: [page()])
    requests: list[dict[str, str]] = field(default_factory=list)

    def answer(self, request: dict[str, str]) -> Answer:
        self.requests.append(request)
        if callable(self.answers):
            return self.answers(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Ec2]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            request = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            request |= {"path": self.path, "authorization": self.headers.get("Authorization", "")}
            status, body = double.answer(request)
            self.send_response(status)
            self.send_header("Content-Type", "text/xml;charset=UTF-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    double = Ec2(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
