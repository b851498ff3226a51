"""Admin keys: their secrets' keyed hashes, in memory and in SQLite, made as those of keys."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from merino.domain.errors import NotFound
from merino.domain.key import ADMIN_KEY_PREFIX, AdminKey, hint_of
from merino.sqlite.database import Database
from merino.sqlite.writer import Writer

_SELECT = (
    "SELECT id, name, hint, secret_hash, created_at_ms, disabled, last_used_ms FROM admin_keys"
    " ORDER BY created_at_ms, id"
)


_INSERT = (
    "INSERT INTO admin_keys (id, name, hint, secret_hash, created_at_ms, disabled)"
    " VALUES (?, ?, ?, ?, ?, 0)"
)
_USED = "UPDATE admin_keys SET last_used_ms = ? WHERE id = ?"
_UPDATE = "UPDATE admin_keys SET hint = ?, secret_hash = ?, disabled = ? WHERE id = ?"


class AdminKeyStore:
    """`control.ports.AdminKeys`."""

    def __init__(
        self, database: Database, writer: Writer, pepper: bytes, now_ms: Callable[[], int]
    ) -> None:
        self._writer = writer
        self._pepper = pepper
        self._now_ms = now_ms
        self._by_id: dict[str, AdminKey] = {}
        self._by_hash: dict[bytes, AdminKey] = {}
        self._used: dict[str, int] = {}
        """Since it was last written down."""
        for *fields, disabled, used_ms in database.execute(_SELECT):
            self._remember(AdminKey(*fields, disabled=bool(disabled), last_used_ms=used_ms))

    def find(self, secret: bytes) -> AdminKey | None:
        """The usable admin key with this secret."""
        return self.with_hash(hmac.digest(self._pepper, secret, "sha256"))

    def with_hash(self, secret_hash: bytes) -> AdminKey | None:
        """The usable admin key whose secret has this hash now."""
        key = self._by_hash.get(secret_hash)
        if key is None or key.disabled:
            return None
        self._used[key.id] = self._now_ms()
        return key

    def list(self) -> Sequence[AdminKey]:
        used = self._used
        return [
            replace(each, last_used_ms=used[each.id]) if each.id in used else each
            for each in self._by_id.values()
        ]

    async def flush(self) -> None:
        """Write down when keys were last used. Raises `StoreUnavailable`."""
        used, self._used = self._used, {}
        for key_id, used_ms in used.items():
            self._remember(replace(self._by_id[key_id], last_used_ms=used_ms))
        if used:
            rows = [(used_ms, key_id) for key_id, used_ms in used.items()]
            await self._writer.write(
                "noting the use of admin keys",
                lambda database: database.execute_many(_USED, rows),
                lasts=False,
            )

    async def create(self, name: str) -> tuple[AdminKey, str]:
        secret = ADMIN_KEY_PREFIX + secrets.token_urlsafe(32)
        key = AdminKey(
            id=f"admin_{secrets.token_hex(8)}",
            name=name,
            hint=hint_of(secret),
            secret_hash=self._hash(secret),
            created_at_ms=self._now_ms(),
        )
        row = (key.id, key.name, key.hint, key.secret_hash, key.created_at_ms)
        await self._writer.write(
            "creating the admin key",
            lambda database: database.change(_INSERT, row),
            lambda _: self._remember(key),
        )
        return key, secret

    async def rotate(self, key_id: str) -> tuple[AdminKey, str]:
        secret = ADMIN_KEY_PREFIX + secrets.token_urlsafe(32)
        key = replace(self._get(key_id), hint=hint_of(secret), secret_hash=self._hash(secret))
        await self._change(key)
        return key, secret

    async def revoke(self, key_id: str) -> AdminKey:
        key = replace(self._get(key_id), disabled=True)
        await self._change(key)
        return key

    def _get(self, key_id: str) -> AdminKey:
        key = self._by_id.get(key_id)
        if key is None:
            raise NotFound(f"There is no admin key '{key_id[:100]}'.", code="admin_key_not_found")
        return key

    async def _change(self, key: AdminKey) -> None:
        old = self._by_id[key.id]
        row = (key.hint, key.secret_hash, key.disabled, key.id)

        def changed(_: object) -> None:
            self._by_hash.pop(old.secret_hash, None)
            self._remember(key)

        await self._writer.write(
            "changing the admin key", lambda database: database.change(_UPDATE, row), changed
        )

    def _remember(self, key: AdminKey) -> None:
        self._by_id[key.id] = key
        self._by_hash[key.secret_hash] = key

    def _hash(self, secret: str) -> bytes:
        return hmac.digest(self._pepper, secret.encode(), "sha256")
