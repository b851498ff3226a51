"""One accepted client request, from bearer token to settled cost, as it is remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from merino.domain.ledger import Resolution
from merino.domain.usage import UsageSource

MESSAGE_LENGTH_MAX = 500
"""Of what an upstream said about an attempt, so much is kept."""

HEDGE_LOST = "HedgeLost"
"""Outcome of an attempt that was cancelled because the other one began to answer first."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a call at one deployment. `started_ms` counts from the call's start, `backoff_ms`
    is how long nobody was asked after it, `message` what the upstream said, without secrets.
    `upstream_nanos` is what a lost hedge is taken to have cost us; the account does not pay it."""

    deployment: str
    started_ms: float
    duration_ms: float
    outcome: str
    status: int = 0
    reason_for_next: str | None = None
    upstream_nanos: int = 0
    message: str = ""
    backoff_ms: float = 0.0


CallStage = Literal["queued", "asking", "backing_off", "answering"]
"""Where a running call is: it waits for limits and credit, an upstream has it and has sent nothing
yet, it waits before another attempt, or its answer goes to the caller."""


@dataclass(frozen=True, slots=True)
class RunningCall:
    """A call that has not ended, as of now. `attempts` are those that failed."""

    id: str
    account_id: str
    key_id: str
    alias: str
    endpoint: str
    at_ms: int
    streamed: bool
    stage: CallStage
    deployment: str
    attempts: int
    duration_ms: float


class CallRecord(msgspec.Struct, gc=False):
    """What is kept of a call; written once. Times are epoch milliseconds, durations milliseconds.

    `status` is the HTTP status the caller got; `error_code` the OpenAI error code, if any.
    `charged_nanos` is what the account paid (settle + overrun), `upstream_nanos` what the upstream
    charges us. `ttft_ms` is `None` when no content came. `reported_usage` is what the upstream
    said, as JSON, where that is not what was billed. `units` is what was used beside tokens, as
    JSON; `response_id` what the upstream calls its answer, where later calls may name it.
    `end_user`, `tags` and `metadata` (as JSON) are what the caller said it was about, `address`
    where it came from. `elsewhere` is what other models used for it, as JSON by their names: paid,
    and in none of the counts.
    """

    id: str
    account_id: str
    key_id: str
    alias: str
    endpoint: str
    at_ms: int
    status: int
    deployment: str = ""
    upstream_model: str = ""
    streamed: bool = False
    error_code: str | None = None
    finish_reason: str | None = None
    resolution: Resolution = "voided"
    duration_ms: float = 0.0
    ttft_ms: float | None = None
    queue_ms: float = 0.0
    relay_ms: float = 0.0
    upstream_ms: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    usage_source: UsageSource = "none"
    held_nanos: int = 0
    charged_nanos: int = 0
    overrun_nanos: int = 0
    upstream_nanos: int = 0
    price_id: str | None = None
    idempotency_key: str | None = None
    attempts: tuple[Attempt, ...] = ()
    request_json: str | None = None
    response_text: str | None = None
    reported_usage: str | None = None
    error_message: str | None = None
    image_input_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    units: str | None = None
    response_id: str | None = None
    end_user: str | None = None
    tags: str | None = None
    metadata: str | None = None
    address: str | None = None
    elsewhere: str | None = None
