"""Charts that every page shares."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.pages.charts import (
    HEIGHT,
    WIDTH,
    Series,
    amount_bars,
    by_month,
    distribution_curve,
    histogram,
    number_text,
    over_time,
    ticks,
)

LETTER = 18 * 0.6
"""The width of a letter where the texts of a chart are largest, on small screens."""


@given(st.floats(-1e6, 1e6), st.floats(0.001, 1e6))
def test_ticks_are_round_and_inside(low, span) -> None:
    """Between two and about as many as were asked for, all within the axis."""
    found = ticks(low, low + span, 5)
    step = found[1] - found[0] if len(found) > 1 else span
    assert len(found) <= 7
    assert all(low - step * 1e-6 <= value <= low + span + step * 1e-6 for value in found)


@given(st.floats(min_value=1e-3, max_value=1e18))
def test_a_chart_from_zero_has_a_few_round_lines(most) -> None:
    """Zero, and two to five more up to the largest amount."""
    found = ticks(0, most, 5)
    assert 0.0 == found[0]
    assert 3 <= len(found) <= 6
    assert most / 2 < found[-1] <= most * (1 + 1e-6)


def test_neighbouring_ticks_are_told_apart() -> None:
    """With as many digits as their distance needs."""
    assert ["10.05", "10.10", "1,500", "0"] == [
        number_text(10.05, 0.05),
        number_text(10.1, 0.05),
        number_text(1500, 500),
        number_text(0, 0.5),
    ]


@pytest.mark.parametrize("draw", [histogram, distribution_curve])
def test_one_value_is_told_instead_of_drawn(draw) -> None:
    """An empty frame would look like a fault."""
    shown = draw("First token", "milliseconds", [("<sim>", [123.0])])
    assert "<svg" not in shown
    assert "&lt;sim&gt;: 123 milliseconds" in shown
    assert "" == draw("First token", "milliseconds", [("sim", [])])
    assert "<svg" in draw("First token", "milliseconds", [("sim", [123.0, 123.0])])


def test_one_call_has_no_course_over_time() -> None:
    """One dot tells nothing that its number does not."""
    assert "<svg" not in over_time("End to end", "milliseconds", [Series("sim", [(0.0, 9.5)])])


@given(
    most=st.integers(1, 10**15),
    months=st.integers(2, 600),
    mark=st.integers(1, 600),
)
def test_no_text_of_a_chart_leaves_it(most, months, mark) -> None:
    """However large the amounts are and whenever it pays, at the size of a small screen."""
    values = [most * month / months for month in range(months + 1)]
    shown = by_month(
        "Cost",
        [("direct", values), ("a & b", values)],
        lambda amount: f"${amount:,.0f}",
        (min(mark, months), f"pays from month {min(mark, months)}"),
    )
    figure = ET.fromstring(shown)
    assert 2 == len(list(figure.iter("li")))
    for text in figure.iter("text"):
        x, width = float(text.get("x", "0")), LETTER * len(text.text or "")
        start = {"end": x - width, "mid": x - width / 2}.get(
            (text.get("class") or "").split(" ")[-1], x
        )
        assert -2 <= start
        assert start + width <= WIDTH + 2
        assert 0 <= float(text.get("y", "0")) <= HEIGHT


@given(st.lists(st.tuples(st.text(max_size=40), st.integers(0, 10**18)), min_size=1, max_size=6))
def test_bars_are_as_long_as_their_amounts(rows) -> None:
    """The largest fills its line, nothing is none, and every name is text."""
    shown = amount_bars("Month", [(name, amount, str(amount), False) for name, amount in rows])
    assert shown.count("<li") == len(rows)
    most = max(amount for _, amount in rows)
    for (_, amount), part in zip(rows, shown.split('<rect width="')[1:], strict=True):
        width = float(part.partition('"')[0])
        assert width == pytest.approx(100 * amount / (most or 1), abs=0.41)
        assert bool(width) == bool(amount)
