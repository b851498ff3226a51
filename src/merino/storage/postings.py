"""Double entries that do not come from calls, and the balances that follow them, in one
transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from merino.control.ports import Once
from merino.domain.account import Account
from merino.domain.ledger import Entry, EntryKind, in_currency
from merino.ledger.memory import MemoryLedger
from merino.sqlite.database import SYNCED, Database
from merino.sqlite.readers import Readers
from merino.sqlite.writer import Writer
from merino.storage.calls import ENTRY_COLUMNS

T = TypeVar("T")

_ENTER = """
INSERT INTO entries (at_ms, kind, debit_account, credit_account, amount_nanos, reference, exchange,
    memo) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_ADD = """
INSERT INTO balances VALUES (?, ?)
ON CONFLICT DO UPDATE SET posted_nanos = posted_nanos + excluded.posted_nanos
"""

_BETWEEN = f"SELECT {ENTRY_COLUMNS} FROM entries WHERE id BETWEEN ? AND ? ORDER BY id"


@dataclass(frozen=True, slots=True)
class Posting:
    """`nanos` > 0 goes to the account, < 0 from it; the other side is a ledger account of its
    currency."""

    account: Account
    kind: EntryKind
    nanos: int
    counter: str
    memo: str | None = None
    reference: str | None = None
    exchange: str | None = None


class Postings:
    """Writes postings. Money that is taken is gone from memory before it is written, so that no
    call can hold it meanwhile, and comes back if that fails; money that is given is there when it
    is committed."""

    def __init__(
        self, writer: Writer, points: Readers, ledger: MemoryLedger, now_ms: Callable[[], int]
    ) -> None:
        self._writer = writer
        self._points = points
        self._ledger = ledger
        self._now_ms = now_ms

    async def transact(
        self,
        what: str,
        write: Callable[[Transaction], T],
        *,
        takes: Mapping[str, int] | None = None,
        durable: bool = False,
        first: Callable[[T], None] | None = None,
    ) -> T:
        """One transaction; `durable` waits for the disk, for what nobody would repeat. `takes` is
        what `write` will debit, by account. `first` follows when it is committed, before balances
        in memory do. Raises `BudgetExhausted` if more is taken than is
        available, `StoreUnavailable`."""
        taken = dict(takes or {})
        for account_id, nanos in taken.items():
            self._ledger.take(account_id, nanos)
        now_ms = self._now_ms()

        def job(database: Database) -> tuple[T, dict[str, int]]:
            with (
                database.synced(SYNCED) if durable else contextlib.nullcontext(),
                database.writing(what),
            ):
                work = Transaction(database, now_ms)
                found = write(work)
            return found, work.moved

        def then(done: tuple[T, dict[str, int]] | None, error: BaseException | None) -> None:
            moved = {} if error is not None or done is None else done[1]
            if first is not None and done is not None:
                first(done[0])
            for account_id in moved.keys() | taken.keys():
                if nanos := moved.get(account_id, 0) + taken.get(account_id, 0):
                    self._ledger.post(account_id, nanos)

        found, _ = await self._writer.run(job, then)
        return found

    async def post(self, posting: Posting, what: str, once: Once | None = None) -> Entry:
        """Raises `BudgetExhausted` for a debit of more than is available."""

        def write(work: Transaction) -> Entry:
            entry = work.post(posting)
            work.remember(once, entry, entry)
            return entry

        takes = {posting.account.id: -posting.nanos} if posting.nanos < 0 else None
        return await self.transact(what, write, takes=takes)

    async def booked(self, idempotency_key: str) -> tuple[bytes, list[Entry]] | None:
        """The hash of the request made with this key, and the entries it made."""

        def read(database: Database) -> tuple[bytes, list[Entry]] | None:
            row = database.one(
                "SELECT request_hash, first_entry, last_entry FROM movements"
                " WHERE idempotency_key = ?",
                (idempotency_key,),
            )
            if row is None:
                return None
            request_hash, *span = row
            return request_hash, [Entry(*entry) for entry in database.execute(_BETWEEN, span)]

        return await self._points.run(read)


class Transaction:
    """The work of one transaction. `moved` is what each account gains."""

    def __init__(self, database: Database, now_ms: int) -> None:
        self.database = database
        self.now_ms = now_ms
        self.moved: dict[str, int] = {}

    def remember(self, once: Once | None, first: Entry, last: Entry) -> None:
        """Remember that `once` asked for these entries, and for all of this transaction between
        them."""
        if once is not None:
            self.database.execute(
                "INSERT INTO movements VALUES (?, ?, ?, ?)",
                (once.idempotency_key, once.request_hash, first.id, last.id),
            )

    def post(self, posting: Posting) -> Entry:
        assert posting.nanos
        account_id = posting.account.id
        other = in_currency(posting.counter, posting.account.currency)
        debit, credit = (other, account_id) if posting.nanos > 0 else (account_id, other)
        amount = abs(posting.nanos)
        self.database.execute(
            _ENTER,
            (
                self.now_ms,
                posting.kind,
                debit,
                credit,
                amount,
                posting.reference,
                posting.exchange,
                posting.memo,
            ),
        )
        entry_id = self.database.last_insert_rowid()
        self.database.execute(_ADD, (debit, -amount))
        self.database.execute(_ADD, (credit, amount))
        self.moved[account_id] = self.moved.get(account_id, 0) + posting.nanos
        return Entry(
            entry_id,
            self.now_ms,
            posting.kind,
            debit,
            credit,
            amount,
            reference=posting.reference,
            exchange=posting.exchange,
            memo=posting.memo,
        )
