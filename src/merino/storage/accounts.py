"""Accounts and what operators do to their money: every movement is a double entry."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

import apsw

from merino.control.ports import AccountTerms
from merino.domain.account import Account, Balance
from merino.domain.errors import BudgetExhausted, Conflict, NotFound
from merino.domain.ledger import FUNDING, Entry, EntryKind
from merino.domain.money import format_nanos
from merino.storage.database import writing
from merino.storage.ledger import SqliteLedger

_UPSERT = """
INSERT INTO accounts (id, name, currency, overdraft_nanos, created_at_ms, disabled)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET name = excluded.name,
    overdraft_nanos = excluded.overdraft_nanos, disabled = excluded.disabled
"""
_ENTER = """
INSERT INTO entries (at_ms, kind, debit_account, credit_account, amount_nanos, memo)
VALUES (?, ?, ?, ?, ?, ?)
"""
_ADD = """
INSERT INTO balances VALUES (?, ?)
ON CONFLICT DO UPDATE SET posted_nanos = posted_nanos + excluded.posted_nanos
"""
_LOAD = """
SELECT id, name, currency, overdraft_nanos, created_at_ms, disabled, coalesce(posted_nanos, 0)
FROM accounts LEFT JOIN balances ON account_id = id ORDER BY created_at_ms, id
"""


class AccountStore:
    """`control.ports.Accounts` over SQLite and the ledger's memory."""

    def __init__(
        self, connection: apsw.Connection, ledger: SqliteLedger, now_ms: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._ledger = ledger
        self._now_ms = now_ms
        self._by_id: dict[str, Account] = {}
        for *fields, disabled, posted_nanos in connection.execute(_LOAD):
            account = Account(*fields, disabled=bool(disabled))
            self._by_id[account.id] = account
            ledger.open_account(account.id, posted_nanos, account.overdraft_nanos)

    def list(self) -> Sequence[Account]:
        return list(self._by_id.values())

    def get(self, account_id: str) -> Account:
        account = self._by_id.get(account_id)
        if account is None:
            raise NotFound(f"There is no account '{account_id[:100]}'.", code="account_not_found")
        return account

    def balance(self, account_id: str) -> Balance:
        self.get(account_id)
        return self._ledger.balance(account_id)

    def create(self, name: str, *, overdraft_nanos: int = 0) -> Account:
        account = Account(
            id=f"acct_{secrets.token_hex(8)}",
            name=name,
            overdraft_nanos=overdraft_nanos,
            created_at_ms=self._now_ms(),
        )
        self._write(account)
        self._ledger.open_account(account.id, 0, overdraft_nanos)
        return account

    def update(self, account_id: str, terms: AccountTerms) -> Account:
        account = replace(self.get(account_id), **terms)
        self._write(account)
        self._ledger.set_overdraft(account.id, account.overdraft_nanos)
        return account

    def credit(self, account_id: str, nanos: int, memo: str | None = None) -> Entry:
        assert nanos > 0
        return self._enter(account_id, "credit", nanos, memo)

    def debit(self, account_id: str, nanos: int, memo: str | None = None) -> Entry:
        """Raises `BudgetExhausted` if more is taken than is available."""
        assert nanos > 0
        available = self.balance(account_id).available_nanos
        if nanos > available:
            raise BudgetExhausted(
                f"Account '{self.get(account_id).name}' has {format_nanos(available)} available; "
                f"{format_nanos(nanos)} cannot be debited.",
                code="insufficient_balance",
                param="amount",
            )
        return self._enter(account_id, "debit", nanos, memo)

    def _enter(self, account_id: str, kind: EntryKind, nanos: int, memo: str | None) -> Entry:
        self.get(account_id)
        debit, credit = (FUNDING, account_id) if kind == "credit" else (account_id, FUNDING)
        at_ms = self._now_ms()
        with writing(self._connection, f"the {kind}") as connection:
            connection.execute(_ENTER, (at_ms, kind, debit, credit, nanos, memo))
            entry_id = connection.last_insert_rowid()
            connection.execute(_ADD, (debit, -nanos))
            connection.execute(_ADD, (credit, nanos))
        self._ledger.post(account_id, nanos if kind == "credit" else -nanos)
        return Entry(entry_id, at_ms, kind, debit, credit, nanos, memo=memo)

    def _write(self, account: Account) -> None:
        for other in self._by_id.values():
            if other.name == account.name and other.id != account.id:
                raise Conflict(
                    f"There is an account named '{account.name}' already; choose another name.",
                    code="name_taken",
                    param="name",
                )
        with writing(self._connection, "changing the account") as connection:
            connection.execute(
                _UPSERT,
                (
                    account.id,
                    account.name,
                    account.currency,
                    account.overdraft_nanos,
                    account.created_at_ms,
                    account.disabled,
                ),
            )
        self._by_id[account.id] = account
