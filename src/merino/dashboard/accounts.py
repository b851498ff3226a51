"""Accounts: balance, entries, top-ups, vouchers, caps, statements, sign-in links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args
from urllib.parse import urlsplit

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.billing.credits import FORECAST_DAYS, forecast
from merino.billing.nouns import Spending
from merino.billing.operations import topups
from merino.billing.operations.topups import Confirmation, NewTopUp, OrderedTopUp, TopUpShape
from merino.billing.operations.vouchers import Redemption, redeem_voucher
from merino.control.ports import EntryFilter
from merino.control.usage import Cut, Span, given_span
from merino.dashboard.overview import change, usage_plot
from merino.dashboard.parts import BASE, Visit, body_of, go, rendered, text_of
from merino.dashboard.selection import WINDOWS, selection_of
from merino.domain.account import ACCOUNT_CURRENCIES, Account, SpendPeriod
from merino.domain.clock import DAY_MS, epoch_ms
from merino.domain.errors import NotFound
from merino.domain.limits import LIMIT_KINDS, LIMIT_SHORT_WORDS
from merino.operations import accounts as operations
from merino.operations.accounts import Account as AccountShape
from merino.operations.accounts import AccountChange, Movement, NewAccount
from merino.pages.plot import plotted

_ENTRIES = 25
_KEYS = 12
_WEEK_DAYS = 7
_TOPUPS = 10
_MONTH_AND_MORE_MS = (31 + FORECAST_DAYS) * DAY_MS
_PERIODS: tuple[SpendPeriod, ...] = get_args(SpendPeriod)


_WAYS_TO_PAY = {"stripe": "card, Alipay, WeChat Pay"}
_WAYS = {"credit": operations.credit_account, "debit": operations.debit_account}


async def list_accounts(visit: Visit) -> Response:
    if visit.scope is not None:
        return go(f"{BASE}/accounts/{visit.scope}")
    states = [visit.control.accounts.show(each.id) for each in visit.own_accounts()]
    spent = await _months(visit, [state.account for state in states])
    totals: dict[str, tuple[int, int]] = {}
    for state in states:
        month, known = spent[state.account.id], totals.get(state.account.currency, (0, 0))
        totals[state.account.currency] = (
            known[0] + month.spent_nanos,
            known[1] + (month.forecast_nanos or 0),
        )
    week = await visit.desk.usage.lines("account", _last_week(), Cut())
    return await visit.page(
        "accounts.html",
        states=states,
        spent=spent,
        totals={each: sums for each, sums in totals.items() if any(sums)},
        lasts={
            state.account.id: _runway_days(
                state.balance.available_nanos,
                week[state.account.id].now.charged_nanos if state.account.id in week else 0,
            )
            for state in states
        },
        forecast_days=FORECAST_DAYS,
        currencies=ACCOUNT_CURRENCIES,
    )


async def _months(visit: Visit, accounts: Sequence[Account]) -> dict[str, Spending]:
    """What each spent this month, and will have spent at its end, by the sums of calls."""
    now_ms = epoch_ms()
    since_ms = now_ms - _MONTH_AND_MORE_MS
    by_day = await visit.desk.usage.spent_by_day("account", since_ms, now_ms + 1)
    return {
        each.id: forecast(
            replace(each, spend_period="month", spend_cap_nanos=None),
            by_day.get(each.id, {}),
            now_ms,
        )
        for each in accounts
    }


async def create_account(visit: Visit, form: FormData) -> Response:
    made: AccountShape = await visit.perform(
        operations.create_account, body_of(form, NewAccount, "name", "currency")
    )
    return go(f"{BASE}/accounts/{made.id}", "The account is open")


async def show_account(visit: Visit) -> Response:
    return await _shown(visit)


async def _shown(visit: Visit, *, link: str | None = None, checkout: object = None) -> Response:
    account = visit.account(visit.request.path_params["account"])
    billing = visit.desk.billing
    cursor = visit.query("cursor") or None
    entries = await visit.control.list_entries(
        EntryFilter(account_id=account.id), limit=_ENTRIES, cursor=cursor
    )
    state = visit.control.accounts.show(account.id)
    chosen = selection_of(visit, default="30d")
    cut = Cut.of({"account": [account.id]})
    view = await visit.desk.usage.view(chosen.span, cut, "key", "spend", account.currency)
    keys = {key.id: key.name for key in visit.own_keys() if key.account_id == account.id}
    week = await visit.desk.usage.lines("account", _last_week(), cut)
    return await visit.page(
        "account.html",
        currency=account.currency,
        state=state,
        chosen=chosen,
        windows=WINDOWS,
        chart=plotted(usage_plot(chosen, view, "key", "spend", account.currency, keys))
        if view.stacks
        else "",
        lines=view.by["key"][:_KEYS],
        key_names=keys,
        change=change,
        runway_days=_runway_days(
            state.balance.available_nanos,
            week[account.id].now.charged_nanos if account.id in week else 0,
        ),
        forecast_days=FORECAST_DAYS,
        spending=await billing.credits.spending(account.id),
        entries=entries.items,
        next_cursor=entries.next_cursor,
        topups=await billing.topups.list(account.id, limit=_TOPUPS),
        providers=billing.topups.providers,
        ways=[(each, _WAYS_TO_PAY.get(each, each)) for each in billing.topups.providers],
        currencies=ACCOUNT_CURRENCIES,
        periods=_PERIODS,
        limits=LIMIT_SHORT_WORDS.items(),
        link=link,
        checkout=checkout,
    )


def _last_week() -> Span:
    now_ms = epoch_ms()
    return given_span(now_ms - _WEEK_DAYS * DAY_MS, now_ms + 1)


def _runway_days(available_nanos: int, spent_nanos: int) -> float | None:
    """How long what is available lasts at the pace of the last week; `None` without one."""
    return max(0, available_nanos) * _WEEK_DAYS / spent_nanos if spent_nanos > 0 else None


async def move_money(visit: Visit, form: FormData) -> Response:
    """Credit or debit by an operator."""
    account = visit.account(visit.request.path_params["account"])
    way = visit.request.path_params["way"]
    if way not in _WAYS:
        raise NotFound("There is no such page.")
    body = body_of(form, Movement, "amount", "memo")
    await visit.perform(_WAYS[way], body, account=account.name)
    return go(f"{BASE}/accounts/{account.id}", f"{way.capitalize()} booked")


async def top_up(visit: Visit, form: FormData) -> Response:
    """Order credit: to the provider's page if it has one, else what to pay is told."""
    account = visit.account(visit.request.path_params["account"])
    body = body_of(form, NewTopUp, "amount", "provider", "currency", account=account.name)
    order: OrderedTopUp = await visit.perform(topups.create_topup, body)
    if order.url:
        host = urlsplit(order.url).hostname or ""
        # A form may lead to our own pages only; this page leads on by a link instead.
        return await rendered("leave.html", url=order.url, host=host, order=order)
    return await _shown(visit, checkout=order)


