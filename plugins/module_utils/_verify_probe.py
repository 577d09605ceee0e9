# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends and answers packets from within a pod's network namespace, with nothing but the host's Python.

PRIVATE to the collection. The pod itself only sleeps (it runs the pause image that each node has anyway): a socket belongs to the network
namespace in which it was made, so the host makes one there and uses it like any other. Needs root, Linux, IPv4.
"""

from __future__ import annotations

import ctypes
import glob
import os
import random
import re
import select
import signal
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Callable

from ansible_collections.fpga.hybrid.plugins.module_utils._icmp import ping
from ansible_collections.fpga.hybrid.plugins.module_utils._verify import Observation

CLONE_NEWNET = 0x40000000  # linux/sched.h
NETNS_FOLDERS = ("/run/netns/*", "/run/docker/netns/*")  # containerd (CNI), cri-dockerd
ANSWER_PORT = 8099

libc = ctypes.CDLL(None, use_errno=True)


class ProbeError(Exception):
    """A test that could not be made; the text says why."""


@contextmanager
def network_namespace(path: str | None) -> Iterator[None]:
    """Sockets made inside belong to the namespace at this path (None: stay where we are)."""
    if path is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(path, os.O_RDONLY)
        try:
            enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


def enter(descriptor: int) -> None:
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


def is_local(address: str) -> bool:
    """Does this network namespace have the address? Only then can a socket be bound to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def find_namespace(address: str, folders: Sequence[str] = NETNS_FOLDERS) -> str:
    """The network namespace of the pod with this address on this host."""
    for path in sorted(path for folder in folders for path in glob.glob(folder)):
        try:
            with network_namespace(path):
                if is_local(address):
                    return path
        except OSError:
            continue  # a left-over file of a pod that has gone
    raise ProbeError(f"no network namespace of this host has {address} (looked at {', '.join(folders)})")


def observe(addresses: Sequence[str], full: int, attempts: int = 3, wait: float = 1.0) -> dict[str, Observation]:
    """How packets of the full payload size, of one byte more, and small ones fare, for each address."""
    above, small = full + 1, 56
    seen = ping([(address, full) for address in addresses], attempts, wait)
    # one byte more must be lost: to wait for it thrice would only cost time
    seen.update(ping([(address, above) for address in addresses], 1, wait))
    silent = [address for address in addresses if seen[address, full] != "reply"]
    seen.update(ping([(address, small) for address in silent], attempts, wait))
    return {address: Observation(full=seen[address, full], above=seen[address, above], small=seen.get((address, small), "reply")) for address in addresses}


def fragment_counters(text: str) -> dict[str, int]:
    """FragCreates and ReasmReqds of /proc/net/snmp: packets split on sending, fragments that came in."""
    rows = [line.split()[1:] for line in text.splitlines() if line.startswith("Ip:")]
    counters = dict(zip(rows[0], rows[1]))
    return {name: int(counters[name]) for name in ("FragCreates", "ReasmReqds")}


def count_fragments() -> dict[str, int]:
    """Of the network namespace this is called in."""
    with open("/proc/thread-self/net/snmp", encoding="ascii") as snmp:
        return fragment_counters(snmp.read())


def fragments_during(action: Callable[[], None], rounds: int = 3) -> list[dict[str, int]]:
    """By how much the counters rose in each round of the action; stops at the first round that left them alone."""
    result = []
    for _round in range(rounds):
        before = count_fragments()
        action()
        after = count_fragments()
        result.append({name: after[name] - before[name] for name in before})
        if not any(result[-1].values()):
            break
    return result


# --- DNS, TLS, TCP ------------------------------------------------------------------------------------------------


