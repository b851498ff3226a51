"""`/v1/files` and `/v1/batches`, as the `openai` package calls them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive

from merino.api.errors import body_of, headers_of, status_of
from merino.api.refused import refused_record
from merino.control.batches import (
    COMPLETION_WINDOW,
    FILE_BYTES_MAX,
    BatchDesk,
    FileDesk,
    too_large,
)
from merino.domain.batch import Batch, StoredFile
from merino.domain.errors import (
    BodyTooLarge,
    CallRefused,
    InvalidCall,
    KeyRejected,
    MerinoError,
    NotFound,
    ShuttingDown,
)
from merino.domain.key import VirtualKey
from merino.gateway.call import new_call_id
from merino.gateway.keys import Gatekeeper
from merino.gateway.refused import RefusedRequests
from merino.wire.fields import parse_fields
from merino.wire.unreadable import Unreadable, refusal

PREFIXES = (b"/v1/files", b"/v1/batches")
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_FORM_BYTES_MAX = FILE_BYTES_MAX + 64 * 1024
_ORDER_BYTES_MAX = 64 * 1024

Handler = Callable[[Request, VirtualKey], Awaitable[Response]]


class _UploadTooLarge(Exception):
    """Raised inside the form parser, which would otherwise read on."""


class BatchFront:
    """The routes. `is_draining` refuses new orders while the relay stops."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        files: FileDesk,
        batches: BatchDesk,
        is_draining: Callable[[], bool],
        refused: RefusedRequests,
    ) -> None:
        self._gatekeeper = gatekeeper
        self._files = files
        self._batches = batches
        self._is_draining = is_draining
        self._refused = refused
        self._known = self._known_routes()

    def routes(self) -> list[Route]:
        return [*self._known, Route("/v1/{path:path}", self._unknown, methods=_METHODS)]

    def _known_routes(self) -> list[Route]:
        return [
            self._route("POST", "/v1/files", self._upload),
            self._route("GET", "/v1/files", self._list_files),
            self._route("GET", "/v1/files/{file_id}", self._get_file),
            self._route("DELETE", "/v1/files/{file_id}", self._delete_file),
            self._route("GET", "/v1/files/{file_id}/content", self._content),
            self._route("POST", "/v1/batches", self._create),
            self._route("GET", "/v1/batches", self._list),
            self._route("GET", "/v1/batches/{batch_id}", self._get),
            self._route("POST", "/v1/batches/{batch_id}/cancel", self._cancel),
        ]

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            request_id = new_call_id()
            key: VirtualKey | None = None
            try:
                key = self._key_of(request)
                if self._is_draining():
                    raise ShuttingDown(
                        "The relay is restarting. Try again.",
                        code="shutting_down",
                        retry_after_s=1.0,
                    )
                response = await handler(request, key)
            except MerinoError as error:
                self._remember(request_id, key, error, status_of(error))
                response = _failed(error)
            response.headers["x-request-id"] = request_id
            return response

        return Route(path, endpoint, methods=[method])

    def _key_of(self, request: Request) -> VirtualKey:
        authorization = request.headers.get("authorization")
        return self._gatekeeper.authenticate(
            None if authorization is None else authorization.encode("latin-1")
        )

    def _remember(
        self, request_id: str, key: VirtualKey | None, error: MerinoError, status: int
    ) -> None:
        if not isinstance(error, CallRefused) or not 400 <= status < 500:
            return
        if isinstance(error, KeyRejected):
            key = error.key
        told = self._refused.told(error)
        self._refused.keep(refused_record(request_id, key, "batches", error, status, told))

    # -- files -----------------------------------------------------------------------------------

    async def _upload(self, request: Request, key: VirtualKey) -> Response:
        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != "multipart/form-data":
            raise InvalidCall(
                "Send the file as multipart/form-data with the fields 'purpose' and 'file'.",
                code="invalid_form",
            )
        limited = Request(request.scope, _at_most(request.receive, _FORM_BYTES_MAX))
        try:
            async with limited.form(max_files=1, max_fields=16) as form:
                file, purpose = form.get("file"), form.get("purpose")
                if not isinstance(file, UploadFile):
                    raise InvalidCall("The form has no 'file'.", param="file", code="missing_file")
                if not isinstance(purpose, str):
                    raise InvalidCall("The form has no 'purpose'.", param="purpose")
                kept = await self._files.upload(
                    key,
                    file.filename or "file",
                    purpose,
                    file.file,
                    file.size or 0,
                    _object_in(form, "expires_after"),
                )
        except (MultiPartException, HTTPException) as error:
            # Starlette raises the latter wherever an app serves the request.
            reason = error.message if isinstance(error, MultiPartException) else error.detail
            raise InvalidCall(
                f"The form cannot be read: {reason} Send the field 'purpose' and one 'file'.",
                code="invalid_form",
            ) from None
        except _UploadTooLarge:
            raise too_large() from None
        except ClientDisconnect:
            raise InvalidCall("The upload ended early.", code="incomplete_upload") from None
        return JSONResponse(_file_object(kept))

    async def _list_files(self, request: Request, key: VirtualKey) -> Response:
        query = request.query_params
        files, has_more = await self._files.list(
            key,
            purpose=query.get("purpose"),
            after=query.get("after"),
            limit=_limit(query.get("limit"), 1000),
            order=query.get("order", "desc"),
        )
        return JSONResponse(_page([_file_object(file) for file in files], has_more=has_more))

    async def _get_file(self, request: Request, key: VirtualKey) -> Response:
        file = await self._files.get(key, request.path_params["file_id"])
        return JSONResponse(_file_object(file))

    async def _delete_file(self, request: Request, key: VirtualKey) -> Response:
        file_id = request.path_params["file_id"]
        await self._files.delete(key, file_id)
        return JSONResponse({"id": file_id, "object": "file", "deleted": True})

    async def _content(self, request: Request, key: VirtualKey) -> Response:
        path = await self._files.path(key, request.path_params["file_id"])
        if not await asyncio.to_thread(path.is_file):
            raise NotFound("The content of this file is gone.", code="file_content_missing")
        return FileResponse(path, media_type="application/octet-stream")

    # -- batches ---------------------------------------------------------------------------------

    async def _create(self, request: Request, key: VirtualKey) -> Response:
        order = await _json(request)
        batch = await self._batches.create(
            key,
            endpoint=order.get("endpoint"),
            input_file_id=order.get("input_file_id"),
            completion_window=order.get("completion_window"),
            metadata=order.get("metadata"),
            output_expires_after=order.get("output_expires_after"),
        )
        return JSONResponse(_batch_object(batch))

    async def _list(self, request: Request, key: VirtualKey) -> Response:
        query = request.query_params
        batches, has_more = await self._batches.list(
            key, after=query.get("after"), limit=_limit(query.get("limit"), 20)
        )
        return JSONResponse(_page([_batch_object(each) for each in batches], has_more=has_more))

    async def _get(self, request: Request, key: VirtualKey) -> Response:
        batch = await self._batches.get(key, request.path_params["batch_id"])
        return JSONResponse(_batch_object(batch))

    async def _cancel(self, request: Request, key: VirtualKey) -> Response:
        batch = await self._batches.cancel(key, request.path_params["batch_id"])
        return JSONResponse(_batch_object(batch))

    async def _unknown(self, request: Request) -> Response:
        path = request.url.path
        known = [route.methods or () for route in self._known if route.path_regex.match(path)]
        allowed = ", ".join(sorted({method for methods in known for method in methods}))
        status, error = (
            404,
            NotFound(
                f"Unknown path '{path[:200]}' for {request.method}. This relay serves "
                "/v1/files, /v1/files/FILE_ID, /v1/files/FILE_ID/content, /v1/batches, "
                "/v1/batches/BATCH_ID and /v1/batches/BATCH_ID/cancel.",
                code="unknown_path",
            ),
        )
        if known:
            status, error = (
                405,
                InvalidCall(
                    f"{request.method} is not allowed here; use {allowed}.",
                    code="method_not_allowed",
                ),
            )
        request_id = new_call_id()
        key: VirtualKey | None = None
        with contextlib.suppress(KeyRejected):
            key = self._key_of(request)
        self._remember(request_id, key, error, status)
        response = _failed(error, status)
        response.headers["x-request-id"] = request_id
        if known:
            response.headers["allow"] = allowed
        return response


