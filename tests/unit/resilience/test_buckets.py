"""Token buckets and limits: what they give, in any order of events."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.limits import REQUESTS, TOKENS, Demand, Limits
from merino.resilience.buckets import LimitSet, TokenBucket, take_all, tightest

STEPS = st.lists(
    st.tuples(st.floats(0, 20, allow_nan=False), st.integers(1, 30)), min_size=1, max_size=60
)


@given(STEPS, st.integers(1, 100), st.floats(0.01, 100))
def test_never_gives_more_than_it_has(steps, capacity, refill_per_s) -> None:
    """Between any two moments a bucket gives at most its capacity and what flowed in."""
    bucket = TokenBucket(capacity, refill_per_s, now=0.0)
    now, given_at = 0.0, []
    for pause_s, permits in steps:
        now += pause_s
        if bucket.try_take(permits, now):
            given_at.append((now, permits))
    for first in range(len(given_at)):
        total = 0
        for at, permits in given_at[first:]:
            total += permits
            stretch_s = at - given_at[first][0]
            assert total <= capacity + refill_per_s * stretch_s + 1e-6


@given(st.integers(1, 1000), st.floats(0.1, 1000), st.integers(1, 1000))
def test_the_wait_is_truthful(capacity, refill_per_s, permits) -> None:
    """After the wait that a bucket names it gives; shortly before it does not."""
    bucket = TokenBucket(capacity, refill_per_s, now=0.0)
    bucket.try_take(capacity, 0.0)
    wait_s = bucket.wait_s(permits, 0.0)
    if permits > capacity:
        assert float("inf") == wait_s
        return
    assert not bucket.try_take(permits, wait_s * 0.99 - 1e-9)
    assert bucket.try_take(permits, wait_s + 1e-6)


def test_a_debt_is_paid_first() -> None:
    """What was used beyond the estimate is owed before anything more is given."""
    bucket = TokenBucket(10, 1.0, now=0.0)
    assert bucket.try_take(10, 0.0)
    bucket.give_back(-5, 0.0)
    assert 6.0 == bucket.wait_s(1, 0.0)
    assert not bucket.try_take(1, 5.9)
    assert bucket.try_take(1, 6.0)


def test_resizing_keeps_the_share() -> None:
    """A limit that changes at run time forgives nothing and takes nothing away."""
    bucket = TokenBucket(100, 1.0, now=0.0)
    bucket.try_take(75, 0.0)
    bucket.resize(200, 2.0, 0.0)
    assert 50.0 == bucket.level


def test_a_clock_that_goes_back_adds_nothing() -> None:
    """Refill never runs twice for the same time."""
    bucket = TokenBucket(10, 1.0, now=100.0)
    bucket.try_take(10, 100.0)
    assert not bucket.try_take(1, 50.0)
    assert bucket.try_take(1, 101.0)


@pytest.mark.parametrize(("capacity", "refill"), [(0, 1), (1, 0), (-1, 1)])
def test_impossible_buckets_are_refused(capacity, refill) -> None:
    """A bucket that could never give is a mistake of whoever makes it."""
    with pytest.raises(ValueError, match="above zero"):
        TokenBucket(capacity, refill, 0.0)


def buckets_of(limits: LimitSet) -> list[TokenBucket]:
    return [bucket for unit in (REQUESTS, TOKENS) for bucket in limits.buckets_of(unit)]


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 5), st.floats(0, 2)), min_size=1, max_size=80
    )
)
def test_all_or_none(steps) -> None:
    """A call that one subject refuses takes nothing from any, and in flight is what began and has
    not ended."""
    key, account = LimitSet(), LimitSet()
    key.set(Limits(rps=2, concurrency=3), 0.0)
    account.set(Limits(rpm=20, tpm=40), 0.0)
    now, running = 0.0, []
    for ends, tokens, pause_s in steps:
        now += pause_s
        if ends and running:
            taken = running.pop()
            for subject in (key, account):
                subject.end(Demand(0, taken), now)
            continue
        # Bring them up to date first: time passing is no taking.
        buckets = [each for subject in (key, account) for each in buckets_of(subject)]
        levels = [each.fill(now) for each in buckets]
        refused = take_all([key, account], Demand(1, tokens), now)
        if refused is None:
            running.append(tokens)
        else:
            assert levels == [each.level for each in buckets]
        assert len(running) == key.in_flight == account.in_flight
        assert key.in_flight <= 3
        assert min(each.level for subject in (key, account) for each in buckets_of(subject)) >= 0


def test_the_longest_wait_is_told() -> None:
    """With several limits reached the one counts that takes longest."""
    key, account = LimitSet(), LimitSet()
    key.set(Limits(rps=1), 0.0)
    account.set(Limits(rpm=1), 0.0)
    assert take_all([key, account], Demand(1, 0), 0.0) is None
    refused = take_all([key, account], Demand(1, 0), 0.0)
    assert refused is not None
    index, refusal = refused
    assert (1, "rpm", 1, 60.0) == (index, *refusal)


def test_600_a_minute_of_3000_offered() -> None:
    """Offered five times a limit for a minute, a bucket gives its capacity and its refill, evenly."""
    limits = LimitSet()
    limits.set(Limits(rpm=600), 0.0)
    admitted = []
    for number in range(3000):
        now = number * 60 / 3000
        if take_all([limits], Demand(1, 0), now) is None:
            admitted.append(now)
    assert 600 + 600 * (60 - 60 / 3000) / 60 == pytest.approx(len(admitted), rel=0.01)
    assert max(after - before for before, after in pairwise(admitted)) < 0.15


def test_the_tightest_quota_is_shown() -> None:
    """Headers describe the limit that will be reached first."""
    one, other = LimitSet(), LimitSet()
    one.set(Limits(rps=5, rpm=100), 0.0)
    other.set(Limits(rpm=3), 0.0)
    quota = tightest(
        [one.quota(REQUESTS, 0.0), other.quota(REQUESTS, 0.0), LimitSet().quota(REQUESTS, 0.0)]
    )
    assert (3, 3, 0.0) == quota
