# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantities of resources as Kubernetes reads, compares and writes them.

Source: k8s.io/apimachinery pkg/api/resource (quantity.go, suffix.go); tests compare with what it answers. Three differences, all refusals:
texts without a digit (Kubernetes takes them for 0), amounts over 2^63 - 1 (Kubernetes caps some and lets others wrap), exponents out of all reason.
"""

# This module_utils file is PRIVATE to the collection.

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

BINARY, DECIMAL, EXPONENT = "BinarySI", "DecimalSI", "DecimalExponent"
#: The smallest part of a unit that Kubernetes knows; what is smaller is rounded up, away from zero.
NANO = 10**9
LARGEST = 2**63 - 1

_DECIMAL_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_NAMES = {exponent: suffix for suffix, exponent in _DECIMAL_SUFFIXES.items()}
_BINARY_NAMES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_QUANTITY = re.compile(r"(?P<sign>[+-]?)(?P<whole>[0-9]*)\.?(?P<part>[0-9]*)(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3}|)", re.ASCII)


class QuantityError(ValueError):
    """The text is no quantity; the message quotes it."""


@total_ordering
@dataclass(frozen=True, eq=False)
class Quantity:
    """An exact amount, in billionths of its unit (a core, a byte, a device), and the notation that it is written in."""

    nanos: int
    notation: str = DECIMAL

    @classmethod
    def parse(cls, value: object) -> Quantity:
        """From text, or from the number that YAML makes of an unquoted one."""
        text = str(value)
        match = _QUANTITY.fullmatch(text) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
        if match is None or not (match["whole"] or match["part"]):
            raise QuantityError(f"{value!r} is no quantity such as 4, 500m, 1.5 or 64Gi")
        digits, suffix = int(match["whole"] + match["part"]), match["suffix"]
        notation, power, exponent = _scale(suffix)
        numerator = digits * power * NANO * 10 ** max(exponent, 0)
        denominator = 10 ** (len(match["part"]) + max(-exponent, 0))
        nanos = -(-numerator // denominator)
        if nanos > LARGEST * NANO:
            raise QuantityError(f"{value!r} is more than Kubernetes can count, which is {LARGEST}")
        if notation == BINARY and 0 < nanos < NANO:
            notation = DECIMAL
        return cls(-nanos if match["sign"] == "-" else nanos, notation)

    @classmethod
    def of(cls, amount: int) -> Quantity:
        """A whole number of devices, pods or cores."""
        return cls(amount * NANO)

    @classmethod
    def milli(cls, amount: int) -> Quantity:
        return cls(amount * NANO // 1000)

    @classmethod
    def bytes(cls, amount: int) -> Quantity:
        return cls(amount * NANO, BINARY)

    @classmethod
    def mebibytes(cls, amount: int) -> Quantity:
        return cls.bytes(amount * 2**20)

    @property
    def value(self) -> int:
        """In whole units, a part of one counting as one, as the scheduler takes it."""
        return -(-self.nanos // NANO) if self.nanos >= 0 else self.nanos // NANO

    @property
    def milli_value(self) -> int:
        part = NANO // 1000
        return -(-self.nanos // part) if self.nanos >= 0 else self.nanos // part

    @property
    def is_whole(self) -> bool:
        return self.nanos % NANO == 0

    def __str__(self) -> str:
        """The canonical form: no fraction, the largest suffix that keeps it whole."""
        if self.nanos == 0:
            return "0"
        if self.notation == BINARY and self.is_whole and abs(self.nanos) >= 1024 * NANO:
            number, power = self.nanos // NANO, 0
            while number % 1024 == 0 and power + 1 < len(_BINARY_NAMES):
                number, power = number // 1024, power + 1
            return f"{number}{_BINARY_NAMES[power]}"
        number, exponent = self.nanos, -9
        while number % 1000 == 0 and exponent < max(_DECIMAL_NAMES):
            number, exponent = number // 1000, exponent + 3
        if self.notation == EXPONENT:
            return f"{number}e{exponent}" if exponent else str(number)
        return f"{number}{_DECIMAL_NAMES[exponent]}"

    def __eq__(self, other: object) -> bool:
        return self.nanos == other.nanos if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: Quantity) -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos + other.nanos, self.notation)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos - other.nanos, self.notation)


def _scale(suffix: str) -> tuple[str, int, int]:
    """Notation, factor, and decimal exponent of a suffix."""
    if suffix in _DECIMAL_SUFFIXES:
        return DECIMAL, 1, _DECIMAL_SUFFIXES[suffix]
    if suffix in _BINARY_NAMES:
        return BINARY, 1024 ** _BINARY_NAMES.index(suffix), 0
    return EXPONENT, 1, int(suffix[1:])
