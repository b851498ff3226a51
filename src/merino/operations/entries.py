"""Ledger entries in the admin API, the books as a whole, and reports over calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from merino.control.ports import (
    Difference as FoundDifference,
)
from merino.control.ports import (
    EntryFilter,
    Page,
    ReportBy,
    ReportRow,
)
from merino.control.ports import (
    Verification as Verified,
)
from merino.domain.errors import NotFound
from merino.domain.ledger import Entry as LedgerEntry
from merino.domain.ledger import EntryKind
from merino.domain.money import format_nanos
from merino.operations.fields import Cursor, In, PageLimit, Reference, Time, given, iso, ms_of
from merino.operations.table import Asked, Operation


class EntriesQuery(In):
    account: Reference | UnsetType = UNSET
    call: str | UnsetType = UNSET
    kind: EntryKind | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET
    limit: PageLimit = 100
    cursor: Cursor | UnsetType = UNSET


class AccountEntriesQuery(In):
    call: str | UnsetType = UNSET
    kind: EntryKind | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET
    limit: PageLimit = 100
    cursor: Cursor | UnsetType = UNSET


class ReportQuery(In):
    by: ReportBy = "day"
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET


class ExportQuery(In):
    format: Literal["csv", "jsonl"] = "jsonl"


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


class ReportLine(Struct):
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


class Report(Struct):
    by: ReportBy
    data: list[ReportLine]


class Difference(Struct):
    what: str
    expected: str
    actual: str


class Verification(Struct):
    """`ok` if every balance equals what its entries add up to."""

    ok: bool
    entries: int
    accounts: int
    differences: list[Difference]


def entry_shape(entry: LedgerEntry) -> Entry:
    return Entry(
        id=entry.id,
        at=iso(entry.at_ms),
        kind=entry.kind,
        debit_account=entry.debit_account,
        credit_account=entry.credit_account,
        amount=format_nanos(entry.amount_nanos),
        amount_nanos=entry.amount_nanos,
        call_id=entry.call_id,
        key_id=entry.key_id,
        upstream=format_nanos(entry.upstream_nanos),
        upstream_nanos=entry.upstream_nanos,
        price_id=entry.price_id,
        reference=entry.reference,
        exchange=entry.exchange,
        memo=entry.memo,
    )


def entries_shape(page: Page[LedgerEntry]) -> Entries:
    return Entries([entry_shape(entry) for entry in page.items], page.next_cursor)


def report_line_shape(row: ReportRow, name_of: Callable[[str], str]) -> ReportLine:
    return ReportLine(
        group=row.group,
        name=name_of(row.group),
        calls=row.calls,
        failed=row.failed,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
        charged=format_nanos(row.charged_nanos),
        charged_nanos=row.charged_nanos,
        overrun=format_nanos(row.overrun_nanos),
        overrun_nanos=row.overrun_nanos,
        upstream=format_nanos(row.upstream_nanos),
        upstream_nanos=row.upstream_nanos,
        currency=row.currency,
    )


def verification_shape(verified: Verified) -> Verification:
    def shape(found: FoundDifference) -> Difference:
        return Difference(found.what, found.expected, found.actual)

    return Verification(
        ok=not verified.differences,
        entries=verified.entries,
        accounts=verified.accounts,
        differences=[shape(found) for found in verified.differences],
    )


async def _account_entries(asked: Asked) -> Entries:
    query: AccountEntriesQuery = asked.query
    wanted = EntryFilter(
        account_id=asked.control.accounts.find(asked.path["account"]).id,
        call_id=given(query.call),
        kind=given(query.kind),
        since_ms=ms_of(query.since, "since"),
        until_ms=ms_of(query.until, "until"),
    )
    page = await asked.control.list_entries(wanted, limit=query.limit, cursor=given(query.cursor))
    return entries_shape(page)


async def _list_entries(asked: Asked) -> Entries:
    query: EntriesQuery = asked.query
    wanted = EntryFilter(
        account_id=given(query.account),
        call_id=given(query.call),
        kind=given(query.kind),
        since_ms=ms_of(query.since, "since"),
        until_ms=ms_of(query.until, "until"),
    )
    page = await asked.control.list_entries(wanted, limit=query.limit, cursor=given(query.cursor))
    return entries_shape(page)


async def _report(asked: Asked) -> Report:
    query: ReportQuery = asked.query
    rows = await asked.control.report(
        query.by,
        since_ms=ms_of(query.since, "since"),
        until_ms=ms_of(query.until, "until"),
    )

    def name_of(group: str) -> str:
        """Keys and accounts by name; of what was deleted, the id."""
        try:
            if query.by == "key":
                return asked.control.keys.find(group).name
            if query.by == "account":
                return asked.control.accounts.find(group).name
        except NotFound:
            pass
        return group

    return Report(query.by, [report_line_shape(row, name_of) for row in rows])


async def _verify(asked: Asked) -> Verification:
    return verification_shape(await asked.control.verify())


async def _export(asked: Asked) -> AsyncIterator[bytes]:
    return asked.control.export(asked.query.format)


ENTRY_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/accounts/{account}/entries",
        "list_account_entries",
        "List an account's ledger entries, the newest first",
        _account_entries,
        Entries,
        query=AccountEntriesQuery,
    ),
    Operation(
        "GET",
        "/entries",
        "list_entries",
        "List ledger entries, the newest first",
        _list_entries,
        Entries,
        query=EntriesQuery,
    ),
    Operation(
        "GET",
        "/reports",
        "report",
        "Sum calls up by day, alias, key or account",
        _report,
        Report,
        query=ReportQuery,
    ),
    Operation(
        "GET",
        "/ledger/verify",
        "verify_ledger",
        "Recompute every balance from the entries",
        _verify,
        Verification,
    ),
    Operation(
        "GET",
        "/ledger/export",
        "export_ledger",
        "Every ledger entry, as a file",
        _export,
        None,
        query=ExportQuery,
    ),
)
