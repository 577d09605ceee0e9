# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site's own repository: what may be written into it without taking anything of the user's away.

PRIVATE to the collection.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

STATE = ".fpga-hybrid.json"  # what we wrote last, so that an edited file can be told from an old one
IGNORED = frozenset({".git"})  # a repository that was just made, and has nothing in it yet


class SiteRepositoryError(Exception):
    """A destination that we must not touch; the text says what to do."""


@dataclass(frozen=True)
class Plan:
    """What happens to each path (relative to the destination)."""

    create: tuple[str, ...]
    update: tuple[str, ...]
    edited: tuple[str, ...]  # differs from what we wrote: the user's, left alone
    removed: tuple[str, ...]  # the user took it away: stays away
    same: tuple[str, ...]

    @property
    def write(self) -> tuple[str, ...]:
        return (*self.create, *self.update)


def digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def make_plan(wanted: Mapping[str, str], found: Mapping[str, str], written: Mapping[str, str]) -> Plan:
    """wanted, found: {path: content}; written: {path: digest} of what an earlier run wrote."""
    fates: dict[str, list[str]] = {"create": [], "update": [], "edited": [], "removed": [], "same": []}
    for path in sorted(wanted):
        if path not in found:
            fate = "removed" if path in written else "create"
        elif found[path] == wanted[path]:
            fate = "same"
        elif digest(found[path]) == written.get(path):
            fate = "update"
        else:
            fate = "edited"
        fates[fate].append(path)
    return Plan(**{fate: tuple(paths) for fate, paths in fates.items()})


def next_state(version: str, wanted: Mapping[str, str], plan: Plan, written: Mapping[str, str]) -> str:
    """The state file's text after the plan. An edited file keeps the digest of what we once wrote."""
    digests = {**written, **{path: digest(wanted[path]) for path in (*plan.write, *plan.same)}}
    return json.dumps({"collection": f"fpga.hybrid {version}", "written": dict(sorted(digests.items()))}, indent=2) + "\n"


def read_written(dest: Path) -> dict[str, str]:
    """Digests of what an earlier run wrote here. Raises SiteRepositoryError if the folder is somebody else's."""
    state = dest / STATE
    if state.is_file():
        try:
            written = json.loads(state.read_text(encoding="utf-8"))["written"]
            return {str(path): str(value) for path, value in written.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SiteRepositoryError(f"{state} is damaged ({error}). Restore it from your repository's history, then run this again.") from error
    if dest.exists() and not dest.is_dir():
        raise SiteRepositoryError(f"{dest} is a file. Give dest a folder that is empty or does not exist yet.")
    others = sorted(entry.name for entry in dest.iterdir() if entry.name not in IGNORED) if dest.is_dir() else []
    if others:
        raise SiteRepositoryError(
            f"{dest} is not empty ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''}) and was not made by fpga.hybrid.init. "
            "Give dest a folder that is empty or does not exist yet."
        )
    return {}


def read_found(dest: Path, paths: Mapping[str, str]) -> dict[str, str]:
    """What stands at the paths now. What is no plain readable text (a link, a folder) counts as edited, so it is never replaced."""
    found = {}
    for path in paths:
        target = dest / path
        if target.is_symlink() or target.is_dir():
            found[path] = "\0not a plain file"
        elif target.exists():
            found[path] = target.read_text(encoding="utf-8", errors="replace")
    return found


def read_tree(folder: Path) -> dict[str, str]:
    """{relative path: content} of every file below a folder, hidden ones and editors' copies left out."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    relative = [(path, path.relative_to(folder)) for path in files]
    return {
        str(name): path.read_text(encoding="utf-8") for path, name in relative if not any(part.startswith(".") or part.endswith("~") for part in name.parts)
    }


def settle(wanted: Mapping[str, str]) -> dict[str, str]:
    """Move X/all.yml to X/all/main.yml where there is a folder X/all as well: Ansible would read the folder and silently pass over the file."""
    folders = {str(parent) for path in wanted for parent in PurePosixPath(path).parents}
    return {(f"{path[:-4]}/main.yml" if path.endswith(".yml") and path[:-4] in folders else path): content for path, content in wanted.items()}
