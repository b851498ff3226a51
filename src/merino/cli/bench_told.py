"""What `merino bench` tells of itself while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from merino.bench.run import BenchRun
from merino.bench.samples import CallSample, ttft_ms
from merino.bench.stats import quantile
from merino.cli.figures import duration, money
from merino.cli.progress import Step
from merino.domain.money import format_nanos, parse_nanos

_RECENT_S = 5.0


@dataclass(frozen=True, slots=True)
class Goal:
    """What ends it, as far as that is known before: a number of calls, a time, a cost."""

    calls: int | None
    seconds: float | None
    max_cost_nanos: int | None

    @classmethod
    def of(cls, options: dict[str, Any], rounds: int, calls: int | None = None) -> Goal:
        """`calls` are those of each target in a round, if no option says so. A sweep looks for its
        end; a trace has its own."""
        targets = len(options["targets"])
        is_open_ended = options.get("arrival_kind") == "trace" or "start_rate" in options
        requests, seconds = options.get("requests") or calls, options.get("duration")
        if not is_open_ended and requests is None and seconds is None:
            seconds = 60.0  # as long as a load is that says nothing
        return cls(
            None if is_open_ended or requests is None else requests * targets * rounds,
            None if is_open_ended or seconds is None else seconds * targets,
            None if options["max_cost"] is None else parse_nanos(options["max_cost"]),
        )

    def part(self, calls: int, seconds: float) -> float | None:
        parts = [
            done / goal for done, goal in ((calls, self.calls), (seconds, self.seconds)) if goal
        ]
        return min(1.0, max(parts)) if parts else None


def bench_step(bench: BenchRun, goal: Goal) -> Step:
    samples = bench.samples_so_far()
    counted = [each for each in samples if not each.is_warmup]
    now = perf_counter() - bench.began
    part = goal.part(len(counted), now)
    head = [duration(now)]
    if counted:
        of = f"/{goal.calls:,}" if goal.calls else ""
        head += [f"{len(counted):,}{of} calls", f"{_per_s(counted, now):,.1f}/s"]
        if part and 0 < part < 1:
            head.append(f"{duration(now * (1 - part) / part)} left")
    else:
        head.append(f"{len(samples):,} to warm up")
    failed = sum(each.error is not None for each in counted)
    details = [f"{bench.in_flight:,} in flight", *_first_tokens(counted, now)]
    spent = sum(each.cost_nanos or 0 for each in samples)
    if goal.max_cost_nanos is not None:
        details.append(f"{money(spent, 'USD')} of {money(goal.max_cost_nanos, 'USD')}")
    elif spent:
        details.append(money(spent, "USD"))
    return Step(part or 0.0, None if part is None else 1.0, head, details, _failed(failed))


def bench_line(bench: BenchRun) -> str:
    """One line for a log."""
    samples = bench.samples_so_far()
    counted = [each for each in samples if not each.is_warmup]
    now = perf_counter() - bench.began
    parts = [
        f"{now:,.0f} s",
        f"{len(counted):,} calls" if counted else f"{len(samples):,} to warm up",
        f"{_per_s(counted, now):,.1f}/s",
        f"{bench.in_flight:,} in flight",
        *_first_tokens(counted, now),
    ]
    if failed := sum(each.error is not None for each in counted):
        parts.append(_failed(failed))
    if spent := sum(each.cost_nanos or 0 for each in samples):
        parts.append(format_nanos(spent))
    return "  ".join(parts)


def _failed(failed: int) -> str:
    return f"{failed:,} failed" if failed else ""


def _recent(counted: Sequence[CallSample], now: float) -> list[CallSample]:
    return [each for each in counted if each.end_s > now - _RECENT_S]


def _per_s(counted: Sequence[CallSample], now: float) -> float:
    return len(_recent(counted, now)) / min(_RECENT_S, max(now, 0.5))


def _first_tokens(counted: Sequence[CallSample], now: float) -> list[str]:
    times = sorted(v for each in _recent(counted, now) if (v := ttft_ms(each)) is not None)
    if not times:
        return []
    middle, slow = quantile(times, 0.5), quantile(times, 0.99)
    return [f"first token p50 {middle:,.0f} p99 {slow:,.0f} ms"]
