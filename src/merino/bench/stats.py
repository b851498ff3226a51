"""Quantiles, means and how sure they are. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from merino.domain.chance import chance_of

CONFIDENCE = 0.95
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
RESAMPLES = 2000
_EXACT_MAX = 20_000
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true value lies with 95 % confidence."""

    low: float
    high: float


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of values in ascending order, linear between neighbours: the value at rank
    ``share * (n - 1)`` (type 7 of Hyndman and Fan, 1996, as NumPy's default)."""
    if not ordered:
        raise ValueError("no values")
    rank = share * (len(ordered) - 1)
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    """The sample standard deviation (divided by n - 1); 0 for a single value."""
    if len(values) < 2:
        return 0.0
    middle = mean(values)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1))


def quantile_interval(ordered: Sequence[float], share: float) -> Interval:
    """The percentile-bootstrap interval of a quantile, without drawing.

    A resample's k-th smallest value is at most the j-th smallest of the sample exactly when at
    least k of its n draws are: a binomial probability with success chance j / n (Efron, 1979). So
    the interval that infinitely many resamples would give can be read from the binomial
    distribution.
    """
    count = len(ordered)
    wanted = min(count, max(1, math.ceil(share * count)))
    tail = (1 - CONFIDENCE) / 2

    def at(level: float) -> float:
        low, high = 1, count
        while low < high:
            middle = (low + high) // 2
            if _at_least(wanted, count, middle / count) >= level:
                high = middle
            else:
                low = middle + 1
        return ordered[low - 1]

    return Interval(at(tail), at(1 - tail))


def mean_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """The bootstrap interval of a mean: drawn for up to 500 values, else its normal limit."""
    if len(values) > 500:
        half = _Z * deviation(values) / math.sqrt(len(values))
        middle = mean(values)
        return Interval(middle - half, middle + half)
    return bootstrap(values, mean, seed)


def bootstrap(
    units: Sequence[object],
    statistic: Callable[[Sequence[object]], float] | Callable[..., float],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """The percentile-bootstrap interval of a statistic of independent units, such as blocks."""
    chance = chance_of(seed)
    found = sorted(statistic(chance.choices(units, k=len(units))) for _ in range(resamples))
    tail = (1 - CONFIDENCE) / 2
    return Interval(quantile(found, tail), quantile(found, 1 - tail))


def student_t(share: float, degrees: int) -> float:
    """The quantile of Student's t: the normal one, corrected by the Cornish-Fisher expansion
    (Abramowitz and Stegun, 26.7.5); good to a percent from 5 degrees of freedom on."""
    z = NormalDist().inv_cdf(share)
    corrections = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees ** (power + 1) for power, term in enumerate(corrections))


def _at_least(wanted: int, count: int, chance: float) -> float:
    """How likely `wanted` or more of `count` trials succeed."""
    if chance >= 1:
        return 1.0
    if count > _EXACT_MAX:
        spread = math.sqrt(count * chance * (1 - chance))
        return 1 - NormalDist().cdf((wanted - 0.5 - count * chance) / spread)
    # From the side with fewer terms.
    log_chance, log_other = math.log(chance), math.log1p(-chance)
    log_all = math.lgamma(count + 1)

    def term(k: int) -> float:
        return math.exp(
            log_all
            - math.lgamma(k + 1)
            - math.lgamma(count - k + 1)
            + k * log_chance
            + (count - k) * log_other
        )

    # Terms beyond ten standard deviations add nothing that shows.
    reach = int(10 * math.sqrt(count * chance * (1 - chance))) + 10
    centre = int(count * chance)
    low, high = max(wanted, centre - reach), min(count, centre + reach)
    if wanted <= centre - reach:
        return 1.0
    return min(1.0, math.fsum(term(k) for k in range(low, high + 1)))
