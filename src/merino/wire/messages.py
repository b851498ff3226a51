"""`messages`: Anthropic's Messages API, and `messages/count_tokens`, which only counts."""

from __future__ import annotations

from typing import Annotated

import msgspec

from merino.wire.endpoints import Endpoint
from merino.wire.fields import (
    MANY_PARTS_BYTES,
    Fields,
    boolean_of,
    check_filled_list,
    encode_fields,
    integer_of,
    missing,
    model_of,
    parse_fields,
    text_of,
    wrong_type,
)
from merino.wire.message_errors import error_answer, error_event
from merino.wire.message_events import LAST, MessageReader
from merino.wire.message_object import read_message
from merino.wire.message_usage import tier_of
from merino.wire.request import ModelRequest
from merino.wire.sealed import SEALED_IN_MESSAGES

LIMIT_NAME = "max_tokens"
TOKENS_MAX = 2**31 - 1
BUDGET_MIN = 1024
"""The least that a model which is told how much to think may think; its output limit is above."""

_Limit = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]


class _Thinking(msgspec.Struct, gc=False):
    type: str | None = None
    budget_tokens: int | None = None


class _Output(msgspec.Struct, gc=False):
    effort: str | None = None


class _Known(msgspec.Struct, gc=False):
    """The fields whose values the relay must know."""

    model: str
    max_tokens: _Limit | None = None
    stream: bool | None = None
    thinking: _Thinking | None = None
    output_config: _Output | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None


class _Fallback(msgspec.Struct, gc=False):
    model: str | None = None


_decode_fallbacks = msgspec.json.Decoder(list[_Fallback]).decode
_decode_known = msgspec.json.Decoder(_Known).decode


class MessagesRequest(ModelRequest):
    """A parsed body of `messages`. `budget_tokens` is how much of its output limit the model is to
    think."""

    budget_tokens: int = 0

    def set_output_tokens_max(self, tokens: int, *, reason: str) -> None:
        """Thinking must have less than the whole."""
        super().set_output_tokens_max(tokens, reason=reason)
        if not 0 < tokens <= self.budget_tokens:
            return
        self.budget_tokens = max(BUDGET_MIN, tokens // 2) if tokens > BUDGET_MIN else 0
        if self.budget_tokens:
            thinking = b'{"type":"enabled","budget_tokens":%d}' % self.budget_tokens
            self.tell(f"thinking.budget_tokens={self.budget_tokens} ({reason})")
        else:
            thinking = b'{"type":"disabled"}'
            self.tell(f"thinking disabled ({reason})")
        self.change("thinking", msgspec.Raw(thinking))


def parse_messages(body: bytes) -> MessagesRequest:
    """Read a body of `messages`. Raises `InvalidCall` that names the field."""
    return _parsed(body, MESSAGES)


def parse_counted(body: bytes) -> MessagesRequest:
    """Read a body of `messages/count_tokens`: what a message would be asked with."""
    request = _parsed(body, COUNT_TOKENS)
    request.stream = False
    return request


def _parsed(body: bytes, endpoint: Endpoint) -> MessagesRequest:
    fields = parse_fields(body)
    try:
        known = _decode_known(body if len(body) <= MANY_PARTS_BYTES else _known_of(fields))
    except msgspec.ValidationError:
        _say_what_is_wrong(fields)
        raise
    request = MessagesRequest(endpoint, known.model or model_of(None), fields, body)
    messages = fields.get("messages")
    if messages is None:
        missing("messages")
    check_filled_list("messages", messages)
    if known.max_tokens is not None:
        request.other_limits = {LIMIT_NAME: known.max_tokens}
    elif endpoint.has_output:
        missing(LIMIT_NAME)
    if known.stream:
        request.stream = True
    thinking = known.thinking
    if thinking is not None and thinking.type == "enabled" and thinking.budget_tokens:
        request.budget_tokens = thinking.budget_tokens
    if known.output_config is not None:
        request.reasoning_effort = known.output_config.effort
    if (fallbacks := fields.get("fallbacks")) is not None:
        request.other_models = _models_in(fallbacks)
    if SEALED_IN_MESSAGES(messages) is not None:
        request.has_sealed = True
    request.service_tier = tier_of(known.service_tier, known.speed, known.inference_geo)
    return request


def _models_in(fallbacks: msgspec.Raw) -> tuple[str, ...]:
    """The models that are named; which ones the vendor's own choice (`"default"`) are, nobody
    says."""
    try:
        found = _decode_fallbacks(fallbacks)
    except msgspec.DecodeError:
        return ()
    return tuple(each.model for each in found if each.model)


def _known_of(fields: Fields) -> bytes:
    return encode_fields(
        {name: fields[name] for name in _Known.__struct_fields__ if name in fields}
    )


def _say_what_is_wrong(fields: Fields) -> None:
    """Raise `InvalidCall` for the first field whose value is of the wrong type or size."""
    model_of(fields.get("model"))
    for name, check in (
        ("stream", boolean_of),
        ("service_tier", text_of),
        ("speed", text_of),
        ("inference_geo", text_of),
    ):
        if (raw := fields.get(name)) is not None:
            check(name, raw)
    if (raw := fields.get(LIMIT_NAME)) is not None and bytes(raw) != b"0":
        integer_of(LIMIT_NAME, raw, TOKENS_MAX)
    for name, what in (
        ("thinking", "an object whose budget_tokens is an integer"),
        ("output_config", "an object whose effort is a string"),
    ):
        if (raw := fields.get(name)) is not None:
            wrong_type(name, what, raw)


MESSAGES = Endpoint(
    "messages",
    parse_messages,
    read_message,
    MessageReader,
    limit_name=LIMIT_NAME,
    last_event=LAST,
    error_event=error_event,
    error_event_ends=True,
    reports_usage=True,
    is_batched=False,
    error_answer=error_answer,
    passes=(b"anthropic-",),
    id_header=b"request-id",
)
COUNT_TOKENS = Endpoint(
    "messages/count_tokens",
    parse_counted,
    read_message,
    has_output=False,
    is_batched=False,
    error_answer=error_answer,
    passes=(b"anthropic-",),
    id_header=b"request-id",
)
"""Not among those that are served as calls: nothing of it is billed."""
