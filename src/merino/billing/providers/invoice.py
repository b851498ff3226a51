"""Payment by invoice: the account's owner transfers money, an operator confirms that it came."""

from __future__ import annotations

from collections.abc import Mapping

from merino.billing.nouns import PaymentEvent, TopUp
from merino.billing.ports import Checkout
from merino.domain.account import Account
from merino.domain.currencies import charge_text
from merino.domain.errors import EventRefused, PaymentFailed

NAME = "invoice"


class InvoiceProvider:
    """`instructions` may have {amount}, {currency} and {reference} in it."""

    def __init__(self, instructions: str) -> None:
        self._instructions = instructions

    @property
    def name(self) -> str:
        return NAME

    @property
    def is_confirmed_by_hand(self) -> bool:
        return True

    @property
    def can_charge(self) -> bool:
        return False

    async def charge(self, order: TopUp, account: Account, customer_ref: str) -> str:
        raise PaymentFailed("invoices have no saved cards")

    async def forget(self, customer_ref: str) -> None:
        raise PaymentFailed("invoices have no saved cards")

    async def checkout(self, order: TopUp, account: Account, customer_ref: str | None) -> Checkout:
        text = self._instructions
        for name, value in (
            ("{amount}", charge_text(order.charge_minor, order.charge_currency)),
            ("{currency}", order.charge_currency),
            ("{reference}", order.id),
        ):
            text = text.replace(name, value)
        return Checkout(None, None, text)

    async def refund(
        self, order: TopUp, charge_minor: int, key: str, *, again: bool = False
    ) -> PaymentEvent | None:
        """An operator pays it back by hand; it is booked at once."""
        return PaymentEvent(
            id=key,
            kind="refund",
            topup_id=order.id,
            amount_minor=charge_minor,
            currency=order.charge_currency,
            ref=key,
            refund_key=key,
        )

    def verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        raise EventRefused("invoices are confirmed by an operator, not by events")

    def read(self, body: bytes) -> PaymentEvent:
        raise EventRefused("invoices are confirmed by an operator, not by events")
