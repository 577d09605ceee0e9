# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual environment that holds exactly the packages of hashed requirements: what is in it, what is missing, what has been damaged.

Several owners may share one: it holds what any of them needs. What counts is what lies there, not what an earlier run says it put there.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

#: Comes with every environment, and is nobody's.
OWN = ("pip", "setuptools", "wheel")


class VenvError(Exception):
    """The requirements cannot be used as they are; the message says why."""


@dataclass(frozen=True)
class Requirement:
    """name as PEP 503 normalises it. hashes: of every file of this version that may be installed."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    def line(self) -> str:
        return " \\\n    ".join([str(self), *(f"--hash={one}" for one in self.hashes)])


@dataclass(frozen=True)
class Installed:
    """damaged: the first file that is not as the package's own list says, or ""."""

    name: str
    version: str
    damaged: str = ""


@dataclass(frozen=True)
class Plan:
    """make: the environment itself, with the reason. install and remove: packages, with the reason of each."""

    make: str
    install: Mapping[str, str]
    remove: Mapping[str, str]

    @property
    def lines(self) -> list[str]:
        made = [f"environment: {self.make}"] if self.make else []
        return [*made, *(f"{name}: {why}" for name, why in sorted({**self.install, **self.remove}.items()))]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def parse(text: str) -> dict[str, Requirement]:
    """Requirements as C(pip-compile --generate-hashes) writes them. Anything else, a marker among it, is refused: it would be taken for granted."""
    found: dict[str, Requirement] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = re.sub(r"(^|\s)#.*", "", line).split()
        if not words:
            continue
        match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9._+!-]*)", words[0])
        hashes = [re.fullmatch(r"--hash=(sha256:[0-9a-f]{64})", word) for word in words[1:]]
        if not match or not hashes or not all(hashes):
            raise VenvError(f"found {' '.join(words)[:80]!r} in the requirements, expected name==version --hash=sha256:... and nothing else")
        name = normalised(match[1])
        if name in found:
            raise VenvError(f"{name} stands twice in the requirements, expected each once")
        found[name] = Requirement(name, match[2], tuple(one[1] for one in hashes if one))
    return found


def check_others(owner: str, wanted: Mapping[str, Requirement], others: Mapping[str, Mapping[str, str]]) -> None:
    """others: what the other owners of the environment need, by owner: name -> version. Raises VenvError where two need different versions."""
    for other, needed in sorted(others.items()):
        for name, requirement in wanted.items():
            if needed.get(name, requirement.version) != requirement.version:
                raise VenvError(
                    f"{other} needs {name}=={needed[name]}, {owner} needs {requirement}, and they share one environment. "
                    "Lock them together (requirements/, make lock)."
                )


def plan(wanted: Mapping[str, Requirement], kept: Iterable[str], installed: Iterable[Installed], broken: str) -> Plan:
    """kept: names that others need. broken: why the environment has to be made anew, or ""."""
    if broken:
        return Plan(broken, {name: f"{requirement.version}, was not there" for name, requirement in wanted.items()}, {})
    there = {one.name: one for one in installed}
    install = {name: why for name, requirement in wanted.items() if (why := _why(requirement, there.get(name)))}
    needed = {*wanted, *kept, *OWN}
    return Plan("", install, {name: "nobody needs it" for name in there if name not in needed})


def _why(requirement: Requirement, found: Installed | None) -> str:
    """Why it has to be installed, or ""."""
    if found is None:
        return f"{requirement.version}, was not there"
    if found.version != requirement.version:
        return f"{requirement.version}, was {found.version}"
    return f"{requirement.version}, {found.damaged} was not as it came" if found.damaged else ""


# --- what lies there


def site_packages(venv: str) -> str:
    """The folder of its packages; "" if there is none."""
    library = os.path.join(venv, "lib")
    try:
        names = sorted(name for name in os.listdir(library) if re.fullmatch(r"python3\.\d+", name))
    except OSError:
        return ""
    return os.path.join(library, names[-1], "site-packages") if names else ""


def installed(folder: str) -> Iterator[Installed]:
    """The packages in a site-packages folder, each compared with the list of files that it came with."""
    for name in sorted(os.listdir(folder)):
        match = re.fullmatch(r"(?P<name>.+)-(?P<version>[^-]+)\.dist-info", name)
        if match:
            yield Installed(normalised(match["name"]), match["version"], _damage(folder, name))


def _damage(folder: str, dist_info: str) -> str:
    """Source: PyPA, "Recording installed projects", the RECORD file."""
    try:
        with open(os.path.join(folder, dist_info, "RECORD"), encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if len(row) == 3 and row[1]]
    except OSError:
        return "RECORD"
    for path, digest, _size in rows:
        kind, _sign, expected = digest.partition("=")
        try:
            with open(os.path.join(folder, path), "rb") as file:
                found = base64.urlsafe_b64encode(hashlib.new(kind, file.read()).digest()).rstrip(b"=").decode()
        except (OSError, ValueError):
            return path
        if found != expected:
            return path
    return ""


def _made_by(venv: str) -> str:
    """The version of Python that made it, as pyvenv.cfg says; "" without one."""
    try:
        with open(os.path.join(venv, "pyvenv.cfg"), encoding="utf-8") as file:
            settings = dict(re.split(r"\s*=\s*", line.strip(), maxsplit=1) for line in file if "=" in line)
    except OSError:
        return ""
    return settings.get("version", "")


def broken(venv: str, python: str, version: str) -> str:
    """Why the environment cannot be used with this interpreter, or "". version: the interpreter's own, 3.11.2."""
    if not os.path.isdir(venv):
        return "was not there"
    if not os.access(os.path.join(venv, "bin", "python"), os.X_OK) or not os.access(os.path.join(venv, "bin", "pip"), os.X_OK):
        return "its programs were not there"
    made = _made_by(venv)
    if made.split(".")[:2] != version.split(".")[:2]:
        return f"was made by Python {made or 'of an unknown version'}, {python} is {version}"
    return ""


# --- pip


def pip_configuration(index: Mapping[str, Any], ca_file: str) -> str:
    """A pip.conf, since a password must not stand on a command line."""
    if not index.get("url"):
        return ""
    parts = urlsplit(str(index["url"]))
    credentials = ":".join(quote(str(index[key]), safe="") for key in ("username", "password") if index.get(key))
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{credentials}@{host}" if credentials else host))
    return "\n".join(["[global]", f"index-url = {url}", *([f"cert = {ca_file}"] if ca_file else []), ""])


def requirements_file(wanted: Iterable[Requirement]) -> str:
    return "".join(f"{requirement.line()}\n" for requirement in wanted)


def complaint(output: str, index: Mapping[str, Any], wanted: Sequence[Requirement]) -> str:
    """What pip's failure means."""
    where = str(index.get("url") or "PyPI")
    said = " ".join(line for line in output.splitlines() if line.startswith("ERROR"))[:600] or output.strip()[-600:]
    names = ", ".join(map(str, wanted))
    if "No matching distribution" in said:
        return f"{where} lacks a wheel for this host's Python and architecture among {names}. Put them into that index. pip said: {said}"
    return f"pip could not install {names} from {where}: {said}"
