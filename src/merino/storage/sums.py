"""Sums of calls, kept up in the background, and the audit log."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apsw

from merino.control.audit import AuditLine
from merino.control.overview import SPAN_MS, CallSums, Latencies, SumBy
from merino.control.ports import Page
from merino.domain.errors import InvalidCall
from merino.storage.calls import Reader
from merino.storage.database import fetch_one, writing

_FIELDS = (
    "calls", "refused", "failed", "input_tokens", "cached_tokens", "output_tokens",
    "reasoning_tokens", "charged_nanos", "upstream_nanos",
)  # fmt: skip
_SUMMED = ", ".join(f"sum({name})" for name in _FIELDS)
_COUNTED = (
    "count(*) AS calls, sum(status >= 400 AND status < 500) AS refused,"
    " sum(status >= 500) AS failed, sum(input_tokens) AS input_tokens,"
    " sum(cached_tokens) AS cached_tokens, sum(output_tokens) AS output_tokens,"
    " sum(reasoning_tokens) AS reasoning_tokens, sum(charged_nanos) AS charged_nanos,"
    " sum(upstream_nanos) AS upstream_nanos"
)
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_LEVELS_MS = (SPAN_MS, _HOUR_MS, _DAY_MS, _HOUR_MS)
_BY_ACCOUNT = 3


def _from_calls(level: int) -> str:
    """Sums of the calls from row `:after` to row `:upto`."""
    by = "key_id, alias, deployment"
    if level == _BY_ACCOUNT:
        by = "'' AS key_id, '' AS alias, '' AS deployment"
    return (
        f"SELECT {level} AS level, at_ms / {_LEVELS_MS[level]} AS slot, account_id, {by},"  # noqa: S608 - our own words
        f" {_COUNTED}"
        " FROM calls WHERE row > :after AND row <= :upto GROUP BY 2, 3, 4, 5, 6"
    )


_SUM_UP = [
    f"INSERT INTO call_sums {_from_calls(level)} ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _FIELDS)
    for level in range(len(_LEVELS_MS))
]
_PLAIN = f"level, slot, account_id, key_id, alias, deployment, {', '.join(_FIELDS)}"
# Whole days, then what is left of the first day in hours, then of the first hour in five minutes.
_SINCE = f"""
SELECT {_PLAIN} FROM call_sums WHERE level = 2 AND slot >= :day
UNION ALL SELECT {_PLAIN} FROM call_sums WHERE level = 1 AND slot >= :hour AND slot < :day * 24
UNION ALL SELECT {_PLAIN} FROM call_sums WHERE level = 0 AND slot >= :span AND slot < :hour * 12
"""  # noqa: S608 - our own words
_COLUMNS = {
    "alias": "alias",
    "key": "key_id",
    "account": "account_id",
    "deployment": "deployment",
}
_NEWEST_CALLS = 5_000
_LAST_ROW = 2**62
_PAGE_MAX = 500


# SQLite gives the number of a last row that was deleted to the next one.
REWIND = """
UPDATE meta SET value = min(value, (SELECT coalesce(max(row), 0) FROM calls))
WHERE name = 'summed_row'
"""
"""To be run when calls were deleted: what comes in their place is not summed up yet."""

_LESS_OLD = ", ".join(f"{name} = call_sums.{name} - old.{name}" for name in _FIELDS)
_UNCOUNT = [
    f"UPDATE call_sums SET {_LESS_OLD}"  # noqa: S608 - our own words
    f" FROM ({_from_calls(level)}) AS old WHERE call_sums.level = old.level"
    " AND call_sums.slot = old.slot AND call_sums.account_id = old.account_id"
    " AND call_sums.key_id = old.key_id AND call_sums.alias = old.alias"
    " AND call_sums.deployment = old.deployment"
    for level in range(len(_LEVELS_MS))
]


def uncount(connection: apsw.Connection, call_id: str) -> None:
    """Take a call that is about to be replaced out of the sums, if it is in them. In the
    transaction that is open."""
    row = fetch_one(
        connection,
        "SELECT max(row) FROM calls WHERE id = ? AND row <= ?",
        (call_id, _summed_row(connection)),
    )
    if row is not None and row[0] is not None:
        for statement in _UNCOUNT:
            connection.execute(statement, {"after": row[0] - 1, "upto": row[0]})


class SumStore:
    """`control.overview.Sums`. What is not summed up yet is read from the calls themselves."""

    def __init__(self, connection: apsw.Connection, read: Reader) -> None:
        self._connection = connection
        self._read = read

    def sum_up(self, rows_max: int) -> int:
        """Add at most `rows_max` calls to the sums; how many were. On the loop: keep it short."""
        after = _summed_row(self._connection)
        row = fetch_one(
            self._connection,
            "SELECT max(row) FROM (SELECT row FROM calls WHERE row > ? ORDER BY row LIMIT ?)",
            (after, rows_max),
        )
        assert row is not None
        upto = row[0]
        if upto is None:
            return 0
        with writing(self._connection, "summing calls up") as connection:
            for statement in _SUM_UP:
                connection.execute(statement, {"after": after, "upto": upto})
            connection.execute("UPDATE meta SET value = ? WHERE name = 'summed_row'", (upto,))
        return upto - after

    def forget(self, before_ms: int) -> None:
        with writing(self._connection, "forgetting old sums") as connection:
            for level, length_ms in enumerate(_LEVELS_MS):
                connection.execute(
                    "DELETE FROM call_sums WHERE level = ? AND slot < ?",
                    (level, before_ms // length_ms),
                )

    async def sums(
        self, by: SumBy, since_ms: int, account_id: str | None = None
    ) -> Sequence[CallSums]:
        """In order of the group. What began before `since_ms` within its five minutes counts."""
        span = since_ms // SPAN_MS
        hour = -(-span // 12)
        values = {"span": span, "hour": hour, "day": -(-hour // 24), "first": span}
        newest = f"SELECT * FROM ({_from_calls(0)}) WHERE slot >= :first"  # noqa: S608 - our own words
        return await self._grouped(_COLUMNS[by], f"{_SINCE} UNION ALL {newest}", values, account_id)

    async def over_time(
        self, slot_ms: int, since_ms: int, account_id: str | None = None
    ) -> Sequence[CallSums]:
        """Sums by five minutes or by the hour; the group is the slot's number."""
        level = 0 if slot_ms == SPAN_MS else _BY_ACCOUNT
        source = (
            f"SELECT {_PLAIN} FROM call_sums WHERE level = {level} AND slot >= :first"  # noqa: S608 - our own words
            f" UNION ALL SELECT * FROM ({_from_calls(level)})"
            " WHERE slot >= :first"
        )
        return await self._grouped("slot", source, {"first": since_ms // slot_ms}, account_id)

    async def _grouped(
        self, column: str, source: str, values: dict[str, Any], account_id: str | None
    ) -> list[CallSums]:
        own = "" if account_id is None else " WHERE account_id = :account"
        sql = f"SELECT {column}, {_SUMMED} FROM ({source}){own} GROUP BY 1 ORDER BY 1"  # noqa: S608 - our own words

        def read(connection: apsw.Connection) -> list[CallSums]:
            bound = {**values, "after": _summed_row(connection), "upto": _LAST_ROW}
            if account_id is not None:
                bound["account"] = account_id
            return [CallSums(str(row[0]), *row[1:]) for row in connection.execute(sql, bound)]

        return await self._read(read)

    async def latencies(self, since_ms: int, account_id: str | None = None) -> Latencies:
        """Of the newest calls that were answered."""
        own = "" if account_id is None else "account_id = :account AND "
        sql = (
            f"SELECT ttft_ms, relay_ms FROM calls WHERE {own}at_ms >= :since AND status = 200"  # noqa: S608 - our own words
            f" ORDER BY at_ms DESC LIMIT {_NEWEST_CALLS}"
        )
        values: dict[str, Any] = {"since": since_ms}
        if account_id is not None:
            values["account"] = account_id

        def read(connection: apsw.Connection) -> Latencies:
            rows: list[tuple[Any, ...]] = connection.execute(sql, values).fetchall()
            ttft = sorted(row[0] for row in rows if row[0] is not None)
            overhead = sorted(row[1] for row in rows if row[1] is not None)
            return Latencies(
                len(rows), _at(ttft, 0.5), _at(ttft, 0.99), _at(overhead, 0.5), _at(overhead, 0.99)
            )

        return await self._read(read)

    async def last_used_ms(self, key_ids: Sequence[str]) -> Mapping[str, int]:
        def read(connection: apsw.Connection) -> dict[str, int]:
            found: dict[str, int] = {}
            for key_id in key_ids:
                row = fetch_one(
                    connection, "SELECT max(at_ms) FROM calls WHERE key_id = ?", (key_id,)
                )
                if row is not None and row[0] is not None:
                    found[key_id] = row[0]
            return found

        return await self._read(read)


class AuditStore:
    """`control.audit.AuditLog`."""

    def __init__(
        self, connection: apsw.Connection, read: Reader, now_ms: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._read = read
        self._now_ms = now_ms

    def note(self, actor: str, action: str, target: str, details: str = "") -> None:
        with writing(self._connection, "noting the change") as connection:
            connection.execute(
                "INSERT INTO audit (at_ms, actor, action, target, details) VALUES (?, ?, ?, ?, ?)",
                (self._now_ms(), actor, action, target, details),
            )

    async def lines(self, *, limit: int, cursor: str | None = None) -> Page[AuditLine]:
        """The newest first."""
        before = _LAST_ROW
        if cursor is not None:
            if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
                raise InvalidCall("The cursor is not one of this list's.", param="cursor")
            before = int(cursor)
        limit = min(limit, _PAGE_MAX)

        def read(connection: apsw.Connection) -> list[AuditLine]:
            rows: list[tuple[Any, ...]] = connection.execute(
                "SELECT id, at_ms, actor, action, target, details FROM audit WHERE id < ?"
                " ORDER BY id DESC LIMIT ?",
                (before, limit + 1),
            ).fetchall()
            return [AuditLine(*row) for row in rows]

        lines = await self._read(read)
        more = len(lines) > limit
        return Page(lines[:limit], str(lines[limit - 1].id) if more else None)


def _summed_row(connection: apsw.Connection) -> int:
    row = fetch_one(connection, "SELECT value FROM meta WHERE name = 'summed_row'")
    assert row is not None
    return row[0]


def _at(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
