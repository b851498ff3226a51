"""A chat with any model, through a key of one's choice, held and billed like any call."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from merino.dashboard.parts import Desk, Visit
from merino.domain.call import CallRecord
from merino.domain.errors import MerinoError, NotFound
from merino.domain.money import with_sign

BODY_BYTES_MAX = 16 * 1024 * 1024


SHOWN_BYTES_MAX = 1024 * 1024
"""Of a call's body, that the page can begin with."""


async def playground(visit: Visit) -> Response:
    keys = [key for key in visit.own_keys() if not key.disabled]
    call = await _call(visit)
    body = "" if call is None else call.request_json or ""
    return await visit.page(
        "playground.html",
        aliases=[alias.name for alias in visit.desk.catalog().aliases],
        keys=keys,
        signs={each.id: with_sign("", each.currency) for each in visit.own_accounts()},
        chosen=visit.query("alias") if call is None else call.alias,
        chosen_key="" if call is None else call.key_id,
        body=body if len(body) <= SHOWN_BYTES_MAX else "",
        api="responses" if call is not None and call.endpoint == "responses" else "",
        call=call,
        origin=f"{visit.request.url.scheme}://{visit.request.url.netloc}",
    )


async def _call(visit: Visit) -> CallRecord | None:
    """The call that the page begins with, if the address names one."""
    if not visit.query("call"):
        return None
    call = await visit.control.show_call(visit.query("call"))
    if visit.scope not in (None, call.account_id):
        raise NotFound("There is no such call.", code="call_not_found")
    return call


def chat_endpoint(desk: Desk) -> object:
    """What the page's script calls: the body of a chat completion, or of the API that the query
    names, for the key it names."""

    async def chat(request: Request) -> Response:
        session = desk.session_of(request)
        if session is None:
            return _problem(401, "You are signed out. Reload the page.")
        if not session.is_csrf(request.headers.get("x-csrf")):
            return _problem(403, "This page is too old. Reload it.")
        if not session.may_change:
            return _problem(403, "You are signed in to look, not to spend.")
        visit = Visit(request, desk, session)
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > BODY_BYTES_MAX:
                return _problem(413, "The pictures are too large.")
        try:
            key = visit.key(request.headers.get("x-key", ""))
            api = request.query_params.get("api", "chat/completions")
            answer = await desk.chat(key, bytes(body), api=api)
        except MerinoError as error:
            return _problem(400, error.message)
        headers = {
            name: value for name, value in answer.headers.items() if name != "content-length"
        }
        headers["cache-control"] = "no-store"
        return StreamingResponse(answer.pieces, answer.status, headers)

    return chat


def _problem(status: int, message: str) -> Response:
    error = {"message": message, "type": "dashboard", "param": None, "code": None}
    return JSONResponse({"error": error}, status)
