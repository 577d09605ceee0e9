# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Echo requests: their format, and the loopback. Between two network namespaces they are sent in test__verify_probe.py."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _icmp


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=1500))
def test_an_echo_request_sums_up_to_zero(identifier, sequence, payload):
    """RFC 1071: the checksum over a packet with its checksum in place is 0."""
    packet = _icmp.echo_request(identifier, sequence, payload)
    assert _icmp.checksum(packet) == 0
    assert struct.unpack("!HH", packet[4:8]) == (identifier, sequence)


def ipv4(icmp: bytes, options: bytes = b"") -> bytes:
    return bytes([0x45 + len(options) // 4]) + bytes(19) + options + icmp


def test_only_echo_replies_count():
    reply = struct.pack("!BBHHH", 0, 0, 0, 7, 3) + bytes(56)
    assert _icmp.echo_reply(ipv4(reply)) == (7, 3, 56)
    assert _icmp.echo_reply(ipv4(reply, options=bytes(8))) == (7, 3, 56)
    assert _icmp.echo_reply(ipv4(_icmp.echo_request(7, 3, bytes(56)))) is None


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="a raw socket needs root")


@root_only
@pytest.mark.parametrize(("device", "heard"), [(None, True), ("lo", True), ("no-such-device", False)])
def test_an_answer_is_heard_by_the_device_that_is_asked_for(device, heard):
    assert _icmp.answers("127.0.0.1", device) is heard


@root_only
def test_what_has_no_way_there_is_silence():
    assert not _icmp.answers("240.0.0.1", "lo", timeout=0.1)
