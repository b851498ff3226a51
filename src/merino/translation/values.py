"""JSON values while they are carried over.

The text of an answer is never decoded: a *piece* is what stands between the quotes of a JSON
string, byte for byte. Pieces joined are the joined text, even if an emoji's escaped surrogates come
in two.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeGuard, cast

import msgspec

from merino.wire.fields import kind_of
from merino.wire.lenient import decode_lenient

Members = dict[str, Any]

_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^,]*)?;base64,", re.IGNORECASE)
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def inline_data(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a `data:` URL; `None` for any other address."""
    found = _DATA_URL.match(url)
    return None if found is None else (found[1], url[found.end() :])


def decode(raw: bytes | msgspec.Raw) -> Any:
    """A value. Raises `ValueError` for anything that is not JSON."""
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode_lenient(bytes(raw))


def encode(value: object) -> bytes:
    """A value as JSON, also with half a surrogate pair in it."""
    try:
        return _encode(value)
    except (UnicodeEncodeError, RecursionError, OverflowError, TypeError):
        return json.dumps(value, default=_of_raw).encode()


def _of_raw(value: object) -> object:
    if isinstance(value, msgspec.Raw):
        return decode(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def is_object(value: object) -> TypeGuard[Members]:
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def members_of(value: object) -> Members:
    """The members of an object; of anything else none."""
    return cast("Members", value) if isinstance(value, dict) else {}


def list_of(value: object) -> list[Any]:
    """The elements of an array; of anything else none."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def text_of(value: object) -> str:
    """A text; numbers and booleans as JSON has them, objects too, nothing for null."""
    if isinstance(value, str):
        return value
    return "" if value is None else encode(value).decode()


def shown_kind(value: object) -> str:
    """What a value is, in the words of error messages."""
    return kind_of(encode(value)[:64])


def piece_of(text: str) -> bytes:
    """A text as it stands between the quotes of a JSON string."""
    return encode(text)[1:-1]


def text_in(piece: bytes) -> str:
    """The text that a piece stands for."""
    found = decode(b'"%b"' % piece)
    return found if isinstance(found, str) else ""


def piece_in(raw: bytes | msgspec.Raw | None) -> bytes:
    """The piece of a raw value: a string's own bytes; of other values what they look like as JSON;
    nothing for null."""
    if raw is None:
        return b""
    data = bytes(raw)
    if data[:1] == b'"':
        return data[1:-1]
    return b"" if data in (b"null", b"") else piece_of(data.decode("utf-8", "replace"))
