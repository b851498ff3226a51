"""Conversations: named lists of items that calls go on from and add to. The relay keeps them
itself, or makes them at an upstream and remembers at which."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from typing import Any

import msgspec

from merino.domain.clock import DAY_MS
from merino.domain.errors import BodyTooLarge, InvalidCall
from merino.domain.kept import KeptConversation
from merino.domain.key import VirtualKey
from merino.gateway.kept import not_found
from merino.gateway.ports import Shelf
from merino.gateway.sealing import Sealer
from merino.gateway.state import RelayState
from merino.wire.fields import Fields, parse_fields, wrong_type
from merino.wire.kept_items import (
    Item,
    Page,
    list_object,
    listed,
    members_of,
    page_of,
    raw_items,
)
from merino.wire.state_paths import StatePath

ITEMS_AT_ONCE_MAX = 20
METADATA_MAX = 16
METADATA_NAME_MAX = 64
METADATA_TEXT_MAX = 512
_UPSTREAMS_DAYS = 3650
"""How long it is known which upstream has a conversation: longer than anybody asks for it."""

_encode = msgspec.json.encode


class Conversations:
    """Those of the relay. Methods that get a path raise `NotFound` if this account has no such
    conversation."""

    def __init__(
        self,
        shelf: Shelf,
        sealer: Sealer,
        state: RelayState,
        now_ms: Callable[[], int] = lambda: time_ns() // 1_000_000,
    ) -> None:
        self._shelf = shelf
        self._sealer = sealer
        self._state = state
        self._now_ms = now_ms

    @property
    def are_ours(self) -> bool:
        """Whether new ones are kept here."""
        return self._state.keeps

    async def find(self, path: StatePath, key: VirtualKey) -> KeptConversation:
        kept = await self._shelf.conversation(path.id, key.account_id)
        if kept is None:
            raise not_found(path)
        return kept

    async def note_upstreams(self, key: VirtualKey, answer: bytes, deployment: str) -> None:
        """Remember a conversation that an upstream has made."""
        try:
            made = msgspec.json.decode(answer, type=dict[str, Any]).get("id")
        except msgspec.DecodeError:
            made = None
        if isinstance(made, str) and made:
            now_ms = self._now_ms()
            until_ms = now_ms + _UPSTREAMS_DAYS * DAY_MS
            kept = KeptConversation(key.account_id, made, deployment, now_ms, until_ms)
            await self._shelf.add_conversation(kept)

    async def forget(self, kept: KeptConversation) -> None:
        await self._shelf.delete_conversation(kept.id, kept.account_id)

    async def create(self, key: VirtualKey, body: bytes) -> bytes:
        fields = parse_fields(body) if body.strip() else {}
        metadata = _metadata(fields)
        items = _items(fields)
        made_id = f"conv_{secrets.token_hex(24)}"
        self._check_room(key.account_id, body)
        now_ms = self._now_ms()
        kept = KeptConversation(
            key.account_id,
            made_id,
            None,
            now_ms,
            now_ms + self._keep_ms,
            self._sealer.seal(key.account_id, made_id, _encode(metadata)),
        )
        await self._shelf.add_conversation(
            kept, self._state.seal_items(key.account_id, made_id, items)
        )
        return self.object(kept)

    def object(self, kept: KeptConversation) -> bytes:
        plain = self._sealer.open(kept.account_id, kept.id, kept.sealed)
        return _encode(
            {
                "id": kept.id,
                "object": "conversation",
                "created_at": kept.created_at_ms // 1000,
                "metadata": msgspec.Raw(plain or b"{}"),
            }
        )

    async def update(self, kept: KeptConversation, body: bytes) -> bytes:
        fields = parse_fields(body)
        if "metadata" not in fields:
            raise InvalidCall(
                "Missing required parameter: 'metadata'.",
                param="metadata",
                code="missing_required_parameter",
            )
        changed = KeptConversation(
            kept.account_id,
            kept.id,
            None,
            kept.created_at_ms,
            self._now_ms() + self._keep_ms,
            self._sealer.seal(kept.account_id, kept.id, _encode(_metadata(fields))),
        )
        if not await self._shelf.change_conversation(changed):
            raise not_found(StatePath("conversations", kept.id))
        return self.object(changed)

    async def delete(self, kept: KeptConversation) -> bytes:
        if not await self._shelf.delete_conversation(kept.id, kept.account_id):
            raise not_found(StatePath("conversations", kept.id))
        return _encode({"id": kept.id, "object": "conversation.deleted", "deleted": True})

    # -- items -----------------------------------------------------------------------------------

    async def add_items(self, kept: KeptConversation, body: bytes) -> bytes:
        items = _items(parse_fields(body))
        if not items:
            raise InvalidCall(
                "Missing required parameter: 'items'.",
                param="items",
                code="missing_required_parameter",
            )
        self._check_room(kept.account_id, body)
        # Of this request alone, so that no two items get the same id.
        owner_id = f"{kept.id}\n{secrets.token_hex(8)}"
        sealed = self._state.seal_items(kept.account_id, owner_id, items)
        later = KeptConversation(
            kept.account_id, kept.id, None, kept.created_at_ms, self._now_ms() + self._keep_ms
        )
        if not await self._shelf.add_items(later, sealed):
            raise not_found(StatePath("conversations", kept.id))
        page = Page(limit=len(items), newest_first=False)
        return list_object(listed(items, owner_id), page)

    async def list_items(self, kept: KeptConversation, query: Mapping[str, Sequence[str]]) -> bytes:
        page = page_of(query)
        return list_object(await self._listed(kept), page)

    async def item(self, kept: KeptConversation, path: StatePath) -> bytes:
        wanted = _encode(path.item)
        for item in await self._listed(kept):
            if bytes(item["id"]) == wanted:
                return _encode(item)
        raise not_found(path)

    async def delete_item(self, kept: KeptConversation, path: StatePath) -> bytes:
        for item in await self._shelf.items(kept.id, kept.account_id):
            if item.id == path.item and await self._shelf.delete_item(item.number, kept.account_id):
                return self.object(kept)
        raise not_found(path)

    async def _listed(self, kept: KeptConversation) -> list[Item]:
        items = await self._state.items_of_conversation(kept.id, kept.account_id)
        return listed(items, kept.id)

    def _check_room(self, account_id: str, body: bytes) -> None:
        most = self._state.settings.account_bytes_max
        kept = self._shelf.bytes_of(account_id)
        if kept + len(body) > most:
            raise BodyTooLarge(
                f"This account keeps {kept:,} bytes of responses and conversations and may keep "
                f"{most:,}. Delete some with DELETE /v1/conversations/ID or /v1/responses/ID.",
                param="items",
                code="storage_full",
            )

    @property
    def _keep_ms(self) -> int:
        return self._state.settings.keep_days * DAY_MS


def _items(fields: Fields) -> list[msgspec.Raw]:
    given = fields.get("items")
    if given is not None and bytes(memoryview(given)[:1]) not in (b"[", b"n"):
        wrong_type("items", "an array", given)
    items = raw_items(given, "items")
    if len(items) > ITEMS_AT_ONCE_MAX:
        raise InvalidCall(
            f"Invalid 'items': expected at most {ITEMS_AT_ONCE_MAX} at a time, but got "
            f"{len(items)}.",
            param="items",
            code="array_above_max_length",
        )
    for place, each in enumerate(items):
        if not members_of(each):
            wrong_type(f"items[{place}]", "an object", each)
    return items


def _metadata(fields: Fields) -> dict[str, str]:
    given = fields.get("metadata")
    if given is None or bytes(given) == b"null":
        return {}
    try:
        found = msgspec.json.decode(given, type=dict[str, str])
    except msgspec.DecodeError:
        wrong_type("metadata", "an object of strings", given)
    if (
        len(found) > METADATA_MAX
        or max(map(len, found), default=0) > METADATA_NAME_MAX
        or max(map(len, found.values()), default=0) > METADATA_TEXT_MAX
    ):
        raise InvalidCall(
            f"Invalid 'metadata': expected at most {METADATA_MAX} pairs, names of at most "
            f"{METADATA_NAME_MAX} characters and texts of at most {METADATA_TEXT_MAX}.",
            param="metadata",
            code="invalid_value",
        )
    return found
