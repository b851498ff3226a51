"""The admin API: `/admin/v1`, for operators and the command line.

The table of operations says what there is; routing and the OpenAPI description are both made from
it. Decisions are the control plane's.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache
from typing import Any, cast
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct
from msgspec.structs import fields
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from merino import __version__
from merino.api.openapi import describe
from merino.api.problems import (
    ErrorBody,
    http_problem,
    internal_problem,
    json_answer,
    refusal,
)
from merino.control.control import Control
from merino.control.ports import Once
from merino.domain.errors import BodyTooLarge, InvalidCall, KeyRejected, MerinoError, NotFound
from merino.domain.key import ADMIN_KEY_PREFIX, AdminKey
from merino.gateway.idempotency import check_idempotency_key
from merino.operations.decoding import decode_body, decode_query
from merino.operations.table import Asked, Operation, perform
from merino.pages.off_loop import off_loop

BODY_BYTES_MAX = 64 * 1024
ACTOR_SCOPE_KEY = "merino.actor"
LOCAL_SCOPE_KEY = "merino.local"
"""Set in the ASGI scope for requests over the data folder's own socket: they need no key."""
Authenticate = Callable[[bytes], AdminKey | None]
"""The admin key with a secret; `None` if none is valid."""


_encode = msgspec.json.Encoder().encode


_MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "html": "text/html; charset=utf-8",
    "toml": "application/toml; charset=utf-8",
}


def admin_app(
    control: Control, operations: Sequence[Operation], authenticate: Authenticate
) -> ASGIApp:
    """The app to mount at `/admin/v1`."""

    @cache
    def description() -> bytes:
        return _encode(describe(operations, ErrorBody, version=__version__, server="/admin/v1"))

    async def openapi(_: Request) -> Response:
        # Few ask for it, and to make it takes a third of a start: so when it is asked for.
        return json_answer(200, await off_loop(description))

    routes = [Route("/openapi.json", openapi, methods=["GET"])]
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    routes += [
        Route(path, _endpoint(control, by_method), methods=list(by_method))
        for path, by_method in by_path.items()
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: http_problem,
            MerinoError: refusal,
            Exception: internal_problem,
        },
    )
    # Relative redirects would leave the mount; a path with a slash too many is simply unknown.
    app.router.redirect_slashes = False
    return _guarded(app, authenticate)


def _guarded(app: ASGIApp, authenticate: Authenticate) -> ASGIApp:
    """Nothing but the description is answered without a key: not even which paths there are."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request = Request(scope, receive)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            if not scope.get(LOCAL_SCOPE_KEY) and path != "/openapi.json":
                actor = _check_key(request.headers.get("authorization", ""), authenticate)
                scope[ACTOR_SCOPE_KEY] = actor
        except MerinoError as error:
            await refusal(request, error)(scope, receive, send)
            return
        await app(scope, receive, send)

    return guarded


def _check_key(authorization: str, authenticate: Authenticate) -> str:
    """Whose it is, for the audit log. Raises `KeyRejected`."""
    scheme, _, secret = authorization.partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise KeyRejected(
            f"No admin key. Send 'Authorization: Bearer {ADMIN_KEY_PREFIX}...', the key that the "
            "relay's first start printed."
        )
    if not secret.startswith(ADMIN_KEY_PREFIX):
        raise KeyRejected(
            f"This is not an admin key: those start with '{ADMIN_KEY_PREFIX}'. Keys that start "
            "with 'mk-' are for calls to /v1."
        )
    # Header values reach us as Latin-1 text.
    key = authenticate(secret.encode("latin-1", "replace"))
    if key is None:
        raise KeyRejected(
            "This admin key is not valid; it may have been revoked. Who can write to the relay's "
            "data folder can make another: merino admin-keys create --name NAME"
        )
    return f"admin key {key.name}"


def _endpoint(
    control: Control, operations: dict[str, Operation]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        path = {name: _path_text(value) for name, value in request.path_params.items()}
        pairs = _query_pairs(request.scope.get("query_string", b""))
        query: Any = decode_query(pairs, operation.query)
        body = await _body(request, operation.body)
        once = _once(request, operation, path, body)
        actor = request.scope.get(ACTOR_SCOPE_KEY, "local")
        asked = Asked(control, path, query, body, once)
        answer, is_repeat = await perform(operation, asked, actor)
        if operation.answer is None:
            pieces = cast("AsyncIterator[bytes]", answer)
            return await _file(pieces, query.format, operation.filename)
        headers = {"x-merino-replayed": "true"} if is_repeat else None
        return json_answer(operation.status, _encode(answer), headers)

    return endpoint


def _once(
    request: Request, operation: Operation, path: dict[str, str], body: Struct | None
) -> Once | None:
    """What makes a movement of money be booked once. Raises `InvalidCall` for an unusable key."""
    key = request.headers.get("idempotency-key")
    if key is None or operation.again is None:
        return None
    request_hash = hashlib.sha256(_encode([operation.name, path, body])).digest()
    return Once(check_idempotency_key(key), request_hash)


def _path_text(value: str) -> str:
    if "\0" in value or "\ufffd" in value:
        raise NotFound("There is no object of this name: it has characters that are not text")
    return value


def _query_pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        text = query.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "more than 50 parameters"
        raise InvalidCall(f"The query cannot be read: {reason}", code="invalid_value") from None


async def _body(request: Request, kind: type[Struct] | None) -> Struct | None:
    if kind is None:
        return None
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_silent = not media_type and not any(field.required for field in fields(kind))
    if is_silent and not await request.body():
        return kind()  # nothing is said, and nothing has to be
    if media_type != "application/json":
        raise HTTPException(
            415, "The body must be JSON: send it with 'Content-Type: application/json'"
        )
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLarge(f"The body is longer than {BODY_BYTES_MAX} bytes")
    return decode_body(bytes(body), kind)


async def _file(pieces: AsyncIterator[bytes], form: str, filename: str) -> Response:
    """What is wrong at once is still answered with an error."""
    first = await anext(pieces, b"")

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(
        all_pieces(),
        media_type=_MEDIA_TYPES[form],
        headers={"content-disposition": f'attachment; filename="{filename}.{form}"'},
    )
