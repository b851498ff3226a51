"""Every need the control plane has of the outside, on one page. Adapters satisfy it structurally.

What changes something takes effect at once, also for calls in flight, and is durable when the
method returns. What may read many rows is awaited.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypedDict, TypeVar

from merino.domain.account import Account, Balance, SpendPeriod
from merino.domain.call import CallRecord
from merino.domain.deployment import DeploymentState
from merino.domain.key import VirtualKey
from merino.domain.ledger import Entry, EntryKind, Resolution

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
class ReportRow:
    """Sums over the calls of one group: a UTC day, an alias, a key id or an account id.

    `calls` counts all of them, `failed` those answered with a status of 400 or above.
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


class KeyTerms(TypedDict, total=False):
    """What a key may do; what is left out stays as it is."""

    name: str
    aliases: tuple[str, ...]
    expires_at_ms: int | None
    disabled: bool
    spend_cap_nanos: int | None
    spend_period: SpendPeriod
    rps: int | None
    rpm: int | None
    tpm: int | None
    concurrency: int | None


class AccountTerms(TypedDict, total=False):
    """What an account is; what is left out stays as it is."""

    name: str
    overdraft_nanos: int
    disabled: bool


class Accounts(Protocol):
    """Accounts and their balances, in memory and durable."""

    def list(self) -> Sequence[Account]:
        """All, the oldest first."""
        ...

    def get(self, account_id: str) -> Account:
        """Raises `NotFound`."""
        ...

    def balance(self, account_id: str) -> Balance: ...

    def create(self, name: str, *, overdraft_nanos: int = 0) -> Account:
        """Raises `Conflict` if the name is taken."""
        ...

    def update(self, account_id: str, terms: AccountTerms) -> Account:
        """Raises `NotFound`, `Conflict`."""
        ...

    def credit(self, account_id: str, nanos: int, memo: str | None = None) -> Entry: ...

    def debit(self, account_id: str, nanos: int, memo: str | None = None) -> Entry: ...


class Keys(Protocol):
    """Virtual keys, in memory and durable."""

    def list(self) -> Sequence[VirtualKey]:
        """All, the oldest first."""
        ...

    def get(self, key_id: str) -> VirtualKey:
        """Raises `NotFound`."""
        ...

    def create(
        self,
        *,
        account_id: str,
        name: str,
        aliases: tuple[str, ...] = (),
        expires_at_ms: int | None = None,
        spend_cap_nanos: int | None = None,
        spend_period: SpendPeriod = "total",
        rps: int | None = None,
        rpm: int | None = None,
        tpm: int | None = None,
        concurrency: int | None = None,
    ) -> tuple[VirtualKey, str]:
        """The new key and its secret, which nobody can tell afterwards. Raises `Conflict`."""
        ...

    def update(self, key_id: str, terms: KeyTerms) -> VirtualKey:
        """Raises `NotFound`, `Conflict`."""
        ...

    def rotate(self, key_id: str) -> tuple[VirtualKey, str]:
        """A new secret for the same key; the old one is void at once. Raises `NotFound`."""
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
        self, group: ReportBy, *, since_ms: int | None, until_ms: int | None
    ) -> Sequence[ReportRow]: ...


class DeploymentStates(Protocol):
    """The state of deployments; only a running relay has it."""

    def state_of(self, name: str) -> DeploymentState | None: ...

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
