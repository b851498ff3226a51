"""Every page and form of the dashboard, and who may have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from merino.dashboard import (
    accounts,
    additions,
    admin_keys,
    call,
    calls,
    customers,
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


class _Routes:
    """Makes routes for who comes to one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def page(self, path: str, handler: Handler, *, operator: bool = False) -> Route:
        return self.plain(f"{BASE}{path}", guarded(self._desk, handler, operator=operator))

    def form(
        self,
        path: str,
        handler: FormHandler,
        *,
        operator: bool = False,
        back: Handler | None = None,
    ) -> Route:
        endpoint = posted(self._desk, handler, operator=operator, back=back)
        return self.plain(f"{BASE}{path}", endpoint, "POST")

    def plain(self, path: str, endpoint: Any, method: str = "GET") -> Route:
        return Route(path, endpoint, methods=[method])


def dashboard_routes(desk: Desk) -> list[BaseRoute]:
    """For the relay's ASGI app."""
    to = _Routes(desk)
    static = StaticFiles(packages=[("merino.pages", "static"), ("merino.dashboard", "static")])
    return [
        Mount(f"{BASE}/static", static),
        *entrance_routes(desk),
        *oidc_routes(desk),
        *_of_calls(to),
        *_of_models(to),
        *_of_keys(to),
        *_of_accounts(to),
        to.page("/playground", playground.playground),
        to.plain(f"{BASE}/playground/chat", playground.chat_endpoint(desk), "POST"),
        to.page("/roi", roi.roi),
        *_of_customers(to),
        *_of_operators(to),
        # What is none of these, too: who is not signed in does not learn which pages there are.
        Route(f"{BASE}/{{rest:path}}", guarded(desk, _no_such_page), methods=["GET", "POST"]),
        to.plain("/status", status_endpoint(desk, is_json=False)),
        to.plain("/status.json", status_endpoint(desk, is_json=True)),
    ]


def _of_calls(to: _Routes) -> Iterator[Route]:
    yield to.page("", overview.overview)
    yield to.page("/", overview.overview)
    yield to.page("/live", overview.live)
    yield to.page("/calls", calls.list_calls)
    yield to.page("/calls.{form:str}", calls.export_calls)
    yield to.page("/calls/live", calls.tail_calls)
    yield to.page("/calls/{call}", call.show_call)


def _of_models(to: _Routes) -> Iterator[Route]:
    shown = deployments.show_models
    yield to.page("/models", shown)
    for kind, act in additions.FORMS.items():
        yield to.form(f"/models/{kind}", act, operator=True, back=shown)
    yield to.page("/models/added.toml", additions.export, operator=True)
    yield to.form("/models/{name:path}/drain", deployments.drain, operator=True, back=shown)
    yield to.form("/models/{name:path}/undrain", deployments.undrain, operator=True, back=shown)
    yield to.form("/models/{name:path}/test", deployments.try_out, operator=True, back=shown)
    yield to.page("/limits", limits.show_limits)


def _of_keys(to: _Routes) -> Iterator[Route]:
    yield to.page("/keys", keys.list_keys)
    yield to.form("/keys/find", keys.find_key)
    yield to.form("/keys", keys.create_key, back=keys.list_keys)
    yield to.page("/keys/{key}", keys.show_key)
    yield to.form("/keys/{key}", keys.update_key, back=keys.show_key)
    yield to.form("/keys/{key}/switch", keys.switch_key)
    yield to.form("/keys/{key}/rotate", keys.rotate_key)
    yield to.form("/keys/{key}/end-old", keys.end_old)


def _of_accounts(to: _Routes) -> Iterator[Route]:
    listed, shown, one = accounts.list_accounts, accounts.show_account, "/accounts/{account}"
    yield to.page("/accounts", listed)
    yield to.form("/accounts", accounts.create_account, operator=True, back=listed)
    yield to.page(one, shown)
    yield to.form(f"{one}/topup", accounts.top_up, back=shown)
    yield to.form(f"{one}/voucher", accounts.redeem, back=shown)
    yield to.form(f"{one}/terms", accounts.update_terms, back=shown)
    yield to.form(f"{one}/limits", accounts.update_limits, operator=True, back=shown)
    yield to.form(f"{one}/link", accounts.make_link, back=shown)
    yield to.page(f"{one}/statement", accounts.statement)
    yield to.form(f"{one}/{{way}}", accounts.move_money, operator=True, back=shown)
    yield to.form("/topups/{topup}/confirm", accounts.confirm_topup, operator=True)


def _of_customers(to: _Routes) -> Iterator[Route]:
    invited, levels = "/invitations", "/service-levels"
    yield to.page("/people", customers.list_people, operator=True)
    yield to.page("/people/{person}/delete", customers.ask_to_delete, operator=True)
    yield to.form("/people/{person}/{decision}", customers.decide, operator=True)
    shown = customers.list_invitations
    yield to.page(invited, shown, operator=True)
    yield to.form(invited, customers.invite, operator=True, back=shown)
    yield to.form(f"{invited}/{{invitation}}/withdraw", customers.withdraw, operator=True)
    yield to.page(levels, customers.show_levels, operator=True)
    yield to.form(levels, customers.confirm_level, operator=True)


def _of_operators(to: _Routes) -> Iterator[Route]:
    yield to.page("/benchmarks", records.benchmarks, operator=True)
    yield to.page("/benchmarks/{name}", records.benchmark, operator=True)
    yield to.page("/design", design.sheet, operator=True)
    listed = admin_keys.list_admin_keys
    yield to.page("/admin-keys", listed, operator=True)
    yield to.form("/admin-keys", admin_keys.create_admin_key, operator=True, back=listed)
    yield to.form("/admin-keys/{key}/rotate", admin_keys.rotate_admin_key, operator=True)
    yield to.form("/admin-keys/{key}/revoke", admin_keys.revoke_admin_key, operator=True)
    yield to.page("/settings", records.settings_page, operator=True)
    yield to.page("/audit", records.audit, operator=True)
    yield to.page("/audit.csv", records.export_audit, operator=True)
