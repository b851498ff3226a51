"""Signing in and out: by an admin key, by a key of an account, or by a link."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from merino.dashboard.parts import (
    BASE,
    COOKIE,
    Desk,
    Visit,
    go,
    posted,
    read_form,
    rendered,
    text_of,
)
from merino.dashboard.sessions import LONGEST_S, Session
from merino.domain.errors import MerinoError
from merino.gateway.keys import check_usable


def entrance_routes(desk: Desk) -> list[Route]:
    async def ask(request: Request) -> Response:
        if desk.session_of(request) is not None:
            return go(BASE)
        return _form()

    async def sign_in(request: Request) -> Response:
        # No session yet, so no token in the form: that the form is ours is told by its origin.
        if not _is_same_origin(request):
            return _form("Sign in from this page itself.", 403)
        source = request.client.host if request.client else ""
        if (wait_s := desk.sign_in_limit.wait_s(source)) > 0:
            return _form(f"Too many tries. Wait {wait_s / 60:.0f} minutes.", 429)
        try:
            form = await read_form(request)
            session = _session_of(desk, text_of(form, "key"))
        except MerinoError as error:
            desk.sign_in_limit.failed(source)
            return _form(error.message, 403)
        if session is None:
            desk.sign_in_limit.failed(source)
            return _form("This key is not valid here.", 403)
        return _begin(desk, request, session)

    async def show_link(request: Request) -> Response:
        # A look at the address must not use the link up: mail programs look at every address.
        return rendered("link.html", token=request.path_params["token"])

    async def use_link(request: Request) -> Response:
        if not _is_same_origin(request):
            return _form("Sign in from this page itself.", 403)
        session = desk.sessions.redeem(request.path_params["token"])
        if session is None:
            return _form("This link was used, or is too old. Ask for another.", 403)
        return _begin(desk, request, session)

    async def sign_out(visit: Visit, _: object) -> Response:
        return _end(visit)

    return [
        Route(f"{BASE}/sign-in", ask, methods=["GET"]),
        Route(f"{BASE}/sign-in", sign_in, methods=["POST"]),
        Route(f"{BASE}/link/{{token}}", show_link, methods=["GET"]),
        Route(f"{BASE}/link/{{token}}", use_link, methods=["POST"]),
        Route(f"{BASE}/sign-out", _signed_out(desk, posted(desk, sign_out)), methods=["POST"]),
    ]


def _signed_out(desk: Desk, endpoint: Any) -> Any:
    """Viewers may leave, too: they change nothing by that."""

    async def leave(request: Request) -> Response:
        session = desk.session_of(request)
        if session is not None and not session.may_change:
            form = await read_form(request)
            if session.is_csrf(form.get("csrf")):
                return _end(Visit(request, desk, session))
        return await endpoint(request)

    return leave


def _end(visit: Visit) -> Response:
    visit.desk.sessions.end(visit.request.cookies.get(COOKIE))
    response = go(f"{BASE}/sign-in")
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
    return response


def _form(problem: str = "", status: int = 200) -> Response:
    return rendered("sign_in.html", status, problem=problem)


def _session_of(desk: Desk, key: str) -> Session | None:
    """Raises `KeyRejected` for a key that is disabled or has expired."""
    secret = key.encode("utf-8", "replace")
    admin = desk.find_admin(secret)
    if admin is not None:
        return Session("operator", f"admin key {admin}")
    found = desk.find_key(secret)
    if found is None:
        return None
    check_usable(found)
    # Whoever has a limited key must not be able to make one without limits.
    is_limited = found.aliases or found.expires_at_ms is not None
    is_limited = is_limited or any(
        bound is not None
        for bound in (found.spend_cap_nanos, found.rps, found.rpm, found.tpm, found.concurrency)
    )
    role = "viewer" if is_limited else "owner"
    return Session(role, f"key {found.name}", found.account_id, found.secret_hash)


def _begin(desk: Desk, request: Request, session: Session) -> Response:
    desk.sessions.end(request.cookies.get(COOKIE))
    response = go(BASE)
    response.set_cookie(
        COOKIE,
        desk.sessions.begin(session),
        max_age=int(LONGEST_S),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        # Not strict: who comes back from a payment page would look signed out. Nothing is
        # changed by a GET, and forms need their token.
        samesite="lax",
    )
    return response


def _is_same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host", "")
