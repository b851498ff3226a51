"""Accounts: balance, entries, top-ups, vouchers, caps, statements, sign-in links."""

from __future__ import annotations

from typing import Literal, get_args
from urllib.parse import urlsplit

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.control.ports import AccountTerms, EntryFilter
from merino.control.terms import WEIGHT_MAX
from merino.dashboard.parts import BASE, Visit, amount_of, go, number_of, rendered, text_of
from merino.domain.account import ACCOUNT_CURRENCIES, SpendPeriod
from merino.domain.errors import InvalidCall

_ENTRIES = 25
_TOPUPS = 10
_PERIODS: tuple[SpendPeriod, ...] = get_args(SpendPeriod)
_LIMITS = (
    ("rps", "calls a second"),
    ("rpm", "calls a minute"),
    ("tpm", "LLM tokens a minute"),
    ("concurrency", "calls at a time"),
)


async def list_accounts(visit: Visit) -> Response:
    if visit.scope is not None:
        return go(f"{BASE}/accounts/{visit.scope}")
    states = [visit.control.accounts.show(each.id) for each in visit.own_accounts()]
    return visit.page("accounts.html", states=states, currencies=ACCOUNT_CURRENCIES)


async def create_account(visit: Visit, form: FormData) -> Response:
    state = visit.control.accounts.create(
        text_of(form, "name"), currency=text_of(form, "currency") or "USD"
    )
    visit.note("create_account", state.account.name, ("currency", state.account.currency))
    return go(f"{BASE}/accounts/{state.account.id}", "The account is open")


async def show_account(visit: Visit) -> Response:
    return await _shown(visit)


async def _shown(visit: Visit, *, link: str | None = None, checkout: object = None) -> Response:
    account = visit.account(visit.request.path_params["account"])
    money = visit.desk.money
    cursor = visit.query("cursor") or None
    entries = await visit.control.list_entries(
        EntryFilter(account_id=account.id), limit=_ENTRIES, cursor=cursor
    )
    return visit.page(
        "account.html",
        currency=account.currency,
        state=visit.control.accounts.show(account.id),
        spending=await money.credits.spending(account.id),
        entries=entries.items,
        next_cursor=entries.next_cursor,
        topups=money.topups.list(account.id, limit=_TOPUPS),
        providers=money.topups.providers,
        currencies=ACCOUNT_CURRENCIES,
        periods=_PERIODS,
        limits=_LIMITS,
        link=link,
        checkout=checkout,
    )


async def move_money(visit: Visit, form: FormData) -> Response:
    """Credit or debit by an operator."""
    account = visit.account(visit.request.path_params["account"])
    nanos, memo = _amount(form), text_of(form, "memo") or None
    way = visit.request.path_params["way"]
    if way == "credit":
        visit.control.accounts.credit(account.id, nanos, memo)
    else:
        visit.control.accounts.debit(account.id, nanos, memo)
    visit.note(f"{way}_account", account.name, ("amount", text_of(form, "amount")), ("memo", memo))
    return go(f"{BASE}/accounts/{account.id}", f"{way.capitalize()} booked")


async def top_up(visit: Visit, form: FormData) -> Response:
    """Order credit: to the provider's page if it has one, else what to pay is told."""
    account = visit.account(visit.request.path_params["account"])
    order, checkout = await visit.desk.money.topups.create(
        account.id,
        _amount(form),
        provider=text_of(form, "provider") or None,
        currency=text_of(form, "currency") or None,
    )
    visit.note("create_topup", account.name, ("id", order.id), ("provider", order.provider))
    if checkout.url:
        parts = urlsplit(checkout.url)
        # A form may lead to our own pages only; this page leads on by a link instead.
        return rendered(
            "leave.html",
            url=checkout.url,
            host=parts.hostname or "",
            order=order,
        )
    return await _shown(visit, checkout=checkout)


async def confirm_topup(visit: Visit, form: FormData) -> Response:
    """An operator has seen the money of an invoice."""
    order = visit.desk.money.topups.get(visit.request.path_params["topup"])
    visit.desk.money.topups.confirm(
        order.id, order.charge_minor, order.charge_currency, text_of(form, "reference") or "seen"
    )
    visit.note("confirm_topup", order.id, ("reference", text_of(form, "reference")))
    return go(f"{BASE}/accounts/{order.account_id}", "The top-up is booked")


async def redeem(visit: Visit, form: FormData) -> Response:
    account = visit.account(visit.request.path_params["account"])
    entry = visit.desk.money.credits.redeem(text_of(form, "voucher"), account.id)
    visit.note("redeem_voucher", account.name, ("voucher", entry.reference))
    return go(f"{BASE}/accounts/{account.id}", "The voucher is booked")


async def update_terms(visit: Visit, form: FormData) -> Response:
    """Caps, notices and the rule for automatic top-ups."""
    account = visit.account(visit.request.path_params["account"])
    period = text_of(form, "spend_period") or "month"
    if period not in _PERIODS:
        raise InvalidCall("The period must be month, day or total.", param="spend_period")
    terms: AccountTerms = {
        "spend_cap_nanos": amount_of(form, "spend_cap"),
        "spend_period": period,
        "notice_below_nanos": amount_of(form, "notice_below"),
        "topup_below_nanos": amount_of(form, "topup_below"),
        "topup_nanos": amount_of(form, "topup_amount"),
        "notice_email": text_of(form, "notice_email") or None,
    }
    if visit.session.is_operator:
        overdraft = amount_of(form, "overdraft")
        terms["overdraft_nanos"] = overdraft or 0
    visit.control.accounts.update(account.id, terms)
    visit.note("update_account", account.name, *terms.items())
    return go(f"{BASE}/accounts/{account.id}", "The account was changed")


async def update_limits(visit: Visit, form: FormData) -> Response:
    """What all its keys together may send, by an operator; empty: as the settings say."""
    account = visit.account(visit.request.path_params["account"])
    terms: AccountTerms = {
        "rps": number_of(form, "rps"),
        "rpm": number_of(form, "rpm"),
        "tpm": number_of(form, "tpm"),
        "concurrency": number_of(form, "concurrency"),
        "weight": _weight_of(form),
    }
    visit.control.accounts.update(account.id, terms)
    visit.note("update_account", account.name, *terms.items())
    return go(f"{BASE}/accounts/{account.id}", "The limits were changed")


async def make_link(visit: Visit, form: FormData) -> Response:
    """A link by which somebody signs in to this account, once."""
    account = visit.account(visit.request.path_params["account"])
    role: Literal["owner", "viewer"] = "owner" if text_of(form, "role") == "owner" else "viewer"
    token = visit.desk.sessions.link(role, account.id, f"{role} of {account.name}")
    visit.note("create_link", account.name, ("role", role))
    url = visit.request.url
    return await _shown(visit, link=f"{url.scheme}://{url.netloc}{BASE}/link/{token}")


async def statement(visit: Visit) -> Response:
    """To the admin API's own statement; made here so that owners have it, too."""
    account = visit.account(visit.request.path_params["account"])
    made = await visit.desk.money.statements.make(account.id, visit.query("month") or None)
    return visit.page("statement.html", statement=made)


def _amount(form: FormData) -> int:
    nanos = amount_of(form, "amount")
    if nanos is None:
        raise InvalidCall("Say how much.", param="amount")
    return nanos


def _weight_of(form: FormData) -> float | None:
    text = text_of(form, "weight")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidCall(
            f"weight {text[:20]!r} must be a number above 0 and at most {WEIGHT_MAX:,}",
            param="weight",
        ) from None
