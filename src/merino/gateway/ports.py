"""Everything the gateway needs from outside, on one page. Adapters satisfy these structurally."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import msgspec

from merino.domain.account import Account, Balance
from merino.domain.batch import ItemRef
from merino.domain.call import CallRecord
from merino.domain.deployment import Alias, Deployment
from merino.domain.errors import LimitExceeded, MerinoError
from merino.domain.kept import BackgroundJob, KeptConversation, KeptResponse, SealedItem
from merino.domain.key import VirtualKey
from merino.domain.ledger import Hold
from merino.domain.limits import Demand
from merino.gateway.call import Call, FirstAnswer
from merino.gateway.outcome import Outcome
from merino.gateway.trace import Trace
from merino.wire.exchange import Cancellable

Headers = list[tuple[bytes, bytes]]


class KeyRing(Protocol):
    """The virtual keys, in memory."""

    def find(self, secret: bytes) -> VirtualKey | None:
        """The key with this secret, also if disabled or expired; `None` if there is none."""
        ...

    def replaced(self, secret: bytes) -> VirtualKey | None:
        """The key whose secret this was before the last rotation."""
        ...


class AccountBook(Protocol):
    """The accounts, in memory."""

    def get(self, account_id: str) -> Account: ...


Bound = Literal["balance", "key_cap", "account_cap"]
"""What sets the most that a key may reserve."""


@dataclass(slots=True)
class Headroom:
    """What one key may still reserve of its account, in nano-units.

    `available_nanos` is for now; `ceiling_nanos` is what it would be with nothing else in flight.
    `bound_by` names what sets the ceiling.
    """

    available_nanos: int
    ceiling_nanos: int
    bound_by: Bound


@dataclass(frozen=True, slots=True)
class Replay:
    """An answer kept for an idempotency key. `body` is sealed: only the caller's own secret opens
    it. `id` is derived from the account, the caller's secret and the idempotency key.

    With `item` it is instead the answer to a batch item: not sealed, and it ends that item."""

    id: bytes
    body_hash: bytes
    call_id: str
    status: int
    content_type: str
    body: bytes
    at_ms: int
    item: ItemRef | None = None
    charged_nanos: int | None = None
    """What the call cost; `None` if its record is gone."""
    kept: KeptResponse | None = None
    """A response that is kept with it; without an `id`, only that."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The newest samples of one kind of calls, oldest first; the three lists are equally long."""

    tag: str
    output_tokens: list[int]
    reasoning_tokens: list[int]
    tokens_per_s: list[float]


class LearnedMemory(Protocol):
    """What was learned of calls, for the next start."""

    def load(self) -> Sequence[Learned]:
        """Empty if nothing usable was saved."""
        ...

    def save(self, learned: Sequence[Learned]) -> None:
        """On a thread of its own. Raises `StoreUnavailable`."""
        ...


class Ledger(Protocol):
    """Holds and settlements. The next statement sees at once what a method reserves or posts. The
    result can be awaited until it is durable; if it cannot be made durable, it fails with
    `StoreUnavailable`, and the reservation is undone."""

    def balance(self, account_id: str) -> Balance: ...

    def headroom(self, key: VirtualKey) -> Headroom: ...

    def ask(self, key: VirtualKey, nanos: int, call_id: str, waited_s: float) -> bool:
        """A call needs this much and does not find it. True: whoever may have more is asked, and
        the account is called back with the answer. False: there is nobody, or they have said.
        Raises `StoreUnavailable` if they cannot be asked."""
        ...

    def unask(self, account_id: str, call_id: str) -> None:
        """It has what it needs, or waits no more."""
        ...

    def hold(self, hold: Hold, key: VirtualKey) -> Awaitable[None] | None:
        """Reserve `hold.amount_nanos`; `None` if `headroom(key).available_nanos` is less. Awaiting
        the result raises `StoreUnavailable` if the hold could not be recorded: the hold is undone,
        and marked so."""
        ...

    def grow(self, hold: Hold, by_nanos: int, key: VirtualKey) -> bool:
        """Enlarge an open hold if there is headroom. Not durable by itself: growth only matters
        while the process lives."""
        ...

    def settle(
        self, hold: Hold, key: VirtualKey, record: CallRecord, replay: Replay | None = None
    ) -> Awaitable[None]:
        """Post `record.charged_nanos` (of which `record.overrun_nanos` above the hold), release the
        rest, keep the call record and, if given, the answer for its idempotency key."""
        ...

    def void(
        self, hold: Hold, key: VirtualKey, record: CallRecord, replay: Replay | None = None
    ) -> Awaitable[None]:
        """Release everything, and keep the call record and what is given."""
        ...

    def record(self, record: CallRecord) -> None:
        """Keep the record of a call that never had a hold."""
        ...

    async def replay(self, replay_id: bytes) -> Replay | None:
        """The kept answer of an idempotency key, if it is not older than it may be."""
        ...

    def subscribe(self, on_headroom: Callable[[str], None], waiting: Container[str]) -> None:
        """Call back with the account id whenever its headroom may have grown, while it is in
        `waiting`."""
        ...


