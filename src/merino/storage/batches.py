"""Batches, and the queue of their items: leased in chunks, ended with the call that answers."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import apsw
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
from merino.storage.calls import Reader
from merino.storage.database import fetch_one, writing
from merino.storage.files import FileStore

_COLUMNS = (
    "id, account_id, key_id, endpoint, input_file_id, status, created_at_ms, expires_at_ms,"
    " metadata, moments_ms, problems, total, completed, failed, output_file_id, error_file_id,"
    " output_expires_after_s"
)
_WAITS, _LEASED, _ANSWERED, _FAILED = range(4)

# Two workers that claim at once cannot get the same item: whoever comes second finds other rows.
_CLAIM = f"""
UPDATE batch_items SET state = {_LEASED}, worker = :worker, lease_until_ms = :until,
    tries = tries + 1
WHERE batch_id = :batch AND number IN (
    SELECT number FROM batch_items WHERE batch_id = :batch AND state < {_ANSWERED}
        AND (state = {_WAITS} AND not_before_ms <= :now
            OR state = {_LEASED} AND lease_until_ms <= :now)
    ORDER BY number LIMIT :limit)
RETURNING number, offset, size_bytes, tries
"""  # noqa: S608 - our own words
COMPLETE = f"""
UPDATE batch_items SET state = {_ANSWERED}, call_id = ?, status = ?, answer = ?
WHERE batch_id = ? AND number = ? AND state < {_ANSWERED}
"""  # noqa: S608 - our own words
"""Run by the applier in the transaction that books the call."""

_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode
_decode_moments = msgspec.json.Decoder(dict[BatchStatus, int]).decode
_decode_problems = msgspec.json.Decoder(tuple[BatchProblem, ...]).decode


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
        connection: apsw.Connection,
        files: FileStore,
        read: Reader,
        now_ms: Callable[[], int],
        catch_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._files = files
        self._read = read
        self._now_ms = now_ms
        self._catch_up = catch_up

    # -- batches ---------------------------------------------------------------------------------

    def create(self, batch: Batch) -> None:
        with writing(self._connection, "creating the batch") as connection:
            connection.execute(
                f"INSERT INTO batches ({_COLUMNS}) VALUES ({', '.join('?' * 17)})",  # noqa: S608 - our own words
                _row_of(batch),
            )

    def find(self, batch_id: str) -> Batch | None:
        row = fetch_one(
            self._connection,
            f"SELECT {_COLUMNS} FROM batches WHERE id = ?",  # noqa: S608 - our own words
            (batch_id,),
        )
        return None if row is None else self._counted(_batch_of(row))

    def list(self, account_id: str, *, after: str | None, limit: int) -> Sequence[Batch]:
        """The newest first."""
        since: tuple[int, str] = (0, "")
        if after is not None:
            found = self.find(after)
            if found is None or found.account_id != account_id:
                raise NotFound(f"No batch found with id '{after[:100]}'.", param="after")
            since = (found.created_at_ms, found.id)
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE account_id = :account"  # noqa: S608 - our own words
            " AND (:after IS NULL OR (created_at_ms, id) < (:at_ms, :id))"
            " ORDER BY created_at_ms DESC, id DESC LIMIT :limit",
            {
                "account": account_id,
                "after": after,
                "at_ms": since[0],
                "id": since[1],
                "limit": limit,
            },
        )
        return [self._counted(_batch_of(row)) for row in rows]

    def unfinished(self) -> Sequence[Batch]:
        """The oldest first, without counts."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE status IN"  # noqa: S608 - our own words
            " ('validating', 'in_progress', 'finalizing', 'cancelling') ORDER BY created_at_ms"
        )
        return [_batch_of(row) for row in rows]

    def advance(
        self,
        batch: Batch,
        status: BatchStatus,
        problems: Sequence[BatchProblem] = (),
        total: int | None = None,
    ) -> bool:
        """Give it another status, unless it has another one than `batch` says by now."""
        with writing(self._connection, "changing the batch") as connection:
            connection.execute(
                "UPDATE batches SET status = ?, moments_ms = ?, problems = ?,"
                " total = coalesce(?, total) WHERE id = ? AND status = ?",
                (
                    status,
                    self._moments(batch, status),
                    msgspec.json.encode(tuple(problems) or batch.problems).decode(),
                    total,
                    batch.id,
                    batch.status,
                ),
            )
            return bool(connection.changes())

    def finish(
        self,
        batch: Batch,
        status: BatchStatus,
        counts: BatchCounts,
        files: Mapping[str, StoredFile],
    ) -> None:
        """The end: its files are there, its items are not needed any more. All or nothing."""
        with writing(self._connection, "finishing the batch") as connection:
            for file in files.values():
                self._files.insert(file)
            output, error = files.get("output"), files.get("error")
            connection.execute(
                "UPDATE batches SET status = ?, moments_ms = ?, total = ?, completed = ?,"
                " failed = ?, output_file_id = ?, error_file_id = ? WHERE id = ?",
                (
                    status,
                    self._moments(batch, status),
                    counts.total,
                    counts.completed,
                    counts.failed,
                    None if output is None else output.id,
                    None if error is None else error.id,
                    batch.id,
                ),
            )
            connection.execute("DELETE FROM batch_items WHERE batch_id = ?", (batch.id,))

    def counts(self, batch: Batch) -> BatchCounts:
        found = dict(
            self._connection.execute(
                "SELECT state, count(*) FROM batch_items WHERE batch_id = ? GROUP BY state",
                (batch.id,),
            )
        )
        return BatchCounts(batch.counts.total, found.get(_ANSWERED, 0), found.get(_FAILED, 0))

    # -- the queue -------------------------------------------------------------------------------

    def drop_items(self, batch_id: str) -> None:
        with writing(self._connection, "clearing the batch") as connection:
            connection.execute("DELETE FROM batch_items WHERE batch_id = ?", (batch_id,))

    def add_items(self, batch_id: str, items: Sequence[tuple[int, str, int, int]]) -> None:
        """Items as number, custom id, offset and size in the file."""
        with writing(self._connection, "queueing the batch") as connection:
            connection.executemany(
                "INSERT INTO batch_items (batch_id, number, custom_id, offset, size_bytes)"
                " VALUES (?, ?, ?, ?, ?)",
                [(batch_id, *item) for item in items],
            )

    def claim(self, batch_id: str, worker: str, *, limit: int, lease_ms: int) -> list[BatchItem]:
        """Lease at most `limit` items that wait, or whose lease ran out."""
        # Whose lease ran out while the database was locked may have been answered all the same.
        self._catch_up()
        now_ms = self._now_ms()
        with writing(self._connection, "claiming items") as connection:
            rows: list[tuple[Any, ...]] = connection.execute(
                _CLAIM,
                {
                    "batch": batch_id,
                    "worker": worker,
                    "until": now_ms + lease_ms,
                    "now": now_ms,
                    "limit": limit,
                },
            ).fetchall()
        items = [
            BatchItem(ItemRef(batch_id, number), offset, size, tries)
            for number, offset, size, tries in rows
        ]
        return sorted(items, key=lambda item: item.ref.number)

    def renew(self, worker: str, *, lease_ms: int) -> None:
        """Keep what a worker still works at."""
        with writing(self._connection, "renewing leases") as connection:
            connection.execute(
                f"UPDATE batch_items SET lease_until_ms = ? WHERE state = {_LEASED} AND worker = ?",  # noqa: S608 - our own words
                (self._now_ms() + lease_ms, worker),
            )

    def release(self, ref: ItemRef, *, after_ms: int = 0, counts: bool = True) -> None:
        """Back into the queue, not to be tried before `after_ms` have passed. With `counts` the
        try is one of those it has."""
        with writing(self._connection, "releasing an item") as connection:
            connection.execute(
                f"UPDATE batch_items SET state = {_WAITS}, worker = NULL, not_before_ms = ?,"  # noqa: S608 - our own words
                f" tries = tries - ? WHERE batch_id = ? AND number = ? AND state = {_LEASED}",
                (self._now_ms() + after_ms, 0 if counts else 1, *ref),
            )

    def release_others(self, worker: str) -> None:
        """Take back what other workers leased. Only for who knows that they are dead."""
        with writing(self._connection, "taking leases back") as connection:
            connection.execute(
                f"UPDATE batch_items SET state = {_WAITS}, worker = NULL"  # noqa: S608 - our own words
                f" WHERE state = {_LEASED} AND worker <> ?",
                (worker,),
            )

    def fail(self, ref: ItemRef, call_id: str | None, status: int, answer: bytes) -> None:
        """End an item with an error."""
        with writing(self._connection, "ending an item") as connection:
            connection.execute(
                f"UPDATE batch_items SET state = {_FAILED}, call_id = ?, status = ?, answer = ?"  # noqa: S608 - our own words
                f" WHERE batch_id = ? AND number = ? AND state < {_ANSWERED}",
                (call_id, status, answer, *ref),
            )

    def has_open(self, batch_id: str) -> bool:
        """Whether any item waits or is leased."""
        row = fetch_one(
            self._connection,
            f"SELECT 1 FROM batch_items WHERE batch_id = ? AND state < {_ANSWERED} LIMIT 1",  # noqa: S608 - our own words
            (batch_id,),
        )
        return row is not None

    async def read_items(
        self, batch_id: str, consume: Callable[[Iterator[EndedItem]], Any], /
    ) -> Any:
        """Give every item to `consume`, off the loop, in the order of the file. What was answered
        before this was asked is there."""

        def read(connection: apsw.Connection) -> Any:
            rows = connection.execute(
                "SELECT number, custom_id, state, call_id, status, answer FROM batch_items"
                " WHERE batch_id = ? ORDER BY number",
                (batch_id,),
            )
            return consume(
                EndedItem(number, custom_id, state == _ANSWERED, call_id, status, answer)
                for number, custom_id, state, call_id, status, answer in rows
            )

        return await self._read(read)

    def _counted(self, batch: Batch) -> Batch:
        if batch.status not in UNFINISHED:
            return batch
        return replace(batch, counts=self.counts(batch))

    def _moments(self, batch: Batch, status: BatchStatus) -> str:
        return msgspec.json.encode({**batch.moments_ms, status: self._now_ms()}).decode()


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
