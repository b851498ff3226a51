"""`chat/completions`."""

from __future__ import annotations

from operator import attrgetter
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
from merino.wire.request import ModelRequest
from merino.wire.sse import StreamReader
from merino.wire.usage import parse_chat_response

CHOICES_MAX = 128
"""Largest `n`, as at OpenAI."""

TOKENS_MAX = 2**31 - 1
"""Largest output limit accepted; anything above is a mistake."""

OTHER_LIMIT_NAMES = frozenset(
    (
        "maxOutputTokens", "max_gen_len", "max_length", "max_new_tokens", "max_output_tokens",
        "max_tokens_to_sample", "n_predict", "num_predict",
    )
)  # fmt: skip
"""Names that only some servers use, and may obey before the usual two (llama.cpp: `n_predict`)."""

_Count = Annotated[int, msgspec.Meta(ge=1, le=TOKENS_MAX)]


class _Known(msgspec.Struct, gc=False):
    """The fields of a chat whose values the relay must know."""

    model: str
    stream: bool | None = None
    max_completion_tokens: _Count | None = None
    max_tokens: _Count | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    best_of: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None


_decode_known = msgspec.json.Decoder(_Known).decode
_rarely_said = attrgetter("max_tokens", "n", "best_of", "reasoning_effort", "service_tier")
_SAYS_NONE = (None,) * 5


def _known_of(fields: Fields) -> bytes:
    """A body without everything that may be large: finding the end of a long text takes time."""
    return encode_fields(
        {name: fields[name] for name in _Known.__struct_fields__ if name in fields}
    )


def parse_chat(body: bytes) -> ModelRequest:
    """Read a body of `chat/completions`. Raises `InvalidCall` that names the field."""
    fields = parse_fields(body)
    try:
        known = _decode_known(body if len(body) <= MANY_PARTS_BYTES else _known_of(fields))
    except msgspec.ValidationError:
        _say_what_is_wrong(fields)
        raise
    request = ModelRequest(CHAT, known.model or model_of(None), fields, body)
    messages = fields.get("messages")
    if messages is None:
        missing("messages")
    check_filled_list("messages", messages)
    if known.stream:
        request.stream = True
    if (options := fields.get("stream_options")) is not None:
        request.include_usage = _include_usage(options)
    if known.max_completion_tokens is not None:
        request.max_completion_tokens = known.max_completion_tokens
    if not OTHER_LIMIT_NAMES.isdisjoint(fields):
        _read_other_limits(request)
    if _rarely_said(known) != _SAYS_NONE:
        _take_rarely_said(request, known)
    return request


def _take_rarely_said(request: ModelRequest, known: _Known) -> None:
    # What the body does not say keeps its default on the class.
    if known.max_tokens is not None:
        request.max_tokens = known.max_tokens
    if known.n is not None:
        request.n = known.n
    if known.best_of is not None and known.best_of > request.n:
        request.n = known.best_of
    if known.reasoning_effort is not None:
        request.reasoning_effort = known.reasoning_effort
    if known.service_tier is not None:
        request.service_tier = known.service_tier


def _read_other_limits(request: ModelRequest) -> None:
    """A server's own limit counts like the usual ones. A value that is no limit (-1) is left out:
    the call's cost would be unknown."""
    limits: dict[str, int] = {}
    for name in sorted(OTHER_LIMIT_NAMES & request.fields.keys()):
        digits = bytes(request.fields[name])
        if digits.isdigit() and len(digits) <= 10 and 1 <= int(digits) <= TOKENS_MAX:
            limits[name] = int(digits)
        else:
            request.change(name, None)
            request.tell(f"{name} removed")
    request.other_limits = limits


def _say_what_is_wrong(fields: Fields) -> None:
    """Raise `InvalidCall` for the first field whose value is of the wrong type or size."""
    model_of(fields.get("model"))
    for name, check in (
        ("stream", boolean_of),
        ("reasoning_effort", text_of),
        ("service_tier", text_of),
    ):
        if (raw := fields.get(name)) is not None:
            check(name, raw)
    for name, value_max in (
        ("max_completion_tokens", TOKENS_MAX),
        ("max_tokens", TOKENS_MAX),
        ("n", CHOICES_MAX),
        ("best_of", CHOICES_MAX),
    ):
        if (raw := fields.get(name)) is not None:
            integer_of(name, raw, value_max)


def _include_usage(raw: msgspec.Raw) -> bool:
    try:
        members = _decode_members(raw)
    except msgspec.ValidationError:
        wrong_type("stream_options", "an object", raw)
    if members is None:
        return False
    include = members.get("include_usage")
    return include is not None and boolean_of("stream_options.include_usage", include)


_decode_members = msgspec.json.Decoder(Fields | None).decode


def _new_reader(event_bytes_max: int) -> StreamReader:
    return StreamReader(event_bytes_max=event_bytes_max)


CHAT = Endpoint("chat/completions", parse_chat, parse_chat_response, _new_reader)
