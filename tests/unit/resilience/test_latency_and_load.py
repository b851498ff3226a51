"""Latency statistics, the choice between two, and the adaptive limit."""

from __future__ import annotations

import random

import pytest

from merino.resilience.concurrency import AdaptiveLimit, Strain
from merino.resilience.latency import PeakEwma, RollingQuantile, better_of_two


def test_a_peak_is_seen_at_once_and_forgotten_slowly() -> None:
    """A slow answer counts in full; ten seconds of quick ones bring it down to a third."""
    ewma = PeakEwma(tau_s=10)
    ewma.observe(1.0, 0.0)
    ewma.observe(5.0, 1.0)
    assert 5.0 == ewma.value_s
    ewma.observe(1.0, 11.0)
    assert 1.0 + 4.0 * 0.367879 == pytest.approx(ewma.value_s, rel=1e-5)


def test_a_peak_fades_unseen() -> None:
    """Nobody is left alone for ever for one slow answer."""
    ewma = PeakEwma(tau_s=10)
    ewma.observe(5.0, 0.0)
    assert 5.0 == ewma.faded_s(0.0)
    assert 5.0 * 0.0497871 == pytest.approx(ewma.faded_s(30.0), rel=1e-5)


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


def test_a_quick_limit_comes_back_to_where_it_was() -> None:
    """It doubles with every round until the first overload; after that up to nine tenths of where
    that was, and then by one a round."""
    limit = AdaptiveLimit(8, quick=True, cooldown_s=1.0)
    for doubled in (16, 32, 64):
        for _ in range(limit.limit):
            limit.succeeded(limit.limit)
        assert doubled == limit.limit
    limit.overloaded(0.0)
    assert 32 == limit.limit
    for _ in range(26):
        limit.succeeded(limit.limit)
    assert 58 == limit.limit
    for _ in range(58):
        limit.succeeded(limit.limit)
    assert 58 == limit.limit
    limit.succeeded(limit.limit)
    limit.succeeded(limit.limit)
    assert 59 == limit.limit


def test_a_strained_limit_goes_down() -> None:
    """While calls wait for each other there are fewer at once; afterwards it comes back quickly to
    nine tenths of where that began, and slowly from there."""
    limit = AdaptiveLimit(100, quick=True)
    limit.strained(0.9, is_first=True)
    limit.strained(0.9, is_first=False)
    assert 81 == limit.limit
    for _ in range(9):
        limit.succeeded(90)
    assert 90 == limit.limit
    for _ in range(91):
        limit.succeeded(90)
    assert 91 == limit.limit


def test_strain() -> None:
    """A round that took twice as long as the quickest is strained, until there are fewer at once; if
    that does not help, the calls are slow by themselves."""
    strain = Strain(tolerance=2.0)

    def round_of(latency_s: float, at_once: int) -> bool:
        return [strain.observe(latency_s, at_once, 10) for _ in range(10)][-1]

    assert [False, False, True] == [round_of(each, 100) for each in (1.0, 1.9, 2.5)]
    assert strain.is_strained
    assert [True, True, False] == [round_of(2.5, at_once) for at_once in (100, 90, 81)]
    assert not strain.is_strained
    assert [False, True] == [round_of(each, 81) for each in (4.9, 5.1)]
    assert not round_of(4.0, 70), "fewer at once helped"


def test_a_few_milliseconds_are_no_strain() -> None:
    """Quick calls that take some times as long do not wait for each other by that."""
    strain = Strain()
    assert not any(strain.observe(0.02, 50, 10) for _ in range(10))
    assert not any(strain.observe(0.2, 50, 10) for _ in range(10))
    assert [False] * 9 + [True] == [strain.observe(0.3, 50, 10) for _ in range(10)]


def limits_against(latency_s, rounds: int, most: int) -> list[int]:
    """The limit after each of so many rounds; `latency_s(round, at_once)` is the upstream."""
    limit, strain = AdaptiveLimit(16, quick=True, limit_max=most), Strain()
    seen = []
    for number in range(rounds):
        at_once = limit.limit
        for _ in range(at_once):
            was_strained = strain.is_strained
            if strain.observe(latency_s(number, at_once), at_once, max(50, limit.limit)):
                limit.strained(0.9, is_first=not was_strained)
            elif not strain.is_strained:
                limit.succeeded(at_once)
        seen.append(limit.limit)
    return seen


def test_the_limit_settles_where_an_upstream_is_full() -> None:
    """Against an upstream that works on twenty at once and lets the others wait, the limit finds its
    way to a few times that, instead of growing for ever."""
    seen = limits_against(lambda _, at_once: 0.5 * max(1.0, at_once / 20), 400, 1000)
    assert 20 <= min(seen[50:])
    assert 80 >= max(seen[50:])


def test_slower_calls_are_no_strain_for_long() -> None:
    """When the calls themselves take four times as long, the limit goes down a little and comes
    back."""
    seen = limits_against(lambda number, _: 0.5 if number < 50 else 2.0, 200, 100)
    assert 70 <= min(seen[50:])
    assert 100 == seen[-1]
