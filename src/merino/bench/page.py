"""One HTML file of one or several runs: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from merino.bench.results import Result
from merino.bench.samples import BY_NAME, CallSample, e2e_ms, is_good, ttft_ms, values_of
from merino.bench.summary import Summary
from merino.bench.tables import best_line, loop_words, number
from merino.domain.money import format_nanos
from merino.pages.charts import Series, distribution_curve, histogram, over_load, over_time
from merino.pages.shell import standing_alone
from merino.pages.table import Cell, table

Run = tuple[Result, Sequence[CallSample]]

_SHOWN = ("ttft_ms", "ttft_visible_ms", "tpot_ms", "itl_ms", "e2e_ms")


def html_report(runs: Sequence[Run], title: str = "Benchmark") -> str:
    """The whole page. Names are told apart by their run when there are several."""
    names = {name for result, _ in runs for each in result.summaries for name in each.metrics}
    return standing_alone(
        "merino.bench",
        "report.html",
        title=title,
        sub=_subtitle(runs),
        runs=[_run(result) for result, _ in runs],
        charts=_charts(runs),
        formulas=[metric for name, metric in BY_NAME.items() if name in names],
    )


def _subtitle(runs: Sequence[Run]) -> str:
    first = runs[0][0]
    if len(runs) > 1:
        return f"{len(runs)} runs, {first.at} to {runs[-1][0].at}"
    return f"{first.at} · {first.machine} · {loop_words(first)}"


def _charts(runs: Sequence[Run]) -> list[Markup]:
    named = [
        (f"{target.name} ({result.at})" if len(runs) > 1 else target.name, target.name, samples)
        for result, samples in runs
        for target in result.targets
    ]
    figures = _load_charts(runs)
    # The rates of a sweep have no distribution in common.
    for name in _SHOWN if not any(result.steps for result, _ in runs) else ():
        series: list[tuple[str, list[float]]] = []
        for title, target, samples in named:
            values = values_of(_good(samples, target), name)
            if values:
                series.append((title, values))
        if series and any(any(values) for _, values in series):
            shown = BY_NAME[name].title
            if name in ("ttft_ms", "itl_ms"):
                figures.append(histogram(f"{shown}, histogram", "milliseconds", series))
            figures.append(distribution_curve(f"{shown}, distribution", "milliseconds", series))
    for title, of in (("First token over time", ttft_ms), ("End to end over time", e2e_ms)):
        clouds = [
            Series(
                shown,
                [
                    (each.scheduled_s, value)
                    for each in _good(samples, target)
                    if (value := of(each)) is not None
                ],
            )
            for shown, target, samples in named
        ]
        figures.append(over_time(title, "milliseconds", clouds))
    return [figure for figure in figures if figure]


def _load_charts(runs: Sequence[Run]) -> list[Markup]:
    figures: list[Markup] = []
    for name in ("ttft_ms", "e2e_ms"):
        series: list[Series] = []
        for result, _ in runs:
            for percentile in ("p50", "p99"):
                points = [
                    (step.rate_per_s, step.summary.metrics[name].percentiles[percentile])
                    for step in result.steps
                    if name in step.summary.metrics
                ]
                series.append(Series(f"{result.targets[0].name} {percentile}", points))
        title = f"{BY_NAME[name].title} over load"
        figures.append(over_load(title, "milliseconds", series))
    return figures


def _run(result: Result) -> dict[str, Any]:
    return {
        "result": result,
        "how": loop_words(result).capitalize(),
        "targets": [_target(each) for each in result.summaries],
        "differences": _differences(result),
        "best": best_line(result) if result.steps else "",
        "steps": _steps(result),
    }


def _target(summary: Summary) -> dict[str, Any]:
    tiles = [
        (f"{summary.calls_per_s:,.2f}", "calls/s"),
        (f"{summary.output_tokens_per_s:,.0f}", "output tokens/s"),
        (f"{summary.good:,} of {summary.calls:,}", "calls answered"),
        (f"{summary.error_share:.2%}", "errors"),
    ]
    if summary.goodput_share is not None:
        tiles.append((f"{summary.goodput_share:.1%}", "within the objectives"))
    if summary.cost_nanos is not None:
        tiles.append((format_nanos(summary.cost_nanos), "cost"))
    tiles.append((f"{summary.lag_p99_ms:.2f} ms", "sent late, p99"))
    return {
        "name": summary.target,
        "tiles": tiles,
        "tables": [_metrics(summary), _objectives(summary), _errors(summary)],
    }


def _metrics(summary: Summary) -> Markup:
    rows: list[list[str | Markup | Cell]] = []
    for name, each in summary.metrics.items():
        metric = BY_NAME[name]
        values = {**each.percentiles, "mean": each.mean}
        cells = [
            Cell(number(value), title=_interval(each.intervals.get(statistic)))
            for statistic, value in values.items()
        ]
        title = metric.title + (f", {metric.unit}" if metric.unit else "")
        rows.append([title, *cells, number(each.deviation), f"{each.count:,}"])
    caption = "95 % confidence intervals appear on hover; they are all in result.json"
    heads = ("Metric", "p50", "p90", "p95", "p99", "p99.9", "mean", "sd", "n")
    return table(heads, rows, "dnnnnnnnn", caption)


def _interval(pair: tuple[float, float] | None) -> str:
    return "" if pair is None else f"95 % interval: {number(pair[0])} to {number(pair[1])}"


def _objectives(summary: Summary) -> Markup:
    rows = [
        (
            each.objective,
            f"{each.bound:g}",
            "-" if each.value is None else number(each.value),
            _judged(each.is_met, "kept", "missed"),
        )
        for each in summary.objectives
    ]
    return table(("Objective", "bound", "measured", ""), rows, "tnnn")


def _errors(summary: Summary) -> Markup:
    rows = [
        (kind, f"{count:,}", summary.error_details.get(kind, ""))
        for kind, count in sorted(summary.errors.items(), key=lambda item: -item[1])
    ]
    return table(("Error", "calls", "the first said"), rows, "dnt")


def _differences(result: Result) -> Markup:
    rows = [
        (
            f"{each.metric} {each.statistic}",
            f"{each.baseline} {number(each.baseline_value)}",
            f"{each.target} {number(each.target_value)}",
            f"{each.difference:+,.2f}",
            f"{each.low:+,.2f} to {each.high:+,.2f}",
            each.words,
        )
        for each in result.differences
    ]
    caption = "The intervals hold for all differences together with 95 %"
    heads = ("Figure", "baseline", "target", "difference", "interval", "verdict")
    return table(heads, rows, "dnnnnn", caption)


def _steps(result: Result) -> Markup:
    rows = [
        (
            f"{step.rate_per_s:,.1f}",
            f"{step.summary.calls_per_s:,.1f}",
            f"{step.summary.lag_p99_ms:.2f}",
            _judged(step.is_kept, "kept", step.why_not or "missed"),
        )
        for step in sorted(result.steps, key=lambda each: each.rate_per_s)
    ]
    heads = ("Calls/s offered", "answered/s", "sent late, p99 ms", "objectives")
    return table(heads, rows, "tnnn")


def _good(samples: Sequence[CallSample], target: str) -> list[CallSample]:
    return [each for each in samples if each.target == target and is_good(each)]


def _judged(is_well: bool, well: str, ill: str) -> Cell:
    return Cell(well, "good") if is_well else Cell(ill, "bad")
