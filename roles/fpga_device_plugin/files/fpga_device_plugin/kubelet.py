# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet: what it is told (Register), what it is asked (PodResources, its checkpoint), and what it asks (one endpoint a resource)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc

from fpga_device_plugin import deviceplugin_pb2 as api
from fpga_device_plugin import deviceplugin_pb2_grpc, podresources_pb2, podresources_pb2_grpc
from fpga_device_plugin.answer import Answer
from fpga_device_plugin.images import ImageError
from fpga_device_plugin.ownership import Device, RefusalError

log = logging.getLogger(__name__)

VERSION = "v1beta1"
HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"
SOCKET_PREFIX = "fpga-hybrid-"
#: It dials us back and asks for our options before it answers.
REGISTER_SECONDS = 10.0
LIST_SECONDS = 5.0
SETTLE_SECONDS = 1.0
STOP_SECONDS = 1.0
#: grpc would name the socket's path as the authority, which servers written in Go may refuse.
_CHANNEL = (("grpc.default_authority", "localhost"), ("grpc.enable_retries", 0))

_UID = re.compile(r"[0-9a-f-]+", re.ASCII)
#: Cgroups of pods: guaranteed ones, others; the second two with a hierarchy's name before (version 1), or with the kubelet's option cgroup-root.
_PODS = ("kubepods*/*pod*", "kubepods*/*/*pod*", "*/*kubepods*/*pod*", "*/*kubepods*/*/*pod*")

Identity = tuple[int, int]
#: A socket's name is never used twice, since grpc may remove an old one late.
_numbers = itertools.count(1)


class KubeletError(Exception):
    """The kubelet cannot be reached, or refuses; the text says which."""


@dataclass(frozen=True)
class Kubelet:
    """folder: its root directory, /var/lib/kubelet. cgroups: where cgroups are mounted."""

    folder: Path
    cgroups: Path = Path("/sys/fs/cgroup")

    @property
    def plugins(self) -> Path:
        return self.folder / "device-plugins"

    @property
    def socket(self) -> Path:
        return self.plugins / "kubelet.sock"

    def identity(self) -> Identity | None:
        """Tells one start of the kubelet from the next, since each makes the socket anew; None while there is no socket."""
        try:
            status = self.socket.stat()
        except OSError:
            return None
        return (status.st_ino, status.st_ctime_ns)

    def listens(self) -> bool:
        """Whether it runs: a socket may be left of one that does not."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            return connection.connect_ex(str(self.socket)) == 0

    def clean(self) -> None:
        """Removes sockets that an earlier run of ours left."""
        for path in self.plugins.glob(f"{SOCKET_PREFIX}*.sock"):
            with contextlib.suppress(OSError):
                path.unlink()

    async def register(self, resource: str, endpoint: str, options: api.DevicePluginOptions) -> None:
        """Raises KubeletError."""
        request = api.RegisterRequest(version=VERSION, endpoint=endpoint, resource_name=resource, options=options)
        async with grpc.aio.insecure_channel(f"unix:{self.socket}", options=_CHANNEL) as channel:
            try:
                await deviceplugin_pb2_grpc.RegistrationStub(channel).Register(request, timeout=REGISTER_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise KubeletError(f"{self.socket}: the kubelet doesn't take {resource} ({_told(error)})") from error

    async def holdings(self) -> tuple[dict[str, set[str]], bool]:
        """Devices in use by resource, and whether it knows of any pod at all. Raises KubeletError."""
        path = self.folder / "pod-resources" / "kubelet.sock"
        async with grpc.aio.insecure_channel(f"unix:{path}", options=_CHANNEL) as channel:
            try:
                stub = podresources_pb2_grpc.PodResourcesListerStub(channel)
                answer = await stub.List(podresources_pb2.ListPodResourcesRequest(), timeout=LIST_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise KubeletError(f"{path}: the kubelet doesn't tell which pod has what ({_told(error)})") from error
        held: dict[str, set[str]] = {}
        for pod in answer.pod_resources:
            for container in pod.containers:
                for devices in container.devices:
                    held.setdefault(devices.resource_name, set()).update(devices.device_ids)
        for pod, resource, devices in self._checkpoint():
            if not devices <= held.get(resource, set()) and self.runs(pod):
                held.setdefault(resource, set()).update(devices)
        return held, bool(answer.pod_resources)

    def _checkpoint(self) -> list[tuple[str, str, set[str]]]:
        """(pod, resource, devices) of each container that got any, init containers too, which PodResources does not name. It names pods that have ended, too,
        until another pod gets something. Of no use: nothing.
        """
        path = self.plugins / "kubelet_internal_checkpoint"
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))["Data"]["PodDeviceEntries"] or []
            return [(str(one["PodUID"]), str(one["ResourceName"]), {str(id_) for ids in one["DeviceIDs"].values() for id_ in ids}) for one in entries]
        except FileNotFoundError:
            return []  # no pod has got a device yet
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.debug("%s is of no use (%s): init containers' boards are not seen", path, error)
            return []

    def runs(self, pod: str) -> bool:
        """Whether a pod, by its UID, has a cgroup: from its start until its end, and whether or not the kubelet has heard of it again after its own restart."""
        if not _UID.fullmatch(pod):
            return False
        names = {f"pod{pod}", f"pod{pod.replace('-', '_')}.slice"}  # drivers cgroupfs and systemd
        pods = (folder for pattern in _PODS for folder in self.cgroups.glob(pattern))
        return any(f"pod{folder.name.rpartition('pod')[2]}" in names for folder in pods)


def _told(error: grpc.aio.AioRpcError) -> str:
    """What the other side said, or the system's word for why it could not be asked."""
    details = error.details() or ""
    return f"{error.code().name}: {details.rpartition(' error: ')[2] if details.startswith('failed to connect') else details}"


