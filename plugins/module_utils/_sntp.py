# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far this host's clock is from a time server's: one packet there, one back (SNTP, RFC 4330)."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import socket
import struct
import time

EPOCH = 2208988800  # seconds from 1900, where NTP counts from, to 1970
PORT = 123
REQUEST = b"\x23" + bytes(47)  # version 4, client


def offset(server: str, port: int = PORT, timeout: float = 2.0) -> float:
    """This host's clock minus the server's, in seconds: positive where it is ahead. OSError without an answer, ValueError for one that is none."""
    family, kind, protocol, _name, address = socket.getaddrinfo(server, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as line:
        line.settimeout(timeout)
        line.connect(address)
        sent = time.time()
        line.send(REQUEST)
        return parse(line.recv(512), sent, time.time())


def parse(answer: bytes, sent: float, received: float) -> float:
    """The offset that an answer tells. sent and received: when the request left and the answer came, by this host's clock (RFC 4330, section 5)."""
    if len(answer) < 48:
        raise ValueError(f"{len(answer)} bytes are no NTP answer")
    mode, leap, stratum = answer[0] & 7, answer[0] >> 6, answer[1]
    if mode != 4 or leap == 3 or not 0 < stratum < 16:
        raise ValueError(f"the server is not synchronised itself (mode {mode}, leap {leap}, stratum {stratum})")
    # NTP's seconds begin anew in 2036.
    there_in, there_out = ((whole - EPOCH) % 2**32 + fraction / 2**32 for whole, fraction in (struct.unpack("!II", answer[at : at + 8]) for at in (32, 40)))
    return float(((sent - there_in) + (received - there_out)) / 2)
