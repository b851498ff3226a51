"""Admin keys in the admin API."""

from __future__ import annotations

from msgspec import Struct

from merino.domain.key import AdminKey as DomainAdminKey
from merino.operations.fields import In, Name, iso
from merino.operations.table import Asked, Operation


class NewAdminKey(In):
    name: Name


class AdminKey(Struct):
    """`hint` is how the secret begins; the secret itself is not kept."""

    id: str
    name: str
    hint: str
    revoked: bool
    created_at: str


class IssuedAdminKey(AdminKey, kw_only=True):
    """An admin key with its secret, which is shown this once."""

    key: str


class AdminKeys(Struct):
    data: list[AdminKey]


def admin_key_shape(key: DomainAdminKey) -> AdminKey:
    return AdminKey(key.id, key.name, key.hint, key.disabled, iso(key.created_at_ms))


def issued_admin_key_shape(key: DomainAdminKey, secret: str) -> IssuedAdminKey:
    return IssuedAdminKey(
        key.id, key.name, key.hint, key.disabled, iso(key.created_at_ms), key=secret
    )


async def _list_admin_keys(asked: Asked) -> AdminKeys:
    return AdminKeys([admin_key_shape(key) for key in asked.control.admin_keys.list()])


async def _create_admin_key(asked: Asked) -> IssuedAdminKey:
    body: NewAdminKey = asked.body
    return issued_admin_key_shape(*asked.control.admin_keys.create(body.name))


async def _rotate_admin_key(asked: Asked) -> IssuedAdminKey:
    return issued_admin_key_shape(*asked.control.admin_keys.rotate(asked.path["admin_key"]))


async def _revoke_admin_key(asked: Asked) -> AdminKey:
    return admin_key_shape(asked.control.admin_keys.revoke(asked.path["admin_key"]))


ADMIN_KEY_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET", "/admin-keys", "list_admin_keys", "List admin keys", _list_admin_keys, AdminKeys
    ),
    Operation(
        "POST",
        "/admin-keys",
        "create_admin_key",
        "Issue an admin key; its secret is in this answer and nowhere else",
        _create_admin_key,
        IssuedAdminKey,
        body=NewAdminKey,
        status=201,
    ),
    Operation(
        "POST",
        "/admin-keys/{admin_key}/rotate",
        "rotate_admin_key",
        "Give an admin key a new secret; the old one is void at once",
        _rotate_admin_key,
        IssuedAdminKey,
    ),
    Operation(
        "POST",
        "/admin-keys/{admin_key}/revoke",
        "revoke_admin_key",
        "Revoke an admin key for good; it stays listed, since the audit log names it",
        _revoke_admin_key,
        AdminKey,
    ),
)
