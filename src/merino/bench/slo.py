"""What a run must keep to, and what a comparison may not exceed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merino.bench.samples import BY_NAME, ITL, CallSample
from merino.bench.stats import mean, quantile

STATISTICS = ("mean", "p50", "p90", "p95", "p99", "p99.9")
RUN_FIGURES = ("calls_per_s", "output_tokens_per_s", "goodput_per_s", "error_share", "cost")
"""Figures of a run as a whole, which have no percentile."""
_HIGHER_IS_BETTER = frozenset(
    ("tokens_per_s", "calls_per_s", "output_tokens_per_s", "goodput_per_s")
)
OF_STREAMS = frozenset(("ttft_ms", "ttft_visible_ms", "tpot_ms", "itl_ms"))
"""Only an answer that is streamed has these."""
_OF_TOKENS = OF_STREAMS | {"tokens_per_s"}
_FAIL_IF = re.compile(
    r"\s*(?P<name>[a-z0-9_.]+)\s*(?P<sign>[<>])\s*(?P<change>[+-]?[0-9.]+)\s*(?P<percent>%?)\s*"
)


@dataclass(frozen=True, slots=True)
class Objective:
    """A figure of a run and its bound: at most, or at least where more is better."""

    metric: str
    statistic: str
    bound: float

    @property
    def name(self) -> str:
        return f"{self.metric}_{self.statistic}" if self.statistic else self.metric

    @property
    def is_at_least(self) -> bool:
        return self.metric in _HIGHER_IS_BETTER

    def is_met_by(self, value: float) -> bool:
        return value >= self.bound if self.is_at_least else value <= self.bound

    def is_met_by_call(self, sample: CallSample) -> bool:
        """Whether one call is within the bound.

        Gaps between tokens are judged by the objective's statistic over the call's own. A stream
        that brought no token meets no bound on tokens; what else has no such figure (one token has
        no gap) is not judged.
        """
        metric = BY_NAME.get(self.metric)
        if metric is None:
            return True
        if self.metric in _OF_TOKENS and sample.last_token_s is None:
            return False
        if metric is ITL:
            value = _statistic(sample.gaps_ms, self.statistic)
        elif self.metric == "ttft_visible_ms" and sample.first_token_s is not None:
            value = metric.of(sample)
            if value is None:
                return False  # all of it was thought
        else:
            value = metric.of(sample)
        return value is None or self.is_met_by(value)


def _statistic(values: Sequence[float], statistic: str) -> float | None:
    if not values:
        return None
    if statistic == "mean":
        return mean(values)
    return quantile(sorted(values), float(statistic.removeprefix("p")) / 100)


def split_name(name: str) -> tuple[str, str]:
    """Metric and statistic of ``ttft_ms_p99``. Raises `ValueError`."""
    if name in RUN_FIGURES:
        return name, ""
    metric, _, statistic = name.rpartition("_")
    if metric in BY_NAME and statistic in STATISTICS:
        return metric, statistic
    known = ", ".join([*BY_NAME, *RUN_FIGURES])
    raise ValueError(
        f"{name!r} is no figure; write METRIC_STATISTIC such as ttft_ms_p99, of {known} and "
        f"{', '.join(STATISTICS)}"
    )


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """``ttft_ms_p99=300,error_share=0.01``. Raises `ValueError`."""
    objectives: list[Objective] = []
    for part in text.split(","):
        name, has_bound, bound = (each.strip() for each in part.partition("="))
        if not has_bound:
            raise ValueError(f"{part!r} has no bound; write e.g. ttft_ms_p99=300")
        metric, statistic = split_name(name)
        try:
            number = float(bound)
        except ValueError:
            raise ValueError(f"{bound!r} is no number") from None
        if not 0 <= number < float("inf"):
            raise ValueError(f"{bound!r} must be zero or more")
        objectives.append(Objective(metric, statistic, number))
    return tuple(objectives)


@dataclass(frozen=True, slots=True)
class FailIf:
    """A condition on the change from one run to another: ``ttft_ms_p99 > +10%``."""

    name: str
    sign: str
    change: float
    is_percent: bool

    @classmethod
    def parse(cls, text: str) -> FailIf:
        """Raises `ValueError`."""
        found = _FAIL_IF.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} cannot be read; write e.g. 'ttft_ms_p99 > +10%'")
        split_name(found["name"])
        try:
            change = float(found["change"])
        except ValueError:
            raise ValueError(f"{found['change']!r} is no number") from None
        return cls(found["name"], found["sign"], change, bool(found["percent"]))

    def __str__(self) -> str:
        return f"{self.name} {self.sign} {self.change:+g}{'%' if self.is_percent else ''}"

    def holds(self, before: float, after: float) -> bool:
        difference = after - before
        if self.is_percent:
            if before == 0:
                return difference > 0 if self.sign == ">" else difference < 0
            difference = difference / abs(before) * 100
        return difference > self.change if self.sign == ">" else difference < self.change


def figure(figures: Mapping[str, float], name: str) -> float:
    """A figure of a summary by name. Raises `ValueError` if the run has none."""
    try:
        return figures[name]
    except KeyError:
        raise ValueError(f"the run has no {name}: nothing of that kind was measured") from None
