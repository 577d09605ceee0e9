# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets from within a network namespace: formats always, the real thing where this machine lets us make namespaces."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.fpga.hybrid.plugins.module_utils import _verify_probe as probe
from tests.unit.network_namespaces import ip, namespace

SNMP = """\
Ip: Forwarding DefaultTTL ReasmReqds FragOKs FragCreates
Ip: 1 64 5 2 4
Icmp: InMsgs
Icmp: 3
"""


def test_counters_are_found_by_name():
    """Newer kernels add columns."""
    assert probe.fragment_counters(SNMP) == {"FragCreates": 4, "ReasmReqds": 5}


def test_rounds_stop_at_the_first_quiet_one(monkeypatch):
    counts = iter([0, 4, 4, 4])
    monkeypatch.setattr(probe, "count_fragments", lambda: {"FragCreates": next(counts)})
    assert probe.fragments_during(lambda: None) == [{"FragCreates": 4}, {"FragCreates": 0}]


def test_device_addresses_from_ip():
    text = "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n5: tun0    inet 172.27.224.12/20 scope global tun0\\  valid_lft forever\n"
    assert probe.device_addresses(text) == {"lo": ["127.0.0.1"], "tun0": ["172.27.224.12"]}


# --- DNS


def dns_answer(query: bytes, addresses: list[str], rcode: int = 0) -> bytes:
    alias = b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 30, 2) + b"\xc0\x0c"
    records = alias + b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 30, 4) + socket.inet_aton(address) for address in addresses)
    return query[:2] + struct.pack("!HHHHH", 0x8180 | rcode, 1, 1 + len(addresses), 0, 0) + query[12:] + records


def test_addresses_are_read_past_aliases_and_compressed_names():
    query = probe.dns_query(5, "kubernetes.default.svc.cluster.local")
    assert probe.dns_addresses(dns_answer(query, ["10.96.0.1", "10.96.0.2"])) == ["10.96.0.1", "10.96.0.2"]


def test_a_refusal_is_named():
    with pytest.raises(probe.ProbeError, match="NXDOMAIN"):
        probe.dns_addresses(dns_answer(probe.dns_query(5, "no.such"), [], rcode=3))


def test_a_lost_question_is_asked_again():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]

        def answer_the_second():
            server.recv(512)
            query, sender = server.recvfrom(512)
            server.sendto(dns_answer(query, ["10.96.0.1"]), sender)

        thread = threading.Thread(target=answer_the_second)
        thread.start()
        assert probe.resolve("127.0.0.1", "kubernetes.default", wait=0.3, port=port) == ["10.96.0.1"]
        thread.join()


def test_nobody_to_ask_ends_in_a_sentence():
    with pytest.raises(probe.ProbeError, match="Connection refused"):
        probe.resolve("127.0.0.1", "kubernetes.default", attempts=1, wait=0.3, port=1)


# --- real namespaces

# Of each run its own: runs side by side look into the namespaces of the others, too.
NETWORK = f"10.203.{64 + os.getpid() % 180}"
PODS = {"a": f"{NETWORK}.1", "b": f"{NETWORK}.2"}


@pytest.fixture(scope="module")
def pods():
    """Two namespaces joined by a pair of devices with a pod's MTU: {name: path}."""
    with namespace("a") as a, namespace("b") as b:
        names = {"a": a, "b": b}
        ip("-n", a, "link", "add", "eth0", "mtu", "1350", "type", "veth", "peer", "name", "eth0", "netns", b)
        for name, address in PODS.items():
            ip("-n", names[name], "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", names[name], "link", "set", "eth0", "mtu", "1350", "up")
            ip("-n", names[name], "link", "set", "lo", "up")
        yield {name: f"/run/netns/{made}" for name, made in names.items()}


@pytest.fixture
def tools(pods):
    """For tests that change the link: puts it back."""
    yield lambda pod, *arguments: ip("-n", Path(pods[pod]).name, *arguments)
    for pod in PODS:
        ip("-n", Path(pods[pod]).name, "link", "set", "eth0", "mtu", "1350", "up")


def test_a_pod_is_found_by_its_address(pods):
    assert probe.find_namespace(PODS["a"]) == pods["a"]
    with pytest.raises(probe.ProbeError, match=r"no network namespace of this host has 10\.203\.250\.9"):
        probe.find_namespace("10.203.250.9")


def test_a_stale_namespace_file_is_passed_over(pods, tmp_path):
    (tmp_path / "cni-left-over").write_text("")
    assert probe.find_namespace(PODS["a"], [f"{tmp_path}/*", "/run/netns/*"]) == pods["a"]


def test_we_come_back_from_a_namespace_even_after_an_error(pods):
    before = os.stat("/proc/thread-self/ns/net").st_ino
    with pytest.raises(RuntimeError), probe.network_namespace(pods["a"]):  # noqa: PT012
        assert os.stat("/proc/thread-self/ns/net").st_ino != before
        raise RuntimeError
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


def test_exactly_the_mtu_passes(pods):
    with probe.network_namespace(pods["a"]):
        assert probe.observe([PODS["b"]], 1322, wait=0.5) == {PODS["b"]: probe.Observation("reply", "too big", "reply")}


def test_a_smaller_link_is_seen(pods, tools):
    tools("a", "link", "set", "eth0", "mtu", "1300")
    with probe.network_namespace(pods["a"]):
        assert probe.observe([PODS["b"]], 1322, attempts=1, wait=0.3)[PODS["b"]] == probe.Observation("too big", "too big", "reply")


def test_a_larger_link_is_seen(pods, tools):
    for pod in PODS:
        tools(pod, "link", "set", "eth0", "mtu", "1500")
    with probe.network_namespace(pods["a"]):
        assert probe.observe([PODS["b"]], 1322, wait=0.5)[PODS["b"]].above == "reply"


def test_a_silent_peer_costs_a_bounded_time(pods, tools):
    tools("b", "link", "set", "eth0", "down")
    started = time.monotonic()
    with probe.network_namespace(pods["a"]):
        assert probe.observe([PODS["b"], f"{NETWORK}.7"], 1322, attempts=2, wait=0.2)[PODS["b"]].small == "no answer"
    assert time.monotonic() - started < 5


def test_a_probe_answers_with_its_nodes_name_and_ends_with_its_time(pods):
    pid = probe.answer(pods["b"], "worker2", seconds=1.5)
    with probe.network_namespace(pods["a"]):
        assert probe.ask_probe(PODS["b"]) == "worker2"
        with probe.network_namespace(pods["b"]):
            assert probe.ask_probe(PODS["b"]) == "worker2"
    assert gone(pid, within=4)
    with probe.network_namespace(pods["a"]), pytest.raises(probe.ProbeError, match="Connection refused"):
        probe.ask_probe(PODS["b"], attempts=1)


def test_a_probe_ends_with_its_pod():
    with namespace("gone") as name:
        pid = probe.answer(f"/run/netns/{name}", "worker9", seconds=60)
        assert not gone(pid, within=0.2)
        ip("netns", "del", name)
        assert gone(pid, within=4)


def gone(pid: int, within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # ended; whoever inherited it has not looked yet
            return True
        time.sleep(0.05)
    return False
