"""The container that serves the depot on all of the lab's networks."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import unquote

from lab import settings
from lab.depot import rootfs, tls
from lab.depot.base import HERE, Cache, DepotError, digest_of, run, step
from lab.files import write_atomically

NAME = f"{settings.PREFIX}depot"
SERVER = HERE / "server"
INPUTS_LABEL = "fpga-hybrid.depot"
#: The network over which the machine itself talks to the depot.
HOME = settings.ONPREM


def url(port: int = 443) -> str:
    return f"https://{HOME.depot}:{port}"


def subject_alternatives() -> list[str]:
    return ["DNS:depot", *(f"IP:{network.depot}" for network in settings.NETWORKS.values())]


def configuration(cache: Cache) -> Path:
    return cache.depot / "server"


def configure(cache: Cache) -> str:
    """Write what the container reads; returns a checksum of it, by which a running container is judged."""
    tls.ensure(cache, subject_alternatives())
    folder = configuration(cache)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    nginx = (SERVER / "nginx.conf").read_text().replace("@GATEWAY@", str(HOME.gateway))
    files = {"nginx.conf": nginx, **{name: (SERVER / name).read_text() for name in ("registry.yml", "ntp.py", "supervise.py")}}
    for name, content in files.items():
        write_atomically(folder / name, content)
    for name in ("server.crt", "server.key"):
        write_atomically(folder / name, (cache.tls / name).read_bytes(), 0o600)
    secret = folder / "htpasswd"
    if not secret.exists() or secret.stat().st_mtime < tls.password_file(cache).stat().st_mtime:
        # nginx's workers, which check passwords, are not root.
        write_atomically(secret, tls.htpasswd(cache))
    folder.chmod(0o755)
    for path in (cache.www, cache.registry, cache.log / "served", offset_file(cache).parent):
        path.mkdir(parents=True, exist_ok=True)
    return digest_of(*(part for name in sorted([*files, "server.crt", "htpasswd"]) for part in (name, folder / name)))


def offset_file(cache: Cache) -> Path:
    """By how many seconds the depot's time lies."""
    return cache.depot / "time" / "offset"


def access_log(cache: Cache) -> Path:
    return cache.log / "served" / "access.log"


@dataclass(frozen=True)
class Served:
    """One answered request, as the access log has it."""

    time: datetime
    client: str
    port: int
    status: int
    method: str
    path: str
    size: int


def parse_access_log(text: str) -> Iterator[Served]:
    """Lines of nginx.conf's log_format `depot`; a last line that is still being written is left out."""
    for line in text.splitlines(keepends=True):
        words = line.split(" ", 7)
        if line.endswith("\n") and len(words) == 8:
            time_, client, port, status, method, path, size, _agent = words
            yield Served(datetime.fromisoformat(time_), client, int(port), int(status), method, unquote(path.partition("?")[0]), int(size))


def inspect() -> dict[str, object]:
    """State of the container: {} when there is none."""
    found = json.loads(run(["podman", "ps", "--all", "--format", "json", "--filter", f"name=^{NAME}$"]) or "[]")
    return found[0] if found else {}


def is_running(cache: Cache, inputs: str) -> bool:
    found = inspect()
    labels = found.get("Labels") or {}
    return found.get("State") == "running" and isinstance(labels, dict) and labels.get(INPUTS_LABEL) == inputs and responds(cache)


def context(cache: Cache) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tls.ca(cache)))


def responds(cache: Cache) -> bool:
    try:
        with urllib.request.urlopen(f"{url()}/healthz", timeout=3, context=context(cache)) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def start(cache: Cache) -> None:
    """Have the container run with the present configuration; a running one that has it is taken as it is."""
    root = rootfs.server(cache)
    inputs = digest_of(configure(cache), rootfs.server_stamp(cache).path)
    if is_running(cache, inputs):
        return
    with step("depot's container started"):
        remove()
        networks = [f"--network={network.podman}:ip={network.depot},mac={mac(network.depot)}" for network in settings.NETWORKS.values()]
        volumes = {
            cache.www: "/srv/www:ro",
            cache.registry: "/srv/registry:rw",
            configuration(cache): "/etc/depot:ro",
            access_log(cache).parent: "/var/log/depot:rw",
            offset_file(cache).parent: "/srv/time:ro",
        }
        command: list[str] = ["podman", "--runtime", "/usr/sbin/runc", "run", "--detach", "--name", NAME, "--hostname", "depot"]
        command += [f"--label={settings.LABEL}=1", f"--label={INPUTS_LABEL}={inputs}", *networks]
        command += ["--read-only", *(f"--tmpfs={path}" for path in ("/run", "/tmp", "/var/lib/nginx", "/var/log/nginx"))]
        command += [f"--volume={source}:{target}" for source, target in volumes.items()]
        # It stands in all networks and must be no way from one to another.
        command += ["--sysctl=net.ipv4.ip_forward=0"]
        # Without them podman asks for limits that a machine without CAP_SYS_RESOURCE cannot give.
        command += ["--ulimit=nofile=20000:20000", "--ulimit=nproc=32768:32768", "--stop-timeout=5"]
        run([*command, "--rootfs", str(root), "/usr/bin/python3", "/etc/depot/supervise.py"])
        wait(cache)


def mac(address: IPv4Address) -> str:
    """Always the same for an address: a new container is found by those who knew the old one."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in address.packed)


def wait(cache: Cache, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not responds(cache):
        if time.monotonic() > end:
            raise DepotError(f"the depot does not answer at {url()} after {seconds:.0f} s. Its own words:\n{run(['podman', 'logs', '--tail', '20', NAME])}")
        time.sleep(0.2)


def remove() -> None:
    run(["podman", "rm", "--force", "--ignore", "--time", "5", NAME])