def _object_in(form: FormData, name: str) -> object:
    """An object as forms have it: `name[field]` for each of its fields, or JSON text."""
    prefix = f"{name}["
    fields = {
        key.removeprefix(prefix).removesuffix("]"): value
        for key, value in form.items()
        if key.startswith(prefix) and key.endswith("]")
    }
    if fields or name not in form:
        return fields or None
    try:
        return msgspec.json.decode(str(form[name]))
    except msgspec.DecodeError:
        return form[name]


def _at_most(receive: Receive, bytes_max: int) -> Receive:
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > bytes_max:
            raise _UploadTooLarge
        return message

    return limited


async def _json(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _ORDER_BYTES_MAX:
            raise BodyTooLarge(f"A batch's order may have {_ORDER_BYTES_MAX} bytes at most.")
    whole = bytes(body)
    parse_fields(whole)  # nothing is given twice, or too deep
    try:
        return msgspec.json.decode(whole, type=dict[str, Any])
    except Unreadable as error:
        raise refusal(whole, error) from None


def _limit(text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise InvalidCall("limit must be a number.", param="limit", code="invalid_value") from None


def _failed(error: MerinoError, status: int | None = None) -> Response:
    return Response(
        body_of(error),
        status_code=status or status_of(error),
        media_type="application/json",
        headers={name.decode(): value.decode() for name, value in headers_of(error)},
    )


def _page(data: list[dict[str, object]], *, has_more: bool) -> dict[str, object]:
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def _file_object(file: StoredFile) -> dict[str, object]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": file.created_at_ms // 1000,
        "expires_at": file.expires_at_ms // 1000,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def _batch_object(batch: Batch) -> dict[str, object]:
    moments = {
        f"{status}_at": batch.moments_ms[status] // 1000 if status in batch.moments_ms else None
        for status in (
            "in_progress",
            "finalizing",
            "completed",
            "failed",
            "expired",
            "cancelling",
            "cancelled",
        )
    }
    errors = None
    if batch.problems:
        errors = {
            "object": "list",
            "data": [
                {
                    "code": problem.code,
                    "message": problem.message,
                    "param": problem.param,
                    "line": problem.line,
                }
                for problem in batch.problems
            ],
        }
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": errors,
        "input_file_id": batch.input_file_id,
        "completion_window": COMPLETION_WINDOW,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": batch.created_at_ms // 1000,
        "expires_at": batch.expires_at_ms // 1000,
        **moments,
        "request_counts": {
            "total": batch.counts.total,
            "completed": batch.counts.completed,
            "failed": batch.counts.failed,
        },
        "metadata": dict(batch.metadata) or None,
    }
