"""Who may administer: issue admin keys, give them new secrets, revoke them.

A lost one is no disaster: who can write to the data folder can make another with the command line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from merino.control.names import check_free, check_name, find
from merino.control.ports import AdminKeys
from merino.domain.errors import Conflict
from merino.domain.key import AdminKey


class AdminKeyDesk:
    """Use cases around admin keys. One is named by its id or its name. Changes come one after
    another: of two that revoke the last two, only the first does."""

    def __init__(self, keys: AdminKeys) -> None:
        self._turn = asyncio.Lock()
        self._keys = keys

    def list(self) -> Sequence[AdminKey]:
        """All, the oldest first; revoked ones too, since the audit log names them."""
        return self._keys.list()

    def find(self, reference: str) -> AdminKey:
        return find("admin key", reference, self._keys.list())

    async def create(self, name: str) -> tuple[AdminKey, str]:
        """The admin key and its secret, shown this once."""
        check_name(name)
        async with self._turn:
            check_free("admin key", name, self._keys.list())
            return await self._keys.create(name)

    async def rotate(self, reference: str) -> tuple[AdminKey, str]:
        """A new secret; the old one is void at once."""
        async with self._turn:
            key = self.find(reference)
            if key.disabled:
                raise Conflict(
                    f"Admin key '{key.name}' is revoked for good; create another one.",
                    code="admin_key_revoked",
                )
            return await self._keys.rotate(key.id)

    async def revoke(self, reference: str) -> AdminKey:
        """For good. Raises `Conflict` for the last one: nobody could get in with a key."""
        async with self._turn:
            key = self.find(reference)
            if key.disabled:
                return key
            if not any(each.id != key.id and not each.disabled for each in self._keys.list()):
                raise Conflict(
                    f"Admin key '{key.name}' is the last one. Create another one first, or give "
                    "this one a new secret: that makes the old one void at once, too.",
                    code="last_admin_key",
                )
            return await self._keys.revoke(key.id)
