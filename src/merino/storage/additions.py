"""Deployments and aliases that operators added: few, all in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from merino.domain.addition import Addition, Place
from merino.sqlite.database import Database
from merino.sqlite.writer import Writer

_LOAD = "SELECT kind, name, terms, at_ms FROM additions ORDER BY kind DESC, at_ms, name"


class AdditionStore:
    """`control.additions.Additions`."""

    def __init__(self, database: Database, writer: Writer, now_ms: Callable[[], int]) -> None:
        self._writer = writer
        self._now_ms = now_ms
        self._use(_load(database))

    def list(self) -> Sequence[Addition]:
        return self._known

    async def put(self, addition: Addition) -> None:
        terms = json.dumps(addition.terms, ensure_ascii=False)
        row = (addition.kind, addition.name, terms, self._now_ms())

        def write(database: Database) -> Sequence[Addition]:
            database.execute(
                "INSERT INTO additions VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET terms = excluded.terms",
                row,
            )
            return _load(database)

        await self._writer.write(f"keeping the {addition.kind}", write, self._use)

    async def remove(self, place: Place) -> None:
        def write(database: Database) -> Sequence[Addition]:
            database.execute("DELETE FROM additions WHERE kind = ? AND name = ?", place)
            return _load(database)

        await self._writer.write(f"removing the {place[0]}", write, self._use)

    def _use(self, known: Sequence[Addition]) -> None:
        self._known = known


def _load(database: Database) -> Sequence[Addition]:
    """Deployments first: aliases name them."""
    return tuple(
        Addition(kind, name, json.loads(terms), at_ms)
        for kind, name, terms, at_ms in database.execute(_LOAD)
    )
