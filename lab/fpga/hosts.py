"""Boards in the lab's hosts: the program `lab-fpga` in each, and which boards each has from the start."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from lab.fpga import tree
from lab.fpga.tree import Plugged
from lab.run import run
from lab.settings import PREFIX

#: Of the site (CONTRACTS section 10). What is plugged in and out later, a host keeps by itself.
BOARDS = {"worker1": (Plugged("u250", "0000:3b:00", numa=0), Plugged("u280", "0000:43:00", numa=1))}

#: What AWS puts into an instance: a board and how many. Source: EC2, "Accelerated computing" (F2; F1 as it was until 2025-12).
BOARDS_OF_TYPES = {
    "f2.6xlarge": ("aws-vu47p-f2", 1),
    "f2.12xlarge": ("aws-vu47p-f2", 2),
    "f2.48xlarge": ("aws-vu47p-f2", 8),
    "f1.2xlarge": ("aws-vu9p-f1", 1),
    "f1.4xlarge": ("aws-vu9p-f1", 2),
    "f1.16xlarge": ("aws-vu9p-f1", 8),
}

PROGRAM = "usr/local/sbin/lab-fpga"
UNIT = "etc/systemd/system/lab-fpga.service"
DROP_IN = "etc/systemd/system/fpga-hybrid-device-plugin.service.d/lab-fpga.conf"
DROP_IN_TEXT = """[Service]
# The rest of the system is read-only to it. /sys is not where it may start AWS' tools, and the double of those writes here.
ReadWritePaths=-/run/lab-fpga
"""
UNIT_TEXT = """[Unit]
Description=Boards out of files, for which a real host has slots
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target fpga-hybrid-device-plugin.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-fpga restore

[Install]
WantedBy=sysinit.target
"""


def of_type(instance_type: str) -> tuple[Plugged, ...]:
    """The boards of an instance, in the slots where AWS has them; none of a type without."""
    board, number = BOARDS_OF_TYPES.get(instance_type, ("", 0))
    return tuple(Plugged(board, slot) for slot in islice(tree.slots(board), number))


def program() -> bytes:
    return b"#!/usr/bin/python3\n" + Path(tree.__file__).read_bytes()


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def add_to(tar: tarfile.TarFile, boards: Sequence[Plugged]) -> None:
    """Program, unit and boards, for a host that is being made."""
    _add_program(tar)
    _add_file(tar, str(tree.RECORD).lstrip("/"), json.dumps([asdict(one) for one in boards]).encode())


def _add_program(tar: tarfile.TarFile) -> None:
    """And the unit that starts it at each boot."""
    _add_file(tar, PROGRAM, program(), 0o755)
    _add_file(tar, UNIT, UNIT_TEXT.encode())
    _add_file(tar, DROP_IN, DROP_IN_TEXT.encode())
    enabled = tarfile.TarInfo("etc/systemd/system/sysinit.target.wants/lab-fpga.service")
    enabled.type, enabled.linkname = tarfile.SYMTYPE, f"/{UNIT}"
    tar.addfile(enabled)


def command(host: str, *arguments: str) -> list[str]:
    return ["podman", "exec", f"{PREFIX}{host}", f"/{PROGRAM}", *arguments]


def call(host: str, *arguments: str) -> list[dict[str, Any]]:
    """`lab-fpga` in a host; its boards afterwards. Raises CommandError."""
    boards: list[dict[str, Any]] = json.loads(run(*command(host, *arguments)))
    return boards


def bring(host: str) -> None:
    """The program as it is here into a host that was made with an older one, or with none; its boards stay."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add_program(tar)
    run("podman", "cp", "--archive=false", "-", f"{PREFIX}{host}:/", stdin=buffer.getvalue())


def pass_on(options: argparse.Namespace) -> int:
    """lab/lab fpga HOST ARGUMENTS: what `lab-fpga` says there."""
    bring(options.name)
    return subprocess.run(command(options.name, *options.arguments), check=False, stdout=sys.stdout, stderr=sys.stderr).returncode


def add_verb(verbs: Any) -> None:
    parser = verbs.add_parser("fpga", help="boards of a host: fpga HOST plug BOARD, unplug SLOT, set SLOT STATE, driver on|off, list")
    parser.add_argument("name", metavar="HOST")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(action=pass_on)
