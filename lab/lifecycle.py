"""The lab as a whole: up, down, reset, clean. Every step is taken only if what it makes is not there."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from lab import leftovers, machine, podman, recovery
from lab import network as lab_network
from lab.cloud import image as instance
from lab.hosts import container, image
from lab.lock import BusyError, held
from lab.network import netavark
from lab.run import run, say, succeeds
from lab.settings import HOSTS, MACHINE_PACKAGES, PREFIX, STATE, Host, LabError, cache

#: podman's parent for containers, without systemd and with it.
PODMAN_GROUPS = ("libpod_parent", "machine.slice")
STORAGE_MOUNTS = ("/var/lib/containers/storage/overlay", "/run/netns")


def require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab's hosts are containers with systemd: this must be run as root (`sudo make lab`). `lab/lab check` needs no root")


def missing_packages() -> list[str]:
    return [package for package, witness in MACHINE_PACKAGES.items() if not Path(witness).exists()]


def install_packages() -> None:
    wanted = missing_packages()
    if not wanted:
        return
    say(f"installing {' '.join(wanted)}")
    install = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *wanted)
    if not succeeds(*install, timeout=1200):
        run("apt-get", "update", "--quiet", timeout=600)
        run(*install, timeout=1200)
    if still := missing_packages():
        lacking = ", ".join(f"{package} lacks {MACHINE_PACKAGES[package]}" for package in still)
        raise LabError(f"installed, but too old: {lacking}. Upgrade the machine to Debian's current point release")


def prepare(hosts: Sequence[Host]) -> None:
    """What must be there before a host can start. Short when it is; safe beside other runs."""
    require_root()
    with held("machine"):
        install_packages()
        recovery.after_reboot()
        recovery.after_kill()
        recovery.end_forgotten()
        recovery.after_side_car()
        machine.record(hosts_run=any(c["State"] == "running" for c in podman.lab_containers()))
        machine.raise_shared_limits()
        lab_network.ensure()
        image.remove_unfinished()
        instance.remove_unfinished()
        for debian in sorted({host.debian for host in hosts}):
            image.ensure(debian)
        container.ensure_ssh_key()


def add_hosts(hosts: Sequence[Host]) -> None:
    prepare(hosts)
    container.ensure_all(hosts)


def lab_container_names() -> list[str]:
    return [found["Names"][0] for found in podman.lab_containers()]


def remove_hosts(names: Sequence[str]) -> None:
    require_root()
    recovery.after_kill()
    hosts = [container.by_name(name) for name in names]
    recovery.end_lost(host.container for host in hosts)
    container.remove_all(hosts)


def reboot_hosts(names: Sequence[str]) -> None:
    require_root()
    recovery.after_kill()
    hosts = [container.by_name(name) for name in names]
    recovery.end_lost(host.container for host in hosts)
    container.reboot_all(hosts)


def up() -> None:
    started = time.monotonic()
    require_root()
    with held("up"):
        prepare(HOSTS)
        from lab import depot  # the slowest import, and hosts come and go without it

        depot.build()
        recovery.end_lost(name for name in lab_container_names() if name == f"{PREFIX}depot")
        depot.up()
        news = start_hosts()
        clear_evaluation()
    say(f"the lab is up after {time.monotonic() - started:.0f} s: {news}")


def clear_evaluation() -> None:
    """What a killed one has left, unless somebody's is at work. A cluster that is not up yet keeps it until the next time."""
    with contextlib.suppress(BusyError), held("cloud", seconds=0):
        try:
            leftovers.clear()
        except LabError as error:
            say(str(error))


def up_hosts() -> None:
    """Networks and hosts without the depot: for what needs hosts only."""
    require_root()
    with held("up"):
        prepare(HOSTS)
        say(start_hosts())


def start_hosts() -> str:
    changed = container.ensure_all(HOSTS)
    return f"{', '.join(host.name for host in changed)} started" if changed else "all hosts ran already"


def down() -> None:
    """Stop all that runs, keep all that was made."""
    require_root()
    with held("up"), held("cloud", seconds=0, busy=recovery.SIDE_CAR_RUNS):
        recovery.after_kill()
        recovery.end_forgotten()
        recovery.end_lost(lab_container_names())
        recovery.remove_instances()
        container.stop_all(container.every())
        if podman.container_exists(f"{PREFIX}depot"):
            run("podman", "stop", f"{PREFIX}depot")
    say("stopped; `lab/lab up` starts it again")


def reset() -> None:
    """Take the hosts away with all they hold; depot, networks and cache stay."""
    require_root()
    with held("up"), held("cloud", seconds=0, busy=recovery.SIDE_CAR_RUNS):
        recovery.after_reboot()
        recovery.after_kill()
        recovery.end_forgotten()
        recovery.end_lost(lab_container_names())
        recovery.remove_instances()
        container.remove_all(container.every())
        for volume in podman.lab_volumes():
            container.remove_volume(volume)
    say("no hosts left; `lab/lab up` makes new ones")


def clean() -> list[machine.Difference]:
    """Take away all that the lab made on this machine, put back what it set; returns what differs from before all the same."""
    require_root()
    with held("up"), held("cloud", seconds=0, busy=recovery.SIDE_CAR_RUNS), instance.nobody_builds(), held("machine"):
        recovery.after_reboot()
        recovery.after_kill()
        recovery.end_forgotten()
        recovery.end_lost(lab_container_names())
        recovery.remove_instances()
        before = machine.Machine.load(machine.RECORD)
        container.remove_all(container.every())
        from lab import depot

        depot.remove()
        for left in podman.lab_containers():
            run("podman", "rm", "--force", "--time", "0", "--volumes", left["Id"])
        for volume in podman.lab_volumes():
            container.remove_volume(volume)
        for reference in podman.lab_images():
            succeeds("podman", "rmi", "--force", reference)
        lab_network.remove()
        image.remove_unfinished()
        image.remove_unfinished(instance.FOLDER)
        if not run("podman", "ps", "--all", "--quiet").strip():
            leave_no_trace_of_podman(before)
        differing = machine.put_back(before, say)
        shutil.rmtree(STATE, ignore_errors=True)
    return differing


def leave_no_trace_of_podman(before: machine.Machine | None) -> None:
    """What podman leaves although none of its containers is left; only what was not there before."""
    if before is None:
        return
    firewall_before = before.firewall
    netavark.remove({(words[1], words[2]) for line in firewall_before.splitlines() if (words := line.split())[:1] == ["table"]})
    mounted_before = {mount.split()[2] for mount in before.mounts}
    for point in STORAGE_MOUNTS:
        if point not in mounted_before and any(mount.split()[2] == point for mount in machine.mounts()):
            succeeds("umount", point)
    for group in machine.cgroups():
        if Path(group).name in PODMAN_GROUPS and group not in before.cgroups:
            remove_empty_groups(Path(group))


def remove_empty_groups(group: Path) -> None:
    # A group that a process is in refuses, and that process is not the lab's.
    with contextlib.suppress(OSError):
        for folder, _, _ in os.walk(group, topdown=False):
            os.rmdir(folder)


def remove_cache() -> None:
    shutil.rmtree(cache(), ignore_errors=True)
