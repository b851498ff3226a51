"""Ledger entries, the books as a whole, and reports over calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from merino.control.ports import Difference as FoundDifference
from merino.control.ports import EntryFilter, ReportBy, ReportRow
from merino.control.ports import Verification as Verified
from merino.domain.errors import NotFound
from merino.domain.ledger import Entry as LedgerEntry
from merino.domain.ledger import EntryKind
from merino.operations.fields import In, PageQuery, Reference, Time, page_of
from merino.operations.shape import shown, shows, taken
from merino.operations.table import Asked, Operations


class EntriesQuery(PageQuery):
    account: Reference | UnsetType = UNSET
    call: str | UnsetType = UNSET
    kind: EntryKind | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET


class AccountEntriesQuery(PageQuery):
    call: str | UnsetType = UNSET
    kind: EntryKind | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET


class ReportQuery(In):
    by: ReportBy = "day"
    then_by: ReportBy | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET


class ExportQuery(In):
    format: Literal["csv", "jsonl"] = "jsonl"


@shows(LedgerEntry)
class Entry(Struct):
    id: int
    at: str
    kind: str
    debit_account: str
    credit_account: str
    amount: str
    amount_nanos: int
    call_id: str | None
    key_id: str | None
    upstream: str
    upstream_nanos: int
    price_id: str | None
    reference: str | None
    exchange: str | None
    memo: str | None


class Entries(Struct):
    data: list[Entry]
    next_cursor: str | None


@shows(ReportRow)
class ReportLine(Struct):
    """`then_group` and `then_name` are there if the report asked for groups within groups."""

    group: str
    name: str
    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    charged: str
    charged_nanos: int
    overrun: str
    overrun_nanos: int
    upstream: str
    upstream_nanos: int
    currency: str
    then_group: str | UnsetType = UNSET
    then_name: str | UnsetType = UNSET


class Report(Struct):
    by: ReportBy
    data: list[ReportLine]


@shows(FoundDifference)
class Difference(Struct):
    what: str
    expected: str
    actual: str


@shows(Verified)
class Verification(Struct):
    """`ok` if every balance equals what its entries add up to."""

    ok: bool
    entries: int
    accounts: int
    differences: list[Difference]


OPERATIONS = Operations()


@OPERATIONS.get("/accounts/{account}/entries", "List an account's ledger entries, the newest first")
async def list_account_entries(asked: Asked, query: AccountEntriesQuery) -> Entries:
    account_id = asked.control.accounts.find(asked.path["account"]).id
    return await _entries(asked, query, replace(taken(EntryFilter, query), account_id=account_id))


@OPERATIONS.get("/entries", "List ledger entries, the newest first")
async def list_entries(asked: Asked, query: EntriesQuery) -> Entries:
    return await _entries(asked, query, taken(EntryFilter, query))


async def _entries(asked: Asked, query: PageQuery, wanted: EntryFilter) -> Entries:
    page = await asked.control.list_entries(wanted, **page_of(query))
    return Entries([shown(Entry, entry) for entry in page.items], page.next_cursor)


@OPERATIONS.get("/reports", "Sum calls up by day, alias, key, account, end user, tag or metadata")
async def report(asked: Asked, query: ReportQuery) -> Report:
    period = taken(EntryFilter, query)
    then_by = None if isinstance(query.then_by, UnsetType) else query.then_by
    rows = await asked.control.report(
        query.by, then_by, since_ms=period.since_ms, until_ms=period.until_ms
    )

    def name_of(by: ReportBy, group: str) -> str:
        """Keys and accounts by name; of what was deleted, the id."""
        try:
            if by == "key":
                return asked.control.keys.find(group).name
            if by == "account":
                return asked.control.accounts.find(group).name
        except NotFound:
            pass
        return group or ("none" if by in ("user", "tag", "metadata") else "")

    def line(row: ReportRow) -> ReportLine:
        found = shown(ReportLine, row, name=name_of(query.by, row.group), then_group=UNSET)
        if then_by is not None and row.then_group is not None:
            found.then_group = row.then_group
            found.then_name = name_of(then_by, row.then_group)
        return found

    return Report(query.by, [line(row) for row in rows])


@OPERATIONS.get("/ledger/verify", "Recompute every balance from the entries")
async def verify_ledger(asked: Asked) -> Verification:
    found = await asked.control.verify()
    return shown(Verification, found, ok=not found.differences)


@OPERATIONS.get("/ledger/export", "Every ledger entry, as a file")
async def export_ledger(asked: Asked, query: ExportQuery) -> AsyncIterator[bytes]:
    return asked.control.export(query.format)
