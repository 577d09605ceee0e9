"""Evaluation of IAM identity policies: is this action on this resource, in this context, allowed? Pure.

Source: IAM User Guide, "Policy evaluation logic" and "JSON policy elements". What is not known here raises PolicyError, so that a policy
is never taken for wider or narrower than it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

#: Condition keys and what they are in this call. Keys are compared without regard to case; a list is a key with several values.
Context = Mapping[str, "str | Sequence[str]"]
Document = Mapping[str, Any]

ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
VARIABLE = re.compile(r"\$\{([^}]*)\}")


class PolicyError(Exception):
    """A policy that this evaluator can't judge."""


class _UnknownVariableError(Exception):
    """A policy variable that has no value in this call: what mentions it matches nothing."""


class Effect(Enum):
    ALLOWED = "allowed"
    IMPLICIT_DENY = "implicitDeny"
    EXPLICIT_DENY = "explicitDeny"


@dataclass(frozen=True)
class Decision:
    """statements: the Sids (or positions) of the statements that decided."""

    effect: Effect
    statements: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.effect is Effect.ALLOWED


def evaluate(documents: Iterable[Document], boundary: Document | None, action: str, resource: str, context: Context) -> Decision:
    """An explicit deny anywhere wins; else a statement must allow, and with a permissions boundary one of the boundary as well."""
    folded = {key.lower(): value for key, value in context.items()}
    allowing, denying = _matching(documents, action, resource, folded)
    if boundary is not None:
        boundary_allowing, boundary_denying = _matching([boundary], action, resource, folded)
        denying += boundary_denying
        if not boundary_allowing:
            allowing = []
    if denying:
        return Decision(Effect.EXPLICIT_DENY, tuple(denying))
    return Decision(Effect.ALLOWED, tuple(allowing)) if allowing else Decision(Effect.IMPLICIT_DENY)


def statements_of(document: Document) -> list[Mapping[str, Any]]:
    found = document.get("Statement")
    statements = [found] if isinstance(found, Mapping) else found
    if not isinstance(statements, list):
        raise PolicyError(f"a policy without a list of statements: {document!r}")
    for statement in statements:
        unknown = set(statement) - ELEMENTS
        if unknown or statement.get("Effect") not in ("Allow", "Deny"):
            raise PolicyError(f"statement {statement.get('Sid', '')}: unknown element {', '.join(sorted(unknown)) or 'Effect'}")
        if ("Action" in statement) == ("NotAction" in statement) or ("Resource" in statement) == ("NotResource" in statement):
            raise PolicyError(f"statement {statement.get('Sid', '')}: needs one of Action and NotAction, and one of Resource and NotResource")
    return statements


def _matching(documents: Iterable[Document], action: str, resource: str, context: Context) -> tuple[list[str], list[str]]:
    allowing: list[str] = []
    denying: list[str] = []
    for document in documents:
        for position, statement in enumerate(statements_of(document)):
            if _applies(statement, action, resource, context):
                (allowing if statement["Effect"] == "Allow" else denying).append(str(statement.get("Sid") or position))
    return allowing, denying


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    actions = _as_list(statement.get("Action", statement.get("NotAction")))
    if any(_like(pattern.lower(), action.lower()) for pattern in actions) != ("Action" in statement):
        return False
    named = any(_resource_matches(pattern, resource, context) for pattern in _as_list(statement.get("Resource", statement.get("NotResource"))))
    if named != ("Resource" in statement):
        return False
    return all(
        _condition(operator, key, _as_list(values), context) for operator, pairs in (statement.get("Condition") or {}).items() for key, values in pairs.items()
    )


def _resource_matches(pattern: str, resource: str, context: Context) -> bool:
    try:
        return _like(_resolved(pattern, context), resource)
    except _UnknownVariableError:
        return False


# ---- conditions


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")  # compares false with everything


def _arn_like(pattern: str, value: str) -> bool:
    """Each of an ARN's six parts is compared for itself."""
    wanted, found = pattern.split(":", 5), value.split(":", 5)
    return len(wanted) == len(found) and all(_like(part, other) for part, other in zip(wanted, found, strict=True))


#: Operator -> does the value satisfy the policy's value? Negated operators are the same comparison, turned round.
COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda pattern, value: _literal(pattern) == value,
    "StringEqualsIgnoreCase": lambda pattern, value: _literal(pattern).lower() == value.lower(),
    "StringLike": lambda pattern, value: bool(_like(pattern, value)),
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda pattern, value: _literal(pattern).lower() == value.lower(),
    "NumericEquals": lambda pattern, value: _number(value) == _number(pattern),
    "NumericLessThan": lambda pattern, value: _number(value) < _number(pattern),
    "NumericLessThanEquals": lambda pattern, value: _number(value) <= _number(pattern),
    "NumericGreaterThan": lambda pattern, value: _number(value) > _number(pattern),
    "NumericGreaterThanEquals": lambda pattern, value: _number(value) >= _number(pattern),
}
NEGATIONS = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
}


def _condition(operator: str, key: str, wanted: Sequence[str], context: Context) -> bool:
    set_operator, _, rest = operator.rpartition(":")
    name = rest.removesuffix("IfExists")
    found = context.get(key.lower())
    if name == "Null":
        return (found is None) == (str(wanted[0]).lower() == "true")
    negated = name in NEGATIONS
    comparison = COMPARISONS.get(NEGATIONS.get(name, name))
    if comparison is None or set_operator not in ("", "ForAllValues", "ForAnyValue"):
        raise PolicyError(f"condition operator {operator} is not known here")
    if found is None:
        return rest.endswith("IfExists") or set_operator == "ForAllValues" or (negated and set_operator != "ForAnyValue")
    try:
        patterns = [_resolved(str(value), context) for value in wanted]
    except _UnknownVariableError:
        return False
    values = [found] if isinstance(found, str) else list(found)
    satisfied = [any(comparison(pattern, value) for pattern in patterns) != negated for value in values]
    if set_operator == "ForAllValues" or (negated and not set_operator):
        return all(satisfied)
    return any(satisfied)


# ---- texts


#: What `${*}`, `${?}` and `${$}` stand for: the characters themselves. Lone surrogates, which no text has, keep them apart from wildcards.
ESCAPES = {"*": "\udc2a", "?": "\udc3f", "$": "\udc24"}
UNESCAPES = {ord(stand_in): character for character, stand_in in ESCAPES.items()}


def _resolved(text: str, context: Context) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] in ESCAPES:
            return ESCAPES[match[1]]
        key, comma, default = match[1].partition(",")
        found = context.get(key.strip().lower())
        if isinstance(found, str):
            return "".join(ESCAPES.get(character, character) for character in found)
        if comma:
            return default.strip().strip("'")
        raise _UnknownVariableError

    return VARIABLE.sub(value, text)


def _literal(text: str) -> str:
    return text.translate(UNESCAPES)


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    parts = (".*" if character == "*" else "." if character == "?" else re.escape(_literal(character)) for character in text)
    return re.compile("".join(parts), re.DOTALL)


def _like(pattern: str, value: str) -> bool:
    return _pattern(pattern).fullmatch(value) is not None


def _as_list(value: Any) -> list[str]:
    if value is None:
        raise PolicyError("an element without a value")
    return [str(entry).lower() if isinstance(entry, bool) else str(entry) for entry in (value if isinstance(value, list) else [value])]
