"""Fills SQLite from the journal, in slices: entries, calls, balances, key spend and kept answers of
many calls in one transaction, together with how far the journal has been applied."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

import apsw

from merino.domain.ledger import REVENUE, in_currency
from merino.gateway.ports import Replay
from merino.pricing.margin import rate_in
from merino.storage.batches import COMPLETE as COMPLETE_ITEM
from merino.storage.database import UNSYNCED, synced
from merino.storage.outage import Outage
from merino.storage.records import (
    ACCOUNT_ID,
    CALL_COLUMNS,
    CHARGED,
    ID,
    KEY_ID,
    OVERRUN,
    PRICE_ID,
    UPSTREAM,
    Record,
    storable,
)
from merino.storage.sums import add_to_sums

APPLY_AFTER_S = 1.0
"""Calls are applied together: a transaction costs about as much as twenty of them. Whoever reads
before has them applied first."""
SLICE_CALLS_MAX = 128
BACKLOG_CALLS_MAX = 100_000
"""Calls waiting for SQLite above which no more holds are given: about 100 MB of memory."""
RETRY_S_MIN = 0.05
RETRY_S_MAX = 0.5
DAY_MS = 86_400_000

_INSERT_CALL = (
    f"INSERT INTO calls ({', '.join(CALL_COLUMNS)}) "  # noqa: S608 - names from our own dataclass
    f"VALUES ({', '.join('?' * len(CALL_COLUMNS))})"
)
_INSERT_ENTRY = (
    "INSERT INTO entries (at_ms, kind, debit_account, credit_account, amount_nanos, call_id,"
    " key_id, upstream_nanos, price_id, exchange) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ADD_TO_BALANCE = (
    "INSERT INTO balances VALUES (?, ?)"
    " ON CONFLICT DO UPDATE SET posted_nanos = posted_nanos + excluded.posted_nanos"
)
_ADD_TO_KEY_DAY = (
    "INSERT INTO key_days VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET spent_nanos = spent_nanos + excluded.spent_nanos"
)
_KEEP_REPLAY = "INSERT OR REPLACE INTO replays VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT_CALL = f"SELECT {', '.join(CALL_COLUMNS)} FROM calls WHERE id = ?"  # noqa: S608 - as above
_DELETE_CALL = "DELETE FROM calls WHERE id = ?"
_SET_APPLIED = "UPDATE meta SET value = ? WHERE name = 'applied_seq'"

UNBINDABLE = (OverflowError, TypeError, ValueError)
"""What apsw raises for a value that SQLite has no type for."""

_Entry = tuple[int, str, str, str, int, str, str, int, "str | None", "str | None"]


class Applier:
    """Owns what the journal has and SQLite does not yet have."""

    def __init__(
        self,
        connection: apsw.Connection,
        applied_seq: int,
        on_applied: Callable[[int], None],
        outage: Outage,
    ) -> None:
        self.applied_seq = applied_seq
        self.outage = outage
        self._connection = connection
        self._on_applied = on_applied
        self._waiting: deque[Record] = deque()
        self._replays: dict[bytes, Replay] = {}
        self._timer: asyncio.Handle | None = None
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        self._outage_seq = 0
        self._retry_s = RETRY_S_MIN
        self.currencies: dict[str, str] = dict(
            connection.execute("SELECT id, currency FROM accounts")
        )

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
            with synced(self._connection, UNSYNCED):  # the journal has it until this is on the disk
                try:
                    self._write(records)
                except (*UNBINDABLE, apsw.ConstraintError):
                    # What was settled is booked, whatever a vendor wrote into the rest of it.
                    self._write([storable(record) for record in records])
        except (apsw.Error, *UNBINDABLE) as error:
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

    def _write(self, records: Iterable[Record]) -> None:
        calls: list[tuple[object, ...]] = []
        entries: list[_Entry] = []
        balances: dict[str, int] = {}
        key_days: dict[tuple[str, int], int] = {}
        replays: list[tuple[object, ...]] = []
        items: list[tuple[object, ...]] = []
        late: list[tuple[str]] = []
        seq = 0
        for seq, kind, at_ms, row, replay in records:  # noqa: B007 - the last one is used below
            calls.append(row)
            charged = row[CHARGED]
            if charged:
                account_id, key_id = row[ACCOUNT_ID], row[KEY_ID]
                revenue = REVENUE
                currency = self.currencies.get(account_id, "USD")
                if currency != "USD":
                    revenue = in_currency(REVENUE, currency)
                entries += _entries(at_ms, row, revenue)
                balances[account_id] = balances.get(account_id, 0) - charged
                balances[revenue] = balances.get(revenue, 0) + charged
                day = (key_id, at_ms // DAY_MS)
                key_days[day] = key_days.get(day, 0) + charged
            if replay is not None and replay.item is not None:
                items.append((replay.call_id, replay.status, replay.body, *replay.item))
            elif replay is not None:
                replays.append(
                    (
                        replay.id,
                        replay.body_hash,
                        replay.call_id,
                        replay.status,
                        replay.content_type,
                        replay.body,
                        replay.at_ms,
                    )
                )
            if kind == "late":
                late.append((row[ID],))

        write = self._connection.executemany
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            if late:
                for replaced in late:
                    before = self._connection.execute(_SELECT_CALL, replaced).fetchall()
                    add_to_sums(self._connection, before, -1)
                write(_DELETE_CALL, late)
            write(_INSERT_CALL, calls)
            add_to_sums(self._connection, calls)
            if entries:
                write(_INSERT_ENTRY, entries)
                write(_ADD_TO_BALANCE, balances.items())
                write(_ADD_TO_KEY_DAY, [(*day, spent) for day, spent in key_days.items()])
            if replays:
                write(_KEEP_REPLAY, replays)
            if items:
                write(COMPLETE_ITEM, items)
            self._connection.execute(_SET_APPLIED, (seq,))
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                # After a full disk even this may fail; SQLite has then rolled back by itself.
                with contextlib.suppress(apsw.Error):
                    self._connection.execute("ROLLBACK")
            raise

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _entries(at_ms: int, row: tuple[object, ...], revenue: str) -> list[_Entry]:
    """The double entries of one charged call: up to its hold, and above it."""
    entries: list[_Entry] = []
    charged, overrun, upstream = row[CHARGED], row[OVERRUN], row[UPSTREAM]
    price_id = row[PRICE_ID]
    exchange = rate_in(price_id) if isinstance(price_id, str) else None
    assert isinstance(charged, int)
    assert isinstance(overrun, int)
    for kind, amount in (("settle", charged - overrun), ("overrun", overrun)):
        if amount:
            entries.append(
                (
                    at_ms,
                    kind,
                    row[ACCOUNT_ID],
                    revenue,
                    amount,
                    row[ID],
                    row[KEY_ID],
                    upstream,
                    price_id,
                    exchange,
                )  # type: ignore[arg-type]
            )
            upstream = 0  # what the upstream charges is told once
    return entries
