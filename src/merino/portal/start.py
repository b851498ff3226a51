"""The start page: three steps to a first paid call, then the facts of the account."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import FormData
from starlette.responses import HTMLResponse, Response

from merino.control.overview import CallSums
from merino.control.ports import CallFilter
from merino.domain.call import CallRecord
from merino.domain.clock import DAY_MS, epoch_ms
from merino.portal.keys import new_key
from merino.portal.price_list import Offered, prices_of
from merino.portal.sums import used
from merino.portal.visits import HEADERS, Visit, made

_CALLS = 5
_PACE_DAYS = 7


async def show_start(visit: Visit) -> Response:
    return await shown(visit)


async def shown(visit: Visit, secret: str = "") -> Response:
    account_id = visit.member.account_id
    calls = await _newest(visit)
    keys = [key for key in visit.own_keys() if not key.disabled]
    state = visit.control.accounts.show(account_id)
    week = await used(visit.desk, account_id, "7d")
    month = await used(visit.desk, account_id, "30d")
    return await visit.page(
        "start.html",
        state=state,
        secret=secret,
        keys=keys,
        calls=calls,
        model=first_model(visit),
        address=visit.address,
        week=week,
        month=month,
        runway_days=runway_days(state.balance.available_nanos, week, state.account.created_at_ms),
        is_started=bool(calls),
        may_make_keys=visit.role != "viewer",
    )


async def make_first_key(visit: Visit, _: FormData) -> Response:
    """The page again, with the secret in its code: it is shown this once."""
    secret = (await new_key(visit, "first key", {}))[1]
    return await shown(visit, secret)


async def newest_calls(visit: Visit) -> Response:
    """The part of the page that shows calls as they come."""
    shown = {
        "_": visit.words,
        "calls": await _newest(visit),
        "currency": visit.account.currency,
    }
    text = await made("calls_part.html", shown)
    return HTMLResponse(text, headers=HEADERS)


async def _newest(visit: Visit) -> list[CallRecord]:
    page = await visit.control.list_calls(
        CallFilter(account_id=visit.member.account_id), limit=_CALLS
    )
    return list(page.items)


def runway_days(available_nanos: int, week: CallSums, opened_at_ms: int) -> float | None:
    """How long the balance lasts if spending goes on as in the last days; `None` while nothing is
    spent. A young account's pace is that of the days it has had."""
    if week.charged_nanos <= 0:
        return None
    days = min(float(_PACE_DAYS), max(1.0, (epoch_ms() - opened_at_ms) / DAY_MS))
    return max(0.0, available_nanos / (week.charged_nanos / days))


def first_model(visit: Visit) -> str:
    """What a first call should ask: the cheapest of those with a plain name, or any."""
    return cheapest_chat(prices_of(visit.desk, visit.member.account_id))


def cheapest_chat(listed: Sequence[Offered]) -> str:
    """What answers nothing costs nothing to answer: an embedding model is none to chat with."""
    if not listed:
        return "o3-mini"
    talking = [each for each in listed if each.output > 0] or listed
    plain = [each for each in talking if "/" not in each.alias] or talking
    return min(plain, key=lambda each: (each.output, each.alias)).alias
