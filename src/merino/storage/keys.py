"""Virtual keys: their secrets' keyed hashes, in memory and in SQLite.

A secret is 256 random bits, so a fast keyed hash is enough. With the database but without the
pepper, nobody can even test a guess.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, LiteralString

from merino.control.ports import KeyTerms
from merino.domain.account import SpendPeriod
from merino.domain.errors import Conflict, Misconfigured, NotFound
from merino.domain.key import KEY_PREFIX, VirtualKey, hint_of
from merino.domain.limits import LIMIT_KINDS, NO_LIMITS, Limits, flat
from merino.sqlite.data_folder import FILE_MODE, sync_folder
from merino.sqlite.database import Database, columns_of, marks
from merino.sqlite.writer import Writer

PEPPER_BYTES = 32
_COLUMNS = (
    "id",
    "account_id",
    "name",
    "hint",
    "secret_hash",
    "aliases",
    "created_at_ms",
    "expires_at_ms",
    "disabled",
    "spend_cap_nanos",
    "spend_period",
    "old_hash",
    "old_hint",
    "old_expires_at_ms",
    *columns_of(Limits),
)
_INSERT = f"INSERT INTO keys ({', '.join(_COLUMNS)}) VALUES ({marks(len(_COLUMNS))})"
_REPLACE = _INSERT.replace("INSERT", "INSERT OR REPLACE", 1)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM keys ORDER BY created_at_ms, id"


def read_pepper(folder: Path, *, is_used: bool) -> bytes:
    """The folder's own secret, made at its first use. Raises `Misconfigured` if it is missing or
    damaged while there are keys, which are worthless without it."""
    path = folder / "pepper"
    with contextlib.suppress(FileNotFoundError):
        pepper = path.read_bytes()
        if len(pepper) == PEPPER_BYTES:
            return pepper
    if is_used:
        raise Misconfigured(
            f"{path} is missing or damaged, and without it no key of this folder can be "
            "recognised. Restore it from a backup of the folder."
        )
    pepper = secrets.token_bytes(PEPPER_BYTES)
    part = folder / "pepper.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        file.write(pepper)
        file.flush()
        os.fsync(fd)
    part.rename(path)  # complete or not at all
    sync_folder(folder)
    return pepper


def has_keys(database: Database) -> bool:
    """Whether anything was ever hashed with the pepper."""
    sql = "SELECT EXISTS (SELECT 1 FROM keys) OR EXISTS (SELECT 1 FROM admin_keys)"
    return bool(next(database.execute(sql))[0])


_DIGESTS_MAX = 10_000


class KeyStore:
    """`gateway.ports.KeyRing` and `control.ports.Keys`. `on_change` is called with an account whose
    keys may spend more now."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        pepper: bytes,
        now_ms: Callable[[], int],
        on_change: Callable[[str], None],
    ) -> None:
        self._writer = writer
        self._pepper = pepper
        self._now_ms = now_ms
        self._on_change = on_change
        self._by_id: dict[str, VirtualKey] = {}
        self._by_hash: dict[bytes, VirtualKey] = {}
        # By the hashes of the secrets before these; whether they are still good is looked at.
        self._by_old_hash: dict[bytes, VirtualKey] = {}
        # Digests of valid secrets, so that these are not hashed for every call. Only in memory,
        # like the requests that bring them; their owner is looked up each time.
        self._digests: dict[bytes, bytes] = {}
        for row in database.execute(_SELECT):
            self._remember(_key_of(row))

    def find(self, secret: bytes) -> VirtualKey | None:
        # The timing of a lookup by keyed hash reveals nothing: the caller cannot choose the hash.
        digest = self._digests.get(secret)
        if digest is not None:
            return self._by_hash.get(digest) or self._overlapping(digest)
        digest = hmac.digest(self._pepper, secret, "sha256")
        key = self._by_hash.get(digest) or self._overlapping(digest)
        if key is not None:
            if len(self._digests) >= _DIGESTS_MAX:
                self._digests.clear()
            self._digests[secret] = digest
        return key

    def replaced(self, secret: bytes) -> VirtualKey | None:
        return self._by_old_hash.get(hmac.digest(self._pepper, secret, "sha256"))

    def with_hash(self, secret_hash: bytes) -> VirtualKey | None:
        """The key whose secret has this hash; `None` once it was rotated and is no longer good."""
        return self._by_hash.get(secret_hash) or self._overlapping(secret_hash)

    def _overlapping(self, secret_hash: bytes) -> VirtualKey | None:
        """The key whose secret had this hash before the last rotation, while that is good."""
        key = self._by_old_hash.get(secret_hash)
        if key is None or (key.old_expires_at_ms or 0) <= self._now_ms():
            return None
        return key

    def list(self) -> Sequence[VirtualKey]:
        return list(self._by_id.values())

    def get(self, key_id: str) -> VirtualKey:
        key = self._by_id.get(key_id)
        if key is None:
            raise NotFound(f"There is no key '{key_id[:100]}'.", code="key_not_found")
        return key

    async def create(
        self,
        *,
        account_id: str,
        name: str,
        aliases: tuple[str, ...] = (),
        expires_at_ms: int | None = None,
        spend_cap_nanos: int | None = None,
        spend_period: SpendPeriod = "total",
        limits: Limits = NO_LIMITS,
    ) -> tuple[VirtualKey, str]:
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        key = VirtualKey(
            id=f"key_{secrets.token_hex(8)}",
            account_id=account_id,
            name=name,
            hint=hint_of(secret),
            secret_hash=self._hash(secret),
            aliases=aliases,
            created_at_ms=self._now_ms(),
            expires_at_ms=expires_at_ms,
            spend_cap_nanos=spend_cap_nanos,
            spend_period=spend_period,
            limits=limits,
        )
        self._check_free(key.name)
        await self._write(_INSERT, key, self._remember)
        return key, secret

    async def update(self, key_id: str, terms: KeyTerms) -> VirtualKey:
        key = self.get(key_id)
        limits = replace(key.limits, **terms.get("limits", {}))
        return await self._change(replace(key, **{**terms, "limits": limits}))

    async def rotate(self, key_id: str, keep_old_s: int = 0) -> tuple[VirtualKey, str]:
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        old = self.get(key_id)
        key = replace(
            old,
            secret_hash=self._hash(secret),
            hint=hint_of(secret),
            old_hash=old.secret_hash,
            old_hint=old.hint,
            old_expires_at_ms=self._now_ms() + keep_old_s * 1000,
        )
        return await self._change(key), secret

    async def _change(self, key: VirtualKey) -> VirtualKey:
        old = self._by_id[key.id]
        if key.name != old.name:
            self._check_free(key.name)

        def changed(key: VirtualKey) -> None:
            self._by_hash.pop(old.secret_hash, None)
            if old.old_hash is not None:
                self._by_old_hash.pop(old.old_hash, None)
            self._remember(key)
            self._on_change(key.account_id)

        await self._write(_REPLACE, key, changed)
        return key

    def _check_free(self, name: str) -> None:
        if any(each.name == name for each in self._by_id.values()):
            raise Conflict(
                f"There is a key named '{name}' already; choose another name.",
                code="name_taken",
                param="name",
            )

    async def _write(
        self, sql: LiteralString, key: VirtualKey, then: Callable[[VirtualKey], None]
    ) -> None:
        row = _row_of(key)
        await self._writer.write(
            "changing the key",
            lambda database: database.change(sql, row),
            lambda _: then(key),
        )

    def _remember(self, key: VirtualKey) -> None:
        self._by_id[key.id] = key
        self._by_hash[key.secret_hash] = key
        if key.old_hash is not None:
            self._by_old_hash[key.old_hash] = key

    def _hash(self, secret: str) -> bytes:
        return hmac.digest(self._pepper, secret.encode(), "sha256")


def _row_of(key: VirtualKey) -> tuple[Any, ...]:
    row: dict[str, Any] = {name: getattr(key, name) for name in _COLUMNS if name not in LIMIT_KINDS}
    row |= {"aliases": json.dumps(key.aliases), **flat(key.limits)}
    return tuple(row[name] for name in _COLUMNS)


def _key_of(row: tuple[Any, ...]) -> VirtualKey:
    named = dict(zip(_COLUMNS, row, strict=True))
    named["aliases"] = tuple(json.loads(named["aliases"]))
    named["disabled"] = bool(named["disabled"])
    named["limits"] = Limits(**{kind: named.pop(kind) for kind in LIMIT_KINDS})
    return VirtualKey(**named)
