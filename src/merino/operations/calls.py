"""Calls: those that ended, and those that run."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.ports import CallFilter
from merino.domain.call import Attempt, CallRecord, CallStage
from merino.domain.call import RunningCall as DomainRunningCall
from merino.domain.ledger import Resolution
from merino.operations.fields import In, PageLimit, PageQuery, Reference, Time, given, page_of
from merino.operations.shape import shown, shows, taken
from merino.operations.table import Asked, Operations

Said = Annotated[str, Meta(max_length=200)]


class CallsQuery(PageQuery):
    account: Reference | UnsetType = UNSET
    key: Reference | UnsetType = UNSET
    alias: str | UnsetType = UNSET
    status: Annotated[int, Meta(ge=100, le=599)] | UnsetType = UNSET
    resolution: Resolution | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET
    user: Said | UnsetType = UNSET
    tag: Said | UnsetType = UNSET
    metadata: Annotated[Said, Meta(description="A pair: NAME=VALUE.")] | UnsetType = UNSET


@shows(Attempt)
class CallAttempt(Struct):
    deployment: str
    started_ms: float
    duration_ms: float
    outcome: str
    status: int
    reason_for_next: str | None
    upstream: str
    """What an attempt that lost a race cost; the account does not pay it."""
    message: str
    """What the upstream said, without secrets."""
    backoff_ms: float
    """How long nobody was asked after it."""


_CONTENT = "kept only with calls.store_content, shown with one call at a time"


@shows(CallRecord, hidden={"request_json": _CONTENT, "response_text": _CONTENT})
class Call(Struct):
    id: str
    account_id: str
    key_id: str
    alias: str
    endpoint: str
    at: str
    status: int
    deployment: str
    upstream_model: str
    streamed: bool
    error_code: str | None
    error_message: str | None
    finish_reason: str | None
    resolution: str
    duration_ms: float
    ttft_ms: float | None
    queue_ms: float
    relay_ms: float
    upstream_ms: float
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    image_input_tokens: int
    audio_input_tokens: int
    audio_output_tokens: int
    units: str | None
    """What was used beside tokens, as JSON: cache writes by their life, tools of the vendor."""
    response_id: str | None
    """By which id its answer can be asked for again."""
    end_user: str | None
    tags: str | None
    """A list, as JSON."""
    metadata: str | None
    """An object, as JSON."""
    address: str | None
    """Where it came from."""
    elsewhere: str | None
    """What other models used for it, as JSON by their names: paid, and in none of the counts."""
    usage_source: str
    reported_usage: str | None
    """What the upstream said, as JSON, where that is not what was billed."""
    held: str
    held_nanos: int
    charged: str
    charged_nanos: int
    overrun: str
    overrun_nanos: int
    upstream: str
    upstream_nanos: int
    price_id: str | None
    idempotency_key: str | None
    attempts: list[CallAttempt]


@shows(DomainRunningCall)
class RunningCall(Struct):
    id: str
    account_id: str
    key_id: str
    alias: str
    endpoint: str
    at: str
    streamed: bool
    stage: CallStage
    """Waits for limits and credit; an upstream has it and has sent nothing yet; waits before
    another attempt; its answer goes to the caller."""
    deployment: str
    attempts: int
    """Those that failed."""
    duration_ms: float


class RunningCalls(Struct):
    data: list[RunningCall]
    running: int
    """How many there are, also beyond `limit`."""


class RunningQuery(In):
    account: Reference | UnsetType = UNSET
    limit: PageLimit = 100


class CallWithContent(Call, kw_only=True):
    """`request_json` and `response_text` are kept only with `calls.store_content`."""

    request_json: str | None
    response_text: str | None


class Calls(Struct):
    data: list[Call]
    next_cursor: str | None


OPERATIONS = Operations()


@OPERATIONS.get("/calls", "List calls, the newest first")
async def list_calls(asked: Asked, query: CallsQuery) -> Calls:
    page = await asked.control.list_calls(taken(CallFilter, query), **page_of(query))
    return Calls([shown(Call, call) for call in page.items], page.next_cursor)


@OPERATIONS.get("/calls/running", "List the calls that run now, the oldest first")
async def list_running_calls(asked: Asked, query: RunningQuery) -> RunningCalls:
    found = asked.control.running_calls(given(query.account))
    return RunningCalls([shown(RunningCall, call) for call in found[: query.limit]], len(found))


@OPERATIONS.get("/calls/{call}", "Show one call")
async def show_call(asked: Asked) -> CallWithContent:
    return shown(CallWithContent, await asked.control.show_call(asked.path["call"]))
