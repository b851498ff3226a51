"""The status page's ninety days."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.control.days import DAYS, Day, days_of, months_of
from merino.control.overview import CallSums, Outage
from merino.domain.clock import DAY_MS, HOUR_MS

TODAY = 20_000 * DAY_MS
NOW = TODAY + 6 * HOUR_MS


def test_an_outage_counts_on_every_day_it_touches() -> None:
    """Over midnight, to this moment where it goes on, and once where deployments are out together."""
    outages = [
        Outage("a", TODAY - 2 * HOUR_MS, TODAY + HOUR_MS, "5 failures in a row"),
        Outage("b", TODAY, TODAY + 2 * HOUR_MS, "slow"),
        Outage("a", NOW - HOUR_MS, None, "slow"),
    ]
    *_, before, today = days_of({}, outages, NOW)

    assert (2 * HOUR_MS, ("5 failures in a row",)) == (before.out_ms, before.causes)
    assert (3 * HOUR_MS, ("5 failures in a row", "slow")) == (today.out_ms, today.causes)


def test_days_without_calls_say_nothing() -> None:
    """A share is of calls; the caller's own mistakes are none of ours."""
    sums = {TODAY: CallSums("", calls=20, refused=10, failed=1)}
    *_, before, today = days_of(sums, [], NOW)

    assert (None, 0.9) == (before.answered_share, today.answered_share)
    assert DAYS == len(days_of(sums, [], NOW))


SPANS = st.lists(st.tuples(st.integers(0, 10 * 24), st.integers(1, 100)), max_size=12)


@given(SPANS)
def test_hours_out_are_counted_once(spans) -> None:
    """However outages overlap, a day's time out is the number of hours in which anything was."""
    outages = [
        Outage(f"d{at}", TODAY - at * HOUR_MS, TODAY - at * HOUR_MS + more * HOUR_MS, "")
        for at, more in spans
    ]
    hours = {
        hour
        for at, more in spans
        for hour in range(-at, -at + more)
        if TODAY + hour * HOUR_MS < NOW
    }

    for day in days_of({}, outages, NOW, 11):
        first = (day.at_ms - TODAY) // HOUR_MS
        expected = len(hours & set(range(first, first + 24)))
        assert expected * HOUR_MS == day.out_ms


@pytest.mark.parametrize(
    ("share", "out_ms", "grade"),
    [
        (None, 0, "none"),
        (1.0, 0, "good"),
        (0.995, 0, "good"),
        (0.994, 0, "warn"),
        (0.976, 0, "warn"),
        (0.974, 0, "bad"),
        (0.0, 0, "bad"),
        (1.0, 1, "warn"),
        (None, 1, "warn"),
    ],
)
def test_a_day_is_graded_by_what_was_promised(share, out_ms, grade):
    """Amber below the objective or while a deployment was out, red five times as far below."""
    assert grade == Day(0, 10, share, out_ms, ()).grade(0.995)


def test_a_month_is_the_sum_of_its_days():
    """By calls, not by days; a month without calls is not there; the newest comes first."""
    sums = {
        _at(2026, 9, 30): CallSums("", calls=10),
        _at(2026, 11, 1): CallSums("", calls=90, failed=9),
        _at(2026, 11, 2): CallSums("", calls=20, refused=10),
    }
    found = [(each.name, each.calls, each.answered_share) for each in months_of(sums)]
    assert [("2026-11", 110, 0.91), ("2026-09", 10, 1.0)] == found


def _at(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000)
