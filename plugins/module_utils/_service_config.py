# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""One way to configure a container engine that may have been there before us, for containerd and for Docker.

A plan says all that would change; the same plan is what check mode shows and what a real run does.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.fpga.hybrid.plugins.module_utils import _files
from ansible_collections.fpga.hybrid.plugins.module_utils._files import Change, File
from ansible_collections.fpga.hybrid.plugins.module_utils._merged_file import Memory, Tree, masked, merge, retire, same, summary
from ansible_collections.fpga.hybrid.plugins.module_utils._record import Record
from ansible_collections.fpga.hybrid.plugins.module_utils._runtime import EngineError, Unit

# Sections of the record: {path: Memory}; {owner: {folder: was it empty before we started the service for the first time?}}
MERGED = "merged_files"
DATA = "data"


def service_argument_spec() -> dict[str, dict[str, t.Any]]:
    """The options that the modules for engines share; documented in the fragment C(fpga.hybrid.service_config)."""
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "service_overrides": {"type": "dict", "default": {}},
        "proxy": {"type": "dict", "default": {}, "options": {"http": {"type": "str"}, "https": {"type": "str"}}},
        "no_proxy": {"type": "list", "elements": "str", "default": []},
        "remove_data": {"type": "bool", "default": False},
        "allow_disruption": {"type": "bool", "default": False},
    }


@dataclasses.dataclass(frozen=True)
class Format:
    """How a configuration file is read and written. parse raises ValueError, render gets a tree that parse gave, merged."""

    parse: t.Callable[[str], Tree]
    render: t.Callable[[Tree], str]


@dataclasses.dataclass(frozen=True)
class Merged:
    """A configuration file of which some keys are ours: as trees, and as text."""

    path: str
    found: Tree
    tree: Tree
    change: Change
    memory: Memory | None  # what is to be remembered; None: to be forgotten

    def diff(self, form: Format) -> dict[str, str]:
        """Both sides in one layout, so that only what differs in meaning is shown, without secrets."""
        if self.change.after.text is None or not self.change.changed:
            return self.change.diff()
        shown = Change(
            self.path,
            File(None if self.change.before.text is None else form.render(masked(self.found)), self.change.before.mode),
            File(form.render(masked(self.tree)), self.change.after.mode),
        )
        diff = shown.diff()
        return {**diff, "after": diff["after"] + "# (what differs is secret and not shown)\n"} if diff["before"] == diff["after"] else diff


def read_tree(path: str, form: Format) -> tuple[File, Tree]:
    file = File.read(path)
    try:
        return file, form.parse(file.text or "")
    except ValueError as error:
        raise EngineError(f"{path} cannot be read: {error}. Mend it, or move it away, then run again. Nothing was changed.") from error


def plan_merged(path: str, file: File, found: Tree, wanted: t.Callable[[Tree], Tree], *, form: Format, record: Record) -> Merged:
    """found: what the file says, in today's schema. wanted: our part of it, given what is there."""
    entry = record.get(MERGED, path)
    memory = Memory.from_record(entry) if entry else Memory(original=file.text, base=found, ours={})
    ours = wanted(found)
    tree = merge(retire(found, memory.ours, memory.base, keep=ours), ours)
    text = file.text if file.text is not None and same(tree, found) else form.render(tree)
    return Merged(path, found, tree, Change(path, file, File(text, file.mode)), Memory(memory.original, memory.base, ours))


def plan_given_back(path: str, form: Format, record: Record, keep: t.Sequence[str] = ()) -> Merged | None:
    """The file without our keys: its very text of before, if nobody else has changed it since. ``keep``: keys that say how to read the rest."""
    entry = record.get(MERGED, path)
    if not entry:
        return None
    memory = Memory.from_record(entry)
    file, found = read_tree(path, form)
    tree = retire(found, memory.ours, memory.base, keep={})
    if same(tree, memory.base) or file.text is None:
        return Merged(path, found, memory.base, Change(path, file, File(memory.original, file.mode)), None)
    tree = {**{key: found[key] for key in keep if key in found}, **tree}
    return Merged(path, found, tree, Change(path, file, File(form.render(tree), file.mode)), None)


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that changes for one service."""

    unit: Unit
    merged: Merged | None
    files: tuple[Change, ...]
    wanted: t.Mapping[str, File]
    owner: str
    form: Format
    read_live: t.Callable[[str], bool]  # files that the running service reads again by itself
    data: tuple[str, ...] = ()  # folders that the service fills
    remove_data: bool = False

    @property
    def _all(self) -> list[Change]:
        return [*([self.merged.change] if self.merged else []), *self.files]

    @property
    def changes(self) -> list[Change]:
        return [change for change in self._all if change.changed]

    def doomed(self, record: Record) -> list[str]:
        """Data that came after us, and go now."""
        return [folder for folder, was_empty in record.get(DATA, self.owner, {}).items() if self.remove_data and was_empty and not _files.is_empty(folder)]

    @property
    def unit_changed(self) -> bool:
        return self.unit.needs_reload or any(change.path.startswith("/etc/systemd/") for change in self.changes)

    @property
    def stale(self) -> list[str]:
        """Files that the running service hasn't read yet: a run was killed before it restarted the service."""
        if not self.unit.active:
            return []
        return self.unit.older_than(change.path for change in self._all if not change.changed and not self.read_live(change.path))

    @property
    def restart_needed(self) -> bool:
        return self.unit.active and (bool(self.stale) or any(not self.read_live(change.path) for change in self.changes))

    @property
    def start_needed(self) -> bool:
        """Whether the service is to be started, enabled or restarted at all."""
        return not self.unit.settled or self.unit_changed or self.restart_needed

    def differences(self) -> list[str]:
        """What makes a restart necessary."""
        lines = []
        for change in self.changes:
            if self.read_live(change.path):
                continue
            if self.merged and change is self.merged.change:
                lines += [f"{change.path}: {line}" for line in summary(self.merged.found, self.merged.tree)]
            else:
                lines += change.lines()
        return lines + [f"{path}: written after the service started, which therefore hasn't read it" for path in self.stale]

    def diff(self, record: Record) -> list[dict[str, str]]:
        stored = "what the service stored since we installed it\n"
        gone = [{"before_header": folder, "after_header": folder, "before": stored, "after": ""} for folder in self.doomed(record)]
        return gone + [self.merged.diff(self.form) if self.merged and change is self.merged.change else change.diff() for change in self.changes]

    def apply(self, record: Record) -> None:
        """What was found is remembered before anything is written, and forgotten after everything was given back."""
        if self.merged and self.merged.memory:
            record.put(MERGED, self.merged.path, self.merged.memory.to_record())
            known = record.get(DATA, self.owner, {})
            record.put(DATA, self.owner, {**{folder: _files.is_empty(folder) for folder in self.data}, **known})
        _files.remember(self.owner, self.wanted, self.files, record)
        record.save()
        for change in self.changes:
            change.apply()
        for folder in self.doomed(record):
            _files.clear(folder)
        if self.remove_data:
            record.forget(DATA, self.owner)
        if self.merged and not self.merged.memory:
            record.forget(MERGED, self.merged.path)
        _files.forget_returned(self.wanted, self.files, record)
        record.save()
