# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be seen from outside: metrics for Prometheus, and whether all is well, on a local port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fpga_device_plugin.ownership import Ownership

log = logging.getLogger(__name__)

#: Long enough for a slow reader, short enough that nobody can hold many connections open.
REQUEST_SECONDS = 5.0
ALLOCATE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
TOOL_BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 25.0)


class Watched(Protocol):
    """What is measured, the daemon."""

    ownership: Ownership

    def registered(self) -> dict[str, bool]: ...
    def problems(self) -> list[str]: ...


@dataclass
class Metrics:
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.registrations = Counter("fpga_hybrid_registrations", "Registrations with the kubelet", ["resource", "result"], registry=self.registry)
        self.allocations = Counter("fpga_hybrid_allocations", "Answers to Allocate", ["resource", "result"], registry=self.registry)
        self.allocate_seconds = Histogram("fpga_hybrid_allocate_seconds", "Time of an answer", buckets=ALLOCATE_BUCKETS, registry=self.registry)
        self.starts = Counter("fpga_hybrid_container_starts", "Answers to PreStartContainer", ["resource", "result"], registry=self.registry)
        self.tools = Counter("fpga_hybrid_tool_calls", "Calls of AWS' tools", ["tool", "result"], registry=self.registry)
        self.tool_seconds = Histogram("fpga_hybrid_tool_seconds", "Time of such a call", ["tool"], buckets=TOOL_BUCKETS, registry=self.registry)
        self.kubelet_errors = Counter("fpga_hybrid_kubelet_errors", "Failed calls to the kubelet", ["call"], registry=self.registry)

    def watch(self, watched: Watched) -> None:
        self.registry.register(_State(watched))

    def count_tool(self, tool: str, seconds: float, good: bool) -> None:
        self.tools.labels(tool, result(good)).inc()
        self.tool_seconds.labels(tool).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)


def result(good: bool) -> str:
    return "ok" if good else "failed"


class _State(Collector):
    """What is so now, read when it is asked for."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def collect(self) -> Iterator[GaugeMetricFamily]:
        ownership, registered = self._watched.ownership, self._watched.registered()
        ready = GaugeMetricFamily("fpga_hybrid_board_ready", "Whether a pod could use the board", labels=["slot", "board"])
        taken = GaugeMetricFamily("fpga_hybrid_board_devices_taken", "Devices of the board in pods", labels=["slot", "board", "resource"])
        for board in ownership.boards.values():
            ready.add_metric([board.slot, board.kind.name], board.ready)
            if owner := ownership.owners.get(board.slot):
                taken.add_metric([board.slot, board.kind.name, owner.resource], len(owner.holds))
        devices = GaugeMetricFamily("fpga_hybrid_devices", "Devices that the kubelet is told of", labels=["resource", "health"])
        for resource in ownership.resources:
            listed = ownership.devices(resource)
            for health in (True, False):
                devices.add_metric([resource, "healthy" if health else "unhealthy"], sum(device.healthy is health for device in listed))
        registration = GaugeMetricFamily("fpga_hybrid_registered", "Whether the running kubelet knows the resource", labels=["resource"])
        for resource, is_registered in registered.items():
            registration.add_metric([resource], is_registered)
        yield from (ready, taken, devices, registration)
        yield GaugeMetricFamily("fpga_hybrid_problems", "What /healthz names", value=len(self._watched.problems()))
        yield GaugeMetricFamily("fpga_hybrid_owners_known", "Whether it is certain who has which board", value=ownership.known)


@dataclass(frozen=True)
class Page:
    status: str
    content: bytes
    kind: str = "text/plain; charset=utf-8"

    def encoded(self) -> bytes:
        head = f"HTTP/1.1 {self.status}\r\nContent-Type: {self.kind}\r\nContent-Length: {len(self.content)}\r\nConnection: close\r\n\r\n"
        return head.encode() + self.content


def page(path: str, metrics: Callable[[], bytes], problems: Callable[[], Iterable[str]]) -> Page:
    if path == "/metrics":
        return Page("200 OK", metrics(), "text/plain; version=0.0.4; charset=utf-8")
    if path == "/healthz":
        found = list(problems())
        return Page("503 Service Unavailable" if found else "200 OK", "\n".join([*found, ""] if found else ["ok", ""]).encode())
    return Page("404 Not Found", b"there are /metrics and /healthz\n")


async def serve(address: str, port: int, answer: Callable[[str], Page]) -> asyncio.Server:
    """Answers GET requests, one a connection. Raises OSError if the port is taken."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), REQUEST_SECONDS)).decode("latin-1")
            words = request.split(" ", 2)
            found = answer(words[1].partition("?")[0]) if words[0] == "GET" and len(words) == 3 else Page("405 Method Not Allowed", b"only GET\n")
            writer.write(found.encoded())
            await asyncio.wait_for(writer.drain(), REQUEST_SECONDS)
        except (asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # whoever asked has gone, or is no HTTP client
        finally:
            writer.close()

    return await asyncio.start_server(handle, address, port)
