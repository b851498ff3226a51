"""Top-ups in the admin API."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from merino.control.ports import Checkout
from merino.control.terms import nanos_of
from merino.domain.credits import CURRENCY_DECIMALS, SavedCard, TopUp
from merino.domain.errors import Conflict, InvalidCall, NotFound
from merino.domain.money import NANOS_PER_UNIT, format_nanos
from merino.operations.fields import (
    Amount,
    Currency,
    In,
    Memo,
    PageLimit,
    PositiveAmount,
    Reference,
    Short,
    given,
    iso,
    iso_or_none,
)
from merino.operations.table import Asked, Operation, money_of


class NewTopUp(In):
    account: Reference
    amount: PositiveAmount
    provider: Short | None = None
    currency: Currency | None = None
    memo: Memo | None = None
    save_card: bool = False


class TopUpsQuery(In):
    account: Reference | UnsetType = UNSET
    limit: PageLimit = 100


class Confirmation(In):
    """`amount` and `currency` are what really came, so that they can be compared with the order."""

    amount: PositiveAmount
    currency: Currency
    reference: Short = ""


class NewRefund(In):
    amount: Amount | None = None


class TopUpShape(Struct):
    id: str
    account_id: str
    provider: str
    status: str
    amount: str
    amount_nanos: int
    currency: str
    charge: str
    charge_minor: int
    charge_currency: str
    exchange: str | None
    url: str | None
    created_at: str
    paid_at: str | None
    taken_back: str
    taken_back_nanos: int
    automatic: bool
    charged_saved_card: bool
    failure: str | None
    memo: str | None


class OrderedTopUp(TopUpShape, kw_only=True):
    """`instructions` are for people, where there is no page to pay at."""

    instructions: str | None


class SavedCardShape(Struct):
    """A card that may be charged by an account's own rule; the provider keeps it."""

    account_id: str
    provider: str
    saved_at: str
    declined_at: str | None
    declined_because: str | None


class TopUps(Struct):
    data: list[TopUpShape]


async def _create_topup(asked: Asked) -> OrderedTopUp:
    body: NewTopUp = asked.body
    order, checkout = await money_of(asked).topups.create(
        body.account,
        nanos_of(body.amount, "amount"),
        provider=body.provider,
        currency=body.currency,
        memo=body.memo,
        saves_card=body.save_card,
    )
    return _ordered(order, checkout)


async def _list_topups(asked: Asked) -> TopUps:
    query: TopUpsQuery = asked.query
    found = money_of(asked).topups.list(given(query.account), limit=query.limit)
    return TopUps([TopUpShape(**_topup_fields(each)) for each in found])


async def _show_topup(asked: Asked) -> TopUpShape:
    return TopUpShape(**_topup_fields(money_of(asked).topups.get(asked.path["topup"])))


async def _confirm_topup(asked: Asked) -> TopUpShape:
    body: Confirmation = asked.body
    nanos = nanos_of(body.amount, "amount")
    if body.currency not in CURRENCY_DECIMALS:
        raise InvalidCall("currency is not known", param="currency", code="unknown_currency")
    unit = NANOS_PER_UNIT // 10 ** CURRENCY_DECIMALS[body.currency]
    if nanos % unit:
        raise Conflict(
            "amount has more decimals than the currency", param="amount", code="invalid_amount"
        )
    order = money_of(asked).topups.confirm(
        asked.path["topup"], nanos // unit, body.currency, body.reference
    )
    return TopUpShape(**_topup_fields(order))


async def _refund_topup(asked: Asked) -> TopUpShape:
    body: NewRefund = asked.body
    nanos = None if body.amount is None else nanos_of(body.amount, "amount")
    order = await money_of(asked).topups.refund(asked.path["topup"], nanos)
    return TopUpShape(**_topup_fields(order))


async def _show_card(asked: Asked) -> SavedCardShape:
    account = asked.control.accounts.find(asked.path["account"])
    card = money_of(asked).topups.card(account)
    if card is None:
        raise NotFound(f"account {account.name!r} has no saved card", code="no_saved_card")
    return _card(card)


async def _forget_card(asked: Asked) -> SavedCardShape:
    return _card(await money_of(asked).topups.forget_card(asked.path["account"]))


def _card(card: SavedCard) -> SavedCardShape:
    return SavedCardShape(
        card.account_id,
        card.provider,
        iso(card.saved_at_ms),
        iso_or_none(card.declined_at_ms),
        card.declined_because,
    )


def _ordered(order: TopUp, checkout: Checkout) -> OrderedTopUp:
    return OrderedTopUp(**_topup_fields(order), instructions=checkout.instructions or None)


def _topup_fields(order: TopUp) -> dict[str, Any]:
    decimals = CURRENCY_DECIMALS[order.charge_currency]
    charge_nanos = order.charge_minor * NANOS_PER_UNIT // 10**decimals
    return {
        "id": order.id,
        "account_id": order.account_id,
        "provider": order.provider,
        "status": order.status,
        "amount": format_nanos(order.amount_nanos),
        "amount_nanos": order.amount_nanos,
        "currency": order.currency,
        "charge": format_nanos(charge_nanos),
        "charge_minor": order.charge_minor,
        "charge_currency": order.charge_currency,
        "exchange": order.exchange,
        "url": order.url,
        "created_at": iso(order.created_at_ms),
        "paid_at": iso_or_none(order.paid_at_ms),
        "taken_back": format_nanos(order.taken_back_nanos),
        "taken_back_nanos": order.taken_back_nanos,
        "automatic": order.is_automatic,
        "charged_saved_card": order.is_charge,
        "failure": order.failure,
        "memo": order.memo,
    }


TOPUP_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        "/topups",
        "create_topup",
        "Order credit, to be paid through a payment provider",
        _create_topup,
        OrderedTopUp,
        body=NewTopUp,
        status=201,
    ),
    Operation(
        "GET",
        "/topups",
        "list_topups",
        "List top-ups, the newest first",
        _list_topups,
        TopUps,
        query=TopUpsQuery,
    ),
    Operation("GET", "/topups/{topup}", "show_topup", "Show one", _show_topup, TopUpShape),
    Operation(
        "POST",
        "/topups/{topup}/confirm",
        "confirm_topup",
        "Say that the money of an invoice has come",
        _confirm_topup,
        TopUpShape,
        body=Confirmation,
    ),
    Operation(
        "POST",
        "/topups/{topup}/refund",
        "refund_topup",
        "Give a top-up back, all that is left of it or a part",
        _refund_topup,
        TopUpShape,
        body=NewRefund,
    ),
    Operation(
        "GET",
        "/accounts/{account}/saved-card",
        "show_saved_card",
        "Whether an account has a card that its top-up rule may charge",
        _show_card,
        SavedCardShape,
    ),
    Operation(
        "DELETE",
        "/accounts/{account}/saved-card",
        "forget_saved_card",
        "Delete an account's saved card, here and at its provider",
        _forget_card,
        SavedCardShape,
    ),
)
