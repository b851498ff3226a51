"""A data folder, opened: everything durable, owned by this process until it is closed."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from merino.control.ports import Difference
from merino.domain.errors import StoreUnavailable
from merino.domain.ledger import Hold
from merino.domain.money import format_nanos
from merino.storage.accounts import AccountStore
from merino.storage.admin_keys import AdminKeyStore
from merino.storage.applier import Applier
from merino.storage.batches import BatchStore
from merino.storage.books import Books
from merino.storage.calls import CallReader
from merino.storage.cards import CardStore
from merino.storage.database import (
    TRANSIENT_ERRORS,
    FolderLock,
    Readers,
    connect_writer,
    prepare_folder,
)
from merino.storage.exchange import ExchangeStore
from merino.storage.files import FileStore
from merino.storage.journal import Durability, Journal
from merino.storage.key_spend import KeySpends
from merino.storage.keys import KeyStore, read_pepper
from merino.storage.learned import LearnedFile
from merino.storage.ledger import SqliteLedger, epoch_ms, expired_record
from merino.storage.notices import NoticeStore
from merino.storage.outage import WAIT_S, Outage
from merino.storage.postings import Postings
from merino.storage.records import decode_ended, decode_hold, row_of
from merino.storage.replays import Replays
from merino.storage.segments import read_segments, segment_paths
from merino.storage.spans import EntrySpans
from merino.storage.statements import StatementReader
from merino.storage.sums import AuditStore, SumStore
from merino.storage.topups import TopUpStore
from merino.storage.uptime import UptimeStore
from merino.storage.vouchers import VoucherStore

T = TypeVar("T")

DATABASE = "merino.db"
JOURNAL = "journal"
FILES = "files"
LEARNED = "learned.json"
RESTARTED_STATUS = 503
RESTARTED_CODE = "relay_restarted"
CHECKPOINT_BYTES = 8 * 1024 * 1024
_CHECKPOINT_EVERY_S = 1.0
_DELETE_ROWS = 1_000
_DAY_MS = 86_400_000


class Store:
    """`open` reads what a dead process left and resolves its holds; `close` leaves nothing open."""

    def __init__(
        self,
        folder: Path,
        lock: FolderLock,
        connection: apsw.Connection,
        durability: Durability,
        now_ms: Callable[[], int],
        keep_replays_s: float,
        database_wait_s: float,
    ) -> None:
        self.folder = folder
        self._lock = lock
        self._connection = connection
        self._path = folder / DATABASE
        self._now_ms = now_ms
        self._readers = Readers(self._path)
        self._checkpoints: asyncio.Task[None] | None = None
        self._journal: Journal | None = None
        self.replays = self._replays = Replays(connection, keep_replays_s)
        applied_seq = next(connection.execute("SELECT value FROM meta WHERE name = 'applied_seq'"))[
            0
        ]
        self._applier = Applier(connection, applied_seq, self._on_applied, Outage(database_wait_s))
        self.ledger = SqliteLedger(
            self._applier, KeySpends(connection, now_ms), self._replays, now_ms
        )
        last_seq = self._recover(applied_seq)
        self._journal = journal = Journal(
            folder / JOURNAL, self.ledger, durability=durability, last_seq=last_seq
        )
        self.ledger.attach(journal)
        postings = Postings(connection, self.ledger, now_ms)
        self.accounts = AccountStore(
            connection, self.ledger, postings, self._applier.currencies, now_ms
        )
        self.exchange = ExchangeStore(connection)
        self.transfers = postings
        self.files = FileStore(connection, folder / FILES, now_ms)
        self.batches = BatchStore(connection, self.files, self.read, now_ms, self.ledger.catch_up)
        self.vouchers = VoucherStore(connection, postings, self.read, now_ms)
        self.topups = TopUpStore(connection, postings, self.accounts.get, now_ms)
        self.cards = CardStore(connection, now_ms)
        self.statements = StatementReader(connection, self.read)
        self.notices = NoticeStore(connection, now_ms)
        pepper = read_pepper(folder)
        self.keys = KeyStore(connection, pepper, now_ms, self.ledger.wake)
        self.admin_keys = AdminKeyStore(connection, pepper, now_ms)
        self._spans = EntrySpans(connection)
        self.learned = LearnedFile(folder / LEARNED)
        self.calls = self.reports = CallReader(self.read)
        self.sums = SumStore(connection, self.read)
        self.uptime = UptimeStore(connection, self.read, now_ms)
        self.audit = AuditStore(connection, self.read, now_ms)
        self.books = Books(self.read, self._held_otherwise)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        durability: Durability = "process",
        now_ms: Callable[[], int] = epoch_ms,
        keep_replays_s: float = 86_400.0,
        database_wait_s: float = WAIT_S,
    ) -> Store:
        """Own the folder, which is made if need be. Raises `Misconfigured` if it cannot be used."""
        prepare_folder(folder)
        lock: FolderLock | None = None
        connection: apsw.Connection | None = None
        try:
            lock = FolderLock(folder)
            connection = connect_writer(folder / DATABASE)
            return cls(
                folder, lock, connection, durability, now_ms, keep_replays_s, database_wait_s
            )
        except BaseException as error:
            if connection is not None:
                connection.close()
            if lock is not None:
                lock.release()
            if isinstance(error, (OSError, *TRANSIENT_ERRORS)):
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise StoreUnavailable(
                    f"The data folder {folder} cannot be written: {reason}. Make it writable (is "
                    "its disk full?), or choose another folder with --data or MERINO_DATA."
                ) from None
            raise

    async def start(self) -> None:
        """Begin the work in the background: checkpoints, off the event loop."""
        self._checkpoints = asyncio.create_task(self._checkpoint_often())

    async def close(self) -> None:
        """Write and apply everything, and let go of the folder."""
        if self._checkpoints is not None:
            self._checkpoints.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._checkpoints
        with contextlib.suppress(StoreUnavailable):
            self.uptime.flush()
        is_settled = await self.ledger.settled_down(tries=3)
        self._applier.stop()
        self._readers.close()
        if is_settled:
            with contextlib.suppress(apsw.Error):
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        assert self._journal is not None
        self._journal.close(delete=is_settled and not self.ledger.open_holds)
        self._connection.close()
        self._lock.release()

    async def read(self, read: Callable[[apsw.Connection], T], /) -> T:
        """Run a read off the loop. It sees everything that finished before it was asked for.
        Raises `StoreUnavailable` when the database cannot take what it should see."""
        if not self.ledger.flush():
            raise StoreUnavailable(
                "The database cannot write now, so it does not have the latest calls. Try again.",
                retry_after_s=1.0,
            )
        return await self._readers.run(read)

    async def forget_old(self, *, keep_days: int) -> int:
        """Delete calls older than `keep_days` and expired answers, in slices; how many calls.
        Entries are never deleted."""
        before_ms = self._now_ms() - keep_days * _DAY_MS
        deleted = 0
        with contextlib.suppress(*TRANSIENT_ERRORS):
            while True:
                self._connection.execute(
                    "DELETE FROM calls WHERE row IN"
                    " (SELECT row FROM calls WHERE at_ms < ? ORDER BY at_ms LIMIT ?)",
                    (before_ms, _DELETE_ROWS),
                )
                gone = self._connection.changes()
                deleted += gone
                replays = self._replays.delete_old(self._now_ms(), _DELETE_ROWS)
                if gone < _DELETE_ROWS and replays < _DELETE_ROWS:
                    break
                await asyncio.sleep(0.01)
        return deleted

    async def note_times(self) -> None:
        """Note the times of entries, a little at a time, for whoever looks for entries by time.
        Raises `StoreUnavailable`."""
        while self._spans.extend():  # noqa: ASYNC110 - nothing is waited for
            await asyncio.sleep(0.01)

    def _recover(self, applied_seq: int) -> int:
        """Apply what the journal has and SQLite has not, and expire the holds of a dead process:
        no customer pays for an answer they cannot be shown to have received."""
        folder = self.folder / JOURNAL
        last_seq = applied_seq
        open_holds: dict[str, Hold] = {}
        for record in read_segments(folder):
            last_seq = max(last_seq, record[0])
            if record[1] == "hold":
                hold = decode_hold(record)
                open_holds[hold.call_id] = hold
                continue
            ended = decode_ended(record)
            open_holds.pop(ended[3][0], None)
            if ended[0] > applied_seq:
                self._applier.add(ended)
        now_ms = self._now_ms()
        for hold in open_holds.values():
            last_seq += 1
            expired = expired_record(hold, RESTARTED_STATUS, RESTARTED_CODE)
            self._applier.add((last_seq, "call", now_ms, row_of(expired), None))
        if not self._applier.apply_all():
            raise StoreUnavailable(
                f"{self._path} cannot be written: {self._applier.outage.error}. Free its disk or "
                "stop what locks it, and start again."
            )
        paths = segment_paths(folder)
        if paths:
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._connection.execute("PRAGMA synchronous = NORMAL")
            for path in paths:
                path.unlink()
        return last_seq

    def _on_applied(self, applied_seq: int) -> None:
        if self._journal is not None:  # else this is recovery, which deletes what it has read
            self._journal.retire(applied_seq, self._checkpoint)

    async def _checkpoint_often(self) -> None:
        wal = self._path.with_name(f"{DATABASE}-wal")
        while True:
            await asyncio.sleep(_CHECKPOINT_EVERY_S)
            with contextlib.suppress(FileNotFoundError):
                if wal.stat().st_size > CHECKPOINT_BYTES:
                    await asyncio.to_thread(self._checkpoint)

    def _checkpoint(self) -> None:
        """On another thread, with a connection of its own, so that the loop never waits for it."""
        with contextlib.suppress(*TRANSIENT_ERRORS):
            connection = apsw.Connection(str(self._path))
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            finally:
                connection.close()

    def _held_otherwise(self) -> list[Difference]:
        return [
            Difference(f"held of account {account_id}", format_nanos(expected), format_nanos(held))
            for account_id, expected, held in self.ledger.holds_by_account()
            if expected != held
        ]
