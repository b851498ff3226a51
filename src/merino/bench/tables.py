"""Figures as tables: for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from merino.bench.compare import Difference
from merino.bench.results import Result
from merino.bench.samples import BY_NAME
from merino.bench.summary import Summary
from merino.bench.sweep import Step
from merino.domain.money import format_nanos

_SHOWN = ("ttfb_ms", "ttft_ms", "ttft_visible_ms", "tpot_ms", "itl_ms", "e2e_ms", "overhead_ms")
_HEAD = ("", "p50", "p90", "p95", "p99", "p99.9", "mean", "sd", "n")


def terminal_report(result: Result) -> str:
    """What a person reads when a run has ended."""
    lines: list[str] = []
    for summary in result.summaries:
        lines += [*_summary_lines(summary), ""]
    if result.differences:
        lines += [*_aligned(_difference_rows(result.differences), text_columns=2), ""]
    if result.steps:
        lines += [*_aligned(_step_rows(result.steps), text_columns=0), ""]
        lines += [best_line(result), ""]
    if result.why_invalid:
        lines += [f"NOT VALID: {why}." for why in result.why_invalid]
    return "\n".join(lines).rstrip() + "\n"


def markdown_report(result: Result) -> str:
    """The same for a README or an issue."""
    measured = (
        f"Measured with `merino bench` {result.merino_version} at {result.at} on "
        f"{result.machine}; {loop_words(result)}."
    )
    lines = [measured, ""]
    for summary in result.summaries:
        lines += [f"**{summary.target}**: {_counts(summary)}", ""]
        lines += [*_markdown(_metric_rows(summary)), ""]
        lines += [f"- {line}" for line in _notes(summary)]
        lines += [""] if _notes(summary) else []
    if result.differences:
        lines += [*_markdown(_difference_rows(result.differences)), ""]
    if result.steps:
        lines += [*_markdown(_step_rows(result.steps)), "", best_line(result), ""]
    lines += [f"**Not valid:** {why}." for why in result.why_invalid]
    return "\n".join(lines).rstrip() + "\n"


def loop_words(result: Result) -> str:
    """How the calls came, in words."""
    if result.loop == "open":
        return "open loop: calls came by a schedule, and latency counts from when they were due"
    return (
        "closed loop: each caller sent its next call when its last was answered, so a slow server "
        "was asked less"
    )


def _summary_lines(summary: Summary) -> list[str]:
    lines = [f"{summary.target}: {_counts(summary)}"]
    lines += [f"  {line}" for line in _aligned(_metric_rows(summary), text_columns=1)]
    lines += [f"  {line}" for line in _notes(summary)]
    return lines


def _counts(summary: Summary) -> str:
    parts = [
        f"{summary.good:,} of {summary.calls:,} calls answered in {summary.span_s:,.1f} s",
        f"{summary.calls_per_s:,.2f} calls/s",
        f"{summary.output_tokens_per_s:,.1f} output tokens/s",
    ]
    if summary.goodput_per_s is not None and summary.goodput_share is not None:
        parts.append(f"goodput {summary.goodput_per_s:,.2f}/s ({summary.goodput_share:.1%})")
    if summary.cost_nanos is not None:
        parts.append(f"cost {format_nanos(summary.cost_nanos)}")
    return ", ".join(parts)


def _notes(summary: Summary) -> list[str]:
    notes = [
        f"{count:,} failed: {kind}"
        + (f" ({summary.error_details[kind]})" if kind in summary.error_details else "")
        for kind, count in sorted(summary.errors.items(), key=lambda item: -item[1])
    ]
    if summary.retries:
        notes.append(f"{summary.retries:,} retries")
    if summary.tokens_counted:
        notes.append(f"tokens of {summary.tokens_counted:,} calls were counted, not reported")
    for verdict in summary.objectives:
        value = "nothing measured" if verdict.value is None else f"{verdict.value:,.2f}"
        word = "kept" if verdict.is_met else "MISSED"
        notes.append(f"objective {verdict.objective} {verdict.bound:g}: {word} ({value})")
    notes.append(
        f"calls were sent {summary.lag_p50_ms:.2f} ms (p50), {summary.lag_p99_ms:.2f} ms (p99) "
        "after they were due"
    )
    return notes


def _metric_rows(summary: Summary) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [_HEAD]
    for name in (*_SHOWN, "output_tokens", "reasoning_tokens", "tokens_per_s"):
        each = summary.metrics.get(name)
        if each is None:
            continue
        title = BY_NAME[name].title + (f", {each.unit}" if each.unit == "ms" else "")
        values = [*each.percentiles.values(), each.mean, each.deviation]
        rows.append((title, *(number(value) for value in values), f"{each.count:,}"))
    return rows


def _difference_rows(found: Sequence[Difference]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("figure", "verdict", "baseline", "target", "difference", "interval")
    ]
    rows += [
        (
            f"{each.target} vs {each.baseline}: {each.metric} {each.statistic}",
            each.words,
            number(each.baseline_value),
            number(each.target_value),
            f"{each.difference:+,.2f}",
            f"{each.low:+,.2f} to {each.high:+,.2f}",
        )
        for each in found
    ]
    return rows


def _step_rows(steps: Sequence[Step]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("calls/s", "answered/s", "TTFT p50", "TTFT p99", "end to end p99", "errors", "kept")
    ]
    for step in sorted(steps, key=lambda each: each.rate_per_s):
        metrics = step.summary.metrics
        ttft, whole = metrics.get("ttft_ms"), metrics.get("e2e_ms")
        rows.append(
            (
                f"{step.rate_per_s:,.1f}",
                f"{step.summary.calls_per_s:,.1f}",
                "-" if ttft is None else number(ttft.percentiles["p50"]),
                "-" if ttft is None else number(ttft.percentiles["p99"]),
                "-" if whole is None else number(whole.percentiles["p99"]),
                f"{step.summary.error_share:.1%}",
                "yes" if step.is_kept else f"no: {step.why_not}",
            )
        )
    return rows


def best_line(result: Result) -> str:
    """What a sweep found."""
    if result.best_rate_per_s is None:
        return "No rate that was tried kept the objectives."
    return f"The highest rate that kept the objectives: {result.best_rate_per_s:,.1f} calls/s."


def number(value: float) -> str:
    """Three significant digits, and no fewer before the point than there are."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _aligned(rows: Sequence[tuple[str, ...]], text_columns: int) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if at < text_columns or at == len(row) - 1 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _markdown(rows: Sequence[tuple[str, ...]]) -> list[str]:
    head, *body = [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    return [
        "| " + " | ".join(head) + " |",
        "|---" + "|---:" * (len(head) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in body),
    ]
