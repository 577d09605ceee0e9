# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service: looks at boards, publishes them, answers the kubelet, and never ends because of what it finds."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncinotify

from fpga_device_plugin import catalogue, labels, metrics, packing, systemd
from fpga_device_plugin.answer import Answer, Giver
from fpga_device_plugin.boards import KINDS, Kind
from fpga_device_plugin.catalogue import Catalogue
from fpga_device_plugin.discovery import Board, Host, SysfsError
from fpga_device_plugin.images import ImageError, Status, Tools
from fpga_device_plugin.kubelet import Endpoint, Kubelet, KubeletError
from fpga_device_plugin.labels import LabelError, Labeller
from fpga_device_plugin.metrics import Metrics
from fpga_device_plugin.ownership import Device, Grace, Ownership, RefusalError
from fpga_device_plugin.store import Store

log = logging.getLogger(__name__)

RETRY_AFTER, RETRY_AT_MOST = 0.2, 5.0

_NEW = asyncinotify.Mask.CREATE | asyncinotify.Mask.MOVED_TO


@dataclass(frozen=True)
class Pace:
    """Seconds between two looks. What must be seen at once, the kubelet's start, is told by inotify.

    pods: while somebody has a board, as far as we know; pods_idle: else. For as long as confirm after a board was given out, at every tick until the kubelet
    names its pod: a short one that was never seen would keep its board for Grace.unseen.
    """

    tick: float = 1.0
    boards: float = 5.0
    pods: float = 5.0
    pods_idle: float = 60.0
    confirm: float = 10.0
    labels: float = 60.0


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    config: Path = Path("/etc/fpga-hybrid/node.json")
    sysfs: Path = Path("/sys")
    dev: Path = Path("/dev")
    kubelet: Path = Path("/var/lib/kubelet")
    cgroups: Path = Path("/sys/fs/cgroup")
    state: Path = Path("/var/lib/fpga-hybrid/device-plugin/owners.json")
    metrics: tuple[str, int] | None = ("127.0.0.1", 9406)
    management: bool = False
    cdi: Path | None = None
    slots: Mapping[str, Kind] = field(default_factory=dict)
    tools: str = "/usr/local/bin:/usr/bin"
    image_seconds: float = 25.0
    grace: Grace = field(default_factory=Grace)
    settle: float = 60.0
    kubeconfig: Path | None = None
    pace: Pace = field(default_factory=Pace)


def merge(known: Mapping[str, Board], found: Mapping[str, Board], busy: Iterable[str]) -> dict[str, Board]:
    """The boards after a look. Those that an image is being loaded into stay as they were; one that was there once stays, unready."""
    # AWS' tools number the boards that are there: what is gone has no number any more.
    gone = {
        slot: replace(board, image_slot=None, reason=f"board {slot} has gone from the PCI bus: see dmesg") for slot, board in known.items() if slot not in found
    }
    held = {slot: known[slot] for slot in busy if slot in known}
    return dict(sorted({**gone, **found, **held}.items()))


