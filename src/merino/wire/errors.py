"""The error body of OpenAI's API: written exactly, read generously."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from merino.wire.lenient import decode_lenient

ErrorParts = tuple[str, str, str | None, str | None]
"""Message, type, param, code."""

NOTHING_SAID: ErrorParts = (
    "the upstream reported an error without a message",
    "upstream_error",
    None,
    None,
)

_encode = msgspec.json.Encoder().encode

_TEXT_BYTES_MAX = 4096


def error_body(
    message: str,
    kind: str,
    param: str | None = None,
    code: str | None = None,
) -> bytes:
    """OpenAI's error object; all four members are always present."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    try:
        return _encode({"error": error})
    except UnicodeEncodeError:
        # Half a surrogate pair in a message must not cost the caller the whole message.
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
    """The error object of a body that is known to hold an error; empty if there is none."""
    try:
        value = decode_lenient(body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def read_error(answer: dict[str, Any]) -> ErrorParts | None:
    """The same for a decoded object."""
    inner: object = answer.get("error")
    error = cast("dict[str, Any]", inner) if isinstance(inner, dict) else answer
    message = inner if isinstance(inner, str) else _message(error)
    code = _text(error.get("code")) or (_text(answer.get("code")) if error is not answer else None)
    if not message:
        # An error with nothing but a code is still an error, and its code is the whole message.
        message = code or _text(error.get("status"))
        if not message and error is answer and not inner:
            return None
        message = message or "the upstream reported an error without a message"
    kind = next(filter(None, (_text(error.get(name)) for name in _KINDS)), "upstream_error")
    return (message[:_TEXT_BYTES_MAX], kind, _text(error.get("param")), code)


_FINE = frozenset((None, 0, 200, "", "0", "200", "ok", "OK", "success", "Success"))
"""The values in place of an error's number or name that mean no error."""


def error_told(answer: dict[str, Any]) -> ErrorParts | None:
    """The error that an object under a status of 200 reports, in any vendor's form; `None` if it
    reports none.

    Beside `error`: ``object: error`` (FastChat, vLLM), ``base_resp`` (MiniMax), ``error_code``
    (Baidu), ``code`` with ``msg`` or ``message``, ``success: false``, ``detail`` (FastAPI).
    """
    inner: object = answer.get("error")
    if inner and not _is_fine(inner):
        return read_error(answer) or NOTHING_SAID
    response: object = answer.get("base_resp")
    if isinstance(response, dict):
        said = cast("dict[str, Any]", response)
        code = _text(said.get("status_code"))
        if code not in _FINE:
            message = _text(said.get("status_msg")) or f"the upstream reported error {code}"
            return message, "upstream_error", None, code
    if answer.get("object") == "error" or answer.get("type") == "error":
        return read_error(answer) or NOTHING_SAID
    if answer.get("choices") or answer.get("data"):
        return None
    code = _text(answer.get("error_code")) or _text(answer.get("code"))
    is_told = code not in _FINE or answer.get("success") is False or bool(answer.get("detail"))
    if not is_told and not answer.get("errors"):
        return None
    message, kind, param, found = read_error(answer) or NOTHING_SAID
    return message, kind, param, found or code


def _is_fine(error: object) -> bool:
    """Whether an object in place of an error says that there is none."""
    if not isinstance(error, dict):
        return False
    said = cast("dict[str, object]", error).values()
    return all(isinstance(each, str | int | None) and each in _FINE for each in said)


_KINDS = ("type", "status", "__type")
_MESSAGES = ("message", "detail", "msg", "error_msg", "errmsg", "error_description", "title")
_DEPTH_MAX = 8


def _message(error: dict[str, Any]) -> str | None:
    """The first text under a name used for messages, no deeper than any vendor puts one."""
    for _ in range(_DEPTH_MAX):
        inner: object = None
        for name in (*_MESSAGES, "errors"):
            value: object = error.get(name)
            if isinstance(value, list) and value:
                value = cast("list[object]", value)[0]
                if not isinstance(value, dict) and (text := _text(value)):
                    return text
            if isinstance(value, str) and value:
                return value
            if isinstance(value, dict) and inner is None:
                inner = cast("object", value)
        if not isinstance(inner, dict):
            return None
        error = cast("dict[str, Any]", inner)
    return None


def _text(value: object) -> str | None:
    """A short text; numbers become their digits."""
    if isinstance(value, str):
        return value[:_TEXT_BYTES_MAX] or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**18 else None
    return None
