"""Numbers on pages: rounded for reading, whole on hover, one way everywhere."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.money import format_nanos
from merino.pages.figures import (
    amounts,
    change_text,
    count,
    count_text,
    decimals_in,
    duration_text,
    money,
    money_text,
    share_text,
)

AMOUNTS = st.integers(-(10**17), 10**17)
SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("nanos", "shown"),
    [
        (0, "$0.00"),
        (None, "–"),
        (12_500_000_000, "$12.50"),
        (1_234_567_890_000_000, "$1,234,567.89"),
        (910_000_000, "$0.91"),
        (24_500, "$0.0000245"),
        (382_031, "$0.000382"),
        (999_999_999, "$1.00"),
        (9_999_999, "$0.01"),
        (1, "$0.000000001"),
        (-11_310_000_000, "−$11.31"),
        (1_005_000_000, "$1.00"),
    ],
)
def test_amounts_as_they_are_read(nanos, shown) -> None:
    """With cents, and below one with three digits that count."""
    assert shown == money_text(nanos, "USD")


@given(AMOUNTS)
def test_an_amount_is_near_what_it_stands_for(nanos) -> None:
    """Never off by more than half its last digit, and nothing only where it is nothing."""
    text = money_text(nanos, "USD")
    shown = Decimal(text.replace("−", "-").replace("$", "").replace(",", ""))
    whole = Decimal(format_nanos(nanos))
    assert abs(shown - whole) <= max(abs(whole) * Decimal("0.0051"), 0)
    assert (shown == 0) == (whole == 0)
    assert re.fullmatch(r"−?\$(\d{1,3}(,\d{3})*)\.\d{2,9}", text)


@given(st.lists(AMOUNTS, min_size=1, max_size=9))
def test_points_of_a_column_stand_in_a_line(column) -> None:
    """Each amount's decimals and the room it is given are as many as the widest has."""
    widest = decimals_in(column)
    for nanos in column:
        cell = str(money(nanos, "EUR", widest))
        decimals = len(re.search(r"\.(\d+)</data>", cell)[1])
        room = re.search(r'data-room="(\d)"', cell)
        assert widest == decimals + int(room[1] if room else 0)


@given(AMOUNTS)
def test_the_whole_amount_is_on_hover(nanos) -> None:
    """Exactly, with its sign, and for programs as the value."""
    cell = str(money(nanos, "GBP"))
    assert f'value="{format_nanos(nanos)}"' in cell
    assert f"£{format_nanos(abs(nanos))}" in cell


def test_several_currencies_are_never_one_sum() -> None:
    """Each is told with its own sign."""
    text = re.sub("<[^>]+>", "", str(amounts({"USD": 2_000_000_000, "EUR": 1_000_000_000})))
    assert "€1.00 + $2.00" == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (9_812, "9,812"),
        (12_400, f"12.4{SPACE}k"),
        (999_960, f"1.00{SPACE}M"),
        (1_240_000, f"1.24{SPACE}M"),
        (123_456_789, f"123{SPACE}M"),
        (-20_000, f"−20.0{SPACE}k"),
        (None, "–"),
    ],
)
def test_counts_are_short(value, shown) -> None:
    """Whole below ten thousand, then three digits and a unit."""
    assert shown == count_text(value)


def test_a_short_count_is_whole_on_hover() -> None:
    """Nobody has to guess what 12.4 k stands for."""
    assert 'value="12400" title="12,400">12.4' in count(12_400)


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0.0, f"0.00{SPACE}ms"),
        (0.417, f"0.42{SPACE}ms"),
        (9.999, f"10.0{SPACE}ms"),
        (812.4, f"812{SPACE}ms"),
        (999.7, f"1.00{SPACE}s"),
        (4_251, f"4.25{SPACE}s"),
        (200_000, f"3{SPACE}min{SPACE}20{SPACE}s"),
        (7_200_000, f"2{SPACE}h"),
        (90_000_000, f"1{SPACE}d{SPACE}1{SPACE}h"),
        (None, "–"),
    ],
)
def test_durations_have_the_unit_that_fits(ms, shown) -> None:
    """Three digits, and from two minutes on two parts."""
    assert shown == duration_text(ms)


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0, "0"),
        (1.0, "100"),
        (0.034, "3.4"),
        (0.0002, f"<{SPACE}0.1"),
        (0.99999, f">{SPACE}99.9"),
        (-0.034, "−3.4"),
    ],
)
def test_a_share_never_looks_like_none_or_all(share, shown) -> None:
    """Unless it is."""
    assert f"{shown}{SPACE}%" == share_text(share)


@pytest.mark.parametrize(
    ("now", "before", "shown"),
    [
        (112, 100, f"+12{SPACE}%"),
        (97, 100, f"−3.0{SPACE}%"),
        (98.6, 100, f"−1.4{SPACE}%"),
        (5, 0, "new"),
        (0, 0, f"±0{SPACE}%"),
        (10_001, 10_000, f"±0{SPACE}%"),
        (0, 4, f"−100{SPACE}%"),
        (1_200, 100, f"×{SPACE}12"),
    ],
)
def test_changes_against_before(now, before, shown) -> None:
    """In percent; many times as much as a factor; what was not there is new."""
    assert shown == change_text(now, before)
