"""A comparison as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from merino.roi.chart import svg_chart, svg_growth
from merino.roi.comparison import Comparison, Line, Point
from merino.roi.words import (
    break_even_lines,
    dollars,
    flat_line,
    is_flat,
    percent_text,
    title,
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --rule: #d9dee6; --paper: #fff;
  --direct: #8a94a6; --relay: #1f7a5c; --band: #f4f6f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b5; --rule: #343c48;
  --paper: #14181e; --direct: #77839a; --relay: #4cc296; --band: #1c222b; } }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 60rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; }
.sub { color: var(--soft); margin: 0 0 1.6rem; } .scroll { overflow-x: auto; }
.finding { background: var(--band); border-left: 4px solid var(--relay); padding: .7rem 1rem;
  margin: 1.2rem 0; } .finding p { margin: .2rem 0; }
.finding p:first-child { font-size: 1.15rem; font-weight: 600; margin-bottom: .5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--rule); text-align: left; }
th { font-weight: 600; color: var(--soft); font-size: .85rem; } .n { text-align: right;
  white-space: nowrap; } tr.relay td { font-weight: 600; } .two { display: grid; gap: 0 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }
svg { width: 100%; height: auto; font-size: 13px; } svg text { fill: var(--ink);
  dominant-baseline: middle; } .label, .tick { text-anchor: end; } .month { text-anchor: middle; }
svg .tick, svg .month { fill: var(--soft); font-size: 12px; }
rect.direct { fill: var(--direct); } rect.relay { fill: var(--relay); }
polyline { fill: none; stroke-width: 2.5; } polyline.direct { stroke: var(--direct); }
polyline.relay { stroke: var(--relay); } line.grid { stroke: var(--rule); }
line.even { stroke: var(--ink); stroke-dasharray: 3 4; opacity: .6; } svg .even-label {
  fill: var(--soft); font-size: 12px; }
.direct-label, .relay-label { text-anchor: end; } svg .direct-label { fill: var(--direct); }
svg .relay-label { fill: var(--relay); } .notes { color: var(--soft); font-size: .9rem; }
@page { size: A4; margin: 14mm; }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #444;
  --rule: #bbb; --band: #f4f4f4; --direct: #8a94a6; --relay: #1f7a5c; }
  body { padding: 0; max-width: none; font-size: 9pt; } h2 { break-after: avoid; }
  svg, .finding, .two > div, tr { break-inside: avoid; } .scroll { overflow: visible; }
  table { font-size: 8pt; } th, td { padding: .2rem .3rem; } td { white-space: nowrap; }
  .two { grid-template-columns: 1fr 1fr; gap: 0 1.5rem; }
  .finding, rect, polyline { print-color-adjust: exact; } }
"""

_TABLE_HEAD = """<div class="scroll"><table><thead><tr><th>Offer</th><th>Model</th>
<th class="n">In / out per million</th><th class="n">Month</th><th class="n">Year</th>
<th class="n">Saved a month</th><th class="n">Saved</th><th class="n">Saved a year</th></tr></thead>
<tbody>"""


def html_page(found: Comparison) -> str:
    """The whole page."""
    findings = "".join(f"<p>{escape(line)}</p>" for line in break_even_lines(found))
    growth = svg_growth(found)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>What it costs, and what it saves</title><style>{_STYLE}</style></head><body>",
        "<h1>What it costs, and what it saves</h1>",
        f'<p class="sub">{escape(title(found))}</p>',
        f'<div class="finding">{findings}</div>' if findings else "",
        f"<h2>A month</h2>{svg_chart(found)}",
        _TABLE_HEAD,
        *(_row(line, line is found.baseline) for line in found.lines),
        "</tbody></table></div>",
        f"<h2>Added up by month, fixed costs included</h2>{growth}" if growth else "",
        '<div class="two">',
        _sensitivity("share of output", found.by_output_share),
        _sensitivity("share of cached input", found.by_cached_share),
        "</div>",
        _notes(found.notes),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _row(line: Line, is_baseline: bool) -> str:
    prices = list(line.offer.prices.values())
    models = ", ".join(dict.fromkeys(each.model for each in prices)) or "-"
    rates = "; ".join(dict.fromkeys(each.shown for each in prices)) or "-"
    if is_baseline:
        saved = ("-", "-", "-")
    else:
        saved = (
            dollars(line.saved_month_nanos),
            percent_text(line.saved_percent),
            dollars(line.saved_year_nanos),
        )
    figures = (rates, dollars(line.month_nanos), dollars(line.year_nanos), *saved)
    cells = "".join(f'<td class="n">{escape(figure)}</td>' for figure in figures)
    name, kind = escape(line.offer.name), line.offer.kind
    return f'<tr class="{kind}"><td>{name}</td><td>{escape(models)}</td>{cells}</tr>'


def _sensitivity(name: str, points: Sequence[Point]) -> str:
    if not points:
        return ""
    if is_flat(points):
        line = escape(flat_line(name, points))
        return f"<div><h2>With another {name}</h2><p>{line}</p></div>"
    rows = "".join(
        f'<tr><td class="n">{float(point.share):.0%}</td>'
        f'<td class="n">{dollars(point.baseline_nanos)}</td>'
        f'<td class="n">{dollars(point.relay_nanos)}</td>'
        f'<td class="n">{dollars(point.saved_nanos)}</td>'
        f'<td class="n">{percent_text(point.saved_percent)}</td></tr>'
        for point in points
    )
    heads = "".join(
        f'<th class="n">{head}</th>' for head in ("Share", "Direct", "Relay", "Saved", "")
    )
    return (
        f"<div><h2>With another {name}</h2><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _notes(notes: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(note)}.</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""
