"""Reads of call records and entries: pages by key, never by offset."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, LiteralString, Protocol, TypeVar

from merino.control.ports import CallFilter, EntryFilter, Page, ReportBy, ReportRow
from merino.domain.call import CallRecord
from merino.domain.errors import InvalidCall, NotFound
from merino.domain.ledger import Entry
from merino.ledger.lines import CALL_COLUMNS, record_of
from merino.sqlite.database import Database
from merino.storage.spans import LAST, call_ranges, entry_ranges, is_combined

T = TypeVar("T")

_CALLS = ", ".join(f"calls.{column}" for column in CALL_COLUMNS)
ENTRY_COLUMNS = (
    "id, at_ms, kind, debit_account, credit_account, amount_nanos, call_id, key_id,"
    " upstream_nanos, price_id, reference, exchange, memo"
)


class Reader(Protocol):
    """Runs a read off the loop, once everything finished so far was applied."""

    async def __call__(self, read: Callable[[Database], T], /) -> T: ...


class CallReader:
    """`control.ports.Calls` and `control.ports.Reports`."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    async def list(
        self, wanted: CallFilter, *, limit: int, cursor: str | None = None
    ) -> Page[CallRecord]:
        by_key, by_account = wanted.key_id is not None, wanted.account_id is not None
        where, values = _conditions(
            {
                # `+` keeps a condition from choosing the index if it finds more than another one.
                f"{'+' if by_key else ''}account_id = ?": wanted.account_id,
                "key_id = ?": wanted.key_id,
                f"{'+' if by_key or by_account else ''}alias = ?": wanted.alias,
                "status = ?": wanted.status,
                # SQLite uses the partial index only if the query itself states the index's
                # condition.
                "status <> 200 AND 1 = ?": 1 if wanted.status not in (None, 200) else None,
                "resolution = ?": wanted.resolution,
                **said_conditions(wanted),
                "resolution <> 'settled' AND 1 = ?": (
                    1 if wanted.resolution not in (None, "settled") else None
                ),
            }
        )
        sql = (
            f"SELECT {_CALLS}, calls.row FROM calls WHERE {where}"
            " AND at_ms >= ? AND (at_ms, row) < (?, ?) ORDER BY at_ms DESC, row DESC LIMIT ?"
        )
        # One bound on each side: given two, SQLite would search by the wrong one.
        since_ms = wanted.since_ms or 0
        before = (LAST if wanted.until_ms is None else wanted.until_ms, 0)
        if cursor is not None:
            at_ms, row = read_cursor(cursor, 2)
            before = min(before, (at_ms, row))

        def read(database: Database) -> list[tuple[Any, ...]]:
            if not is_combined(wanted):
                return _all(database, sql, (*values, since_ms, *before, limit + 1))
            ranges = (
                (max(first, since_ms), *min(before, (end, 0)))
                for first, end in call_ranges(database, wanted, before[0])
            )
            return _gathered(database, sql, values, ranges, limit + 1)

        rows = await self._read(read)
        records = [record_of(row[:-1]) for row in rows[:limit]]
        next_cursor = None
        if len(rows) > limit:
            next_cursor = write_cursor(records[-1].at_ms, rows[limit - 1][-1])
        return Page(records, next_cursor)

    async def get(self, call_id: str) -> CallRecord:
        record = await self.find(call_id)
        if record is None:
            raise NotFound(f"There is no call '{call_id[:100]}'.", code="call_not_found")
        return record

    async def find(self, call_id: str, account_id: str | None = None) -> CallRecord | None:
        """The call, if there is one and it is this account's."""
        sql = f"SELECT {_CALLS} FROM calls WHERE id = ?"
        rows = await self._read(lambda database: _all(database, sql, (call_id,)))
        if not rows:
            return None
        record = record_of(rows[0])
        return record if account_id in (None, record.account_id) else None

    async def find_response(self, response_id: str, account_id: str) -> CallRecord | None:
        """The call whose answer has this id, if it is this account's."""
        sql = (
            f"SELECT {_CALLS} FROM calls WHERE response_id = ? AND account_id = ?"
            " ORDER BY at_ms DESC LIMIT 1"
        )
        values = (response_id, account_id)
        rows = await self._read(lambda database: _all(database, sql, values))
        return record_of(rows[0]) if rows else None

    async def by(
        self,
        group: ReportBy,
        then: ReportBy | None = None,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> list[ReportRow]:
        """Sums over calls, in order of the group's name, separately for each currency; also for
        what they are grouped by `then`."""
        columns: dict[ReportBy, LiteralString] = {
            "day": "strftime('%Y-%m-%d', at_ms / 1000, 'unixepoch')",
            "alias": "alias",
            "key": "key_id",
            "account": "account_id",
            "user": "coalesce(end_user, '')",
            "tag": "coalesce(tag.value, '')",
            "metadata": "coalesce(pair.key || '=' || pair.value, '')",
        }
        column = columns[group]
        within = "NULL" if then is None else columns[then]
        source = "calls"
        if "tag" in (group, then):
            source += " LEFT JOIN json_each(calls.tags) AS tag"
        if "metadata" in (group, then):
            source += " LEFT JOIN json_each(calls.metadata) AS pair"
        where, values = _conditions({"at_ms >= ?": since_ms, "at_ms < ?": until_ms})
        sql = (
            f"SELECT {column} AS name, count(*), coalesce(sum(status >= 400), 0),"
            " sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(reasoning_tokens),"
            " sum(charged_nanos), sum(overrun_nanos), sum(upstream_nanos), coalesce("
            "(SELECT currency FROM accounts WHERE accounts.id = account_id), 'USD') AS currency,"
            f" {within} AS within"
            f" FROM {source} WHERE {where} GROUP BY name, within, currency"
            " ORDER BY name, within, currency"
        )
        rows = await self._read(lambda database: _all(database, sql, values))
        return [ReportRow(*row) for row in rows]


def said_conditions(wanted: CallFilter) -> dict[LiteralString, Any]:
    """On what callers said of a call, whose rows no index finds."""
    return {
        "end_user = ?": wanted.user,
        "EXISTS (SELECT 1 FROM json_each(calls.tags) AS tag WHERE tag.value = ?)": wanted.tag,
        "EXISTS (SELECT 1 FROM json_each(calls.metadata) AS pair"
        " WHERE pair.key || '=' || pair.value = ?)": wanted.metadata,
    }


class EntryReader:
    """Pages of the ledger's entries."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    async def entries(
        self, wanted: EntryFilter, *, limit: int, cursor: str | None = None
    ) -> Page[Entry]:
        where, values = _conditions(
            {
                "account_id = ?": wanted.account_id,
                "call_id = ?": wanted.call_id,
                "kind = ?": wanted.kind,
                "kind <> 'settle' AND 1 = ?": 1 if wanted.kind not in (None, "settle") else None,
                "kind <> 'settle' AND kind <> 'overrun' AND 1 = ?": 1 if wanted.is_moved else None,
                "at_ms >= ?": wanted.since_ms,
                "at_ms < ?": wanted.until_ms,
            }
        )
        if cursor is not None:
            where += " AND id < ?"
            values += tuple(read_cursor(cursor, 1))
        is_dated = wanted.since_ms is not None or wanted.until_ms is not None
        within = " AND id >= ? AND id <= ?" if is_dated else ""
        # Of a busy account's entries, few are none of calls.
        index = (
            " INDEXED BY entries_moved" if wanted.is_moved and wanted.account_id is not None else ""
        )
        sql = (
            f"SELECT {ENTRY_COLUMNS} FROM entries{index} WHERE {where}{within}"
            " ORDER BY id DESC LIMIT ?"
        )

        def read(database: Database) -> list[tuple[Any, ...]]:
            if not is_dated:
                return _all(database, sql, (*values, limit + 1))
            ranges = entry_ranges(database, wanted.since_ms, wanted.until_ms)
            return _gathered(database, sql, values, ranges, limit + 1)

        rows = await self._read(read)
        entries = [Entry(*row) for row in rows[:limit]]
        more = len(rows) > limit
        return Page(entries, write_cursor(entries[-1].id) if more else None)


def _conditions(wanted: dict[LiteralString, Any]) -> tuple[LiteralString, tuple[Any, ...]]:
    given: dict[LiteralString, Any] = {
        sql: each for sql, each in wanted.items() if each is not None
    }
    return " AND ".join(given.keys()) or "1", tuple(given.values())


def _all(database: Database, sql: LiteralString, values: Iterable[Any]) -> list[tuple[Any, ...]]:
    return list(database.execute(sql, tuple(values)))


def _gathered(
    database: Database,
    sql: LiteralString,
    values: tuple[Any, ...],
    ranges: Iterable[tuple[int, ...]],
    limit: int,
) -> list[tuple[Any, ...]]:
    """Rows from one range after another, until there are enough."""
    rows: list[tuple[Any, ...]] = []
    for bounds in ranges:
        rows += database.execute(sql, (*values, *bounds, limit - len(rows)))
        if len(rows) >= limit:
            break
    return rows


def write_cursor(*numbers: int) -> str:
    return base64.urlsafe_b64encode(":".join(map(str, numbers)).encode()).decode().rstrip("=")


def read_cursor(cursor: str, count: int) -> list[int]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        numbers = [int(part) for part in text.split(":")]
    except (ValueError, binascii.Error):
        numbers = []
    if len(numbers) != count or any(abs(number) >= 2**63 for number in numbers):
        raise InvalidCall(
            "The cursor is not one of this list's; use next_cursor of the page before.",
            param="cursor",
            code="invalid_cursor",
        )
    return numbers
