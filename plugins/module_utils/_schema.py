# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few words of JSON Schema that our own files need, for hosts that have only Python's standard library. Tests compare it with jsonschema."""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def violations(schema: Mapping[str, Any], value: object, path: str = "") -> Iterator[str]:
    """Each place where value is not as schema says, as C(path: found X, expected Y)."""
    where = path or "the document"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{where}: found {value!r}, expected {' or '.join(kinds)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: found {value!r}, expected {' or '.join(map(str, schema['enum']))}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{where}: found {value!r}, expected what matches {schema['pattern']}"
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from violations(schema.get("items", {}), item, f"{path}[{number}]")
    if isinstance(value, dict):
        yield from _members(schema, value, path)


def _members(schema: Mapping[str, Any], value: Mapping[str, Any], path: str) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    for name in schema.get("required", []):
        if name not in value:
            yield f"{path}.{name}: found nothing".lstrip(".")
    for name, member in value.items():
        inner = f"{path}.{name}".lstrip(".")
        if name in properties:
            yield from violations(properties[name], member, inner)
        elif others is False:
            yield f"{inner}: no such key, expected {', '.join(properties)}"
        else:
            yield from violations(others, member, inner)


def _is(value: object, kind: str) -> bool:
    # True is an int to Python, and a boolean only to JSON.
    return isinstance(value, _TYPES[kind]) and not (kind in ("integer", "number") and isinstance(value, bool))
