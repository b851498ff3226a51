"""Paths that nobody serves, and the address that people type in."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from merino.wire.errors import error_body


async def front_door(request: Request) -> Response:
    """People who type the address in come to the dashboard; programs are told what there is."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/dashboard", status_code=302)
    return not_found(request, HTTPException(404))


def not_found(request: Request, _: Exception) -> Response:
    body = error_body(
        f"Unknown path '{request.url.path[:200]}'. Calls go to /v1/..., administration to "
        "/admin/v1/...; people go to /dashboard; /livez, /readyz and /metrics tell how the relay "
        "is.",
        "invalid_request_error",
        None,
        "not_found",
    )
    return Response(body, status_code=404, media_type="application/json")


def not_allowed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow", "")
    body = error_body(
        f"{request.method} is not allowed here; use {allowed}.",
        "invalid_request_error",
        None,
        "method_not_allowed",
    )
    headers = {"allow": allowed}
    return Response(body, status_code=405, media_type="application/json", headers=headers)
