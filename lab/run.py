"""Running programs, with errors that say what was run and what it said."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab.settings import LabError


class CommandError(LabError):
    def __init__(self, command: Sequence[str], status: int, output: str, log: Path | None = None) -> None:
        self.status = status
        self.stderr = output
        shown = f"{shlex.join(command[:6])}{' ...' if len(command) > 6 else ''}"
        super().__init__(f"{shown} ended with status {status}{f' (all of it: {log})' if log else ''}: {output.strip()[-2000:]}")


def run(
    *command: str | Path,
    stdin: str | bytes | None = None,
    timeout: float | None = 600,
    under: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
) -> str:
    """Run a program to its end and return what it wrote; CommandError if it fails or takes too long.

    under: a program that runs it (setpriv, nice) and is not named in errors. log: a file for all that it writes.
    """
    words = [str(word) for word in command]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        result = subprocess.run([*under, *words], input=data or b"", capture_output=True, timeout=timeout, env=env, cwd=cwd, check=False)
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed: `lab/lab check` says which packages the lab needs, `lab/lab up` installs them") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(words, -1, f"no end after {timeout:.0f} s") from error
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(result.stdout + result.stderr)
    if result.returncode:
        raise CommandError(words, result.returncode, (result.stderr or result.stdout).decode(errors="replace"), log)
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
