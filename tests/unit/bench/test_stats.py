"""Quantiles and intervals, against values worked out otherwise."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.lengths import examples

from merino.bench.compare import differences, rounds
from merino.bench.samples import CallSample
from merino.bench.stats import (
    bootstrap,
    deviation,
    mean,
    mean_interval,
    quantile,
    quantile_interval,
    student_t,
)

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


@given(NUMBERS)
def test_quantiles_are_those_of_the_standard_library(values) -> None:
    """`statistics.quantiles` with its inclusive method takes the same ranks."""
    ordered = sorted(values)
    if len(values) > 1:
        expected = statistics.quantiles(ordered, n=100, method="inclusive")
        assert expected == pytest.approx([quantile(ordered, n / 100) for n in range(1, 100)])
    assert (ordered[0], ordered[-1]) == (quantile(ordered, 0), quantile(ordered, 1))


@given(NUMBERS)
def test_deviation_is_that_of_the_standard_library(values) -> None:
    """With n - 1; none for one value."""
    expected = statistics.stdev(values) if len(values) > 1 else 0.0
    assert expected == pytest.approx(deviation(values), abs=1e-6)


def test_the_exact_interval_is_what_resampling_comes_to() -> None:
    """Drawn 4,000 times, the bootstrap's interval of a quantile is the one that is computed."""
    chance = random.Random(1)
    values = sorted(chance.lognormvariate(5, 0.5) for _ in range(300))
    for share in (0.5, 0.9):
        drawn = bootstrap(values, lambda each, share=share: quantile(sorted(each), share), 2, 4000)
        exact = quantile_interval(values, share)
        assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), rel=0.02)


def test_intervals_cover_as_often_as_they_say() -> None:
    """Of 400 samples of a known distribution, about 95 % of the intervals hold its median."""
    chance = random.Random(3)
    covered = 0
    for _ in range(400):
        values = sorted(chance.expovariate(1) for _ in range(80))
        interval = quantile_interval(values, 0.5)
        covered += interval.low <= 0.6931 <= interval.high
    assert 0.91 <= covered / 400 <= 0.99


def test_the_interval_of_a_mean_covers_as_often_as_it_says() -> None:
    """The same of a mean, drawn for few values and by the normal limit for many."""
    chance = random.Random(4)
    for size, times in ((40, examples(60)), (800, examples(50))):
        covered = 0
        for number in range(times):
            interval = mean_interval([chance.gauss(10, 3) for _ in range(size)], number)
            covered += interval.low <= 10 <= interval.high
        assert covered / times >= 0.85


@pytest.mark.parametrize(
    ("share", "degrees", "expected"),
    [(0.975, 9, 2.262), (0.975, 19, 2.093), (0.999, 11, 4.025), (0.9995, 19, 3.883)],
)
def test_student_t_is_the_table_s(share, degrees, expected) -> None:
    """Values from the printed tables."""
    assert expected == pytest.approx(student_t(share, degrees), rel=0.01)


def calls(target: str, chance: random.Random, shift: float, blocks: int = 20) -> list[CallSample]:
    found = []
    for block in range(blocks):
        # A slow stretch is slow for every target.
        weather = random.Random(block).uniform(0, 0.3)
        for number in range(10):
            end = 0.2 + weather + shift + chance.lognormvariate(-3, 0.5)
            found.append(
                CallSample(
                    number=number,
                    target=target,
                    scheduled_s=0.0,
                    sent_s=0.0,
                    first_token_s=end / 2,
                    first_visible_s=end / 2,
                    end_s=end,
                    block=block,
                )
            )
    return found


def test_no_difference_is_seen_where_there_is_none() -> None:
    """Of many comparisons of a target with itself, at most a few see anything."""
    seen, times = 0, examples(10)
    for seed in range(times):
        chance = random.Random(seed)
        samples = calls("a", chance, 0) + calls("b", chance, 0)
        seen += any(each.is_seen for each in differences(samples, "a", ["b"], seed))
    assert seen <= times / 8


def test_a_small_difference_is_seen_through_the_weather() -> None:
    """20 ms are seen though rounds differ by up to 300 ms, and the interval holds them."""
    chance = random.Random(5)
    samples = calls("a", chance, 0) + calls("b", chance, 0.02)
    [found] = [
        each
        for each in differences(samples, "a", ["b"])
        if (each.metric, each.statistic) == ("e2e_ms", "mean")
    ]
    assert found.is_seen
    assert found.low <= 20 <= found.high
    assert "b is slower" == found.words


def test_rounds_have_every_target_once_in_changing_order() -> None:
    """Each round is a shuffle; the same seed gives the same order."""
    orders = list(rounds(["a", "b", "c"], 30, seed=1))
    assert {("a", "b", "c")} == {tuple(sorted(order)) for order in orders}
    assert len({tuple(order) for order in orders}) > 3
    assert orders == list(rounds(["a", "b", "c"], 30, seed=1))


def test_mean_is_exact() -> None:
    """Small values are not lost beside large ones."""
    assert 1e16 / 3 == mean([1e16, 1.0, -1.0])
