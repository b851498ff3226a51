"""Attempts that failed, kept with the calls: how many by deployment and hour, and the last ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from merino.control.deployment_health import LastError, is_deployments_fault
from merino.domain.clock import HOUR_MS
from merino.ledger.lines import AT_MS, ATTEMPTS, ID, Record, attempts_of
from merino.sqlite.database import Database, Row, numeral
from merino.storage.calls import Reader

_ADD = (
    "INSERT INTO failed_attempts VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET attempts = attempts + excluded.attempts"
)
_LAST = (
    "INSERT INTO last_errors VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " at_ms = excluded.at_ms, status = excluded.status, outcome = excluded.outcome,"
    " message = excluded.message, call_id = excluded.call_id WHERE excluded.at_ms >= at_ms"
)


def count_failed_attempts(
    database: Database, ended: Sequence[Record], replaced: Sequence[Row]
) -> None:
    """A follower of the ledger's booking."""
    found: dict[tuple[int, str], int] = {}
    last: dict[str, tuple[Any, ...]] = {}
    for rows, sign in ((replaced, -1), ([record[3] for record in ended], 1)):
        for row in rows:
            if row[ATTEMPTS] == "[]":  # nearly always
                continue
            for each in attempts_of(row[ATTEMPTS]):
                if not is_deployments_fault(each):
                    continue
                key = row[AT_MS] // HOUR_MS, each.deployment
                found[key] = found.get(key, 0) + sign
                at_ms = row[AT_MS] + round(each.started_ms)
                told = (each.deployment, at_ms, each.status, each.outcome, each.message, row[ID])
                last[each.deployment] = told
    if found:
        database.execute_many(_ADD, [(*key, attempts) for key, attempts in found.items()])
        database.execute_many(_LAST, [*last.values()])


class FailedAttemptReader:
    """`control.deployment_health.FailedAttempts`."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    async def failed(
        self, since_ms: int, until_ms: int, slot_ms: int
    ) -> Mapping[tuple[str, int], int]:
        size = max(1, slot_ms // HOUR_MS)
        sql = (
            f"SELECT deployment, hour / {numeral(size)} AS slot, sum(attempts) FROM failed_attempts"
            " WHERE hour >= ? AND hour < ? GROUP BY deployment, slot"
        )
        bounds = (since_ms // HOUR_MS, -(-until_ms // HOUR_MS))

        def read(database: Database) -> dict[tuple[str, int], int]:
            return {
                (name, slot * size * HOUR_MS): attempts
                for name, slot, attempts in database.execute(sql, bounds)
            }

        return await self._read(read)

    async def last_errors(self) -> Mapping[str, LastError]:
        def read(database: Database) -> dict[str, LastError]:
            return {
                row[0]: LastError(*row) for row in database.execute("SELECT * FROM last_errors")
            }

        return await self._read(read)
