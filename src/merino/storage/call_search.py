"""`control.call_search.CallSearch`: hours that may have matching calls come from the sums, newest
first, and only they are read, for as long as a page may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, LiteralString

from merino.control.call_search import AddressUse, CallQuery, Failures, Found
from merino.control.overview import LabelName
from merino.control.usage import LABELS, Cut
from merino.domain.clock import DAY_MS, HOUR_MS
from merino.ledger.lines import CALL_COLUMNS, record_of
from merino.sqlite.database import Database, marks, numeral
from merino.storage.calls import Reader, read_cursor, write_cursor
from merino.storage.labels import OTHERS
from merino.storage.spans import LAST
from merino.storage.usage import condition, ranges

_CONTENTS = frozenset(("request_json", "response_text"))
_SHOWN = ", ".join(
    ["NULL" if column in _CONTENTS else f"calls.{column}" for column in CALL_COLUMNS]
)
_HOURS, _DAYS = "1", "2"
LOOKS_S = 0.08
"""For so long a page looks on for calls that are rare."""
_FAILURES_READ = 20_000
_ADDRESSES_READ = 2_000


def without_labels(cut: Cut) -> Cut:
    return Cut({by: given for by, given in cut.values.items() if by not in LABELS})


def label_condition(name: LabelName, values: int) -> LiteralString:
    """On a call's own row, for any of so many values."""
    if name == "user":
        return f"end_user IN ({marks(values)})"
    if name == "tag":
        return (
            "EXISTS (SELECT 1 FROM json_each(calls.tags) AS tag"
            f" WHERE tag.value IN ({marks(values)}))"
        )
    return (
        "EXISTS (SELECT 1 FROM json_each(calls.metadata) AS pair"
        f" WHERE pair.key || '=' || pair.value IN ({marks(values)}))"
    )


