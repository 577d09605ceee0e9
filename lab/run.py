"""Running programs, with errors that say what was run and what it said."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.settings import LabError


class CommandError(LabError):
    def __init__(self, command: Sequence[str], status: int, stderr: str) -> None:
        self.status = status
        self.stderr = stderr
        super().__init__(f"{shlex.join(command[:6])}{' ...' if len(command) > 6 else ''} ended with status {status}: {stderr.strip()[-2000:]}")


def run(*command: str | Path, stdin: str | bytes | None = None, timeout: float = 600) -> str:
    """Run a program to its end and return what it wrote; CommandError if it fails or takes too long."""
    words = [str(word) for word in command]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        result = subprocess.run(words, input=data or b"", capture_output=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed: `lab/lab check` says which packages the lab needs, `lab/lab up` installs them") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(words, -1, f"no end after {timeout:.0f} s") from error
    if result.returncode:
        raise CommandError(words, result.returncode, (result.stderr or result.stdout).decode(errors="replace"))
    return result.stdout.decode(errors="replace")


def succeeds(*command: str | Path, timeout: float = 600) -> bool:
    try:
        run(*command, timeout=timeout)
    except LabError:
        return False
    return True


def say(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)


def wait_until(true: Callable[[], bool], *, seconds: float, what: str, every: float = 0.25) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise LabError(f"{what}: not after {seconds:.0f} s")
        time.sleep(every)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader, or a power cut, finds the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    os.replace(unfinished, path)
