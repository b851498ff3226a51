"""One HTML file of one or several runs: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from merino.bench.charts import Series, distribution_curve, histogram, over_load, over_time
from merino.bench.results import Result
from merino.bench.samples import BY_NAME, CallSample, e2e_ms, is_good, ttft_ms, values_of
from merino.bench.summary import Summary
from merino.bench.tables import best_line, loop_words, number
from merino.domain.money import format_nanos

Run = tuple[Result, Sequence[CallSample]]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --rule: #d9dee6; --paper: #fff;
  --band: #f4f6f9; --bad: #b3261e; --good: #1f7a5c; --c0: #1f7a5c; --c1: #3b5bdb; --c2: #c2410c;
  --c3: #8b3fbf; --c4: #0e7490; --c5: #a16207; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b5; --rule: #343c48;
  --paper: #14181e; --band: #1c222b; --bad: #ff8a80; --good: #4cc296; --c0: #4cc296;
  --c1: #8aa2ff; --c2: #ff9b6a; --c3: #cf9bf2; --c4: #5fd0e3; --c5: #e3bd5a; } }
@media print { :root { --ink: #000; --paper: #fff; --soft: #444; --band: #fff; } }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 84rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
.sub, .notes, caption { color: var(--soft); } .sub { margin: 0 0 1.2rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: .8rem 0; padding: 0;
  list-style: none; } .tiles li { background: var(--band); border-radius: 8px;
  padding: .6rem .9rem; min-width: 8rem; } .tiles b { display: block; font-size: 1.3rem;
  font-variant-numeric: tabular-nums; } .tiles span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%;
  font-variant-numeric: tabular-nums; margin: .4rem 0 1rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--rule); text-align: right;
  white-space: nowrap; } th:first-child, td:first-child, .text { text-align: left; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
.bad { color: var(--bad); font-weight: 600; } .good { color: var(--good); font-weight: 600; }
.invalid { border-left: 4px solid var(--bad); background: var(--band); padding: .6rem 1rem; }
.charts { display: grid; gap: 1.2rem 2rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 11px; dominant-baseline: middle; }
@media (max-width: 40rem) { svg text { font-size: 18px; } svg .axis { font-size: 16px; } }
.end { text-anchor: end; } .mid { text-anchor: middle; } .grid { stroke: var(--rule); }
polyline { fill: none; stroke-width: 2; } .area { fill-opacity: .25; stroke-width: 1.5; }
.dots { fill: none; stroke-width: 4; stroke-linecap: round; stroke-opacity: .5; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0;
  margin: .2rem 0; font-size: .85rem; } .key { display: inline-block; width: .8rem; height: .8rem;
  border-radius: 2px; margin-right: .35rem; vertical-align: -1px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { color:
  var(--soft); } dd { margin: 0; } code { overflow-wrap: anywhere; }
""" + "".join(
    f".c{n} {{ stroke: var(--c{n}); }} circle.c{n}, .area.c{n} {{ fill: var(--c{n}); }}"
    f" .key.c{n} {{ background: var(--c{n}); }}"
    for n in range(6)
)
_SHOWN = ("ttft_ms", "ttft_visible_ms", "tpot_ms", "itl_ms", "e2e_ms")


