"""Who may call: issue keys, change what they may do, withdraw them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from merino.control.accounts import AccountDesk
from merino.control.names import check_free, check_name, find
from merino.control.pages import page_of
from merino.control.ports import Keys, KeyTerms, Page
from merino.control.terms import aliases_of, check_limits
from merino.domain.clock import epoch_ms
from merino.domain.errors import Conflict
from merino.domain.key import VirtualKey
from merino.domain.limits import Limits


class KeyDesk:
    """Use cases around virtual keys. A key is named by its id or its name. Changes come one after
    another, so that none is lost by another's."""

    def __init__(
        self, keys: Keys, accounts: AccountDesk, now_ms: Callable[[], int] = epoch_ms
    ) -> None:
        self._turn = asyncio.Lock()
        self._keys = keys
        self._accounts = accounts
        self._now_ms = now_ms

    def find(self, reference: str) -> VirtualKey:
        return find("key", reference, self._keys.list())

    def list(
        self, *, account: str | None = None, limit: int, cursor: str | None = None
    ) -> Page[VirtualKey]:
        keys = self._keys.list()
        if account is not None:
            account_id = self._accounts.find(account).id
            keys = [key for key in keys if key.account_id == account_id]
        return page_of(keys, limit=limit, cursor=cursor)

    async def create(self, account: str, name: str, terms: KeyTerms) -> tuple[VirtualKey, str]:
        """The key and its secret, shown this once."""
        account_id = self._accounts.find(account).id
        check_name(name)
        async with self._turn:
            check_free("key", name, self._keys.list())
            self._check_expiry(terms)
            check_limits(terms)
            return await self._keys.create(
                account_id=account_id,
                name=name,
                aliases=aliases_of(terms.get("aliases", ())),
                expires_at_ms=terms.get("expires_at_ms"),
                spend_cap_nanos=terms.get("spend_cap_nanos"),
                spend_period=terms.get("spend_period", "total"),
                limits=Limits(**terms.get("limits", {})),
            )

    async def update(self, reference: str, terms: KeyTerms) -> VirtualKey:
        key = self.find(reference)
        self._check_expiry(terms)
        check_limits(terms)
        if "aliases" in terms:
            terms = {**terms, "aliases": aliases_of(terms["aliases"])}
        if "name" in terms:
            check_name(terms["name"])
        if not terms:
            return key
        async with self._turn:
            if "name" in terms:
                check_free("key", terms["name"], self._keys.list(), own_id=key.id)
            return await self._keys.update(key.id, terms)

    async def disable(self, reference: str) -> VirtualKey:
        return await self.update(reference, {"disabled": True})

    async def enable(self, reference: str) -> VirtualKey:
        return await self.update(reference, {"disabled": False})

    async def rotate(self, reference: str) -> tuple[VirtualKey, str]:
        key_id = self.find(reference).id
        async with self._turn:
            return await self._keys.rotate(key_id)

    def _check_expiry(self, terms: KeyTerms) -> None:
        expires_at_ms = terms.get("expires_at_ms")
        if expires_at_ms is not None and expires_at_ms <= self._now_ms():
            raise Conflict(
                "expires_at is in the past; give a later time, or leave it out",
                param="expires_at",
                code="invalid_time",
            )
