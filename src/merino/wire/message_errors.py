"""Errors in the shape of Anthropic's API. Its clients tell them apart by status, type and words."""

from __future__ import annotations

from typing import Any

import msgspec

from merino.wire.errors import error_object

_encode = msgspec.json.Encoder().encode

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Where nobody of that vendor said a type of its own."""
_OWN_TYPES = frozenset((*_TYPES.values(), "api_error"))
_ANY = "invalid_request_error"
"""What OpenAI calls nearly everything that is the caller's mistake."""
_OUT_OF_CREDIT = "insufficient_quota"
_NO_CREDIT = 402
"""There a used-up balance has a status of its own; waiting does not help, and clients know that."""


def error_answer(status: int, body: bytes, request_id: str) -> tuple[int, bytes]:
    """An error of this relay (its status, and its body in OpenAI's shape) in Anthropic's."""
    told: dict[str, Any] = error_object(body).get("error") or {}
    if told.get("type") == _OUT_OF_CREDIT:
        status = _NO_CREDIT
    return status, _shaped(told, status, request_id)


def error_event(body: bytes, reader: object) -> bytes:
    """The event that ends a stream which failed: the upstream's own if it sent one."""
    own: bytes = getattr(reader, "ending", b"")
    if own:
        return own if own.endswith(b"\n\n") else own + b"\n\n"
    told: dict[str, Any] = error_object(body).get("error") or {}
    status = _NO_CREDIT if told.get("type") == _OUT_OF_CREDIT else 500
    return b"event: error\ndata: %b\n\n" % _shaped(told, status, None)


def _shaped(told: dict[str, Any], status: int, request_id: str | None) -> bytes:
    kind = told.get("type")
    if kind not in _OWN_TYPES or kind == _ANY or status == _NO_CREDIT:
        kind = _TYPES.get(status, _ANY if status < 500 else "api_error")
    error = {"type": kind, "message": told.get("message") or "The call failed."}
    shaped: dict[str, Any] = {"type": "error", "error": error}
    if request_id is not None:
        shaped["request_id"] = request_id
    try:
        return _encode(shaped)
    except UnicodeEncodeError:
        error["message"] = error["message"].encode("utf-8", "replace").decode()
        return _encode(shaped)
