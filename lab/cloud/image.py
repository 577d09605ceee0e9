"""The image of the cloud's instances: Debian with cloud-init, as an AMI has it, and on it what playbook image brings from the depot."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab import podman
from lab.depot.base import Cache, digest_of
from lab.hosts import image as hosts
from lab.hosts.image import Root, import_archive
from lab.lock import BusyError, held
from lab.run import CommandError, run, say, succeeds
from lab.settings import INSTANCE_IMAGE, LabError, cache
from lab.tools import ROOT

CHECKOUT = ROOT
PLAYBOOK = CHECKOUT / "playbooks" / "image.yml"
INVENTORY = CHECKOUT / "inventories" / "lab"
#: Below the cache.
FOLDER = "instances"
#: Held by who builds in it.
LOCK = "instance-image"
DEBIAN = 12
#: What an AMI of Debian's has beside a host's packages, and a container can use.
PACKAGES = (*hosts.PACKAGES, "ca-certificates", "cloud-init", "netbase", "sudo")
#: Roles whose parts playbook image brings, and those that they name.
ROLES = ("aws_fpga", "bootstrap", "cluster", "containerd", "docker", "fpga_device_plugin", "host", "image", "kubeadm", "openvpn", "swap")
#: Kinds of plugins that roles and inventories name.
PLUGINS = ("action", "filter", "inventory", "modules")
#: By a regular expression, because parsing them all takes a second each time that somebody asks for the image.
IMPORT = re.compile(r"(?m)^\s*from ansible_collections\.fpga\.hybrid\.plugins\.([\w.]+) import (\([^)]*\)|[^\n]*)")
#: What of the depot says which packages it has: their lists name each with its checksum, whenever they were signed.
SERVED = ("debian/dists/bookworm/**/Packages", "docker/**/Packages", "kubernetes/**/Packages", "files/aws-fpga/SHA256SUMS", "python/simple/**/index.html")
BUILD_SECONDS = 1800
#: In a PID namespace of its own, whose end is the end of all its processes; and that ends with us.
ALONE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")


def root() -> Root:
    return Root("instance", FOLDER, DEBIAN, PACKAGES)


def inputs() -> Iterator[Path]:
    """The files that make the image what it is, beside its root."""
    yield PLAYBOOK
    yield from sorted(path for path in INVENTORY.rglob("*") if path.is_file())
    sources = roles_files()
    yield from sources
    yield from plugins(sources)
    depot = Cache(cache())
    for pattern in SERVED:
        yield from sorted(depot.www.glob(pattern))
    yield from (depot.tls / "ca.crt", depot.depot / "key.asc", depot.depot / "password")


def roles_files() -> list[Path]:
    found = [path for role in ROLES for path in sorted((CHECKOUT / "roles" / role).rglob("*"))]
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"]


def plugins(sources: Sequence[Path]) -> list[Path]:
    """sources: roles_files().

    The plugins that the roles, the playbook and the inventory name in full, as they always do, and all that those and the roles' programs import.
    """
    texts = [path.read_text() for path in (*sources, PLAYBOOK, *INVENTORY.rglob("*")) if path.suffix in {".yml", ".j2"}]
    names = {name for text in texts for name in re.findall(r"\bfpga\.hybrid\.(\w+)", text)}
    found: set[Path] = set()
    waiting = [CHECKOUT / "plugins" / kind / f"{name}.py" for kind in PLUGINS for name in names]
    waiting += [other for path in sources if path.suffix == ".py" for other in imported(path)]
    while waiting:
        path = waiting.pop()
        if path not in found and path.is_file():
            found.add(path)
            waiting += imported(path)
    return sorted(found)


def imported(path: Path) -> Iterator[Path]:
    """Where what a file imports from the collection may be."""
    for dotted, names in IMPORT.findall(path.read_text()):
        module = CHECKOUT / "plugins" / dotted.replace(".", "/")
        yield module.with_suffix(".py")
        yield from (module / f"{name}.py" for name in re.findall(r"\w+", names))


def reference() -> str:
    files = list(inputs())
    missing = [str(path) for path in files if not path.exists()]
    if missing:
        raise LabError(f"the depot has no {', '.join(missing)}, from which instances get their packages: `lab/lab up` builds and starts it")
    parts = [part for path in files for part in (path.name, path)]
    return f"{INSTANCE_IMAGE}:{digest_of(root().definition(), *parts)[:12]}"


def ensure() -> str:
    """Make the image unless it is there; return podman's reference. Wants root and a running depot."""
    wanted = reference()
    if podman.image_exists(wanted):
        return wanted
    with held(LOCK):
        if not podman.image_exists(wanted):  # made by whom we have waited for
            hosts.remove_unfinished(FOLDER)
            _build(wanted)
            _remove_others(wanted)
    return wanted


def nobody_builds() -> contextlib.AbstractContextManager[None]:
    """Holds off whoever wants to build; BusyError if somebody is at it."""
    return held(LOCK, seconds=0, busy="the image of instances is being built ({holder}): wait for it, or end it")


def remove_unfinished() -> None:
    """What a killed build has left, not what somebody builds."""
    with contextlib.suppress(BusyError), nobody_builds():
        hosts.remove_unfinished(FOLDER)


def _build(wanted: str) -> None:
    archive = root().ensure()
    say("making the image of instances (a minute)")
    with tempfile.TemporaryDirectory(prefix="build-", dir=archive.parent) as work:
        unpacked, made = Path(work) / "root", Path(work) / "root.tar"
        unpacked.mkdir()
        run("tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--file", archive, "--directory", unpacked)
        provision(unpacked)
        run("tar", "--create", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--file", made, "--directory", unpacked, ".")
        import_archive(made, wanted)


def provision(unpacked: Path, *arguments: str) -> str:
    """Run playbook image on an unpacked root; returns what it said. LabError if it is refused."""
    ansible = CHECKOUT / ".venv" / "bin" / "ansible-playbook"
    if not ansible.exists():
        raise LabError(f"{ansible} is not there: `make tools` installs it")
    environment = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "FPGA_HYBRID_LAB_CACHE": str(cache())}
    command = (ansible, PLAYBOOK, "-i", INVENTORY, "-e", "image_target=chroot", "-e", f"image_root={unpacked}", *arguments)
    try:
        result = subprocess.run(
            [*ALONE, *(str(word) for word in command)],
            cwd=CHECKOUT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode(errors="replace")
        raise CommandError([str(word) for word in command], -1, f"{said}\nno end after {BUILD_SECONDS} s") from error
    if result.returncode:
        # Ansible tells what failed on standard output.
        raise CommandError([str(word) for word in command], result.returncode, result.stdout + result.stderr)
    return result.stdout


def _remove_others(wanted: str) -> None:
    """Images that were made of older inputs; beside a side-car they stay, because its next host may be made of one."""
    with contextlib.suppress(BusyError), held("cloud", seconds=0):
        for line in run("podman", "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={INSTANCE_IMAGE}").splitlines():
            if line and line != wanted:
                succeeds("podman", "rmi", line)
