"""Small charts as SVG, coloured by the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from markupsafe import Markup

WIDTH, HEIGHT = 720, 130


def bars(values: Sequence[tuple[str, float, float]], label: str) -> Markup:
    """Bars over time: a title, a value, and the part of it that went wrong."""
    most = max((value for _, value, _ in values), default=0.0)
    if not values or most <= 0:
        return Markup('<p class="soft">Nothing in this window yet.</p>')
    step = WIDTH / len(values)
    parts: list[str] = []
    for index, (title, value, wrong) in enumerate(values):
        height = value / most * HEIGHT
        bad = wrong / most * HEIGHT
        x, width = index * step, max(1.0, step * 0.85)
        parts.append(
            f'<g><title>{escape(title)}</title><rect class="bar" x="{x:.1f}" '
            f'y="{HEIGHT - height:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
            + (
                f'<rect class="bar bad" x="{x:.1f}" y="{HEIGHT - bad:.1f}" width="{width:.1f}" '
                f'height="{bad:.1f}"/>'
                if bad > 0
                else ""
            )
            + "</g>"
        )
    first, last = values[0][0].partition(" UTC")[0], values[-1][0].partition(" UTC")[0]
    return Markup(  # noqa: S704 - every text in it is escaped
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}" preserveAspectRatio="none">{"".join(parts)}</svg>'
        f'<p class="span soft small"><span>{escape(first)}</span><span>{escape(last)}</span></p>'
    )
