# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-device-plugin`: what the device plugin costs, as a process of its own beside a double of the kubelet: start, memory, idling, Allocate.

Boards and other devices are a made-up sysfs; sockets, gRPC and the program are real. Modules are compiled at each start, the interpreter's among them, since
a host's read-only sandbox keeps nothing. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.unit.roles.fpga_device_plugin.kubelet_double import running
from tests.unit.roles.fpga_device_plugin.site import ACCELERATOR, U250, Site, until

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "roles" / "fpga_device_plugin" / "files"
COPIES = 4
MODULES = ("asyncio", "grpc.aio", "fpga_device_plugin.deviceplugin_pb2_grpc", "fpga_device_plugin.podresources_pb2_grpc")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Goal:
    """What a figure may be at most. scale: of what is printed to what is measured."""

    name: str
    most: float
    unit: str
    scale: float = 1.0


PUBLISHED = Goal("published after", 2, "s")
RESIDENT = Goal("resident", 60, "MiB")
IDLE = Goal("idle, of a core", 0.5, "%", 100)
ALLOCATE = Goal("Allocate p99", 50, "ms", 1000)


@dataclass(frozen=True)
class Figures:
    """publish: seconds from the start of the process until the kubelet has all devices. cpu: seconds of processor until then; bare: those that an
    interpreter takes for the modules alone, in the same run.

    resident: MiB. idle: share of a core. allocate: seconds, as the kubelet waits for each.
    """

    publish: float
    cpu: float
    bare: float
    resident: float
    idle: float
    allocate: Sequence[float]

    @property
    def start_ratio(self) -> float:
        return self.cpu / self.bare

    def percentile(self, part: int) -> float:
        return statistics.quantiles(self.allocate, n=100, method="inclusive")[part - 1]

    def against_goals(self) -> list[tuple[Goal, float]]:
        return [(PUBLISHED, self.publish), (RESIDENT, self.resident), (IDLE, self.idle), (ALLOCATE, self.percentile(99))]

    def missed(self) -> list[str]:
        return [goal.name for goal, found in self.against_goals() if found * goal.scale > goal.most]

    def lines(self) -> list[str]:
        notes = {
            PUBLISHED: f"{self.cpu:.2f} s of processor, {self.start_ratio:.2f} times what the modules alone take",
            ALLOCATE: f"p50 {self.percentile(50) * 1000:.2f} ms, slowest {max(self.allocate) * 1000:.2f} ms of {len(self.allocate)}",
        }
        return [
            f"{goal.name:<16} {found * goal.scale:8.2f} {goal.unit:<3} (goal: at most {goal.most:g}){'; ' + notes[goal] if goal in notes else ''}"
            for goal, found in self.against_goals()
        ]


def processor(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def start_of_modules(environment: Mapping[str, str]) -> float:
    """Seconds of processor for what every program with gRPC has to import before it can begin; the best of three."""
    command = [sys.executable, "-c", f"import {', '.join(MODULES)}, resource; print(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))"]
    taken = []
    for _round in range(3):
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
        said, _nothing = await process.communicate()
        taken.append(float(said))
    return min(taken)


async def idling(pid: int, seconds: float) -> float:
    await asyncio.sleep(1)
    before, begun = processor(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (processor(pid) - before) / (time.monotonic() - begun)


async def measure(boards: int, others: int, idle_seconds: float, allocations: int) -> Figures:
    """others: devices on the bus that are no boards."""
    with tempfile.TemporaryDirectory(prefix="fpga-") as folder:
        site = Site(Path(folder))
        for _number in range(boards):
            site.plug(U250)
        for number in range(others):
            site.tree.add_function(f"0001:{number // 32:02x}:{number % 32:02x}.0", 0x8086, 0x15BB, pci_class=0x020000)
        site.publish({U250: "a"}, replicas={U250: COPIES})
        options = site.options
        command = [
            sys.executable, "-m", "fpga_device_plugin", f"--config={options.config}", f"--sysfs-root={options.sysfs}", f"--dev-root={options.dev}",
            f"--kubelet-root={options.kubelet}", f"--state={options.state}", "--metrics=none",
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(PLUGIN), "PYTHONPYCACHEPREFIX": f"{folder}/nothing", "PYTHONDONTWRITEBYTECODE": "1"}
        bare = await start_of_modules(environment)
        async with running(options.kubelet) as kubelet:
            started = time.monotonic()
            process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
            try:
                await until(lambda: kubelet.allocatable() == {ACCELERATOR: boards * COPIES}, seconds=60)
                published, used = time.monotonic() - started, processor(process.pid)
                times = []
                for number in range(allocations):
                    before = time.monotonic()
                    pod = await kubelet.admit(f"pod-{number}", {ACCELERATOR: COPIES})
                    times.append(time.monotonic() - before)
                    kubelet.end(pod.name)
                idle = await idling(process.pid, idle_seconds) if idle_seconds else 0.0
                return Figures(published, used, bare, resident(process.pid), idle, times)
            finally:
                process.terminate()
                await process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=16)
    parser.add_argument("--others", type=int, default=200, help="devices on the bus that are no boards")
    parser.add_argument("--idle", type=float, default=20, help="seconds to look at an idle plugin")
    parser.add_argument("--allocations", type=int, default=500)
    options = parser.parse_args()
    figures = asyncio.run(measure(options.boards, options.others, options.idle, options.allocations))
    print("\n".join([f"{options.boards} boards, {options.others} other devices", *figures.lines()]))
    if missed := figures.missed():
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