class CallSearcher:
    """One read each."""

    def __init__(self, read: Reader, clock: Callable[[], float] = perf_counter) -> None:
        self._read = read
        self._clock = clock

    async def calls(self, wanted: CallQuery, *, limit: int, cursor: str | None = None) -> Found:
        before = (LAST if wanted.until_ms is None else wanted.until_ms, 0)
        if cursor is not None:
            at_ms, row = read_cursor(cursor, 2)
            before = min(before, (at_ms, row))
        where, values = _conditions(wanted)
        sql = (
            f"SELECT {_SHOWN}, calls.row FROM calls WHERE at_ms >= ? AND (at_ms, row) < (?, ?)"
            f"{where} ORDER BY at_ms DESC, row DESC LIMIT ?"
        )
        since_ms = wanted.since_ms or 0

        def read(database: Database) -> tuple[list[tuple[Any, ...]], int | None]:
            ends = self._clock() + LOOKS_S
            rows: list[tuple[Any, ...]] = []
            exact = _beginning(database, wanted, before, where, values, limit)
            if exact:
                return exact, None
            for first, end in _hours(database, wanted, before[0]):
                bounds = (max(first, since_ms), *min(before, (end, 0)))
                rows += database.execute(sql, (*bounds, *values, limit + 1 - len(rows)))
                if len(rows) > limit:
                    return rows, None
                if self._clock() > ends:
                    return rows, max(first, since_ms)
            return rows, None

        rows, looked_to = await self._read(read)
        items = [record_of(row[:-1]) for row in rows[:limit]]
        if len(rows) > limit:
            return Found(items, write_cursor(items[-1].at_ms, rows[limit - 1][-1]))
        if looked_to is not None and looked_to > since_ms:
            return Found(items, write_cursor(looked_to, 0), looked_to)
        return Found(items)

    async def count(self, wanted: CallQuery) -> int | None:
        if not wanted.is_summed or wanted.since_ms is None or wanted.until_ms is None:
            return None
        if wanted.cut.labels:
            return None  # sums by what callers say are of whole hours
        counted: dict[int, LiteralString] = {
            2: "calls - refused - failed", 4: "refused", 5: "failed",
        }  # fmt: skip
        if not set(wanted.classes) <= set(counted):
            return None
        amount = " + ".join([counted[each] for each in wanted.classes]) or "calls"
        given, bound = condition(wanted.cut)
        arms: list[LiteralString] = []
        values: list[Any] = []
        for level, first, end in ranges(wanted.since_ms, wanted.until_ms, None):
            arms.append(
                f"SELECT {amount} AS n FROM call_sums WHERE level = {numeral(level)}"
                f" AND slot >= ? AND slot < ?{given}"
            )
            values += (first, end, *bound)
        sql = f"SELECT coalesce(sum(n), 0) FROM ({' UNION ALL '.join(arms)})"
        return await self._read(lambda database: database.only(sql, values)) if arms else 0

    async def addresses(self, key_id: str, *, limit: int) -> Sequence[AddressUse]:
        sql = (
            "SELECT address, count(*), sum(status >= 400), min(at_ms), max(at_ms) FROM"
            " (SELECT address, status, at_ms FROM calls WHERE key_id = ?"
            f" ORDER BY at_ms DESC LIMIT {numeral(_ADDRESSES_READ)})"
            " WHERE address IS NOT NULL GROUP BY address ORDER BY 5 DESC LIMIT ?"
        )
        return await self._read(
            lambda database: [AddressUse(*row) for row in database.execute(sql, (key_id, limit))]
        )

    async def failures(self, wanted: CallQuery, *, limit: int) -> Sequence[Failures]:
        where, values = _conditions(wanted)
        bounds = (wanted.since_ms or 0, LAST if wanted.until_ms is None else wanted.until_ms)

        def read(database: Database) -> list[Failures]:
            # The index by status has each status in order of time; there are few statuses.
            found = [row[0] for row in database.execute(_STATUSES)]
            if not found:
                return []
            # Bare columns beside max() are those of the row that has it: the newest is the example.
            sql = (
                "SELECT status, coalesce(error_code, ''), key_id, alias, count(*), min(at_ms),"
                " max(at_ms), id, coalesce(error_message, '') FROM (SELECT status, error_code,"
                " key_id, alias, at_ms, id, error_message FROM calls INDEXED BY calls_by_status"
                f" WHERE status <> 200 AND status IN ({marks(len(found))})"
                f" AND at_ms >= ? AND at_ms < ?{where}"
                f" ORDER BY at_ms DESC LIMIT {numeral(_FAILURES_READ)})"
                " GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 7 DESC LIMIT ?"
            )
            rows = database.execute(sql, (*found, *bounds, *values, limit))
            return [Failures(*row) for row in rows]

        return await self._read(read)


_STATUSES = """
WITH RECURSIVE found(status) AS (
    SELECT min(status) FROM calls WHERE status <> 200 AND status >= 400
    UNION ALL
    SELECT (SELECT min(calls.status) FROM calls
            WHERE calls.status <> 200 AND calls.status > found.status)
    FROM found WHERE found.status IS NOT NULL
)
SELECT status FROM found WHERE status IS NOT NULL
"""


