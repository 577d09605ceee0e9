# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of a chart against a recorded list of those that it knows, since helm takes any others and does nothing with them. Pure."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.fpga.hybrid.plugins.module_utils._problems import Problem

#: What a recorded value holds. map and list are free inside, any is anything.
_KINDS: dict[str, type | tuple[type, ...]] = {"map": Mapping, "list": list, "string": str, "boolean": bool, "number": (int, float)}


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy that names what was probably meant."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Perhaps {close[0]}?" if close else "Take it out."


def value_problems(variable: str, given: object, known: Mapping[str, Any], made: Mapping[str, str], path: tuple[str, ...] = ()) -> Iterator[Problem]:
    """What of a user's values the chart does not know, or would take for something else. made: a value that something else says -> what to do instead."""
    if not isinstance(given, Mapping):
        yield Problem("", ".".join((variable, *path)), f"found {given!r}", f"a mapping with keys out of {', '.join(known)}", "Mend it.")
        return
    for key, value in given.items():
        name = ".".join((*path, str(key)))
        where = f"{variable}.{name}"
        if name in made:
            yield Problem("", where, "found a value that is made", "one that is not", made[name])
        elif key not in known:
            expected = f"one of {', '.join(known)}" if path else "a key of the chart's values"
            yield Problem("", where, "the chart does not know it", expected, nearest(str(key), known))
        elif isinstance(known[key], Mapping):
            yield from value_problems(variable, value, known[key], made, (*path, str(key)))
        elif not _fits(value, known[key]):
            yield Problem("", where, f"found {value!r}", f"a {known[key]}", "Mend it.")


def _fits(value: object, kind: str) -> bool:
    return kind == "any" or (isinstance(value, _KINDS[kind]) and not (kind == "number" and isinstance(value, bool)))


def unknown(values: Mapping[str, Any], known: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """Names of values of ours that the chart does not know."""
    for key, value in values.items():
        if key not in known:
            yield ".".join((*path, key))
        elif isinstance(known[key], Mapping):
            yield from unknown(value, known[key], (*path, key))


def merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings key by key; any other value as a whole."""
    result = dict(ours)
    for key, value in theirs.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result