def html_report(runs: Sequence[Run], title: str = "Benchmark") -> str:
    """The whole page. Names are told apart by their run when there are several."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="sub">{_subtitle(runs)}</p>',
        *(_invalid(result) for result, _ in runs),
        *(_run(result) for result, _ in runs),
        "<h2>Charts</h2>",
        _charts(runs),
        _formulas(runs),
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _subtitle(runs: Sequence[Run]) -> str:
    first = runs[0][0]
    if len(runs) > 1:
        return f"{len(runs)} runs, {escape(first.at)} to {escape(runs[-1][0].at)}"
    return f"{escape(first.at)} · {escape(first.machine)} · {escape(loop_words(first))}"


def _invalid(result: Result) -> str:
    if not result.why_invalid:
        return ""
    reasons = "".join(f"<li>{escape(why)}</li>" for why in result.why_invalid)
    return f'<div class="invalid"><strong>Not a valid run</strong><ul>{reasons}</ul></div>'


def _charts(runs: Sequence[Run]) -> str:
    named = [
        (f"{target.name} ({result.at})" if len(runs) > 1 else target.name, target.name, samples)
        for result, samples in runs
        for target in result.targets
    ]
    figures = _load_charts(runs)
    # Of a sweep's rates no common distribution can be told.
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
    shown_figures = "".join(figure for figure in figures if figure)
    return f'<div class="charts">{shown_figures}</div>'


def _load_charts(runs: Sequence[Run]) -> list[str]:
    figures: list[str] = []
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


def _run(result: Result) -> str:
    settings = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in result.settings.items()
        if value is not None
    )
    return "".join(
        [
            f"<h2>{escape(result.kind.capitalize())}, {escape(result.at)}</h2>",
            *(_summary(each) for each in result.summaries),
            _differences(result),
            _steps(result),
            f"<h3>How it was measured</h3><p>{escape(loop_words(result).capitalize())}.</p>",
            f"<dl>{settings}",
            f"<dt>command</dt><dd><code>{escape(' '.join(result.command))}</code></dd>",
            f"<dt>machine</dt><dd>{escape(result.machine)}, Python {escape(result.python)}</dd>",
            "</dl>",
        ]
    )


def _summary(summary: Summary) -> str:
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
    shown = "".join(f"<li><b>{escape(value)}</b><span>{name}</span></li>" for value, name in tiles)
    return (
        f'<h3>{escape(summary.target)}</h3><ul class="tiles">{shown}</ul>'
        + _metrics(summary)
        + _objectives(summary)
        + _errors(summary)
    )


def _metrics(summary: Summary) -> str:
    if not summary.metrics:
        return ""
    rows: list[list[str]] = []
    for name, each in summary.metrics.items():
        metric = BY_NAME[name]
        values = {**each.percentiles, "mean": each.mean}
        cells = [
            f"<td{_interval(each.intervals.get(statistic))}>{number(value)}</td>"
            for statistic, value in values.items()
        ]
        title = escape(metric.title + (f", {metric.unit}" if metric.unit else ""))
        rows.append([title, *cells, number(each.deviation), f"{each.count:,}"])
    caption = "95 % confidence intervals appear on hover; they are all in result.json"
    heads = ("Metric", "p50", "p90", "p95", "p99", "p99.9", "mean", "sd", "n")
    return _table(heads, rows, caption)


def _interval(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return ""
    return f' title="95 % interval: {number(pair[0])} to {number(pair[1])}"'


def _objectives(summary: Summary) -> str:
    if not summary.objectives:
        return ""
    rows = [
        (
            escape(each.objective),
            f"{each.bound:g}",
            "-" if each.value is None else number(each.value),
            _judged(each.is_met, "kept", "missed"),
        )
        for each in summary.objectives
    ]
    return _table(("Objective", "bound", "measured", ""), rows)


def _errors(summary: Summary) -> str:
    if not summary.errors:
        return ""
    rows = [
        (
            escape(kind),
            f"{count:,}",
            f'<td class="text">{escape(summary.error_details.get(kind, ""))}</td>',
        )
        for kind, count in sorted(summary.errors.items(), key=lambda item: -item[1])
    ]
    return _table(("Error", "calls", '<th class="text">the first said</th>'), rows)


def _differences(result: Result) -> str:
    if not result.differences:
        return ""
    rows = [
        (
            escape(f"{each.metric} {each.statistic}"),
            f"{escape(each.baseline)} {number(each.baseline_value)}",
            f"{escape(each.target)} {number(each.target_value)}",
            f"{each.difference:+,.2f}",
            f"{each.low:+,.2f} to {each.high:+,.2f}",
            escape(each.words),
        )
        for each in result.differences
    ]
    caption = "The intervals hold for all differences together with 95 %"
    heads = ("Figure", "baseline", "target", "difference", "interval", "verdict")
    return "<h3>Differences, paired by round</h3>" + _table(heads, rows, caption)


def _steps(result: Result) -> str:
    if not result.steps:
        return ""
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
    return f"<h3>Sweep</h3><p><strong>{best_line(result)}</strong></p>" + _table(heads, rows)


def _formulas(runs: Sequence[Run]) -> str:
    names = {name for result, _ in runs for each in result.summaries for name in each.metrics}
    items = "".join(
        f"<dt>{escape(metric.title)}</dt><dd>{escape(metric.formula)}</dd>"
        for name, metric in BY_NAME.items()
        if name in names
    )
    if not items:
        return ""
    return (
        f"<h2>What the figures mean</h2><dl>{items}</dl>"
        '<p class="notes">Percentiles are linear between neighbours (Hyndman and Fan, type 7). '
        "Intervals are 95 % bootstrap intervals.</p>"
    )


def _good(samples: Sequence[CallSample], target: str) -> list[CallSample]:
    return [each for each in samples if each.target == target and is_good(each)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Heads and cells are HTML; each may bring its own ``<th`` or ``<td``."""

    def line(kind: str, cells: Sequence[str]) -> str:
        shown = [
            cell if cell.startswith(f"<{kind}") else f"<{kind}>{cell}</{kind}>" for cell in cells
        ]
        return f"<tr>{''.join(shown)}</tr>"

    head, body = line("th", heads), "".join(line("td", row) for row in rows)
    told = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table>{told}<thead>{head}</thead><tbody>{body}</tbody></table></div>'
    )


def _judged(is_well: bool, well: str, ill: str) -> str:
    return f'<td class="{"good" if is_well else "bad"}">{escape(well if is_well else ill)}</td>'
