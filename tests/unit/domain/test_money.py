"""Amounts as text: exact or refused."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.money import AMOUNT_NANOS_MAX, format_nanos, parse_nanos, scaled


@given(st.integers(-AMOUNT_NANOS_MAX + 1, AMOUNT_NANOS_MAX - 1))
def test_every_amount_survives_its_text(nanos):
    """Writing and reading gives the same amount."""
    assert nanos == parse_nanos(format_nanos(nanos))


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(0, 12))
def test_scaling_is_exact_or_refused(number, decimals):
    """Never rounded, whatever the number of digits."""
    exact = Fraction(number) * 10**decimals
    is_possible = exact.denominator == 1 and abs(exact) <= 10**18
    assert (int(exact) if is_possible else None) == scaled(number, decimals, 10**18)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1.00000000000000000000000000000000000001", "more than nine decimals"),
        ("0.0000000001", "more than nine decimals"),
        ("1e1000000", "too large"),
        ("-1e999999", "too large"),
        ("1e-999999", "more than nine decimals"),
        ("4611686018.427387904", "too large"),
        ("NaN", "not a finite"),
        ("-Infinity", "not a finite"),
        ("", "not an amount"),
        ("five", "not an amount"),
    ],
)
def test_impossible_amounts_are_refused(text, told):
    """With a `ValueError` that says why; also digits beyond `Decimal`'s own precision count."""
    with pytest.raises(ValueError, match=told):
        parse_nanos(text)


def test_the_largest_amount():
    """One nano-unit below the limit is an amount."""
    assert AMOUNT_NANOS_MAX - 1 == parse_nanos("4611686018.427387903")
    assert 0 == parse_nanos(Decimal("0e99999"))
