"""The component sheet: every component that pages are made of, beside each other."""

from __future__ import annotations

import math
from typing import NamedTuple

from starlette.responses import Response

from merino.dashboard.parts import FormProblem, Visit
from merino.domain.clock import HOUR_MS, epoch_ms
from merino.pages.plot import Plot, Series, plotted

_SLOTS = 48
_ACTION = "/dashboard/design"
COLOURS = (
    "ground", "paper", "band", "lift", "ink", "soft", "rule", "edge", "accent", "tint", "good",
    "warn", "bad", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7",
)  # fmt: skip


class Row(NamedTuple):
    """A line of the example table."""

    name: str
    state: str
    kind: str
    nanos: int
    calls: int
    share: float


async def sheet(visit: Visit) -> Response:
    """Served to operators, so that who works on the pages sees all components at once."""
    now_ms = epoch_ms() // HOUR_MS * HOUR_MS
    at_ms = [now_ms - (_SLOTS - place) * HOUR_MS for place in range(_SLOTS)]

    def wave(size: float, shift: float) -> list[float | None]:
        return [
            round(1e9 * size * (1.2 + math.sin(place / 6 + shift)) * (2.6 if place > 36 else 1))
            for place in range(_SLOTS)
        ]

    names = ("o3", "o4-mini", "claude-sonnet-4", "gpt-4.1", "others")
    series = [
        Series(name, wave(1.4 / (place + 1), place), "#chart", 7 if name == "others" else place)
        for place, name in enumerate(names)
    ]
    speeds = [
        Series("p50", [400 + 90 * math.sin(place / 5) for place in range(_SLOTS)], colour=0),
        Series("p95", [900 + 260 * math.sin(place / 5 + 1) for place in range(_SLOTS)], colour=2),
    ]
    visit_problem = FormProblem(
        f"{_ACTION}/wrong", "The cap must be an amount such as 5.00.", "cap", {"cap": "much"}
    )
    return await visit.page(
        "design.html",
        bars=plotted(
            Plot("Spend by model", "bars", "money", at_ms, HOUR_MS, series, "USD", wave(1.5, 2))
        ),
        lines=plotted(Plot("Time to first token", "lines", "ms", at_ms, HOUR_MS, speeds)),
        rows=[
            Row("billing-service", "active", "good", 1_234_567_890_000, 98_120, 0.93),
            Row("etl-backfill", "near its cap", "warn", 25_170_000_000, 12_400, 0.81),
            Row(
                "a-key-with-a-name-that-is-far-too-long-for-its-column", "off", "", 382_031, 3, 1.0
            ),
        ],
        colours=COLOURS,
        at_ms=now_ms - HOUR_MS,
        shown_problem=visit_problem,
        currency="USD",
    )
