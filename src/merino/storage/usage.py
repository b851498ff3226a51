"""Sums of calls over any time, by any dimensions: read from the coarsest slots that fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from merino.control.overview import SPAN_MS, CallSums, LabelName, SumBy
from merino.control.usage import LABELS, Cut, UsageRow
from merino.domain.clock import DAY_MS, HOUR_MS
from merino.domain.errors import InvalidCall
from merino.sqlite.database import Database, marks, numeral
from merino.storage.calls import Reader
from merino.storage.labels import PLAIN
from merino.storage.sums import FIELDS

COLUMNS: dict[SumBy, LiteralString] = {
    "alias": "alias",
    "key": "key_id",
    "account": "account_id",
    "deployment": "deployment",
    "user": "value",
    "tag": "value",
    "metadata": "value",
}
_SPANS, _HOURS, _DAYS, _ACCOUNT_HOURS = 0, 1, 2, 3
_LENGTHS_MS = {_SPANS: SPAN_MS, _HOURS: HOUR_MS, _DAYS: DAY_MS}


class UsageReader:
    """`control.usage.UsageSums`."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    async def usage(
        self,
        by: Sequence[SumBy],
        since_ms: int,
        until_ms: int,
        cut: Cut,
        slot_ms: int | None = None,
        only: Sequence[str] = (),
    ) -> Sequence[UsageRow]:
        names: list[LiteralString] = [each for each in FIELDS if not only or only.count(each)]
        columns: list[LiteralString] = [COLUMNS[each] for each in by]
        name, given, bound = _source(by, cut)
        table: LiteralString = "call_sums"
        if name is not None:
            table = "label_sums"
            since_ms = since_ms // HOUR_MS * HOUR_MS
            until_ms = -(-until_ms // HOUR_MS) * HOUR_MS
            assert slot_ms is None or slot_ms % HOUR_MS == 0, "labels are summed by the hour"
        arms: list[LiteralString] = []
        values: list[Any] = []
        # Hours are kept by account alone, too: as few rows as there are accounts.
        is_plain = name is None and not by and cut.values.keys() <= {"account"}
        is_plain_label = set(by) <= {name} and cut.values.keys() <= {"account", name}
        for level, first, end in ranges(since_ms, until_ms, slot_ms):
            source = _ACCOUNT_HOURS if is_plain and level == _HOURS else level
            if name is not None and is_plain_label:
                source = level + PLAIN
            size = 1 if slot_ms is None else slot_ms // _LENGTHS_MS[level]
            at: LiteralString = "0" if slot_ms is None else f"slot / {numeral(size)}"
            picked: list[LiteralString] = [f"{at} AS at", *columns, "account_id AS payer", *names]
            arms.append(
                f"SELECT {', '.join(picked)} FROM {table} WHERE level = {numeral(source)}"
                f" AND slot >= ? AND slot < ?{given}"
            )
            values += (first, end, *bound)
        if not arms:
            return []
        named: list[LiteralString] = ["at", *columns]
        keys = ", ".join(named)
        summed = ", ".join([f"sum({name})" for name in names])
        aliased = ", ".join([f"sum({name}) AS {name}" for name in names])
        # By payer first: a currency is looked up once for each, not for each row.
        sql = (
            f"SELECT {keys}, coalesce((SELECT currency FROM accounts WHERE id = payer), 'USD')"
            f" AS currency, {summed} FROM (SELECT {keys}, payer, {aliased} FROM"
            f" ({' UNION ALL '.join(arms)}) GROUP BY {keys}, payer) GROUP BY {keys}, currency"
            f" ORDER BY {keys}, currency"
        )
        width = 1 + len(columns)

        def read(database: Database) -> list[UsageRow]:
            return [
                UsageRow(
                    row[0] * (slot_ms or 0),
                    tuple(row[1:width]),
                    row[width],
                    CallSums("", **dict(zip(names, row[width + 1 :], strict=True))),
                )
                for row in database.execute(sql, values)
            ]

        return await self._read(read)


def _source(by: Sequence[SumBy], cut: Cut) -> tuple[LabelName | None, LiteralString, list[str]]:
    """Which of what callers say the sums are of, if any, and the condition. Raises
    `InvalidCall`."""
    names: list[LabelName] = [each for each in LABELS if each in by or each in cut.values]
    given, bound = condition(cut)
    if not names:
        return None, given, bound
    if len(names) > 1:
        raise InvalidCall(
            "Sums are by one of end user, tag and metadata at a time; leave out the others.",
            param=LABELS[-1],
        )
    [name] = names
    return name, f"{given} AND name = ?", [*bound, name]


def condition(cut: Cut) -> tuple[LiteralString, list[str]]:
    """As it stands behind others."""
    parts: list[LiteralString] = []
    values: list[str] = []
    for by, given in cut.values.items():
        parts.append(f" AND {COLUMNS[by]} IN ({marks(len(given))})")
        values += given
    return "".join(parts), values


def ranges(since_ms: int, until_ms: int, slot_ms: int | None) -> list[tuple[int, int, int]]:
    """Levels with the slots of theirs that make up a time: days, and hours and five minutes at its
    ends. By slots it is one level, the coarsest that they are made of."""
    if slot_ms is not None:
        level = next(each for each in (_DAYS, _HOURS, _SPANS) if slot_ms % _LENGTHS_MS[each] == 0)
        length = _LENGTHS_MS[level]
        return [(level, since_ms // length, -(-until_ms // length))]
    first, end = since_ms // SPAN_MS, -(-until_ms // SPAN_MS)
    first_hour, end_hour = -(-first // 12), end // 12
    if first_hour >= end_hour:
        return _some([(_SPANS, first, end)])
    edges = [(_SPANS, first, first_hour * 12), (_SPANS, end_hour * 12, end)]
    first_day, end_day = -(-first_hour // 24), end_hour // 24
    if first_day >= end_day:
        return _some([*edges, (_HOURS, first_hour, end_hour)])
    return _some(
        [
            *edges,
            (_HOURS, first_hour, first_day * 24),
            (_HOURS, end_day * 24, end_hour),
            (_DAYS, first_day, end_day),
        ]
    )


def _some(found: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    return [(level, first, end) for level, first, end in found if first < end]
