"""Double entries that are not calls', and the balances that follow them, in one transaction."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Generator
from dataclasses import dataclass

import apsw

from merino.domain.account import Account
from merino.domain.ledger import TRANSFERS, Entry, EntryKind, in_currency
from merino.storage.database import writing
from merino.storage.ledger import SqliteLedger

_ENTER = """
INSERT INTO entries (at_ms, kind, debit_account, credit_account, amount_nanos, reference, exchange,
    memo) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_ADD = """
INSERT INTO balances VALUES (?, ?)
ON CONFLICT DO UPDATE SET posted_nanos = posted_nanos + excluded.posted_nanos
"""


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

    def __init__(
        self, connection: apsw.Connection, ledger: SqliteLedger, now_ms: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._ledger = ledger
        self._now_ms = now_ms

    @contextlib.contextmanager
    def transaction(self, what: str, *, durable: bool = False) -> Generator[Transaction]:
        """One transaction; `durable` waits for the disk, for what nobody would send again."""
        if durable:
            self._connection.execute("PRAGMA synchronous = FULL")
        try:
            with writing(self._connection, what) as connection:
                work = Transaction(connection, self._now_ms())
                yield work
        finally:
            if durable:
                self._connection.execute("PRAGMA synchronous = NORMAL")
        for account_id, nanos in work.moved.items():
            if nanos:
                self._ledger.post(account_id, nanos)

    def post(self, posting: Posting, what: str) -> Entry:
        with self.transaction(what) as work:
            return work.post(posting)

    def transfer(
        self,
        source: Account,
        target: Account,
        nanos: int,
        target_nanos: int,
        exchange: str | None,
        memo: str | None,
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
        return left, came


class Transaction:
    """What is done in one transaction. `moved` is what each account gets by it."""

    def __init__(self, connection: apsw.Connection, now_ms: int) -> None:
        self.connection = connection
        self.now_ms = now_ms
        self.moved: dict[str, int] = {}

    def post(self, posting: Posting) -> Entry:
        assert posting.nanos
        account_id = posting.account.id
        other = in_currency(posting.counter, posting.account.currency)
        debit, credit = (other, account_id) if posting.nanos > 0 else (account_id, other)
        amount = abs(posting.nanos)
        self.connection.execute(
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
        entry_id = self.connection.last_insert_rowid()
        self.connection.execute(_ADD, (debit, -amount))
        self.connection.execute(_ADD, (credit, amount))
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
