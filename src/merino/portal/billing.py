"""An account's money: balance, top-ups, vouchers, caps and notices, invoices and statements."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.billing.automatic import MEMO as AUTOMATIC
from merino.billing.nouns import TopUp
from merino.control.ports import AccountTerms, EntryFilter
from merino.domain.clock import epoch_ms
from merino.domain.errors import InvalidCall, NotFound
from merino.domain.ledger import Entry
from merino.portal.catalogues import Words
from merino.portal.keys import amount_of
from merino.portal.visits import BASE, Visit, go, text_of

_ENTRIES = 25
_TOPUPS = 50
_MONTHS = 12
_PERIODS = ("day", "month", "total")


async def show_billing(visit: Visit) -> Response:
    return await _shown(visit)


async def _shown(visit: Visit, **more: Any) -> Response:
    account = visit.account
    billing = visit.desk.billing
    topups = billing.topups
    entries = await visit.control.list_entries(
        EntryFilter(account_id=account.id, is_moved=True),
        limit=_ENTRIES,
        cursor=visit.query("cursor") or None,
    )
    shown: dict[str, Any] = {
        "state": visit.control.accounts.show(account.id),
        "spending": await billing.credits.spending(account.id),
        "entries": entries.items,
        "next_cursor": entries.next_cursor,
        "topups": await topups.list(account.id, limit=_TOPUPS),
        "providers": topups.providers,
        "bounds": topups.bounds_nanos,
        "what": partial(booked_text, words=visit.words),
        "can_save_cards": any(topups.provider(each).can_charge for each in topups.providers),
        "card": await topups.card(account),
        "details": await billing.invoices.details(account.id),
        "months": _months(account.created_at_ms),
        "periods": _PERIODS,
        "instructions": "",
        "order": None,
        "is_owner": visit.role == "owner",
    }
    return await visit.page("billing.html", **(shown | more))


async def top_up(visit: Visit, form: FormData) -> Response:
    """To the provider's page if it has one, else what to pay is told."""
    account = visit.account
    nanos = amount_of(text_of(form, "amount"), "amount")
    provider = text_of(form, "provider") or None
    saves_card = text_of(form, "save_card") == "yes"
    order, checkout = await visit.desk.billing.topups.create(
        account.id, nanos, provider=provider, saves_card=saves_card
    )
    await visit.note("create_topup", order.id, ("nanos", nanos), ("saves_card", saves_card))
    if checkout.url:
        host = urlsplit(checkout.url).hostname or ""
        # A form may lead to our own pages only; this page leads on by a link instead.
        return await visit.page("leave.html", url=checkout.url, host=host, order=order)
    return await _shown(visit, instructions=checkout.instructions, order=order)


async def redeem(visit: Visit, form: FormData) -> Response:
    code = text_of(form, "voucher")
    await visit.desk.billing.credits.redeem(code, visit.account.id)
    await visit.note("redeem_voucher", visit.account.id)
    return go(f"{BASE}/billing", "voucher")


async def change_terms(visit: Visit, form: FormData) -> Response:
    """The account's cap, and when its owner is told."""
    terms: AccountTerms = {
        "spend_cap_nanos": _amount(form, "spend_cap"),
        "notice_below_nanos": _amount(form, "notice_below"),
        "notice_email": text_of(form, "notice_email") or None,
    }
    for period in ("day", "month", "total"):
        if text_of(form, "spend_period") == period:
            terms["spend_period"] = period
    await visit.control.accounts.update(visit.account.id, terms)
    await visit.note("update_account", visit.account.id)
    return go(f"{BASE}/billing", "saved")


async def change_rule(visit: Visit, form: FormData) -> Response:
    """Whether top-ups are ordered by themselves: both amounts, or none."""
    below, nanos = _amount(form, "topup_below"), _amount(form, "topup_amount")
    if (below is None) != (nanos is None):
        missing = "topup_below" if below is None else "topup_amount"
        raise InvalidCall("Give both, or none.", param=missing, code="half_a_rule")
    terms: AccountTerms = {"topup_below_nanos": below, "topup_nanos": nanos}
    await visit.control.accounts.update(visit.account.id, terms)
    await visit.note("update_account", visit.account.id)
    return go(f"{BASE}/billing", "saved")


async def forget_card(visit: Visit, _: FormData) -> Response:
    await visit.desk.billing.topups.forget_card(visit.account.id)
    await visit.note("forget_saved_card", visit.account.id)
    return go(f"{BASE}/billing", "card")


async def change_details(visit: Visit, form: FormData) -> Response:
    """Whom invoices are made out to."""
    name, address, tax_id = (text_of(form, each) for each in ("name", "address", "tax_id"))
    invoices = visit.desk.billing.invoices
    await invoices.change(visit.account.id, name=name, address=address, tax_id=tax_id)
    # What it says is nobody else's affair, and may have to be forgotten.
    await visit.note("change_invoice_details", visit.account.id)
    return go(f"{BASE}/billing", "saved")


def _amount(form: FormData, name: str) -> int | None:
    text = text_of(form, name)
    return amount_of(text, name) if text else None


async def show_statement(visit: Visit) -> Response:
    """A month, to be printed or saved as PDF."""
    month = visit.request.path_params["month"]
    made = await visit.desk.billing.statements.make(visit.account.id, month)
    invoices = visit.desk.billing.invoices
    return await visit.page(
        "statement.html",
        statement=made,
        seller=invoices.seller or visit.settings.name,
        details=await invoices.details(visit.account.id),
        what=partial(booked_text, words=visit.words),
    )


async def show_invoice(visit: Visit) -> Response:
    """One payment that has come, to be printed."""
    order = await _own_order(visit, visit.request.path_params["topup"])
    invoice = await visit.desk.billing.invoices.of(order)
    return await visit.page("invoice.html", order=order, invoice=invoice)


async def came_back(visit: Visit) -> Response:
    """From the provider's page."""
    return go(f"{BASE}/billing", "paid" if visit.request.path_params["how"] == "paid" else "unpaid")


async def _own_order(visit: Visit, topup_id: str) -> TopUp:
    order = await visit.desk.billing.topups.get(topup_id)
    if order.account_id != visit.account.id:
        raise NotFound("There is no such payment.", code="topup_not_found")
    return order


def booked_text(entry: Entry, words: Words) -> str:
    """What was booked, in the customer's words; with what an operator wrote to it."""
    _ = words
    kinds = {
        "credit": _("credit"),
        "debit": _("debit"),
        "voucher": _("voucher"),
        "topup": _("payment"),
        "refund": _("refund"),
        "dispute": _("dispute"),
        "transfer": _("transfer"),
    }
    known = {"start credit": _("start credit"), AUTOMATIC: _("automatic top-up")}
    kind, memo = kinds.get(entry.kind, entry.kind), entry.memo or ""
    if memo in known:
        return known[memo]
    # What the relay itself writes to a payment says no more than that it is one.
    is_said = not memo or memo.endswith(f" {entry.kind}")
    return kind if is_said else f"{kind}: {memo}"


def _months(since_ms: int) -> list[str]:
    """Those that the account has had, the newest first."""
    now = datetime.fromtimestamp(epoch_ms() / 1000, UTC)
    first = datetime.fromtimestamp(since_ms / 1000, UTC)
    number, last = now.year * 12 + now.month - 1, first.year * 12 + first.month - 1
    wanted = range(number, max(last, number - _MONTHS) - 1, -1)
    return [f"{each // 12:04d}-{each % 12 + 1:02d}" for each in wanted]
