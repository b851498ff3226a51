"""Batches, and the queue of their items: leased in chunks, ended with the call that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, LiteralString, NamedTuple

import msgspec

from merino.domain.batch import (
    UNFINISHED,
    Batch,
    BatchCounts,
    BatchItem,
    BatchProblem,
    BatchStatus,
    ItemRef,
    StoredFile,
)
from merino.domain.errors import NotFound
from merino.ledger.lines import Record
from merino.sqlite.database import Database, Row, Values, marks
from merino.sqlite.readers import Readers
from merino.sqlite.writer import Writer
from merino.storage.calls import Reader
from merino.storage.files import FileStore

_COLUMNS = (
    "id, account_id, key_id, endpoint, input_file_id, status, created_at_ms, expires_at_ms,"
    " metadata, moments_ms, problems, total, completed, failed, output_file_id, error_file_id,"
    " output_expires_after_s"
)
_WAITS, _LEASED, _ANSWERED, _FAILED = "0", "1", "2", "3"

# Each statement names its index: SQLite does not know how many items have ended, and would rather
# walk over all of them, with their answers. Items that were tried and are due again go first, then
# items whose worker did not come back, then untried ones, in the order of the file.
_IS_WAITING = (
    f"batch_items INDEXED BY batch_items_waiting WHERE batch_id = :batch AND state = {_WAITS}"
)
_IS_LEASED = (
    f"batch_items INDEXED BY batch_items_leased WHERE batch_id = :batch AND state = {_LEASED}"
)
# Two workers that claim at once cannot get the same item: the second one finds other rows.
_CLAIM = f"""
UPDATE batch_items SET state = {_LEASED}, worker = :worker, lease_until_ms = :until,
    tries = tries + 1
WHERE batch_id = :batch AND number IN (
    SELECT number FROM (SELECT number FROM {_IS_WAITING} AND not_before_ms > 0
        AND not_before_ms <= :now ORDER BY not_before_ms, number LIMIT :limit)
    UNION ALL SELECT number FROM (SELECT number FROM {_IS_LEASED}
        AND lease_until_ms <= :now ORDER BY lease_until_ms LIMIT :limit)
    UNION ALL SELECT number FROM (SELECT number FROM {_IS_WAITING} AND not_before_ms = 0
        ORDER BY number LIMIT :limit)
    LIMIT :limit)
RETURNING number, offset, size_bytes, tries
"""
_HAS_OPEN = f"SELECT EXISTS (SELECT 1 FROM {_IS_WAITING}) OR EXISTS (SELECT 1 FROM {_IS_LEASED})"
_UPDATE_LEASED = "UPDATE batch_items INDEXED BY batch_items_leased SET"
_RENEW = f"{_UPDATE_LEASED} lease_until_ms = ? WHERE state = {_LEASED} AND worker = ?"
_TAKE_BACK = (
    f"{_UPDATE_LEASED} state = {_WAITS}, worker = NULL WHERE state = {_LEASED} AND worker <> ?"
)
_RELEASE = (
    f"UPDATE batch_items SET state = {_WAITS}, worker = NULL, not_before_ms = ?, tries = tries - ?"
    f" WHERE batch_id = ? AND number = ? AND state = {_LEASED}"
)
_FAIL = (
    f"UPDATE batch_items SET state = {_FAILED}, call_id = ?, status = ?, answer = ?"
    f" WHERE batch_id = ? AND number = ? AND state < {_ANSWERED}"
)
_FORGET = """
DELETE FROM batch_items WHERE batch_id = :batch AND number IN
    (SELECT number FROM batch_items WHERE batch_id = :batch ORDER BY number LIMIT :limit)
"""
COMPLETE = f"""
UPDATE batch_items SET state = {_ANSWERED}, call_id = ?, status = ?, answer = ?
WHERE batch_id = ? AND number = ? AND state < {_ANSWERED}
"""

_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode
_decode_moments = msgspec.json.Decoder(dict[BatchStatus, int]).decode
_decode_problems = msgspec.json.Decoder(tuple[BatchProblem, ...]).decode


def end_items(database: Database, ended: Sequence[Record], _replaced: Sequence[Row]) -> None:
    """A follower of the ledger's booking: an item ends in the transaction that books its call."""
    answered = [
        (replay.call_id, replay.status, replay.body, *replay.item)
        for *_, replay in ended
        if replay is not None and replay.item is not None
    ]
    if answered:
        database.execute_many(COMPLETE, answered)


class EndedItem(NamedTuple):
    """`answer` is the body that came back, or `None` if nothing was asked."""

    number: int
    custom_id: str
    is_answered: bool
    call_id: str | None
    status: int | None
    answer: bytes | None


