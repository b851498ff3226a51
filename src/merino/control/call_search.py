"""Which calls somebody looks for: any mix of conditions, also those that no index was made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from merino.control.usage import Cut
from merino.domain.call import CallRecord


@dataclass(frozen=True, slots=True)
class CallQuery:
    """All that match everything given, any of several values of one kind. Times are
    `[since_ms, until_ms)`; `classes` are first digits of the status; `id_part` is how the id begins
    or what is in it."""

    cut: Cut = field(default_factory=Cut)
    since_ms: int | None = None
    until_ms: int | None = None
    statuses: tuple[int, ...] = ()
    classes: tuple[int, ...] = ()
    error_codes: tuple[str, ...] = ()
    id_part: str = ""
    cost_min_nanos: int | None = None
    duration_min_ms: float | None = None
    first_token_min_ms: float | None = None
    streamed: bool | None = None

    @property
    def is_summed(self) -> bool:
        """Whether the sums of calls can tell how many there are."""
        return not (
            self.statuses
            or self.error_codes
            or self.id_part
            or self.cost_min_nanos
            or self.duration_min_ms
            or self.first_token_min_ms
            or self.streamed is not None
        )


@dataclass(frozen=True, slots=True)
class Found:
    """The newest first. `next_cursor` asks for what follows. What is rare may not fill a page in
    the time that a page may take: then `looked_back_to_ms` says how far was looked."""

    items: Sequence[CallRecord]
    next_cursor: str | None = None
    looked_back_to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Failures:
    """Calls that failed alike: the same code of the same status, of one key at one model."""

    status: int
    error_code: str
    key_id: str
    alias: str
    calls: int
    first_ms: int
    last_ms: int
    example_id: str
    message: str


@dataclass(frozen=True, slots=True)
class AddressUse:
    """Calls of a key from one network address, and how many of them were not answered well."""

    address: str
    calls: int
    failed: int
    first_ms: int
    last_ms: int


class CallSearch(Protocol):
    """Reads of call records by a query."""

    async def calls(self, wanted: CallQuery, *, limit: int, cursor: str | None = None) -> Found:
        """Without what was asked and answered. Raises `InvalidCall` for a cursor not from here."""
        ...

    async def count(self, wanted: CallQuery) -> int | None:
        """How many; `None` where only reading them all could tell."""
        ...

    async def addresses(self, key_id: str, *, limit: int) -> Sequence[AddressUse]:
        """Where the newest calls of a key came from, the latest first."""
        ...

    async def failures(self, wanted: CallQuery, *, limit: int) -> Sequence[Failures]:
        """The most frequent first, of the newest calls that failed."""
        ...
