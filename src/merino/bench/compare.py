"""Two or more targets, measured side by side in random blocks.

A machine or a network that is slower for a while slows every target then. So targets take turns in
blocks of a few calls, in an order drawn anew for each round, and differences are taken within
rounds. The interval comes from resampling whole rounds, since calls that follow one another are
not independent. Since many figures are compared at once, each interval is as wide as it must be for
all of them together to hold with 95 % (Bonferroni), and with few rounds wider (Student's t).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from merino.bench.samples import CallSample, is_good, values_of
from merino.bench.stats import CONFIDENCE, deviation, mean, quantile, student_t
from merino.domain.chance import chance_of

COMPARED = ("ttft_ms", "ttft_visible_ms", "tpot_ms", "itl_ms", "e2e_ms", "ttfb_ms")
STATISTICS = ("mean", "p50", "p90", "p99")
_Pairs = Sequence[tuple[list[float], list[float]]]
"""A round each: the baseline's values and the target's."""
_RESAMPLES = 1000
_VALUES_MAX = 4_000_000


class Difference(msgspec.Struct, kw_only=True):
    """How much more `target` has of a figure than `baseline`; negative is less. `low` and `high`
    are the interval that holds for all differences of a comparison together with 95 %."""

    metric: str
    statistic: str
    baseline: str
    target: str
    baseline_value: float
    target_value: float
    difference: float
    low: float
    high: float

    @property
    def is_seen(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    @property
    def words(self) -> str:
        if not self.is_seen:
            return "no difference seen"
        more = "slower" if self.difference > 0 else "faster"
        return f"{self.target} is {more}"


def rounds(targets: Sequence[str], count: int, seed: int = 0) -> Iterator[list[str]]:
    """The order of the targets in each round."""
    chance = chance_of(seed)
    for _ in range(count):
        order = list(targets)
        chance.shuffle(order)
        yield order


def differences(
    samples: Sequence[CallSample], baseline: str, targets: Sequence[str], seed: int = 0
) -> list[Difference]:
    """Every figure of each target against the baseline, over rounds both have good calls in."""
    by_target = {name: _by_round(samples, name) for name in (baseline, *targets)}
    compared: list[tuple[str, str, _Pairs]] = []
    for target in targets:
        shared = sorted(by_target[baseline].keys() & by_target[target].keys())
        for metric in COMPARED:
            pairs = [
                (
                    values_of(by_target[baseline][block], metric),
                    values_of(by_target[target][block], metric),
                )
                for block in shared
            ]
            pairs = [pair for pair in pairs if pair[0] and pair[1]]
            is_repeated = metric == "ttft_visible_ms" and compared and pairs == compared[-1][2]
            if len(pairs) >= 2 and not is_repeated:
                compared.append((metric, target, pairs))
    figures = len(compared) * len(STATISTICS)
    return [
        each
        for metric, target, pairs in compared
        for each in _compared(pairs, metric, baseline, target, figures, seed)
    ]


def _compared(
    pairs: _Pairs, metric: str, baseline: str, target: str, figures: int, seed: int
) -> Iterator[Difference]:
    chance = chance_of(seed)
    values = sum(len(a) + len(b) for a, b in pairs)
    # Many values tell the same with fewer drawings.
    resamples = max(200, min(_RESAMPLES, _VALUES_MAX // max(1, values)))
    drawn: dict[str, list[float]] = {name: [] for name in STATISTICS}
    for _ in range(resamples):
        first, second = _figures(chance.choices(pairs, k=len(pairs)))
        for name in STATISTICS:
            drawn[name].append(second[name] - first[name])
    first, second = _figures(pairs)
    factor = student_t(1 - (1 - CONFIDENCE) / 2 / figures, len(pairs) - 1)
    for name in STATISTICS:
        difference = second[name] - first[name]
        half = factor * deviation(drawn[name])
        yield Difference(
            metric=metric,
            statistic=name,
            baseline=baseline,
            target=target,
            baseline_value=first[name],
            target_value=second[name],
            difference=difference,
            low=difference - half,
            high=difference + half,
        )


def _figures(
    pairs: _Pairs,
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    return (
        _statistics([value for pair in pairs for value in pair[0]]),
        _statistics([value for pair in pairs for value in pair[1]]),
    )


def _statistics(values: list[float]) -> dict[str, float]:
    values.sort()
    return {
        "mean": mean(values),
        "p50": quantile(values, 0.5),
        "p90": quantile(values, 0.9),
        "p99": quantile(values, 0.99),
    }


def _by_round(samples: Sequence[CallSample], target: str) -> dict[int, list[CallSample]]:
    found: dict[int, list[CallSample]] = {}
    for each in samples:
        if each.target == target and is_good(each):
            found.setdefault(each.block, []).append(each)
    return found
