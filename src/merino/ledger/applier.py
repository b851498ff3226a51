"""Fills SQLite from the journal, in slices."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice

from merino.gateway.ports import Replay
from merino.ledger.booking import Booking
from merino.ledger.lines import (
    ACCOUNT_ID,
    CHARGED,
    Record,
)
from merino.ledger.outage import Outage
from merino.sqlite.database import (
    UNBINDABLE,
    Database,
    SqliteError,
)

APPLY_AFTER_S = 1.0
"""Calls are applied together: a transaction costs about as much as twenty of them. Whoever reads
before has them applied first."""
SLICE_CALLS_MAX = 128
BACKLOG_CALLS_MAX = 100_000
"""Calls waiting for SQLite above which no more holds are given: about 100 MB of memory."""
RETRY_S_MIN = 0.05
RETRY_S_MAX = 0.5


class Applier:
    """Owns what the journal has and SQLite does not yet have."""

    def __init__(
        self,
        database: Database,
        applied_seq: int,
        on_applied: Callable[[int], None],
        outage: Outage,
        booking: Booking,
    ) -> None:
        self.applied_seq = applied_seq
        self.outage = outage
        self._database = database
        self._on_applied = on_applied
        self._waiting: deque[Record] = deque()
        self._replays: dict[bytes, Replay] = {}
        self._timer: asyncio.Handle | None = None
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        self._outage_seq = 0
        self._retry_s = RETRY_S_MIN
        self._booking = booking

    @property
    def is_overfull(self) -> bool:
        """Whether no more holds may be given. In a long outage none may wait."""
        return self.outage.is_long or len(self._waiting) > BACKLOG_CALLS_MAX

    @property
    def backlog_calls(self) -> int:
        return len(self._waiting)

    def add(self, record: Record) -> None:
        self._waiting.append(record)
        replay: Replay | None = record[4]
        if replay is not None:
            self._replays[replay.id] = replay

    def schedule(self) -> None:
        """Apply soon, if there is anything."""
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_later(APPLY_AFTER_S, self._run)

    def replay(self, replay_id: bytes) -> Replay | None:
        """A kept answer that is not in SQLite yet."""
        return self._replays.get(replay_id)

    async def caught_up(self) -> None:
        """Return once all that waits now is in SQLite. That begins at once, slice by slice with the
        loop's other work in between, for all who ask together. Raises what SQLite refuses with."""
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if not self._awaited:
            self.stop()
            self._timer = loop.call_soon(self._run)
        self._awaited.append((self._waiting[-1][0], done))
        await done

    def _tell_awaited(self, error: Exception | None) -> None:
        left: list[tuple[int, asyncio.Future[None]]] = []
        for seq, done in self._awaited:
            if done.done():
                continue  # who waited was cancelled
            if error is not None:
                done.set_exception(error)
            elif seq <= self.applied_seq:
                done.set_result(None)
            else:
                left.append((seq, done))
        self._awaited = left

    @property
    def is_catching_up(self) -> bool:
        """Whether something waits that ended during an outage, or before its end."""
        return self.outage.error is not None or self.applied_seq < self._outage_seq

    def charged(self, account_id: str) -> list[tuple[int, int]]:
        """When and how much an account was charged by what waits."""
        return [
            (record[2], record[3][CHARGED])
            for record in self._waiting
            if record[3][ACCOUNT_ID] == account_id and record[3][CHARGED]
        ]

    def _run(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if not self.apply_slice():
            self._timer = loop.call_later(self._retry_s, self._run)
            self._retry_s = min(self._retry_s * 2, RETRY_S_MAX)
        elif self._waiting:
            # Calls come first: one slice for each turn of the loop.
            self._timer = loop.call_later(0, self._run)

    def apply_all(self) -> bool:
        """Apply everything now. False if SQLite cannot."""
        while self._waiting:
            if not self.apply_slice():
                return False
        return True

    def apply_slice(self) -> bool:
        """Apply the oldest slice. False if SQLite cannot now; nothing is lost by that."""
        records = self._next_slice()
        if not records:
            return True
        try:
            self._booking.book(self._database, records)
        except (SqliteError, *UNBINDABLE) as error:
            # Whatever it is, it is tried again: a relay that refuses calls must notice its end.
            self.outage.go_on(error)
            if self._awaited:
                self._tell_awaited(error)
            return False
        if self.outage.error is not None:
            self.outage.end()
            self._outage_seq = self._waiting[-1][0]
        self._retry_s = RETRY_S_MIN
        for record in records:
            self._waiting.popleft()
            replay: Replay | None = record[4]
            if replay is not None and self._replays.get(replay.id) is replay:
                del self._replays[replay.id]
        self.applied_seq = records[-1][0]
        if self._awaited:
            self._tell_awaited(None)
        self._on_applied(self.applied_seq)
        return True

    def _next_slice(self) -> list[Record]:
        records: list[Record] = []
        for record in islice(self._waiting, SLICE_CALLS_MAX):
            if record[1] == "late" and records:
                break  # it replaces a row that may be in this slice: that row goes first
            records.append(record)
        return records

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
