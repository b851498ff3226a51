"""Every page and form of the portal, and who may have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from merino.domain.errors import NotFound
from merino.domain.person import MemberRole
from merino.portal import billing, keys, own_data, price_list, start, team, usage
from merino.portal.coming_in import coming_in_routes
from merino.portal.visits import (
    BASE,
    FormHandler,
    Guest,
    Handler,
    PortalDesk,
    Visit,
    go,
    guarded,
    open_to_all,
    posted,
    text_of,
)
from merino.settings.portal_checks import LOGO_TYPES

_ROUTE = "merino.portal.route"


def portal_routes(desk: PortalDesk) -> list[BaseRoute]:
    """For the relay's ASGI app."""

    def page(path: str, handler: Handler) -> Route:
        return Route(f"{BASE}{path}", guarded(desk, handler), methods=["GET"])

    def form(
        path: str, handler: FormHandler, back: Handler | None = None, role: MemberRole = "owner"
    ) -> Route:
        endpoint = posted(desk, handler, role=role, back=back)
        return Route(f"{BASE}{path}", endpoint, methods=["POST"])

    async def logo(_: Request) -> Response:
        file = desk.settings().logo
        if file is None:
            return Response(status_code=404)
        kind = LOGO_TYPES.get(Path(file).suffix.lower(), "application/octet-stream")
        headers = {
            "cache-control": "max-age=300",
            "x-content-type-options": "nosniff",
            # An SVG may hold scripts: opened by itself, it is nobody's page.
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        }
        return FileResponse(file, media_type=kind, headers=headers)

    async def no_such_page(guest: Guest) -> Response:
        if (path := guest.request.url.path).endswith("/"):
            return go(path.rstrip("/"))
        raise NotFound("There is no such page.", code="page_not_found")

    packages: list[str | tuple[str, str]] = [
        ("merino.pages", "static"),
        ("merino.dashboard", "static"),
        ("merino.portal", "static"),
    ]
    routes: list[BaseRoute] = [
        Mount(f"{BASE}/static", StaticFiles(packages=packages)),
        Route(f"{BASE}/logo", logo, methods=["GET"]),
        *coming_in_routes(desk),
        page("", start.show_start),
        page("/calls-now", start.newest_calls),
        form("/first-key", start.make_first_key, start.show_start, "member"),
        form("/account", _switch, None, "viewer"),
        page("/usage", usage.show_usage),
        page("/usage.csv", usage.export_calls),
        page("/keys", keys.show_keys),
        form("/keys", keys.create, keys.show_keys, "member"),
        form("/keys/{key}/rotate", keys.rotate, keys.show_keys, "member"),
        form("/keys/{key}/switch", keys.switch, keys.show_keys, "member"),
        form("/keys/{key}/cap", keys.cap, keys.show_keys, "member"),
        page("/billing", billing.show_billing),
        form("/billing/topup", billing.top_up, billing.show_billing),
        form("/billing/voucher", billing.redeem, billing.show_billing),
        form("/billing/terms", billing.change_terms, billing.show_billing),
        form("/billing/rule", billing.change_rule, billing.show_billing),
        form("/billing/card", billing.forget_card, billing.show_billing),
        form("/billing/details", billing.change_details, billing.show_billing),
        page("/billing/statement/{month}", billing.show_statement),
        page("/billing/invoice/{topup}", billing.show_invoice),
        page("/billing/{how}", billing.came_back),
        page("/team", team.show_team),
        form("/team", team.invite, team.show_team),
        form("/team/invitations/{invitation}/withdraw", team.withdraw, team.show_team),
        form("/team/{person}/role", team.change_role, team.show_team),
        form("/team/{person}/remove", team.remove, team.show_team),
        page("/prices", price_list.show_own),
        page("/me", own_data.show_me),
        page("/me.json", own_data.export_me),
        form("/me/delete", own_data.delete_me, own_data.show_me, "viewer"),
        Route(f"{BASE}/price-list", open_to_all(desk, price_list.show_public), methods=["GET"]),
        Route(f"{BASE}/{{rest:path}}", open_to_all(desk, no_such_page), methods=["GET", "POST"]),
    ]
    return [_WhileOn(lambda: desk.settings().enabled, routes)]


async def _switch(visit: Visit, form: FormData) -> Response:
    """Look at another of one's accounts."""
    wanted = text_of(form, "account")
    if wanted not in {each.account_id for each in visit.members}:
        raise NotFound("There is no such account.", code="account_not_found")
    assert visit.session is not None
    await visit.desk.entrance.look_at(visit.session, wanted)
    return go(BASE)


class _WhileOn(BaseRoute):
    """Routes that are there while `is_on` says so: a reload may switch the portal on and off."""

    def __init__(self, is_on: Callable[[], bool], routes: Sequence[BaseRoute]) -> None:
        self._is_on = is_on
        self._routes = routes

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        best: tuple[Match, Scope] = (Match.NONE, {})
        if not self._is_on():
            return best
        for route in self._routes:
            match, child = route.matches(scope)
            if match.value > best[0].value:
                best = match, {**child, _ROUTE: route}
            if match is Match.FULL:
                break
        return best

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: BaseRoute = scope[_ROUTE]
        await route.handle(scope, receive, send)
