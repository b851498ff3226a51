"""What offers cost as drawings: for terminals, and for pages."""

from __future__ import annotations

from markupsafe import Markup

from merino.pages.charts import amount_bars, by_month
from merino.roi.comparison import Comparison
from merino.roi.words import dollars

_BLOCKS = " ▏▎▍▌▋▊▉"
_BAR_COLUMNS_MIN = 10


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


def month_bars(found: Comparison) -> Markup:
    """Every offer's month as a bar with its amount."""
    rows = [
        (
            line.offer.name,
            float(line.month_nanos),
            dollars(line.month_nanos),
            line.offer.kind == "relay",
        )
        for line in found.lines
    ]
    return amount_bars("Cost of a month by offer", rows)


def growth_chart(found: Comparison) -> Markup:
    """Cumulated cost of the baseline and the relay, month by month, fixed costs included."""
    relay, horizon = found.relay, found.horizon
    if relay is None or horizon.months < 2:
        return Markup("")
    volumes = [float(horizon.volume(month)) for month in range(horizon.months + 1)]
    direct = [found.baseline.month_nanos * volume for volume in volumes]
    through = [
        relay.month_nanos * volume + horizon.fixed_nanos * month + horizon.setup_nanos
        for month, volume in enumerate(volumes)
    ]
    month = None if found.break_even is None else found.break_even.month
    is_marked = horizon.fixed_nanos or horizon.setup_nanos
    mark = None
    if is_marked and month is not None and month <= horizon.months:
        mark = (month, f"pays from month {month}")
    return by_month(
        "Cumulated cost by month",
        [(relay.offer.name, through), (found.baseline.offer.name, direct)],
        lambda nanos: dollars(round(nanos)).removesuffix(".00"),
        mark,
    )
