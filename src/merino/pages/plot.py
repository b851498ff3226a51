"""Charts over time that one can ask: by uPlot where scripts run, else as they are drawn here.

A chart comes with a table of what it shows, for who cannot see it; the tooltip says the table's
words. `plot.js` reads what it draws from the figure itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from merino.domain.money import NANOS_PER_UNIT, with_sign
from merino.pages.charts import number_text, ticks
from merino.pages.figures import count_text, duration_text, money_text, share_text
from merino.pages.moments import moment

Kind = Literal["bars", "lines"]
Unit = Literal["money", "count", "ms", "share"]
COLOURS = 7
"""As many series have a colour of their own; the next, `OTHERS`, is grey."""
OTHERS = 7
_WIDTH, _HEIGHT = 720, 240
_LEFT, _BOTTOM, _TOP = 64, 24, 8


@dataclass(frozen=True, slots=True)
class Series:
    """What is drawn in one colour: a value for each slot of time, `None` where there is none.
    `link` leads to it alone."""

    name: str
    values: Sequence[float | None]
    link: str = ""
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Plot:
    """`bars` stand on each other, `lines` do not. Money is in nano-units of `currency`. `before` is
    the sum of each slot in the time before; `zoom` is an address that `since` and `until` are
    added to; `words` tells the figure's own words in the page's language."""

    title: str
    kind: Kind
    unit: Unit
    at_ms: Sequence[int]
    slot_ms: int
    series: Sequence[Series]
    currency: str | None = None
    before: Sequence[float | None] | None = None
    before_name: str = "the time before"
    zoom: str = ""
    words: Callable[[str], str] = str

    @property
    def totals(self) -> list[float]:
        return [sum(each.values[place] or 0 for each in self.series) for place in self._places]

    @property
    def _places(self) -> range:
        return range(len(self.at_ms))


def plotted(plot: Plot) -> Markup:
    """The figure: legend, drawing, table."""
    legend = Markup("").join(_legend(each) for each in plot.series)
    if plot.before is not None:
        legend += Markup('<li><span class="swatch dashed"></span><span>{}</span></li>').format(
            plot.before_name
        )
    return Markup(
        '<figure class="plot" data-chart="{}"><figcaption class="sr">{}</figcaption>'
        '<ul class="legend">{}</ul><div class="area">{}</div>'
        '<details class="more"><summary>{}</summary>{}</details></figure>'
    ).format(
        json.dumps(_told(plot)),
        plot.title,
        legend,
        _drawing(plot),
        plot.words("Show as a table"),
        _table(plot),
    )


def _legend(series: Series) -> Markup:
    name = (
        Markup('<a href="{}" title="{}">{}</a>').format(series.link, series.name, series.name)
        if series.link
        else Markup("<span>{}</span>").format(series.name)
    )
    return Markup('<li><span class="swatch k{}"></span>{}</li>').format(series.colour, name)


def _told(plot: Plot) -> dict[str, object]:
    """For the script."""
    scale = NANOS_PER_UNIT if plot.unit == "money" else 1

    def scaled(values: Sequence[float | None]) -> list[float | None]:
        return [None if value is None else value / scale for value in values]

    return {
        "title": plot.title,
        "kind": plot.kind,
        "unit": plot.unit,
        "sign": with_sign("", plot.currency) if plot.unit == "money" else "",
        "at": list(plot.at_ms),
        "slot": plot.slot_ms,
        "series": [{"name": each.name, "colour": each.colour} for each in plot.series],
        "values": [scaled(each.values) for each in plot.series],
        "before": None if plot.before is None else scaled(plot.before),
        "more": _more(plot),
        "zoom": plot.zoom,
    }


def _more(plot: Plot) -> list[str]:
    """Columns of the table after the series."""
    total = [plot.words("Total")] if plot.kind == "bars" else []
    return total + ([plot.before_name.capitalize()] if plot.before is not None else [])


def _text_of(plot: Plot) -> Callable[[float | None], str]:
    if plot.unit == "money":
        return lambda value: money_text(None if value is None else round(value), plot.currency)
    return {"count": count_text, "ms": duration_text, "share": share_text}[plot.unit]


def _table(plot: Plot) -> Markup:
    text = _text_of(plot)
    heads = [plot.words("Time"), *(each.name for each in plot.series), *_more(plot)]
    head = Markup("").join(
        Markup('<th scope="col"{}>{}</th>').format(Markup(' class="n"') if place else "", name)
        for place, name in enumerate(heads)
    )
    totals = plot.totals
    rows: list[str] = []
    for place, at_ms in enumerate(plot.at_ms):
        values = [each.values[place] for each in plot.series]
        if plot.kind == "bars":
            values.append(totals[place])
        if plot.before is not None:
            values.append(plot.before[place])
        cells = "".join(f'<td class="n">{escape(text(value))}</td>' for value in values)
        rows.append(f'<tr><th scope="row">{moment(at_ms)}</th>{cells}</tr>')
    return Markup(
        '<div class="table" tabindex="0" role="region" aria-label="{}"><table>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(plot.words("{title} as a table").format(title=plot.title), head, Markup("".join(rows)))  # noqa: S704 - escaped above


def _drawing(plot: Plot) -> Markup:
    """What is seen until the script has drawn, or without any."""
    tops = plot.totals if plot.kind == "bars" else [v or 0 for s in plot.series for v in s.values]
    most = max([*tops, *(v or 0 for v in plot.before or ())], default=0) * 1.08 or 1.0
    slots = max(1, len(plot.at_ms))
    step = (_WIDTH - _LEFT) / slots

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / most * (_HEIGHT - _BOTTOM - _TOP)

    parts: list[str] = []
    text = _text_of(plot)
    for mark in ticks(0, most, 4):
        shown = text(mark) if plot.unit != "count" else number_text(mark)
        at = f"{y(mark):.1f}"
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 8}" y="{at}" dy="4">{escape(shown)}</text>')
    below = [0.0] * slots
    for each in plot.series:
        if plot.kind == "lines":
            points = " ".join(
                f"{_LEFT + (place + 0.5) * step:.1f},{y(value):.1f}"
                for place, value in enumerate(each.values)
                if value is not None
            )
            parts.append(f'<polyline class="k{each.colour}" points="{points}"/>')
            continue
        bars: list[str] = []
        for place, value in enumerate(each.values):
            if value:
                top = y(below[place] + value)
                x = _LEFT + (place + 0.1) * step
                bars.append(
                    f"M{x:.1f} {top:.1f}h{step * 0.8:.1f}V{y(below[place]):.1f}h-{step * 0.8:.1f}z"
                )
                below[place] += value
        parts.append(f'<path class="k{each.colour}" d="{"".join(bars)}"/>')
    return Markup(  # noqa: S704 - the texts in it are escaped
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(plot.title)}">'
        f"{''.join(parts)}</svg>"
    )
