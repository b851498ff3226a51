"""Signing in through an OpenID Connect provider: to it, and back."""

from __future__ import annotations

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from merino.dashboard.entrance import begin, sign_in_page
from merino.dashboard.oidc import SignInFailed
from merino.dashboard.parts import BASE, Desk, go, rendered
from merino.dashboard.sessions import PENDING_S, Session

log = structlog.get_logger("merino.dashboard")

PENDING_COOKIE = "merino_sign_in"
_HERE = f"{BASE}/oidc"


def oidc_routes(desk: Desk) -> list[Route]:
    async def start(request: Request) -> Response:
        provider = desk.oidc()
        if provider is None:
            return go(f"{BASE}/sign-in")
        try:
            url, pending = await provider.begin(f"{_origin(desk, request)}{_HERE}/callback")
        except SignInFailed as failure:
            return await _failed(desk, failure)
        response = RedirectResponse(url, 303, {"cache-control": "no-store"})
        response.set_cookie(
            PENDING_COOKIE,
            desk.pending.add(pending),
            max_age=int(PENDING_S),
            path=_HERE,
            secure=request.url.scheme == "https",
            httponly=True,
            # Lax: it has to come along when the provider sends the browser back.
            samesite="lax",
        )
        return response

    async def callback(request: Request) -> Response:
        provider = desk.oidc()
        if provider is None:
            return go(f"{BASE}/sign-in")
        asked = request.query_params
        pending = desk.pending.take(request.cookies.get(PENDING_COOKIE), asked.get("state", ""))
        if pending is None:
            return await sign_in_page(
                desk,
                "This sign-in did not begin in this browser, was used already, or took too long. "
                "Begin anew.",
                400,
            )
        back_to = f"{_origin(desk, request)}{BASE}/sign-in"
        try:
            who, sign_out_url = await provider.finish(pending, asked, back_to)
        except SignInFailed as failure:
            response = await _failed(desk, failure)
        else:
            roles = desk.roles_of(who)
            if not roles:
                log.warning("a sign-in was refused: nobody gave a role", who=who.name)
                response = await rendered(
                    "refused.html", 403, who=who.name, provider=provider.name, url=sign_out_url
                )
            else:
                role, account_id = roles[0]  # others are chosen in the page's head
                session = Session(
                    role,
                    f"oidc {who.name}",
                    account_id,
                    identity=who,
                    sign_out_url=sign_out_url,
                )
                response = await begin(desk, request, session)
        response.delete_cookie(PENDING_COOKIE, path=_HERE, httponly=True, samesite="lax")
        return response

    return [
        Route(f"{_HERE}/start", start, methods=["GET"]),
        Route(f"{_HERE}/callback", callback, methods=["GET"]),
    ]


async def _failed(desk: Desk, failure: SignInFailed) -> Response:
    log.warning("a sign-in failed", reason=failure.reason)
    return await sign_in_page(desk, failure.message, failure.status)


def _origin(desk: Desk, request: Request) -> str:
    """Where this browser reaches the relay."""
    oidc = desk.settings().dashboard.oidc
    if oidc is not None and oidc.public_url is not None:
        return oidc.public_url.rstrip("/")
    return str(request.base_url).rstrip("/")
