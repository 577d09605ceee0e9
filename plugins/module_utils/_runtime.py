# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""What can be seen of a host's container engines: programs, units, running containers. Reads only."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import time
import typing as t
from collections import Counter
from fnmatch import fnmatchcase

from ansible_collections.fpga.hybrid.plugins.module_utils import _command
from ansible_collections.fpga.hybrid.plugins.module_utils._command import Output
from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

# Kubernetes' own containers live in this namespace of containerd; all others belong to somebody else.
CLUSTER_NAMESPACE = "k8s.io"

Command = t.Callable[[t.Sequence[str]], Output]


class EngineError(Exception):
    """Something that the operator must decide or mend; the message says how."""


def run(command: t.Sequence[str], timeout: float = 30) -> Output:
    """Run a program, bounded."""
    return _command.run(command, timeout=timeout)


# --- versions -------------------------------------------------------------------------------------------------------------------------


def version_in(text: str) -> str | None:
    """The first version number in a program's --version: `containerd github.com/containerd/containerd/v2 v2.4.2 abc` -> 2.4.2."""
    found = re.search(r"(?<![\w.-])v?(\d+\.\d+(?:\.\d+)?)", text)
    return found.group(1) if found else None


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def fits(version: str, wanted: str) -> bool:
    """Is a version in an apt-like range (`2.*`, `2.4.2`), or at least a floor (`>=20.10`)?"""
    if wanted.startswith(">="):
        return as_numbers(version) >= as_numbers(wanted[2:])
    return fnmatchcase(version, wanted) or version.startswith(f"{wanted}.")


# --- programs and packages --------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Program:
    """An installed program: where, which version, and the Debian package that brought it (None: none did)."""

    path: str
    version: str | None
    package: str | None
    package_version: str | None

    @property
    def origin(self) -> str:
        return f"package {self.package} {self.package_version}" if self.package else f"{self.path}, which no package brought"


def find_program(name: str, command: Command = run) -> Program | None:
    path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin")
    if path is None:
        return None
    shown = command([path, "--version"])
    package = _owner(path, command)
    installed = command(["dpkg-query", "--show", "--showformat=${Version}", package]).out.strip() if package else None
    return Program(path=path, version=version_in(shown.out), package=package, package_version=installed or None)


def _owner(path: str, command: Command) -> str | None:
    """The package that owns a path, also where /bin is a link to /usr/bin and dpkg knows the file by its other name."""
    real = os.path.realpath(path)
    for name in dict.fromkeys([path, real, real.replace("/usr/", "/", 1)]):
        answer = command(["dpkg-query", "--search", name])
        if answer.code == 0 and answer.out:
            return answer.out.split(":")[0].split(",")[0].strip()
    return None


# --- units ------------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Unit:
    """A systemd unit as it runs now. Without a running systemd (an image being built) nothing is active."""

    active: bool = False
    exists: bool = False
    needs_reload: bool = False
    main_pid: int = 0
    enabled: bool = False

    @classmethod
    def read(cls, name: str, command: Command = run) -> Unit:
        if not os.path.isdir("/run/systemd/system"):
            return cls()
        answer = command(["systemctl", "show", "--property=ActiveState,LoadState,NeedDaemonReload,MainPID,UnitFileState", name])
        shown = dict(line.split("=", 1) for line in answer.out.splitlines() if "=" in line)
        return cls(
            active=shown.get("ActiveState") in ("active", "activating", "reloading"),
            exists=shown.get("LoadState", "not-found") not in ("not-found", ""),
            needs_reload=shown.get("NeedDaemonReload") == "yes",
            main_pid=int(shown.get("MainPID") or 0),
            enabled=shown.get("UnitFileState") == "enabled",
        )

    @property
    def settled(self) -> bool:
        """It runs, will run after the next boot, and systemd knows it as it is on the disk."""
        return self.active and self.enabled and not self.needs_reload

    @staticmethod
    def forget_starts(name: str, command: Command = run) -> None:
        """Has systemd count a unit's starts from none, as after a while without any.

        It refuses one that was started too often of late (Docker: three times a minute), by whomever. A restart that is due must come through.
        """
        if os.path.isdir("/run/systemd/system"):
            command(["systemctl", "reset-failed", name])

    def older_than(self, paths: t.Iterable[str]) -> list[str]:
        """The files that were written after this unit's process started, which it therefore hasn't read.

        So a run that was killed between writing and restarting is made good by the next one, without a mark on the disk.
        A file dated in the future (the clock was set back) says nothing.
        """
        started = started_at(self.main_pid) if self.main_pid else None
        if started is None:
            return []
        now = time.time()
        return [path for path in paths if os.path.exists(path) and started < os.stat(path).st_mtime <= now]


