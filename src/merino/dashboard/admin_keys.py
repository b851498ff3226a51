"""Admin keys: who may operate the relay. For operators."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.dashboard.parts import BASE, Visit, go, text_of
from merino.domain.key import AdminKey


async def list_admin_keys(visit: Visit) -> Response:
    return _page(visit)


async def create_admin_key(visit: Visit, form: FormData) -> Response:
    key, secret = visit.control.admin_keys.create(text_of(form, "name"))
    visit.note("create_admin_key", key.name)
    return _page(visit, key, secret)


async def rotate_admin_key(visit: Visit, _: FormData) -> Response:
    key, secret = visit.control.admin_keys.rotate(visit.request.path_params["key"])
    visit.note("rotate_admin_key", key.name)
    return _page(visit, key, secret)


async def revoke_admin_key(visit: Visit, _: FormData) -> Response:
    key = visit.control.admin_keys.revoke(visit.request.path_params["key"])
    visit.note("revoke_admin_key", key.name)
    return go(f"{BASE}/admin-keys", f"{key.name} is revoked")


def _page(visit: Visit, made: AdminKey | None = None, secret: str | None = None) -> Response:
    return visit.page(
        "admin_keys.html", admin_keys=visit.control.admin_keys.list(), key=made, secret=secret
    )
