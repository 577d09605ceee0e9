"""Stand-in for InAccel's daemon (inaccel/daemon, 2024): its sockets, and of what Docker asks a volume plugin the handshake. Nothing in it is InAccel's.

It heeds DOCKER and KUBELET as that one does, and ends where that one would: on a configuration that is no JSON. A text in
/run/lab-fpga/faults/inacceld makes it end, too. The kubelet finds a socket that says nothing: no pod gets a volume of it.
"""

from __future__ import annotations

import json
import os
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

ROOT = Path(os.environ.get("LAB_INACCEL_ROOT", "/"))
CONFIG = ROOT / "etc/inaccel/daemon.json"
FAULT = Path(os.environ.get("LAB_FPGA_ROOT", "/run/lab-fpga")) / "faults" / "inacceld"
#: Variable of its environment -> the socket it then makes, and what it does without that variable.
SOCKETS = {"DOCKER": (ROOT / "run/docker/plugins/inaccel.sock", "enabled"), "KUBELET": (ROOT / "var/lib/kubelet/plugins_registry/inaccel.sock", "enabled")}


class Docker(BaseHTTPRequestHandler):
    """The handshake (https://docs.docker.com/engine/extend/plugin_api), and no volume."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        known = {"/Plugin.Activate": {"Implements": ["VolumeDriver"]}, "/VolumeDriver.Capabilities": {"Capabilities": {"Scope": "local"}}}
        body = json.dumps(known.get(self.path, {"Err": "a stand-in of the lab of fpga.hybrid, which has no volumes"})).encode()
        self.send_response(200 if self.path in known else 500)
        self.send_header("Content-Type", "application/vnd.docker.plugins.v1.2+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "docker"


class Silent(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def serve(name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    server = Server(str(path), Docker if name == "DOCKER" else Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main() -> None:
    if FAULT.exists():
        sys.exit(f"inacceld: {FAULT.read_text().strip()}")
    try:
        json.loads(CONFIG.read_text() if CONFIG.exists() else "{}")
    except ValueError as error:
        sys.exit(f"inacceld: {CONFIG}: {error}")
    for name, (path, default) in SOCKETS.items():
        if os.environ.get(name, default) == "enabled":
            serve(name, path)
    threading.Event().wait()


if __name__ == "__main__":
    main()
