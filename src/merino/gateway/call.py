"""One call on its way through the pipeline: the state its stages share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from time import perf_counter, time_ns
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from merino.domain.batch import ItemRef
from merino.domain.call import Attempt, CallRecord, CallStage, RunningCall
from merino.domain.deployment import Alias, Deployment
from merino.domain.key import VirtualKey
from merino.domain.ledger import Hold
from merino.domain.usage import Usage
from merino.gateway.origins import Origin
from merino.gateway.trace import Trace
from merino.pricing.price import PPM
from merino.wire.endpoints import EventReader
from merino.wire.exchange import Cancellable
from merino.wire.request import ModelRequest

CancelCause = Literal[
    "hang_up",
    "first_token_timeout",
    "answer_timeout",
    "idle_timeout",
    "total_timeout",
    "shutdown",
]
"""Why a running call was cancelled from outside its own task."""

CALLER_LEFT_STATUS = 499
"""nginx's status for a caller who hung up before the answer."""

# A random prefix for the process and a counter: unique, ordered, and no system call per call.
_PREFIX = f"req_{os.urandom(7).hex()}"
_numbers = count(1)


def new_call_id() -> str:
    return f"{_PREFIX}{next(_numbers):07x}"


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """The first answer of an idempotency key, unsealed."""

    call_id: str
    status: int
    content_type: str
    body: bytes
    charged_nanos: int | None


class Timing(msgspec.Struct, frozen=True, gc=False):
    """Where a call has spent its time so far, in milliseconds; `elapsed_ms` is the sum of these and
    of the call's `backoff_s`."""

    queue_ms: float
    relay_ms: float
    upstream_ms: float
    elapsed_ms: float


