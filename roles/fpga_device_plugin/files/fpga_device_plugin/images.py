# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of AWS' boards: loaded, cleared and told by the tools of AWS' SDK, which this module calls and whose words it understands.

Output of all three (fpga_mgmt_tools/src/fpga_local_cmd.c, cli_show_image_info), or C(Error: (5) invalid-afi-id) with more lines:

    AFI          0       agfi-0fedcba9876543210  loaded            0        ok               0       0x10212415
    AFIDEVICE    0       0x6789      0x1d50      0000:34:00.0
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

_AFI = re.compile(
    r"^AFI\s+\d+\s+(?P<image>agfi-[0-9a-f]+|No AFI|none)\s+(?P<status>[a-z-]+)\s+\d+\s+(?P<error>[a-z-]+)\s+\d+\s+(?P<shell>0x[0-9a-f]+)", re.MULTILINE
)
_DEVICE = re.compile(r"^AFIDEVICE\s+(?P<slot>\d+)\s+0x[0-9a-f]+\s+0x[0-9a-f]+\s+(?P<address>[0-9a-f:.]+)", re.MULTILINE)
LOADED, CLEARED = "loaded", "cleared"
#: Of what a tool says, so much goes into an error: it ends up in a pod's events.
SAID = 400
#: Seconds in which a tool that was killed must have ended.
LAST_WORDS = 1.0
#: Seconds before a tool is called again that another slot's change has disturbed.
PAUSE = 0.2


class ImageError(Exception):
    """A board does not hold what it should; the text says what was tried and what came back."""


@dataclass(frozen=True)
class Status:
    """What a slot holds. image: an agfi, or "". status: loaded, cleared, busy ... error: ok, or AWS' word for it. shell: version of AWS' shell."""

    image: str
    status: str
    error: str
    shell: str

    def holds(self, image: str) -> bool:
        return self.status == LOADED and self.image == image and self.error == "ok"

    @property
    def empty(self) -> bool:
        return self.status == CLEARED

    def __str__(self) -> str:
        return f"{self.image or 'no image'}, {self.status}, {self.error}"


def parse(output: str) -> Status | None:
    """None if the tool did not get so far as to say."""
    found = _AFI.search(output)
    if not found:
        return None
    image = found["image"] if found["image"].startswith("agfi-") else ""
    return Status(image, found["status"], found["error"], found["shell"])


def ignore(_tool: str, _seconds: float, _good: bool) -> None:
    """Nobody counts."""


