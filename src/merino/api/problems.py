"""Errors as the admin API answers them."""

from __future__ import annotations

import structlog
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from merino.api.errors import body_of, headers_of, status_of
from merino.domain.errors import MerinoError
from merino.wire.errors import error_body


class ErrorDetail(Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    error: ErrorDetail


log = structlog.get_logger("merino.admin")


def json_answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    # Keys and balances are nobody's to cache.
    own = {"cache-control": "no-store", **(headers or {})}
    return Response(body, status_code=status, media_type="application/json", headers=own)


def refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, MerinoError)
    headers = {name.decode(): value.decode() for name, value in headers_of(error)}
    status = status_of(error)
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="merino admin"'
    return json_answer(status, body_of(error), headers)


def http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message, code = error.detail, "invalid_request"
    if error.status_code == 404:
        message, code = f"Unknown path {request.url.path[:200]!r}; see openapi.json", "not_found"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{request.method[:20]} is not possible here; possible: {allowed}"
        code = "method_not_allowed"
    elif error.status_code == 415:
        code = "unsupported_media_type"
    body = error_body(message, "invalid_request_error", None, code)
    return json_answer(error.status_code, body, dict(error.headers or {}))


def internal_problem(request: Request, error: Exception) -> Response:
    log.error("admin request failed", method=request.method, path=request.url.path, exc_info=error)
    body = error_body("Something went wrong in the relay; its log says what", "server_error")
    return json_answer(500, body)