class BatchStore:
    """`control.ports.Batches` and `batch.worker.Queue`."""

    def __init__(
        self,
        writer: Writer,
        points: Readers,
        files: FileStore,
        read: Reader,
        now_ms: Callable[[], int],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._writer = writer
        self._points = points
        self._files = files
        self._read = read
        self._now_ms = now_ms
        self._catch_up = catch_up

    # -- batches ---------------------------------------------------------------------------------

    async def create(self, batch: Batch) -> bool:
        """False if its input file is gone."""
        row = _row_of(batch)
        is_there = "EXISTS (SELECT 1 FROM files WHERE id = ?)"
        created = await self._writer.write(
            "creating the batch",
            lambda database: database.change(
                f"INSERT INTO batches ({_COLUMNS}) SELECT {marks(17)} WHERE {is_there}",
                (*row, batch.input_file_id),
            ),
        )
        return bool(created)

    async def find(self, batch_id: str) -> Batch | None:
        return await self._points.run(lambda database: _find(database, batch_id))

    async def list(self, account_id: str, *, after: str | None, limit: int) -> Sequence[Batch]:
        """Newest first."""

        def read(database: Database) -> Sequence[Batch]:
            beyond, since = "", ()
            if after is not None:
                found = _find(database, after)
                if found is None or found.account_id != account_id:
                    raise NotFound(f"No batch found with id '{after[:100]}'.", param="after")
                beyond, since = " AND (created_at_ms, id) < (?, ?)", (found.created_at_ms, found.id)
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM batches WHERE account_id = ?{beyond}"
                " ORDER BY created_at_ms DESC, id DESC LIMIT ?",
                (account_id, *since, limit),
            )
            return [_batch_of(row) for row in rows]

        return await self._points.run(read)

    async def unfinished(self) -> Sequence[Batch]:
        """Oldest first."""

        def read(database: Database) -> Sequence[Batch]:
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM batches WHERE status IN"
                " ('validating', 'in_progress', 'finalizing', 'cancelling') ORDER BY created_at_ms"
            )
            return [_batch_of(row) for row in rows]

        return await self._points.run(read)

    async def advance(
        self,
        batch: Batch,
        status: BatchStatus,
        problems: Sequence[BatchProblem] = (),
        total: int | None = None,
    ) -> bool:
        """Give it another status, unless its status is no longer the one in `batch`."""
        values = (
            status,
            self._moments(batch, status),
            msgspec.json.encode(tuple(problems) or batch.problems).decode(),
            total,
            batch.id,
            batch.status,
        )
        advanced = await self._writer.write(
            "changing the batch",
            lambda database: database.change(
                "UPDATE batches SET status = ?, moments_ms = ?, problems = ?,"
                " total = coalesce(?, total) WHERE id = ? AND status = ?",
                values,
            ),
        )
        return bool(advanced)

    async def finish(
        self,
        batch: Batch,
        status: BatchStatus,
        counts: BatchCounts,
        files: Mapping[str, StoredFile],
    ) -> None:
        """End the batch, all or nothing: its files are written and its items are no longer needed.
        These items then are `leftovers`."""
        output, error = files.get("output"), files.get("error")
        values = (
            status,
            self._moments(batch, status),
            counts.total,
            counts.completed,
            counts.failed,
            None if output is None else output.id,
            None if error is None else error.id,
            batch.id,
        )

        def write(database: Database) -> None:
            for file in files.values():
                self._files.insert(database, file)
            database.execute(
                "UPDATE batches SET status = ?, moments_ms = ?, total = ?, completed = ?,"
                " failed = ?, output_file_id = ?, error_file_id = ? WHERE id = ?",
                values,
            )

        await self._writer.write("finishing the batch", write)

    # -- the queue -------------------------------------------------------------------------------

    async def forget_items(self, batch_id: str, limit: int) -> int:
        """Delete at most `limit` items, and return how many."""
        values = {"batch": batch_id, "limit": limit}
        return await self._change("clearing the batch", _FORGET, values)

    async def leftovers(self) -> Sequence[str]:
        """Batches that have ended and still have items."""

        def read(database: Database) -> Sequence[str]:
            found: list[str] = []
            last = ""
            while True:
                last = database.only(
                    "SELECT min(batch_id) FROM batch_items WHERE batch_id > ?", (last,)
                )
                if last is None:
                    return found
                batch = _find(database, last)
                if batch is None or batch.status not in UNFINISHED:
                    found.append(last)

        return await self._points.run(read)

    async def add_items(self, batch_id: str, items: Sequence[tuple[int, str, int, int]]) -> None:
        """Add items, each as number, custom id, offset and size in the file."""
        rows = [(batch_id, *item) for item in items]
        await self._writer.write(
            "queueing the batch",
            lambda database: database.execute_many(
                "INSERT INTO batch_items (batch_id, number, custom_id, offset, size_bytes)"
                " VALUES (?, ?, ?, ?, ?)",
                rows,
            ),
            lasts=False,
        )

    async def claim(
        self, batch_id: str, worker: str, *, limit: int, lease_ms: int
    ) -> list[BatchItem]:
        """Lease at most `limit` items that are waiting, or whose lease ran out."""
        # An item whose lease ran out while the database was locked may still have been answered.
        await self._catch_up()
        now_ms = self._now_ms()
        bound = {
            "batch": batch_id,
            "worker": worker,
            "until": now_ms + lease_ms,
            "now": now_ms,
            "limit": limit,
        }

        rows = await self._writer.write(
            "claiming items",
            lambda database: database.execute(_CLAIM, bound).fetchall(),
            lasts=False,
        )
        items = [
            BatchItem(ItemRef(batch_id, number), offset, size, tries)
            for number, offset, size, tries in rows
        ]
        return sorted(items, key=lambda item: item.ref.number)

    async def renew(self, worker: str, *, lease_ms: int) -> None:
        """Extend the lease of items that a worker still works on."""
        await self._change("renewing leases", _RENEW, (self._now_ms() + lease_ms, worker))

    async def release(self, ref: ItemRef, *, after_ms: int = 0, counts: bool = True) -> None:
        """Put items back into the queue, to be tried after `after_ms` at the earliest. With
        `counts`, the try counts against the limit."""
        values = (self._now_ms() + after_ms, 0 if counts else 1, *ref)
        await self._change("releasing an item", _RELEASE, values)

    async def release_others(self, worker: str) -> None:
        """Take back what other workers leased. Only call this when they are known to be dead."""
        await self._change("taking leases back", _TAKE_BACK, (worker,))

    async def fail(self, ref: ItemRef, call_id: str | None, status: int, answer: bytes) -> None:
        """End an item with an error."""
        await self._change("ending an item", _FAIL, (call_id, status, answer, *ref))

    async def has_open(self, batch_id: str) -> bool:
        """Whether any item waits or is leased."""
        bound = {"batch": batch_id}
        return bool(await self._points.run(lambda database: database.only(_HAS_OPEN, bound)))

    async def _change(self, what: str, sql: LiteralString, values: Values) -> int:
        """A change of the queue. If it is lost, a worker makes it again."""
        return await self._writer.write(
            what, lambda database: database.change(sql, values), lasts=False
        )

    async def read_items(
        self, batch_id: str, consume: Callable[[Iterator[EndedItem]], Any], /
    ) -> Any:
        """Give every item to `consume`, off the loop, in the order of the file. Answers from before
        this call are included."""

        def read(database: Database) -> Any:
            rows = database.execute(
                "SELECT number, custom_id, state, call_id, status, answer FROM batch_items"
                " WHERE batch_id = ? ORDER BY number",
                (batch_id,),
            )
            return consume(
                EndedItem(number, custom_id, state == int(_ANSWERED), call_id, status, answer)
                for number, custom_id, state, call_id, status, answer in rows
            )

        return await self._read(read)

    def _moments(self, batch: Batch, status: BatchStatus) -> str:
        return msgspec.json.encode({**batch.moments_ms, status: self._now_ms()}).decode()


def _find(database: Database, batch_id: str) -> Batch | None:
    row = database.one(f"SELECT {_COLUMNS} FROM batches WHERE id = ?", (batch_id,))
    return None if row is None else _batch_of(row)


def _row_of(batch: Batch) -> tuple[Any, ...]:
    return (
        batch.id,
        batch.account_id,
        batch.key_id,
        batch.endpoint,
        batch.input_file_id,
        batch.status,
        batch.created_at_ms,
        batch.expires_at_ms,
        msgspec.json.encode(batch.metadata).decode(),
        msgspec.json.encode(batch.moments_ms).decode(),
        msgspec.json.encode(batch.problems).decode(),
        batch.counts.total,
        batch.counts.completed,
        batch.counts.failed,
        batch.output_file_id,
        batch.error_file_id,
        batch.output_expires_after_s,
    )


def _batch_of(row: Sequence[Any]) -> Batch:
    return Batch(
        *row[:8],
        metadata=_decode_metadata(row[8]),
        moments_ms=_decode_moments(row[9]),
        problems=_decode_problems(row[10]),
        counts=BatchCounts(*row[11:14]),
        output_file_id=row[14],
        error_file_id=row[15],
        output_expires_after_s=row[16],
    )