@dataclass
class Tools:
    """AWS' tools. One at a time for each slot, as they want it (their README), and several slots side by side.

    Each of them looks at the functions of all slots up to its own, and fails if one is missing (fpga_pci_sysfs.c, fpga_pci_get_all_slot_specs);
    while an image is loaded or cleared the slot's is. So what fails while another slot changes is called again.

    search_path: where they are looked for. bound: seconds for all that has to happen before a container starts; the kubelet gives up after 30.
    count: told of each call, its seconds and whether it went well.
    """

    search_path: str
    bound: float = 25.0
    count: Callable[[str, float, bool], None] = ignore
    _locks: dict[int, asyncio.Lock] = field(default_factory=dict)
    _stuck: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    _changing: set[int] = field(default_factory=set)
    #: By slot, how often it has begun to change: a change may come and go while another slot's tool runs.
    _changes: Counter[int] = field(default_factory=Counter)

    async def alone(self, slot: int, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """Does something with a slot that nobody else uses meanwhile, in bounded time. Raises ImageError."""

        async def locked() -> T:
            async with self._locks.setdefault(slot, asyncio.Lock()):
                return await work()

        try:
            return await asyncio.wait_for(locked(), self.bound)
        except asyncio.TimeoutError as error:
            raise ImageError(f"slot {slot}: {what} took more than {self.bound:g} s and was broken off; it is tried again when the container is") from error

    async def load(self, slot: int, image: str, address: str) -> Status:
        await self._same_board(slot, address)
        with self._change(slot):
            output = await self._run(slot, "fpga-load-local-image", "-S", str(slot), "-I", image)
        return self._expect(output, slot, f"{image} loaded", lambda status: status.holds(image))

    async def clear(self, slot: int, address: str) -> Status:
        await self._same_board(slot, address)
        with self._change(slot):
            output = await self._run(slot, "fpga-clear-local-image", "-S", str(slot))
        return self._expect(output, slot, "the slot cleared", lambda status: status.empty)

    async def describe(self, slot: int, address: str) -> Status:
        output = await self._run(slot, "fpga-describe-local-image", "-S", str(slot))
        found = self._expect(output, slot, "a line that begins with AFI", lambda _status: True)
        self._expect_board(output, slot, address)
        return found

    async def _same_board(self, slot: int, address: str) -> None:
        """Numbers are given by whoever looks: before one is used to change something, AWS' tools have to mean the same board. Raises ImageError."""
        self._expect_board(await self._run(slot, "fpga-describe-local-image-slots"), slot, address)

    @staticmethod
    def _expect_board(output: str, slot: int, address: str) -> None:
        found = {int(one["slot"]): one["address"] for one in _DEVICE.finditer(output)}.get(slot)
        if found != address:
            said = f"AWS' tools call {found} slot {slot}" if found else f"AWS' tools know no slot {slot} ({' '.join(output.split())[:SAID]})"
            raise ImageError(f"{said}, expected {address}: nothing is loaded or cleared. Compare fpga-describe-local-image-slots with lspci -d 1d0f:")

    @staticmethod
    def _expect(output: str, slot: int, wanted: str, fulfilled: Callable[[Status], bool]) -> Status:
        found = parse(output)
        if found is None or not fulfilled(found):
            raise ImageError(f"slot {slot}: found {found or repr(output.strip()[:SAID])}, expected {wanted}")
        return found

    @contextlib.contextmanager
    def _change(self, slot: int) -> Iterator[None]:
        self._changing.add(slot)
        self._changes[slot] += 1
        try:
            yield
        finally:
            self._changing.discard(slot)

    async def _run(self, slot: int, tool: str, *options: str) -> str:
        """A tool's output. Raises ImageError if it fails though no other slot changed meanwhile."""
        while True:
            others, before = self._changing - {slot}, self._changes_of_others(slot)
            try:
                return await self._run_once(slot, tool, *options)
            except ImageError:
                if not others and self._changes_of_others(slot) == before:
                    raise
            await asyncio.sleep(PAUSE)

    def _changes_of_others(self, slot: int) -> int:
        return sum(self._changes.values()) - self._changes[slot]

    async def _run_once(self, slot: int, tool: str, *options: str) -> str:
        program = shutil.which(tool, path=self.search_path)
        if program is None:
            raise ImageError(f"{tool} is not in {self.search_path}: role aws_fpga installs it")
        stuck = self._stuck.pop(slot, None)
        if stuck and stuck.returncode is None:
            self._stuck[slot] = stuck
            raise ImageError(f"slot {slot}: an earlier tool (process {stuck.pid}) was killed and has not ended; if it stays so, the instance has to go")
        started = time.monotonic()
        # A group of its own, because AWS' tools are scripts around a program.
        try:
            process = await asyncio.create_subprocess_exec(
                program, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:  # no memory, no interpreter, too many files open
            self.count(tool, time.monotonic() - started, False)
            raise ImageError(f"slot {slot}: {program} cannot be started: {error.strerror}") from error
        try:
            output, _nothing = await process.communicate()
        except BaseException:
            self.count(tool, time.monotonic() - started, False)
            await self._kill(slot, process)
            raise
        self.count(tool, time.monotonic() - started, process.returncode == 0)
        text = output.decode(errors="replace")
        if process.returncode:
            raise ImageError(f"slot {slot}: {tool} {' '.join(options)}".rstrip() + f" ended with status {process.returncode}: {' '.join(text.split())[:SAID]}")
        return text

    async def _kill(self, slot: int, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            await asyncio.wait_for(process.wait(), LAST_WORDS)
        except asyncio.TimeoutError:
            self._stuck[slot] = process
