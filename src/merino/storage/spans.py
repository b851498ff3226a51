"""Finding rows by something that no index is made for, since every call would pay for it: spans of
entries by their times, hours by the sums of their calls. Both only say where something may be."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw

from merino.control.ports import CallFilter
from merino.storage.database import fetch_one, writing

SPAN_ENTRIES = 4096
HOUR_MS = 3_600_000
_HOURS = 1
"""The level of the hourly sums."""
_SPANS_AT_ONCE = 8
_LAST_ID = 2**63 - 1

_EXTEND = f"""
INSERT INTO entry_spans SELECT id / {SPAN_ENTRIES}, min(at_ms), max(at_ms) FROM entries
WHERE id >= :first * {SPAN_ENTRIES} AND id < :end * {SPAN_ENTRIES} GROUP BY 1
"""  # noqa: S608 - our own words


class EntrySpans:
    """Keeps `entry_spans` up."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def extend(self) -> bool:
        """Add a few spans; whether there are more to add. On the loop, so few at a time. Raises
        `StoreUnavailable`."""
        row = fetch_one(
            self._connection,
            "SELECT (SELECT coalesce(max(span) + 1, 0) FROM entry_spans),"  # noqa: S608 - our own
            f" (SELECT coalesce(max(id), 0) / {SPAN_ENTRIES} FROM entries)",
        )
        assert row is not None
        first, whole = row
        end = min(first + _SPANS_AT_ONCE, whole)
        if first < end:
            with writing(self._connection, "noting the times of entries") as connection:
                connection.execute(_EXTEND, {"first": first, "end": end})
        return end < whole


def entry_ranges(
    connection: apsw.Connection, since_ms: int | None, until_ms: int | None
) -> Iterator[tuple[int, int]]:
    """Ranges of ids, the newest first, in which all entries of these times are."""
    row = fetch_one(connection, "SELECT coalesce(max(span) + 1, 0) FROM entry_spans")
    assert row is not None
    first, last = row[0] * SPAN_ENTRIES, _LAST_ID  # what no span says anything of
    spans = connection.execute(
        "SELECT span FROM entry_spans WHERE last_ms >= ? AND first_ms < ? ORDER BY span DESC",
        (since_ms or 0, _LAST_ID if until_ms is None else until_ms),
    )
    for (span,) in spans:
        start = span * SPAN_ENTRIES
        if start + SPAN_ENTRIES < first:
            yield first, last
            last = start + SPAN_ENTRIES - 1
        first = start
    yield first, last


def is_combined(wanted: CallFilter) -> bool:
    """Whether more is asked for than one index can find, so that a page may be few among many."""
    given = (wanted.account_id, wanted.key_id, wanted.alias, wanted.status)
    return sum(value is not None and value != 200 for value in given) > 1


def call_ranges(
    connection: apsw.Connection, wanted: CallFilter, before_ms: int | None
) -> Iterator[tuple[int, int]]:
    """Ranges `[since, until)` of time, the newest first, in which all calls are that match."""
    ends = [end for end in (wanted.until_ms, before_ms) if end is not None]
    status = wanted.status or 0
    asked: dict[str, Any] = {
        "level = ?": _HOURS,
        "calls > ?": 0,
        "account_id = ?": wanted.account_id,
        "key_id = ?": wanted.key_id,
        "alias = ?": wanted.alias,
        "slot >= ?": None if wanted.since_ms is None else wanted.since_ms // HOUR_MS,
        "slot <= ?": min(ends) // HOUR_MS if ends else None,
        "failed > ?": 0 if status >= 500 else None,
        "refused > ?": 0 if 400 <= status < 500 else None,
    }
    conditions = {sql: value for sql, value in asked.items() if value is not None}
    hours = connection.execute(
        f"SELECT DISTINCT slot FROM call_sums WHERE {' AND '.join(conditions)}"  # noqa: S608 - our own words
        " ORDER BY slot DESC",
        tuple(conditions.values()),
    )
    for (hour,) in hours:
        yield hour * HOUR_MS, (hour + 1) * HOUR_MS
    # Sums may be forgotten before calls are.
    row = fetch_one(connection, "SELECT min(slot) FROM call_sums WHERE level = ?", (_HOURS,))
    assert row is not None
    yield 0, _LAST_ID if row[0] is None else row[0] * HOUR_MS
