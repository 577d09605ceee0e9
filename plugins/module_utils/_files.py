# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""The one way to write a file, and files that a role owns as a whole: planned first, then written, and given back at a reset."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import os
import re
import shutil
import tempfile
import typing as t

from ansible_collections.fpga.hybrid.plugins.module_utils._merged_file import MASK, masked_text

# Section of the record: {path: {by, original, mode}}, the first finding.
SECTION = "files"

_SECRET_LINE = re.compile(r"(?im)^(?P<key>\s*[\w.\"-]*(?:password|passwd|secret|token|authorization|auth|credential)[\w.\"-]*\s*[=:]\s*)\S.*$")


@dataclasses.dataclass(frozen=True)
class File:
    """A file's text and mode; a text of None is a file that isn't there."""

    text: str | None
    mode: int = 0o644

    @classmethod
    def read(cls, path: str) -> File:
        try:
            with open(path, encoding="utf-8") as file:
                return cls(file.read(), os.fstat(file.fileno()).st_mode & 0o7777)
        except FileNotFoundError:
            return cls(None)


@dataclasses.dataclass(frozen=True)
class Change:
    """One file as it is and as it should be."""

    path: str
    before: File
    after: File

    @property
    def changed(self) -> bool:
        return self.before.text != self.after.text or (self.after.text is not None and self.before.mode != self.after.mode)

    def diff(self) -> dict[str, str]:
        def header(file: File) -> str:
            return f"{self.path} (absent)" if file.text is None else f"{self.path} ({file.mode:04o})"

        before, after = hide_secrets(self.before.text or ""), hide_secrets(self.after.text or "")
        if before == after and self.before.text != self.after.text:
            after += "# (what differs is secret and not shown)\n"
        return {"before_header": header(self.before), "after_header": header(self.after), "before": before, "after": after}

    def lines(self) -> list[str]:
        """The differing lines, for an error message."""
        diff = self.diff()
        found = difflib.unified_diff(diff["before"].splitlines(), diff["after"].splitlines(), lineterm="", n=0)
        lines = [line for line in found if not line.startswith(("---", "+++", "@@"))]
        return [f"{self.path}: {line}" for line in lines or [f"mode {self.before.mode:04o} -> {self.after.mode:04o}"]]

    def apply(self) -> None:
        if not self.changed:
            return
        if self.after.text is None:
            os.unlink(self.path)
            # Folders that only held our files go with them.
            with contextlib.suppress(OSError):
                os.removedirs(os.path.dirname(self.path))
        else:
            write(self.path, self.after)


def write(path: str, file: File) -> None:
    """Replace a file in one step: whoever reads it sees the old one or the new one, with its mode from the start.

    What it holds is on the disk before it gets its name, so that after a power cut, too, it is the old one or the new one, and never empty.
    A file that is mounted by itself (/etc/hosts in a container) cannot be replaced and is written in place.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(prefix=".fpga-hybrid-", dir=folder)  # 0600
    try:
        _fill(handle, file)
        os.replace(unfinished, path)
    except OSError as error:
        os.unlink(unfinished)
        if error.errno != errno.EBUSY:
            raise
        _fill(os.open(path, os.O_WRONLY | os.O_TRUNC), file)
    except BaseException:
        os.unlink(unfinished)
        raise


def _fill(handle: int, file: File) -> None:
    # Files that we only change in part (fstab, hosts) may hold bytes that are no UTF-8.
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as out:
        out.write(file.text or "")
        out.flush()
        os.fchmod(out.fileno(), file.mode)
        os.fsync(out.fileno())


class Keeper(t.Protocol):
    """What is used of the record."""

    def section(self, name: str) -> dict[str, t.Any]: ...
    def note(self, section: str, key: str, value: t.Any) -> bool: ...
    def forget(self, section: str, key: str) -> bool: ...


def plan(owner: str, wanted: t.Mapping[str, File], record: Keeper) -> list[Change]:
    """Bring the wanted files, and take back those that this owner wrote once and no longer wants."""
    known = {path: entry for path, entry in record.section(SECTION).items() if entry["by"] == owner}
    changes = []
    for path, file in wanted.items():
        changes.append(Change(path, File.read(path), file))
    for path, entry in known.items():
        if path not in wanted:
            changes.append(Change(path, File.read(path), File(entry["original"], int(entry["mode"] or "0644", 8))))
    return changes


def remember(owner: str, wanted: t.Mapping[str, File], changes: t.Sequence[Change], record: Keeper) -> None:
    """Note what was found where we write, and forget what was given back. Before anything is written: a killed run must not lose it."""
    for change in changes:
        if change.path in wanted:
            mode = None if change.before.text is None else f"{change.before.mode:04o}"
            record.note(SECTION, change.path, {"by": owner, "original": change.before.text, "mode": mode})


def forget_returned(wanted: t.Mapping[str, File], changes: t.Sequence[Change], record: Keeper) -> None:
    """After the files were given back. A run that is killed in between gives them back once more."""
    for change in changes:
        if change.path not in wanted:
            record.forget(SECTION, change.path)


def is_empty(folder: str) -> bool:
    try:
        return not os.listdir(folder)
    except FileNotFoundError:
        return True


def clear(folder: str) -> None:
    """Remove a folder; one that is a mount point stays, empty."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    if not os.path.ismount(folder):
        os.rmdir(folder)


def hide_secrets(text: str) -> str:
    return masked_text(_SECRET_LINE.sub(rf"\g<key>{MASK}", text))
