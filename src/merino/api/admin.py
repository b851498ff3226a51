"""The admin API: `/admin/v1`, for operators and the command line.

One table says what there is; routing and the OpenAPI description are both made from it. Decisions
are the control plane's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast
from urllib.parse import parse_qsl

import msgspec
import structlog
from msgspec import UNSET, Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from merino import __version__
from merino.api import admin_shapes as shapes
from merino.api.admin_credits import CREDIT_OPERATIONS
from merino.api.errors import body_of, headers_of, status_of
from merino.api.openapi import describe
from merino.api.operation import Asked, Operation
from merino.control import Control
from merino.control.audit import told
from merino.control.ports import AccountTerms, CallFilter, EntryFilter, KeyTerms
from merino.domain.errors import BodyTooLarge, InvalidCall, KeyRejected, MerinoError, NotFound
from merino.domain.key import ADMIN_KEY_PREFIX, VirtualKey
from merino.domain.ledger import Entry
from merino.wire.errors import error_body

BODY_BYTES_MAX = 64 * 1024
ACTOR_SCOPE_KEY = "merino.actor"
LOCAL_SCOPE_KEY = "merino.local"
"""Set in the ASGI scope for requests over the data folder's own socket: they need no key."""

Authenticate = Callable[[bytes], object | None]
"""Who an admin key belongs to; `None` for a key that is not valid."""

log = structlog.get_logger("merino.admin")

_encode = msgspec.json.Encoder().encode
_MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "html": "text/html; charset=utf-8",
}