class Shelf(Protocol):
    """Where the relay keeps responses and conversations. Reads see what ended before. Raises
    `StoreUnavailable`."""

    has_any: bool
    """False: there is nothing to look for."""

    def bytes_of(self, account_id: str) -> int: ...
    def note(self, account_id: str, more_bytes: int) -> None: ...
    async def response(self, response_id: str, account_id: str) -> KeptResponse | None: ...
    async def chain(self, response_id: str, account_id: str) -> Sequence[KeptResponse]: ...
    async def owner_of_item(self, item_id: str, account_id: str) -> str | None: ...
    async def delete_response(self, response_id: str, account_id: str) -> bool: ...
    async def add_conversation(
        self, kept: KeptConversation, items: Sequence[SealedItem] = ()
    ) -> None: ...
    async def conversation(
        self, conversation_id: str, account_id: str
    ) -> KeptConversation | None: ...
    async def change_conversation(self, kept: KeptConversation) -> bool: ...
    async def delete_conversation(self, conversation_id: str, account_id: str) -> bool: ...
    async def items(self, conversation_id: str, account_id: str) -> Sequence[SealedItem]: ...
    async def add_items(self, kept: KeptConversation, items: Sequence[SealedItem]) -> bool: ...
    async def delete_item(self, number: int, account_id: str) -> bool: ...


class Jobs(Protocol):
    """Responses in the background, as the next process must know of them. Raises
    `StoreUnavailable`."""

    async def add(self, job: BackgroundJob) -> None: ...
    async def left_over(self) -> Sequence[BackgroundJob]: ...
    async def say(self, said: Sequence[tuple[str, str, bytes]]) -> None: ...
    async def said(self, response_id: str, account_id: str) -> Sequence[bytes]: ...


class Background(Protocol):
    """A call that goes on without its caller."""

    is_native: bool
    """The upstream makes the response in its own background."""

    @property
    def changes(self) -> Mapping[str, msgspec.Raw]:
        """Members of the response object that only the relay knows."""
        ...

    async def held(self, call: Call) -> None:
        """Its cost is held. Raises `MerinoError` if it cannot go on without its caller."""
        ...

    async def begun(self, call: Call, response_id: str, response: bytes) -> None:
        """The upstream has taken it."""
        ...

    def said(self, data: bytes) -> None:
        """The upstream streams it, and these are its events."""
        ...

    async def look(self, response_id: str) -> bytes | None:
        """The response as it is now; `None` if the upstream did not say, and after a while."""
        ...

    def ended(self, call: Call, outcome: Outcome) -> bytes:
        """The object of a response that did not come to its own end."""
        ...


class UpstreamRequest(msgspec.Struct, gc=False):
    """What an attempt sends. `endpoint` is the path below the base URL: ``chat/completions``. A
    provider that lets another answer for `deployment` says so by setting it."""

    call_id: str
    endpoint: str
    body: bytes
    deployment: Deployment
    streamed: bool = False
    passed: tuple[tuple[bytes, bytes], ...] = ()
    """Headers of the caller's that go along."""
    query: bytes = b""
    trace: bytes = b""
    """Header lines that name the trace it belongs to."""


class UpstreamResponse(Protocol):
    """An upstream's answer whose head was received. Must be read to its end or closed."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Headers:
        """Names in lower case."""
        ...

    @property
    def has_finished(self) -> bool:
        """Whoever reads it on the way knows that the model has ended its answer."""
        ...

    def header(self, name: bytes) -> bytes | None: ...

    def header_like(self, prefix: bytes) -> bool:
        """Whether the name of a header begins with this."""
        ...

    def whole(self, bytes_max: int) -> bytes | None:
        """The whole body if it has already arrived, so that nothing has to wait for it."""
        ...

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Raises `UpstreamBroken` if it is longer or ends early."""
        ...

    async def pipe(self, sink: Callable[[bytes], None]) -> None:
        """Call `sink` with every piece of the body as it arrives, without the transfer coding;
        return at its proper end. Raises `UpstreamBroken` if it ends early. May be awaited again
        after being cancelled; no piece is lost or repeated."""
        ...

    def end(self) -> None:
        """Wait for nothing more: `pipe` returns as at the proper end. Later bytes are not wanted,
        and the connection is not used again."""
        ...

    def pause(self) -> None:
        """Stop reading from the upstream."""
        ...

    def resume(self) -> None: ...

    def close(self) -> None:
        """Give the connection back if the body was read to its end, otherwise cut it.
        Idempotent."""
        ...


