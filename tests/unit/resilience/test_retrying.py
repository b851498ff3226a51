"""Backoff, retry budgets and deadlines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from merino.resilience.backoff import full_jitter_s, wait_s
from merino.resilience.deadline import Deadline
from merino.resilience.retry_budget import RetryBudget


@given(st.integers(0, 10_000), st.floats(0.001, 10), st.floats(0.001, 100), st.floats(0, 1))
def test_backoff_stays_in_bounds(retry, base_s, max_s, luck) -> None:
    """A wait is never negative, never above the cap, never above the doubled base; no overflow."""
    drawn = full_jitter_s(
        retry, base_s=base_s, max_s=max_s, uniform=lambda low, high: low + luck * (high - low)
    )
    assert 0 <= drawn <= max_s
    if retry < 50:
        assert drawn <= base_s * 2**retry


def test_the_server_sets_the_least() -> None:
    """`Retry-After` is a lower bound, also above the cap."""

    def wait(retry_after_s):
        return wait_s(
            0, base_s=1, max_s=2, retry_after_s=retry_after_s, uniform=lambda low, high: high
        )

    assert (1, 1, 30) == (wait(None), wait(0.5), wait(30))


@given(
    st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200),
    st.sampled_from([0.0, 0.05, 0.2, 1.0]),
    st.integers(0, 20),
)
def test_a_retry_budget_is_kept(events, share, reserve) -> None:
    """Over any stretch, retries stay within the share of calls, the reserve and one burst."""
    budget = RetryBudget(share, reserve, 0.0)
    now, log = 0.0, []
    for pause_s, is_call in events:
        now += pause_s
        if is_call:
            budget.call()
            log.append((now, "call"))
        elif budget.try_take(now):
            log.append((now, "retry"))
    for first in range(len(log)):
        calls = sum(kind == "call" for _, kind in log[first:])
        retries = sum(kind == "retry" for _, kind in log[first:])
        stretch_s = log[-1][0] - log[first][0]
        assert retries <= share * calls + reserve * (stretch_s / 10 + 1) + max(reserve, 10) + 1e-6


def test_an_outage_is_not_made_worse() -> None:
    """When everything fails, a budget of a fifth lets a fifth of the calls try again."""
    budget = RetryBudget(0.2, 3, 0.0)
    retries = 0
    for number in range(10_000):
        budget.call()
        retries += budget.try_take(number / 200)
    assert 2000 <= retries <= 2000 + 3 + 3 * 50 / 10 + 10


def test_a_deadline() -> None:
    """It says what is left and whether a wait still fits; without one, everything does."""
    deadline = Deadline.after(10, now=100)
    assert (4, 0) == (deadline.remaining_s(106), deadline.remaining_s(200))
    assert (True, False) == (deadline.allows(3, 106), deadline.allows(4, 106))
    assert (False, True) == (deadline.is_over(109), deadline.is_over(110))
    assert Deadline.after(None, 0).allows(1e9, 0)