def admin_app(control: Control, authenticate: Authenticate) -> ASGIApp:
    """The app to mount at `/admin/v1`. `control.deployments` may be replaced while it runs."""
    operations = OPERATIONS if control.money is None else (*OPERATIONS, *CREDIT_OPERATIONS)
    description = _encode(
        describe(operations, shapes.ErrorBody, version=__version__, server="/admin/v1")
    )

    async def openapi(request: Request) -> Response:  # noqa: ARG001 - Starlette's signature
        return _json(200, description)

    routes = [Route("/openapi.json", openapi, methods=["GET"])]
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    routes += [
        Route(path, _endpoint(control, operations), methods=list(operations))
        for path, operations in by_path.items()
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _http_problem,
            MerinoError: _refusal,
            Exception: _internal,
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
            await _refusal(request, error)(scope, receive, send)
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
    name = authenticate(secret.encode("latin-1", "replace"))
    if name is None:
        raise KeyRejected("This admin key is not valid; it may have been withdrawn.")
    return f"admin key {name}"


def _endpoint(
    control: Control, operations: dict[str, Operation]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        path = {name: _path_text(value) for name, value in request.path_params.items()}
        pairs = _query_pairs(request.scope.get("query_string", b""))
        query: Any = shapes.decode_query(pairs, operation.query)
        body = await _body(request, operation.body)
        answer = await operation.run(Asked(control, path, query, body))
        if operation.method != "GET" and control.audit is not None:
            details = [] if body is None else list(msgspec.structs.asdict(body).items())
            given = [(name, value) for name, value in details if value is not UNSET]
            target = "/".join(path.values())
            control.audit.note(
                request.scope.get(ACTOR_SCOPE_KEY, "local"), operation.name, target, told(given)
            )
        if operation.answer is None:
            pieces = cast("AsyncIterator[bytes]", answer)
            return await _file(pieces, query.format, operation.filename)
        return _json(operation.status, _encode(answer))

    return endpoint


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
    if media_type != "application/json":
        raise HTTPException(
            415, "The body must be JSON: send it with 'Content-Type: application/json'"
        )
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLarge(f"The body is longer than {BODY_BYTES_MAX} bytes")
    return shapes.decode_body(bytes(body), kind)


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


def _json(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    # Keys and balances are nobody's to cache.
    own = {"cache-control": "no-store", **(headers or {})}
    return Response(body, status_code=status, media_type="application/json", headers=own)


# -- problems -------------------------------------------------------------------------------------


def _refusal(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    assert isinstance(error, MerinoError)
    headers = {name.decode(): value.decode() for name, value in headers_of(error)}
    status = status_of(error)
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="merino admin"'
    return _json(status, body_of(error), headers)


def _http_problem(request: Request, error: Exception) -> Response:
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
    return _json(error.status_code, body, dict(error.headers or {}))


def _internal(request: Request, error: Exception) -> Response:
    log.error("admin request failed", method=request.method, path=request.url.path, exc_info=error)
    body = error_body("Something went wrong in the relay; its log says what", "server_error")
    return _json(500, body)


# -- what each operation does ---------------------------------------------------------------------


async def _list_accounts(asked: Asked) -> shapes.Accounts:
    page = asked.control.accounts.list(
        limit=asked.query.limit, cursor=shapes.given(asked.query.cursor)
    )
    return shapes.Accounts([shapes.account_shape(each) for each in page.items], page.next_cursor)


async def _create_account(asked: Asked) -> shapes.Account:
    body: shapes.NewAccount = asked.body
    overdraft_nanos = shapes.nanos_of(body.overdraft, "overdraft")
    return shapes.account_shape(
        asked.control.accounts.create(
            body.name,
            overdraft_nanos=overdraft_nanos,
            currency=body.currency,
            group=body.group,
        )
    )


async def _show_account(asked: Asked) -> shapes.Account:
    return shapes.account_shape(asked.control.accounts.show(asked.path["account"]))


async def _update_account(asked: Asked) -> shapes.Account:
    body: shapes.AccountChange = asked.body
    terms: AccountTerms = {}
    if body.name is not UNSET:
        terms["name"] = body.name
    if body.overdraft is not UNSET:
        terms["overdraft_nanos"] = shapes.nanos_of(body.overdraft, "overdraft")
    if body.disabled is not UNSET:
        terms["disabled"] = body.disabled
    if body.group is not UNSET:
        terms["group"] = body.group
    if body.spend_cap is not UNSET:
        terms["spend_cap_nanos"] = _cap_of(body.spend_cap)
    if body.spend_period is not UNSET:
        terms["spend_period"] = body.spend_period
    if body.notice_below is not UNSET:
        terms["notice_below_nanos"] = _threshold(body.notice_below, "notice_below")
    if body.topup_below is not UNSET:
        terms["topup_below_nanos"] = _threshold(body.topup_below, "topup_below")
    if body.topup_amount is not UNSET:
        terms["topup_nanos"] = _threshold(body.topup_amount, "topup_amount")
    return shapes.account_shape(asked.control.accounts.update(asked.path["account"], terms))


def _threshold(amount: str | float | None, field: str) -> int | None:
    return None if amount is None else shapes.nanos_of(amount, field)


async def _credit(asked: Asked) -> shapes.Moved:
    return _moved(asked, asked.control.accounts.credit)


async def _debit(asked: Asked) -> shapes.Moved:
    return _moved(asked, asked.control.accounts.debit)


def _moved(asked: Asked, move: Callable[[str, int, str | None], Entry]) -> shapes.Moved:
    body: shapes.Movement = asked.body
    entry = move(asked.path["account"], shapes.nanos_of(body.amount, "amount"), body.memo)
    account = asked.control.accounts.show(asked.path["account"])
    return shapes.Moved(shapes.entry_shape(entry), shapes.account_shape(account))


async def _account_entries(asked: Asked) -> shapes.Entries:
    query: shapes.AccountEntriesQuery = asked.query
    wanted = EntryFilter(
        account_id=asked.control.accounts.find(asked.path["account"]).id,
        call_id=shapes.given(query.call),
        kind=shapes.given(query.kind),
        since_ms=shapes.ms_of(query.since, "since"),
        until_ms=shapes.ms_of(query.until, "until"),
    )
    page = await asked.control.list_entries(
        wanted, limit=query.limit, cursor=shapes.given(query.cursor)
    )
    return shapes.entries_shape(page)


async def _list_entries(asked: Asked) -> shapes.Entries:
    query: shapes.EntriesQuery = asked.query
    wanted = EntryFilter(
        account_id=shapes.given(query.account),
        call_id=shapes.given(query.call),
        kind=shapes.given(query.kind),
        since_ms=shapes.ms_of(query.since, "since"),
        until_ms=shapes.ms_of(query.until, "until"),
    )
    page = await asked.control.list_entries(
        wanted, limit=query.limit, cursor=shapes.given(query.cursor)
    )
    return shapes.entries_shape(page)


async def _list_keys(asked: Asked) -> shapes.Keys:
    query: shapes.KeysQuery = asked.query
    page = asked.control.keys.list(
        account=shapes.given(query.account), limit=query.limit, cursor=shapes.given(query.cursor)
    )
    return shapes.Keys([_key(asked.control, key) for key in page.items], page.next_cursor)


async def _create_key(asked: Asked) -> shapes.IssuedKey:
    body: shapes.NewKey = asked.body
    terms: KeyTerms = {
        "aliases": shapes.aliases_of(body.aliases),
        "expires_at_ms": shapes.ms_of(body.expires_at, "expires_at"),
        "spend_cap_nanos": _cap_of(body.spend_cap),
        "spend_period": body.spend_period,
        "rps": body.rps,
        "rpm": body.rpm,
        "tpm": body.tpm,
        "concurrency": body.concurrency,
    }
    key, secret = asked.control.keys.create(body.account, body.name, terms)
    return shapes.issued_key_shape(key, asked.control.accounts.find(key.account_id).name, secret)


async def _show_key(asked: Asked) -> shapes.Key:
    return _key(asked.control, asked.control.keys.find(asked.path["key"]))


async def _update_key(asked: Asked) -> shapes.Key:
    body: shapes.KeyChange = asked.body
    terms: KeyTerms = {}
    if body.name is not UNSET:
        terms["name"] = body.name
    if body.aliases is not UNSET:
        terms["aliases"] = shapes.aliases_of(body.aliases)
    if body.expires_at is not UNSET:
        terms["expires_at_ms"] = shapes.ms_of(body.expires_at, "expires_at")
    if body.disabled is not UNSET:
        terms["disabled"] = body.disabled
    if body.spend_cap is not UNSET:
        terms["spend_cap_nanos"] = _cap_of(body.spend_cap)
    if body.spend_period is not UNSET:
        terms["spend_period"] = body.spend_period
    if body.rps is not UNSET:
        terms["rps"] = body.rps
    if body.rpm is not UNSET:
        terms["rpm"] = body.rpm
    if body.tpm is not UNSET:
        terms["tpm"] = body.tpm
    if body.concurrency is not UNSET:
        terms["concurrency"] = body.concurrency
    return _key(asked.control, asked.control.keys.update(asked.path["key"], terms))


async def _disable_key(asked: Asked) -> shapes.Key:
    return _key(asked.control, asked.control.keys.disable(asked.path["key"]))


async def _enable_key(asked: Asked) -> shapes.Key:
    return _key(asked.control, asked.control.keys.enable(asked.path["key"]))


async def _rotate_key(asked: Asked) -> shapes.IssuedKey:
    key, secret = asked.control.keys.rotate(asked.path["key"])
    return shapes.issued_key_shape(key, asked.control.accounts.find(key.account_id).name, secret)


def _key(control: Control, key: VirtualKey) -> shapes.Key:
    return shapes.key_shape(key, control.accounts.find(key.account_id).name)


def _cap_of(amount: str | float | None) -> int | None:
    return None if amount is None else shapes.nanos_of(amount, "spend_cap")


async def _list_calls(asked: Asked) -> shapes.Calls:
    query: shapes.CallsQuery = asked.query
    wanted = CallFilter(
        account_id=shapes.given(query.account),
        key_id=shapes.given(query.key),
        alias=shapes.given(query.alias),
        status=shapes.given(query.status),
        resolution=shapes.given(query.resolution),
        since_ms=shapes.ms_of(query.since, "since"),
        until_ms=shapes.ms_of(query.until, "until"),
    )
    page = await asked.control.list_calls(
        wanted, limit=query.limit, cursor=shapes.given(query.cursor)
    )
    return shapes.Calls([shapes.call_shape(call) for call in page.items], page.next_cursor)


async def _show_call(asked: Asked) -> shapes.CallWithContent:
    return shapes.call_with_content_shape(await asked.control.show_call(asked.path["call"]))


async def _report(asked: Asked) -> shapes.Report:
    query: shapes.ReportQuery = asked.query
    rows = await asked.control.report(
        query.by,
        since_ms=shapes.ms_of(query.since, "since"),
        until_ms=shapes.ms_of(query.until, "until"),
    )

    def name_of(group: str) -> str:
        """Keys and accounts by name; of what was deleted, the id."""
        try:
            if query.by == "key":
                return asked.control.keys.find(group).name
            if query.by == "account":
                return asked.control.accounts.find(group).name
        except NotFound:
            pass
        return group

    return shapes.Report(query.by, [shapes.report_line_shape(row, name_of) for row in rows])


async def _list_deployments(asked: Asked) -> shapes.Deployments:
    return shapes.Deployments(
        [shapes.deployment_shape(*each) for each in asked.control.list_deployments()]
    )


async def _drain_deployment(asked: Asked) -> shapes.DeploymentShape:
    body: shapes.Drain = asked.body
    return shapes.deployment_shape(*asked.control.drain(body.name, is_drained=body.drained))


async def _verify(asked: Asked) -> shapes.Verification:
    return shapes.verification_shape(await asked.control.verify())


async def _export(asked: Asked) -> AsyncIterator[bytes]:
    return asked.control.export(asked.query.format)


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/accounts",
        "list_accounts",
        "List accounts",
        _list_accounts,
        shapes.Accounts,
        query=shapes.PageQuery,
    ),
    Operation(
        "POST",
        "/accounts",
        "create_account",
        "Open an account",
        _create_account,
        shapes.Account,
        body=shapes.NewAccount,
        status=201,
    ),
    Operation(
        "GET", "/accounts/{account}", "show_account", "Show one", _show_account, shapes.Account
    ),
    Operation(
        "PATCH",
        "/accounts/{account}",
        "update_account",
        "Rename an account, change its overdraft, disable or enable it",
        _update_account,
        shapes.Account,
        body=shapes.AccountChange,
    ),
    Operation(
        "POST",
        "/accounts/{account}/credit",
        "credit_account",
        "Put money into an account",
        _credit,
        shapes.Moved,
        body=shapes.Movement,
    ),
    Operation(
        "POST",
        "/accounts/{account}/debit",
        "debit_account",
        "Take money out of an account",
        _debit,
        shapes.Moved,
        body=shapes.Movement,
    ),
    Operation(
        "GET",
        "/accounts/{account}/entries",
        "list_account_entries",
        "List an account's ledger entries, the newest first",
        _account_entries,
        shapes.Entries,
        query=shapes.AccountEntriesQuery,
    ),
    Operation(
        "GET", "/keys", "list_keys", "List keys", _list_keys, shapes.Keys, query=shapes.KeysQuery
    ),
    Operation(
        "POST",
        "/keys",
        "create_key",
        "Issue a key; its secret is in this answer and nowhere else",
        _create_key,
        shapes.IssuedKey,
        body=shapes.NewKey,
        status=201,
    ),
    Operation("GET", "/keys/{key}", "show_key", "Show one", _show_key, shapes.Key),
    Operation(
        "PATCH",
        "/keys/{key}",
        "update_key",
        "Change what a key may do",
        _update_key,
        shapes.Key,
        body=shapes.KeyChange,
    ),
    Operation(
        "DELETE",
        "/keys/{key}",
        "delete_key",
        "Disable a key; it stays listed, since calls refer to it",
        _disable_key,
        shapes.Key,
    ),
    Operation(
        "POST", "/keys/{key}/disable", "disable_key", "Disable a key", _disable_key, shapes.Key
    ),
    Operation(
        "POST", "/keys/{key}/enable", "enable_key", "Enable a key again", _enable_key, shapes.Key
    ),
    Operation(
        "POST",
        "/keys/{key}/rotate",
        "rotate_key",
        "Give a key a new secret; the old one is void at once",
        _rotate_key,
        shapes.IssuedKey,
    ),
    Operation(
        "GET",
        "/calls",
        "list_calls",
        "List calls, the newest first",
        _list_calls,
        shapes.Calls,
        query=shapes.CallsQuery,
    ),
    Operation(
        "GET", "/calls/{call}", "show_call", "Show one call", _show_call, shapes.CallWithContent
    ),
    Operation(
        "GET",
        "/entries",
        "list_entries",
        "List ledger entries, the newest first",
        _list_entries,
        shapes.Entries,
        query=shapes.EntriesQuery,
    ),
    Operation(
        "GET",
        "/reports",
        "report",
        "Sum calls up by day, alias, key or account",
        _report,
        shapes.Report,
        query=shapes.ReportQuery,
    ),
    Operation(
        "GET",
        "/deployments",
        "list_deployments",
        "List where calls go",
        _list_deployments,
        shapes.Deployments,
    ),
    Operation(
        "POST",
        "/deployments/drain",
        "drain_deployment",
        "Send a deployment no new calls, or again",
        _drain_deployment,
        shapes.DeploymentShape,
        body=shapes.Drain,
    ),
    Operation(
        "GET",
        "/ledger/verify",
        "verify_ledger",
        "Recompute every balance from the entries",
        _verify,
        shapes.Verification,
    ),
    Operation(
        "GET",
        "/ledger/export",
        "export_ledger",
        "Every ledger entry, as a file",
        _export,
        None,
        query=shapes.ExportQuery,
    ),
)
