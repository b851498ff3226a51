"""The ledger as a whole: recomputing it, and writing it out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import LiteralString

import msgspec

from merino.control.ports import (
    Difference,
    EntryFilter,
    ExportFormat,
    Page,
    Verification,
)
from merino.domain.ledger import Entry
from merino.domain.money import format_nanos
from merino.domain.spreadsheet import csv_text
from merino.sqlite.database import Database
from merino.storage.calls import ENTRY_COLUMNS, EntryReader, Reader

EXPORT_ROWS = 2_000
DIFFERENCES_MAX = 100

_SUMS = """
SELECT account, sum(nanos) FROM (
    SELECT credit_account AS account, amount_nanos AS nanos FROM entries
    UNION ALL
    SELECT debit_account, -amount_nanos FROM entries
) GROUP BY account
"""
_BALANCES = "SELECT account_id, posted_nanos FROM balances"
# The sources of statements: the sums, and the entries they were made from.
_SUMMED = """
SELECT account, sum(summed), sum(entered) FROM (
    SELECT account_id AS account, nanos AS summed, 0 AS entered FROM entry_sums
    UNION ALL
    SELECT account_id, 0, iif(debit_account = account_id, amount_nanos, -amount_nanos)
    FROM entries WHERE id <= (SELECT value FROM meta WHERE name = 'summed_entry')
) GROUP BY account HAVING sum(summed) <> sum(entered)
"""

# One check each: what is wrong, the call, what the call's row says, what its entries say.
_CALL_CHECKS: tuple[tuple[str, LiteralString], ...] = (
    (
        "call {} was charged other than its entries say",
        """
        SELECT calls.id, calls.charged_nanos, coalesce(sum(entries.amount_nanos), 0) AS entered
        FROM calls LEFT JOIN entries ON entries.call_id = calls.id
        GROUP BY calls.row HAVING calls.charged_nanos <> entered
        """,
    ),
    (
        "call {} has more than one record",
        "SELECT id, 1, count(*) FROM calls GROUP BY id HAVING count(*) > 1",
    ),
    (
        "call {} was settled more than once",
        """
        SELECT call_id, 1, count(*) FROM entries WHERE call_id IS NOT NULL
        GROUP BY call_id, kind HAVING count(*) > 1
        """,
    ),
    (
        "call {} was charged although its hold was not settled",
        """
        SELECT id, 0, charged_nanos FROM calls
        WHERE resolution <> 'settled' AND charged_nanos <> 0
        """,
    ),
    (
        "entry for call {} has no call record",
        """
        SELECT entries.call_id, 'a record', 'none' FROM entries
        WHERE call_id IS NOT NULL AND at_ms >= (SELECT coalesce(min(at_ms), 9e18) FROM calls)
          AND NOT EXISTS (SELECT 1 FROM calls WHERE calls.id = entries.call_id)
        """,
    ),
)


class Books:
    """`control.ports.Books`. `differences` are those outside the database: amounts held on accounts
    without an open hold, or a damaged journal."""

    def __init__(self, read: Reader, differences: Callable[[], list[Difference]]) -> None:
        self._read = read
        self._entries = EntryReader(read)
        self._differences = differences

    async def entries(
        self, wanted: EntryFilter, *, limit: int, cursor: str | None = None
    ) -> Page[Entry]:
        return await self._entries.entries(wanted, limit=limit, cursor=cursor)

    async def verify(self) -> Verification:
        """Recompute every balance from the entries, and every call's charge."""
        outside = self._differences()
        found = await self._read(_verify)
        return replace(found, differences=(*outside, *found.differences))

    async def export(self, form: ExportFormat) -> AsyncIterator[bytes]:
        """Every entry, oldest first; written as text where it is read, off the event loop."""
        names = [name.strip() for name in ENTRY_COLUMNS.split(",")]
        if form == "csv":
            yield csv_text([names]).encode()
        last_id = 0
        sql = f"SELECT {ENTRY_COLUMNS} FROM entries WHERE id > ? ORDER BY id LIMIT ?"
        while True:
            after = last_id

            def page(database: Database, after: int = after) -> tuple[int, bytes]:
                rows = list(database.execute(sql, (after, EXPORT_ROWS)))
                if not rows:
                    return 0, b""
                if form == "csv":
                    # The memo comes last.
                    return rows[-1][0], csv_text(rows, own_columns=len(names) - 1).encode()
                lines = [msgspec.json.encode(dict(zip(names, row, strict=True))) for row in rows]
                return rows[-1][0], b"\n".join([*lines, b""])

            last_id, piece = await self._read(page)
            if not piece:
                return
            yield piece


def _verify(database: Database) -> Verification:
    differences: list[Difference] = []
    recomputed: dict[str, int] = dict(database.execute(_SUMS))
    kept: dict[str, int] = dict(database.execute(_BALANCES))
    for account in sorted(recomputed.keys() | kept.keys()):
        expected, actual = recomputed.get(account, 0), kept.get(account, 0)
        if expected != actual:
            what = f"balance of account {account}"
            differences.append(Difference(what, format_nanos(expected), format_nanos(actual)))
    for account, summed, entered in database.execute(_SUMMED):
        what = f"sums for statements of account {account}"
        differences.append(Difference(what, format_nanos(entered), format_nanos(summed)))
    if total := sum(kept.values()):
        differences.append(Difference("sum of all balances", "0.00", format_nanos(total)))
    for what, sql in _CALL_CHECKS:
        for call_id, expected, actual in database.execute(sql):
            if len(differences) >= DIFFERENCES_MAX:
                break
            differences.append(Difference(what.format(call_id), str(expected), str(actual)))
    entries = next(database.execute("SELECT count(*) FROM entries"))[0]
    return Verification(entries, len(kept), differences)
