"""Fills SQLite from the journal, in slices, on the thread that writes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice

from merino.gateway.ports import Replay
from merino.ledger.booking import Booking
from merino.ledger.lines import Record
from merino.ledger.outage import Outage
from merino.sqlite.database import UNBINDABLE, SqliteError
from merino.sqlite.writer import Writer

APPLY_AFTER_S = 1.0
"""Calls are applied together: a transaction costs about as much as twenty of them. A read has them
applied first; so does a long backlog."""
SLICE_CALLS_MAX = 128
"""The thread's Python code keeps the event loop waiting, so slices are small."""
PAUSE_S = 0.005
"""The pause between slices, so that calls come first; skipped if a reader waits or the backlog is
long."""
_LONG_BACKLOG_CALLS = 25 * SLICE_CALLS_MAX
BACKLOG_CALLS_MAX = 100_000
"""With more calls than this waiting for SQLite, no more holds are given: about 100 MB of memory."""
RETRY_S_MIN = 0.05
RETRY_S_MAX = 0.5


class Applier:
    """Owns what the journal has and SQLite lacks. Used on the event loop only; an entry waits here
    until the thread has booked it."""

    def __init__(
        self,
        writer: Writer,
        applied_seq: int,
        on_applied: Callable[[int], None],
        outage: Outage,
        booking: Booking,
    ) -> None:
        self.applied_seq = applied_seq
        self.outage = outage
        self._writer = writer
        self._on_applied = on_applied
        self._booking = booking
        self._waiting: deque[Record] = deque()
        self._slice: list[Record] = []
        self._replays: dict[bytes, Replay] = {}
        self._timer: asyncio.Handle | None = None
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        self._outage_seq = 0
        self._retry_s = RETRY_S_MIN

    @property
    def is_overfull(self) -> bool:
        """Whether no more holds may be given. In a long outage nothing may wait."""
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
        """Apply soon if there is anything, and at once if there is a whole slice."""
        waiting = len(self._waiting)
        if not waiting or self._slice or self.outage.error is not None:
            return
        if waiting >= SLICE_CALLS_MAX:
            self._apply()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(APPLY_AFTER_S, self._apply)

    def replay(self, replay_id: bytes) -> Replay | None:
        """A kept answer that may not be in SQLite yet."""
        return self._replays.get(replay_id)

    async def caught_up(self) -> None:
        """Return once everything that waits now is in SQLite. It starts at once, slice by slice,
        for all callers together. Raises SQLite's error."""
        if not self._waiting:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.append((self._waiting[-1][0], done))
        self._apply()
        await done

    @property
    def is_catching_up(self) -> bool:
        """Whether calls still wait that ended before or during an outage."""
        return self.outage.error is not None or self.applied_seq < self._outage_seq

    def _apply(self) -> None:
        """Have the oldest slice booked, unless one is being booked."""
        self.stop()
        if not self._slice and (records := self._next_slice()):
            self._slice = records
            self._writer.submit(partial(self._booking.book, records=records), self._booked)

    def _booked(self, _: None, error: BaseException | None) -> None:
        records, self._slice = self._slice, []
        if error is not None and not isinstance(error, (SqliteError, *UNBINDABLE)):
            self._tell_awaited(error)
            raise error
        self._ended(records, error)
        if error is not None:
            self._wait(self._retry_s)
            self._retry_s = min(self._retry_s * 2, RETRY_S_MAX)
        elif self._awaited or len(self._waiting) > _LONG_BACKLOG_CALLS:
            self._apply()
        elif len(self._waiting) >= SLICE_CALLS_MAX:
            self._wait(PAUSE_S)
        elif self._waiting:
            self._wait(APPLY_AFTER_S)

    def _wait(self, seconds: float) -> None:
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._apply)

    async def apply_all(self) -> bool:
        """Apply everything. False if SQLite cannot."""
        try:
            await self.caught_up()
        except (SqliteError, *UNBINDABLE):
            return False
        return True

    def apply_slice(self) -> bool:
        """Apply the oldest slice now, before there is an event loop. False if SQLite cannot; then
        nothing is lost."""
        records = self._next_slice()
        error: Exception | None = None
        try:
            self._booking.book(self._writer.database, records)
        except (SqliteError, *UNBINDABLE) as failed:
            error = failed
        self._ended(records, error)
        return error is None

    def _ended(self, records: list[Record], error: Exception | None) -> None:
        if error is not None:
            # Every error is tried again: a relay that refuses calls must notice when the cause
            # ends.
            self.outage.go_on(error)
            self._tell_awaited(error)
            return
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
        self._tell_awaited(None)
        self._on_applied(self.applied_seq)

    def _tell_awaited(self, error: BaseException | None) -> None:
        left: list[tuple[int, asyncio.Future[None]]] = []
        for seq, done in self._awaited:
            if done.done():
                continue  # the waiting caller was cancelled
            if error is not None:
                done.set_exception(error)
            elif seq <= self.applied_seq:
                done.set_result(None)
            else:
                left.append((seq, done))
        self._awaited = left

    def _next_slice(self) -> list[Record]:
        records: list[Record] = []
        for record in islice(self._waiting, SLICE_CALLS_MAX):
            if record[1] == "late" and records:
                break  # it replaces a row that may be in this slice: that row goes first
            records.append(record)
        return records

    def stop(self) -> None:
        """Begin no more slices unasked."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
