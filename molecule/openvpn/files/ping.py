#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ping.py ADDRESS BYTES: one echo request of this packet size that may not be fragmented. Lab hosts have no ping."""

from __future__ import annotations

import os
import socket
import struct
import sys

IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
HEADERS = 28

address, size = sys.argv[1], int(sys.argv[2])
payload = b"x" * (size - HEADERS)
identifier = os.getpid() & 0xFFFF
words = struct.pack("!BBHHH", 8, 0, 0, identifier, 1) + payload + b"\0" * (len(payload) % 2)
total = sum(struct.unpack(f"!{len(words) // 2}H", words))
total = (total & 0xFFFF) + (total >> 16)
total += total >> 16
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
    raw.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    raw.settimeout(2)
    raw.sendto(struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, identifier, 1) + payload, (address, 0))
    while True:
        packet, sender = raw.recvfrom(65536)
        if sender[0] == address and packet[20] == 0 and struct.unpack("!H", packet[24:26])[0] == identifier:
            break
