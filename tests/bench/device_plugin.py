# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-device-plugin`: what it costs, as a process of its own beside the kubelet's double: start, memory, idling, Allocate.

--others: devices on the bus that are no boards. The figures to keep: 2 s, 60 MiB, 0.5 % of a core, 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.unit.roles.fpga_device_plugin.kubelet_double import running
from tests.unit.roles.fpga_device_plugin.site import ACCELERATOR, U250, Site, until

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "roles" / "fpga_device_plugin" / "files"
COPIES = 4
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figures:
    """publish: seconds from the start of the process until the kubelet has all devices. cpu: seconds of processor until then.

    resident: MiB. idle: share of a core. allocate: seconds, as the kubelet waits for it; the median and the slowest.
    """

    publish: float
    cpu: float
    resident: float
    idle: float
    allocate: float
    slowest: float

    def __str__(self) -> str:
        return (
            f"published after {self.publish:.2f} s ({self.cpu:.2f} s of processor; at most 2)\n"
            f"resident          {self.resident:.1f} MiB (at most 60)\n"
            f"idle              {self.idle * 100:.3f} % of a core (less than 0.5)\n"
            f"Allocate          {self.allocate * 1000:.1f} ms, the slowest {self.slowest * 1000:.1f} ms (less than 50)"
        )


def processor(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def idling(pid: int, seconds: float) -> float:
    await asyncio.sleep(1)
    before, begun = processor(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (processor(pid) - before) / (time.monotonic() - begun)


async def measure(boards: int, others: int, idle_seconds: float, allocations: int) -> Figures:
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
        async with running(options.kubelet) as kubelet:
            started = time.monotonic()
            process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PYTHONPATH": str(PLUGIN)}, stderr=asyncio.subprocess.DEVNULL)
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
                return Figures(published, used, resident(process.pid), idle, statistics.median(times), max(times))
            finally:
                process.terminate()
                await process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=16)
    parser.add_argument("--others", type=int, default=200)
    parser.add_argument("--idle", type=float, default=60)
    parser.add_argument("--allocations", type=int, default=200)
    options = parser.parse_args()
    print(asyncio.run(measure(options.boards, options.others, options.idle, options.allocations)))


if __name__ == "__main__":
    main()
