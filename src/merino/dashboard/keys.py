"""Keys: issue, limit, rotate, withdraw."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.control.ports import KeyTerms
from merino.dashboard.parts import BASE, Visit, amount_of, go, number_of, text_of
from merino.domain.account import SpendPeriod
from merino.domain.errors import InvalidCall

_PERIODS: tuple[SpendPeriod, ...] = get_args(SpendPeriod)[::-1]
"""The longest first: what a new key has."""


async def list_keys(visit: Visit) -> Response:
    return visit.page("keys.html", made=None, secret=None, **await _values(visit))


async def create_key(visit: Visit, form: FormData) -> Response:
    account = visit.account(text_of(form, "account") or visit.scope or "default")
    key, secret = visit.control.keys.create(account.id, text_of(form, "name"), _terms(form))
    visit.note("create_key", key.name, ("account", account.name))
    return visit.page("keys.html", made=key, secret=secret, **await _values(visit))


async def show_key(visit: Visit) -> Response:
    key = visit.key(visit.request.path_params["key"])
    last_used = await visit.desk.overview.last_used_ms([key.id])
    return visit.page(
        "key.html",
        key=key,
        secret=None,
        last_used_ms=last_used.get(key.id),
        periods=_PERIODS,
        aliases=_aliases(visit),
    )


async def update_key(visit: Visit, form: FormData) -> Response:
    key = visit.key(visit.request.path_params["key"])
    terms = _terms(form)
    if (name := text_of(form, "name")) and name != key.name:
        terms["name"] = name
    if terms.get("expires_at_ms") == key.expires_at_ms:
        terms.pop("expires_at_ms", None)  # one that has passed may stay
    visit.control.keys.update(key.id, terms)
    visit.note("update_key", key.name, *terms.items())
    return go(f"{BASE}/keys/{key.id}", "The key was changed")


async def switch_key(visit: Visit, _: FormData) -> Response:
    key = visit.key(visit.request.path_params["key"])
    if key.disabled:
        visit.control.keys.enable(key.id)
    else:
        visit.control.keys.disable(key.id)
    visit.note("enable_key" if key.disabled else "disable_key", key.name)
    return go(f"{BASE}/keys/{key.id}", f"{key.name} is {'on' if key.disabled else 'off'} now")


async def rotate_key(visit: Visit, _: FormData) -> Response:
    key, secret = visit.control.keys.rotate(visit.key(visit.request.path_params["key"]).id)
    visit.note("rotate_key", key.name)
    return visit.page(
        "key.html",
        key=key,
        secret=secret,
        last_used_ms=None,
        periods=_PERIODS,
        aliases=_aliases(visit),
    )


async def _values(visit: Visit) -> dict[str, Any]:
    keys = visit.own_keys()
    return {
        "keys": sorted(keys, key=lambda key: (key.disabled, key.name)),
        "accounts": visit.own_accounts(),
        "aliases": _aliases(visit),
        "periods": _PERIODS,
        "last_used": await visit.desk.overview.last_used_ms([key.id for key in keys]),
    }


def _aliases(visit: Visit) -> list[str]:
    return [alias.name for alias in visit.desk.catalog().aliases]


def _terms(form: FormData) -> KeyTerms:
    period = text_of(form, "spend_period") or "total"
    if period not in _PERIODS:
        raise InvalidCall("The period must be total, month or day.", param="spend_period")
    return {
        "aliases": tuple(str(each) for each in form.getlist("aliases") if each),
        "expires_at_ms": _expiry(text_of(form, "expires_at")),
        "spend_cap_nanos": amount_of(form, "spend_cap"),
        "spend_period": period,
        "rps": number_of(form, "rps"),
        "rpm": number_of(form, "rpm"),
        "tpm": number_of(form, "tpm"),
        "concurrency": number_of(form, "concurrency"),
    }


def _expiry(text: str) -> int | None:
    if not text:
        return None
    try:
        day = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise InvalidCall(
            "expires at must be a date such as 2027-01-31", param="expires_at"
        ) from None
    return int(day.timestamp() * 1000)
