"""Decoding of bodies and queries, with the field's name in what is said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar, cast

import msgspec
from msgspec import Struct

from merino.domain.errors import InvalidCall
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
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


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
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: msgspec.ValidationError) -> InvalidCall:
    text = str(error)
    at = _AT_FIELD.search(text)
    # `[...]` is where msgspec stops before it knows any field.
    param = at[1].removeprefix("[...]") if at else ""
    if named := _NAMED_FIELD.search(text):
        param = f"{param}.{named[1]}" if param else named[1]
    reason = _AT_FIELD.sub("", text)
    message = f"{param}: {reason}" if param else reason
    return InvalidCall(message, param=param or None, code="invalid_value")
