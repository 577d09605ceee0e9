"""A host of the lab: a container that runs systemd and is reached by ssh, from creation to removal."""

from __future__ import annotations

import contextlib
import io
import resource
import socket
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

from lab import podman
from lab.files import write_atomically
from lab.fpga import hosts as fpga
from lab.fpga.tree import Plugged
from lab.hosts import image, modules
from lab.run import CommandError, run, say, succeeds, wait_until
from lab.settings import INSTANCE_LABEL, LABEL, NETWORKS, STATE, Host, InstanceHost, LabError, ssh_key

Result = TypeVar("Result")

VOLUMES = ("containerd", "kubelet", "etcd", "docker")

#: Enough for every node of the lab; raising a limit needs a privilege that not every machine's root has.
NOFILE = 20000
NPROC = 32768

#: systemd ends a unit after 90 s at most; etcd must not be killed half-way.
STOP_SECONDS = 60
#: 1 to 3 s on an idle machine.
BOOT_SECONDS = 120


def limits() -> tuple[str, str]:
    """Limits for a host, never above what this process may hand on."""

    def capped(wanted: int, kind: int) -> int:
        hard = resource.getrlimit(kind)[1]
        return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)

    nofile, nproc = capped(NOFILE, resource.RLIMIT_NOFILE), capped(NPROC, resource.RLIMIT_NPROC)
    return f"nofile={nofile}:{nofile}", f"nproc={nproc}:{nproc}"


def volume(host: Host, name: str) -> str:
    return f"{host.container}-{name}"