class Call:
    """`received_at` and the other clock readings are `time.perf_counter()`; `at_ms` is the wall
    clock. `secret` is the caller's bearer secret, needed to seal an answer kept for a repeat.

    `timeout_s` is how long it may take in all, from `received_at`: the alias's limit or the
    caller's own. `batch_item` is the batch item that it answers. `account_ppm` is what its account
    pays, in millionths of the price: a batch may be cheaper.
    """

    # What a call does not have (yet) costs nothing: the default stays on the class.
    address = ""
    """Where it came from, if that is to be kept."""
    tags: tuple[str, ...] = ()
    input_tokens = 0
    asked_input_tokens = 0
    """The least that the input has, counting only what is here as text."""
    asked_tokens = 0
    """That, plus the output that the caller asked for. What the relay assumes beyond it is no
    reason to refuse a call."""
    output_tokens = 0
    """Output tokens bought by the hold."""
    hold: Hold | None = None
    deployment: Deployment | None = None
    attempts: tuple[Attempt, ...] = ()
    lost_usage: tuple[Usage | None, ...] = ()
    """What each attempt that lost a race had used, if known; in the order of `attempts`."""
    record: CallRecord | None = None
    error_message: str | None = None
    """Why it failed, for its record."""

    started_at = 0.0
    sent_at = 0.0
    """When the last attempt was handed to its provider; 0 while none was."""
    first_content_at = 0.0
    upstream_done_at = 0.0
    waited_s = 0.0
    """Time spent waiting for headroom or a permit."""
    backoff_s = 0.0
    """Time between attempts in which no deployment was asked."""
    earlier_s = 0.0
    """Time that upstreams took before the attempt that answered was sent."""
    is_between_attempts = False
    """One attempt failed, and the next one is not due yet."""

    lost_s = 0.0
    """How long the relay itself stood still meanwhile."""

    reads_s = 0.0
    """How long the caller of a stream waits for the next byte, if they said; 0 if not."""

    reader: EventReader | None = None
    """What read the stream that reaches the caller."""

    issuer: Deployment | None = None
    """Who made the sealed thinking that it brings along, if that is known."""

    origin: Origin | None = None
    """Who made the answer that it goes on from."""
    keeping: Any = None
    """What the relay is to keep of it, and to tell of that (`state.Keeping`)."""
    background: Any = None
    """What goes on with it without its caller (`ports.Background`)."""
    is_left_open: bool = False
    """This process ends, and the next one goes on with it: its hold stays."""
    roads: Mapping[str, Any] = MappingProxyType({})
    """The same call in other dialects, made once each (`roads.Road`)."""

    traceparent = b""
    tracestate = b""
    """What the caller said of the trace it is part of."""
    trace: Trace | None = None

    task: Cancellable | None = None
    cancel_cause: CancelCause | None = None

    def __init__(
        self,
        id: str,  # noqa: A002 - the glossary's word
        key: VirtualKey,
        request: ModelRequest,
        alias: Alias,
        received_at: float,
        body: bytes = b"",
        secret: bytes = b"",
        idempotency_key: str | None = None,
        max_cost_nanos: int | None = None,
        timeout_s: float = 600.0,
        batch_item: ItemRef | None = None,
        account_ppm: int = PPM,
    ) -> None:
        self.id = id
        self.key = key
        self.request = request
        self.alias = alias
        self.received_at = received_at
        self.body = body
        self.secret = secret
        self.idempotency_key = idempotency_key
        self.max_cost_nanos = max_cost_nanos
        self.timeout_s = timeout_s
        self.batch_item = batch_item
        self.account_ppm = account_ppm
        self.at_ms = time_ns() // 1_000_000

    @property
    def tag(self) -> str:
        """The key of what is learned of calls: the alias and its reasoning effort."""
        effort = self.request.reasoning_effort
        return f"{self.alias.name}\n{effort}" if effort else self.alias.name

    @property
    def upstream_s(self) -> float:
        """Time from sending the attempt that answered to its end (or to now)."""
        if not self.sent_at:
            return 0.0
        return (self.upstream_done_at or perf_counter()) - self.sent_at

    def remaining_s(self) -> float:
        """Until its deadline; may be negative."""
        return self.received_at + self.timeout_s - perf_counter()

    def grant(self, lost_s: float, now: float) -> None:
        """The relay has stood still for this long: that uses up neither the call's time nor its
        upstream's."""
        self.lost_s += lost_s
        self.timeout_s += lost_s
        if self.sent_at:
            self.sent_at = min(now, self.sent_at + lost_s)

    def patience_s(self) -> float:
        """How much longer its caller may be left without a byte; may be negative."""
        remaining_s = self.remaining_s()
        if not self.reads_s:
            return remaining_s
        return min(remaining_s, self.received_at + self.reads_s * 0.9 - perf_counter())

    def timing(self) -> Timing:
        now = perf_counter()
        # Waiting for the first stage, and every wait for its turn since.
        queue_s = self.started_at - self.received_at + self.waited_s
        upstream_s = (self.upstream_done_at or now) - self.sent_at if self.sent_at else 0.0
        upstream_s += self.earlier_s
        elapsed_s = now - self.received_at
        relay_s = elapsed_s - queue_s - upstream_s - self.backoff_s
        return Timing(
            queue_s * 1000 if queue_s > 0 else 0.0,
            relay_s * 1000 if relay_s > 0 else 0.0,
            upstream_s * 1000,
            elapsed_s * 1000,
        )

    def as_running(self) -> RunningCall:
        """What is known of it while it runs."""
        stage: CallStage = "asking"
        if not self.sent_at:
            stage = "queued"
        elif self.is_between_attempts:
            stage = "backing_off"
        elif self.first_content_at:
            stage = "answering"
        return RunningCall(
            self.id,
            self.key.account_id,
            self.key.id,
            self.alias.name,
            self.request.endpoint.name,
            self.at_ms,
            self.request.stream,
            stage,
            self.deployment.name if self.deployment else "",
            len(self.attempts),
            (perf_counter() - self.received_at) * 1000,
        )

    def cancel(self, cause: CancelCause) -> None:
        """Cancel the call's task, remembering why. Only the first cause counts."""
        if self.cancel_cause is None and self.task is not None:
            self.cancel_cause = cause
            self.task.cancel()
