"""What an account's entries say of a span: sums of calls, and everything else one by one."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

from collections.abc import Mapping

import apsw

from merino.control.ports import StatementLines, UsageLine
from merino.domain.errors import InvalidCall
from merino.domain.ledger import Entry
from merino.storage.calls import ENTRY_COLUMNS, Reader
from merino.storage.database import fetch_one

MOVEMENTS_MAX = 100_000

# One pass over the account's entries; what lies before the span is one group of it.
_SUMS = """
SELECT CASE WHEN at_ms < :since THEN -1 ELSE at_ms / 86400000 END AS day,
    CASE WHEN at_ms < :since THEN NULL ELSE price_id END AS price,
    sum(CASE kind WHEN 'settle' THEN 1 WHEN 'overrun' THEN NOT EXISTS (
        SELECT 1 FROM entries AS other WHERE other.call_id = entries.call_id
            AND other.kind = 'settle') ELSE 0 END),
    sum(CASE WHEN debit_account = :account THEN amount_nanos ELSE -amount_nanos END)
FROM entries WHERE account_id = :account AND at_ms < :until
    AND (at_ms < :since OR kind IN ('settle', 'overrun'))
GROUP BY day, price ORDER BY day, price
"""
_MOVEMENTS = f"""
SELECT {ENTRY_COLUMNS} FROM entries
WHERE kind <> 'settle' AND kind <> 'overrun' AND account_id = :account
    AND at_ms >= :since AND at_ms < :until
ORDER BY at_ms, id LIMIT {MOVEMENTS_MAX + 1}
"""  # noqa: S608 - our own words
_SPENT = """
SELECT day, sum(spent_nanos) FROM key_days
WHERE day >= ? AND key_id IN (SELECT id FROM keys WHERE account_id = ?) GROUP BY day
"""


class StatementReader:
    """`control.ports.Statements`."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    async def lines(self, account_id: str, since_ms: int, until_ms: int) -> StatementLines:
        """Raises `InvalidCall` if there are more movements than a statement can show."""
        span = {"account": account_id, "since": since_ms, "until": until_ms}

        def read(connection: apsw.Connection) -> StatementLines:
            opening = 0
            usage: list[UsageLine] = []
            for day, price_id, calls, nanos in connection.execute(_SUMS, span):
                if day < 0:
                    opening = -nanos
                else:
                    usage.append(UsageLine(day, price_id, calls, nanos))
            movements = [Entry(*row) for row in connection.execute(_MOVEMENTS, span)]
            return StatementLines(opening, usage, movements)

        found = await self._read(read)
        if len(found.movements) > MOVEMENTS_MAX:
            raise InvalidCall(
                f"the span has more than {MOVEMENTS_MAX} movements; ask for a shorter one",
                code="statement_too_long",
            )
        return found

    async def posted(self, account_id: str) -> int:
        """The balance as it is kept beside the entries."""

        def read(connection: apsw.Connection) -> int:
            row = fetch_one(
                connection, "SELECT posted_nanos FROM balances WHERE account_id = ?", (account_id,)
            )
            return 0 if row is None else row[0]

        return await self._read(read)

    async def spent_by_day(self, account_id: str, since_day: int) -> Mapping[int, int]:
        return await self._read(
            lambda connection: dict(connection.execute(_SPENT, (since_day, account_id)))
        )
