# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""Own some keys of a configuration file that belongs to somebody else as well.

A configuration is a tree: mappings by key, everything else is a leaf (a list too: it is replaced as a whole).
What we set is remembered (``Memory``) with the text that was there before, so that a key that is no longer wanted goes back
to what it was, and a reset leaves the user's later edits alone.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import typing as t

Tree = dict[str, t.Any]
Path = tuple[str, ...]

MASK = "********"
_SECRET_KEY = re.compile(r"(?i)(password|passwd|secret|token|^auth$|authorization|credential|private.?key)")
_URL_PASSWORD = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^/\s:@\"']*:)[^/\s@\"']+@")


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a file was before us (original, None: there was none), what that meant as a tree (base), and what we set in it last."""

    original: str | None
    base: Tree
    ours: Tree

    @classmethod
    def from_record(cls, entry: t.Mapping[str, t.Any]) -> Memory:
        return cls(original=entry["original"], base=entry["base"], ours=entry["set"])

    def to_record(self) -> dict[str, t.Any]:
        return {"original": self.original, "base": self.base, "set": self.ours}


def same(one: t.Any, other: t.Any) -> bool:
    """Equal, also in type: true is not 1."""
    if isinstance(one, t.Mapping) and isinstance(other, t.Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def merge(found: t.Mapping[str, t.Any], ours: t.Mapping[str, t.Any]) -> Tree:
    """Lay our leaves over what is there; whatever we don't name stays as it is, and where it is."""
    merged = copy.deepcopy(dict(found))
    for key, value in ours.items():
        below = merged.get(key)
        if isinstance(value, t.Mapping):
            merged[key] = merge(below if isinstance(below, t.Mapping) else {}, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def leaves(tree: t.Mapping[str, t.Any], path: Path = ()) -> t.Iterator[tuple[Path, t.Any]]:
    """Every leaf with its path. An empty mapping counts as a leaf, else it would be lost."""
    for key, value in tree.items():
        if isinstance(value, t.Mapping) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


_ABSENT = object()


def _get(tree: t.Mapping[str, t.Any], path: Path) -> t.Any:
    value: t.Any = tree
    for key in path:
        if not isinstance(value, t.Mapping) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _put(tree: Tree, path: Path, value: t.Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = copy.deepcopy(value)


def _take(tree: Tree, path: Path) -> None:
    """Remove a leaf, and the mappings that thereby became empty."""
    parent = _get(tree, path[:-1]) if path[:-1] else tree
    del parent[path[-1]]
    if not parent and path[:-1]:
        _take(tree, path[:-1])


def retire(found: t.Mapping[str, t.Any], former: t.Mapping[str, t.Any], original: t.Mapping[str, t.Any], keep: t.Mapping[str, t.Any]) -> Tree:
    """Give back the leaves that we set formerly and that ``keep`` doesn't name: to what ``original`` says, or gone.

    A leaf that somebody changed after us is theirs now and stays.
    """
    tree = copy.deepcopy(dict(found))
    for path, value in leaves(former):
        if _get(keep, path) is not _ABSENT or not same(_get(tree, path), value):
            continue
        before = _get(original, path)
        if before is _ABSENT:
            _take(tree, path)
        else:
            _put(tree, path, before)
    return tree


def masked(tree: t.Any) -> t.Any:
    """The same tree fit to be shown: values below keys that sound secret, and passwords in URLs, are hidden."""
    if isinstance(tree, t.Mapping):
        return {key: MASK if _SECRET_KEY.search(str(key)) and not isinstance(value, t.Mapping) else masked(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [masked(item) for item in tree]
    return masked_text(tree) if isinstance(tree, str) else tree


def masked_text(text: str) -> str:
    return _URL_PASSWORD.sub(rf"\g<before>{MASK}@", text)


def summary(before: t.Mapping[str, t.Any], after: t.Mapping[str, t.Any]) -> list[str]:
    """The leaves that differ, one line each, secrets hidden: what an error message can show."""
    shown_before, shown_after = masked(before), masked(after)
    lines = []
    for path in dict.fromkeys([path for path, dummy in leaves(before)] + [path for path, dummy in leaves(after)]):
        old, new = _get(before, path), _get(after, path)
        if same(old, new) or any(isinstance(side, t.Mapping) and side for side in (old, new)):
            continue
        name = ".".join(path)
        old_text = "unset" if old is _ABSENT else repr(_get(shown_before, path))
        new_text = "unset" if new is _ABSENT else repr(_get(shown_after, path))
        lines.append(f"{name}: {old_text} -> {new_text}")
    return lines
