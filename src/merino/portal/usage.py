"""What an account has used: by model, by key, over time, call by call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from markupsafe import Markup
from starlette.responses import Response, StreamingResponse

from merino.control.overview import CallSums
from merino.control.ports import CallFilter
from merino.domain.clock import iso
from merino.domain.money import format_nanos
from merino.domain.spreadsheet import csv_text
from merino.pages.plot import Plot, Series, plotted
from merino.portal.keys import shown_name
from merino.portal.sums import WINDOWS_MS, used, used_by, used_over_time
from merino.portal.visits import HEADERS, Visit

_CALLS = 25
_EXPORTED_AT_ONCE = 500
_COLUMNS = (
    *("id", "time", "key", "model", "status", "input_tokens", "output_tokens", "cost", "currency"),
)


async def show_usage(visit: Visit) -> Response:
    window = visit.query("window", "7d")
    window = window if window in WINDOWS_MS else "7d"
    account = visit.account
    page = await visit.control.list_calls(
        CallFilter(account_id=account.id), limit=_CALLS, cursor=visit.query("cursor") or None
    )
    return await visit.page(
        "usage.html",
        window=window,
        windows=tuple(WINDOWS_MS),
        total=await used(visit.desk, account.id, window),
        by_alias=await used_by(visit.desk, account.id, window, "alias"),
        by_key=await used_by(visit.desk, account.id, window, "key"),
        chart=_chart(visit, *await used_over_time(visit.desk, account.id, window)),
        level=await visit.control.sla.of(account.id) if visit.control.sla.is_on else None,
        objective=visit.control.sla.objective,
        key_names={key.id: shown_name(key, account) for key in visit.own_keys()},
        calls=page.items,
        next_cursor=page.next_cursor,
    )


def _chart(visit: Visit, slot_ms: int, slots: Mapping[int, CallSums]) -> Markup:
    return plotted(
        Plot(
            visit.words("Spending over time"),
            "bars",
            "money",
            list(slots),
            slot_ms,
            [Series(visit.words("Spent"), [float(each.charged_nanos) for each in slots.values()])],
            visit.account.currency,
            words=visit.words,
        )
    )


async def export_calls(visit: Visit) -> Response:
    """All calls that are kept, as CSV, without what was asked and answered."""
    account = visit.account
    names = {key.id: shown_name(key, account) for key in visit.own_keys()}

    async def lines() -> AsyncIterator[str]:
        yield csv_text([_COLUMNS])
        cursor: str | None = None
        while True:
            page = await visit.control.list_calls(
                CallFilter(account_id=account.id), limit=_EXPORTED_AT_ONCE, cursor=cursor
            )
            yield csv_text(
                (
                    call.id,
                    iso(call.at_ms),
                    names.get(call.key_id, call.key_id),
                    call.alias,
                    call.status,
                    call.input_tokens,
                    call.output_tokens,
                    format_nanos(call.charged_nanos),
                    account.currency,
                )
                for call in page.items
            )
            cursor = page.next_cursor
            if cursor is None:
                return

    return StreamingResponse(
        lines(),
        media_type="text/csv; charset=utf-8",
        headers={**HEADERS, "content-disposition": 'attachment; filename="calls.csv"'},
    )
