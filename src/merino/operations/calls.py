"""Calls in the admin API."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.ports import CallFilter
from merino.domain.call import CallRecord, CallStage
from merino.domain.ledger import Resolution
from merino.domain.money import format_nanos
from merino.operations.fields import Cursor, In, PageLimit, Reference, Time, given, iso, ms_of
from merino.operations.table import Asked, Operation


class CallsQuery(In):
    account: Reference | UnsetType = UNSET
    key: Reference | UnsetType = UNSET
    alias: str | UnsetType = UNSET
    status: Annotated[int, Meta(ge=100, le=599)] | UnsetType = UNSET
    resolution: Resolution | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET
    limit: PageLimit = 100
    cursor: Cursor | UnsetType = UNSET


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


def call_shape(record: CallRecord) -> Call:
    return Call(**_call_fields(record))


def call_with_content_shape(record: CallRecord) -> CallWithContent:
    return CallWithContent(
        **_call_fields(record),
        request_json=record.request_json,
        response_text=record.response_text,
    )


_CALL_AS_IS = tuple(
    name for name in Call.__struct_fields__ if name in CallRecord.__dataclass_fields__
)


def _call_fields(record: CallRecord) -> dict[str, Any]:
    fields = {name: getattr(record, name) for name in _CALL_AS_IS}
    fields["at"] = iso(record.at_ms)
    for name in ("held", "charged", "overrun", "upstream"):
        fields[name] = format_nanos(getattr(record, f"{name}_nanos"))
    fields["attempts"] = [
        CallAttempt(
            deployment=attempt.deployment,
            started_ms=attempt.started_ms,
            duration_ms=attempt.duration_ms,
            outcome=attempt.outcome,
            status=attempt.status,
            reason_for_next=attempt.reason_for_next,
            upstream=format_nanos(attempt.upstream_nanos),
            message=attempt.message,
            backoff_ms=attempt.backoff_ms,
        )
        for attempt in record.attempts
    ]
    return fields


async def _list_calls(asked: Asked) -> Calls:
    query: CallsQuery = asked.query
    wanted = CallFilter(
        account_id=given(query.account),
        key_id=given(query.key),
        alias=given(query.alias),
        status=given(query.status),
        resolution=given(query.resolution),
        since_ms=ms_of(query.since, "since"),
        until_ms=ms_of(query.until, "until"),
    )
    page = await asked.control.list_calls(wanted, limit=query.limit, cursor=given(query.cursor))
    return Calls([call_shape(call) for call in page.items], page.next_cursor)


async def _running_calls(asked: Asked) -> RunningCalls:
    query: RunningQuery = asked.query
    found = asked.control.running_calls(given(query.account))
    shown = [
        RunningCall(
            at=iso(call.at_ms),
            **{name: getattr(call, name) for name in RunningCall.__struct_fields__ if name != "at"},
        )
        for call in found[: query.limit]
    ]
    return RunningCalls(shown, len(found))


async def _show_call(asked: Asked) -> CallWithContent:
    return call_with_content_shape(await asked.control.show_call(asked.path["call"]))


CALL_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/calls",
        "list_calls",
        "List calls, the newest first",
        _list_calls,
        Calls,
        query=CallsQuery,
    ),
    Operation(
        "GET",
        "/calls/running",
        "list_running_calls",
        "List the calls that run now, the oldest first",
        _running_calls,
        RunningCalls,
        query=RunningQuery,
    ),
    Operation("GET", "/calls/{call}", "show_call", "Show one call", _show_call, CallWithContent),
)
