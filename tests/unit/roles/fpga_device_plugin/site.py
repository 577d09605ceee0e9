# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host for the daemon's tests: boards out of files, node.json, the double of AWS' tools, and the daemon itself beside the kubelet's double."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fpga_device_plugin.daemon import Daemon, Options, Pace
from fpga_device_plugin.ownership import Grace
from lab.fpga import aws_tools
from lab.fpga.tree import Plugged, Tree

F2, U250 = "aws-vu47p-f2", "u250"
BOARD, ACCELERATOR = "xilinx/u250", "inaccel.com/xgboost.exact"
IMAGE = "agfi-0fedcba9876543210"
#: Fast, so that no test waits for a clock.
PACE = Pace(tick=0.02, boards=0.04, pods=0.04, pods_idle=0.04, labels=0.04)
COMMANDS = {
    "fpga-load-local-image": "LoadFpgaImage",
    "fpga-clear-local-image": "ClearFpgaImage",
    "fpga-describe-local-image": "DescribeFpgaImage",
    "fpga-describe-local-image-slots": "DescribeFpgaImageSlots",
}


def section(publish: dict[str, str], *, replicas: dict[str, int] | None = None, shared: bool = True, image: str = "") -> dict[str, Any]:
    """Section fpga of node.json, with one accelerator "a"."""
    boards = {board: f"xilinx/{board}" for board, choice in publish.items() if choice in ("boards", "both")}
    return {
        "stack": "fpga_device_plugin",
        "publish": publish,
        "resources": {**boards, "a": ACCELERATOR},
        "replicas": {"a": replicas or {}},
        "images": {"a": {F2: image} if image else {}},
        "shared": {"a": shared},
    }


@dataclass
class Site:
    root: Path
    options: Options = field(init=False)
    tree: Tree = field(init=False)

    def __post_init__(self) -> None:
        self.tree = Tree(self.root, real_nodes=False)
        for folder in ("kubelet", "cgroup", "state", "bin"):
            (self.root / folder).mkdir(exist_ok=True)
        for name, command in COMMANDS.items():
            script = self.root / "bin" / name
            # As AWS' own: a script around a program.
            script.write_text(f'#!/bin/sh\nLAB_FPGA_ROOT={self.root} {sys.executable} -S {aws_tools.__file__} {command} "$@"\n')
            script.chmod(0o755)
        self.options = Options(
            config=self.root / "node.json",
            sysfs=self.tree.sys,
            dev=self.tree.dev,
            kubelet=self.root / "kubelet",
            cgroups=self.root / "cgroup",
            state=self.root / "state" / "owners.json",
            metrics=None,
            tools=str(self.root / "bin"),
            grace=Grace(0.15, 0.6),
            pace=PACE,
        )

    def publish(self, publish: dict[str, str], **further: Any) -> None:
        self.write({"schema": 1, "fpga": section(publish, **further)})

    def write(self, document: object) -> None:
        unfinished = self.root / "node.new"
        unfinished.write_text(document if isinstance(document, str) else json.dumps(document))
        os.replace(unfinished, self.root / "node.json")

    def plug(self, board: str, slot: str = "", **state: Any) -> str:
        slot = slot or self.tree.free_slot(board)
        self.tree.plug(Plugged(board, slot, **state))
        return slot

    # --- AWS' tools

    def faults(self, **wrong: str) -> None:
        aws_tools_write(self.root, "faults.json", wrong)

    def images(self, **images: dict[str, Any]) -> None:
        aws_tools_write(self.root, "images.json", images)

    def calls(self) -> list[str]:
        path = self.root / "aws" / "calls.log"
        return path.read_text().splitlines() if path.exists() else []

    def holds(self, slot: int = 0) -> str:
        path = self.root / "aws" / f"slot-{slot}.json"
        return json.loads(path.read_text())["image"] if path.exists() else ""

    # --- the daemon

    @contextlib.asynccontextmanager
    async def daemon(self, **options: Any) -> AsyncIterator[Daemon]:
        daemon, stop = Daemon(replace(self.options, **options)), asyncio.Event()
        task = asyncio.create_task(daemon.run(stop))
        try:
            yield daemon
            if task.done():
                task.result()
        finally:
            stop.set()
            await task


def aws_tools_write(root: Path, name: str, content: object) -> None:
    path = root / "aws" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


async def until(true: Callable[[], Any], what: str = "", seconds: float = 20.0) -> None:
    """Lets the others work until something is so. The time is for a busy machine."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not after {seconds} s: {what or true}"
        await asyncio.sleep(0.005)
