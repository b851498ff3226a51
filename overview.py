"""The overview, and the same again whenever a call has ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from merino.control.overview import WINDOWS, Figures, GroupBy, Overview, Window, renamed
from merino.control.ports import CallFilter
from merino.dashboard import charts
from merino.dashboard.guard import Guard
from merino.dashboard.view import count, short_money
from merino.dashboard.visit import Visit
from merino.domain.errors import InvalidCall, LimitExceeded

LOOK_EVERY_S = 0.5
REMAKE_EVERY_S = 1.0
SILENCE_S = 15.0
STREAM_S_MAX = 600.0
"""Browsers connect again by themselves; so nobody watches forever who has left."""
LATEST_CALLS = 8
GROUP_ROWS = 12
_TITLES: dict[GroupBy, str] = {
    "alias": "Model",
    "key": "Key",
    "account": "Account",
    "deployment": "Deployment",
}


def overview_routes(guard: Guard) -> list[Route]:
    watching = _Watching(lambda: guard.parts.settings().dashboard.live_max)

    async def live(visit: Visit) -> Response:
        window = _window(visit)
        watching.enter()
        return StreamingResponse(
            _Live(guard, visit, window, watching).events(),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )

    return [
        Route("/", guard.page(_show), methods=["GET"]),
        Route("/live", guard.page(live), methods=["GET"]),
    ]


async def _show(visit: Visit) -> Response:
    window = _window(visit)
    return visit.page(
        "overview.html", "overview", windows=list(WINDOWS), **await _figures(visit, window)
    )


def _window(visit: Visit) -> Window:
    name = visit.query.text("window") or "24h"
    window = WINDOWS.get(name)
    if window is None:
        raise InvalidCall(f"window must be one of {', '.join(WINDOWS)}", param="window")
    return window


async def _figures(visit: Visit, window: Window) -> dict[str, Any]:
    parts = visit.parts
    found = await parts.overview.make(window, visit.account_id)
    latest = await parts.control.list_calls(
        CallFilter(account_id=visit.account_id), limit=LATEST_CALLS
    )
    currency = _main_currency(found)
    by_day = window.step == "day"
    return {
        "window": window,
        "found": found,
        "groups": _groups(visit, found),
        "latest": latest.items,
        "calls_chart": charts.bars(
            [(at_ms, each.calls, each.failed) for at_ms, each in found.by_time],
            label="Calls",
            form=lambda value: count(round(value)),
            by_day=by_day,
        ),
        "cost_chart": charts.bars(
            [(at_ms, each.charged_nanos.get(currency, 0), 0) for at_ms, each in found.by_time],
            label=f"Cost in {currency}",
            form=lambda value: short_money(round(value), currency),
            by_day=by_day,
        ),
        "names": _names(visit),
        "currencies": {each.id: each.currency for each in visit.accounts()},
    }


def _main_currency(found: Overview) -> str:
    charged = found.total.charged_nanos
    return max(charged, key=lambda name: charged[name], default="USD")


def _names(visit: Visit) -> dict[str, str]:
    keys = visit.parts.control.keys.all()
    return {each.id: each.name for each in (*keys, *visit.accounts())}


def _groups(visit: Visit, found: Overview) -> list[tuple[GroupBy, str, list[Figures], int]]:
    names = _names(visit)
    wanted: list[GroupBy] = ["alias", "key"]
    if visit.is_operator:
        wanted += ["account", "deployment"]
    return [
        (by, _TITLES[by], renamed(found.groups[by][:GROUP_ROWS], names), len(found.groups[by]))
        for by in wanted
    ]


class _Watching:
    """How many browsers watch."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._now = 0

    def enter(self) -> None:
        if self._now >= self._most():
            raise LimitExceeded("Too many browsers watch already.", retry_after_s=60)
        self._now += 1

    def leave(self) -> None:
        self._now -= 1


@dataclass(frozen=True, slots=True)
class _Live:
    guard: Guard
    visit: Visit
    window: Window
    watching: _Watching

    async def events(self) -> AsyncIterator[bytes]:
        """One event for each change, at most one a second; comments while nothing happens."""
        overview = self.guard.parts.overview
        ends_at = monotonic() + STREAM_S_MAX
        seen, said_at = -1, 0.0
        try:
            while monotonic() < ends_at and not self.guard.parts.is_stopping():
                if not self._may_still():
                    yield b"event: signed-out\ndata: {}\n\n"
                    return
                version = overview.version
                if version != seen:
                    seen, said_at = version, monotonic()
                    context = await _figures(self.visit, self.window)
                    html = self.visit.fragment("_figures.html", **context)
                    yield b"event: figures\ndata: " + json.dumps({"html": html}).encode() + b"\n\n"
                    await asyncio.sleep(REMAKE_EVERY_S)
                    continue
                if monotonic() - said_at > SILENCE_S:
                    said_at = monotonic()
                    yield b": still here\n\n"
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self.watching.leave()

    def _may_still(self) -> bool:
        session = self.visit.session
        return self.guard.sessions.is_alive(session) and self.guard.parts.logins.is_still_valid(
            session.identity
        )


