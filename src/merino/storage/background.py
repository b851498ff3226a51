"""Responses in the background: what has not ended, and what it has said so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from merino.domain.kept import BackgroundJob
from merino.domain.ledger import Hold
from merino.ledger.lines import ID, Record
from merino.sqlite.database import Database, Row, columns_of, marks
from merino.sqlite.writer import Writer
from merino.storage.calls import Reader

_COLUMNS = ", ".join(columns_of(BackgroundJob))
_DELETE = "DELETE FROM background_jobs WHERE call_id = ?"
_DELETE_AT_ONCE = 200


def end_jobs(database: Database, ended: Sequence[Record], _replaced: Sequence[Row]) -> None:
    """A follower of the ledger's booking: a job ends in the transaction that books its call."""
    if database.only("SELECT EXISTS (SELECT 1 FROM background_jobs)"):
        database.execute_many(_DELETE, [(row[ID],) for _, _, _, row, *_ in ended])


class OpenJobs:
    """Known before anything is booked: a recovery must not expire what these hold."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.call_ids = frozenset(
            call_id for (call_id,) in database.execute("SELECT call_id FROM background_jobs")
        )

    def holds(self) -> list[Hold]:
        """What is held for them, from now on."""
        rows = self._database.execute(
            "SELECT call_id, account_id, key_id, held_nanos, at_ms, expires_after_s"
            " FROM background_jobs"
        )
        return [Hold(*row) for row in rows]


class BackgroundStore:
    """`gateway.ports.Jobs`."""

    def __init__(self, writer: Writer, read: Reader, now_ms: Callable[[], int]) -> None:
        self._writer = writer
        self._read = read
        self._now_ms = now_ms

    async def add(self, job: BackgroundJob) -> None:
        values = tuple([getattr(job, name) for name in columns_of(BackgroundJob)])
        await self._writer.write(
            "beginning the response",
            lambda database: database.execute(
                f"INSERT INTO background_jobs ({_COLUMNS}) VALUES ({marks(len(values))})", values
            ),
        )

    async def left_over(self) -> Sequence[BackgroundJob]:
        """Those that have not ended."""
        rows = await self._read(
            lambda database: list(database.execute(f"SELECT {_COLUMNS} FROM background_jobs"))
        )
        jobs = [BackgroundJob(*row) for row in rows]
        return [replace(each, is_native=bool(each.is_native)) for each in jobs]

    async def say(self, said: Sequence[tuple[str, str, bytes]]) -> None:
        """Keep more of what responses have said: account, response, sealed events."""
        now_ms = self._now_ms()
        rows = [(account_id, response_id, now_ms, data) for account_id, response_id, data in said]
        await self._writer.write(
            "keeping what a response has said",
            lambda database: database.execute_many(
                "INSERT INTO background_events (account_id, response_id, at_ms, sealed)"
                " VALUES (?, ?, ?, ?)",
                rows,
            ),
            lasts=False,
        )

    async def said(self, response_id: str, account_id: str) -> Sequence[bytes]:
        """All that it has said, sealed as it was kept."""
        rows = await self._read(
            lambda database: list(
                database.execute(
                    "SELECT sealed FROM background_events WHERE account_id = ? AND response_id = ?"
                    " ORDER BY number",
                    (account_id, response_id),
                )
            )
        )
        return [sealed for (sealed,) in rows]

    async def forget(self, before_ms: int) -> int:
        """Delete some of what was said before then; returns how much."""
        return await self._writer.write(
            "deleting what old responses have said",
            lambda database: database.change(
                "DELETE FROM background_events WHERE number IN (SELECT number FROM"
                " background_events WHERE at_ms < ? LIMIT ?)",
                (before_ms, _DELETE_AT_ONCE),
            ),
        )
