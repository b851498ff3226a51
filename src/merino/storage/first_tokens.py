"""How first tokens' times were spread, kept with the calls: percentiles of any time, for each model
and deployment, cost the same however many calls there were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from merino.control.overview import SumBy
from merino.control.usage import Cut, Spread, SpreadRow, step_of
from merino.domain.clock import DAY_MS, HOUR_MS
from merino.ledger.lines import ALIAS, AT_MS, DEPLOYMENT, FIRST_TOKEN, STATUS, STREAMED, Record
from merino.sqlite.database import Database, Row, marks, numeral
from merino.storage.calls import Reader

_LEVELS_MS = {1: HOUR_MS, 2: DAY_MS}
_ADD = (
    f"INSERT INTO first_token_sums VALUES ({marks(7)})"
    " ON CONFLICT DO UPDATE SET calls = calls + excluded.calls"
)
_DAYS_FROM_MS = 14 * DAY_MS
"""Longer times are read by the day: its edges weigh little."""
_COLUMNS: dict[SumBy | None, LiteralString] = {
    "alias": "alias",
    "deployment": "deployment",
    None: "''",
}


def count_first_tokens(
    database: Database, ended: Sequence[Record], replaced: Sequence[Row]
) -> None:
    """A follower of the ledger's booking."""
    found: dict[tuple[int, str, str, int, int], int] = {}
    for rows, sign in ((replaced, -1), ([record[3] for record in ended], 1)):
        for row in rows:
            first_ms = row[FIRST_TOKEN]
            if first_ms is None or row[STATUS] >= 400:
                continue
            key = (
                row[AT_MS] // HOUR_MS,
                row[ALIAS],
                row[DEPLOYMENT],
                int(row[STREAMED]),
                step_of(first_ms),
            )
            found[key] = found.get(key, 0) + sign
    database.execute_many(
        _ADD,
        [
            (level, hour * HOUR_MS // length_ms, *others, calls)
            for (hour, *others), calls in found.items()
            if calls
            for level, length_ms in _LEVELS_MS.items()
        ],
    )


class FirstTokenReader:
    """`control.usage.FirstTokens`."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    async def spreads(
        self,
        by: SumBy | None,
        since_ms: int,
        until_ms: int,
        cut: Cut,
        slot_ms: int | None = None,
    ) -> Sequence[SpreadRow]:
        days = slot_ms is None and until_ms - since_ms > _DAYS_FROM_MS
        level = 2 if days or (slot_ms is not None and slot_ms % DAY_MS == 0) else 1
        length = _LEVELS_MS[level]
        size = numeral(1 if slot_ms is None else max(1, slot_ms // length))
        at = "0" if slot_ms is None else f"slot / {size}"
        where = ""
        values: list[object] = [since_ms // length, -(-until_ms // length)]
        for each in ("alias", "deployment"):
            if given := cut.values.get(each):
                where += f" AND {_COLUMNS[each]} IN ({marks(len(given))})"
                values += given
        sql = (
            f"SELECT {at} AS at, {_COLUMNS[by]} AS name, step, sum(calls) FROM first_token_sums"
            f" WHERE level = {numeral(level)} AND slot >= ? AND slot < ?{where}"
            " GROUP BY at, name, step"
        )

        def read(database: Database) -> list[SpreadRow]:
            found: dict[tuple[int, str], dict[int, int]] = {}
            for slot, name, step, calls in database.execute(sql, values):
                found.setdefault((slot, name), {})[step] = calls
            scale = max(slot_ms or 0, length)
            return [
                SpreadRow(slot * scale, name, Spread(steps))
                for (slot, name), steps in found.items()
            ]

        return await self._read(read)
