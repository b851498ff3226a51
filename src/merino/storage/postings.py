"""Double entries that do not come from calls, and the balances that follow them, in one
transaction."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Generator
from dataclasses import dataclass

from merino.control.ports import Once
from merino.domain.account import Account
from merino.domain.ledger import TRANSFERS, Entry, EntryKind, in_currency
from merino.ledger.balances import SqliteLedger
from merino.sqlite.database import SYNCED, Database
from merino.storage.calls import ENTRY_COLUMNS

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
    """Writes postings; memory follows only when they are committed."""

    def __init__(self, database: Database, ledger: SqliteLedger, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._ledger = ledger
        self._now_ms = now_ms

    @contextlib.contextmanager
    def transaction(self, what: str, *, durable: bool = False) -> Generator[Transaction]:
        """One transaction; `durable` waits for the disk, for what nobody would repeat."""
        with (
            self._database.synced(SYNCED) if durable else contextlib.nullcontext(),
            self._database.writing(what) as database,
        ):
            work = Transaction(database, self._now_ms())
            yield work
        for account_id, nanos in work.moved.items():
            if nanos:
                self._ledger.post(account_id, nanos)

    def post(self, posting: Posting, what: str, once: Once | None = None) -> Entry:
        with self.transaction(what) as work:
            entry = work.post(posting)
            work.remember(once, entry, entry)
            return entry

    def booked(self, idempotency_key: str) -> tuple[bytes, list[Entry]] | None:
        """The hash of the request made with this key, and the entries it made."""
        row = self._database.one(
            "SELECT request_hash, first_entry, last_entry FROM movements WHERE idempotency_key = ?",
            (idempotency_key,),
        )
        if row is None:
            return None
        request_hash, first, last = row
        found = self._database.execute(_BETWEEN, (first, last))
        return request_hash, [Entry(*entry) for entry in found]

    def transfer(
        self,
        source: Account,
        target: Account,
        nanos: int,
        target_nanos: int,
        exchange: str | None,
        memo: str | None,
        once: Once | None = None,
    ) -> tuple[Entry, Entry]:
        """`control.ports.Transfers`."""
        reference = f"trf_{secrets.token_hex(8)}"
        with self.transaction("the transfer") as work:
            left = work.post(
                Posting(source, "transfer", -nanos, TRANSFERS, memo, reference, exchange)
            )
            came = work.post(
                Posting(target, "transfer", target_nanos, TRANSFERS, memo, reference, exchange)
            )
            work.remember(once, left, came)
        return left, came


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