def started_at(pid: int, proc: str = "/proc") -> float | None:
    """When a process started, in seconds since the epoch."""
    try:
        with open(f"{proc}/{pid}/stat", encoding="utf-8") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open(f"{proc}/uptime", encoding="utf-8") as file:
            uptime = float(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


# --- containers ---------------------------------------------------------------------------------------------------------------------------


def running_containers(proc: str = "/proc") -> Counter[str]:
    """Running containers by containerd namespace, counted by their shims: true also while the daemon doesn't answer.

    One shim can hold several containers of a pod, so the figure is a floor; only "none or some" is used of it.
    """
    namespaces: Counter[str] = Counter()
    for entry in os.listdir(proc):
        if not entry.isdigit():
            continue
        try:
            with open(f"{proc}/{entry}/cmdline", "rb") as file:
                arguments = file.read().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if "containerd-shim" not in os.path.basename(arguments[0]):
            continue
        for flag, value in zip(arguments, arguments[1:]):
            if flag in ("-namespace", "--namespace"):
                namespaces[value] += 1
    return namespaces


def foreign(namespaces: t.Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in sorted(namespaces.items()) if name != CLUSTER_NAMESPACE and count}


def refusal(service: str, containers: t.Mapping[str, int], differences: t.Sequence[str], survive: str, look: str) -> str:
    """The sentence for a restart that somebody else's containers forbid."""
    running = ", ".join(f"{count} in {name}" for name, count in containers.items())
    listed = "\n".join(f"  {line}" for line in differences)
    return (
        f"{service} has to be restarted, but containers that are not the cluster's are running on it ({running}; look with `{look}`).\n"
        f"What would change:\n{listed}\nNothing was changed. {survive}\n"
        "Stop them, or go on with -e allow_disruption=true."
    )


# --- judging what was there before us -----------------------------------------------------------------------------------------------------


def is_ours(program: Program, apt: t.Mapping[str, t.Any]) -> bool:
    """Did this collection install the program's package? apt: the record's section of that name."""
    if program.package is None:
        return False
    for entry in apt.values():
        package = entry.get("packages", {}).get(program.package)
        if program.package in entry.get("brought", []) or (package is not None and package["was"] is None):
            return True
    return False


_MISSING = (
    "Install the .deb of https://github.com/Mirantis/cri-dockerd/releases for this release of the system, since no package repository has it "
    "(it brings cri-docker.service and cri-docker.socket), or set cluster_container_runtime: containerd."
)
_REMEDIES = {
    "containerd": "Upgrade it from where it came from, or remove it (`apt-get remove {package}`; its containers stop, and packages that depend on it, "
    "such as Debian's docker.io, go too): then containerd.io is installed. Nearest: containerd.io 2.* from Docker's repository; docker-ce runs on it as well.",
    "docker": "Upgrade it from the repository it came from, or remove it (`apt-get remove {package}`; its containers stop): then docker_package is installed.",
    "cri_dockerd": "Install a release that fits from https://github.com/Mirantis/cri-dockerd/releases.",
}


#: Each engine's program, the variable that says which versions fit, and its name in a sentence.
PROGRAMS = {"containerd": "containerd", "docker": "dockerd", "cri_dockerd": "cri-dockerd"}
_VARIABLES = {"containerd": "containerd_version", "docker": "docker_version", "cri_dockerd": "docker_cri_dockerd_version"}
_TITLES = {"containerd": "containerd", "docker": "Docker", "cri_dockerd": "cri-dockerd"}


def engine_problem(name: str, program: Program | None, ours: bool, wanted: str, reason: str, host: str = "") -> Problem | None:
    """What we brought ourselves is brought into its range by the package module; what we found is not touched, so it has to fit.

    Only cri-dockerd has to be there: no package repository has it.
    """
    variable, title, expected = _VARIABLES[name], _TITLES[name], f"{wanted}, which {reason} needs"
    if program is None:
        return (
            Problem(host, variable, "cri-dockerd was not found", f"{wanted}, through which the kubelet reaches Docker", _MISSING)
            if name == "cri_dockerd"
            else None
        )
    if ours:
        return None
    if program.path.startswith("/snap/"):
        remedy = "Remove it (`snap remove docker`; its containers stop): a snap's configuration and data live elsewhere than everybody expects."
        return Problem(host, variable, f"{title} was found as a snap, which is not touched", expected, remedy)
    if program.version is None:
        return Problem(host, variable, f"{title} was found, but `{program.path} --version` tells no version", expected, "Mend or remove it.")
    if fits(program.version, wanted):
        return None
    found = f"{title} {program.version} was found ({program.origin}), not installed by us"
    return Problem(host, variable, found, expected, _REMEDIES[name].format(package=program.package or title))


def look_at_engines(apt: t.Mapping[str, t.Any], names: t.Iterable[str] = tuple(PROGRAMS)) -> dict[str, tuple[Program | None, bool]]:
    """{engine: (its program, whether we brought it)}. apt: the record's section of that name."""
    found = {name: find_program(PROGRAMS[name]) for name in names}
    return {name: (program, program is not None and is_ours(program, apt)) for name, program in found.items()}
