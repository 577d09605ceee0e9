# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Echo requests and their answers, without the program ping, which a minimal installation does not have. Needs root, IPv4."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import errno
import random
import select
import socket
import struct
import time
from collections.abc import Sequence

IP_MTU_DISCOVER = 10  # linux/in.h; Python's socket module has no names for these before 3.14
IP_PMTUDISC_DO = 2
SMALL = 56  # bytes of payload, as ping(8) sends


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(identifier: int, sequence: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHH", 8, 0, 0, identifier, sequence)
    return struct.pack("!BBHHH", 8, 0, checksum(head + payload), identifier, sequence) + payload


def echo_reply(packet: bytes) -> tuple[int, int, int] | None:
    """(identifier, sequence, payload length) of a received IPv4 packet, None if it is no echo reply."""
    header = (packet[0] & 0x0F) * 4
    kind, _code, _sum, identifier, sequence = struct.unpack("!BBHHH", packet[header : header + 8])
    return (identifier, sequence, len(packet) - header - 8) if kind == 0 else None


def ping(targets: Sequence[tuple[str, int]], attempts: int = 3, wait: float = 1.0, device: str | None = None) -> dict[tuple[str, int], str]:
    """Ping each (address, payload bytes) with DF set, all at once; unanswered ones again, up to `attempts` times. device: the only way to take.

    Each outcome is "reply", "no answer" or "too big": a larger packet than the path's MTU, once the kernel has learnt it, is refused at sending.
    OSError where the device is not there.
    """
    outcome = dict.fromkeys(targets, "no answer")
    identifier = random.randrange(1, 0xFFFF)  # noqa: S311 (tells our packets apart, protects nothing)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp:
        icmp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        if device:
            icmp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        for _attempt in range(attempts):
            waiting = {}
            for sequence, target in enumerate(targets):
                if outcome[target] == "reply":
                    continue
                try:
                    icmp.sendto(echo_request(identifier, sequence, bytes(target[1])), (target[0], 0))
                    outcome[target] = "no answer"
                    waiting[sequence] = target
                except OSError as error:
                    outcome[target] = "too big" if error.errno == errno.EMSGSIZE else "no answer"  # no route is no answer
            deadline = time.monotonic() + wait
            while waiting and select.select([icmp], [], [], max(0.0, deadline - time.monotonic()))[0]:
                packet, sender = icmp.recvfrom(65535)
                found = echo_reply(packet)
                if found and found[0] == identifier and waiting.get(found[1]) == (sender[0], found[2]):
                    outcome[waiting.pop(found[1])] = "reply"
            if not waiting:
                break
    return outcome


def answers(address: str, device: str | None = None, timeout: float = 1.0) -> bool:
    """Whether one small packet to an address comes back in time, by this device if it is told."""
    try:
        return ping([(address, SMALL)], 1, timeout, device)[address, SMALL] == "reply"
    except OSError:
        return False
