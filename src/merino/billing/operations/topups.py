"""Top-ups: credit that is paid for, and the cards that pay it."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec import UNSET, Struct, UnsetType

from merino.billing.nouns import SavedCard, TopUp
from merino.billing.operations.asked import billing
from merino.control.terms import nanos_of
from merino.domain.currencies import CURRENCY_DECIMALS
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
)
from merino.operations.shape import shown, shows
from merino.operations.table import Asked, Operations


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


@shows(
    TopUp,
    hidden={
        **dict.fromkeys(("checkout_ref", "payment_ref"), "the provider's own id"),
        "saves_card": "asked of the payer; the card is shown once it is saved",
    },
    charged_saved_card="is_charge",
)
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


@shows(SavedCard, hidden={"customer_ref": "the provider's own id"})
class SavedCardShape(Struct):
    """A card that may be charged by an account's own rule; the provider keeps it."""

    account_id: str
    provider: str
    saved_at: str
    declined_at: str | None
    declined_because: str | None


class TopUps(Struct):
    data: list[TopUpShape]


U = TypeVar("U", bound=TopUpShape)


def _shown(kind: type[U], order: TopUp, **more: Any) -> U:
    charge_nanos = order.charge_minor * _unit(order.charge_currency)
    return shown(kind, order, charge=format_nanos(charge_nanos), **more)


def _unit(currency: str) -> int:
    """Nano-units of a currency's smallest unit."""
    return NANOS_PER_UNIT // 10 ** CURRENCY_DECIMALS[currency]


OPERATIONS = Operations()


@OPERATIONS.post("/topups", "Order credit, to be paid through a payment provider", status=201)
async def create_topup(asked: Asked, body: NewTopUp) -> OrderedTopUp:
    order, checkout = await billing(asked).topups.create(
        body.account,
        nanos_of(body.amount, "amount"),
        provider=body.provider,
        currency=body.currency,
        memo=body.memo,
        saves_card=body.save_card,
    )
    return _shown(OrderedTopUp, order, instructions=checkout.instructions or None)


@OPERATIONS.get("/topups", "List top-ups, the newest first")
async def list_topups(asked: Asked, query: TopUpsQuery) -> TopUps:
    found = await billing(asked).topups.list(given(query.account), limit=query.limit)
    return TopUps([_shown(TopUpShape, each) for each in found])


@OPERATIONS.get("/topups/{topup}", "Show one")
async def show_topup(asked: Asked) -> TopUpShape:
    return _shown(TopUpShape, await billing(asked).topups.get(asked.path["topup"]))


@OPERATIONS.post("/topups/{topup}/confirm", "Say that the money of an invoice has come")
async def confirm_topup(asked: Asked, body: Confirmation) -> TopUpShape:
    nanos = nanos_of(body.amount, "amount")
    if body.currency not in CURRENCY_DECIMALS:
        raise InvalidCall("currency is not known", param="currency", code="unknown_currency")
    unit = _unit(body.currency)
    if nanos % unit:
        raise Conflict(
            "amount has more decimals than the currency", param="amount", code="invalid_amount"
        )
    order = await billing(asked).topups.confirm(
        asked.path["topup"], nanos // unit, body.currency, body.reference
    )
    return _shown(TopUpShape, order)


@OPERATIONS.post("/topups/{topup}/refund", "Give a top-up back, all that is left of it or a part")
async def refund_topup(asked: Asked, body: NewRefund) -> TopUpShape:
    nanos = None if body.amount is None else nanos_of(body.amount, "amount")
    return _shown(TopUpShape, await billing(asked).topups.refund(asked.path["topup"], nanos))


@OPERATIONS.get(
    "/accounts/{account}/saved-card",
    "Whether an account has a card that its top-up rule may charge",
)
async def show_saved_card(asked: Asked) -> SavedCardShape:
    account = asked.control.accounts.find(asked.path["account"])
    card = await billing(asked).topups.card(account)
    if card is None:
        raise NotFound(f"account {account.name!r} has no saved card", code="no_saved_card")
    return shown(SavedCardShape, card)


@OPERATIONS.at(
    "DELETE",
    "/accounts/{account}/saved-card",
    "Delete an account's saved card, here and at its provider",
)
async def forget_saved_card(asked: Asked) -> SavedCardShape:
    return shown(SavedCardShape, await billing(asked).topups.forget_card(asked.path["account"]))
