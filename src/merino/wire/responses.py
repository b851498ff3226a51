"""`responses`: the Responses API, which most packages and agents use by default."""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec

from merino.wire.endpoints import Endpoint
from merino.wire.fields import (
    MANY_PARTS_BYTES,
    Fields,
    boolean_of,
    encode_fields,
    integer_of,
    model_of,
    parse_fields,
    text_of,
    wrong_type,
)
from merino.wire.request import ModelRequest
from merino.wire.response_events import ResponseReader, failed_events
from merino.wire.response_object import read_response
from merino.wire.response_state import NO_STATE, ResponseState
from merino.wire.sealed import SEALED

LIMIT_NAME = "max_output_tokens"
LIMIT_MIN = 16
"""Vendors refuse less, where a chat may ask for one."""
TOKENS_MAX = 2**31 - 1

_Count = Annotated[int, msgspec.Meta(ge=1, le=TOKENS_MAX)]


class _Reasoning(msgspec.Struct, gc=False):
    effort: str | None = None


class _Known(msgspec.Struct, gc=False):
    """The fields whose values the relay must know."""

    model: str
    stream: bool | None = None
    max_output_tokens: _Count | None = None
    max_tool_calls: int | None = None
    reasoning: _Reasoning | None = None
    service_tier: str | None = None
    background: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None


_decode_known = msgspec.json.Decoder(_Known).decode


class ResponseRequest(ModelRequest):
    """A parsed body of `responses`."""

    state: ResponseState | None = NO_STATE
    max_tool_calls: int | None = None


def parse_responses(body: bytes) -> ResponseRequest:
    """Read a body of `responses`. Raises `InvalidCall` that names the field."""
    fields = parse_fields(body)
    try:
        known = _decode_known(
            body
            if len(body) <= MANY_PARTS_BYTES
            else encode_fields(
                {name: fields[name] for name in _Known.__struct_fields__ if name in fields}
            )
        )
    except msgspec.ValidationError:
        _say_what_is_wrong(fields)
        raise
    request = ResponseRequest(RESPONSES, known.model or model_of(None), fields, body)
    given = fields.get("input")
    if given is not None and bytes(memoryview(given)[:1]) not in (b'"', b"[", b"n"):
        wrong_type("input", "a string or an array", given)
    if known.stream:
        request.stream = True
    if known.max_output_tokens is not None:
        request.other_limits = {LIMIT_NAME: known.max_output_tokens}
    if known.max_tool_calls is not None:
        request.max_tool_calls = known.max_tool_calls
    if known.reasoning is not None and known.reasoning.effort is not None:
        request.reasoning_effort = known.reasoning.effort
    if known.service_tier is not None:
        request.service_tier = known.service_tier
    request.state = state = _state_of(known, given)
    request.previous_id = state.previous_response_id
    if not state.stored:
        request.is_stored = False
    if state.has_sealed:
        request.has_sealed = True
    return request


def _state_of(known: _Known, given: msgspec.Raw | None) -> ResponseState:
    items = b"" if given is None else bytes(given)
    has_references = items[:1] == b"[" and b'"item_reference"' in items
    has_sealed = items[:1] == b"[" and SEALED in items
    conversation = known.conversation
    if isinstance(conversation, dict):
        conversation = cast("dict[str, object]", conversation).get("id")
    if not isinstance(conversation, str):
        conversation = None
    stored = known.store is not False
    if not (
        known.previous_response_id
        or conversation
        or has_references
        or has_sealed
        or known.background
        or not stored
    ):
        return NO_STATE
    return ResponseState(
        known.previous_response_id or None,
        conversation,
        has_references,
        has_sealed,
        bool(known.background),
        stored,
    )


def _say_what_is_wrong(fields: Fields) -> None:
    """Raise `InvalidCall` for the first field whose value is of the wrong type or size."""
    model_of(fields.get("model"))
    for name, check in (
        ("stream", boolean_of),
        ("background", boolean_of),
        ("store", boolean_of),
        ("service_tier", text_of),
        ("previous_response_id", text_of),
    ):
        if (raw := fields.get(name)) is not None:
            check(name, raw)
    for name in (LIMIT_NAME, "max_tool_calls"):
        if (raw := fields.get(name)) is not None:
            integer_of(name, raw, TOKENS_MAX)
    reasoning = fields.get("reasoning")
    if reasoning is not None:
        wrong_type("reasoning", "an object whose effort is a string", reasoning)


RESPONSES = Endpoint(
    "responses",
    parse_responses,
    read_response,
    ResponseReader,
    limit_name=LIMIT_NAME,
    limit_min=LIMIT_MIN,
    last_event=b"",
    error_event=failed_events,
    reports_usage=True,
    error_event_ends=True,
    answers_are_named=True,
)
