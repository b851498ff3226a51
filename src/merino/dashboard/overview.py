"""The first page: how many calls, how quick, at what cost; and live, what happens now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse

from merino.control.notices import TITLES, advice
from merino.control.overview import WINDOWS_MS, CallSums, Overview
from merino.control.ports import CallFilter
from merino.dashboard.parts import Visit, count, milliseconds, moment, money, percent
from merino.domain.call import CallRecord
from merino.domain.errors import InvalidCall
from merino.pages.charts import time_bars

LIVE_S = 2.0
_BARS_MAX = 96
_NEWEST = 8


async def overview(visit: Visit) -> Response:
    window = _window(visit)
    found = await visit.desk.overview.overview(window, visit.scope)
    newest = await visit.control.list_calls(CallFilter(account_id=visit.scope), limit=_NEWEST)
    names = {key.id: key.name for key in visit.own_keys()}
    accounts = {account.id: account.name for account in visit.own_accounts()}
    tables = [
        (title, sorted(rows, key=lambda row: -row.calls)[:10], {**accounts, **names})
        for title, rows in found.by.items()
    ]
    return visit.page(
        "overview.html",
        alerts=_alerts(visit),
        window=window,
        windows=list(WINDOWS_MS),
        total=found.total,
        latencies=found.latencies,
        figures=_figures(visit, found.total),
        chart=time_bars(_in_time_bars(found), "Calls over time"),
        tables=tables,
        newest=newest.items,
        key_names=names,
    )


async def live(visit: Visit) -> Response:
    """Server-sent events with the figures of the page, every two seconds. Nothing for a page of
    another account than the one that was switched to meanwhile: 204 keeps it from asking again."""
    if visit.query("account", visit.scope or "") != (visit.scope or ""):
        return Response(status_code=204)
    window = _window(visit)

    async def events() -> AsyncIterator[str]:
        while not await visit.request.is_disconnected():
            if visit.desk.session_of(visit.request) is None:
                return
            total = await visit.desk.overview.total(window, visit.scope)
            newest = await visit.control.list_calls(
                CallFilter(account_id=visit.scope), limit=_NEWEST
            )
            data = {
                "alerts": _alerts(visit),
                "figures": _figures(visit, total),
                "calls": [_line(call, visit.currency) for call in newest.items],
            }
            yield f"data: {json.dumps(data)}\n\n"
            await asyncio.sleep(LIVE_S)

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _window(visit: Visit) -> str:
    window = visit.query("window", "24h")
    if window not in WINDOWS_MS:
        raise InvalidCall(f"The window must be one of {', '.join(WINDOWS_MS)}.", param="window")
    return window


def _alerts(visit: Visit) -> list[str]:
    """What an operator has to mend now."""
    if not visit.session.is_operator:
        return []
    return [
        f"Deployment {each.deployment}: {TITLES[each.kind]} ({each.status}) since "
        f"{moment(each.since_ms)} UTC. Calls go to other deployments, or fail if there is none. "
        f"{advice(each)}"
        for each in visit.control.troubles()
    ]


def _figures(visit: Visit, total: CallSums) -> dict[str, str]:
    figures = {
        "running": count(len(visit.control.running_calls(visit.scope))),
        "calls": count(total.calls),
        "input": count(total.input_tokens),
        "cached": count(total.cached_tokens),
        "output": count(total.output_tokens),
        "reasoning": count(total.reasoning_tokens),
        "cost": money(total.charged_nanos, currency=visit.currency),
        "errors": percent(total.failed / total.calls if total.calls else None),
        "refused": count(total.refused),
    }
    if visit.session.is_operator:
        figures["margin"] = money(total.margin_nanos, currency=visit.currency)
    return figures


def _line(call: CallRecord, currency: str | None) -> dict[str, Any]:
    return {
        "id": call.id,
        "at": moment(call.at_ms),
        "alias": call.alias,
        "status": call.status,
        "tokens": f"{call.input_tokens:,} / {call.output_tokens:,}",
        "cost": money(call.charged_nanos, 4, currency),
        "ttft": milliseconds(call.ttft_ms),
    }


def _in_time_bars(found: Overview) -> list[tuple[str, float, float]]:
    """Slots put together until there are few enough to be seen; empty ones are there, too."""
    if not found.by_time:
        return []
    slots = WINDOWS_MS[found.window] // found.slot_ms
    size = max(1, -(-slots // _BARS_MAX))
    by_bar: dict[int, tuple[int, int]] = {}
    for row in found.by_time:
        place = int(row.group) // size
        calls, failed = by_bar.get(place, (0, 0))
        by_bar[place] = (calls + row.calls, failed + row.failed)
    last = max(by_bar)
    bars_: list[tuple[str, float, float]] = []
    for place in range(last - slots // size, last + 1):
        calls, failed = by_bar.get(place, (0, 0))
        title = f"{moment(place * size * found.slot_ms)[:16]} UTC"
        bars_.append((f"{title}: {calls:,} calls, {failed:,} failed", calls, failed))
    return bars_
