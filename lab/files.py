"""Files that nobody ever sees half of."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def write_atomically(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """A reader, or a power cut, finds the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(descriptor)
    os.chmod(temporary, mode)
    temporary.replace(path)


def put_in_place(made: Path, target: Path) -> None:
    """A file or folder under its final name, where the same file system has it already: all of it is on the disk before the name is, which a rename alone
    does not promise.
    """
    on_disk(made)
    made.replace(target)


def on_disk(path: Path) -> None:
    """Have all that the path's file system was given on its disk."""
    subprocess.run(["sync", "--file-system", path], check=True)
