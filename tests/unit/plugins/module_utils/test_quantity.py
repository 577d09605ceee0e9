# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantities against what Kubernetes' own code answered (quantities/answers.jsonl, made by quantities/main.go)."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fpga.hybrid.plugins.module_utils._quantity import BINARY, DECIMAL, EXPONENT, LARGEST, NANO, Quantity, QuantityError

ANSWERS = [json.loads(line) for line in (Path(__file__).parent / "quantities" / "answers.jsonl").read_text().splitlines()]
#: Kubernetes takes the first kind for 0, and counts wrong with the second.
REFUSED_BY_US_ALONE = {".", "-.", "+", "-", "8Ei", "9.3E", "1e1000", "9223372036854775808"}
SOUND = [answer for answer in ANSWERS if not answer.get("error") and answer["input"] not in REFUSED_BY_US_ALONE]

quantities = st.builds(
    lambda sign, whole, part, suffix: f"{sign}{whole}{'.' + part if part else ''}{suffix}",
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**6),
    st.text("0123456789", max_size=4),
    st.sampled_from(["", "n", "u", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti", "e0", "e3", "E-3", "e+5"]),
)


@pytest.mark.parametrize("answer", SOUND, ids=lambda answer: repr(answer["input"]))
def test_a_quantity_is_read_and_written_as_kubernetes_does(answer):
    quantity = Quantity.parse(answer["input"])
    assert (str(quantity), quantity.notation) == (answer["canonical"], answer["format"])


@pytest.mark.parametrize("answer", [one for one in SOUND if one["input"] != "-0.1n"], ids=lambda answer: repr(answer["input"]))
def test_whole_and_milli_values_round_as_kubernetes_does(answer):
    quantity = Quantity.parse(answer["input"])
    assert quantity.value == answer.get("value", 0)
    if abs(quantity.milli_value) <= LARGEST:  # beyond, Kubernetes' own overflows
        assert quantity.milli_value == answer.get("milli", 0)


@pytest.mark.parametrize("text", [answer["input"] for answer in ANSWERS if answer.get("error")] + sorted(REFUSED_BY_US_ALONE))
def test_what_is_no_quantity_is_refused_and_quoted(text):
    with pytest.raises(QuantityError) as caught:
        Quantity.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", [True, None, [], {}, 4.5j])
def test_what_is_no_text_and_no_number_is_refused(value):
    with pytest.raises(QuantityError):
        Quantity.parse(value)


@pytest.mark.parametrize(("number", "canonical"), [(4, "4"), (0, "0"), (3.5, "3500m"), (1e22, None), (1000, "1k")])
def test_numbers_that_yaml_makes_of_unquoted_ones_are_read(number, canonical):
    if canonical is None:
        with pytest.raises(QuantityError, match="more than Kubernetes can count"):
            Quantity.parse(number)
    else:
        assert str(Quantity.parse(number)) == canonical


@given(quantities)
def test_writing_and_reading_keeps_the_amount_and_is_final(text):
    quantity = Quantity.parse(text)
    again = Quantity.parse(str(quantity))
    assert again == quantity
    assert str(again) == str(quantity)


@given(quantities, quantities)
def test_two_quantities_compare_as_their_amounts_do(one, other):
    first, second = Quantity.parse(one), Quantity.parse(other)
    assert (first < second) == (first.nanos < second.nanos)
    assert (first == second) == (first.nanos == second.nanos)
    assert first != second or hash(first) == hash(second)
    assert first + second - second == first


@given(st.integers(0, 2**40), st.sampled_from([BINARY, DECIMAL, EXPONENT]))
def test_the_canonical_form_has_no_fraction_and_the_largest_suffix(amount, notation):
    text = str(Quantity(amount * NANO, notation))
    assert "." not in text
    assert not (notation == DECIMAL and text.endswith("000"))
    assert Decimal(Quantity.parse(text).nanos) / NANO == amount


def test_the_constructors_say_their_unit():
    assert [str(q) for q in (Quantity.of(3), Quantity.milli(1500), Quantity.bytes(2048), Quantity.mebibytes(1024))] == ["3", "1500m", "2Ki", "1Gi"]
    assert Quantity.of(1) != "1"