def _conditions(wanted: CallQuery) -> tuple[LiteralString, list[Any]]:
    where, values = condition(without_labels(wanted.cut))
    given: list[Any] = list(values)
    parts: list[LiteralString] = [where]
    for name, said in wanted.cut.labels.items():
        parts.append(f" AND {label_condition(name, len(said))}")
        given += said
    either: list[LiteralString] = []
    if wanted.statuses:
        either.append(f"status IN ({marks(len(wanted.statuses))})")
        given += wanted.statuses
    for each in wanted.classes:
        either.append("status BETWEEN ? AND ?")
        given += (each * 100, each * 100 + 99)
    if either:
        parts.append(f" AND ({' OR '.join(either)})")
    if (wanted.statuses or wanted.classes) and min(
        [*wanted.statuses, *(each * 100 for each in wanted.classes)]
    ) > 200:
        parts.append(" AND status <> 200")  # the partial index wants to hear it
    if wanted.error_codes:
        parts.append(f" AND error_code IN ({marks(len(wanted.error_codes))})")
        given += wanted.error_codes
    if wanted.id_part:
        parts.append(" AND instr(id, ?) > 0")
        given.append(wanted.id_part)
    least: dict[LiteralString, float | None] = {
        "charged_nanos >= ?": wanted.cost_min_nanos,
        "duration_ms >= ?": wanted.duration_min_ms,
        "ttft_ms >= ?": wanted.first_token_min_ms,
        "streamed = ?": None if wanted.streamed is None else int(wanted.streamed),
    }
    for sql, value in least.items():
        if value is not None:
            parts.append(f" AND {sql}")
            given.append(value)
    return "".join(parts), given


def _beginning(
    database: Database,
    wanted: CallQuery,
    before: tuple[int, int],
    where: LiteralString,
    values: Sequence[Any],
    limit: int,
) -> list[tuple[Any, ...]]:
    """Calls whose id begins so: the index of ids finds them at once, however old they are."""
    part = wanted.id_part
    if not part:
        return []
    sql = (
        f"SELECT {_SHOWN}, calls.row FROM calls WHERE id >= ? AND id < ?"
        f" AND at_ms >= ? AND (at_ms, row) < (?, ?){where}"
        " ORDER BY at_ms DESC, row DESC LIMIT ?"
    )
    bounds = (part, part + "\U0010ffff", wanted.since_ms or 0, *before)
    # Half an id can be any: what begins with three letters begins with most of them.
    return list(database.execute(sql, (*bounds, *values, limit + 1))) if len(part) > 8 else []


def _hours(database: Database, wanted: CallQuery, before_ms: int) -> Iterator[tuple[int, int]]:
    """Hours `[since, until)`, newest first, that contain all matching calls."""
    given, bound = condition(without_labels(wanted.cut))
    table: LiteralString = "call_sums"
    for name, said in wanted.cut.labels.items():
        # Sums are of one of them at a time: the first finds the hours, records have all.
        table = "label_sums"
        given += f" AND name = ? AND value IN ({marks(len(said) + 1)})"
        bound = [*bound, name, *said, OTHERS]
        break
    firsts = {*wanted.classes, *(status // 100 for status in wanted.statuses)}
    if wanted.error_codes and not firsts:
        firsts = {4, 5}
    if firsts and firsts <= {4, 5}:
        told: dict[int, LiteralString] = {4: "refused > 0", 5: "failed > 0"}
        given += f" AND ({' OR '.join([told[each] for each in sorted(firsts)])})"
    days = database.execute(
        f"SELECT DISTINCT slot FROM {table} WHERE level = {_DAYS} AND slot BETWEEN ? AND ?"
        f" AND calls > 0{given} ORDER BY slot DESC",
        ((wanted.since_ms or 0) // DAY_MS, before_ms // DAY_MS, *bound),
    )
    for (day,) in list(days):
        hours = database.execute(
            f"SELECT DISTINCT slot FROM {table} WHERE level = {_HOURS}"
            f" AND slot >= ? AND slot < ? AND calls > 0{given} ORDER BY slot DESC",
            (day * 24, day * 24 + 24, *bound),
        )
        for (hour,) in hours.fetchall():
            if hour * HOUR_MS < before_ms:
                yield hour * HOUR_MS, (hour + 1) * HOUR_MS
    # Sums may be forgotten before calls are.
    row = database.one(
        f"SELECT coalesce(min(slot), ?) FROM call_sums WHERE level = {_HOURS}", (LAST,)
    )
    assert row is not None
    yield 0, min(LAST, row[0] * HOUR_MS)
