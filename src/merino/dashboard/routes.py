"""Every page and form of the dashboard, and who may have it."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from merino.dashboard import (
    accounts,
    admin_keys,
    call,
    calls,
    deployments,
    design,
    keys,
    limits,
    overview,
    playground,
    records,
    roi,
)
from merino.dashboard.entrance import entrance_routes
from merino.dashboard.oidc_entrance import oidc_routes
from merino.dashboard.parts import BASE, Desk, FormHandler, Handler, Visit, go, guarded, posted
from merino.dashboard.status import status_endpoint
from merino.domain.errors import NotFound


async def _no_such_page(visit: Visit) -> Response:
    if (path := visit.request.url.path).endswith("/"):
        return go(path.rstrip("/"))
    raise NotFound("There is no such page.")


def dashboard_routes(desk: Desk) -> list[BaseRoute]:
    """For the relay's ASGI app."""

    def page(path: str, handler: Handler, *, operator: bool = False) -> Route:
        return Route(f"{BASE}{path}", guarded(desk, handler, operator=operator), methods=["GET"])

    def form(
        path: str, handler: FormHandler, *, operator: bool = False, back: Handler | None = None
    ) -> Route:
        endpoint = posted(desk, handler, operator=operator, back=back)
        return Route(f"{BASE}{path}", endpoint, methods=["POST"])

    def plain(path: str, endpoint: Any, method: str = "GET") -> Route:
        return Route(path, endpoint, methods=[method])

    return [
        Mount(
            f"{BASE}/static",
            StaticFiles(packages=[("merino.pages", "static"), ("merino.dashboard", "static")]),
        ),
        *entrance_routes(desk),
        *oidc_routes(desk),
        page("", overview.overview),
        page("/", overview.overview),
        page("/live", overview.live),
        page("/calls", calls.list_calls),
        page("/calls.{form:str}", calls.export_calls),
        page("/calls/live", calls.tail_calls),
        page("/calls/{call}", call.show_call),
        page("/models", deployments.show_models),
        form(
            "/models/{name:path}/drain",
            deployments.drain,
            operator=True,
            back=deployments.show_models,
        ),
        form(
            "/models/{name:path}/undrain",
            deployments.undrain,
            operator=True,
            back=deployments.show_models,
        ),
        form(
            "/models/{name:path}/test",
            deployments.try_out,
            operator=True,
            back=deployments.show_models,
        ),
        page("/limits", limits.show_limits),
        page("/keys", keys.list_keys),
        form("/keys/find", keys.find_key),
        form("/keys", keys.create_key, back=keys.list_keys),
        page("/keys/{key}", keys.show_key),
        form("/keys/{key}", keys.update_key, back=keys.show_key),
        form("/keys/{key}/switch", keys.switch_key),
        form("/keys/{key}/rotate", keys.rotate_key),
        page("/accounts", accounts.list_accounts),
        form("/accounts", accounts.create_account, operator=True, back=accounts.list_accounts),
        page("/accounts/{account}", accounts.show_account),
        form("/accounts/{account}/topup", accounts.top_up, back=accounts.show_account),
        form("/accounts/{account}/voucher", accounts.redeem, back=accounts.show_account),
        form("/accounts/{account}/terms", accounts.update_terms, back=accounts.show_account),
        form(
            "/accounts/{account}/limits",
            accounts.update_limits,
            operator=True,
            back=accounts.show_account,
        ),
        form("/accounts/{account}/link", accounts.make_link, back=accounts.show_account),
        page("/accounts/{account}/statement", accounts.statement),
        form(
            "/accounts/{account}/{way}",
            accounts.move_money,
            operator=True,
            back=accounts.show_account,
        ),
        form("/topups/{topup}/confirm", accounts.confirm_topup, operator=True),
        page("/playground", playground.playground),
        plain(f"{BASE}/playground/chat", playground.chat_endpoint(desk), "POST"),
        page("/roi", roi.roi),
        page("/benchmarks", records.benchmarks, operator=True),
        page("/benchmarks/{name}", records.benchmark, operator=True),
        page("/design", design.sheet, operator=True),
        page("/admin-keys", admin_keys.list_admin_keys, operator=True),
        form(
            "/admin-keys",
            admin_keys.create_admin_key,
            operator=True,
            back=admin_keys.list_admin_keys,
        ),
        form("/admin-keys/{key}/rotate", admin_keys.rotate_admin_key, operator=True),
        form("/admin-keys/{key}/revoke", admin_keys.revoke_admin_key, operator=True),
        page("/settings", records.settings_page, operator=True),
        page("/audit", records.audit, operator=True),
        page("/audit.csv", records.export_audit, operator=True),
        # What is none of these, too: who is not signed in does not learn which pages there are.
        Route(f"{BASE}/{{rest:path}}", guarded(desk, _no_such_page), methods=["GET", "POST"]),
        plain("/status", status_endpoint(desk, is_json=False)),
        plain("/status.json", status_endpoint(desk, is_json=True)),
    ]