async def end(*tasks: asyncio.Task[Any], again: float = 2.0) -> None:
    """Cancels tasks until all have ended.

    Before Python 3.12 wait_for swallows a cancellation that comes together with what it waits for (python/cpython issue 86296), so once is not enough.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _done, waiting = await asyncio.wait(waiting, timeout=again)
    await asyncio.gather(*tasks, return_exceptions=True)


class Daemon:
    """One for a host. Everything runs in one event loop, so that no two decisions are taken at once."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.host = Host(options.sysfs, options.dev, options.slots)
        self.kubelet = Kubelet(options.kubelet, options.cgroups)
        self.catalogue = Catalogue()
        self.ownership = Ownership(options.grace)
        self.store = Store(options.state)
        self.metrics = Metrics()
        self.tools = Tools(options.tools, options.image_seconds, self.metrics.count_tool)
        self.giver = Giver(options.sysfs, options.dev, options.management, cdi=options.cdi is not None)
        self.endpoints: dict[str, Endpoint] = {}
        self._busy: set[str] = set()
        self._image_shells: dict[str, str] = {}
        self._faults: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._config_seen: tuple[int, int, int] | None = None
        self._cdi_written = ""
        self._given_out = -self.options.pace.confirm
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what is so

    def problems(self) -> list[str]:
        """What somebody should look at; /healthz says it."""
        return [*self.catalogue.problems, *self._faults.values()]

    def registered(self) -> dict[str, bool]:
        identity = self.kubelet.identity()
        return {resource: identity is not None and endpoint.stands(identity) for resource, endpoint in self.endpoints.items()}

    def _fault(self, about: str, text: str = "") -> None:
        """Notes what is wrong, logs it once, and forgets it when it is right again."""
        if text and self._faults.get(about) != text:
            log.error("%s", text)
        if not text and about in self._faults:
            log.info("right again: %s", self._faults[about])
        self._faults.pop(about, None)
        if text:
            self._faults[about] = text

    # --- the loop

    async def run(self, stop: asyncio.Event) -> None:
        """Until stop is set."""
        self.store.load(self.ownership)
        self._make_folder()
        self.kubelet.clean()
        self.metrics.watch(self)
        server = await self._serve_metrics()
        self.read_catalogue()
        self.refresh()
        loops = [self._register_loop(), self._boards_loop(), self._pods_loop(), self._watch_loop()]
        if self.options.kubeconfig:
            loops.append(self._labels_loop(Labeller(self.options.kubeconfig)))
        tasks = [asyncio.create_task(loop) for loop in loops]
        self._soon(self._become_ready())
        ended = asyncio.create_task(stop.wait())
        try:
            done, _pending = await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {ended}:
                task.result()
        finally:
            systemd.notify(STOPPING="1")
            await end(ended, *tasks, *self._tasks)
            for endpoint in self.endpoints.values():
                await endpoint.stop()
            if server:
                server.close()

    async def _become_ready(self) -> None:
        """Holds up the kubelet, which starts after us, until the boards of pods that it will start again are ready: else it would fail them for good."""
        end = time.monotonic() + self.options.settle
        while time.monotonic() < end and not self.kubelet.listens():
            waiting = [board for slot in self.ownership.owners if (board := self.ownership.boards.get(slot)) is None or not board.ready]
            if not waiting:
                break
            await asyncio.sleep(self.options.pace.tick)
            self.refresh()
        systemd.notify(READY="1", STATUS=self._summary())

    def _summary(self) -> str:
        told = ", ".join(f"{len(self.ownership.devices(resource))} {resource}" for resource in self.ownership.resources if self.ownership.devices(resource))
        return told or "no boards to publish"

    async def _serve_metrics(self) -> asyncio.Server | None:
        if self.options.metrics is None:
            return None
        address, port = self.options.metrics
        try:
            return await metrics.serve(address, port, lambda path: metrics.page(path, self.metrics.text, self.problems))
        except OSError as error:
            log.error("no metrics: %s:%d cannot be listened on (%s). Set fpga_device_plugin_metrics to another port.", address, port, error.strerror)
            return None

    def _make_folder(self) -> None:
        with contextlib.suppress(OSError):
            self.kubelet.plugins.mkdir(mode=0o750, parents=True, exist_ok=True)

    def _soon(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- boards and what they are published as

    async def _boards_loop(self) -> None:
        looked = time.monotonic()
        while True:
            await asyncio.sleep(self.options.pace.tick)
            systemd.notify(WATCHDOG="1")
            self.read_catalogue()
            if time.monotonic() - looked >= self.options.pace.boards:
                looked = time.monotonic()
                self.refresh()

    def read_catalogue(self) -> None:
        """Reads node.json if it has changed."""
        try:
            status = self.options.config.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            seen = (0, 0, 0)
        if seen == self._config_seen:
            return
        self._config_seen = seen
        self.catalogue = catalogue.load(self.options.config)
        for problem in self.catalogue.problems:
            log.error("%s", problem)
        log.info("to be published: %s", json.dumps({name: dict(resource.copies) for name, resource in self.catalogue.resources.items()}, sort_keys=True))
        self.ownership.resources = self.catalogue.resources
        self._publish()

    def refresh(self) -> None:
        """Looks at the boards."""
        known = self.ownership.boards
        try:
            found = merge(known, self.host.look(), self._busy)
            self._fault("sysfs")
        except (SysfsError, OSError) as error:
            self._fault("sysfs", str(error))
            found = {slot: board.unready(str(error)) for slot, board in known.items()}
        if found == known:
            return
        for slot, board in found.items():
            before = known.get(slot)
            if before is None or before.reason != board.reason:
                log.log(logging.INFO if board.ready else logging.WARNING, "%s %s: %s", board.kind.name, slot, board.reason or "ready")
            if before is None and not self.catalogue.of(board.kind.name):
                log.info("%s %s is not published: node.json does not name its kind", board.kind.name, slot)
        self.ownership.boards = found
        self._write_cdi()
        self._publish()

    def _publish(self) -> None:
        """An endpoint for each resource that has devices here."""
        wanted = {
            name: resource
            for name, resource in self.ownership.resources.items()
            if any(board.kind.name in resource.copies for board in self.ownership.boards.values())
        }
        prepares = {name: any(KINDS[kind].loads_images for kind in resource.copies) for name, resource in wanted.items()}
        for name, endpoint in list(self.endpoints.items()):
            if prepares.get(name) is not endpoint.prepares:
                self._soon(self.endpoints.pop(name).stop())
                self._fault(f"register {name}")
        for name in wanted:
            if name not in self.endpoints:
                self.endpoints[name] = Endpoint(name, self, self.kubelet, prepares[name], self._wake.set)
        self._tell()
        self._wake.set()
        systemd.notify(STATUS=self._summary())

    def _tell(self) -> None:
        for endpoint in self.endpoints.values():
            endpoint.changed()

    def _write_cdi(self) -> None:
        if self.options.cdi is None:
            return
        text = json.dumps(self.giver.cdi_specification(self.ownership.boards.values()), indent=1)
        if text == self._cdi_written:
            return
        path = self.options.cdi / "fpga-hybrid.json"
        try:
            self.options.cdi.mkdir(mode=0o755, parents=True, exist_ok=True)
            unfinished = path.with_suffix(".new")
            unfinished.write_text(text, encoding="utf-8")
            os.replace(unfinished, path)
            self._cdi_written = text
            self._fault("cdi")
        except OSError as error:
            self._fault("cdi", f"{path} cannot be written ({error.strerror}): containers would not get their boards")

    # --- the kubelet: making ourselves known

    async def _register_loop(self) -> None:
        pause = RETRY_AFTER
        while True:
            self._wake.clear()
            good = await self._register_all()
            try:
                await asyncio.wait_for(self._wake.wait(), self.options.pace.tick if good else pause)
                pause = RETRY_AFTER  # something has happened: it may go well now
            except asyncio.TimeoutError:
                pause = RETRY_AFTER if good else min(pause * 2, RETRY_AT_MOST)

    async def _register_all(self) -> bool:
        identity = self.kubelet.identity()
        if identity is None:
            return True  # not there: its start will wake us
        good = True
        for name, endpoint in list(self.endpoints.items()):
            if endpoint.stands(identity):
                continue
            try:
                await endpoint.register(identity)
                log.info("the kubelet knows %s", name)
                self._fault(f"register {name}")
            except (KubeletError, OSError) as error:
                good = False
                self._fault(f"register {name}", str(error))
            self.metrics.registrations.labels(name, metrics.result(endpoint.registered_with == identity)).inc()
        return good

    async def _watch_loop(self) -> None:
        """Wakes the others at once where they would find out a second later."""
        while True:
            try:
                with asyncinotify.Inotify() as inotify:
                    inotify.add_watch(self.kubelet.plugins, _NEW)
                    async for event in inotify:
                        if event.name and event.name.name == self.kubelet.socket.name:
                            self._wake.set()
                        if event.mask & asyncinotify.Mask.IGNORED:
                            break
            except OSError as error:
                log.debug("no inotify for %s: %s", self.kubelet.plugins, error)
            await asyncio.sleep(self.options.pace.tick)
            self._make_folder()

    # --- the kubelet: who has what

    async def _pods_loop(self) -> None:
        asked = -self.options.pace.pods_idle
        while True:
            if time.monotonic() - asked >= self._until_pods_are_asked() and self.kubelet.identity():
                asked = time.monotonic()
                await self.ask_pods()
            await asyncio.sleep(self.options.pace.tick)

    def _until_pods_are_asked(self) -> float:
        pace = self.options.pace
        if time.monotonic() - self._given_out < pace.confirm and self.ownership.unseen:
            return pace.tick
        return pace.pods if self.ownership.owners or not self.ownership.known else pace.pods_idle

    async def ask_pods(self) -> None:
        """Learns from the kubelet which pods have which devices, and tidies boards that nobody has any more."""
        try:
            held, complete = await self.kubelet.holdings()
        except KubeletError as error:
            self.metrics.kubelet_errors.labels("list").inc()
            self._fault("pods", str(error))
            return
        self._fault("pods")
        for slot in self.ownership.observe(held, time.monotonic(), complete=complete):
            log.info("board %s is free again", slot)
            self._soon(self._tidy(slot))
        self._fault("conflict", "; ".join(self.ownership.conflicts.values()))
        self._tell()
        with contextlib.suppress(RefusalError):  # noted, and tried again
            self._save()

    async def learn_owners(self, resource: str) -> None:
        """Before something is given out, where nobody remembers who has what, or where it matters who has ended: an image is loaded anew if all have.

        A kubelet that admits a pod knows those that it runs.
        """
        own = self.ownership.resources.get(resource)
        if not self.ownership.known or (own and any(KINDS[kind].loads_images for kind in own.copies)):
            await self.ask_pods()

    def _save(self) -> None:
        """Raises RefusalError: what cannot be remembered must not be given out."""
        try:
            self.store.save(self.ownership)
            self._fault("state")
        except OSError as error:
            text = f"{self.store.path} cannot be written ({error.strerror}): no board is given out until it can"
            self._fault("state", text)
            raise RefusalError(text) from error

    # --- the kubelet: what it asks

    def devices(self, resource: str) -> list[Device]:
        return self.ownership.devices(resource) if resource in self.ownership.resources else []

    def prefer(self, resource: str, available: Iterable[str], must_include: Iterable[str], size: int) -> list[str]:
        own = self.ownership.resources.get(resource)
        boards = self.ownership.boards
        numa = {slot: board.numa_node for slot, board in boards.items()}
        whole = None
        if own and not own.shared:
            whole = {slot: own.copies[board.kind.name] for slot, board in boards.items() if board.kind.name in own.copies}
        return packing.prefer(available, must_include, size, numa=numa, whole=whole)

    def allocate(self, resource: str, devices: Iterable[str]) -> Answer:
        """Raises RefusalError. Looks at the boards as they are now."""
        started = time.monotonic()
        wanted = sorted(devices)
        good = False
        try:
            self.refresh()
            before = copy.deepcopy(self.ownership.owners)
            self.ownership.allocate(resource, wanted)
            try:
                self._save()
            except RefusalError:
                self.ownership.owners = before
                raise
            good = True
            self._given_out = time.monotonic()
        finally:
            self.metrics.allocations.labels(resource, metrics.result(good)).inc()
            self.metrics.allocate_seconds.observe(time.monotonic() - started)
        self._tell()
        log.info("%s: gave out %s", resource, ", ".join(wanted))
        boards = [self.ownership.boards[slot] for slot in dict.fromkeys(catalogue.slot_of(device) for device in wanted)]
        return self.giver.give(resource, boards, wanted)

    async def pre_start(self, resource: str, devices: Iterable[str]) -> None:
        """Puts the boards in order before a container starts. Raises RefusalError or ImageError."""
        good = False
        try:
            wanted = set(devices)
            boards = self.ownership.confirm(resource, wanted)
            self._save()
            loaded = [board.slot for board in boards if board.kind.loads_images]
            prepared = await asyncio.gather(*(self._prepare(resource, slot, wanted) for slot in loaded), return_exceptions=True)
            faults = [one for one in prepared if isinstance(one, BaseException)]
            for fault in faults:
                if not isinstance(fault, ImageError):
                    raise fault
            if faults:
                raise ImageError("; ".join(str(fault) for fault in faults))
            good = True
        finally:
            self.metrics.starts.labels(resource, metrics.result(good)).inc()

    # --- images

    async def _prepare(self, resource: str, slot: str, devices: Iterable[str]) -> None:
        """The accelerator's image loaded, a whole board cleared: once for each new user, and whenever the image is not what it should be."""
        own = self.ownership.resources[resource]
        image = own.images.get(self.ownership.boards[slot].kind.name, "")
        if own.accelerator and not image:
            return

        async def work(number: int) -> Status | None:
            fresh = self.ownership.owners[slot].fresh
            if not image:
                found = await self._cleared(slot, number) if fresh else None
            elif fresh:
                # What is there already may hold in its memory what belongs to somebody who has gone.
                found = await self.tools.load(number, image, self.ownership.boards[slot].address)
            else:
                found = await self._kept(slot, number, image, devices)
            self.ownership.in_order(slot)
            return found

        try:
            await self._with_image_slot(slot, f"loading {image}" if image else "clearing it", work)
            if reason := self.ownership.boards[slot].reason:
                raise ImageError(reason)
        except ImageError as error:
            self._fault(f"image {slot}", f"board {slot} is not fit for {resource}: {error}")
            raise
        self._fault(f"image {slot}")
        self._save()

    async def _kept(self, slot: str, number: int, image: str, devices: Iterable[str]) -> Status:
        """A board in use still holds its image, or gets it again if nobody else uses it. Raises ImageError."""
        try:
            found = await self.tools.describe(number, self.ownership.boards[slot].address)
            if found.holds(image):
                return found
            said = f"slot {number}: found {found}, expected {image} loaded"
        except ImageError as error:
            said = str(error)
        if others := self.ownership.others(slot, devices):
            raise ImageError(
                f"{said}; another container has copies on it ({', '.join(others)}), so nothing is loaded under it. It is tried again when this container is; "
                "end the other pod if it does not work either"
            )
        return await self.tools.load(number, image, self.ownership.boards[slot].address)

    async def _tidy(self, slot: str) -> None:
        """Clears a board when its last pod has gone: what was loaded into it, and what its memory holds."""
        board = self.ownership.boards.get(slot)
        if board is None or not board.kind.loads_images or board.image_slot is None:
            return

        async def work(number: int) -> Status | None:
            # Somebody new who has it already puts it in order.
            return None if slot in self.ownership.owners else await self._cleared(slot, number)

        try:
            await self._with_image_slot(slot, "clearing it", work)
            self._fault(f"image {slot}")
        except ImageError as error:
            self._fault(f"image {slot}", f"board {slot} could not be cleared after its last pod: {error}")

    async def _cleared(self, slot: str, number: int) -> Status:
        found = await self._try_describe(slot, number)
        return found if found and found.empty else await self.tools.clear(number, self.ownership.boards[slot].address)

    async def _try_describe(self, slot: str, number: int) -> Status | None:
        """None if it cannot be described: it may still be loaded or cleared, and that may put it right."""
        with contextlib.suppress(ImageError):
            return await self.tools.describe(number, self.ownership.boards[slot].address)
        return None

    async def _with_image_slot(self, slot: str, what: str, work: Callable[[int], Awaitable[Status | None]]) -> None:
        """Has work use AWS' tools on a board, whose vanishing meanwhile is not taken for its loss. Raises ImageError."""
        self.refresh()
        number = self.ownership.boards[slot].image_slot
        if number is None:
            raise ImageError("it has no number for AWS' tools, because its management function is not there: see fpga-describe-local-image-slots -M")

        async def shielded() -> Status | None:
            self._busy.add(slot)
            try:
                return await work(number)
            finally:
                self._busy.discard(slot)
                self.refresh()

        found = await self.tools.alone(number, what, shielded)
        if found:
            self._image_shells[slot] = found.shell

    # --- labels

    async def _labels_loop(self, labeller: Labeller) -> None:
        said = ""
        while True:
            pause = self.options.pace.tick
            if self.kubelet.identity() and all(self.registered().values()):
                pause = self.options.pace.labels
                await self._learn_shells()
                try:
                    await labeller.tell(labels.facts(self.ownership.boards.values(), self.host.driver_version(), self._image_shells))
                    said = ""
                except LabelError as error:
                    if str(error) != said:
                        said = str(error)
                        log.warning("the node keeps its labels as they are: %s", said)
            await asyncio.sleep(pause)

    async def _learn_shells(self) -> None:
        for slot, board in list(self.ownership.boards.items()):
            if board.kind.loads_images and board.ready and slot not in self._image_shells:
                with contextlib.suppress(ImageError):
                    await self._with_image_slot(slot, "asking what it holds", functools.partial(self._try_describe, slot))
