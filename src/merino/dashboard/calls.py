"""Calls: the list, one call with its timeline, and the export."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from starlette.responses import Response, StreamingResponse

from merino.control.overview import WINDOWS_MS
from merino.control.ports import CallFilter, EntryFilter
from merino.dashboard.parts import Visit
from merino.domain.call import CallRecord
from merino.domain.clock import epoch_ms
from merino.domain.errors import InvalidCall, NotFound
from merino.domain.spreadsheet import csv_text

_PAGE = 50
_RUNNING_MAX = 50
_EXPORT_PAGE = 500
_EXPORT_MAX = 100_000
_COLUMNS = (
    "id", "at_ms", "alias", "key_id", "account_id", "deployment", "status", "error_code",
    "error_message",
    "streamed", "duration_ms", "ttft_ms", "input_tokens", "cached_tokens", "output_tokens",
    "reasoning_tokens", "charged_nanos", "price_id", "resolution",
)  # fmt: skip
_OPERATORS_ONLY = frozenset(("deployment",))


async def list_calls(visit: Visit) -> Response:
    wanted = _filter(visit)
    page = await visit.control.list_calls(wanted, limit=_PAGE, cursor=visit.query("cursor") or None)
    if visit.query("id"):
        found = await visit.control.show_call(visit.query("id").strip())
        items = [found] if visit.scope in (None, found.account_id) else []
        page = replace(page, items=items, next_cursor=None)
    kept = {name: value for name, value in visit.request.query_params.items() if name != "cursor"}
    return visit.page(
        "calls.html",
        calls=page.items,
        next_cursor=page.next_cursor,
        running=visit.control.running_calls(visit.scope)[:_RUNNING_MAX],
        kept=kept,
        key_names={key.id: key.name for key in visit.own_keys()},
        aliases=[alias.name for alias in visit.desk.catalog().aliases],
        keys=visit.own_keys(),
        accounts=visit.own_accounts(),
        windows=list(WINDOWS_MS),
    )


async def show_call(visit: Visit) -> Response:
    call = await visit.control.show_call(visit.request.path_params["call"])
    if visit.scope not in (None, call.account_id):
        raise NotFound("There is no such call.", code="call_not_found")
    entries = await visit.control.list_entries(EntryFilter(call_id=call.id), limit=20)
    keys = {key.id: key.name for key in visit.own_keys()}
    return visit.page(
        "call.html",
        call=call,
        currency=_currency_of(visit, call),
        entries=entries.items,
        key_name=keys.get(call.key_id, call.key_id),
        timeline=_timeline(call, is_operator=visit.session.is_operator),
    )


async def export_calls(visit: Visit) -> Response:
    form = visit.request.path_params["form"]
    if form not in ("csv", "jsonl"):
        raise NotFound("There is no such page.")
    wanted = _filter(visit)
    columns = [
        name for name in _COLUMNS if visit.session.is_operator or name not in _OPERATORS_ONLY
    ]

    async def lines() -> AsyncIterator[str]:
        if form == "csv":
            yield csv_text([columns])
        cursor: str | None = None
        sent = 0
        while sent < _EXPORT_MAX:
            page = await visit.control.list_calls(wanted, limit=_EXPORT_PAGE, cursor=cursor)
            for call in page.items:
                row = {name: getattr(call, name) for name in columns}
                yield csv_text([row.values()]) if form == "csv" else json.dumps(row) + "\n"
            sent += len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    kind = "text/csv; charset=utf-8" if form == "csv" else "application/x-ndjson"
    headers = {
        "content-disposition": f'attachment; filename="calls.{form}"',
        "cache-control": "no-store",
    }
    return StreamingResponse(lines(), media_type=kind, headers=headers)


def _currency_of(visit: Visit, call: CallRecord) -> str | None:
    for account in visit.own_accounts():
        if account.id == call.account_id:
            return account.currency
    return None


def _filter(visit: Visit) -> CallFilter:
    """What is asked for, within what may be seen."""
    since_ms = None
    if (window := visit.query("window")) in WINDOWS_MS:
        since_ms = epoch_ms() - WINDOWS_MS[window]
    key, account = visit.query("key"), visit.query("account")
    status = visit.query("status")
    if status and not (status.isascii() and status.isdigit() and len(status) == 3):
        raise InvalidCall("The status must be an HTTP status such as 200.", param="status")
    return CallFilter(
        account_id=visit.scope or (visit.account(account).id if account else None),
        key_id=visit.key(key).id if key else None,
        alias=visit.query("alias") or None,
        status=int(status) if status else None,
        since_ms=since_ms,
    )


def _timeline(call: CallRecord, *, is_operator: bool) -> list[dict[str, Any]]:
    """Where its time went: title, start, length (ms), and how it ended."""
    whole = max(call.duration_ms, 0.001)
    steps: list[tuple[str, float, float, str]] = []
    if call.queue_ms > 0:
        steps.append(("waiting for limits and credit", 0.0, call.queue_ms, ""))
    for attempt in call.attempts:
        detail = attempt.outcome + (f", {attempt.status}" if attempt.status else "")
        if attempt.message and is_operator:
            detail += f": {attempt.message}"
        if attempt.reason_for_next:
            detail += f"; next: {attempt.reason_for_next}"
        steps.append((f"attempt at {attempt.deployment}", attempt.started_ms,
                      attempt.duration_ms, detail))  # fmt: skip
        if attempt.backoff_ms:
            ended_ms = attempt.started_ms + attempt.duration_ms
            steps.append(("backoff before the next attempt", ended_ms, attempt.backoff_ms, ""))
    answered = max(0.0, whole - call.upstream_ms)
    if call.upstream_ms:
        title = f"answer of {call.deployment}" if call.deployment else "answer"
        steps.append((title, answered, call.upstream_ms, str(call.status)))
    if call.ttft_ms is not None:
        steps.append(("first token", call.ttft_ms, 0.0, ""))
    steps.append((call.resolution, whole, 0.0, f"relay's own time {call.relay_ms:.2f} ms"))
    return [
        {
            "title": title,
            "start_ms": start,
            "length_ms": length,
            "detail": detail,
            "x": min(100.0, start / whole * 100),
            "width": max(0.6, min(100.0 - min(100.0, start / whole * 100), length / whole * 100)),
        }
        for title, start, length, detail in steps
    ]
