"""Every need the control plane has of the outside, on one page. Adapters satisfy it structurally.

What changes something is durable, and in effect also for calls in flight, when the method returns.
Money that is taken is gone at once, before it is written; money that is given is there afterwards.
What is in memory is read at once; everything else is awaited, since the event loop never reads or
writes the database itself. So between two awaits others may change what was looked at: either the
method itself decides, or the use case keeps others out meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypedDict, TypeVar

from merino.domain.account import Account, Balance, SpendPeriod
from merino.domain.call import CallRecord
from merino.domain.deployment import DeploymentState
from merino.domain.key import AdminKey, VirtualKey
from merino.domain.ledger import Entry, EntryKind, Resolution
from merino.domain.limits import NO_LIMITS, LimitKind, Limits
from merino.domain.person import Invitation, Member, MemberRole, Person, PersonState, Proof

T = TypeVar("T")

ReportBy = Literal["day", "alias", "key", "account", "user", "tag", "metadata"]
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
    user: str | None = None
    tag: str | None = None
    metadata: str | None = None
    """A pair, such as `team=search`."""


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries: all that match everything given. Times are `[since_ms, until_ms)`. `is_moved`
    leaves out what calls cost, of an account."""

    account_id: str | None = None
    call_id: str | None = None
    kind: EntryKind | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    is_moved: bool = False


@dataclass(frozen=True, slots=True)
class Once:
    """A movement of money to be booked once, however often it is asked for: under which idempotency
    key, and a hash of all that was asked."""

    idempotency_key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class ReportRow:
    """Sums over the calls of one group: a UTC day, an alias, a key id or an account id, or what
    callers said (an end user, a tag, a pair of metadata; empty: nothing); or of `then_group` within
    it. A call with two tags counts for each.

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
    old_expires_at_ms: int | None


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

    async def rotate(self, key_id: str, keep_old_s: int = 0) -> tuple[VirtualKey, str]:
        """A new secret for the same key; the old one is good for so long, and any older one void.
        Raises `NotFound`."""
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

    def export(self, form: ExportFormat) -> AsyncIterator[bytes]: ...


# -- customers of the portal ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registration:
    """How somebody becomes a customer. `claims` are what a start credit is given for once;
    `must_wait`: an operator approves first, and the account is opened then."""

    proof: Proof
    language: str
    terms: str
    account_name: str
    currency: str
    group: str
    start_nanos: int
    claims: Sequence[str]
    invitation_id: str | None = None
    must_wait: bool = False


class People(Protocol):
    """Customers, their accounts and invitations."""

    async def find(self, proof: Proof) -> Person | None:
        """By what their provider calls them, else by their address. Raises `Conflict` for an
        address of somebody whom the same provider calls otherwise."""
        ...

    async def bind(self, person_id: str, subject: str) -> None:
        """What a provider calls this person from now on."""
        ...

    async def get(self, person_id: str) -> Person:
        """Raises `NotFound`."""
        ...

    async def list(
        self, state: PersonState | None, *, email: str | None, limit: int, cursor: str | None
    ) -> Page[Person]:
        """The newest first; only those with `email` in their address."""
        ...

    async def register(self, wanted: Registration) -> tuple[Person, int]:
        """The person, their account and its start credit, in one transaction; or who is there
        already by the same proof. What was credited. Raises `Conflict` for an invitation that is
        used up."""
        ...

    async def approve(self, person_id: str, wanted: Registration) -> tuple[Person, int]:
        """Raises `NotFound`, and `Conflict` for somebody who does not wait."""
        ...

    async def set_state(
        self, person_id: str, states: Sequence[PersonState], state: PersonState
    ) -> Person:
        """From one of `states`; who is in another one stays there. Raises `NotFound`."""
        ...

    async def update(self, person_id: str, *, language: str, terms: str) -> Person: ...

    async def forget(self, person_id: str) -> None:
        """Whoever it was: the row stays, without a name."""
        ...

    async def accounts_of(self, person_id: str) -> Sequence[Member]: ...

    async def members_of(self, account_id: str) -> Sequence[Member]: ...

    async def set_role(self, account_id: str, person_id: str, role: MemberRole | None) -> None:
        """`None`: no member any more. Raises `NotFound`, and `Conflict` for the last owner."""
        ...

    async def invite(self, invitation: Invitation, code_hash: bytes) -> None: ...

    async def invitation(self, code_hash: bytes) -> Invitation | None: ...

    async def invitation_by_id(self, invitation_id: str) -> Invitation | None: ...

    async def invitation_for(self, email: str) -> Invitation | None:
        """One that is open, and for this address alone."""
        ...

    async def list_invitations(
        self, account_id: str | None, *, limit: int, cursor: str | None
    ) -> Page[Invitation]:
        """By id."""
        ...

    async def void_invitation(self, invitation_id: str) -> Invitation:
        """Raises `NotFound`; one that was used stays so."""
        ...

    async def accept(self, invitation_id: str, person_id: str) -> Invitation:
        """Somebody who is a customer already joins the account. Raises `Conflict`."""
        ...

    def hashed(self, text: str) -> bytes:
        """As codes are kept."""
        ...
