"""The status page's ninety days."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from merino.control.days import DAYS, days_of
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
