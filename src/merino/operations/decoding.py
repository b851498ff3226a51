"""Decoding of bodies and queries, with the field's name in what is said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar, cast

import msgspec
from msgspec import Struct

from merino.domain.errors import InvalidCall
from merino.operations.kinds import kind_of
from merino.wire.unreadable import Unreadable, refusal

T = TypeVar("T", bound=Struct)
_AT_FIELD = re.compile(r" - at `\$\.?([^`]*)`$")
_NAMED_FIELD = re.compile(r"field `([^`]*)`")


def decode_body(body: bytes, kind: type[T]) -> T:
    """Raises `InvalidCall` that names the field."""
    try:
        content: object = msgspec.json.decode(body)
    except Unreadable as error:
        raise refusal(body, error) from None
    if isinstance(content, dict):
        content = {
            name: _whole(value) for name, value in cast("dict[str, object]", content).items()
        }
    return convert(content, kind)


def convert(content: object, kind: type[T], *, strict: bool = True) -> T:
    """Raises `InvalidCall` that names the field."""
    try:
        return msgspec.convert(content, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _invalid(error, kind) from None


def _whole(value: object) -> object:
    """JSON knows one kind of number: 5.0 is as good an integer as 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def decode_query(pairs: Sequence[tuple[str, str]], kind: type[T]) -> T:
    """Raises `InvalidCall` that names the parameter."""
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise InvalidCall(
                f"{name!r} is given twice; give it once", param=name, code="invalid_value"
            )
        if "\0" in value or "\ufffd" in value:
            raise InvalidCall(
                f"{name!r} has characters that are not text", param=name, code="invalid_value"
            )
        values[name] = value
    return convert(values, kind, strict=False)


def _invalid(error: msgspec.ValidationError, kind: type[Struct]) -> InvalidCall:
    text = str(error)
    at = _AT_FIELD.search(text)
    # `[...]` is where msgspec stops before it knows any field.
    param = at[1].removeprefix("[...]") if at else ""
    if named := _NAMED_FIELD.search(text):
        param = f"{param}.{named[1]}" if param else named[1]
    reason = _AT_FIELD.sub("", text) + _ways_out(text, param, kind)
    message = f"{param}: {reason}" if param else reason
    return InvalidCall(message, param=param or None, code="invalid_value")


def _ways_out(text: str, param: str, kind: type[Struct]) -> str:
    """What could have been written instead, where that is a short list."""
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    if "unknown field" in text and "." not in param:
        return f"; known are {', '.join(fields)}"
    if "enum value" in text and param in fields:
        return f"; choose one of {', '.join(kind_of(fields[param]).choices)}"
    return ""
