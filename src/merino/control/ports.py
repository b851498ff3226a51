"""Every need the control plane has of the outside, on one page. Adapters satisfy it structurally.

What changes something is durable, and in effect also for calls in flight, when the method returns.
Money that is taken is gone at once, before it is written; money that is given is there afterwards.
What is in memory is read at once; everything else is awaited, since the event loop never reads or
writes the database itself. So between two awaits others may change what was looked at: either the
method itself decides, or the use case keeps others out meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypedDict, TypeVar

from merino.domain.account import Account, Balance, SpendPeriod
from merino.domain.call import CallRecord
from merino.domain.credits import (
    ExchangeRate,
    Notice,
    NoticeChannel,
    NoticeKind,
    PaymentEvent,
    SavedCard,
    TopUp,
    TopUpStatus,
    Voucher,
)
from merino.domain.deployment import DeploymentState
from merino.domain.key import AdminKey, VirtualKey
from merino.domain.ledger import Entry, EntryKind, Resolution
from merino.domain.limits import NO_LIMITS, LimitKind, Limits

T = TypeVar("T")

ReportBy = Literal["day", "alias", "key", "account"]
ExportFormat = Literal["csv", "jsonl"]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list; `next_cursor` asks for what follows, `None` at the end."""

    items: Sequence[T]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls: all that match everything given. Times are `[since_ms, until_ms)`."""

    account_id: str | None = None
    key_id: str | None = None
    alias: str | None = None
    status: int | None = None
    resolution: Resolution | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries: all that match everything given. Times are `[since_ms, until_ms)`."""

    account_id: str | None = None
    call_id: str | None = None
    kind: EntryKind | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Once:
    """A movement of money to be booked once, however often it is asked for: under which idempotency
    key, and a hash of all that was asked."""

    idempotency_key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class ReportRow:
    """Sums over the calls of one group: a UTC day, an alias, a key id or an account id; or of
    `then_group` within it.

    `calls` counts all of them, `failed` those answered with a status of 400 or above. `currency` is
    the accounts' and that of what was charged; what the upstream charges is in dollars.
    """

    group: str
    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    charged_nanos: int
    overrun_nanos: int
    upstream_nanos: int
    currency: str = "USD"
    then_group: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Two things the books should say alike and do not."""

    what: str
    expected: str
    actual: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What recomputing every balance from the entries found."""

    entries: int
    accounts: int
    differences: Sequence[Difference]


LimitTerms = Mapping[LimitKind, int | None]
"""Limits that are given; those left out stay as they are, and `None` takes one away."""


class KeyTerms(TypedDict, total=False):
    """What a key may do; what is left out stays as it is."""

    name: str
    aliases: tuple[str, ...]
    expires_at_ms: int | None
    disabled: bool
    spend_cap_nanos: int | None
    spend_period: SpendPeriod
    limits: LimitTerms


class AccountTerms(TypedDict, total=False):
    """What an account is; what is left out stays as it is."""

    name: str
    overdraft_nanos: int
    disabled: bool
    group: str
    spend_cap_nanos: int | None
    spend_period: SpendPeriod
    notice_below_nanos: int | None
    topup_below_nanos: int | None
    topup_nanos: int | None
    notice_email: str | None
    limits: LimitTerms
    weight: float | None


class Accounts(Protocol):
    """Accounts and their balances, in memory and durable."""

    def list(self) -> Sequence[Account]:
        """All, the oldest first."""
        ...

    def get(self, account_id: str) -> Account:
        """Raises `NotFound`."""
        ...

    def balance(self, account_id: str) -> Balance: ...

    async def create(
        self,
        name: str,
        *,
        overdraft_nanos: int = 0,
        currency: str = "USD",
        group: str = "standard",
        terms: AccountTerms,
    ) -> Account:
        """Raises `Conflict` if the name is taken."""
        ...

    async def update(self, account_id: str, terms: AccountTerms) -> Account:
        """Raises `NotFound`, `Conflict`."""
        ...

    async def credit(
        self, account_id: str, nanos: int, memo: str | None = None, once: Once | None = None
    ) -> Entry: ...

    async def debit(
        self, account_id: str, nanos: int, memo: str | None = None, once: Once | None = None
    ) -> Entry:
        """Raises `BudgetExhausted` if more is taken than is available."""
        ...

    async def booked(self, idempotency_key: str) -> tuple[bytes, Sequence[Entry]] | None:
        """What the movement of this key asked for, as a hash, and the entries it made."""
        ...


