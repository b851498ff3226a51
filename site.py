"""The dashboard as routes: `/dashboard/...`, and the status page beside it."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from merino.dashboard.guard import Guard, with_headers
from merino.dashboard.keys import key_routes
from merino.dashboard.overview import overview_routes
from merino.dashboard.parts import Parts
from merino.dashboard.sessions import FailedLogins, Sessions
from merino.dashboard.signin import signin_routes
from merino.dashboard.view import STATIC, environment
from merino.dashboard.visit import ROOT
from merino.domain.errors import MerinoError, NotFound


def dashboard_routes(parts: Parts) -> list[BaseRoute]:
    """To be put among the relay's own. What is switched off is as unknown as what never was."""
    guard = Guard(
        parts,
        environment(),
        Sessions(
            idle_s=lambda: parts.settings().dashboard.idle_s,
            session_s=lambda: parts.settings().dashboard.session_s,
            sessions_max=lambda: parts.settings().dashboard.sessions_max,
        ),
        FailedLogins(lambda: parts.settings().dashboard.failed_logins_max),
    )

    def http_problem(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
        assert isinstance(error, HTTPException)
        problem: MerinoError = NotFound("There is no such page.")
        response = guard.problem(problem, guard.session_of(request))
        response.status_code = error.status_code
        return response

    app = Starlette(
        routes=[
            *signin_routes(guard),
            *overview_routes(guard),
            *key_routes(guard),
            Mount("/static", _Assets(directory=STATIC)),
        ],
        exception_handlers={HTTPException: http_problem, Exception: guard.internal},
    )
    app.router.redirect_slashes = False
    return [Mount(ROOT, _switched(with_headers(app), parts))]


class _Assets(StaticFiles):
    """Files of the package; pages name the version with them, so they may be kept."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type] - passed on as they came
        response.headers["cache-control"] = "public, max-age=86400"
        return response


def _switched(app: ASGIApp, parts: Parts) -> ASGIApp:
    async def switched(scope: Scope, receive: Receive, send: Send) -> None:
        if not parts.settings().dashboard.enabled:
            raise HTTPException(404)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not path:  # /dashboard and /dashboard/ are the same page
            scope = {**scope, "path": scope["path"] + "/"}
        await app(scope, receive, send)

    return switched



