"""Sums of calls by five minutes, kept up in the background, and the audit log."""

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

_SUMMED = (
    "sum(calls), sum(refused), sum(failed), sum(input_tokens), sum(cached_tokens),"
    " sum(output_tokens), sum(reasoning_tokens), sum(charged_nanos), sum(upstream_nanos)"
)
_FROM_CALLS = f"""
SELECT at_ms / {SPAN_MS} AS span, account_id, key_id, alias, deployment, count(*) AS calls,
    sum(status >= 400 AND status < 500) AS refused, sum(status >= 500) AS failed,
    sum(input_tokens) AS input_tokens, sum(cached_tokens) AS cached_tokens,
    sum(output_tokens) AS output_tokens, sum(reasoning_tokens) AS reasoning_tokens,
    sum(charged_nanos) AS charged_nanos, sum(upstream_nanos) AS upstream_nanos
FROM calls WHERE row > :after AND row <= :upto GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608 - our own words
_SUM_UP = f"""
INSERT INTO call_spans {_FROM_CALLS}
ON CONFLICT DO UPDATE SET calls = calls + excluded.calls, refused = refused + excluded.refused,
    failed = failed + excluded.failed, input_tokens = input_tokens + excluded.input_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
    charged_nanos = charged_nanos + excluded.charged_nanos,
    upstream_nanos = upstream_nanos + excluded.upstream_nanos
"""
_COLUMNS = {
    "alias": "alias",
    "key": "key_id",
    "account": "account_id",
    "deployment": "deployment",
    "span": "span",
}
_NEWEST_CALLS = 5_000
_LAST_ROW = 2**62
_PAGE_MAX = 500


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
            self._begin_anew(after)
            return 0
        with writing(self._connection, "summing calls up") as connection:
            connection.execute(_SUM_UP, {"after": after, "upto": upto})
            connection.execute("UPDATE meta SET value = ? WHERE name = 'summed_row'", (upto,))
        return upto - after

    def forget(self, before_ms: int) -> None:
        with writing(self._connection, "forgetting old sums") as connection:
            connection.execute("DELETE FROM call_spans WHERE span < ?", (before_ms // SPAN_MS,))

    def _begin_anew(self, after: int) -> None:
        # SQLite numbers rows anew once all are deleted.
        if after and fetch_one(self._connection, "SELECT 1 FROM calls LIMIT 1") is None:
            with writing(self._connection, "summing calls up") as connection:
                connection.execute("UPDATE meta SET value = 0 WHERE name = 'summed_row'")

    async def sums(
        self, by: SumBy, since_ms: int, account_id: str | None = None
    ) -> Sequence[CallSums]:
        """In order of the group; of spans in order of time."""
        own = "" if account_id is None else " AND account_id = :account"
        sql = (
            f"SELECT {_COLUMNS[by]} AS name, {_SUMMED} FROM ("  # noqa: S608 - our own words
            f"SELECT * FROM call_spans WHERE span >= :since{own}"
            f" UNION ALL SELECT * FROM ({_FROM_CALLS}) WHERE span >= :since{own}"
            ") GROUP BY name ORDER BY name"
        )

        def read(connection: apsw.Connection) -> list[CallSums]:
            values: dict[str, Any] = {
                "since": since_ms // SPAN_MS,
                "after": _summed_row(connection),
                "upto": _LAST_ROW,
            }
            if account_id is not None:
                values["account"] = account_id
            return [CallSums(str(row[0]), *row[1:]) for row in connection.execute(sql, values)]

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

    async def last_used_ms(self) -> Mapping[str, int]:
        def read(connection: apsw.Connection) -> dict[str, int]:
            sql = (
                f"SELECT key_id, max(at_ms) FROM (SELECT key_id, span * {SPAN_MS} AS at_ms"  # noqa: S608 - our own words
                " FROM call_spans UNION ALL SELECT key_id, at_ms FROM calls WHERE row > ?)"
                " GROUP BY key_id"
            )
            rows: list[tuple[Any, ...]] = connection.execute(
                sql, (_summed_row(connection),)
            ).fetchall()
            return {row[0]: row[1] for row in rows}

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
