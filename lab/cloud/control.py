"""The control URL: how a person, a test or a scenario steers the lab's AWS. JSON in, JSON out.

GET    /lab-cloud/            what there is
GET    /lab-cloud/calls       every call since the last DELETE        DELETE  forgets them
GET    /lab-cloud/faults      what is set       POST  sets one (its keys: lab.cloud.faults.Fault), and answers it with its id
DELETE /lab-cloud/faults      lifts all         DELETE /lab-cloud/faults/<id>  lifts one
GET    /lab-cloud/settings    what it is like   PATCH changes some of it (lab.cloud.faults.Settings)
POST   /lab-cloud/advance     {"seconds": n}: the lab's AWS is that much later; what is due happens
POST   /lab-cloud/console     {"instance": id, "output": text}: what GetConsoleOutput answers from now on
POST   /lab-cloud/interrupt   {"instance": id}: EC2 takes a spot instance back, now
POST   /lab-cloud/reset       an empty account again
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from lab.cloud.faults import KINDS, Fault, FaultError
from lab.cloud.proxy import Proxy

PREFIX = "/lab-cloud"


def steerable(proxy: Proxy) -> WSGIApplication:
    """The proxy with its control URL beside it."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", ""))
        if not path.startswith(f"{PREFIX}/"):
            return proxy(environ, start_response)
        try:
            body = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
            status, answer = answer_to(proxy, environ["REQUEST_METHOD"], path.removeprefix(PREFIX).rstrip("/"), body)
        except (FaultError, KeyError, TypeError, ValueError) as error:
            status, answer = 400, {"error": str(error)}
        content = json.dumps(answer, default=str).encode()
        start_response(f"{status} {'OK' if status == 200 else 'Error'}", [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
        return [content]

    return application


def answer_to(proxy: Proxy, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    def change_settings() -> dict[str, Any]:
        proxy.settings = proxy.settings.changed(body)
        return asdict(proxy.settings)

    verbs: dict[tuple[str, str], Callable[[], Any]] = {
        ("GET", ""): lambda: {"faults": proxy.faults.listed(), "settings": asdict(proxy.settings), "kinds_of_faults": KINDS},
        ("GET", "/calls"): proxy.calls,
        ("DELETE", "/calls"): proxy.forget_calls,
        ("GET", "/faults"): proxy.faults.listed,
        ("POST", "/faults"): lambda: asdict(proxy.faults.add(Fault.parse(body))),
        ("DELETE", "/faults"): proxy.lift,
        ("GET", "/settings"): lambda: asdict(proxy.settings),
        ("PATCH", "/settings"): change_settings,
        ("POST", "/advance"): lambda: proxy.advance(float(body["seconds"])),
        ("POST", "/console"): lambda: proxy.console(str(body["instance"]), str(body["output"])),
        ("POST", "/interrupt"): lambda: proxy.interrupt(str(body["instance"])),
        ("POST", "/reset"): proxy.reset,
    }
    fault_id = path.removeprefix("/faults/")
    if method == "DELETE" and fault_id.isdecimal():
        proxy.lift(int(fault_id))
        return 200, None
    if (method, path) not in verbs:
        return 404, {"error": f"{method} {PREFIX}{path}: there is no such thing; see GET {PREFIX}/ and lab/cloud/control.py"}
    return 200, verbs[method, path]()
