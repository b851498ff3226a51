"""Calls: the list with its filters, what failed alike, and the export."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import NamedTuple

from starlette.responses import Response, StreamingResponse

from merino.control.call_search import CallQuery
from merino.dashboard.call_columns import NUMBERS, columns_of, offered_columns
from merino.dashboard.overview import LIVE_S, currency_of, names_of, rows_of
from merino.dashboard.parts import Visit
from merino.dashboard.selection import (
    ALL_DIMENSIONS,
    ALL_WINDOWS,
    Chip,
    Selection,
    chips,
    selection_of,
)
from merino.domain.errors import InvalidCall, NotFound
from merino.domain.money import parse_nanos
from merino.domain.spreadsheet import csv_text

_PAGE = 50
_RUNNING_MAX = 50
_FAILURES = 100
_EXPORT_PAGE = 500
_EXPORT_MAX = 100_000
_COLUMNS = (
    "id", "at_ms", "alias", "key_id", "account_id", "deployment", "status", "error_code",
    "error_message",
    "streamed", "duration_ms", "ttft_ms", "input_tokens", "cached_tokens", "output_tokens",
    "reasoning_tokens", "charged_nanos", "price_id", "resolution", "end_user", "tags", "metadata",
    "address",
)  # fmt: skip
_OPERATORS_ONLY = frozenset(("deployment",))
_VALUES_MAX = 20
_MORE = {
    "status": "Status",
    "code": "Error code",
    "id": "Id",
    "cost": "Cost from",
    "took": "Took from",
    "first": "First token from",
    "stream": "Streamed",
}


class _Asked(NamedTuple):
    chosen: Selection
    query: CallQuery


async def list_calls(visit: Visit) -> Response:
    chosen, query = _asked(visit)
    is_grouped = visit.query("view") == "failures"
    cursor = visit.query("cursor") or None
    found = await visit.desk.search.calls(query, limit=_PAGE, cursor=cursor)
    names = names_of(visit)
    return await visit.page(
        "calls.html",
        chosen=chosen,
        windows=ALL_WINDOWS,
        chips=[*chips(chosen, names), *_chips(chosen)],
        calls=[] if is_grouped else found.items,
        found=found,
        count=await visit.desk.search.count(query),
        failures=await visit.desk.search.failures(query, limit=_FAILURES) if is_grouped else [],
        is_grouped=is_grouped,
        is_live=visit.query("live") == "1" and not cursor and not is_grouped,
        has_cursor=bool(cursor),
        columns=columns_of(visit),
        numbers=NUMBERS,
        offered_columns=offered_columns(visit),
        running=visit.control.running_calls(visit.scope)[:_RUNNING_MAX],
        names=names,
        currency_of=currency_of(visit),
        aliases=[alias.name for alias in visit.desk.catalog().aliases],
        key_pairs=[(key.id, key.name) for key in visit.own_keys()],
        account_pairs=[(each.id, each.name) for each in visit.own_accounts()],
        deployments=[each.name for each, _ in visit.control.list_deployments()],
        given={
            name: [value for kept, value in chosen.kept if kept == name]
            for name in (*ALL_DIMENSIONS, *_MORE)
        },
    )


async def tail_calls(visit: Visit) -> Response:
    """Server-sent events with the first page, every two seconds."""
    _asked(visit)

    async def events() -> AsyncIterator[str]:
        while not await visit.request.is_disconnected():
            if visit.desk.session_of(visit.request) is None:
                return
            found = await visit.desk.search.calls(_asked(visit).query, limit=_PAGE)
            data = {"rows": await rows_of(visit, found.items)}
            yield f"data: {json.dumps(data)}\n\n"
            await asyncio.sleep(LIVE_S)

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


async def export_calls(visit: Visit) -> Response:
    form = visit.request.path_params["form"]
    if form not in ("csv", "jsonl"):
        raise NotFound("There is no such page.")
    query = _asked(visit).query
    columns = [
        name for name in _COLUMNS if visit.session.is_operator or name not in _OPERATORS_ONLY
    ]

    async def lines() -> AsyncIterator[str]:
        if form == "csv":
            yield csv_text([columns])
        cursor: str | None = None
        sent = 0
        while sent < _EXPORT_MAX:
            found = await visit.desk.search.calls(query, limit=_EXPORT_PAGE, cursor=cursor)
            for call in found.items:
                row = {name: getattr(call, name) for name in columns}
                yield csv_text([row.values()]) if form == "csv" else json.dumps(row) + "\n"
            sent += len(found.items)
            cursor = found.next_cursor
            if cursor is None:
                return

    kind = "text/csv; charset=utf-8" if form == "csv" else "application/x-ndjson"
    headers = {
        "content-disposition": f'attachment; filename="calls.{form}"',
        "cache-control": "no-store",
    }
    return StreamingResponse(lines(), media_type=kind, headers=headers)


def _asked(visit: Visit) -> _Asked:
    """What is asked for, within what may be seen."""
    chosen = selection_of(visit, ALL_WINDOWS, "all")
    params = visit.request.query_params
    statuses, classes = _statuses([each for each in params.getlist("status") if each])
    stream = visit.query("stream")
    if stream not in ("", "yes", "no"):
        raise InvalidCall("stream must be yes or no.", param="stream")
    query = CallQuery(
        cut=chosen.cut,
        since_ms=chosen.span.since_ms,
        until_ms=chosen.span.until_ms,
        statuses=statuses,
        classes=classes,
        error_codes=tuple(each for each in params.getlist("code") if each)[:_VALUES_MAX],
        id_part=visit.query("id").strip()[:100],
        cost_min_nanos=_cost(visit.query("cost")),
        duration_min_ms=_milliseconds(visit.query("took"), "took"),
        first_token_min_ms=_milliseconds(visit.query("first"), "first"),
        streamed=None if not stream else stream == "yes",
    )
    return _Asked(chosen, query)


def _statuses(texts: list[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Exact ones, and first digits of those such as ``4xx``; ``error`` is both 4xx and 5xx."""
    exact: set[int] = set()
    classes: set[int] = set()
    for text in texts[:_VALUES_MAX]:
        if text == "error":
            classes |= {4, 5}
        elif len(text) == 3 and text[1:] == "xx" and text[0] in "245":
            classes.add(int(text[0]))
        elif text.isascii() and text.isdigit() and len(text) == 3:
            exact.add(int(text))
        else:
            raise InvalidCall(
                "The status must be an HTTP status such as 429, or 4xx, 5xx or error.",
                param="status",
            )
    return tuple(sorted(exact)), tuple(sorted(classes))


def _cost(text: str) -> int | None:
    if not text:
        return None
    try:
        nanos = parse_nanos(text.strip())
    except ValueError as error:
        raise InvalidCall(f"cost: {error}", param="cost") from None
    return max(0, nanos)


def _milliseconds(text: str, name: str) -> float | None:
    """Seconds, as they are typed in."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise InvalidCall(f"{name} must be a number of seconds such as 2.5.", param=name)
    return seconds * 1000


def _chips(chosen: Selection) -> list[Chip]:
    """Filters of calls alone."""
    found: list[Chip] = []
    for name, words in _MORE.items():
        given = [value for kept, value in chosen.kept if kept == name]
        for value in given:
            rest = [each for each in given if each != value]
            unit = " s" if name in ("took", "first") else ""
            found.append(Chip(words, f"{value}{unit}", chosen.link(None, **{name: rest})))
    return found