class Keys(Protocol):
    """Virtual keys, in memory and durable."""

    def list(self) -> Sequence[VirtualKey]:
        """All, the oldest first."""
        ...

    def get(self, key_id: str) -> VirtualKey:
        """Raises `NotFound`."""
        ...

    async def create(
        self,
        *,
        account_id: str,
        name: str,
        aliases: tuple[str, ...] = (),
        expires_at_ms: int | None = None,
        spend_cap_nanos: int | None = None,
        spend_period: SpendPeriod = "total",
        limits: Limits = NO_LIMITS,
    ) -> tuple[VirtualKey, str]:
        """The new key and its secret, which nobody can tell afterwards. Raises `Conflict`."""
        ...

    async def update(self, key_id: str, terms: KeyTerms) -> VirtualKey:
        """Raises `NotFound`, `Conflict`."""
        ...

    async def rotate(self, key_id: str) -> tuple[VirtualKey, str]:
        """A new secret for the same key; the old one is void at once. Raises `NotFound`."""
        ...


class AdminKeys(Protocol):
    """Operators' keys, in memory and durable."""

    def list(self) -> Sequence[AdminKey]:
        """All, the oldest first."""
        ...

    async def create(self, name: str) -> tuple[AdminKey, str]:
        """The new one and its secret, which nobody can tell afterwards."""
        ...

    async def rotate(self, key_id: str) -> tuple[AdminKey, str]:
        """A new secret; the old one is void at once. Raises `NotFound`."""
        ...

    async def revoke(self, key_id: str) -> AdminKey:
        """For good, at once. Raises `NotFound`."""
        ...


class Calls(Protocol):
    """Call records."""

    async def list(self, wanted: CallFilter, *, limit: int, cursor: str | None) -> Page[CallRecord]:
        """The newest first, without contents. Raises `InvalidCall` for a cursor not from here."""
        ...

    async def get(self, call_id: str) -> CallRecord:
        """Raises `NotFound`."""
        ...


class Reports(Protocol):
    """Sums over calls."""

    async def by(
        self,
        group: ReportBy,
        then: ReportBy | None = None,
        *,
        since_ms: int | None,
        until_ms: int | None,
    ) -> Sequence[ReportRow]: ...


class Trouble(Protocol):
    """What an operator has to mend at a deployment: what it is (our credential is refused, our
    credit there is used up, its model or path is gone, or calls are denied without a reason), with
    which status, since when, and what the upstream said."""

    @property
    def deployment(self) -> str: ...
    @property
    def kind(self) -> Literal["credential", "credit", "gone", "denied"]: ...
    @property
    def said(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def since_ms(self) -> int: ...


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


class DeploymentStates(Protocol):
    """The state of deployments; only a running relay has it."""

    def state_of(self, name: str) -> DeploymentState | None: ...

    def troubles(self) -> Sequence[Trouble]:
        """What operators have to mend now, until a call there is answered again."""
        ...

    def drain(self, name: str, *, is_drained: bool) -> None:
        """Send no new calls there, or again. Raises `NotFound`."""
        ...


class Books(Protocol):
    """The ledger's entries as a whole."""

    async def entries(self, wanted: EntryFilter, *, limit: int, cursor: str | None) -> Page[Entry]:
        """The newest first. Raises `InvalidCall` for a cursor not from here."""
        ...

    async def verify(self) -> Verification: ...

    def export(self, format: ExportFormat) -> AsyncIterator[bytes]: ...  # noqa: A002 - what it is called outside


# -- credits and payments -------------------------------------------------------------------------


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
    `waiting` events are tried again when another of the same payment has been applied. `takeback`
    is a fact about refunds and disputes to be kept, also where nothing is booked for it."""

    outcome: Literal["applied", "ignored", "refused", "waiting"]
    detail: str = ""
    nanos: int = 0
    kind: EntryKind = "topup"
    status: TopUpStatus | None = None
    takeback: tuple[str, int] | None = None


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

    async def refund(self, order: TopUp, charge_minor: int, key: str) -> PaymentEvent | None:
        """Give money back, once for the `key`. The event that says so; `None` if the provider will
        tell. Raises `PaymentFailed`."""
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