def create_command(host: Host, *, image_reference: str, modules_folder: Path, ulimits: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """The command that creates a host. options: podman's own, beside what every host has.

    Not --systemd=always: on cgroup v1 that binds the machine's own name=systemd hierarchy into every host, which then share one /system.slice.
    --systemd=false with a private cgroup namespace gives each host its own, on v1, v2 and both at once.
    """
    return [
        "podman", *podman.RUNTIME, "create", "--name", host.container, "--hostname", host.hostname,
        "--privileged", "--systemd=false", "--cgroupns=private", "--env", "container=podman",
        "--stop-signal", "SIGRTMIN+3", "--stop-timeout", str(STOP_SECONDS),
        "--log-driver", "k8s-file", "--log-opt", "max-size=1mb",
        *[word for limit in ulimits for word in ("--ulimit", limit)],
        "--network", f"{host.network.podman}:ip={host.address}",
        # /etc/hosts and /etc/resolv.conf are ordinary files, as on a real machine: see settings_tar().
        "--no-hosts", "--dns", "none",
        "--tmpfs", "/run:exec,mode=755", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec,mode=1777",
        *[word for name in VOLUMES for word in ("--volume", f"{volume(host, name)}:/var/lib/{name}")],
        "--volume", f"{modules_folder}:/lib/modules:ro",
        *podman.label_arguments(host.labels),
        *options,
        image_reference,
    ]  # fmt: skip


def settings_tar(host: Host, public_key: str, boards: Sequence[Plugged] | None = None, more: Mapping[str, str] | None = None) -> bytes:
    """What the installer of a real machine would have written: the machine's name, its resolver, whose key may log in, and more files by their paths.

    And the boards in its slots; without any said, those that the lab has for a host of its name.
    """
    files = {
        "etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{host.hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n{host.network.depot}\tdepot\n",
        # Not a resolver, but there: a query is refused at once, where the machine's own resolver would leave the machine.
        "etc/resolv.conf": f"nameserver {host.network.depot}\noptions timeout:1 attempts:1\n",
        "root/.ssh/authorized_keys": public_key,
        **(more or {}),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folder = tarfile.TarInfo("root/.ssh")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o700
        tar.addfile(folder)
        for name, text in files.items():
            content = text.encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o600 if name.startswith("root/") else 0o644
            tar.addfile(info, io.BytesIO(content))
        fpga.add_to(tar, fpga.BOARDS.get(host.name, ()) if boards is None else boards)
    return buffer.getvalue()


def ensure_ssh_key() -> str:
    """The lab's ssh key, made once; returns the public half."""
    private = ssh_key()
    public = private.with_suffix(".pub")
    if not (private.exists() and public.exists()):
        private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        private.unlink(missing_ok=True)
        public.unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "fpga-hybrid-lab", "-f", private)
    return public.read_text()


def by_name(name: str) -> Host:
    """A host as its container's labels describe it."""
    for found in every():
        if found.name == name:
            return found
    raise LabError(f"no host {name!r} in the lab; it has: {', '.join(sorted(h.name for h in every())) or 'none'}")


def every() -> list[Host]:
    return [host for container in podman.lab_containers() if (host := from_labels(container.get("Labels") or {}))]


def instances() -> list[InstanceHost]:
    """Hosts of the lab's AWS."""
    return [
        InstanceHost(labels[INSTANCE_LABEL], NETWORKS[labels[f"{LABEL}.network"]], IPv4Address(labels[f"{LABEL}.address"]))
        for container in podman.lab_containers()
        if INSTANCE_LABEL in (labels := container.get("Labels") or {})
    ]


def from_labels(labels: dict[str, str]) -> Host | None:
    if f"{LABEL}.host" not in labels:
        return None
    return Host(
        labels[f"{LABEL}.host"],
        NETWORKS[labels[f"{LABEL}.network"]],
        IPv4Address(labels[f"{LABEL}.address"]),
        int(labels[f"{LABEL}.debian"]),
    )


def ensure(host: Host) -> bool:
    """Have the host running and answering; True if it had to be created or started. What runs already is taken as it is."""
    found = inspect(host)
    if found and not usable(found):
        say(f"{host.name}: clearing what a killed run left")
        remove(host)
        found = None
    if found is None:
        check_address_is_free(host)
        create(host)
    elif (described := from_labels(found["Config"]["Labels"])) != host:
        raise LabError(f"host {host.name} exists as {described}, wanted is {host}: `lab/lab host remove {host.name}` first")
    elif found["State"]["Status"] == "running":
        wait_for_ssh(host)
        return False
    started = time.monotonic()
    start(host)
    say(f"{host.name} ({host.address}, Debian {host.debian}) runs after {time.monotonic() - started:.1f} s")
    return True


def ensure_all(hosts: Sequence[Host]) -> list[Host]:
    """Have all of them running, started side by side; returns those that were not."""
    changed = side_by_side(ensure, hosts)
    return [host for host, was_changed in zip(hosts, changed, strict=True) if was_changed]


def stop_all(hosts: Sequence[Host]) -> None:
    side_by_side(stop, hosts)


def reboot_all(hosts: Sequence[Host]) -> None:
    side_by_side(reboot, hosts)


def remove_all(hosts: Sequence[Host]) -> None:
    side_by_side(remove, hosts)


def side_by_side(action: Callable[[Host], Result], hosts: Sequence[Host]) -> list[Result]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(action, hosts))


def inspect(host: Host) -> dict[str, Any] | None:
    return podman.inspect_containers(host.container)[0] if podman.container_exists(host.container) else None


def usable(container: dict[str, Any]) -> bool:
    """Whether it was made to the end. A reboot of the machine makes podman call every container "created", so a file of ours tells."""
    state = container["State"]
    ran = state["Status"] in ("running", "exited", "stopped", "stopping")
    return not state.get("Dead") and (ran or (state["Status"] in ("created", "configured") and completed(container["Id"]).exists()))


def completed(container_id: str) -> Path:
    """The file that says that the container with this id got all its settings."""
    return STATE / "hosts" / container_id


