"""An account's keys: make, switch off, rotate, cap."""

from __future__ import annotations

import re

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.control.ports import KeyTerms
from merino.control.terms import nanos_of
from merino.domain.account import Account, SpendPeriod
from merino.domain.clock import epoch_ms
from merino.domain.errors import Conflict, InvalidCall
from merino.domain.key import VirtualKey
from merino.operations.fields import seconds_of
from merino.portal.sums import used_by
from merino.portal.visits import BASE, Visit, go, text_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}\Z")
KEYS_MAX = 100
_PERIODS: tuple[SpendPeriod, ...] = ("day", "month", "total")


def shown_name(key: VirtualKey, account: Account) -> str:
    """Without the account's name before it."""
    return key.name.removeprefix(f"{account.name}:")


async def new_key(visit: Visit, name: str, terms: KeyTerms) -> tuple[VirtualKey, str]:
    """Names are unique over all accounts, so that the account's own name is put before: another
    customer's keys are not told of."""
    if not _NAME.match(name):
        raise InvalidCall("This name is not usable.", param="name", code="invalid_name")
    if len(visit.own_keys()) >= KEYS_MAX:
        raise Conflict(f"An account has at most {KEYS_MAX} keys.", code="too_many_keys")
    account = visit.account
    taken = {shown_name(key, account) for key in visit.own_keys()}
    wanted, number = name, 1
    while wanted in taken:
        number += 1
        wanted = f"{name} {number}"
    key, secret = await visit.control.keys.create(
        account.id, f"{account.name}:{wanted}"[:100], terms
    )
    await visit.note("create_key", key.id, ("name", wanted))
    return key, secret


async def show_keys(visit: Visit) -> Response:
    return await _shown(visit)


async def _shown(visit: Visit, secret: str = "", of: VirtualKey | None = None) -> Response:
    account = visit.account
    keys = visit.own_keys()
    return await visit.page(
        "keys.html",
        keys=[(key, shown_name(key, account)) for key in keys],
        spent=await used_by(visit.desk, account.id, "30d", "key"),
        last_used=await visit.desk.overview.last_used_ms([key.id for key in keys]),
        secret=secret,
        secret_of="" if of is None else shown_name(of, account),
        periods=_PERIODS,
        now_ms=epoch_ms(),
    )


async def create(visit: Visit, form: FormData) -> Response:
    key, secret = await new_key(visit, text_of(form, "name"), _terms(form))
    return await _shown(visit, secret, key)


async def rotate(visit: Visit, form: FormData) -> Response:
    keep_old = text_of(form, "keep_old") or "0"
    keep_old_s = seconds_of(keep_old, "keep_old")
    key, secret = await visit.control.keys.rotate(_key_of(visit).id, keep_old_s)
    await visit.note("rotate_key", key.id, ("keep_old", keep_old))
    return await _shown(visit, secret, key)


async def switch(visit: Visit, _: FormData) -> Response:
    key = _key_of(visit)
    changed = await visit.control.keys.update(key.id, {"disabled": not key.disabled})
    await visit.note("disable_key" if changed.disabled else "enable_key", key.id)
    return go(f"{BASE}/keys", "key-off" if changed.disabled else "key-on")


async def cap(visit: Visit, form: FormData) -> Response:
    key = _key_of(visit)
    await visit.control.keys.update(key.id, _terms(form))
    await visit.note("update_key", key.id)
    return go(f"{BASE}/keys", "saved")


def _key_of(visit: Visit) -> VirtualKey:
    return visit.key(visit.request.path_params["key"])


def _terms(form: FormData) -> KeyTerms:
    text = text_of(form, "spend_cap")
    period = text_of(form, "spend_period")
    terms: KeyTerms = {"spend_cap_nanos": amount_of(text, "spend_cap") if text else None}
    if period in _PERIODS:
        terms["spend_period"] = period
    return terms


def amount_of(text: str, field: str) -> int:
    """As people write amounts in any of the portal's languages: 1000, 25.50, 25,50."""
    text = text.replace(" ", "").replace("\N{NO-BREAK SPACE}", "")
    if re.fullmatch(r"[0-9]{1,9},[0-9]{1,2}", text):
        text = text.replace(",", ".")
    return nanos_of(text, field)
