"""What was used, cut and compared: which times there are, what stands on what, what moved."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.control.overview import CallSums
from merino.control.usage import (
    SLOTS_MAX,
    Spread,
    UsageRow,
    changes,
    given_span,
    named_span,
    stacked,
    step_of,
)

DAY_MS = 86_400_000
NAMES = ("1h", "24h", "7d", "30d", "90d", "month", "last_month")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def row(name: str, nanos: int, slot_ms: int = 0, currency: str = "USD", calls: int = 1) -> UsageRow:
    return UsageRow(
        slot_ms, tuple(name.split("/")), currency, CallSums("", calls, charged_nanos=nanos)
    )


@given(st.integers(at("2020-01-01"), at("2040-01-01")), st.sampled_from(NAMES))
def test_every_time_that_has_a_name(now_ms, name) -> None:
    """It has slots enough to see something and few enough to be seen; they cover it; what it is
    compared with is as long at most, and before it."""
    span = named_span(name, now_ms)
    slots = span.slots
    assert 1 <= len(slots) <= SLOTS_MAX + 1
    assert slots[0] <= span.since_ms < span.until_ms <= slots[-1] + span.slot_ms
    assert span.before_since_ms < span.before_until_ms <= span.until_ms
    if name != "last_month":  # February is compared with all of January
        assert span.before_until_ms - span.before_since_ms <= span.until_ms - span.since_ms


@given(st.integers(0, 4 * 10**12), st.integers(1, 3 * 366 * DAY_MS))
def test_any_time_is_beside_as_long_a_time_right_before(since_ms, length_ms) -> None:
    """Without a gap between the two."""
    span = given_span(since_ms, since_ms + length_ms)
    assert span.since_ms == span.before_until_ms
    assert length_ms == span.before_until_ms - span.before_since_ms
    assert len(span.slots) <= 2 * SLOTS_MAX


def test_a_month_is_compared_with_as_much_of_the_last() -> None:
    """On the 10th at noon with the last month until its 10th at noon; on the 31st of a month after
    a short one with all of that."""
    span = named_span("month", at("2026-11-10T12:00"))
    assert (at("2026-11-01"), at("2026-10-01")) == (span.since_ms, span.before_since_ms)
    assert at("2026-10-10T12:00") + 1 == span.before_until_ms
    assert at("2026-03-01") == named_span("month", at("2026-03-31T12:00")).before_until_ms
    last = named_span("last_month", at("2026-01-05"))
    assert (at("2025-12-01"), at("2026-01-01")) == (last.since_ms, last.until_ms)


def test_no_time_of_another_name() -> None:
    """Rather than a guess."""
    assert None is named_span("year", 0)


def test_the_largest_have_a_stack_and_the_others_one_together() -> None:
    """In order of their size; one group more than there is room for is shown itself."""
    rows = [row(f"m{n}", 10**9 * n, slot) for n in range(1, 8) for slot in (0, DAY_MS)]
    found = stacked(rows, [0, DAY_MS], "spend", 3)
    assert ["m7", "m6", "m5", None] == [each.name for each in found]
    assert (4, [10**10, 10**10]) == (found[-1].groups, list(found[-1].values))
    assert None not in [each.name for each in stacked(rows, [0, DAY_MS], "spend", 6)]


def test_what_changed_most() -> None:
    """By size, up or down, with its part of the whole change; what did not move is left out."""
    now = [row("a/x", 100), row("b/x", 50), row("c/x", 7)]
    before = [row("a/x", 20), row("b/x", 90), row("c/x", 7)]
    found = changes(now, before, "spend", 5)
    assert [("a", 80, 2.0), ("b", -40, -1.0)] == [(e.group[0], e.by, e.share) for e in found]
    assert [] == changes(now, now, "spend", 5)
    assert [None] * 2 == [e.share for e in changes([row("a/x", 1)], [row("b/x", 1)], "spend", 5)]


@given(st.lists(st.floats(0.01, 1e7), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_percentiles_are_near_those_of_the_times(times, share) -> None:
    """Within a step, which is a fourth of a doubling; never beyond the slowest."""
    steps: dict[int, int] = {}
    for each in times:
        steps[step_of(each)] = steps.get(step_of(each), 0) + 1
    found = Spread(steps).at(share)
    assert found is not None
    ordered = sorted(max(1.0, each) for each in times)
    near = [ordered[min(len(ordered) - 1, int(share * len(ordered)) + n)] for n in (-1, 0)]
    assert min(near) / 1.2 <= found or len(times) == 1
    assert found <= ordered[-1] * 1.2


@pytest.mark.parametrize("steps", [{}, {3: 0}])
def test_of_no_calls_nothing_is_told(steps) -> None:
    """A zero would be a time."""
    assert None is Spread(steps).at(0.5)
