"""Latency statistics, the choice between two, and the adaptive limit."""

from __future__ import annotations

import random

import pytest

from merino.resilience.concurrency import AdaptiveLimit
from merino.resilience.latency import PeakEwma, RollingQuantile, better_of_two


def test_a_peak_is_seen_at_once_and_forgotten_slowly() -> None:
    """A slow answer counts in full; ten seconds of quick ones bring it down to a third."""
    ewma = PeakEwma(tau_s=10)
    ewma.observe(1.0, 0.0)
    ewma.observe(5.0, 1.0)
    assert 5.0 == ewma.value_s
    ewma.observe(1.0, 11.0)
    assert 1.0 + 4.0 * 0.367879 == pytest.approx(ewma.value_s, rel=1e-5)


def test_a_quantile_needs_samples() -> None:
    """Nothing is claimed below the minimum; then the quantile of the last ones."""
    quantile = RollingQuantile(0.95, samples_min=20, size=100)
    for number in range(19):
        quantile.observe(number)
        assert quantile.value is None
    quantile.observe(19)
    assert 19 == quantile.value
    for _ in range(160):
        quantile.observe(1.0)
    assert 1.0 == quantile.value


def test_better_of_two() -> None:
    """The worst of many is never chosen, the others all are."""
    chance = random.Random(1)
    chosen = {better_of_two([1, 2, 3, 4], float, chance.randrange) for _ in range(200)}
    assert {1, 2, 3} == chosen
    assert 7 == better_of_two([7], float, chance.randrange)


def test_additive_increase_multiplicative_decrease() -> None:
    """Grows by one for each round of a used limit, halves on overload, once per cooldown."""
    limit = AdaptiveLimit(10, cooldown_s=1.0)
    for _ in range(11):
        limit.succeeded(in_flight=10)
    assert 11 == limit.limit
    for _ in range(100):
        limit.succeeded(in_flight=2)
    assert 11 == limit.limit, "a limit that is not used proves nothing"
    limit.overloaded(0.0)
    limit.overloaded(0.5)
    assert 5 == limit.limit
    for second in range(2, 20):
        limit.overloaded(float(second))
    assert 1 == limit.limit
