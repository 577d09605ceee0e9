# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What we installed or changed on a host, and what stood there before: C(/etc/fpga-hybrid/record.json).

Two kinds of entries. C(note) keeps the *first* finding for ever (what was there before us: a later run would only find our own work).
C(put) keeps the *last* state (what we hold now). Both are replayed on the file as it is when it is saved, under a lock, so roles that work
on one host at the same time do not lose each other's entries.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import copy
import fcntl
import json
import os
import typing as t
from contextlib import contextmanager

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils._files import File

PATH = "/etc/fpga-hybrid/record.json"
SCHEMA = 1

Data = dict[str, t.Any]
Operation = tuple[str, str, str, t.Any]


class RecordError(Exception):
    """The record cannot be read or written; the message says what to do."""


class Record:
    def __init__(self, path: str, data: Data) -> None:
        self.path = path
        self._data = data
        self._operations: list[Operation] = []

    @classmethod
    def load(cls, path: str = PATH) -> Record:
        """The record as it is; an empty one when there is none."""
        return cls(path, read(path))

    def get(self, section: str, key: str, default: t.Any = None) -> t.Any:
        return copy.deepcopy(self._data.get(section, {}).get(key, default))

    def section(self, name: str) -> Data:
        return copy.deepcopy(self._data.get(name, {}))

    def note(self, section: str, key: str, value: t.Any) -> bool:
        """Write down what was found before our first change; says whether this was the first finding."""
        return self._do(("note", section, key, copy.deepcopy(value)))

    def put(self, section: str, key: str, value: t.Any) -> bool:
        """Write down what we hold now; says whether that is news."""
        return self._do(("put", section, key, copy.deepcopy(value)))

    def forget(self, section: str, key: str) -> bool:
        return self._do(("forget", section, key, None))

    @property
    def changed(self) -> bool:
        return bool(self._operations)

    def save(self) -> bool:
        """Bring the changes into the file; without changes the file is not touched."""
        if not self._operations:
            return False
        with locked(self.path):
            data = read(self.path)
            for operation in self._operations:
                apply(data, operation)
            write(self.path, data)
        self._data, self._operations = data, []
        return True

    def _do(self, operation: Operation) -> bool:
        if not apply(self._data, operation):
            return False
        self._operations.append(operation)
        return True


def apply(data: Data, operation: Operation) -> bool:
    """Do one operation on the data; says whether that changed anything."""
    kind, section, key, value = operation
    entries = data.get(section, {})
    if kind == "forget":
        if key not in entries:
            return False
        del entries[key]
        if not entries:
            del data[section]
        return True
    if key in entries and (kind == "note" or entries[key] == value):
        return False
    data.setdefault(section, {})[key] = value
    return True


def read(path: str) -> Data:
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except FileNotFoundError:
        return {"schema": SCHEMA}
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{path} cannot be read ({error}). It says what was installed here against what was found. Put a copy of it back. Without one, move it away: "
            "then everything that is on this host now counts as found, and reset.yml leaves it in place."
        ) from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise RecordError(f"{path} has schema {found}, this version of the collection knows {SCHEMA}. Use the version that wrote it, or a newer one.")
    return data


def write(path: str, data: Data) -> None:
    text = json.dumps(data, indent=2, sort_keys=True) + "\n"
    try:
        _files.write(path, File(text, 0o600))
    except OSError as error:
        raise RecordError(f"{path} cannot be written ({error}). Make room there, then run again.") from error


@contextmanager
def locked(path: str) -> t.Iterator[None]:
    """One writer at a time; the lock goes with the process, so a killed run leaves none."""
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle = os.open(os.path.join(folder, ".record.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RecordError(f"{folder} cannot be written ({error}). Make room there, then run again.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
