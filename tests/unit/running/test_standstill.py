"""Noticing that the process itself did not run."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from merino.running.standstill import LATE_S, Standstill

GAPS = st.lists(
    st.one_of(st.floats(0.0, LATE_S * 0.99), st.floats(LATE_S * 1.01, 1e4)), max_size=15
)


@given(GAPS, st.integers(0, 14))
def test_what_was_lost_is_what_was_not_seen(gaps, since) -> None:
    """The time lost since a moment is the sum of the long silences after it, no more and no less,
    and everybody who asked hears of each."""
    standstill = Standstill()
    heard: list[float] = []
    standstill.subscribe(lambda lost_s, now: heard.append(lost_s))
    now = 100.0
    standstill.begin(now)
    moments = [now]
    for gap in gaps:
        now += gap
        standstill.note(now)
        moments.append(now)
    long = [(begin, end) for begin, end in pairwise(moments) if end - begin >= LATE_S]
    begun = moments[min(since, len(moments) - 1)]

    assert [end - begin for begin, end in long] == heard
    expected = sum(end - begin for begin, end in long if begin >= begun)
    assert abs(expected - standstill.lost_since(begun, now)) < 1e-6


def test_only_the_part_after_a_moment_counts() -> None:
    """What began in the middle of a standstill lost the rest of it."""
    standstill = Standstill()
    standstill.begin(10.0)
    standstill.note(20.0)

    assert 4.0 == standstill.lost_since(16.0, 20.5)
    assert 0.0 == standstill.lost_since(20.0, 20.6)


def test_whoever_asks_first_notices() -> None:
    """A timer that went off late may be the first thing that runs again."""
    standstill = Standstill()
    standstill.begin(10.0)

    assert 30.0 == standstill.lost_since(10.0, 40.0)
    assert 0.0 == standstill.note(40.1)


def test_nobody_looking_is_no_standstill() -> None:
    """Before it begins and after it ended, silence means nothing."""
    standstill = Standstill()
    assert 0.0 == standstill.note(50.0)
    standstill.begin(60.0)
    standstill.end()

    assert 0.0 == standstill.lost_since(0.0, 500.0)
