"""The error body of OpenAI's API: written exactly, read generously."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from merino.wire.lenient import decode_lenient

ErrorParts = tuple[str, str, str | None, str | None]
"""Message, type, param, code."""

_encode = msgspec.json.Encoder().encode

_TEXT_BYTES_MAX = 4096


def error_body(
    message: str,
    type: str,  # noqa: A002 - the field's name on the wire
    param: str | None = None,
    code: str | None = None,
) -> bytes:
    """OpenAI's error object; all four members are always present."""
    error = {"message": message, "type": type, "param": param, "code": code}
    try:
        return _encode({"error": error})
    except UnicodeEncodeError:
        # Half a surrogate pair in somebody's message must not cost the caller the whole message.
        for name, text in error.items():
            if text is not None:
                error[name] = text.encode("utf-8", "replace").decode()
        return _encode({"error": error})


def parse_error(body: bytes) -> ErrorParts | None:
    """Read an error body of OpenAI or of another vendor; `None` if it says nothing readable.

    Understood beside OpenAI's: ``{"error": "text"}``, ``{"message": ...}``, ``{"detail": ...}``
    (FastAPI, also its list), ``{"error": {"code": 404, "status": "NOT_FOUND"}}`` (Google), and any
    of these in a list of one.
    """
    try:
        value = decode_lenient(body)
    except ValueError:
        return None
    if isinstance(value, list) and value:
        value = cast("list[object]", value)[0]
    return read_error(cast("dict[str, Any]", value)) if isinstance(value, dict) else None


def error_object(body: bytes) -> dict[str, Any]:
    """The object of a body that is known to hold an error; empty if there is none."""
    try:
        value = decode_lenient(body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def read_error(answer: dict[str, Any]) -> ErrorParts | None:
    """The same of a decoded object."""
    inner: object = answer.get("error")
    error = cast("dict[str, Any]", inner) if isinstance(inner, dict) else answer
    message = inner if isinstance(inner, str) else _message(error)
    code = _text(error.get("code")) or (_text(answer.get("code")) if error is not answer else None)
    if not message:
        # An error that names only its code is still an error, and the code is all there is to say.
        message = code or _text(error.get("status"))
        if not message and error is answer and not inner:
            return None
        message = message or "the upstream reported an error without a message"
    kind = _text(error.get("type")) or _text(error.get("status")) or "upstream_error"
    return (message[:_TEXT_BYTES_MAX], kind, _text(error.get("param")), code)


def _message(error: dict[str, Any]) -> str | None:
    for name in ("message", "detail", "msg", "error_description", "title"):
        value: object = error.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, dict):
            return _message(cast("dict[str, Any]", value))
        if isinstance(value, list) and value:
            first: object = cast("list[object]", value)[0]
            if isinstance(first, dict):
                return _message(cast("dict[str, Any]", first))
            return _text(first)
    return None


def _text(value: object) -> str | None:
    """A short text; numbers become their digits."""
    if isinstance(value, str):
        return value[:_TEXT_BYTES_MAX] or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**18 else None
    return None
