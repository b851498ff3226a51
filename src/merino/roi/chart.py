"""A month's cost of every offer as bars: for terminals, and as SVG."""

from __future__ import annotations

from html import escape
from math import floor, log10

from merino.roi.comparison import Comparison, Line
from merino.roi.words import dollars

_BLOCKS = " ▏▎▍▌▋▊▉"
_BAR_COLUMNS_MIN = 10
_ROW_HEIGHT = 34
_LABEL_WIDTH = 190
_BAR_WIDTH = 470
_AMOUNT_WIDTH = 120


def terminal_chart(found: Comparison, width: int = 80) -> list[str]:
    """One bar a line, to an eighth of a column."""
    names = max(len(line.offer.name) for line in found.lines)
    amounts = max(len(dollars(line.month_nanos)) for line in found.lines)
    columns = max(_BAR_COLUMNS_MIN, width - names - amounts - 4)
    most = max(line.month_nanos for line in found.lines) or 1
    return [
        f"{line.offer.name.ljust(names)}  {_bar(line.month_nanos, most, columns)} "
        f"{dollars(line.month_nanos)}"
        for line in found.lines
    ]


def _bar(nanos: int, most: int, columns: int) -> str:
    eighths = round(nanos * columns * 8 / most)
    if nanos and not eighths:
        eighths = 1
    full, rest = divmod(eighths, 8)
    return "█" * full + _BLOCKS[rest].strip()


def svg_chart(found: Comparison) -> str:
    """Bars with their amounts; colours come from the page's own variables."""
    most = max(line.month_nanos for line in found.lines) or 1
    height = _ROW_HEIGHT * len(found.lines)
    width = _LABEL_WIDTH + _BAR_WIDTH + _AMOUNT_WIDTH
    bars = "".join(_svg_row(line, index, most) for index, line in enumerate(found.lines))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Cost of a month by offer">'
        f"{bars}</svg>"
    )


def _svg_row(line: Line, index: int, most: int) -> str:
    top = index * _ROW_HEIGHT
    length = max(2.0, line.month_nanos * _BAR_WIDTH / most) if line.month_nanos else 0.0
    middle = top + _ROW_HEIGHT / 2
    return (
        f'<text class="label" x="{_LABEL_WIDTH - 10}" y="{middle}">{escape(line.offer.name)}</text>'
        f'<rect class="{line.offer.kind}" x="{_LABEL_WIDTH}" y="{top + 6}" width="{length:.1f}"'
        f' height="{_ROW_HEIGHT - 12}" rx="2"/>'
        f'<text class="amount" x="{_LABEL_WIDTH + length + 8:.1f}" y="{middle}">'
        f"{escape(dollars(line.month_nanos))}</text>"
    )


def svg_growth(found: Comparison) -> str:
    """Cumulated cost of the baseline and the relay, month by month, fixed costs included."""
    relay, horizon = found.relay, found.horizon
    if relay is None or horizon.months < 2:
        return ""
    months = horizon.months
    volumes = [float(horizon.volume(month)) for month in range(months + 1)]
    direct = [found.baseline.month_nanos * volume for volume in volumes]
    fixed = horizon.fixed_nanos
    through = [
        relay.month_nanos * volume + fixed * month + horizon.setup_nanos
        for month, volume in enumerate(volumes)
    ]
    most = max(*direct, *through) or 1.0
    left, top, width, height = 80, 16, 620, 220

    def path(values: list[float], name: str) -> str:
        points = " ".join(
            f"{left + width * month / months:.1f},{top + height - height * value / most:.1f}"
            for month, value in enumerate(values)
        )
        return f'<polyline class="{name}" points="{points}"/>'

    def label(values: list[float], name: str, offset: int) -> str:
        y = top + height - height * values[-1] / most + offset
        return (
            f'<text class="{name}-label" x="{left + width - 6}" y="{y:.1f}">{escape(name)}</text>'
        )

    grid = "".join(
        f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{left - 8}" y="{y:.1f}">{_tick(amount)}</text>'
        for amount in round_amounts(most)
        for y in [top + height - height * amount / most]
    )
    ends = "".join(
        f'<text class="month" x="{left + width * month / months:.1f}" y="{top + height + 18}">'
        f"{'month ' if month == months else ''}{month}</text>"
        for month in sorted({0, months // 2, months})
    )
    even = ""
    month = None if found.break_even is None else found.break_even.month
    if (fixed or horizon.setup_nanos) and month is not None and month <= months:
        x = left + width * month / months
        even = (
            f'<line class="even" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + height}"/>'
            f'<text class="even-label" x="{x + 6:.1f}" y="{top + 8}">pays from month {month}</text>'
        )
    return (
        f'<svg viewBox="0 0 {left + width + 60} {top + height + 30}" role="img"'
        f' aria-label="Cumulated cost by month">{grid}{ends}{even}{path(direct, "direct")}'
        f"{path(through, 'relay')}{label(direct, 'direct', -10)}{label(through, 'relay', -10)}"
        "</svg>"
    )


def round_amounts(most: float) -> list[float]:
    """Two to five round amounts from zero up to `most`, for the lines of a chart."""
    step = 10.0 ** floor(log10(most / 2)) if most > 0 else 1.0
    step *= next(factor for factor in (5, 2, 1) if step * factor <= most / 2 or factor == 1)
    return [step * number for number in range(int(most / step + 1e-9) + 1)]


def _tick(nanos: float) -> str:
    return dollars(round(nanos)).removesuffix(".00")
