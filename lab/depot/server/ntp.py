"""A small SNTP server (RFC 4330) whose clock can be made to lie: its answers are off by the seconds in a file, 0 without one."""

from __future__ import annotations

import socket
import struct
import sys
import time
from pathlib import Path

#: Seconds from NTP's epoch, 1900, to Unix's.
NTP_EPOCH = 2208988800
FORMAT = struct.Struct("!BBbb11I")
CLIENT, SERVER = 3, 4
STRATUM = 8
PRECISION = -20


def timestamp(seconds: float) -> tuple[int, int]:
    whole, fraction = divmod(round(seconds * 2**32), 2**32)
    return (whole + NTP_EPOCH) & 0xFFFFFFFF, fraction


def answer(request: bytes, received: float, sent: float) -> bytes | None:
    """The answer to a client's request; None for what is not one. Times are Unix seconds of the clock that is served."""
    if len(request) < FORMAT.size:
        return None
    fields = FORMAT.unpack(request[: FORMAT.size])
    version, mode = (fields[0] >> 3) & 7, fields[0] & 7
    if mode != CLIENT or not 1 <= version <= 4:
        return None
    originate = fields[13:15]
    root_delay, root_dispersion = 0, 1 << 6
    reference_id = int.from_bytes(b"LOCL", "big")
    return FORMAT.pack(
        version << 3 | SERVER, STRATUM, fields[2], PRECISION, root_delay, root_dispersion, reference_id,
        *timestamp(received), *originate, *timestamp(received), *timestamp(sent),
    )  # fmt: skip


def offset(path: Path) -> float:
    try:
        return float(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0.0


def serve(path: Path, port: int = 123) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", port))
        while True:
            request, client = server.recvfrom(512)
            shift = offset(path)
            received = time.time() + shift
            reply = answer(request, received, time.time() + shift)
            if reply is not None:
                server.sendto(reply, client)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
