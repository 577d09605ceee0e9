"""What all parts of the depot share: where things lie, how they are written, how a step is shown."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import run as lab_run
from lab import settings
from lab.files import on_disk, write_atomically

HERE = Path(__file__).resolve().parent

#: All that the depot packs carries this time, so that the same inputs give the same bytes.
EPOCH = 1767225600


class DepotError(settings.LabError):
    """Something that the person at the keyboard can mend; the message says how."""


@dataclass(frozen=True)
class Cache:
    """The folder that can be kept between runs, and what the depot keeps in it."""

    root: Path

    @classmethod
    def default(cls) -> Cache:
        return cls(settings.cache())

    @property
    def go(self) -> Path:
        return self.root / "go"

    @property
    def images(self) -> Path:
        """Image archives that the user drops in."""
        return self.root / "images"

    @property
    def depot(self) -> Path:
        return self.root / "depot"

    @property
    def programs(self) -> Path:
        return self.depot / "programs"

    @property
    def log(self) -> Path:
        return self.depot / "log"

    @property
    def www(self) -> Path:
        """What nginx serves."""
        return self.depot / "www"

    @property
    def registry(self) -> Path:
        return self.depot / "registry"

    @property
    def tls(self) -> Path:
        return self.depot / "tls"


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Show how long something took, once it is done."""
    begun = time.monotonic()
    yield
    say(f"depot: {name} ({time.monotonic() - begun:.1f} s)")


@contextlib.contextmanager
def lock(cache: Cache, name: str) -> Iterator[None]:
    """One builder of a kind at a time. The kernel lets go of it when its holder dies."""
    cache.depot.mkdir(parents=True, exist_ok=True)
    with (cache.depot / f".{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"depot: another run builds {name}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _lives(pid: str) -> bool:
    return Path("/proc", pid).exists()


@contextlib.contextmanager
def scratch(cache: Cache) -> Iterator[Path]:
    """A folder for half-made things on the cache's own file system, from where they move into place at once. Killed runs' folders are cleared away."""
    root = cache.depot / "tmp"
    root.mkdir(parents=True, exist_ok=True)
    for stale in root.iterdir():
        if not _lives(stale.name.partition("-")[0]):
            shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=f"{os.getpid()}-") as folder:
        yield Path(folder)


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    stdin: str | None = None,
) -> str:
    """Run a command that may take long and does not outlive us; its output, or an error that names it and shows its last lines."""
    try:
        return lab_run.run(*command, stdin=stdin, timeout=None, under=("setpriv", "--pdeathsig", "TERM"), env=env, cwd=cwd, log=log)
    except lab_run.CommandError as error:
        raise DepotError(str(error)) from error


def digest_of(*parts: bytes | str | Path) -> str:
    """One checksum for all inputs of a thing: text as it is, files by content, each with its length so that no two lists look alike."""
    total = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode())
        total.update(data)
    return total.hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True)
class Stamp:
    """Remembers from which inputs a file or folder was made."""

    path: Path

    def read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return content if isinstance(content, dict) else {}

    def is_current(self, inputs: str, *made: Path) -> bool:
        """True when all that was made is there and was made from these inputs."""
        return self.read().get("inputs") == inputs and all(path.exists() for path in made)

    def write(self, inputs: str, **details: Any) -> None:
        """When what was made is on the disk: the remains of a power cut are never taken for the whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        on_disk(self.path.parent)
        write_atomically(self.path, json.dumps({"inputs": inputs, **details}, indent=1, sort_keys=True) + "\n")
