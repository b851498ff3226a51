"""Keys: issue, limit, rotate, withdraw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args
from urllib.parse import urlencode

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.control.call_search import CallQuery
from merino.control.usage import Cut, Measure, Span, given_span, named_span
from merino.dashboard.overview import change, usage_plot
from merino.dashboard.parts import BASE, Visit, body_of, go, text_of
from merino.dashboard.selection import WINDOWS, selection_of
from merino.domain.account import SpendPeriod
from merino.domain.clock import epoch_ms
from merino.domain.errors import NotFound
from merino.domain.key import VirtualKey
from merino.domain.limits import LIMIT_KINDS
from merino.domain.money import with_sign
from merino.operations import keys as operations
from merino.operations.keys import IssuedKey, KeyChange, NewKey, Rotation
from merino.pages.moments import day_text
from merino.pages.plot import plotted

_CAPPED = 500
_GROUPS = 500
_ADDRESSES = 12
_PERIODS: tuple[SpendPeriod, ...] = get_args(SpendPeriod)[::-1]
"""The longest first: what a new key has."""
KEEPS = (
    ("0", "at once"),
    ("10m", "in 10 minutes"),
    ("1h", "in an hour"),
    ("1d", "in a day"),
    ("7d", "in a week"),
)
"""When the old secret of a rotated key ends."""
_TERMS = (
    *("aliases", "expires_at", "spend_cap", "spend_period"),
    *LIMIT_KINDS,
)


async def list_keys(visit: Visit) -> Response:
    return await visit.page("keys.html", made=None, secret=None, **await _values(visit))


async def find_key(visit: Visit, form: FormData) -> Response:
    """By a whole secret, which is never in an address, or a part of the name or the hint."""
    text = text_of(form, "find")[:200]
    key = visit.desk.find_key(text.encode()) if text else None
    if key is not None and visit.scope in (None, key.account_id):
        return go(f"{BASE}/keys/{key.id}")
    found = [each for each in visit.own_keys() if _has(each, text)]
    if len(found) == 1:
        return go(f"{BASE}/keys/{found[0].id}")
    if not found:
        raise NotFound("There is no key of this name, hint or secret.", code="key_not_found")
    query = urlencode({"q": text})
    return go(f"{BASE}/keys?{query}")


def _has(key: VirtualKey, text: str) -> bool:
    return text.lower() in f"{key.name} {key.hint} {key.id}".lower()


async def create_key(visit: Visit, form: FormData) -> Response:
    account = visit.account(text_of(form, "account") or visit.scope or "default")
    body = body_of(form, NewKey, "name", *_TERMS, account=account.name)
    issued: IssuedKey = await visit.perform(operations.create_key, body)
    return await visit.page("keys.html", made=issued, secret=issued.key, **await _values(visit))


async def show_key(visit: Visit) -> Response:
    key = visit.key(visit.request.path_params["key"])
    last_used = await visit.desk.overview.last_used_ms([key.id])
    return await _page(visit, key, last_used_ms=last_used.get(key.id))


async def update_key(visit: Visit, form: FormData) -> Response:
    key = visit.key(visit.request.path_params["key"])
    wanted = {"name", *_TERMS}
    if key.expires_at_ms and text_of(form, "expires_at") == day_text(key.expires_at_ms):
        wanted.remove("expires_at")  # as the page showed it; one that has passed may stay
    body = body_of(form, KeyChange, *wanted)
    await visit.perform(operations.update_key, body, key=key.name)
    return go(f"{BASE}/keys/{key.id}", "The key was changed")


async def switch_key(visit: Visit, _: FormData) -> Response:
    key = visit.key(visit.request.path_params["key"])
    switch = operations.enable_key if key.disabled else operations.disable_key
    await visit.perform(switch, key=key.name)
    return go(f"{BASE}/keys/{key.id}", f"{key.name} is {'on' if key.disabled else 'off'} now")


async def rotate_key(visit: Visit, form: FormData) -> Response:
    key = visit.key(visit.request.path_params["key"])
    body = body_of(form, Rotation, "keep_old")
    issued: IssuedKey = await visit.perform(operations.rotate_key, body, key=key.name)
    return await _page(visit, visit.key(key.id), secret=issued.key)


async def end_old(visit: Visit, _: FormData) -> Response:
    """The secret before the last rotation is void from now on."""
    key = visit.key(visit.request.path_params["key"])
    await visit.perform(operations.update_key, KeyChange(old_expires_at=None), key=key.name)
    return go(f"{BASE}/keys/{key.id}", "The old secret is void")


async def _page(
    visit: Visit, key: VirtualKey, *, secret: str | None = None, last_used_ms: int | None = None
) -> Response:
    chosen = selection_of(visit, default="30d")
    cut = Cut.of({"key": [key.id]})
    show: Measure = "spend" if visit.query("show") != "errors" else "errors"
    currency = _currencies(visit).get(key.account_id)
    view = await visit.desk.usage.view(chosen.span, cut, "alias", show, currency)
    query = CallQuery(cut, chosen.span.since_ms, chosen.span.until_ms, classes=(4, 5))
    return await visit.page(
        "key.html",
        key=key,
        chosen=chosen,
        windows=WINDOWS,
        view=view,
        show=show,
        chart=plotted(usage_plot(chosen, view, "alias", show, currency, {})) if view.stacks else "",
        failures=await visit.desk.search.failures(query, limit=8),
        limited=sum(
            each.calls
            for each in await visit.desk.search.failures(
                replace(query, classes=(), statuses=(429,)), limit=_GROUPS
            )
        ),
        addresses=await visit.desk.search.addresses(key.id, limit=_ADDRESSES),
        change=change,
        used=(await used_of_caps(visit, [key])).get(key.id),
        currency=currency,
        secret=secret,
        keeps=KEEPS,
        has_old=(key.old_expires_at_ms or 0) > epoch_ms(),
        last_used_ms=last_used_ms,
        periods=_PERIODS,
        aliases=_aliases(visit),
        sign=with_sign("", _currencies(visit).get(key.account_id)),
    )


async def _values(visit: Visit) -> dict[str, Any]:
    text = visit.query("q")[:200]
    keys = [each for each in visit.own_keys() if not text or _has(each, text)]
    span = named_span("30d", epoch_ms())
    assert span is not None
    cut = Cut.of({"account": [visit.scope]} if visit.scope else {})
    lines = await visit.desk.usage.lines("key", span, cut)

    def order(key: VirtualKey) -> tuple[bool, int, str]:
        line = lines.get(key.id)
        return key.disabled, -(line.now.charged_nanos if line else 0), key.name

    return {
        "keys": sorted(keys, key=order),
        "text": text,
        "lines": lines,
        "change": change,
        "used": await used_of_caps(visit, keys),
        "account_choices": [(each.id, each.name) for each in visit.own_accounts()],
        "currencies": _currencies(visit),
        "sign": with_sign("", visit.currency),
        "aliases": _aliases(visit),
        "periods": _PERIODS,
        "limited": await _limited(visit, span, cut),
        "last_used": await visit.desk.overview.last_used_ms([key.id for key in keys]),
    }


async def _limited(visit: Visit, span: Span, cut: Cut) -> dict[str, int]:
    """How many calls of each key met a limit."""
    query = CallQuery(cut, span.since_ms, span.until_ms, statuses=(429,))
    found: dict[str, int] = {}
    for each in await visit.desk.search.failures(query, limit=_GROUPS):
        found[each.key_id] = found.get(each.key_id, 0) + each.calls
    return found


async def used_of_caps(visit: Visit, keys: Sequence[VirtualKey]) -> dict[str, tuple[int, float]]:
    """What each key with a cap has spent in its period, and which part of the cap that is."""
    now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begins = {"day": now, "month": now.replace(day=1), "total": datetime.fromtimestamp(0, UTC)}
    found: dict[str, tuple[int, float]] = {}
    for period, began in begins.items():
        capped = {
            key.id: key.spend_cap_nanos
            for key in keys
            if key.spend_cap_nanos is not None and key.spend_period == period
        }
        if capped:
            span = given_span(int(began.timestamp() * 1000), epoch_ms() + 1)
            lines = await visit.desk.usage.lines(
                "key", span, Cut.of({"key": list(capped)[:_CAPPED]})
            )
            for key_id, cap in capped.items():
                spent = lines[key_id].now.charged_nanos if key_id in lines else 0
                found[key_id] = (spent, spent / cap if cap else 1.0)
    return found


def _currencies(visit: Visit) -> dict[str, str]:
    return {account.id: account.currency for account in visit.own_accounts()}


def _aliases(visit: Visit) -> list[str]:
    return [alias.name for alias in visit.desk.catalog().aliases]
