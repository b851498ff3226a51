"""Accounts and what operators do to their money: every movement is a double entry."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, LiteralString, cast

from merino.control.ports import AccountTerms, Once
from merino.domain.account import STANDARD_GROUP, Account, Balance
from merino.domain.errors import Conflict, NotFound
from merino.domain.ledger import FUNDING, Entry, EntryKind
from merino.domain.limits import Limits, flat
from merino.ledger.memory import MemoryLedger
from merino.sqlite.database import Database, columns_of, marks
from merino.sqlite.writer import Writer
from merino.storage.postings import Posting, Postings

_PLAIN = tuple([name for name in columns_of(Account) if name != "limits"])
_RENAMED = columns_of(Account, group="pricing_group")
_PLAIN_COLUMNS = cast("list[LiteralString]", [name for name in _RENAMED if name != "limits"])
_NAMES = (*_PLAIN_COLUMNS, *columns_of(Limits))
_COLUMNS = ", ".join(_NAMES)
_UPSERT = (
    f"INSERT INTO accounts ({_COLUMNS}) VALUES ({marks(len(_NAMES))})"
    " ON CONFLICT (id) DO UPDATE SET " + ", ".join([f"{name} = excluded.{name}" for name in _NAMES])
)
_LOAD = f"""
SELECT {_COLUMNS}, coalesce(posted_nanos, 0)
FROM accounts LEFT JOIN balances ON account_id = id ORDER BY created_at_ms, id
"""


class AccountStore:
    """`control.ports.Accounts` over SQLite and the ledger's memory."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        ledger: MemoryLedger,
        postings: Postings,
        currencies: dict[str, str],
        now_ms: Callable[[], int],
    ) -> None:
        """`currencies` of all accounts is kept up to date for the code that books their calls."""
        self._writer = writer
        self._ledger = ledger
        self._postings = postings
        self._currencies = currencies
        self._now_ms = now_ms
        self._by_id: dict[str, Account] = {}
        self._subscribers: list[Callable[[str], None]] = []
        for *row, posted_nanos in database.execute(_LOAD):
            values: list[Any] = row
            loaded = Account(**dict(zip(_PLAIN, values, strict=False)))
            limits = Limits(*values[len(_PLAIN) :])
            account = replace(loaded, disabled=bool(loaded.disabled), limits=limits)
            self._by_id[account.id] = account
            ledger.open_account(account.id, posted_nanos, account.overdraft_nanos)
            if account.spend_cap_nanos is not None:
                ledger.set_cap(account.id, account.spend_cap_nanos, account.spend_period)

    def subscribe(self, on_change: Callable[[str], None]) -> None:
        """Call back with the id of every account that is opened or changed."""
        self._subscribers.append(on_change)

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

    async def create(
        self,
        name: str,
        *,
        overdraft_nanos: int = 0,
        currency: str = "USD",
        group: str = STANDARD_GROUP,
        terms: AccountTerms | None = None,
    ) -> Account:
        account = self.new(name, currency=currency, group=group)
        account = _changed(replace(account, overdraft_nanos=overdraft_nanos), terms or {})
        await self._write(account, lambda: self._open(account))
        return account

    def new(
        self, name: str, *, currency: str, group: str, notice_email: str | None = None
    ) -> Account:
        """One that is nowhere yet: `insert` it in a transaction, then say that it is `opened`."""
        return Account(
            id=f"acct_{secrets.token_hex(8)}",
            name=name,
            currency=currency,
            group=group,
            created_at_ms=self._now_ms(),
            notice_email=notice_email,
        )

    def insert(self, database: Database, account: Account) -> None:
        database.execute(_UPSERT, _row(account))

    def opened(self, account: Account) -> None:
        """It was committed: calls may be made on it."""
        self._by_id[account.id] = account
        self._open(account)
        for on_change in self._subscribers:
            on_change(account.id)

    def _open(self, account: Account) -> None:
        self._currencies[account.id] = account.currency
        self._ledger.open_account(account.id, 0, account.overdraft_nanos)

    async def update(self, account_id: str, terms: AccountTerms) -> Account:
        account = _changed(self.get(account_id), terms)

        def updated() -> None:
            self._ledger.set_overdraft(account.id, account.overdraft_nanos)
            if "spend_cap_nanos" in terms or "spend_period" in terms:
                self._ledger.set_cap(account.id, account.spend_cap_nanos, account.spend_period)

        await self._write(account, updated)
        return account

    async def credit(
        self, account_id: str, nanos: int, memo: str | None = None, once: Once | None = None
    ) -> Entry:
        assert nanos > 0
        return await self._enter(account_id, "credit", nanos, memo, once)

    async def debit(
        self, account_id: str, nanos: int, memo: str | None = None, once: Once | None = None
    ) -> Entry:
        """Raises `BudgetExhausted` if more is taken than is available."""
        assert nanos > 0
        return await self._enter(account_id, "debit", nanos, memo, once)

    async def booked(self, idempotency_key: str) -> tuple[bytes, Sequence[Entry]] | None:
        return await self._postings.booked(idempotency_key)

    async def _enter(
        self, account_id: str, kind: EntryKind, nanos: int, memo: str | None, once: Once | None
    ) -> Entry:
        signed = nanos if kind == "credit" else -nanos
        posting = Posting(self.get(account_id), kind, signed, FUNDING, memo)
        return await self._postings.post(posting, f"the {kind}", once)

    async def _write(self, account: Account, then: Callable[[], None]) -> None:
        for other in self._by_id.values():
            if other.name == account.name and other.id != account.id:
                raise Conflict(
                    f"There is an account named '{account.name}' already; choose another name.",
                    code="name_taken",
                    param="name",
                )

        def written(_: object) -> None:
            self._by_id[account.id] = account
            then()
            for on_change in self._subscribers:
                on_change(account.id)

        await self._writer.write(
            "changing the account", lambda database: self.insert(database, account), written
        )


def _row(account: Account) -> list[Any]:
    return [getattr(account, name) for name in _PLAIN] + list(flat(account.limits).values())


def _changed(account: Account, terms: AccountTerms) -> Account:
    limits = replace(account.limits, **terms.get("limits", {}))
    return replace(account, **{**terms, "limits": limits})
