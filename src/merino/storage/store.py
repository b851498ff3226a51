"""A data folder, opened: everything durable, owned by this process until it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from merino.control.ports import Difference
from merino.domain.clock import DAY_MS, epoch_ms
from merino.domain.errors import StoreUnavailable
from merino.domain.money import format_nanos
from merino.ledger.applier import Applier
from merino.ledger.booking import Booking
from merino.ledger.damage import damage_notes
from merino.ledger.journal import Durability, Journal
from merino.ledger.key_spend import KeySpends
from merino.ledger.local_bank import LocalBank
from merino.ledger.memory import MemoryLedger
from merino.ledger.outage import WAIT_S, Outage
from merino.ledger.recovery import Recovery
from merino.ledger.replays import Replays
from merino.sqlite.checkpoints import Checkpoints
from merino.sqlite.data_folder import FolderLock, prepare_folder
from merino.sqlite.database import (
    SYNCED,
    TRANSIENT_ERRORS,
    UNSYNCED,
    Database,
    SqliteError,
    sync_database,
)
from merino.sqlite.readers import Readers
from merino.sqlite.writer import Writer
from merino.storage.accounts import AccountStore
from merino.storage.additions import AdditionStore
from merino.storage.admin_keys import AdminKeyStore
from merino.storage.background import BackgroundStore, OpenJobs, end_jobs
from merino.storage.batches import BatchStore, end_items
from merino.storage.books import Books
from merino.storage.call_search import CallSearcher
from merino.storage.calls import CallReader
from merino.storage.exchange import ExchangeStore
from merino.storage.failed_attempts import FailedAttemptReader, count_failed_attempts
from merino.storage.files import FileStore
from merino.storage.first_start import FirstStart
from merino.storage.first_tokens import FirstTokenReader, count_first_tokens
from merino.storage.kept_state import KeptStore, keep_responses
from merino.storage.keys import KeyStore, has_keys, read_pepper
from merino.storage.labels import count_labels
from merino.storage.learned import LearnedFile
from merino.storage.people import PeopleStore
from merino.storage.postings import Postings
from merino.storage.sign_ins import SignInStore
from merino.storage.spans import EntrySpans
from merino.storage.sums import AuditStore, SumStore, count_calls
from merino.storage.uptime import UptimeStore
from merino.storage.usage import UsageReader

T = TypeVar("T")

DATABASE = "merino.db"
JOURNAL = "journal"
FILES = "files"
LEARNED = "learned.json"
_DELETE_ROWS = 100


class Store:
    """`open` recovers what a dead process left and resolves its holds; `close` leaves nothing
    open. Tables that are none of the relay's own are kept over its `writer`, `points`, `postings`
    and `read`."""

    def __init__(
        self,
        folder: Path,
        lock: FolderLock,
        database: Database,
        durability: Durability,
        now_ms: Callable[[], int],
        database_wait_s: float,
    ) -> None:
        self.folder = folder
        self._lock = lock
        self._database = database
        self._path = folder / DATABASE
        self.now_ms = now_ms
        self._readers = Readers(self._path, 2, "merino-read")
        self.points = points = Readers(self._path, 1, "merino-look")
        self.writer = writer = Writer(database)
        self._checkpoints = Checkpoints(self._path, writer)
        self._checkpointing: asyncio.Task[None] | None = None
        self._journal: Journal | None = None
        self.replays = self._replays = Replays(points)
        applied_seq = database.only("SELECT value FROM meta WHERE name = 'applied_seq'")
        currencies: dict[str, str] = dict(database.execute("SELECT id, currency FROM accounts"))
        self._open_jobs = open_jobs = OpenJobs(database)
        self._applier = Applier(
            writer,
            applied_seq,
            self._on_applied,
            Outage(database_wait_s),
            Booking(
                currencies,
                (
                    count_calls,
                    count_first_tokens,
                    count_failed_attempts,
                    count_labels,
                    end_items,
                    keep_responses,
                    end_jobs,
                ),
            ),
        )
        key_spends = KeySpends(now_ms)
        bank = LocalBank(self._applier, key_spends, now_ms)
        self.ledger = MemoryLedger(bank, self._replays, now_ms)
        last_seq = self._recover()
        key_spends.load(database)
        self._journal = journal = Journal(
            folder / JOURNAL, self.ledger, durability=durability, last_seq=last_seq
        )
        self.ledger.attach(journal)
        self.postings = postings = Postings(writer, points, self.ledger, now_ms)
        self.accounts = AccountStore(database, writer, self.ledger, postings, currencies, now_ms)
        for hold in open_jobs.holds():
            hold.at_ms = now_ms()  # it gets its whole time again
            self.ledger.reopen(hold)
        self.background = BackgroundStore(writer, self.read, now_ms)
        self.exchange = ExchangeStore(database, writer)
        self.additions = AdditionStore(database, writer, now_ms)
        self.files = FileStore(database, writer, points, folder / FILES, now_ms)
        self.batches = BatchStore(
            writer, points, self.files, self.read, now_ms, self.ledger.catch_up
        )
        pepper = read_pepper(folder, is_used=has_keys(database))
        self.keys = KeyStore(database, writer, pepper, now_ms, self.ledger.wake)
        self.admin_keys = AdminKeyStore(database, writer, pepper, now_ms)
        self.people = PeopleStore(writer, points, postings, self.accounts, pepper, now_ms)
        self.sign_ins = SignInStore(writer, points, pepper, now_ms)
        self.first_start = FirstStart(writer, partial(sync_database, self._path))
        self.state_secret = hmac.digest(pepper, b"merino-responses", "sha256")
        self.kept = KeptStore(database, writer, self.read, now_ms)
        self._spans = EntrySpans(writer)
        self.learned = LearnedFile(folder / LEARNED)
        self.calls = self.reports = CallReader(self.read)
        self.sums = SumStore(writer, self.read)
        self.call_search = CallSearcher(self.read)
        self.usage = UsageReader(self.read)
        self.first_tokens = FirstTokenReader(self.read)
        self.failed_attempts = FailedAttemptReader(self.read)
        self.uptime = UptimeStore(database, writer, self.read, now_ms)
        self.audit = AuditStore(writer, self.read, now_ms)
        if durability == "power":
            database.set_synced(SYNCED)
        self.books = Books(self.read, self._differences)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        durability: Durability = "process",
        now_ms: Callable[[], int] = epoch_ms,
        database_wait_s: float = WAIT_S,
    ) -> Store:
        """Take the folder; it is created if need be. Raises `Misconfigured` if it cannot be
        used."""
        prepare_folder(folder)
        lock: FolderLock | None = None
        database: Database | None = None
        try:
            lock = FolderLock(folder)
            database = Database.to_write(folder / DATABASE)
            return cls(folder, lock, database, durability, now_ms, database_wait_s)
        except BaseException as error:
            if database is not None:
                database.close()
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
        self._checkpointing = asyncio.create_task(self._checkpoints.run())

    async def close(self) -> None:
        """Write and apply everything, and let go of the folder."""
        if self._checkpointing is not None:
            self._checkpointing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._checkpointing
        with contextlib.suppress(StoreUnavailable):
            await self.uptime.flush()
        is_settled = await self.ledger.settled_down(tries=3)
        self._applier.stop()
        self._readers.close()
        self.points.close()
        self.writer.stop()
        if is_settled:
            with contextlib.suppress(SqliteError):
                self._database.empty_log()
        assert self._journal is not None
        self._journal.close(delete=is_settled and not self.ledger.open_holds)
        self._database.close()
        self._lock.release()

    async def read(self, read: Callable[[Database], T], /) -> T:
        """Run a read off the loop. It sees everything that finished before it was asked for.
        Raises `StoreUnavailable` when the database cannot take what it should see."""
        await self.ledger.caught_up()
        return await self._readers.run(read)

    def damage(self) -> list[str]:
        """Damage that a start found at the journal's end and that nobody has acknowledged yet."""
        return damage_notes(self.folder / JOURNAL)

    async def forget_old(self, *, keep_days: int) -> int:
        """Delete calls older than `keep_days` and expired answers, in slices; returns how many
        calls. Entries are never deleted."""
        before_ms = self.now_ms() - keep_days * DAY_MS
        deleted = 0

        def delete(database: Database) -> tuple[int, int]:
            with database.synced(UNSYNCED), database.transaction():
                database.execute(
                    "DELETE FROM calls WHERE row IN"
                    " (SELECT row FROM calls WHERE at_ms < ? ORDER BY at_ms LIMIT ?)",
                    (before_ms, _DELETE_ROWS),
                )
                gone = database.changes()
                return gone, self._replays.delete_old(database, self.now_ms(), _DELETE_ROWS)

        with contextlib.suppress(*TRANSIENT_ERRORS):
            while True:
                gone, replays = await self.writer.run(delete)
                deleted += gone
                if gone < _DELETE_ROWS and replays < _DELETE_ROWS:
                    break
                await asyncio.sleep(0.01)
        return deleted

    async def note_times(self) -> None:
        """Note the times of entries, a little at a time, for searches of entries by time. Raises
        `StoreUnavailable`."""
        has_more = True
        while has_more:
            has_more = await self._spans.extend()
            await asyncio.sleep(0.01)

    def _recover(self) -> int:
        """Recover what a dead process left; returns the number of the last line it wrote."""
        recovery = Recovery(
            self.folder / JOURNAL,
            self._database,
            self._applier,
            self.now_ms(),
            self._open_jobs.call_ids,
        )
        recovery.read()
        recovery.apply(self._path)
        sync_database(self._path)
        recovery.forget()
        return recovery.last_seq

    def _on_applied(self, applied_seq: int) -> None:
        if self._journal is not None:  # otherwise this is recovery, which deletes what it has read
            self._journal.retire(applied_seq, partial(sync_database, self._path))

    def _differences(self) -> list[Difference]:
        damaged = [Difference(note, "an undamaged journal", "damage") for note in self.damage()]
        return damaged + [
            Difference(f"held of account {account_id}", format_nanos(expected), format_nanos(held))
            for account_id, expected, held in self.ledger.holds_by_account()
            if expected != held
        ]
