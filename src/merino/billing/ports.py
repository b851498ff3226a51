"""Every need of the wing of the outside, on one page. Adapters satisfy it structurally.

As in `control.ports`: what changes something is durable when the method returns, and between two
awaits others may change what was looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from merino.billing.nouns import (
    AskedRefund,
    InvoiceDetails,
    Notice,
    NoticeChannel,
    NoticeKind,
    PaymentEvent,
    SavedCard,
    TopUp,
    TopUpStatus,
    Voucher,
)
from merino.control.ports import Once, Page
from merino.domain.account import Account, SpendPeriod
from merino.domain.currencies import ExchangeRate
from merino.domain.ledger import Entry, EntryKind


class Vouchers(Protocol):
    """Codes that credit once."""

    async def add(self, vouchers: Iterable[tuple[Voucher, bytes]]) -> None:
        """New ones, each with the hash of its code; all or none."""
        ...

    async def find(self, code_hash: bytes) -> Voucher | None: ...

    async def get(self, voucher_id: str) -> Voucher:
        """Raises `NotFound`."""
        ...

    async def redeem(
        self,
        voucher: Voucher,
        account: Account,
        nanos: int,
        exchange: str | None,
        once: Once | None = None,
    ) -> Entry | None:
        """Credit, once. `None` if it was used up, voided or expired meanwhile."""
        ...

    async def void(self, voucher_id: str) -> Voucher:
        """Raises `NotFound`, and `Conflict` once it is redeemed."""
        ...

    async def list(self, batch: str | None, *, limit: int, cursor: str | None) -> Page[Voucher]: ...


class Transfers(Protocol):
    """Money from account to account."""

    async def transfer(
        self,
        source: Account,
        target: Account,
        nanos: int,
        target_nanos: int,
        exchange: str | None,
        memo: str | None,
        once: Once | None = None,
    ) -> tuple[Entry, Entry]:
        """Both halves or none: what leaves the source, and what reaches the target. Raises
        `BudgetExhausted` if more is taken than is available."""
        ...


class ExchangeRates(Protocol):
    """Dated exchange rates."""

    def list(self) -> Sequence[ExchangeRate]: ...

    async def put(self, rates: Iterable[ExchangeRate]) -> None: ...

    def find(self, base: str, quote: str, at_ms: int) -> ExchangeRate | None: ...


@dataclass(frozen=True, slots=True)
class UsageLine:
    """What calls of one UTC day (since 1970) cost with one price; `calls` counts them."""

    day: int
    price_id: str | None
    calls: int
    nanos: int


@dataclass(frozen=True, slots=True)
class StatementLines:
    """An account's entries in a span: everything before it as one sum, calls as sums by day and
    price, everything else one by one, the oldest first."""

    opening_nanos: int
    usage: Sequence[UsageLine]
    movements: Sequence[Entry]


class Statements(Protocol):
    """What an account's entries say."""

    async def lines(self, account_id: str, since_ms: int, until_ms: int) -> StatementLines: ...

    async def spent_by_day(self, account_id: str, since_day: int) -> Mapping[int, int]:
        """What all its keys spent on each UTC day (since 1970) that has any."""
        ...


@dataclass(frozen=True, slots=True)
class Booking:
    """What an event does to an order. `nanos` > 0 credits, < 0 debits. `outcome` ends the event:
    `waiting` events are tried again when another of the same payment has been applied. `facts` are
    what is to be kept of refunds and disputes, also where nothing is booked for it."""

    outcome: Literal["applied", "ignored", "refused", "waiting"]
    detail: str = ""
    nanos: int = 0
    kind: EntryKind = "topup"
    status: TopUpStatus | None = None
    facts: tuple[tuple[str, int], ...] = ()


Decide = Callable[[TopUp | None, PaymentEvent, Mapping[str, int]], Booking]
"""From an order, an event and the order's takebacks (smallest units by reference) to a booking."""


