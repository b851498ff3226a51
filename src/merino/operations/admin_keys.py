"""Admin keys: who may operate the relay."""

from __future__ import annotations

from msgspec import Struct

from merino.domain.key import AdminKey as DomainAdminKey
from merino.operations.fields import In, Name
from merino.operations.shape import shown, shows
from merino.operations.table import Asked, Operations


class NewAdminKey(In):
    name: Name


@shows(DomainAdminKey, hidden={"secret_hash": "what a secret is compared with"}, revoked="disabled")
class AdminKey(Struct):
    """`hint` is how the secret begins; the secret itself is not kept."""

    id: str
    name: str
    hint: str
    revoked: bool
    created_at: str
    last_used: str | None
    """To the minute; none since this was counted: null."""


class IssuedAdminKey(AdminKey, kw_only=True):
    """An admin key with its secret, which is shown this once."""

    key: str


class AdminKeys(Struct):
    data: list[AdminKey]


OPERATIONS = Operations()


@OPERATIONS.get("/admin-keys", "List admin keys")
async def list_admin_keys(asked: Asked) -> AdminKeys:
    return AdminKeys([shown(AdminKey, key) for key in asked.control.admin_keys.list()])


@OPERATIONS.post(
    "/admin-keys",
    "Issue an admin key; its secret is in this answer and nowhere else",
    status=201,
)
async def create_admin_key(asked: Asked, body: NewAdminKey) -> IssuedAdminKey:
    key, secret = await asked.control.admin_keys.create(body.name)
    return shown(IssuedAdminKey, key, key=secret)


@OPERATIONS.post(
    "/admin-keys/{admin_key}/rotate",
    "Give an admin key a new secret; the old one is void at once",
)
async def rotate_admin_key(asked: Asked) -> IssuedAdminKey:
    key, secret = await asked.control.admin_keys.rotate(asked.path["admin_key"])
    return shown(IssuedAdminKey, key, key=secret)


@OPERATIONS.post(
    "/admin-keys/{admin_key}/revoke",
    "Revoke an admin key for good; it stays listed, since the audit log names it",
)
async def revoke_admin_key(asked: Asked) -> AdminKey:
    return shown(AdminKey, await asked.control.admin_keys.revoke(asked.path["admin_key"]))
