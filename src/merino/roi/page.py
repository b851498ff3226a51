"""A comparison as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from merino.pages.shell import standing_alone
from merino.pages.table import Row, table
from merino.roi.chart import growth_chart, month_bars
from merino.roi.comparison import Comparison, Line, Point
from merino.roi.words import (
    break_even_lines,
    dollars,
    flat_line,
    is_flat,
    percent_text,
    title,
)

_HEADS = (
    *("Offer", "Model", "In / out per million", "Month", "Year"),
    *("Saved a month", "Saved", "Saved a year"),
)


def html_page(found: Comparison) -> str:
    """The whole page."""
    both = {
        "share of output": found.by_output_share,
        "share of cached input": found.by_cached_share,
    }
    return standing_alone(
        "merino.roi",
        "report.html",
        sub=title(found),
        findings=break_even_lines(found),
        bars=month_bars(found),
        offers=table(
            _HEADS, (_row(line, line is found.baseline) for line in found.lines), "ttnnnnnn"
        ),
        growth=growth_chart(found),
        sensitivities={name: _sensitivity(name, points) for name, points in both.items() if points},
        notes=found.notes,
    )


def _row(line: Line, is_baseline: bool) -> Row:
    prices = list(line.offer.prices.values())
    models = ", ".join(dict.fromkeys(each.model for each in prices)) or "-"
    rates = "; ".join(dict.fromkeys(each.shown for each in prices)) or "-"
    saved = ("-", "-", "-")
    if not is_baseline:
        saved = (
            dollars(line.saved_month_nanos),
            percent_text(line.saved_percent),
            dollars(line.saved_year_nanos),
        )
    figures = (rates, dollars(line.month_nanos), dollars(line.year_nanos), *saved)
    kind = "strong" if line.offer.kind == "relay" else ""
    return Row((line.offer.name, models, *figures), kind)


def _sensitivity(name: str, points: Sequence[Point]) -> Markup:
    if is_flat(points):
        return Markup("<p>{}</p>").format(flat_line(name, points))
    rows = (
        (
            f"{float(point.share):.0%}",
            dollars(point.baseline_nanos),
            dollars(point.relay_nanos),
            dollars(point.saved_nanos),
            percent_text(point.saved_percent),
        )
        for point in points
    )
    return table(("Share", "Direct", "Relay", "Saved", ""), rows, "nnnnn")
