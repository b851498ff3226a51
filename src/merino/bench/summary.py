"""From samples to figures. Everything here can be computed again from the raw samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from merino.bench.samples import INTERRUPTED, ITL, METRICS, CallSample, lag_ms
from merino.bench.slo import Objective
from merino.bench.stats import (
    PERCENTILES,
    Interval,
    deviation,
    mean,
    mean_interval,
    quantile,
    quantile_interval,
)

LATE_MS = 5.0
"""A call that is sent later than this was not sent when it was due."""
LATE_SHARE_MAX = 0.01
_INTERVALS_OF = frozenset((50.0, 90.0, 99.0))
_GAPS_INTERVAL_MAX = 2_000_000


class Distribution(msgspec.Struct, kw_only=True):
    """One metric over all good calls of a run. `percentiles` by name (`p99`); `intervals` are 95 %
    confidence intervals by bootstrap, of `mean` and some percentiles."""

    unit: str
    formula: str
    count: int
    mean: float
    deviation: float
    low: float
    high: float
    percentiles: dict[str, float]
    intervals: dict[str, tuple[float, float]]


class Verdict(msgspec.Struct, kw_only=True):
    """An objective, what was measured, and whether it was kept."""

    objective: str
    bound: float
    value: float | None
    is_met: bool


class Summary(msgspec.Struct, kw_only=True):
    """What a run of one target came to.

    `span_s`: from when the first counted call was due to the end of the last. `calls_per_s`: good
    calls / span. `output_tokens_per_s`: their output tokens / span. `goodput_per_s`: good calls
    within every objective / span. `error_share`: failed calls / counted calls.
    """

    target: str
    calls: int
    good: int
    errors: dict[str, int]
    error_details: dict[str, str]
    span_s: float
    calls_per_s: float
    output_tokens_per_s: float
    goodput_per_s: float | None
    goodput_share: float | None
    error_share: float
    retries: int
    cost_nanos: int | None
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float
    tokens_counted: int
    """Calls whose tokens the server did not report."""
    metrics: dict[str, Distribution]
    objectives: list[Verdict]
    sent_late: int = 0
    """Calls that were sent later than `LATE_MS` after they were due."""

    @property
    def was_late(self) -> bool:
        """The generator did not keep its schedule: of fewer than 100 calls, one that was late is
        more than the share that may be."""
        return self.sent_late > LATE_SHARE_MAX * self.calls

    def figures(self) -> dict[str, float]:
        """Every figure by the name that objectives and conditions use."""
        found: dict[str, float] = {}
        for name, each in self.metrics.items():
            found[f"{name}_mean"] = each.mean
            for percentile, value in each.percentiles.items():
                found[f"{name}_{percentile}"] = value
        found["calls_per_s"] = self.calls_per_s
        found["output_tokens_per_s"] = self.output_tokens_per_s
        found["error_share"] = self.error_share
        if self.goodput_per_s is not None:
            found["goodput_per_s"] = self.goodput_per_s
        if self.cost_nanos is not None:
            found["cost"] = self.cost_nanos / 1e9
        return found


def summarize(
    target: str, samples: Sequence[CallSample], objectives: Sequence[Objective] = ()
) -> Summary:
    """The figures of one target's calls; warm-up and interrupted calls are left out."""
    counted = [
        each
        for each in samples
        if each.target == target and not each.is_warmup and each.error != INTERRUPTED
    ]
    good = [each for each in counted if each.error is None]
    failed = [each for each in counted if each.error is not None]
    span_s = 0.0
    if counted:
        span_s = max(e.end_s for e in counted) - min(e.scheduled_s for e in counted)
    metrics: dict[str, Distribution] = {}
    for metric in METRICS:
        values = [value for each in good if (value := metric.of(each)) is not None]
        if values and any(values):
            metrics[metric.name] = distribution(values, metric.unit, metric.formula)
    gaps = [gap for each in good for gap in each.gaps_ms]
    if gaps:
        metrics[ITL.name] = distribution(gaps, ITL.unit, ITL.formula)
    kept = [each for each in good if all(bound.is_met_by_call(each) for bound in objectives)]
    per_call = [bound for bound in objectives if bound.statistic]
    costs = [each.cost_nanos for each in counted if each.cost_nanos is not None]
    lags = sorted(lag_ms(each) for each in counted) or [0.0]
    summary = Summary(
        target=target,
        calls=len(counted),
        good=len(good),
        errors=dict(Counter(each.error or "" for each in failed)),
        error_details=_details(failed),
        span_s=span_s,
        calls_per_s=_per(len(good), span_s),
        output_tokens_per_s=_per(sum(each.output_tokens for each in good), span_s),
        goodput_per_s=_per(len(kept), span_s) if per_call else None,
        goodput_share=_per(len(kept), len(counted)) if per_call else None,
        error_share=_per(len(failed), len(counted)),
        retries=sum(each.retries for each in counted),
        cost_nanos=sum(costs) if costs else None,
        lag_p50_ms=quantile(lags, 0.5),
        lag_p99_ms=quantile(lags, 0.99),
        lag_max_ms=lags[-1],
        sent_late=sum(lag > LATE_MS for lag in lags),
        tokens_counted=sum(each.tokens_source != "reported" for each in good),
        metrics=metrics,
        objectives=[],
    )
    figures = summary.figures()
    summary.objectives = [_verdict(each, figures) for each in objectives]
    return summary


def distribution(values: Sequence[float], unit: str, formula: str) -> Distribution:
    """Raises `ValueError` for no values."""
    ordered = sorted(values)
    intervals: dict[str, tuple[float, float]] = {"mean": _pair(mean_interval(ordered))}
    percentiles: dict[str, float] = {}
    for percentile in PERCENTILES:
        name = f"p{percentile:g}"
        percentiles[name] = quantile(ordered, percentile / 100)
        if percentile in _INTERVALS_OF and len(ordered) <= _GAPS_INTERVAL_MAX:
            intervals[name] = _pair(quantile_interval(ordered, percentile / 100))
    return Distribution(
        unit=unit,
        formula=formula,
        count=len(ordered),
        mean=mean(ordered),
        deviation=deviation(ordered),
        low=ordered[0],
        high=ordered[-1],
        percentiles=percentiles,
        intervals=intervals,
    )


def _verdict(objective: Objective, figures: Mapping[str, float]) -> Verdict:
    value = figures.get(objective.name)
    return Verdict(
        objective=objective.name,
        bound=objective.bound,
        value=value,
        is_met=value is not None and objective.is_met_by(value),
    )


def _details(failed: Sequence[CallSample]) -> dict[str, str]:
    """What the first of each kind said."""
    details: dict[str, str] = {}
    for each in failed:
        if each.error is not None and each.detail and each.error not in details:
            details[each.error] = each.detail
    return details


def _pair(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def _per(count: float, of: float) -> float:
    return count / of if of > 0 else 0.0