class TopUps(Protocol):
    """Orders and the events of payment providers."""

    async def create(self, order: TopUp) -> None: ...

    async def set_checkout(self, topup_id: str, ref: str | None, url: str | None) -> None: ...

    async def set_payment(self, topup_id: str, ref: str) -> None: ...

    async def fail(self, topup_id: str, reason: str) -> None:
        """Of an open order: it will not be paid. A saved card that it charged is declined only if
        `CardStore.decline` says so."""
        ...

    async def get(self, topup_id: str) -> TopUp:
        """Raises `NotFound`."""
        ...

    async def list_of(self, account_id: str | None, limit: int) -> Sequence[TopUp]:
        """The newest first."""
        ...

    async def automatic_since(self, account_id: str, since_ms: int) -> Sequence[TopUp]:
        """Orders of the account's own rule, the newest first."""
        ...

    async def unasked(self, since_ms: int, limit: int) -> Sequence[TopUp]:
        """Open orders of accounts' own rules that no provider has answered yet, oldest first."""
        ...

    async def takebacks(self, topup_id: str) -> Mapping[str, int]:
        """What refunds and disputes were told of, in smallest units by reference."""
        ...

    async def receive(self, provider: str, event_id: str, body: bytes) -> bool:
        """Keep an event, on the disk when this returns. False if it is known already."""
        ...

    async def apply(
        self, provider: str, event: PaymentEvent, decide: Decide
    ) -> tuple[TopUp | None, Booking]:
        """Do what `decide` says, and end the event, in one transaction; the order afterwards, and
        what was done. An event that has ended is `ignored`."""
        ...

    async def apply_own(
        self,
        provider: str,
        event: PaymentEvent,
        decide: Decide,
        takes: Mapping[str, int] | None = None,
    ) -> tuple[TopUp | None, Booking]:
        """The same for an event of ours, which was not received. `takes` is what it will debit, by
        account: that is gone at once. Raises `BudgetExhausted` if it is more than is available."""
        ...

    async def asked_refunds(self, limit: int) -> Sequence[AskedRefund]:
        """Those without an answer, the oldest first."""
        ...

    async def open_events(self, limit: int) -> Sequence[tuple[str, bytes]]:
        """Provider and body of events that were received and not looked at, or wait for a payment
        that is there now; the oldest first."""
        ...

    async def waiting_events(self, provider: str, payment_ref: str) -> Sequence[bytes]:
        """Events that wait for this payment, the oldest first."""
        ...


class Cards(Protocol):
    """Saved cards."""

    async def find(self, account_id: str, provider: str) -> SavedCard | None: ...

    async def decline(self, account_id: str, provider: str, reason: str) -> None:
        """It is used no more until it is saved again."""
        ...

    async def forget(self, account_id: str, provider: str) -> None: ...


class Details(Protocol):
    """Whom invoices are made out to."""

    async def at(self, account_id: str, at_ms: int) -> InvoiceDetails | None:
        """Those that held then; if there were none yet, the first ones."""
        ...

    async def keep(self, details: InvoiceDetails) -> None: ...


@dataclass(frozen=True, slots=True)
class Checkout:
    """Where to pay: a page of the provider's, or `instructions` for people."""

    ref: str | None
    url: str | None
    instructions: str = ""


class PaymentProvider(Protocol):
    """Somebody who takes money for us and says so."""

    @property
    def name(self) -> str: ...

    @property
    def is_confirmed_by_hand(self) -> bool:
        """Whether an operator says that the money has come, instead of a signed event."""
        ...

    @property
    def can_charge(self) -> bool:
        """Whether it keeps cards and charges them without asking."""
        ...

    async def checkout(self, order: TopUp, account: Account, customer_ref: str | None) -> Checkout:
        """Asked again for the same order, it gives the same checkout. Raises `PaymentFailed` if
        the provider does not take the order."""
        ...

    async def charge(self, order: TopUp, account: Account, customer_ref: str) -> str:
        """Charge the saved card; the payment's id. Asked again for the same order, it charges no
        second time. Raises `CardDeclined`, `PaymentUncertain`, `PaymentFailed`."""
        ...

    async def forget(self, customer_ref: str) -> None:
        """Delete the saved card. Raises `PaymentFailed`."""
        ...

    async def refund(
        self, order: TopUp, charge_minor: int, key: str, *, again: bool = False
    ) -> PaymentEvent | None:
        """Give money back, once for the `key`, also where it is asked `again`. The event that says
        so, with the key; `None` if the provider will tell. Raises `PaymentUncertain` if it may have
        been done, any other `PaymentFailed` if it has not and will not be."""
        ...

    def verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Raises `EventRefused` unless the provider has signed this body for us, just now."""
        ...

    def read(self, body: bytes) -> PaymentEvent:
        """What a verified body says. Raises `EventRefused` if it is no event, or not for us."""
        ...


class SpentNow(Protocol):
    """What all keys of an account have spent in the current period."""

    def __call__(self, account_id: str, period: SpendPeriod, /) -> int: ...


class Notices(Protocol):
    """What account owners are to be told, until they were."""

    async def add(self, occasion: str, account_id: str, kind: NoticeKind, body: str) -> bool:
        """False if this occasion was told of before."""
        ...

    async def due(self, channel: NoticeChannel, limit: int) -> Sequence[Notice]:
        """What is to be sent there now, each with its delivery on that channel if there was one."""
        ...

    async def delivered(self, notice_id: str, channel: NoticeChannel) -> None: ...

    async def failed(
        self, notice_id: str, channel: NoticeChannel, error: str, next_attempt_ms: int | None
    ) -> None:
        """`None`: it is not tried again."""
        ...

    async def list(self, account_id: str | None, limit: int) -> Sequence[Notice]: ...


class OddUsage(Protocol):
    """A deployment whose reports or bills cannot be right; `call_id` and `said` are the last's."""

    @property
    def deployment(self) -> str: ...
    @property
    def oddity(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def last_ms(self) -> int: ...
    @property
    def call_id(self) -> str: ...
    @property
    def said(self) -> str: ...
