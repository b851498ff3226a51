"""The highest rate that keeps the objectives: doubled until it does not, then halved in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from merino.bench.summary import LATE_MS, Summary


class Step(msgspec.Struct, kw_only=True):
    """One rate that was tried."""

    rate_per_s: float
    is_kept: bool
    why_not: str | None
    summary: Summary


async def sweep(
    measure: Callable[[float], Awaitable[Summary | None]],
    *,
    start_per_s: float,
    rate_max_per_s: float,
    precision: float = 0.1,
    errors_max: float = 0.01,
) -> list[Step]:
    """Steps in the order they were tried; `measure` gives `None` when it was interrupted.

    A rate is kept if every objective is met, no more than `errors_max` of its calls failed, and
    they were answered as fast as they came: a server that only queues them up keeps no rate. Nor is
    one kept that the generator itself was too late for (`Summary.was_late`), since that says
    nothing of the server. Shares are of the calls there are: of fewer than a hundred, one that
    failed or was late is more than 1 %.
    """
    steps: list[Step] = []
    kept, failed = 0.0, 0.0
    rate = start_per_s
    while True:
        summary = await measure(rate)
        if summary is None:
            return steps
        why_not = _why_not(summary, rate, errors_max)
        steps.append(
            Step(rate_per_s=rate, is_kept=why_not is None, why_not=why_not, summary=summary)
        )
        if why_not is None:
            kept = rate
        else:
            failed = rate
        if failed and failed - kept <= precision * failed:
            return steps
        if not failed and kept >= rate_max_per_s:
            return steps
        if failed:
            if failed < start_per_s * precision:
                return steps  # not even next to nothing is kept
            rate = (kept + failed) / 2
        else:
            rate = min(rate * 2, rate_max_per_s)


def best(steps: list[Step]) -> float | None:
    """The highest rate that was kept."""
    return max((step.rate_per_s for step in steps if step.is_kept), default=None)


def _why_not(summary: Summary, rate: float, errors_max: float) -> str | None:
    calls = summary.calls
    if summary.was_late:
        return (
            f"the generator sent {summary.sent_late:,} of {calls:,} calls more than {LATE_MS:g} ms "
            f"late, one of them {summary.lag_max_ms:.1f} ms"
        )
    if summary.error_share > errors_max:
        return f"{calls - summary.good:,} of {calls:,} calls failed (at most {errors_max:.0%} may)"
    for verdict in summary.objectives:
        if not verdict.is_met:
            shown = "nothing" if verdict.value is None else f"{verdict.value:.1f}"
            return f"{verdict.objective} of {calls:,} calls was {shown}, bound {verdict.bound:g}"
    # The tail of a run is shorter than one call's time when the server keeps up.
    longest_s = summary.metrics["e2e_ms"].high / 1000 if "e2e_ms" in summary.metrics else 0.0
    if summary.span_s - longest_s > 0 and summary.good / rate < 0.8 * (summary.span_s - longest_s):
        return "calls were answered slower than they came"
    return None