def dns_query(identifier: int, name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.rstrip(".").split("."))
    return struct.pack("!HHHHHH", identifier, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def skip_name(packet: bytes, offset: int) -> int:
    while packet[offset]:
        if packet[offset] & 0xC0:
            return offset + 2
        offset += packet[offset] + 1
    return offset + 1


def dns_addresses(packet: bytes) -> list[str]:
    """The A records of an answer. Raises ProbeError with the server's refusal (RFC 1035, RCODE)."""
    _identifier, flags, questions, answers = struct.unpack("!HHHH", packet[:8])
    if flags & 0x0F:
        raise ProbeError({1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}.get(flags & 0x0F, f"RCODE {flags & 0x0F}"))
    offset = 12
    for _question in range(questions):
        offset = skip_name(packet, offset) + 4
    found = []
    for _answer in range(answers):
        offset = skip_name(packet, offset)
        kind, _class, _ttl, length = struct.unpack("!HHIH", packet[offset : offset + 10])
        offset += 10
        if kind == 1:
            found.append(socket.inet_ntoa(packet[offset : offset + length]))
        offset += length
    return found


def resolve(server: str, name: str, attempts: int = 3, wait: float = 1.5, port: int = 53) -> list[str]:
    """Ask one DNS server for a name's addresses over UDP."""
    problem = "no answer"
    for _attempt in range(attempts):
        identifier = random.randrange(1, 0xFFFF)  # noqa: S311 (as above)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(wait)
            try:
                client.connect((server, port))
                client.send(dns_query(identifier, name))
                packet = client.recv(4096)
                if packet[:2] == struct.pack("!H", identifier):
                    return dns_addresses(packet)
            except socket.timeout:
                problem = "no answer"
            except OSError as error:
                problem = error.strerror or str(error)
    raise ProbeError(problem)


def ask_api(address: str, port: int, ca: str, wait: float = 3.0) -> str:
    """GET /version over TLS, its certificate checked against the cluster's CA: any HTTP status is an answer."""
    context = ssl.create_default_context(cafile=ca)
    try:
        with socket.create_connection((address, port), wait) as plain, context.wrap_socket(plain, server_hostname=address) as client:
            client.sendall(f"GET /version HTTP/1.0\r\nHost: {address}\r\n\r\n".encode("ascii"))
            head = client.recv(4096).decode("ascii", "replace")
    except (OSError, ValueError) as error:
        raise ProbeError(str(error)) from error
    status = re.match(r"HTTP/\S+ (\d+)", head)
    if not status:
        raise ProbeError("what answers speaks no HTTP")
    return f"HTTP {status.group(1)}"


def ask_probe(address: str, port: int = ANSWER_PORT, attempts: int = 3, wait: float = 1.5) -> str:
    """The name of the node whose probe answers at a Service's address."""
    problem = "no answer"
    for attempt in range(attempts):
        if attempt:
            time.sleep(0.3)  # kube-proxy may be a moment behind the EndpointSlice
        try:
            with socket.create_connection((address, port), wait) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                text = b""
                while True:
                    part = client.recv(4096)
                    if not part:
                        break
                    text += part
                return text.decode("ascii", "replace").rpartition("\r\n\r\n")[2].strip()
        except socket.timeout:
            problem = "no answer"
        except OSError as error:
            problem = error.strerror or str(error)
    raise ProbeError(problem)


def answer(path: str | None, name: str, seconds: float, port: int = ANSWER_PORT, address: str = "") -> int:
    """Start a process that answers HTTP with the node's name in the namespace; returns its pid once it listens.

    It ends by itself when the pod has gone (its namespace's file vanishes), and after `seconds` whatever happens.
    """
    with network_namespace(path):
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(64)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # twice, and in a session of its own, so that neither Ansible nor ssh waits for it
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        grandchild = os.fork()
        if grandchild:
            os.write(writer, str(grandchild).encode("ascii"))
            os._exit(0)
        try:
            silent = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(silent, descriptor)
            os.close(reader)
            os.close(writer)
            serve(server, path, name, seconds)
        finally:
            os._exit(0)
    os.close(writer)
    server.close()
    with os.fdopen(reader) as pipe:
        pid = int(pipe.read())
    os.waitpid(child, 0)
    return pid


def serve(server: socket.socket, path: str | None, name: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    reply = f"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{name}\n".encode("ascii")
    while time.monotonic() < deadline and (path is None or os.path.exists(path)):
        if not select.select([server], [], [], 0.5)[0]:
            continue
        client, _sender = server.accept()
        with client:
            client.settimeout(2)
            try:
                client.recv(1024)
                client.sendall(reply)
            except OSError:
                continue  # whoever asked has gone


# --- the host -----------------------------------------------------------------------------------------------------


def device_addresses(text: str) -> dict[str, list[str]]:
    """{device: [IPv4 address]} from the output of `ip -4 -o addr show`."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        parts = line.split()
        if "inet" in parts:
            found.setdefault(parts[1], []).append(parts[parts.index("inet") + 1].split("/")[0])
    return found
