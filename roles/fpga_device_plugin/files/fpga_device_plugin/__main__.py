# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fpga_device_plugin.boards import KINDS, Kind
from fpga_device_plugin.daemon import Daemon, Options
from fpga_device_plugin.discovery import SLOT
from fpga_device_plugin.ownership import Grace

#: sd-daemon(3): how the journal is told of a line's priority.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
#: What the kubelet waits for PreStartContainer, less what it takes to kill a tool and to answer.
IMAGE_SECONDS_AT_MOST = 27.0


def declared_slot(text: str) -> tuple[str, Kind]:
    slot, _sign, board = text.partition("=")
    images = [kind.name for kind in KINDS.values() if kind.loads_images]
    if not SLOT.fullmatch(slot) or board not in images:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected domain:bus:device=board as 0000:34:00={images[-1]}; boards: {', '.join(images)}")
    return slot, KINDS[board]


def address(text: str) -> tuple[str, int] | None:
    host, _colon, port = text.rpartition(":")
    if text == "none":
        return None
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected address:port, or none")
    return host.strip("[]"), int(port)


def image_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= IMAGE_SECONDS_AT_MOST:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected more than 0 and at most {IMAGE_SECONDS_AT_MOST:g}: the kubelet gives up after 30")
    return seconds


def parser() -> argparse.ArgumentParser:
    default = Options()
    top = argparse.ArgumentParser(prog="fpga-hybrid-device-plugin", description="A host's FPGA boards as resources of the kubelet.")
    top.add_argument("--config", type=Path, default=default.config, help="node.json, whose section fpga says what is published")
    top.add_argument("--sysfs-root", type=Path, default=default.sysfs, help="where /sys is")
    top.add_argument("--dev-root", type=Path, default=default.dev, help="where /dev is")
    top.add_argument("--kubelet-root", type=Path, default=default.kubelet, help="the kubelet's root directory")
    top.add_argument(
        "--cgroup-root", type=Path, default=default.cgroups, help="where cgroups are mounted, by which a pod that runs is told from one that ended"
    )
    top.add_argument("--state", type=Path, default=default.state, help="file that says over a restart who has which board")
    top.add_argument("--metrics", type=address, default=default.metrics, metavar="ADDRESS:PORT", help="where /metrics and /healthz are; none for nowhere")
    top.add_argument("--hand-out-management", action="store_true", help="give pods the function that can flash a card, too")
    top.add_argument("--cdi", type=Path, metavar="FOLDER", help="write a CDI specification there, and give boards by CDI names")
    top.add_argument(
        "--slot", type=declared_slot, action="append", default=[], metavar="SLOT=BOARD", help="a slot of AWS' whose board is known, whatever its ids"
    )
    top.add_argument("--tools", default=default.tools, metavar="PATH", help="where AWS' tools are")
    top.add_argument("--image-seconds", type=image_seconds, default=default.image_seconds, help="how long loading or clearing an image may take")
    top.add_argument("--grace", type=float, default=default.grace.seen, help="seconds until a device that no pod has any more is free")
    top.add_argument("--grace-unseen", type=float, default=default.grace.unseen, help="the same for a device that was given out and never seen in a pod")
    top.add_argument("--settle", type=float, default=default.settle, help="seconds to wait after a boot for boards that pods have, before the kubelet starts")
    top.add_argument("--kubeconfig", type=Path, help="the kubelet's, to label the node with facts about its boards")
    return top


def options(arguments: Sequence[str]) -> Options:
    found = parser().parse_args(arguments)
    return Options(
        config=found.config,
        sysfs=found.sysfs_root,
        dev=found.dev_root,
        kubelet=found.kubelet_root,
        cgroups=found.cgroup_root,
        state=found.state,
        metrics=found.metrics,
        management=found.hand_out_management,
        cdi=found.cdi,
        slots=dict(found.slot),
        tools=found.tools,
        image_seconds=found.image_seconds,
        grace=Grace(found.grace, found.grace_unseen),
        settle=found.settle,
        kubeconfig=found.kubeconfig,
    )


class _Journal(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace("\n", "\n  ")
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{text}"


async def run(chosen: Options) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Daemon(chosen).run(stop)


def main() -> int:
    handler = logging.StreamHandler()
    handler.setFormatter(_Journal("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    asyncio.run(run(options(sys.argv[1:])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
