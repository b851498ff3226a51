"""What the relay keeps of responses and conversations, as it lies in the database: sealed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class SealedItem(NamedTuple):
    """One item of a conversation. `number` is its place among all items; 0 while it has none."""

    id: str
    sealed: bytes
    number: int = 0


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """A response and its own input. `item_ids` are those by which later calls may name its items;
    `said` goes to the conversation that it is part of."""

    account_id: str
    id: str
    previous_id: str | None
    created_at_ms: int
    expires_at_ms: int
    sealed: bytes
    item_ids: tuple[str, ...] = ()
    conversation_id: str | None = None
    said: tuple[SealedItem, ...] = ()

    @property
    def size_bytes(self) -> int:
        return len(self.sealed)


@dataclass(frozen=True, slots=True)
class KeptConversation:
    """`deployment` is whose upstream keeps it; `None`: the relay itself does."""

    account_id: str
    id: str
    deployment: str | None
    created_at_ms: int
    expires_at_ms: int
    sealed: bytes = b""


@dataclass(frozen=True, slots=True)
class BackgroundJob:
    """A response that is made in the background and has not ended. `is_native`: an upstream makes
    it in its own background, and is asked how far it is."""

    call_id: str
    account_id: str
    key_id: str
    response_id: str
    alias: str
    deployment: str
    is_native: bool
    at_ms: int
    held_nanos: int
    output_tokens: int
    expires_after_s: float
    sealed: bytes
