"""Taking over from a lab whose end was not orderly: killed processes, a power cut, a machine whose /run outlives a boot."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from lab import podman
from lab.files import write_atomically
from lab.hosts import container
from lab.hosts.image import unmount_below
from lab.lock import BusyError, held
from lab.machine import boot_id
from lab.run import run, say
from lab.settings import INSTANCE_LABEL, PREFIX, STATE

#: What a boot empties where /run is in memory, as podman expects. Some machines keep /run on disk.
VOLATILE = tuple(Path(path) for path in ("/run/libpod", "/run/containers", "/run/runc", "/run/crun"))
EXIT_FILES = Path("/run/libpod/exits")
RUN_FOLDERS = Path("/run/containers/storage/overlay-containers")
RUNTIME_RECORDS = Path("/run/runc")
GROUP_SECONDS = 5
SIDE_CAR_RUNS = "the lab's cloud runs ({holder}) and has hosts for its instances: end it first, they go with it"
LAST_BOOT = STATE / "boot"


def after_reboot() -> None:
    """Forget what podman believes to run if the machine was booted since and podman didn't notice."""
    seen = LAST_BOOT.read_text().strip() if LAST_BOOT.exists() else None
    if seen == boot_id():
        return
    if seen and VOLATILE[0].joinpath("alive").exists() and not any(commands("conmon")):
        say("the machine was booted anew, podman's record of what runs is of the last boot: cleared")
        for folder in VOLATILE:
            empty(folder)
        for namespace in Path("/run/netns").glob("netns-*"):
            namespace.unlink()
    write_atomically(LAST_BOOT, boot_id())


def empty(folder: Path) -> None:
    """Remove what is in the folder. The folder stays: if it is a mount point, something else may lie beneath it."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        unmount_below(entry)
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()


def after_kill() -> None:
    """Let podman notice containers whose processes are gone although it believes they run.

    It learns of an end from a file that the container's monitor writes; when that was killed too, podman waits for the file for good.
    """
    for found in podman.lab_containers():
        if found["State"] in ("running", "stopping", "paused") and not is_alive(found.get("Pid") or 0):
            say(f"{found['Names'][0]}: its processes were killed, podman's record put right")
            note_end(found["Id"])


def end_forgotten() -> None:
    """End hosts that podman no longer knows, but whose processes go on and hold their addresses."""
    # In this order: podman knows a container before its monitor starts, and hosts are started beside us.
    watching = list(commands("conmon"))
    known = {one["Id"] for one in podman.lab_containers()}
    for pid in watching:
        with contextlib.suppress(OSError):
            if (found := forgotten(Path(f"/proc/{pid}/cmdline").read_text(), known)) and os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
                say(f"{found[0]}: podman has forgotten it, its processes still ran: ended")
                for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                    if is_in_group(int(child), found[1]):
                        os.kill(int(child), signal.SIGKILL)
                os.kill(pid, signal.SIGKILL)
                remove_groups(found[1])


def forgotten(command_line: str, known: Container[str]) -> tuple[str, str] | None:
    """Name and id of the lab's container that a monitor watches, if podman doesn't know it; command_line as /proc has it."""
    words = command_line.split("\0")
    if "-n" not in words or "-c" not in words:
        return None
    name, container_id = words[words.index("-n") + 1], words[words.index("-c") + 1]
    return (name, container_id) if name.startswith(PREFIX) and container_id not in known else None


def note_end(container_id: str) -> None:
    """Leave the file that the monitor of a container would have written, and have podman read it."""
    folder = RUN_FOLDERS / container_id / "userdata"
    folder.mkdir(parents=True, exist_ok=True)
    # podman mounts these when it starts the container again, and makes them only when it takes the machine for booted anew.
    (found,) = podman.inspect_containers(container_id)
    for name, text in {"hostname": found["Config"]["Hostname"], ".containerenv": ""}.items():
        if not (folder / name).exists():
            (folder / name).write_text(text)
    remove_groups(container_id)
    (EXIT_FILES / container_id).write_text(str(128 + signal.SIGKILL))
    run("podman", "container", "cleanup", container_id)


def remove_groups(container_id: str) -> None:
    """The cgroups that the init of an ended container made: its next start fails on them. Killed processes leave theirs a moment later."""
    groups = [
        group
        for parent in Path("/sys/fs/cgroup").glob("**/libpod-*")
        if container_id in parent.name
        for group in (parent, *parent.rglob("*"))
        if group.is_dir()
    ]
    for group in sorted(groups, key=lambda path: -len(path.parts)):
        end = time.monotonic() + GROUP_SECONDS
        while group.exists() and time.monotonic() < end:
            try:
                group.rmdir()
            except OSError:
                time.sleep(0.1)


def after_side_car() -> None:
    """Remove the hosts of instances whose side-car has gone: the AWS that knew them has gone with it, so nobody takes them over."""
    with contextlib.suppress(BusyError), held("cloud", seconds=0):
        remove_instances()


def remove_instances() -> None:
    """Only call this while holding the lock `cloud`."""
    hosts = container.instances()
    end_lost(host.container for host in hosts)
    for host in hosts:
        say(f"{host.name}: the side-car that started this instance's host has gone: removed")
        container.remove(host)
    for volume in podman.lab_volumes(INSTANCE_LABEL):
        container.remove_volume(volume)


def end_lost(names: Iterable[str]) -> None:
    """End containers that run although the runtime's record of them is gone: nothing else can be done with them but through their processes."""
    for found in podman.inspect_present(*names):
        if is_lost(found):
            say(f"{found['Name']}: it runs, but the runtime's record of it is gone: ended, its disks are kept")
            for pid in {found["State"]["Pid"], *monitors(found["Id"])}:
                os.kill(pid, signal.SIGKILL)
            note_end(found["Id"])


def is_lost(found: dict[str, Any]) -> bool:
    state, known = found["State"], RUNTIME_RECORDS / found["Id"] / "state.json"
    return state["Status"] in ("running", "stopping") and not known.exists() and is_in_group(state["Pid"], found["Id"])


def is_in_group(pid: int, container_id: str) -> bool:
    """Whether the process is the container's and not another one that got its number."""
    try:
        return container_id in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def monitors(container_id: str) -> Iterator[int]:
    """The container's conmon processes."""
    for pid in commands("conmon"):
        with contextlib.suppress(OSError):
            if container_id in Path(f"/proc/{pid}/cmdline").read_text():
                yield pid


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
