"""Keys: issue, limit, rotate, withdraw."""

from __future__ import annotations

from typing import Any, get_args

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.dashboard.parts import BASE, Visit, body_of, go, text_of
from merino.domain.account import SpendPeriod
from merino.domain.key import VirtualKey
from merino.domain.limits import LIMIT_KINDS
from merino.domain.money import with_sign
from merino.operations import keys as operations
from merino.operations.keys import IssuedKey, KeyChange, NewKey
from merino.pages.moments import day_text

_PERIODS: tuple[SpendPeriod, ...] = get_args(SpendPeriod)[::-1]
"""The longest first: what a new key has."""
_TERMS = (
    *("aliases", "expires_at", "spend_cap", "spend_period"),
    *LIMIT_KINDS,
)


async def list_keys(visit: Visit) -> Response:
    return visit.page("keys.html", made=None, secret=None, **await _values(visit))


async def create_key(visit: Visit, form: FormData) -> Response:
    account = visit.account(text_of(form, "account") or visit.scope or "default")
    body = body_of(form, NewKey, "name", *_TERMS, account=account.name)
    issued: IssuedKey = await visit.perform(operations.create_key, body)
    return visit.page("keys.html", made=issued, secret=issued.key, **await _values(visit))


async def show_key(visit: Visit) -> Response:
    key = visit.key(visit.request.path_params["key"])
    last_used = await visit.desk.overview.last_used_ms([key.id])
    return _page(visit, key, last_used_ms=last_used.get(key.id))


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


async def rotate_key(visit: Visit, _: FormData) -> Response:
    key = visit.key(visit.request.path_params["key"])
    issued: IssuedKey = await visit.perform(operations.rotate_key, key=key.name)
    return _page(visit, visit.key(key.id), secret=issued.key)


def _page(
    visit: Visit, key: VirtualKey, *, secret: str | None = None, last_used_ms: int | None = None
) -> Response:
    return visit.page(
        "key.html",
        key=key,
        secret=secret,
        last_used_ms=last_used_ms,
        periods=_PERIODS,
        aliases=_aliases(visit),
        sign=with_sign("", _currencies(visit).get(key.account_id)),
    )


async def _values(visit: Visit) -> dict[str, Any]:
    keys = visit.own_keys()
    return {
        "keys": sorted(keys, key=lambda key: (key.disabled, key.name)),
        "account_choices": [(each.id, each.name) for each in visit.own_accounts()],
        "currencies": _currencies(visit),
        "sign": with_sign("", visit.currency),
        "aliases": _aliases(visit),
        "periods": _PERIODS,
        "last_used": await visit.desk.overview.last_used_ms([key.id for key in keys]),
    }


def _currencies(visit: Visit) -> dict[str, str]:
    return {account.id: account.currency for account in visit.own_accounts()}


def _aliases(visit: Visit) -> list[str]:
    return [alias.name for alias in visit.desk.catalog().aliases]
