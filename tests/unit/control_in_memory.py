"""Control over stores in memory. Folders whose tests want it name its fixtures in their conftest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import pytest

from merino.control.accounts import AccountDesk, own_limit
from merino.control.additions import AdditionDesk
from merino.control.audit import NoLog
from merino.control.control import Control
from merino.control.people import PeopleDesk
from merino.control.ports import (
    AccountTerms,
    CallFilter,
    Difference,
    EntryFilter,
    KeyTerms,
    Page,
    ReportRow,
    Verification,
)
from merino.control.sla import SlaDesk
from merino.domain.account import Account, Balance
from merino.domain.call import Attempt, CallRecord, RunningCall
from merino.domain.deployment import Deployment
from merino.domain.errors import InvalidCall, NotFound
from merino.domain.key import AdminKey, VirtualKey
from merino.domain.ledger import FUNDING, Entry

NOW_MS = 1_790_000_000_000


def with_terms(noun, terms):
    return replace(noun, **{**terms, "limits": replace(noun.limits, **terms.get("limits", {}))})


class FakeAccounts:
    def __init__(self):
        self.by_id: dict[str, Account] = {}
        self.posted: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.entries: list[Entry] = []
        self.movements = {}

    def list(self):
        return list(self.by_id.values())

    def get(self, account_id):
        if account_id not in self.by_id:
            raise NotFound(f"no account {account_id}")
        return self.by_id[account_id]

    def balance(self, account_id):
        overdraft = self.by_id[account_id].overdraft_nanos
        return Balance(self.posted[account_id], self.held.get(account_id, 0), overdraft)

    async def create(self, name, *, terms, overdraft_nanos=0, currency="USD", group="standard"):
        account = Account(
            id=f"acc_{len(self.by_id) + 1}",
            name=name,
            currency=currency,
            group=group,
            overdraft_nanos=overdraft_nanos,
            created_at_ms=NOW_MS,
        )
        account = with_terms(account, terms)
        self.by_id[account.id] = account
        self.posted[account.id] = 0
        return account

    async def update(self, account_id, terms: AccountTerms):
        self.by_id[account_id] = with_terms(self.get(account_id), terms)
        return self.by_id[account_id]

    async def credit(self, account_id, nanos, memo=None, once=None):
        return self._post("credit", FUNDING, account_id, account_id, nanos, nanos, memo, once)

    async def debit(self, account_id, nanos, memo=None, once=None):
        return self._post("debit", account_id, FUNDING, account_id, -nanos, nanos, memo, once)

    async def booked(self, idempotency_key):
        return self.movements.get(idempotency_key)

    def _post(self, kind, source, target, account_id, change, nanos, memo, once):
        self.posted[account_id] += change
        entry = Entry(len(self.entries) + 1, NOW_MS, kind, source, target, nanos, memo=memo)
        self.entries.append(entry)
        if once is not None:
            self.movements[once.idempotency_key] = (once.request_hash, [entry])
        return entry


class FakeKeys:
    def __init__(self):
        self.by_id: dict[str, VirtualKey] = {}
        self.secrets = 0

    def list(self):
        return list(self.by_id.values())

    def get(self, key_id):
        if key_id not in self.by_id:
            raise NotFound(f"no key {key_id}")
        return self.by_id[key_id]

    async def create(self, **terms):
        secret = self._secret()
        key = VirtualKey(
            id=f"key_{len(self.by_id) + 1}",
            hint=secret[:8],
            secret_hash=secret.encode(),
            created_at_ms=NOW_MS,
            **terms,
        )
        self.by_id[key.id] = key
        return key, secret

    async def update(self, key_id, terms: KeyTerms):
        self.by_id[key_id] = with_terms(self.get(key_id), terms)
        return self.by_id[key_id]

    async def rotate(self, key_id, keep_old_s=0):
        secret = self._secret()
        old = self.get(key_id)
        self.by_id[key_id] = replace(
            old,
            hint=secret[:8],
            secret_hash=secret.encode(),
            old_hash=old.secret_hash,
            old_hint=old.hint,
            old_expires_at_ms=NOW_MS + keep_old_s * 1000,
        )
        return self.by_id[key_id], secret

    def _secret(self):
        self.secrets += 1
        return f"mk-{self.secrets:040d}"


class FakeAdminKeys:
    def __init__(self):
        self.by_id: dict[str, AdminKey] = {}
        self.secrets = 0

    def list(self):
        return list(self.by_id.values())

    async def create(self, name):
        key = AdminKey(f"admin_{len(self.by_id) + 1}", name, "", b"", NOW_MS)
        self.by_id[key.id] = key
        return await self.rotate(key.id)

    async def rotate(self, key_id):
        self.secrets += 1
        secret = f"mka-{self.secrets:040d}"
        hint = f"mka-...{secret[-4:]}"
        key = replace(self.by_id[key_id], hint=hint, secret_hash=secret.encode())
        self.by_id[key_id] = key
        return key, secret

    async def revoke(self, key_id):
        self.by_id[key_id] = replace(self.by_id[key_id], disabled=True)
        return self.by_id[key_id]


def paged(items, limit, cursor):
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 9):
        raise InvalidCall("bad cursor", param="cursor", code="invalid_cursor")
    start = int(cursor or 0)
    end = start + limit
    return Page(items[start:end], str(end) if end < len(items) else None)


class FakeCalls:
    def __init__(self):
        self.records = [
            CallRecord(
                id=f"call_{number}",
                account_id="acc_1",
                key_id="key_1",
                alias="o3",
                endpoint="chat/completions",
                at_ms=NOW_MS - number,
                status=200,
                resolution="settled",
                held_nanos=2_000_000,
                charged_nanos=1_200_000,
                attempts=(Attempt("sim/o3", 0.1, 20.0, "ok", 200),),
                request_json='{"secret": true}',
            )
            for number in range(5)
        ]

    async def list(self, wanted: CallFilter, *, limit, cursor):
        found = [
            record
            for record in self.records
            if wanted.account_id in (None, record.account_id)
            and wanted.status in (None, record.status)
            and (wanted.since_ms is None or record.at_ms >= wanted.since_ms)
        ]
        return paged(found, limit, cursor)

    async def get(self, call_id):
        for record in self.records:
            if record.id == call_id:
                return record
        raise NotFound(f"There is no call {call_id!r}")


class FakeReports:
    async def by(self, group, then=None, *, since_ms, until_ms):
        name = {"day": "2026-11-24", "alias": "o3", "key": "key_1", "account": "acc_1"}[group]
        return [ReportRow(name, 5, 0, 50, 100, 0, 0, 6_000_000, 0, 5_000_000)]


class FakeBooks:
    def __init__(self, accounts: FakeAccounts):
        self.accounts = accounts
        self.differences: list[Difference] = []

    async def entries(self, wanted: EntryFilter, *, limit, cursor):
        found = [
            entry
            for entry in reversed(self.accounts.entries)
            if wanted.account_id in (None, entry.debit_account, entry.credit_account)
            and wanted.kind in (None, entry.kind)
            and not (wanted.is_moved and entry.kind in ("settle", "overrun"))
        ]
        return paged(found, limit, cursor)

    async def verify(self):
        return Verification(len(self.accounts.entries), len(self.accounts.by_id), self.differences)

    async def export(self, form) -> AsyncIterator[bytes]:
        for entry in self.accounts.entries:
            line = {"id": entry.id, "amount_nanos": entry.amount_nanos}
            yield json.dumps(line).encode() + b"\n"


@pytest.fixture
def accounts() -> FakeAccounts:
    return FakeAccounts()


@pytest.fixture
def books(accounts: FakeAccounts) -> FakeBooks:
    return FakeBooks(accounts)


@pytest.fixture
def running() -> list[RunningCall]:
    """The calls that run."""
    return []


@pytest.fixture
def control(accounts: FakeAccounts, books: FakeBooks, running: list[RunningCall]) -> Control:
    """Control with one account of $5.00 and one key."""
    control = Control(
        accounts=AccountDesk(accounts),
        keys=FakeKeys(),
        admin_keys=FakeAdminKeys(),
        calls=FakeCalls(),
        reports=FakeReports(),
        ledger=books,
        audit=NoLog(),
        people=cast("PeopleDesk", None),  # these tests ask for nothing of it
        sla=cast("SlaDesk", None),
        additions=cast("AdditionDesk", None),
        running=lambda: running,
    )
    control.configure(
        [Deployment("d", "openai", "o3", "https://example.org/v1", credential="sk-hidden")],
        own_limit,
    )

    async def begin() -> None:
        await control.accounts.create("default")
        await control.accounts.credit("default", 5_000_000_000, "start credit")
        await control.keys.create("default", "first", {})

    asyncio.run(begin())
    return control
