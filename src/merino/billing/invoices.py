"""Invoices: whom they are made out to, and who sells."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from merino.billing.nouns import InvoiceDetails, TopUp
from merino.billing.ports import Details
from merino.control.accounts import AccountDesk
from merino.domain.clock import epoch_ms
from merino.domain.errors import InvalidCall, NotFound
from merino.settings.sections.payments import PaymentsSettings

NAME_MAX, ADDRESS_MAX, ADDRESS_LINES_MAX, TAX_ID_MAX = 200, 500, 8, 40
_TAX_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./-]*\Z")


@dataclass(frozen=True, slots=True)
class Invoice:
    """A payment that has come. `details` are those that held when it was paid, `seller` and `note`
    what the settings say."""

    order: TopUp
    details: InvoiceDetails | None
    seller: str
    note: str


class InvoiceDesk:
    def __init__(
        self, accounts: AccountDesk, details: Details, now_ms: Callable[[], int] = epoch_ms
    ) -> None:
        self._accounts = accounts
        self._details = details
        self._now_ms = now_ms
        self._settings = PaymentsSettings()

    def configure(self, settings: PaymentsSettings) -> None:
        self._settings = settings

    @property
    def seller(self) -> str:
        return self._settings.seller.strip()

    async def of(self, order: TopUp) -> Invoice:
        """Raises `NotFound` for what was not paid."""
        if order.paid_at_ms is None:
            raise NotFound("There is no invoice of what was not paid.", code="invoice_not_found")
        details = await self._details.at(order.account_id, order.paid_at_ms)
        return Invoice(order, details, self.seller, self._settings.invoice_note.strip())

    async def details(self, account: str) -> InvoiceDetails | None:
        """Those that hold now."""
        return await self._details.at(self._accounts.find(account).id, self._now_ms())

    async def change(self, account: str, *, name: str, address: str, tax_id: str) -> InvoiceDetails:
        """From now on. Invoices of what was paid before stay as they are."""
        details = InvoiceDetails(
            self._accounts.find(account).id,
            self._now_ms(),
            _line(name, "name", NAME_MAX),
            _lines(address),
            _line(tax_id, "tax_id", TAX_ID_MAX),
        )
        if details.tax_id and not _TAX_ID.match(details.tax_id):
            raise InvalidCall(
                "tax_id must be letters, digits, blanks and . / - such as DE123456789",
                param="tax_id",
                code="invalid_tax_id",
            )
        held = await self._details.at(details.account_id, details.since_ms)
        if held is not None and held.told == details.told:
            return held
        await self._details.keep(details)
        return details


def _line(text: str, field: str, most: int) -> str:
    text = " ".join(text.split())
    if len(text) > most or not text.isprintable():
        raise InvalidCall(
            f"{field} must be one line of at most {most} characters",
            param=field,
            code="invalid_details",
        )
    return text


def _lines(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.strip().splitlines()]
    found = "\n".join(line for line in lines if line)
    is_plain = all(line.isprintable() for line in lines)
    if len(found) > ADDRESS_MAX or found.count("\n") >= ADDRESS_LINES_MAX or not is_plain:
        raise InvalidCall(
            f"address must be at most {ADDRESS_LINES_MAX} lines of {ADDRESS_MAX} characters in all",
            param="address",
            code="invalid_details",
        )
    return found
