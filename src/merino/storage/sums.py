"""Sums of calls, kept with the calls, and the audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, LiteralString

from merino.control.audit import AuditLine
from merino.control.overview import SPAN_MS, CallSums, SumBy
from merino.control.ports import Page
from merino.domain.clock import DAY_MS, HOUR_MS
from merino.domain.errors import InvalidCall
from merino.ledger.lines import (
    ACCOUNT_ID,
    ALIAS,
    AT_MS,
    CACHED_TOKENS,
    CHARGED,
    DEPLOYMENT,
    DURATION,
    FIRST_TOKEN,
    INPUT_TOKENS,
    KEY_ID,
    OUTPUT_TOKENS,
    REASONING_TOKENS,
    STATUS,
    STREAMED,
    UPSTREAM,
    Record,
)
from merino.sqlite.database import Database, Row, marks
from merino.sqlite.writer import Writer
from merino.storage.calls import Reader

FIELDS: tuple[LiteralString, ...] = (
    "calls", "refused", "failed", "input_tokens", "cached_tokens", "output_tokens",
    "reasoning_tokens", "charged_nanos", "upstream_nanos", "first_token_calls", "first_token_ms",
    "generated_tokens", "generating_ms",
)  # fmt: skip
_SUMMED = ", ".join([f"sum({name})" for name in FIELDS])
_LEVELS_MS = (SPAN_MS, HOUR_MS, DAY_MS, HOUR_MS)
_BY_ACCOUNT = 3


_ADD = f"INSERT INTO call_sums VALUES ({marks(19)}) ON CONFLICT DO UPDATE SET " + ", ".join(
    [f"{name} = {name} + excluded.{name}" for name in FIELDS]
)
_PLAIN = f"level, slot, account_id, key_id, alias, deployment, {', '.join(FIELDS)}"
# Whole days, then what is left of the first day in hours, then of the first hour in five minutes.
_SINCE = f"""
SELECT {_PLAIN} FROM call_sums WHERE level = 2 AND slot >= :day
UNION ALL SELECT {_PLAIN} FROM call_sums WHERE level = 1 AND slot >= :hour AND slot < :day * 24
UNION ALL SELECT {_PLAIN} FROM call_sums WHERE level = 0 AND slot >= :span AND slot < :hour * 12
"""
_COLUMNS: dict[SumBy, LiteralString] = {
    "alias": "alias",
    "key": "key_id",
    "account": "account_id",
    "deployment": "deployment",
}
_LAST_ROW = 2**62
_PAGE_MAX = 500


def count_calls(database: Database, ended: Sequence[Record], replaced: Sequence[Row]) -> None:
    """A follower of the ledger's booking: the sums are those of the calls, always."""
    if replaced:
        add_to_sums(database, replaced, -1)
    add_to_sums(database, [record[3] for record in ended])


