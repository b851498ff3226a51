"""An account's entries in a span: sums of calls, and everything else one by one.

Entries are only ever added, so a sum stays right. Sums by account, day and price are extended in
the background; what they lack is read from the entries themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

from merino.billing.ports import StatementLines, UsageLine
from merino.domain.clock import DAY_MS
from merino.domain.errors import InvalidCall
from merino.domain.ledger import Entry
from merino.sqlite.database import Database, numeral
from merino.sqlite.writer import Writer
from merino.storage.calls import ENTRY_COLUMNS, Reader

MOVEMENTS_MAX = 100_000
_DAY = numeral(DAY_MS)

# An entry as the sums store it. A call whose hold was empty has an overrun and no settlement.
_COUNTED = """
    kind IN ('settle', 'overrun') AS is_usage,
    CASE WHEN kind IN ('settle', 'overrun') THEN coalesce(price_id, '') ELSE '' END AS price,
    CASE kind WHEN 'settle' THEN 1 WHEN 'overrun' THEN NOT EXISTS (
        SELECT 1 FROM entries AS other WHERE other.call_id = entries.call_id
            AND other.kind = 'settle') ELSE 0 END AS calls,
    CASE WHEN debit_account = account_id THEN amount_nanos ELSE -amount_nanos END AS nanos
"""
_SUM_UP = f"""
INSERT INTO entry_sums
SELECT account_id, at_ms / {_DAY} AS day, is_usage, price, sum(calls), sum(nanos) FROM (
    SELECT account_id, at_ms, {_COUNTED} FROM entries WHERE id > :after AND id <= :upto
) GROUP BY account_id, day, is_usage, price
ON CONFLICT DO UPDATE SET calls = calls + excluded.calls, nanos = nanos + excluded.nanos
"""
_DAYS = f"""
SELECT day, is_usage, price_id AS price, calls, nanos FROM entry_sums
WHERE account_id = :account AND day < :until_day
UNION ALL
SELECT at_ms / {_DAY}, {_COUNTED} FROM entries
WHERE account_id = :account AND id > :after AND at_ms < :until
"""
_OPENING = f"SELECT coalesce(sum(nanos), 0) FROM ({_DAYS}) WHERE day < :since_day"
_USAGE = f"""
SELECT day, nullif(price, ''), sum(calls), sum(nanos) FROM ({_DAYS})
WHERE is_usage AND day >= :since_day GROUP BY day, price ORDER BY day, price
"""
_MOVEMENTS = f"""
SELECT {ENTRY_COLUMNS} FROM entries
WHERE kind <> 'settle' AND kind <> 'overrun' AND account_id = :account
    AND at_ms >= :since AND at_ms < :until
ORDER BY at_ms, id LIMIT {numeral(MOVEMENTS_MAX + 1)}
"""
_SPENT = """
SELECT day, sum(spent_nanos) FROM key_days
WHERE day >= ? AND key_id IN (SELECT id FROM keys WHERE account_id = ?) GROUP BY day
"""


class StatementReader:
    """`billing.ports.Statements`."""

    def __init__(self, writer: Writer, read: Reader) -> None:
        self._writer = writer
        self._read = read

    async def sum_up(self, rows_max: int) -> int:
        """Add at most `rows_max` entries to the sums, and return how many. Raises
        `StoreUnavailable`."""

        def sum_up(database: Database) -> int:
            after = _summed_entry(database)
            row = database.one(
                "SELECT max(id), count(*) FROM"
                " (SELECT id FROM entries WHERE id > ? ORDER BY id LIMIT ?)",
                (after, rows_max),
            )
            assert row is not None
            upto, rows = row
            if rows:
                with database.writing("summing entries up", lasts=False):
                    database.execute(_SUM_UP, {"after": after, "upto": upto})
                    database.execute(
                        "UPDATE meta SET value = ? WHERE name = 'summed_entry'", (upto,)
                    )
            return rows

        return await self._writer.run(sum_up)

    async def lines(self, account_id: str, since_ms: int, until_ms: int) -> StatementLines:
        """Whole days (UTC). Raises `InvalidCall` if there are more movements than a statement can
        show."""
        assert since_ms % DAY_MS == until_ms % DAY_MS == 0
        days = {
            "account": account_id,
            "since_day": since_ms // DAY_MS,
            "until_day": until_ms // DAY_MS,
            "until": until_ms,
        }
        span = {"account": account_id, "since": since_ms, "until": until_ms}

        def read(database: Database) -> StatementLines:
            bound = {**days, "after": _summed_entry(database)}
            before = database.one(_OPENING, bound)
            assert before is not None
            usage = [UsageLine(*row) for row in database.execute(_USAGE, bound)]
            movements = [Entry(*row) for row in database.execute(_MOVEMENTS, span)]
            return StatementLines(-before[0], usage, movements)

        found = await self._read(read)
        if len(found.movements) > MOVEMENTS_MAX:
            raise InvalidCall(
                f"the span has more than {MOVEMENTS_MAX} movements; ask for a shorter one",
                code="statement_too_long",
            )
        return found

    async def posted(self, account_id: str) -> int:
        """The balance stored beside the entries."""

        def read(database: Database) -> int:
            row = database.one(
                "SELECT posted_nanos FROM balances WHERE account_id = ?", (account_id,)
            )
            return 0 if row is None else row[0]

        return await self._read(read)

    async def spent_by_day(self, account_id: str, since_day: int) -> Mapping[int, int]:
        return await self._read(
            lambda database: dict(database.execute(_SPENT, (since_day, account_id)))
        )


def _summed_entry(database: Database) -> int:
    row = database.one("SELECT value FROM meta WHERE name = 'summed_entry'")
    assert row is not None
    return row[0]
