"""Taking over from a lab whose end was not orderly: killed processes, a power cut, a machine whose /run outlives a boot."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from lab import podman
from lab.hosts.image import unmount_below
from lab.machine import boot_id
from lab.run import run, say, write_whole
from lab.settings import STATE

#: What a boot empties where /run is in memory, as podman expects. Some machines keep /run on disk.
VOLATILE = tuple(Path(path) for path in ("/run/libpod", "/run/containers", "/run/runc", "/run/crun"))
EXIT_FILES = Path("/run/libpod/exits")
LAST_BOOT = STATE / "boot"


def after_reboot() -> None:
    """Forget what podman believes to run if the machine was booted since and podman didn't notice."""
    seen = LAST_BOOT.read_text().strip() if LAST_BOOT.exists() else None
    if seen == boot_id():
        return
    if seen and VOLATILE[0].joinpath("alive").exists() and not any(commands("conmon")):
        say("the machine was booted anew, podman's record of what runs is of the last boot: cleared")
        for folder in VOLATILE:
            unmount_below(folder)
            shutil.rmtree(folder, ignore_errors=True)
        for namespace in Path("/run/netns").glob("netns-*"):
            namespace.unlink()
    write_whole(LAST_BOOT, boot_id())


def after_kill() -> None:
    """Let podman notice containers whose processes are gone although it believes they run.

    It learns of an end from a file that the container's monitor writes; when that was killed too, podman waits for the file for good.
    """
    for container in podman.lab_containers():
        if container["State"] in ("running", "stopping", "paused") and not is_alive(container.get("Pid") or 0):
            say(f"{container['Names'][0]}: its processes were killed, podman's record put right")
            (EXIT_FILES / container["Id"]).write_text(str(128 + signal.SIGKILL))
            run("podman", "container", "cleanup", container["Id"])


def is_alive(pid: int) -> bool:
    """Whether the process is there and has not ended (an ended one stays in the table until its parent looks)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def commands(name: str) -> Iterator[int]:
    """Processes with that command name that have not ended."""
    for folder in Path("/proc").glob("[0-9]*"):
        # Processes end while we look.
        with contextlib.suppress(OSError):
            if (folder / "comm").read_text().strip() == name and is_alive(int(folder.name)):
                yield int(folder.name)
