"""Finds rows without an index, since every call would pay for one: spans of entries by their times,
hours by the sums of their calls. Both only say where a row may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, LiteralString, cast

from merino.control.ports import CallFilter
from merino.domain.clock import DAY_MS, HOUR_MS
from merino.sqlite.database import Database, numeral
from merino.sqlite.writer import Writer

SPAN_ENTRIES = 4096
LAST = 2**63 - 1
_HOURS, _DAYS = "1", "2"
"""Levels of the sums."""
_SPANS_AT_ONCE = 8
_SPAN = numeral(SPAN_ENTRIES)

_EXTEND = f"""
INSERT INTO entry_spans SELECT id / {_SPAN}, min(at_ms), max(at_ms) FROM entries
WHERE id >= :first * {_SPAN} AND id < :end * {_SPAN} GROUP BY 1
"""


class EntrySpans:
    """Keeps `entry_spans` up to date."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def extend(self) -> bool:
        """Add a few spans; returns whether there are more to add. Raises `StoreUnavailable`."""
        return await self._writer.run(_extend)


def _extend(database: Database) -> bool:
    row = database.one(
        "SELECT (SELECT coalesce(max(span) + 1, 0) FROM entry_spans),"
        f" (SELECT coalesce(max(id), 0) / {_SPAN} FROM entries)"
    )
    assert row is not None
    first, whole = row
    end = min(first + _SPANS_AT_ONCE, whole)
    if first < end:
        with database.writing("noting the times of entries", lasts=False):
            database.execute(_EXTEND, {"first": first, "end": end})
    return end < whole


def entry_ranges(
    database: Database, since_ms: int | None, until_ms: int | None
) -> Iterator[tuple[int, int]]:
    """Ranges of ids, newest first, that contain all entries of these times."""
    row = database.one("SELECT coalesce(max(span) + 1, 0) FROM entry_spans")
    assert row is not None
    first, last = row[0] * SPAN_ENTRIES, LAST  # entries that no span covers
    spans = database.execute(
        "SELECT span FROM entry_spans WHERE last_ms >= ? AND first_ms < ? ORDER BY span DESC",
        (since_ms or 0, LAST if until_ms is None else until_ms),
    )
    for (span,) in spans:
        start = span * SPAN_ENTRIES
        if start + SPAN_ENTRIES < first:
            yield first, last
            last = start + SPAN_ENTRIES - 1
        first = start
    yield first, last


def is_combined(wanted: CallFilter) -> bool:
    """Whether the filter needs more than one index, so that a page may be few rows among many."""
    given = (wanted.account_id, wanted.key_id, wanted.alias, wanted.status)
    if _said(wanted) is not None:
        return True
    return sum(value is not None and value != 200 for value in given) > 1


def call_ranges(
    database: Database, wanted: CallFilter, before_ms: int
) -> Iterator[tuple[int, int]]:
    """Ranges `[since, until)` of time, newest first, that contain all matching calls."""
    status = wanted.status or 0
    asked: dict[LiteralString, Any] = {
        "account_id = ?": wanted.account_id or _account_of(database, wanted.key_id),
        "key_id = ?": wanted.key_id,
        "alias = ?": wanted.alias,
        "failed > ?": 0 if status >= 500 else None,
        "refused > ?": 0 if 400 <= status < 500 else None,
    }
    given: dict[LiteralString, Any] = {
        sql: value for sql, value in asked.items() if value is not None
    }
    values = tuple(given.values())
    of_it = " AND ".join(["calls > 0", *given.keys()])
    table: LiteralString = "call_sums"
    if (said := _said(wanted)) is not None:
        table, of_it = "label_sums", f"{of_it} AND name = ? AND value IN (?, '…')"
        values = (*values, *said)
    days = database.execute(
        f"SELECT DISTINCT slot FROM {table} WHERE level = {_DAYS} AND slot BETWEEN ? AND ?"
        f" AND {of_it} ORDER BY slot DESC",
        ((wanted.since_ms or 0) // DAY_MS, before_ms // DAY_MS, *values),
    )
    for (day,) in cast("Iterable[tuple[int]]", days):
        # One by one, so that the primary key leads to each hour's rows of the account.
        of_day = ", ".join([numeral(hour) for hour in range(day * 24, day * 24 + 24)])
        hours = database.execute(
            f"SELECT DISTINCT slot FROM {table} WHERE level = {_HOURS} AND slot IN ({of_day})"
            f" AND {of_it} ORDER BY slot DESC",
            values,
        )
        for (hour,) in cast("list[tuple[int]]", hours.fetchall()):
            yield hour * HOUR_MS, (hour + 1) * HOUR_MS
    # Sums may be forgotten before calls are.
    row = database.one(
        f"SELECT coalesce(min(slot), ?) FROM call_sums WHERE level = {_HOURS}", (LAST,)
    )
    assert row is not None
    yield 0, min(LAST, row[0] * HOUR_MS)


def _said(wanted: CallFilter) -> tuple[str, str] | None:
    """One of the things that callers say, and its value, if the filter has any."""
    given = {"user": wanted.user, "tag": wanted.tag, "metadata": wanted.metadata}
    return next(((name, value) for name, value in given.items() if value is not None), None)


def _account_of(database: Database, key_id: str | None) -> str | None:
    row = database.one("SELECT account_id FROM keys WHERE id = ?", (key_id,))
    return None if row is None else row[0]