async def confirm_topup(visit: Visit, form: FormData) -> Response:
    """An operator has seen the money of an invoice: all that was asked for."""
    order: TopUpShape = await visit.perform(
        topups.show_topup, topup=visit.request.path_params["topup"]
    )
    reference = text_of(form, "reference") or "seen"
    body = Confirmation(order.charge, order.charge_currency, reference)
    await visit.perform(topups.confirm_topup, body, topup=order.id)
    return go(f"{BASE}/accounts/{order.account_id}", "The top-up is booked")


async def redeem(visit: Visit, form: FormData) -> Response:
    account = visit.account(visit.request.path_params["account"])
    await visit.perform(redeem_voucher, Redemption(text_of(form, "voucher"), account.name))
    return go(f"{BASE}/accounts/{account.id}", "The voucher is booked")


async def update_terms(visit: Visit, form: FormData) -> Response:
    """Caps, notices and the rule for automatic top-ups; the overdraft by operators only."""
    overdraft = {"overdraft": text_of(form, "overdraft") or "0"}
    body = body_of(
        form,
        AccountChange,
        *("spend_cap", "spend_period", "notice_below", "topup_below", "topup_amount"),
        "notice_email",
        **(overdraft if visit.session.is_operator else {}),
    )
    return await _updated(visit, body, "The account was changed")


async def update_limits(visit: Visit, form: FormData) -> Response:
    """What all its keys together may send, by an operator; empty: as the settings say."""
    body = body_of(form, AccountChange, *LIMIT_KINDS, "weight")
    return await _updated(visit, body, "The limits were changed")


async def _updated(visit: Visit, body: AccountChange, done: str) -> Response:
    account = visit.account(visit.request.path_params["account"])
    await visit.perform(operations.update_account, body, account=account.name)
    return go(f"{BASE}/accounts/{account.id}", done)


async def make_link(visit: Visit, form: FormData) -> Response:
    """A link by which somebody signs in to this account, once."""
    account = visit.account(visit.request.path_params["account"])
    role: Literal["owner", "viewer"] = "owner" if text_of(form, "role") == "owner" else "viewer"
    token = visit.desk.sessions.link(role, account.id, f"{role} of {account.name}")
    await visit.note("create_link", account.name, ("role", role))
    url = visit.request.url
    return await _shown(visit, link=f"{url.scheme}://{url.netloc}{BASE}/link/{token}")


async def statement(visit: Visit) -> Response:
    """To the admin API's own statement; made here so that owners have it, too."""
    account = visit.account(visit.request.path_params["account"])
    made = await visit.desk.billing.statements.make(account.id, visit.query("month") or None)
    return await visit.page("statement.html", statement=made)
