"""Admin keys: who may operate the relay. For operators."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.dashboard.parts import BASE, Visit, body_of, go
from merino.operations import admin_keys as operations
from merino.operations.admin_keys import IssuedAdminKey, NewAdminKey


async def list_admin_keys(visit: Visit) -> Response:
    return await _page(visit)


async def create_admin_key(visit: Visit, form: FormData) -> Response:
    body = body_of(form, NewAdminKey, "name")
    return await _page(visit, await visit.perform(operations.create_admin_key, body))


async def rotate_admin_key(visit: Visit, _: FormData) -> Response:
    return await _page(
        visit, await visit.perform(operations.rotate_admin_key, admin_key=_name(visit))
    )


async def revoke_admin_key(visit: Visit, _: FormData) -> Response:
    name = _name(visit)
    await visit.perform(operations.revoke_admin_key, admin_key=name)
    return go(f"{BASE}/admin-keys", f"{name} is revoked")


def _name(visit: Visit) -> str:
    return visit.control.admin_keys.find(visit.request.path_params["key"]).name


async def _page(visit: Visit, issued: IssuedAdminKey | None = None) -> Response:
    return await visit.page(
        "admin_keys.html",
        admin_keys=visit.control.admin_keys.list(),
        key=issued,
        secret=None if issued is None else issued.key,
    )
