"""Sums of calls by what they say they are about, kept with the calls. Who says nothing pays for
nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from merino.control.overview import LabelName
from merino.domain.clock import DAY_MS, HOUR_MS
from merino.ledger.lines import (
    ACCOUNT_ID,
    ALIAS,
    AT_MS,
    DEPLOYMENT,
    END_USER,
    KEY_ID,
    METADATA,
    TAGS,
    Record,
)
from merino.sqlite.database import Database, Row, marks
from merino.storage.sums import FIELDS, add_call

VALUES_MAX = 1000
"""So many values has a name in a day, of one account."""
OTHERS = "…"
_LEVELS_MS = {1: HOUR_MS, 2: DAY_MS, 3: HOUR_MS, 4: DAY_MS}
PLAIN = 2
"""So much higher is the level that tells accounts apart and nothing else: as few rows as there are
values."""
_ADD = f"INSERT INTO label_sums VALUES ({marks(8 + len(FIELDS))}) ON CONFLICT DO UPDATE SET " + (
    ", ".join([f"{name} = {name} + excluded.{name}" for name in FIELDS])
)
_Group = tuple[LabelName, int, str, str, str, str, str]
"""Name, hour, value, account, key, alias, deployment."""


def count_labels(database: Database, ended: Sequence[Record], replaced: Sequence[Row]) -> None:
    """A follower of the ledger's booking."""
    groups: dict[_Group, list[int]] = {}
    for rows, sign in ((replaced, -1), ([record[3] for record in ended], 1)):
        for row in rows:
            for name, value in labels_of(row):
                key: _Group = (
                    name, row[AT_MS] // HOUR_MS, value,
                    row[ACCOUNT_ID], row[KEY_ID], row[ALIAS], row[DEPLOYMENT],
                )  # fmt: skip
                add_call(groups.setdefault(key, [0] * len(FIELDS)), row, sign)
    if not groups:
        return
    known = _Known(database)
    rows_of: dict[tuple[Any, ...], list[int]] = {}
    for (name, hour, value, account_id, *others), sums in groups.items():
        day = hour * HOUR_MS // DAY_MS
        counted = value if known.takes(name, day, account_id, value) else OTHERS
        for level, length_ms in _LEVELS_MS.items():
            slot = hour * HOUR_MS // length_ms
            by = others if level <= PLAIN else ("", "", "")
            place = (name, level, slot, counted, account_id, *by)
            into = rows_of.setdefault(place, [0] * len(FIELDS))
            for index, each in enumerate(sums):
                into[index] += each
    database.execute_many(_ADD, [(*place, *sums) for place, sums in rows_of.items()])


def labels_of(row: Sequence[Any]) -> Iterator[tuple[LabelName, str]]:
    """What a call's row says: its end user, each of its tags, each pair of its metadata."""
    if row[END_USER]:
        yield "user", row[END_USER]
    if row[TAGS]:
        for tag in json.loads(row[TAGS]):
            yield "tag", tag
    if row[METADATA]:
        for name, value in json.loads(row[METADATA]).items():
            yield "metadata", f"{name}={value}"


class _Known:
    """Which values a day has; asked of the database once for each name, day and account."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._values: dict[tuple[str, int, str], set[str]] = {}

    def takes(self, name: str, day: int, account_id: str, value: str) -> bool:
        """Whether it is one of the day's, or there is room for one more."""
        place = name, day, account_id
        values = self._values.get(place)
        if values is None:
            found = self._database.execute(
                "SELECT DISTINCT value FROM label_sums"
                " WHERE name = ? AND level = 2 AND slot = ? AND account_id = ?",
                place,
            )
            values = self._values[place] = {row[0] for row in found}
        if value not in values and len(values) >= VALUES_MAX:
            return False
        values.add(value)
        return True