def check_address_is_free(host: Host) -> None:
    if host.address not in host.network.subnet:
        raise LabError(f"host {host.name}: address {host.address} is not in network {host.network.name} ({host.network.subnet})")
    if host.address in (host.network.gateway, host.network.depot):
        raise LabError(f"host {host.name}: address {host.address} belongs to the machine or the depot; take one from {host.network.subnet[100]} on")
    for other in (*every(), *instances()):
        if other.address == host.address and other.name != host.name:
            raise LabError(f"host {host.name}: address {host.address} is taken by {other.name}; choose another or `lab/lab host remove {other.name}`")


def create(host: Host) -> None:
    container_id = make(host, image.ensure(host.debian), settings_tar(host, ensure_ssh_key()))
    write_atomically(completed(container_id), f"{host.name}\n")


def make(host: Host, image_reference: str, settings: bytes, options: Sequence[str] = ()) -> str:
    """Its container with its volumes and settings, not started; returns the container's id."""
    for name in VOLUMES:
        # A volume that is there without its container is the remains of another host.
        remove_volume(volume(host, name))
        run("podman", "volume", "create", *podman.label_arguments(host.labels), volume(host, name))
    command = create_command(host, image_reference=image_reference, modules_folder=modules.folder(), ulimits=limits(), options=options)
    container_id = run(*command).strip()
    run("podman", "cp", "--archive=false", "-", f"{host.container}:/", stdin=settings)
    return container_id


def start(host: Host) -> None:
    run("podman", "start", host.container)
    wait_for_boot(host)
    wait_for_ssh(host)


def wait_for_boot(host: Host) -> None:
    def booted() -> bool:
        state = podman.inspect_containers(host.container)[0]["State"]
        if state["Status"] in ("exited", "stopped"):
            raise LabError(f"host {host.name}: its init ended with status {state['ExitCode']} while it booted; the kernel's log (dmesg) may say why")
        try:
            return run("podman", "exec", host.container, "sh", "-c", "systemctl is-system-running || :", timeout=30).strip() in ("running", "degraded")
        except CommandError:
            return False

    wait_until(booted, seconds=BOOT_SECONDS, what=f"host {host.name} has booted (see `podman logs {host.container}`)")


def wait_for_ssh(host: Host) -> None:
    def greets() -> bool:
        try:
            with socket.create_connection((str(host.address), 22), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    wait_until(greets, seconds=BOOT_SECONDS, what=f"host {host.name}: ssh answers on {host.address}")


def stop(host: Host, seconds: int = STOP_SECONDS) -> None:
    """Its system has that long to shut down."""
    run("podman", "stop", "--ignore", "--time", str(seconds), host.container, timeout=seconds + 60)


def reboot(host: Host) -> None:
    """A new init over the same disks: /run and /tmp are empty, everything else is kept."""
    run("podman", "restart", host.container, timeout=STOP_SECONDS + 60)
    wait_for_boot(host)
    wait_for_ssh(host)


def remove(host: Host) -> None:
    """Take the host away with its volumes, whatever state it is in. Its end is not waited for: nothing of it is kept."""
    run("podman", "rm", "--force", "--ignore", "--time", "0", "--volumes", host.container)
    for name in VOLUMES:
        remove_volume(volume(host, name))
    for file in completed("").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # that of a host that is removed at the same time
            if file.read_text().strip() == host.name:
                file.unlink()


def remove_volume(name: str) -> None:
    if succeeds("podman", "volume", "exists", name):
        run("podman", "volume", "rm", "--force", name)


def memory(container: dict[str, Any]) -> int:
    """Bytes that the host's processes hold (no page cache); 0 if it doesn't run."""
    group = (container["State"].get("CgroupPath") or "").lstrip("/")
    statistics = next((path for base in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup") if (path := Path(base, group, "memory.stat")).exists()), None)
    if not group or statistics is None:
        return 0
    values = dict(line.split() for line in statistics.read_text().splitlines())
    return int(values.get("total_rss") or values.get("anon") or 0)
