"""Charts as SVG: drawn here, shown anywhere, with colours from the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

from markupsafe import Markup

WIDTH, HEIGHT = 640, 300
_RIGHT, _TOP, _BOTTOM = 28, 16, 52
_LEFT_MIN, _LETTER = 64, 10.5
"""Room for the texts of the axis, at the size they have on a small screen."""
_BINS = 48
_POINTS_MAX = 2000
COLOURS = 6


class Series(NamedTuple):
    """One line or cloud of a chart."""

    name: str
    points: Sequence[tuple[float, float]]


class _Axes:
    """From values to places; `x_log` spreads ratios evenly."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        y_text: Callable[[float], str],
        *,
        x_log: bool = False,
    ) -> None:
        self._x_log = x_log and x[0] > 0
        self.x_low, self.x_high = self._scaled(x[0]), self._scaled(x[1])
        self.y_low, self.y_high = y
        if self.x_high <= self.x_low:
            self.x_high = self.x_low + (0.1 if self._x_log else max(1.0, abs(self.x_low) * 0.1))
        if self.y_high <= self.y_low:
            self.y_high = self.y_low + 1
        self._y_marks = [(y, y_text(y)) for y in ticks(self.y_low, self.y_high, 5)]
        self.left = max(_LEFT_MIN, 26 + _LETTER * max(len(text) for _, text in self._y_marks))

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._x_log else value

    def x(self, value: float) -> float:
        if self._x_log and value <= 0:
            return self.left
        share = (self._scaled(value) - self.x_low) / (self.x_high - self.x_low)
        return self.left + share * (WIDTH - self.left - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def frame(self, x_title: str, y_title: str) -> str:
        parts: list[str] = []
        left = f"{self.left:.0f}"
        for value, text in self._y_marks:
            y = f"{self.y(value):.1f}"
            parts.append(
                f'<line class="grid" x1="{left}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
                f'<text class="tick end" x="{self.left - 6:.0f}" y="{y}">{escape(text)}</text>'
            )
        marked = self._x_ticks()
        step = 0.0 if self._x_log or len(marked) < 2 else marked[1] - marked[0]
        for value in marked:
            x = self.x(value)
            parts.append(
                f'<line class="grid" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}" x1="{x:.1f}" '
                f'x2="{x:.1f}"/><text class="tick mid" x="{x:.1f}" y="{HEIGHT - _BOTTOM + 14}">'
                f"{number_text(value, step)}</text>"
            )
        middle = (self.left + WIDTH - _RIGHT) / 2
        parts.append(
            f'<text class="axis mid" x="{middle:.0f}" y="{HEIGHT - 8}">{escape(x_title)}</text>'
            f'<text class="axis mid" transform="rotate(-90 12 {HEIGHT / 2:.0f})" x="12" '
            f'y="{HEIGHT / 2:.0f}">{escape(y_title)}</text>'
        )
        return "".join(parts)

    def _x_ticks(self) -> list[float]:
        if not self._x_log:
            return ticks(self.x_low, self.x_high, 5)
        found: list[float] = []
        for power in range(math.floor(self.x_low), math.ceil(self.x_high) + 1):
            for factor in (1, 2, 5):
                value = factor * 10.0**power
                if self.x_low - 1e-9 <= math.log10(value) <= self.x_high + 1e-9:
                    found.append(value)
        while len(found) > 7:
            found = found[::2]
        return found


def amount_bars(label: str, rows: Sequence[tuple[str, float, str, bool]]) -> Markup:
    """Names, amounts, their texts, and which of them matter, a bar each from zero."""
    most = max((amount for _, amount, _, _ in rows), default=0) or 1
    lines = [
        Markup(
            '<li{}><span class="name">{}</span><svg viewBox="0 0 100 8" preserveAspectRatio="none" '
            'aria-hidden="true"><rect width="{}" height="8"/></svg><span class="amount">{}</span>'
            "</li>"
        ).format(
            Markup(' class="strong"') if is_strong else "",
            name,
            f"{max(0.4, 100 * amount / most) if amount > 0 else 0:.2f}",
            text,
        )
        for name, amount, text, is_strong in rows
    ]
    return Markup('<ul class="bars" aria-label="{}">{}</ul>').format(label, Markup("").join(lines))


def histogram(title: str, x_title: str, series: Sequence[tuple[str, Sequence[float]]]) -> Markup:
    """How many values lie where, as shares of each series."""
    series = [(name, sorted(values)) for name, values in series if values]
    if not _is_enough(values for _, values in series):
        return _too_few(title, x_title, series)
    low = min(values[0] for _, values in series)
    # A few far values would press all others into one bar; they are in the curve and the table.
    high = max(values[min(len(values) - 1, int(0.999 * len(values)))] for _, values in series)
    if high <= low:
        high = low + max(1e-6, abs(low) * 0.01)
    width = (high - low) / _BINS
    shares: list[tuple[str, list[float]]] = []
    for name, values in series:
        counts = [0] * _BINS
        for value in values:
            if value <= high:
                counts[min(_BINS - 1, int((value - low) / width))] += 1
        shares.append((name, [count / len(values) for count in counts]))
    top = max(max(each) for _, each in shares)
    axes = _Axes((low, high), (0, top * 1.05), _share_text)
    bars: list[str] = []
    for index, (_, each) in enumerate(shares):
        steps = [f"M{axes.x(low):.1f} {axes.y(0):.1f}"]
        for bin_number, share in enumerate(each):
            left, right = low + bin_number * width, low + (bin_number + 1) * width
            y = axes.y(share)
            steps.append(f"L{axes.x(left):.1f} {y:.1f}L{axes.x(right):.1f} {y:.1f}")
        steps.append(f"L{axes.x(high):.1f} {axes.y(0):.1f}Z")
        bars.append(f'<path class="area c{index % COLOURS}" d="{"".join(steps)}"/>')
    body = axes.frame(x_title, "share of values") + "".join(bars)
    return _figure(title, body, [name for name, _ in shares])


def distribution_curve(
    title: str, x_title: str, series: Sequence[tuple[str, Sequence[float]]]
) -> Markup:
    """The cumulative distribution: which share of values is at most x."""
    series = [(name, sorted(values)) for name, values in series if values]
    if not _is_enough(values for _, values in series):
        return _too_few(title, x_title, series)
    lines: list[Series] = []
    for name, ordered in series:
        count = len(ordered)
        picked = range(count)
        if count > _POINTS_MAX:
            picked = sorted(
                {int(i * count / _POINTS_MAX) for i in range(_POINTS_MAX)}
                | set(range(count - 50, count))
            )
        lines.append(Series(name, [(ordered[i], (i + 1) / count) for i in picked]))
    xs = [x for line in lines for x, _ in line.points]
    positive = [x for x in xs if x > 0] or [1.0]
    axes = _Axes((min(positive), max(xs)), (0, 1), _share_text, x_log=max(xs) > 20 * min(positive))
    body = axes.frame(x_title, "share of values at most") + _lines(lines, axes)
    return _figure(title, body, [line.name for line in lines])


def over_time(title: str, y_title: str, series: Sequence[Series]) -> Markup:
    """Every call as a point at the moment it was due, so that a stall can be seen."""
    series = [each for each in series if each.points]
    if not _is_enough(each.points for each in series):
        return _too_few(
            title, y_title, [(each.name, [y for _, y in each.points]) for each in series]
        )
    xs = [x for each in series for x, _ in each.points]
    ys = [y for each in series for _, y in each.points]
    axes = _Axes((0, max(xs)), (0, max(ys) * 1.05), number_text)
    dots: list[str] = []
    for index, each in enumerate(series):
        points = each.points
        if len(points) > _POINTS_MAX:
            # The slowest of each stretch stay: they are what one looks for.
            size = math.ceil(len(points) / _POINTS_MAX)
            points = [
                max(points[at : at + size], key=lambda point: point[1])
                for at in range(0, len(points), size)
            ]
        places = "".join(f"M{axes.x(x):.1f} {axes.y(y):.1f}h0" for x, y in points)
        dots.append(f'<path class="dots c{index % COLOURS}" d="{places}"/>')
    body = axes.frame("seconds since the run began", y_title) + "".join(dots)
    return _figure(title, body, [each.name for each in series])


def over_load(title: str, y_title: str, series: Sequence[Series]) -> Markup:
    """A figure over the offered rate."""
    series = [Series(each.name, sorted(each.points)) for each in series if each.points]
    if not series:
        return Markup("")
    xs = [x for each in series for x, _ in each.points]
    ys = [y for each in series for _, y in each.points]
    axes = _Axes((min(xs), max(xs)), (0, max(ys) * 1.05), number_text, x_log=max(xs) > 20 * min(xs))
    marks = "".join(
        f'<circle class="c{index % COLOURS}" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3.5"/>'
        for index, each in enumerate(series)
        for x, y in each.points
    )
    body = axes.frame("calls per second offered", y_title)
    return _figure(title, body + _lines(series, axes) + marks, [each.name for each in series])


def by_month(
    title: str,
    series: Sequence[tuple[str, Sequence[float]]],
    y_text: Callable[[float], str],
    mark: tuple[int, str] | None = None,
) -> Markup:
    """Amounts from month zero on, each series as long as the others; `mark` names one month."""
    lines = [Series(name, list(enumerate(values))) for name, values in series]
    months = len(lines[0].points) - 1
    axes = _Axes((0, months), (0, max(y for line in lines for _, y in line.points)), y_text)
    body = axes.frame("month", "") + _lines(lines, axes)
    if mark is not None:
        month, text = mark
        x = axes.x(month)
        # Lines rise to the right: at its foot, on the side with more room, the text meets none.
        side, shift = ("end", -6) if month > months / 2 else ("", 6)
        body += (
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
            f'<text class="{side}" x="{x + shift:.1f}" y="{HEIGHT - _BOTTOM - 12}">'
            f"{escape(text)}</text>"
        )
    return _figure(title, body, [line.name for line in lines])


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between the two."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / count))
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= count:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    found: list[float] = []
    while first * step <= high + step * 1e-9:
        found.append(first * step)
        first += 1
    return found


def number_text(value: float, step: float = 0.0) -> str:
    """A number as short as it can be told, or told apart from its neighbours `step` away."""
    if value == 0:
        return "0"
    if step:
        return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size < 100 else f"{value:.0f}"


def _lines(series: Sequence[Series], axes: _Axes) -> str:
    return "".join(
        f'<polyline class="c{index % COLOURS}" points="'
        + " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in each.points)
        + '"/>'
        for index, each in enumerate(series)
    )


def _share_text(value: float) -> str:
    return f"{value:.0%}"


def _is_enough(series: Iterable[Sequence[object]]) -> bool:
    return any(len(values) > 1 for values in series)


def _too_few(title: str, unit: str, series: Sequence[tuple[str, Sequence[float]]]) -> Markup:
    """Of one value there is nothing to draw, but it can be told."""
    if not series:
        return Markup("")
    told = "; ".join(f"{name}: {number_text(values[0])} {unit}" for name, values in series)
    return Markup(
        '<figure><figcaption>{}</figcaption><p class="notes">One value only, nothing to draw. '
        "{}.</p></figure>"
    ).format(title, told)


def _figure(title: str, body: str, names: Sequence[str]) -> Markup:
    legend = ""
    if len(names) > 1:
        items = "".join(
            f'<li><span class="key c{index % COLOURS}"></span>{escape(name)}</li>'
            for index, name in enumerate(names)
        )
        legend = f'<ul class="legend">{items}</ul>'
    return Markup(  # noqa: S704 - every text in it is escaped
        f"<figure><figcaption>{escape(title)}</figcaption>{legend}"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{body}</svg>'
        "</figure>"
    )
