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
from merino.domain.errors import Conflict, InvalidCall
from merino.domain.key import VirtualKey
from merino.domain.limits import Limits

KEEP_OLD_S_MAX = 30 * 86_400
"""Longer than that are two keys."""


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
            if "old_expires_at_ms" in terms:
                terms = {**terms, "old_expires_at_ms": self._old_expiry(key.id, terms)}
            if "name" in terms:
                check_free("key", terms["name"], self._keys.list(), own_id=key.id)
            return await self._keys.update(key.id, terms)

    async def disable(self, reference: str) -> VirtualKey:
        return await self.update(reference, {"disabled": True})

    async def enable(self, reference: str) -> VirtualKey:
        return await self.update(reference, {"disabled": False})

    async def rotate(self, reference: str, keep_old_s: int = 0) -> tuple[VirtualKey, str]:
        """A new secret, shown this once; the old one is good for `keep_old_s` more."""
        key_id = self.find(reference).id
        if not 0 <= keep_old_s <= KEEP_OLD_S_MAX:
            raise InvalidCall(
                f"keep_old must be 0 to {KEEP_OLD_S_MAX // 86_400} days",
                param="keep_old",
                code="invalid_time",
            )
        async with self._turn:
            return await self._keys.rotate(key_id, keep_old_s)

    def _old_expiry(self, key_id: str, terms: KeyTerms) -> int | None:
        """Until when the secret before the last rotation is good; "none" ends it now. One that has
        ended stays so: nobody is given back what they were told is void."""
        now_ms = self._now_ms()
        ends_at_ms = self._keys.get(key_id).old_expires_at_ms
        wanted = terms.get("old_expires_at_ms")
        if wanted is None:
            return None if ends_at_ms is None else min(now_ms, ends_at_ms)
        if ends_at_ms is None or ends_at_ms <= now_ms:
            raise Conflict(
                "This key has no old secret that is still good; `rotate` with `keep_old` keeps one",
                param="old_expires_at",
                code="no_old_secret",
            )
        if wanted <= now_ms:
            raise Conflict(
                "old_expires_at is in the past; give a later time, or none to end it now",
                param="old_expires_at",
                code="invalid_time",
            )
        return min(wanted, now_ms + KEEP_OLD_S_MAX * 1000)

    def _check_expiry(self, terms: KeyTerms) -> None:
        expires_at_ms = terms.get("expires_at_ms")
        if expires_at_ms is not None and expires_at_ms <= self._now_ms():
            raise Conflict(
                "expires_at is in the past; give a later time, or leave it out",
                param="expires_at",
                code="invalid_time",
            )
