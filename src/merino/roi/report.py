"""A comparison as a table, JSON, CSV or Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

from merino.domain.money import format_nanos
from merino.domain.spreadsheet import csv_text
from merino.roi.chart import terminal_chart
from merino.roi.comparison import Comparison, Horizon, Line, Point, half_up
from merino.roi.page import html_page
from merino.roi.words import (
    break_even_lines,
    counted,
    dollars,
    flat_line,
    is_flat,
    percent_text,
    title,
)

ReportFormat = Literal["table", "json", "csv", "html", "md"]

_HEAD = ("offer", "model", "rates in / out", "month", "year", "saved/month", "saved", "saved/year")


def render(
    found: Comparison, form: ReportFormat, *, width: int = 80, is_bounded: bool = False
) -> str:
    """The whole report, ending with a line break. `width` is the terminal's, for the chart; with
    `is_bounded` the table, too, is no wider."""
    if form == "json":
        return as_json(found)
    if form == "csv":
        return as_csv(found)
    if form == "md":
        return as_markdown(found)
    if form == "html":
        return html_page(found)
    return as_table(found, width, is_bounded=is_bounded)


def as_table(found: Comparison, width: int, *, is_bounded: bool = False) -> str:
    lines = [title(found), ""]
    rows = [_HEAD, *(_cells(line, found) for line in found.lines)]
    lines += _aligned(_fitting(rows, width) if is_bounded else rows, text_columns=3)
    lines += ["", *terminal_chart(found, width), "", *break_even_lines(found)]
    for name, points in _sensitivities(found):
        if is_flat(points):
            lines += ["", flat_line(name, points)]
            continue
        lines += ["", f"A month with another {name}:"]
        rows = [("share", "direct", "relay", "saved", ""), *map(_point_cells, points)]
        lines += _aligned(rows, text_columns=0)
    if found.notes:
        lines += ["", *(f"Note: {note}." for note in found.notes)]
    return "\n".join(lines) + "\n"


def as_markdown(found: Comparison) -> str:
    lines = [f"# {title(found)}", ""]
    lines += _markdown_table(
        [_HEAD, *(_cells(line, found) for line in found.lines)], text_columns=3
    )
    lines += ["", *(f"{line}  " for line in break_even_lines(found))]
    for name, points in _sensitivities(found):
        if is_flat(points):
            lines += ["", flat_line(name, points)]
            continue
        rows = [("share", "direct", "relay", "saved", "percent"), *map(_point_cells, points)]
        lines += ["", f"## A month with another {name}", "", *_markdown_table(rows, text_columns=0)]
    if found.notes:
        lines += ["", *(f"- {note}." for note in found.notes)]
    return "\n".join(lines) + "\n"


def as_csv(found: Comparison) -> str:
    """One line for each offer; amounts are exact decimal text."""
    rows = [_line_object(line) for line in found.lines]
    return csv_text([rows[0], *(row.values() for row in rows)])


def as_json(found: Comparison) -> str:
    return json.dumps(as_object(found), indent=2, ensure_ascii=False) + "\n"


def as_object(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON's types; amounts as exact text beside integer nano-dollars."""
    usage, horizon, even = found.usage, found.horizon, found.break_even
    return {
        "usage": {name: getattr(usage, name) for name in usage.__struct_fields__},
        "calls": found.calls or None,
        "horizon": _horizon_object(horizon),
        "baseline": found.baseline.offer.name,
        "relay": None if found.relay is None else found.relay.offer.name,
        "offers": [_line_object(line) for line in found.lines],
        "break_even": even
        and {
            "month": even.month,
            "volume": None if even.volume is None else round(float(even.volume), 6),
        },
        "sensitivity": {
            "output_share": [_point_object(point) for point in found.by_output_share],
            "cached_share": [_point_object(point) for point in found.by_cached_share],
        },
        "left_out_rows": len(found.left_out),
        "notes": list(found.notes),
    }


def _horizon_object(horizon: Horizon) -> dict[str, Any]:
    return {
        "months": horizon.months,
        "growth": str(horizon.growth),
        "hosting_nanos": horizon.hosting_nanos,
        "people_nanos": horizon.people_nanos,
        "setup_nanos": horizon.setup_nanos,
    }


def _line_object(line: Line) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "offer": line.offer.name,
        "kind": line.offer.kind,
        "models": line.offer.models,
        "price_ids": " ".join(dict.fromkeys(each.price_id for each in line.offer.prices.values())),
    }
    for name in ("month", "year", "period", "saved_month", "saved_year", "saved_period"):
        nanos = getattr(line, f"{name}_nanos")
        shown[name] = format_nanos(nanos)
        shown[f"{name}_nanos"] = nanos
    shown["saved_percent"] = None if line.saved_percent is None else _rounded(line.saved_percent)
    for name in ("net_saved_month", "net_saved_year", "net_saved_period"):
        nanos = getattr(line, f"{name}_nanos")
        shown[name] = format_nanos(nanos)
        shown[f"{name}_nanos"] = nanos
    return shown


def _point_object(point: Point) -> dict[str, Any]:
    return {
        "share": float(point.share),
        "baseline_nanos": point.baseline_nanos,
        "relay_nanos": point.relay_nanos,
        "saved_nanos": point.saved_nanos,
        "saved_percent": None if point.saved_percent is None else _rounded(point.saved_percent),
    }


def _rounded(value: Fraction) -> float:
    return half_up(value * 10_000) / 10_000


def _cells(line: Line, found: Comparison) -> tuple[str, ...]:
    prices = list(line.offer.prices.values())
    rates = prices[0].shown if len({each.shown for each in prices}) == 1 else "several"
    models = list(dict.fromkeys(each.model for each in prices))
    model = models[0] if len(models) == 1 else counted(len(models), "model") if models else "-"
    cells = (
        line.offer.name,
        model,
        rates if prices else "-",
        dollars(line.month_nanos),
        dollars(line.year_nanos),
    )
    if line is found.baseline:
        return (*cells, "-", "-", "-")
    return (
        *cells,
        dollars(line.saved_month_nanos),
        percent_text(line.saved_percent),
        dollars(line.saved_year_nanos),
    )


def _point_cells(point: Point) -> tuple[str, ...]:
    return (
        f"{float(point.share):.0%}",
        dollars(point.baseline_nanos),
        dollars(point.relay_nanos),
        dollars(point.saved_nanos),
        percent_text(point.saved_percent),
    )


def _sensitivities(found: Comparison) -> list[tuple[str, tuple[Point, ...]]]:
    both = [
        ("share of output", found.by_output_share),
        ("share of cached input", found.by_cached_share),
    ]
    return [(name, points) for name, points in both if points]


def _fitting(rows: Sequence[Sequence[str]], width: int) -> Sequence[Sequence[str]]:
    """Without the columns that find no room: a year is twelve of the months beside it."""
    for name in ("saved/year", "year"):
        if max(map(len, _aligned(rows, text_columns=3))) <= width:
            break
        at = rows[0].index(name)
        rows = [[*row[:at], *row[at + 1 :]] for row in rows]
    return rows


def _aligned(rows: Sequence[Sequence[str]], *, text_columns: int) -> list[str]:
    """The first columns are text, to the left; the others figures, to the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if index < text_columns else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _markdown_table(rows: Sequence[Sequence[str]], *, text_columns: int) -> list[str]:
    head, *body = rows
    rule = ["---" if index < text_columns else "--:" for index in range(len(head))]
    return [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        for row in (head, rule, *body)
    ]
