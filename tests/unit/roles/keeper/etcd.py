# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of etcd's gRPC gateway, for its snapshot; tests/integration/admission asks a real one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.unit.roles.bootstrap.doubles import Authority, Server

#: As etcd 3.6.8 sends it.
PIECE = 32 * 1024


class Etcd(Server):
    """database: what it holds. fault: how it fails.

    corrupt: a piece changes on the way. short: it ends without its checksum. breaks: it hangs up in the middle. error: it says so in the middle.
    stall: it says nothing more. refuses: an HTTP status. gateway: there is none, as with --enable-grpc-gateway=false. empty: nothing at all.
    """

    scheme = "https"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.database = b"".join(number.to_bytes(4, "big") for number in range(50_000))
        self.fault = ""
        self.asked = 0
        self.pki = folder / "pki"
        (self.pki / "etcd").mkdir(parents=True, exist_ok=True)
        authority = Authority("etcd-ca", days=3650)
        (self.pki / "etcd" / "ca.crt").write_text(authority.pem)
        (self.pki / "etcd" / "server.pem").write_text(authority.issue("cp1", "localhost", "127.0.0.1"))
        certificate, key = re.findall(r"-----BEGIN.*?-----END[^-]*-----\n", authority.issue("kube-apiserver-etcd-client"), re.DOTALL)
        (self.pki / "apiserver-etcd-client.crt").write_text(certificate)
        (self.pki / "apiserver-etcd-client.key").write_text(key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pki / "etcd" / "server.pem")
        context.load_verify_locations(self.pki / "etcd" / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def snapshot(self) -> bytes:
        return self.database + hashlib.sha256(self.database).digest()

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.asked += 1
        if self.fault == "gateway" or request.path != "/v3/maintenance/snapshot":
            return self.reply(request, 404, '{"code":5,"message":"Not Found"}')
        if self.fault == "refuses":
            return self.reply(request, 503, '{"code":14,"message":"etcdserver: no leader"}')
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        if self.fault != "empty" and not self._send(request):
            request.close_connection = True
            return None
        request.wfile.write(b"0\r\n\r\n")
        return None

    def _send(self, request: BaseHTTPRequestHandler) -> bool:
        size = len(self.database)
        for start in range(0, size, PIECE):
            piece = self.database[start : start + PIECE]
            if start and self.fault == "corrupt":
                piece = bytes([piece[0] ^ 1]) + piece[1:]
            if start and self.fault == "breaks":
                return False
            if start and self.fault == "stall":
                self.stall()
                return False
            if start and self.fault == "error":
                self._say(request, {"error": {"code": 13, "message": "etcdserver: mvcc: database is locked"}})
                return True
            left = size - start - len(piece)
            self._say(request, {"result": {**({"remaining_bytes": str(left)} if left else {}), "blob": base64.b64encode(piece).decode(), "version": "3.6.0"}})
        if self.fault != "short":
            self._say(request, {"result": {"blob": base64.b64encode(hashlib.sha256(self.database).digest()).decode(), "version": "3.6.0"}})
        return True

    @staticmethod
    def _say(request: BaseHTTPRequestHandler, message: object) -> None:
        data = json.dumps(message).encode() + b"\n"
        request.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