class Provider(Protocol):
    """One dialect: how a vendor is asked."""

    def send(self, request: UpstreamRequest) -> Awaitable[UpstreamResponse]:
        """Send and return once the head of the answer arrived.

        Raises `UpstreamUnreachable` if nothing was sent, `UpstreamBroken` if it failed afterwards.
        Cancelling it cuts the connection.
        """
        ...


class AskedFor(NamedTuple):
    """A request about what an upstream keeps: `path` below its base URL, `query` without its `?`;
    `body` is sent with a POST."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""


class Keeper(Protocol):
    """A provider that can be asked for what it keeps."""

    async def ask(self, deployment: Deployment, asked: AskedFor, /) -> UpstreamResponse:
        """Send and return once the head of the answer arrived. Raises `UpstreamFailed`."""
        ...


class Permit(Protocol):
    """What the limits granted one call."""

    @property
    def tokens_max(self) -> int | None:
        """The LLM tokens granted, if fewer than were wanted."""
        ...

    def release(self, used: Demand) -> None:
        """Give back the concurrency slot and what was taken beyond `used`. Idempotent."""
        ...

    def undo(self) -> None:
        """Give back everything, the request too: no upstream was asked. Ends the permit as
        `release` does."""
        ...


class Limiter(Protocol):
    """Now, or later?"""

    def take(
        self, key: VirtualKey, alias: Alias, demand: Demand, asked_tokens: int | None = None
    ) -> Permit:
        """Take `demand`, with estimated LLM tokens, of every limit that applies, or of none. Raises
        `LimitExceeded` with `retry_after_s`.

        Of the tokens, the call itself asks for `asked_tokens` (all, if `None`); the rest is an
        assumption. Where a limit can never give all of it, `asked_tokens` will do: part of what the
        limit holds is granted, at least half."""
        ...

    def take_request(self, key: VirtualKey) -> None:
        """Take one request that is no call of what the key and its account may send. Raises
        `LimitExceeded`."""
        ...

    async def wait(
        self,
        key: VirtualKey,
        alias: Alias,
        demand: Demand,
        refusal: LimitExceeded,
        within_s: float,
        asked_tokens: int | None = None,
    ) -> Permit:
        """Wait for a turn after such a `refusal`, if waiting is allowed, but not longer than
        `within_s`; otherwise raise it."""
        ...

    def headers(self, key: VirtualKey, alias: Alias | None) -> Headers:
        """The `x-ratelimit-*` headers that describe the tightest limits; may be empty. Without an
        alias, those of the key and its account."""
        ...


class Recorder(Protocol):
    """Remembers calls, for metrics and logs. Never fails the caller."""

    def call_started(self) -> None: ...

    def call_finished(self, record: CallRecord) -> None: ...

    def call_repeated(self) -> None:
        """The call ended without a record of its own: it got the first answer of its idempotency
        key."""
        ...


class Tracer(Protocol):
    """Says which calls are traced, and is told when they have ended. Never fails the caller."""

    def begin(self, parent: bytes, state: bytes) -> Trace | None:
        """By what the caller's ``traceparent`` and ``tracestate`` say; empty if it sent none."""
        ...

    def ended(self, trace: Trace, record: CallRecord) -> None: ...


class Reply(Protocol):
    """The caller's side of one call. Bytes go out at once; nothing is buffered here."""

    @property
    def task(self) -> Cancellable | None:
        """What the call runs in, unless that is asyncio's current task."""
        ...

    @property
    def has_begun(self) -> bool:
        """The head was sent, so the status can no longer change."""
        ...

    @property
    def is_writable(self) -> bool:
        """False while the caller reads slower than the answer comes."""
        ...

    @property
    def is_disconnected(self) -> bool: ...

    def answer(self, call: Call, content_type: bytes, body: bytes) -> None:
        """A whole answer, with its cost."""
        ...

    def repeat(self, call: Call, first: FirstAnswer) -> None:
        """The first answer of an idempotency key, once more."""
        ...

    def begin(self, call: Call, data: bytes = b"") -> None:
        """The head of a stream, and its first events."""
        ...

    def send(self, data: bytes, /) -> None:
        """Whole SSE events."""
        ...

    def end(self, call: Call, last: bytes) -> None:
        """The cost as a comment, the last event, and a clean end."""
        ...

    def fail(self, call: Call, error: MerinoError) -> None:
        """An error: a status and body, or, once begun, an error event and a cut connection."""
        ...

    def watch(
        self, on_disconnect: Callable[[], None], on_writable: Callable[[bool], None] | None
    ) -> None:
        """Say whom to call when the caller leaves, falls behind or catches up."""
        ...
