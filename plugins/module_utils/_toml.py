# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection.
"""Read and write TOML with what a host's Python has.

Reading: tomllib (Python 3.11 and later), else python3-tomli, which Ubuntu 22.04 packages. Writing: Python has nothing of its own,
so here is the subset of layouts that containerd's files need, all value types included: ``loads(dumps(tree)) == tree``.
"""

from __future__ import annotations

import datetime
import re
import typing as t

Tree = dict[str, t.Any]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


class TomlError(ValueError):
    """The text is no TOML, the tree cannot be written as TOML, or this Python cannot read TOML."""


def loads(text: str) -> Tree:
    """Parse TOML. Raises TomlError with line and column as the parser names them."""
    try:
        import tomllib as parser  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            import tomli as parser  # type: ignore[import-not-found,no-redef,unused-ignore]
        except ImportError:
            raise TomlError("this host's Python is older than 3.11 and cannot read TOML: install the package python3-tomli") from None
    try:
        tree: Tree = parser.loads(text)
    except ValueError as error:  # TOMLDecodeError is one
        raise TomlError(str(error)) from error
    return tree


def dumps(tree: t.Mapping[str, t.Any]) -> str:
    """Write a tree, in its own order, scalars before tables. The same tree always gives the same text."""
    lines: list[str] = []
    _table(tree, (), lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(table: t.Mapping[str, t.Any], path: tuple[str, ...], lines: list[str]) -> None:
    subtables = {key: value for key, value in table.items() if isinstance(value, t.Mapping)}
    scalars = {key: value for key, value in table.items() if key not in subtables}
    # A table that only holds tables is implied by them.
    if path and (scalars or not subtables):
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
    lines += [f"{_key(key)} = {_value(value, (*path, key))}" for key, value in scalars.items()]
    for key, value in subtables.items():
        _table(value, (*path, key), lines)


def _key(key: str) -> str:
    if not isinstance(key, str):
        raise TomlError(f"key {key!r} is no text")
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(char) or (f"\\u{ord(char):04x}" if ord(char) < 0x20 or ord(char) == 0x7F else char) for char in text) + '"'


def _value(value: t.Any, path: tuple[str, ...]) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (bool, int, float)):  # str() of a bool and of an Ansible subclass differs from TOML's spelling
        return str(bool(value)).lower() if isinstance(value, bool) else repr(float(value) if isinstance(value, float) else int(value))
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item, path) for item in value) + "]"
    if isinstance(value, t.Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(item, (*path, key))}" for key, item in value.items()) + "}"
    raise TomlError(f"{'.'.join(path)}: {value!r} has no form in TOML")