def add_to_sums(database: Database, rows: Iterable[Sequence[Any]], sign: int = 1) -> None:
    """Count calls (rows as in the journal), or with `sign` -1 take them out again."""
    spans: dict[tuple[int, str, str, str, str], list[int]] = {}
    for row in rows:
        key = (row[AT_MS] // SPAN_MS, row[ACCOUNT_ID], row[KEY_ID], row[ALIAS], row[DEPLOYMENT])
        sums = spans.get(key)
        if sums is None:
            sums = spans[key] = [0] * len(FIELDS)
        add_call(sums, row)
    counted: list[tuple[object, ...]] = []
    for (span, account_id, *others), sums in spans.items():
        signed = [sign * each for each in sums]
        for level, length_ms in enumerate(_LEVELS_MS):
            by = ("", "", "") if level == _BY_ACCOUNT else others
            counted.append((level, span * SPAN_MS // length_ms, account_id, *by, *signed))
    database.execute_many(_ADD, counted)


def add_call(sums: list[int], row: Sequence[Any], sign: int = 1) -> None:
    """Count one call in sums of all `FIELDS`."""
    sums[0] += sign
    status = row[STATUS]
    if status >= 400:
        sums[1 if status < 500 else 2] += sign
    sums[3] += sign * row[INPUT_TOKENS]
    sums[4] += sign * row[CACHED_TOKENS]
    sums[5] += sign * row[OUTPUT_TOKENS]
    sums[6] += sign * row[REASONING_TOKENS]
    sums[7] += sign * row[CHARGED]
    sums[8] += sign * row[UPSTREAM]
    first_ms = row[FIRST_TOKEN]
    if first_ms is not None and status < 400:
        sums[9] += sign
        sums[10] += sign * round(first_ms)
        if row[STREAMED]:
            sums[11] += sign * row[OUTPUT_TOKENS]
            sums[12] += sign * max(0, round(row[DURATION] - first_ms))


class SumStore:
    """`control.overview.Sums`."""

    def __init__(self, writer: Writer, read: Reader) -> None:
        self._writer = writer
        self._read = read

    async def forget(self, before_ms: int) -> None:
        def forget(database: Database) -> None:
            with database.writing("forgetting old sums", lasts=False):
                for level, length_ms in enumerate(_LEVELS_MS):
                    database.execute(
                        "DELETE FROM call_sums WHERE level = ? AND slot < ?",
                        (level, before_ms // length_ms),
                    )
                for level, length_ms in ((1, HOUR_MS), (2, DAY_MS)):
                    before = (level, before_ms // length_ms)
                    database.execute(
                        "DELETE FROM first_token_sums WHERE level = ? AND slot < ?", before
                    )
                    for name, plain in product(("user", "tag", "metadata"), (0, 2)):
                        database.execute(
                            "DELETE FROM label_sums WHERE name = ? AND level = ? AND slot < ?",
                            (name, level + plain, before[1]),
                        )
                database.execute(
                    "DELETE FROM failed_attempts WHERE hour < ?", (before_ms // HOUR_MS,)
                )

        await self._writer.run(forget)

    async def sums(
        self, by: SumBy, since_ms: int, account_id: str | None = None
    ) -> Sequence[CallSums]:
        """In order of the group. The five minutes around `since_ms` count as a whole."""
        span = since_ms // SPAN_MS
        hour = -(-span // 12)
        values = {"span": span, "hour": hour, "day": -(-hour // 24)}
        return await self._grouped(_COLUMNS[by], _SINCE, values, account_id)

    async def _grouped(
        self,
        column: LiteralString,
        source: LiteralString,
        values: dict[str, Any],
        account_id: str | None,
    ) -> list[CallSums]:
        own = "" if account_id is None else " WHERE account_id = :account"
        sql = f"SELECT {column}, {_SUMMED} FROM ({source}){own} GROUP BY 1 ORDER BY 1"

        def read(database: Database) -> list[CallSums]:
            bound = values if account_id is None else {**values, "account": account_id}
            return [CallSums(str(row[0]), *row[1:]) for row in database.execute(sql, bound)]

        return await self._read(read)

    async def last_used_ms(self, key_ids: Sequence[str]) -> Mapping[str, int]:
        def read(database: Database) -> dict[str, int]:
            found: dict[str, int] = {}
            for key_id in key_ids:
                row = database.one("SELECT max(at_ms) FROM calls WHERE key_id = ?", (key_id,))
                if row is not None and row[0] is not None:
                    found[key_id] = row[0]
            return found

        return await self._read(read)


class AuditStore:
    """`control.audit.AuditLog`."""

    def __init__(self, writer: Writer, read: Reader, now_ms: Callable[[], int]) -> None:
        self._writer = writer
        self._read = read
        self._now_ms = now_ms

    async def note(self, actor: str, action: str, target: str, details: str = "") -> None:
        row = (self._now_ms(), actor, action, target, details)
        await self._writer.write(
            "noting the change",
            lambda database: database.change(
                "INSERT INTO audit (at_ms, actor, action, target, details) VALUES (?, ?, ?, ?, ?)",
                row,
            ),
        )

    async def lines(
        self, *, limit: int, cursor: str | None = None, text: str = ""
    ) -> Page[AuditLine]:
        """The newest first. Case is ignored, and an action's words are apart as people see them."""
        before = _LAST_ROW
        if cursor is not None:
            if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
                raise InvalidCall("The cursor is not one of this list's.", param="cursor")
            before = int(cursor)
        limit = min(limit, _PAGE_MAX)

        def read(database: Database) -> list[AuditLine]:
            rows: list[tuple[Any, ...]] = database.execute(
                "SELECT id, at_ms, actor, action, target, details FROM audit WHERE id < ?"
                " AND (? = '' OR instr(lower(actor || ' ' || replace(action, '_', ' ') || ' '"
                " || target || ' ' || details), ?) > 0) ORDER BY id DESC LIMIT ?",
                (before, text, text.lower(), limit + 1),
            ).fetchall()
            return [AuditLine(*row) for row in rows]

        lines = await self._read(read)
        more = len(lines) > limit
        return Page(lines[:limit], str(lines[limit - 1].id) if more else None)
