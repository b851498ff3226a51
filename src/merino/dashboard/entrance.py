"""Signing in and out: by an admin key, by a key of an account, or by a link; and looking at another
account of one's own.

By an OpenID Connect provider: `oidc_entrance.py`.
"""

from __future__ import annotations

from dataclasses import replace

import structlog
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from merino.dashboard.parts import (
    BASE,
    COOKIE,
    WANTED_COOKIE,
    Desk,
    Visit,
    go,
    posted,
    read_form,
    rendered,
    text_of,
    wanted_page,
)
from merino.dashboard.sessions import LONGEST_S, Session, new_csrf
from merino.domain.errors import MerinoError, NotFound, StoreUnavailable
from merino.domain.limits import flat
from merino.gateway.keys import check_usable

log = structlog.get_logger("merino.dashboard")


def entrance_routes(desk: Desk) -> list[Route]:
    async def ask(request: Request) -> Response:
        if desk.session_of(request) is not None:
            return go(BASE)
        return await sign_in_page(desk)

    async def sign_in(request: Request) -> Response:
        # No session yet, so no token in the form: that the form is ours is told by its origin.
        if not _is_same_origin(request):
            return await sign_in_page(desk, "Sign in from this page itself.", 403)
        source = request.client.host if request.client else ""
        if (wait_s := desk.sign_in_limit.wait_s(source)) > 0:
            return await sign_in_page(desk, f"Too many tries. Wait {wait_s / 60:.0f} minutes.", 429)
        try:
            form = await read_form(request)
            session = _session_of(desk, text_of(form, "key"))
        except MerinoError as error:
            desk.sign_in_limit.failed(source)
            return await sign_in_page(desk, error.message, 403)
        if session is None:
            desk.sign_in_limit.failed(source)
            return await sign_in_page(desk, "This key is not valid here.", 403)
        return await begin(desk, request, session)

    async def show_link(request: Request) -> Response:
        # A look at the address must not use the link up: mail programs look at every address.
        return await rendered("link.html", token=request.path_params["token"])

    async def use_link(request: Request) -> Response:
        if not _is_same_origin(request):
            return await sign_in_page(desk, "Sign in from this page itself.", 403)
        session = desk.sessions.redeem(request.path_params["token"])
        if session is None:
            return await sign_in_page(
                desk, "This link was used, or is too old. Ask for another.", 403
            )
        return await begin(desk, request, session)

    async def sign_out(visit: Visit, _: object) -> Response:
        return await _end(visit)

    return [
        Route(f"{BASE}/sign-in", ask, methods=["GET"]),
        Route(f"{BASE}/sign-in", sign_in, methods=["POST"]),
        Route(f"{BASE}/link/{{token}}", show_link, methods=["GET"]),
        Route(f"{BASE}/link/{{token}}", use_link, methods=["POST"]),
        Route(f"{BASE}/sign-out", posted(desk, sign_out, viewer=True), methods=["POST"]),
        Route(f"{BASE}/account", posted(desk, _switch, viewer=True), methods=["POST"]),
    ]


async def _switch(visit: Visit, form: FormData) -> Response:
    """Look at another of one's accounts. It is the same sign-in and lasts no longer, but with a new
    id and a new form token: what another tab still shows of the account before is not sent to
    this one."""
    wanted = text_of(form, "account")
    for account_id, role in visit.choices():
        if account_id == wanted:
            session = replace(visit.session, role=role, account_id=account_id, csrf=new_csrf())
            return await begin(visit.desk, visit.request, session, "switch_account")
    raise NotFound(f"There is no account '{wanted[:100]}'.", code="account_not_found")


async def _end(visit: Visit) -> Response:
    visit.desk.sessions.end(visit.request.cookies.get(COOKIE))
    await _note(visit, "sign_out")
    response = go(f"{BASE}/sign-in")
    oidc = visit.desk.oidc()
    if oidc is not None and visit.session.sign_out_url:
        # By a page: a form of ours may not lead elsewhere, not even by way of us.
        url = visit.session.sign_out_url
        response = await rendered("signed_out.html", url=url, provider=oidc.name)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
    return response


async def sign_in_page(desk: Desk, problem: str = "", status: int = 200) -> Response:
    """The page that asks who somebody is, with what went wrong before."""
    oidc = desk.oidc()
    name = "" if oidc is None else oidc.name
    return await rendered("sign_in.html", status, problem=problem, provider=name)


def _session_of(desk: Desk, key: str) -> Session | None:
    """Raises `KeyRejected` for a key that is disabled or has expired."""
    secret = key.encode("utf-8", "replace")
    admin = desk.find_admin(secret)
    if admin is not None:
        return Session("operator", f"admin key {admin.name}", key_hash=admin.secret_hash)
    found = desk.find_key(secret)
    if found is None:
        return None
    check_usable(found)
    # Whoever has a limited key must not be able to make one without limits.
    is_limited = found.aliases or found.expires_at_ms is not None
    is_limited = is_limited or any(
        bound is not None for bound in (found.spend_cap_nanos, *flat(found.limits).values())
    )
    role = "viewer" if is_limited else "owner"
    return Session(role, f"key {found.name}", found.account_id, found.secret_hash)


async def begin(
    desk: Desk, request: Request, session: Session, action: str = "sign_in"
) -> Response:
    """A new session, whatever the browser had before."""
    desk.sessions.end(request.cookies.get(COOKIE))
    visit = Visit(request, desk, session)
    await _note(visit, action, ("role", session.role), ("account", session.account_id or "all"))
    response = go(wanted_page(request) if action == "sign_in" else BASE)
    response.delete_cookie(WANTED_COOKIE, path=BASE, httponly=True, samesite="lax")
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


async def _note(visit: Visit, action: str, *details: tuple[str, object]) -> None:
    """In the audit log, unless the database cannot write now: whoever mends that has to get in."""
    try:
        await visit.note(action, "dashboard", *details)
    except StoreUnavailable:
        log.warning("not in the audit log", action=action, actor=visit.session.actor)


def _is_same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host", "")
