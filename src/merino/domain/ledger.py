"""Double-entry records. Entries are never edited; balances are derived from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

EntryKind = Literal[
    "credit", "debit", "settle", "overrun", "voucher", "topup", "refund", "dispute", "transfer"
]
"""`credit`/`debit`: an operator moves money with a memo. `settle`: what a call cost, up to its
hold. `overrun`: what it cost above its hold. `voucher`, `topup`: money came by a code or a payment.
`refund`, `dispute`: a payment was taken back, or came back. `transfer`: between two accounts."""

Resolution = Literal["settled", "voided", "expired"]
"""How a hold ended; exactly one, exactly once."""

REVENUE = "@revenue"
"""Ledger account on the other side of `settle` and `overrun`."""

FUNDING = "@funding"
"""Ledger account on the other side of `credit` and `debit`: money from or to the outside."""

VOUCHERS = "@vouchers"
"""Ledger account on the other side of `voucher`: what was given away or sold as codes."""

TRANSFERS = "@transfers"
"""Ledger account between the two halves of a `transfer`; in one currency it is always zero."""


def in_currency(ledger_account: str, currency: str) -> str:
    """One of the ledger's own accounts, in a currency: ``@revenue``, ``@revenue:CNY``. Amounts of
    different currencies never meet in one account."""
    return ledger_account if currency == "USD" else f"{ledger_account}:{currency}"


@dataclass(frozen=True, slots=True)
class Entry:
    """`amount_nanos` > 0 moves from `debit_account` to `credit_account`.

    `upstream_nanos` is what the upstream charges us for the same call (settle entries only),
    `price_id` the price it was billed with. `reference` is what else made the entry (a voucher, a
    top-up), `exchange` the exchange rate it was booked with.
    """

    id: int
    at_ms: int
    kind: EntryKind
    debit_account: str
    credit_account: str
    amount_nanos: int
    call_id: str | None = None
    key_id: str | None = None
    upstream_nanos: int = 0
    price_id: str | None = None
    reference: str | None = None
    exchange: str | None = None
    memo: str | None = None

    @property
    def account_id(self) -> str:
        """The customer's side; the other one is the ledger's own."""
        is_debit_ours = self.debit_account.startswith("@")
        return self.credit_account if is_debit_ours else self.debit_account


class Hold(msgspec.Struct, gc=False):
    """A reservation of a call's worst-case cost, taken before contacting an upstream.

    `amount_nanos` may grow while a stream runs; `resolution` is set once.
    """

    call_id: str
    account_id: str
    key_id: str
    amount_nanos: int
    at_ms: int
    expires_after_s: float
    resolution: Resolution | None = None
    is_undone: bool = False
    """The ledger could not record it: it holds nothing, and there is nothing to resolve."""
