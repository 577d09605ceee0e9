# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of the kubelet's device manager, over real gRPC on real sockets.

It does what k8s.io/kubernetes 1.36, pkg/kubelet/cm/devicemanager (manager.go, endpoint.go, plugin/v1beta1/*.go) and pkg/kubelet/apis/podresources do, in their
order, the traps among it: it removes all sockets of its folder when it starts; it refuses what it refuses there; it gives an init container's devices to the
next container of the pod; the end of an old stream takes a new registration with it; after its start it knows no pods until somebody tells it, but static
ones. Its checkpoint names what pods got, init containers too, and forgets a pod only when another gets something; a pod that runs has a cgroup.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import stat
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from fpga_device_plugin import deviceplugin_pb2 as api
from fpga_device_plugin import deviceplugin_pb2_grpc, podresources_pb2, podresources_pb2_grpc
from fpga_device_plugin.catalogue import is_extended_resource

CHECKPOINT = "kubelet_internal_checkpoint"


class AdmissionError(Exception):
    """The pod is rejected: UnexpectedAdmissionError, with this text."""


class StartError(Exception):
    """A container cannot be made; the text stands in the pod's events."""


@dataclass
class Client:
    """A plugin that has registered."""

    resource: str
    channel: Any
    stub: Any
    options: api.DevicePluginOptions


@dataclass
class Pod:
    """devices: by container and resource. visible: containers that PodResources names, which init containers are not."""

    name: str
    devices: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    answers: dict[tuple[str, str], api.ContainerAllocateResponse] = field(default_factory=dict)
    visible: set[str] = field(default_factory=set)
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    def all(self, resource: str) -> set[str]:
        return {device for (_container, own), devices in self.devices.items() if own == resource for device in devices}


@dataclass
class KubeletDouble(deviceplugin_pb2_grpc.RegistrationServicer, podresources_pb2_grpc.PodResourcesListerServicer):
    """root: its root directory. refuse: what Register answers instead of taking anybody. drop: ends each stream as soon as it has begun.

    pre_start_seconds: 30 in a real one.
    """

    root: Path
    refuse: str = ""
    drop: bool = False
    pre_start_seconds: float = 30.0
    knows_its_pods: bool = True
    other_pods: int = 1
    static_pods: int = 0
    pods: dict[str, Pod] = field(default_factory=dict)
    devices: dict[str, dict[str, api.Device]] = field(default_factory=dict)
    healthy: dict[str, set[str]] = field(default_factory=dict)
    registrations: list[str] = field(default_factory=list)
    lists: int = 0
    _clients: dict[str, Client] = field(default_factory=dict)
    _servers: list[Any] = field(default_factory=list)
    _watchers: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        return self.root / "device-plugins"

    @property
    def cgroups(self) -> Path:
        return self.root.parent / "cgroup"

    # --- its life

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.root / "pod-resources").mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            if path.name != CHECKPOINT and stat.S_ISSOCK(path.stat().st_mode):
                path.unlink()
        for resource in self.devices:
            self.healthy[resource] = set()
        for servicer, add, path in (
            (self, deviceplugin_pb2_grpc.add_RegistrationServicer_to_server, self.folder / "kubelet.sock"),
            (self, podresources_pb2_grpc.add_PodResourcesListerServicer_to_server, self.root / "pod-resources" / "kubelet.sock"),
        ):
            server = grpc.aio.server()
            add(servicer, server)
            server.add_insecure_port(f"unix:{path}")
            await server.start()
            self._servers.append(server)

    async def stop(self) -> None:
        for client in list(self._clients.values()):
            await client.channel.close()
        self._clients.clear()
        for watcher in list(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for server in self._servers:
            await server.stop(grace=None)
        self._servers.clear()
        for path in (self.folder / "kubelet.sock", self.root / "pod-resources" / "kubelet.sock"):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    async def restart(self, *, api_server: bool = True) -> None:
        """Its pods run on; without the API server it does not know of them at first."""
        await self.stop()
        self.knows_its_pods = api_server
        await self.start()

    # --- registration

    async def Register(self, request: api.RegisterRequest, context: Any) -> api.Empty:
        if self.refuse:
            await context.abort(grpc.StatusCode.UNKNOWN, self.refuse)
        if request.version != "v1beta1":
            await context.abort(
                grpc.StatusCode.UNKNOWN, f'requested API version "{request.version}" is not supported by kubelet. Supported version is ["v1beta1"]'
            )
        if not is_extended_resource(request.resource_name):
            await context.abort(grpc.StatusCode.UNKNOWN, f'the ResourceName "{request.resource_name}" is invalid')
        channel = grpc.aio.insecure_channel(f"unix:{self.folder / request.endpoint}", options=[("grpc.default_authority", "localhost")])
        stub = deviceplugin_pb2_grpc.DevicePluginStub(channel)
        try:
            options = await stub.GetDevicePluginOptions(api.Empty(), timeout=10)
        except grpc.aio.AioRpcError as error:
            await channel.close()
            await context.abort(grpc.StatusCode.UNKNOWN, f"failed to dial device plugin: {error.details()}")
        client = Client(request.resource_name, channel, stub, options)
        self._clients[request.resource_name] = client
        self.registrations.append(request.resource_name)
        watcher = asyncio.create_task(self._watch(client))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return api.Empty()

    async def _watch(self, client: Client) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            async for answer in client.stub.ListAndWatch(api.Empty()):
                self.devices[client.resource] = {device.ID: device for device in answer.devices}
                self.healthy[client.resource] = {device.ID for device in answer.devices if device.health == "Healthy"}
                if self.drop:
                    break
        # Not the one whose stream has ended, but whoever is registered by now (handler.go, runClient).
        current = self._clients.pop(client.resource, None)
        if current is not None:
            self.healthy[client.resource] = set()
            await current.channel.close()

    # --- what the node reports

    def allocatable(self) -> dict[str, int]:
        return {resource: len(devices) for resource, devices in self.healthy.items()}

    def capacity(self) -> dict[str, int]:
        return {resource: len(devices) for resource, devices in self.devices.items()}

    def numa(self, device: str) -> list[int]:
        return [node.ID for devices in self.devices.values() for known, one in devices.items() if known == device for node in one.topology.nodes]

    # --- pods

    async def admit(self, name: str, wanted: Mapping[str, int], *, init: Mapping[str, int] | None = None, container: str = "main") -> Pod:
        """Gives a pod its devices, those of its init container first. Raises AdmissionError."""
        pod = Pod(name)
        reusable: dict[str, set[str]] = {}
        for own, resources in (("init", init or {}), (container, wanted)):
            for resource, number in resources.items():
                given = await self._allocate(pod, own, resource, number, reusable.get(resource, set()))
                reusable.setdefault(resource, set()).update(given)
        pod.visible = {container}
        self.pods[name] = pod
        self._write_checkpoint()
        if self.cgroups.exists():  # not where it plays on a host that has its own
            self._cgroup(pod).mkdir(parents=True)
        return pod

    async def _allocate(self, pod: Pod, container: str, resource: str, number: int, reusable: set[str]) -> set[str]:
        if resource not in self.healthy:
            raise AdmissionError(f"cannot allocate unregistered device {resource}")
        if not self.healthy[resource]:
            raise AdmissionError(f"no healthy devices present; cannot allocate unhealthy devices {resource}")
        given = set(sorted(reusable)[:number])
        if len(given) < number:
            in_use = {device for other in [*self.pods.values(), pod] for device in other.all(resource)}
            available = self.healthy[resource] - in_use
            if len(available) < number - len(given):
                raise AdmissionError(f"requested number of devices unavailable for {resource}. Requested: {number}, Available: {len(available)}")
            client = self._clients[resource]
            preferred: list[str] = []
            if client.options.get_preferred_allocation_available:
                one = api.ContainerPreferredAllocationRequest(available_deviceIDs=available | given, must_include_deviceIDs=given, allocation_size=number)
                answer = await client.stub.GetPreferredAllocation(api.PreferredAllocationRequest(container_requests=[one]))
                preferred = list(answer.container_responses[0].deviceIDs)
            for device in [*[device for device in preferred if device in available], *sorted(available)]:
                if len(given) < number:
                    given.add(device)
        try:
            request = api.AllocateRequest(container_requests=[api.ContainerAllocateRequest(devices_ids=given)])
            answer = await self._clients[resource].stub.Allocate(request)
        except (KeyError, grpc.aio.AioRpcError) as error:
            said = error.details() if isinstance(error, grpc.aio.AioRpcError) else "endpoint has been stopped"
            raise AdmissionError(f"Allocate failed due to rpc error: {said}, which is unexpected") from error
        pod.devices[container, resource] = given
        pod.answers[container, resource] = answer.container_responses[0]
        return given

    async def start_container(self, pod: Pod, container: str = "main") -> None:
        """What comes before the container runtime is asked for one. Raises StartError."""
        for (own, resource), devices in pod.devices.items():
            if own != container:
                continue
            client = self._clients.get(resource)
            if client is None:
                raise StartError(f"endpoint not found in cache for a registered resource: {resource}")
            if not client.options.pre_start_required:
                continue
            try:
                await client.stub.PreStartContainer(api.PreStartContainerRequest(devices_ids=devices), timeout=self.pre_start_seconds)
            except grpc.aio.AioRpcError as error:
                said = f"rpc error: code = {error.code().name} desc = {error.details()}"
                raise StartError(f"Error: device plugin PreStartContainer rpc failed with err: {said}") from error

    def end(self, name: str) -> None:
        """Its checkpoint names it still."""
        shutil.rmtree(self._cgroup(self.pods.pop(name)), ignore_errors=True)

    def _cgroup(self, pod: Pod) -> Path:
        """As containerd's and the kubelet's driver systemd has it (pkg/kubelet/cm, CgroupName.ToSystemd)."""
        name = f"kubepods-burstable-pod{pod.uid.replace('-', '_')}.slice"
        return self.cgroups / "kubepods.slice" / "kubepods-burstable.slice" / name

    def _write_checkpoint(self) -> None:
        entries = [
            {"PodUID": pod.uid, "ContainerName": container, "ResourceName": resource, "DeviceIDs": {"-1": sorted(devices)}, "AllocResp": ""}
            for pod in self.pods.values()
            for (container, resource), devices in pod.devices.items()
        ]
        known = {resource: sorted(devices) for resource, devices in self.devices.items()}
        (self.folder / CHECKPOINT).write_text(json.dumps({"Data": {"PodDeviceEntries": entries or None, "RegisteredDevices": known}, "Checksum": 0}))

    # --- PodResources

    async def List(self, _request: Any, _context: Any) -> podresources_pb2.ListPodResourcesResponse:
        self.lists += 1
        static = [podresources_pb2.PodResources(name=f"etcd-{number}", namespace="kube-system") for number in range(self.static_pods)]
        if not self.knows_its_pods:
            return podresources_pb2.ListPodResourcesResponse(pod_resources=static)
        pods = [
            podresources_pb2.PodResources(
                name=pod.name,
                namespace="default",
                containers=[
                    podresources_pb2.ContainerResources(name=container, devices=[podresources_pb2.ContainerDevices(resource_name=resource, device_ids=devices)])
                    for (container, resource), devices in pod.devices.items()
                    if container in pod.visible
                ],
            )
            for pod in self.pods.values()
        ]
        pods += [podresources_pb2.PodResources(name=f"kube-proxy-{number}", namespace="kube-system") for number in range(self.other_pods)]
        return podresources_pb2.ListPodResourcesResponse(pod_resources=[*pods, *static])


@contextlib.asynccontextmanager
async def running(root: Path, **settings: Any) -> AsyncIterator[KubeletDouble]:
    double = KubeletDouble(root, **settings)
    await double.start()
    try:
        yield double
    finally:
        await double.stop()
