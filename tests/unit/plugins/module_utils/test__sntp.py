# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time client against a server on this machine: the depot's own, and others that cannot be believed."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils import _sntp
from lab.depot.server import ntp


@contextmanager
def server(answer):
    """A port of this machine that gives one answer: answer(request)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.bind(("127.0.0.1", 0))

        def serve():
            request, client = channel.recvfrom(512)
            channel.sendto(answer(request), client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield channel.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("ahead", [0, 7200, -500])
def test_the_clock_is_compared_with_that_of_the_depots_server(ahead):
    def depot(request):
        now = time.time() - ahead
        return ntp.answer(request, now, now)

    with server(depot) as port:
        assert _sntp.offset("127.0.0.1", port) == pytest.approx(ahead, abs=1)


def answer(there, mode=4, leap=0, stratum=3):
    whole, fraction = (int(there) + _sntp.EPOCH) % 2**32, int((there % 1) * 2**32)
    return bytes([leap << 6 | 4 << 3 | mode, stratum]) + bytes(30) + struct.pack("!IIII", whole, fraction, whole, fraction)


@given(st.floats(1.7e9, 3e9), st.floats(-1e6, 1e6), st.floats(0, 1))
def test_the_way_there_and_back_counts_half_and_seconds_that_begin_anew_do_no_harm(sent, ahead, way):
    """NTP's seconds begin anew in 2036, which is 2.08e9."""
    assert _sntp.parse(answer(sent + way / 2 - ahead), sent, sent + way) == pytest.approx(ahead, abs=1e-3)


UNBELIEVABLE = {
    "nothing": b"",
    "cut off": answer(1.8e9)[:47],
    "a client": answer(1.8e9, mode=3),
    "not synchronised": answer(1.8e9, leap=3),
    "kiss of death": answer(1.8e9, stratum=0),
    "stratum 16": answer(1.8e9, stratum=16),
}


@pytest.mark.parametrize("data", UNBELIEVABLE.values(), ids=UNBELIEVABLE.keys())
def test_a_server_that_does_not_know_the_time_is_not_believed(data):
    with pytest.raises(ValueError, match=r"no NTP answer|not synchronised"):
        _sntp.parse(data, 0, 0)


def test_a_host_without_a_time_server_is_told_at_once():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        _sntp.offset("127.0.0.1", port)
    assert time.monotonic() - began < 1
