"""Notices until they are delivered."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from merino.billing.nouns import Delivery, Notice, NoticeChannel, NoticeKind
from merino.domain.clock import DAY_MS
from merino.sqlite.database import Database
from merino.sqlite.readers import Readers
from merino.sqlite.writer import Writer

_COLUMNS = "id, occasion, account_id, kind, created_at_ms, body"
_FAR_MS = 2**62
"""The time of the next attempt once the last one was made: never."""
SENT_FOR_MS = 7 * DAY_MS
"""Older notices are not sent: a new channel does not begin with last year's news."""

_DUE = """
SELECT notices.id, occasion, account_id, kind, created_at_ms, body, coalesce(attempts, 0),
    last_error
FROM notices LEFT JOIN notice_deliveries ON notice_id = notices.id AND channel = :channel
WHERE created_at_ms >= :since AND delivered_at_ms IS NULL
    AND coalesce(next_attempt_ms, 0) <= :now
ORDER BY created_at_ms, notices.id LIMIT :limit
"""
_DELIVERED = """
INSERT INTO notice_deliveries VALUES (?, ?, 1, ?, ?, NULL)
ON CONFLICT DO UPDATE SET attempts = attempts + 1, delivered_at_ms = excluded.delivered_at_ms,
    last_error = NULL
"""
_FAILED = """
INSERT INTO notice_deliveries VALUES (?, ?, 1, ?, NULL, ?)
ON CONFLICT DO UPDATE SET attempts = attempts + 1, next_attempt_ms = excluded.next_attempt_ms,
    last_error = excluded.last_error
"""
_DELIVERIES = """
SELECT channel, attempts, delivered_at_ms, last_error FROM notice_deliveries WHERE notice_id = ?
ORDER BY channel
"""


class NoticeStore:
    """`billing.ports.Notices`."""

    def __init__(self, writer: Writer, points: Readers, now_ms: Callable[[], int]) -> None:
        self._writer = writer
        self._points = points
        self._now_ms = now_ms

    async def add(self, occasion: str, account_id: str, kind: NoticeKind, body: str) -> bool:
        row = (f"ntc_{secrets.token_hex(8)}", occasion, account_id, kind, self._now_ms(), body)
        sql = f"INSERT OR IGNORE INTO notices ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
        return bool(
            await self._writer.write(
                "keeping the notice", lambda database: database.change(sql, row)
            )
        )

    async def due(self, channel: NoticeChannel, limit: int) -> Sequence[Notice]:
        now_ms = self._now_ms()
        wanted = {"channel": channel, "since": now_ms - SENT_FOR_MS, "now": now_ms, "limit": limit}
        rows = await self._points.run(lambda database: database.execute(_DUE, wanted).fetchall())
        return [
            Notice(*row, deliveries=(Delivery(channel, attempts, None, last_error),))
            for *row, attempts, last_error in rows
        ]

    async def list(self, account_id: str | None, limit: int) -> Sequence[Notice]:
        """Newest first."""

        def read(database: Database) -> Sequence[Notice]:
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM notices WHERE ? IS NULL OR account_id = ?"
                " ORDER BY created_at_ms DESC, id LIMIT ?",
                (account_id, account_id, limit),
            )
            return [Notice(*row, deliveries=_deliveries(database, row[0])) for row in rows]

        return await self._points.run(read)

    async def delivered(self, notice_id: str, channel: NoticeChannel) -> None:
        now_ms = self._now_ms()
        await self._writer.write(
            "keeping that the notice arrived",
            lambda database: database.change(_DELIVERED, (notice_id, channel, now_ms, now_ms)),
        )

    async def failed(
        self, notice_id: str, channel: NoticeChannel, error: str, next_attempt_ms: int | None
    ) -> None:
        """Note a failed attempt; with `None` it is not tried again."""
        again_ms = _FAR_MS if next_attempt_ms is None else next_attempt_ms
        await self._writer.write(
            "keeping that the notice failed",
            lambda database: database.change(_FAILED, (notice_id, channel, again_ms, error)),
        )


def _deliveries(database: Database, notice_id: str) -> tuple[Delivery, ...]:
    return tuple(Delivery(*row) for row in database.execute(_DELIVERIES, (notice_id,)))