class Decisions(Protocol):
    """What an endpoint asks, the daemon."""

    def devices(self, resource: str) -> list[Device]: ...
    def prefer(self, resource: str, available: Iterable[str], must_include: Iterable[str], size: int) -> list[str]: ...
    def allocate(self, resource: str, devices: Iterable[str]) -> Answer: ...
    async def learn_owners(self, resource: str) -> None: ...
    async def pre_start(self, resource: str, devices: Iterable[str]) -> None: ...


def socket_name(resource: str, number: int) -> str:
    """Unique, and short enough for a socket whatever the resource is called."""
    readable = re.sub(r"[^a-z0-9]+", "-", resource.rpartition("/")[2].lower())[:24].strip("-")
    digest = hashlib.sha256(resource.encode()).hexdigest()[:8]
    return f"{SOCKET_PREFIX}{readable}-{digest}-{number}.sock"


@dataclass
class Endpoint(deviceplugin_pb2_grpc.DevicePluginServicer):  # type: ignore[misc]
    """One resource's side of the API, on a socket of its own. A new registration gets a new socket.

    registered_with: the kubelet's start that took it. streams: how many lists the kubelet is watching, watched: whether it ever has since then.
    wake: called when it stops.
    """

    resource: str
    decisions: Decisions
    kubelet: Kubelet
    prepares: bool
    wake: Callable[[], None]
    registered_with: Identity | None = None
    registered_at: float = 0.0
    streams: int = 0
    watched: bool = False
    _server: Any = None
    _socket: str = ""
    _ends: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def options(self) -> api.DevicePluginOptions:
        return api.DevicePluginOptions(pre_start_required=self.prepares, get_preferred_allocation_available=True)

    def changed(self) -> None:
        """Something may have changed: each stream compares, and tells what has."""
        self._changed.set()
        self._changed = asyncio.Event()

    def stands(self, identity: Identity | None) -> bool:
        """Whether this start of the kubelet knows the resource, and watches or is about to.

        Where a registration follows on another, the kubelet may take the end of the old stream for that of the new one and drop both.
        """
        if self.registered_with != identity:
            return False
        patience = SETTLE_SECONDS if self.watched else REGISTER_SECONDS
        return self.streams > 0 or time.monotonic() - self.registered_at < patience

    async def register(self, identity: Identity) -> None:
        """Serves on a new socket and makes it known. Raises KubeletError or OSError."""
        await self.stop()
        self._socket = socket_name(self.resource, next(_numbers))
        self._ends = False
        server = grpc.aio.server()
        deviceplugin_pb2_grpc.add_DevicePluginServicer_to_server(self, server)
        try:
            server.add_insecure_port(f"unix:{self.kubelet.plugins / self._socket}")
        except RuntimeError as error:
            raise KubeletError(f"{self.kubelet.plugins / self._socket} cannot be listened on ({error})") from error
        await server.start()
        self._server, self.watched = server, False
        await self.kubelet.register(self.resource, self._socket, self.options)
        self.registered_with, self.registered_at = identity, time.monotonic()

    async def stop(self) -> None:
        """Ends the kubelet's streams, and serves no more."""
        server, self._server, self.registered_with = self._server, None, None
        if server is not None:
            self._ends = True
            self.changed()
            await server.stop(STOP_SECONDS)
            with contextlib.suppress(OSError):
                (self.kubelet.plugins / self._socket).unlink()

    # --- what the kubelet calls

    # Of grpc.aio's servers these are coroutines, under the same stubs.
    # pylint: disable=invalid-overridden-method

    async def GetDevicePluginOptions(self, _request: api.Empty, _context: Any) -> api.DevicePluginOptions:  # noqa: N802
        return self.options

    async def ListAndWatch(self, _request: api.Empty, _context: Any) -> AsyncIterator[api.ListAndWatchResponse]:  # noqa: N802
        self.streams += 1
        self.watched = True
        told = None
        try:
            while not self._ends:
                changed = self._changed
                listed = listing(self.decisions.devices(self.resource))
                if listed != told:
                    told = listed
                    yield listed
                await changed.wait()
        finally:
            self.streams -= 1
            self.wake()

    async def GetPreferredAllocation(self, request: api.PreferredAllocationRequest, _context: Any) -> api.PreferredAllocationResponse:  # noqa: N802
        answers = [
            api.ContainerPreferredAllocationResponse(
                deviceIDs=self.decisions.prefer(self.resource, one.available_deviceIDs, one.must_include_deviceIDs, one.allocation_size)
            )
            for one in request.container_requests
        ]
        return api.PreferredAllocationResponse(container_responses=answers)

    async def Allocate(self, request: api.AllocateRequest, context: Any) -> api.AllocateResponse:  # noqa: N802
        await self.decisions.learn_owners(self.resource)
        try:
            answers = [self.decisions.allocate(self.resource, one.devices_ids) for one in request.container_requests]
        except RefusalError as refusal:
            log.warning("%s: refused %s: %s", self.resource, [list(one.devices_ids) for one in request.container_requests], refusal)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refusal))
        return api.AllocateResponse(container_responses=[allocation(answer) for answer in answers])

    async def PreStartContainer(self, request: api.PreStartContainerRequest, context: Any) -> api.PreStartContainerResponse:  # noqa: N802
        try:
            await self.decisions.pre_start(self.resource, request.devices_ids)
        except (RefusalError, ImageError) as error:
            log.error("%s: a container cannot start with %s: %s", self.resource, list(request.devices_ids), error)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return api.PreStartContainerResponse()


def listing(devices: Iterable[Device]) -> api.ListAndWatchResponse:
    def topology(device: Device) -> api.TopologyInfo | None:
        return None if device.numa_node is None else api.TopologyInfo(nodes=[api.NUMANode(ID=device.numa_node)])

    return api.ListAndWatchResponse(
        devices=[api.Device(ID=device.id, health=HEALTHY if device.healthy else UNHEALTHY, topology=topology(device)) for device in devices]
    )


def allocation(answer: Answer) -> api.ContainerAllocateResponse:
    return api.ContainerAllocateResponse(
        envs=answer.envs,
        mounts=[api.Mount(host_path=host, container_path=inside) for host, inside in answer.mounts],
        devices=[api.DeviceSpec(host_path=host, container_path=inside, permissions="rw") for host, inside in answer.devices],
        cdi_devices=[api.CDIDevice(name=name) for name in answer.cdi],
    )
