"""Notices until they are delivered."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from merino.domain.clock import DAY_MS
from merino.domain.credits import Delivery, Notice, NoticeChannel, NoticeKind
from merino.sqlite.database import Database

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
    """`control.ports.Notices`."""

    def __init__(self, database: Database, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._now_ms = now_ms

    def add(self, occasion: str, account_id: str, kind: NoticeKind, body: str) -> bool:
        with self._database.writing("keeping the notice") as database:
            database.execute(
                f"INSERT OR IGNORE INTO notices ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
                (f"ntc_{secrets.token_hex(8)}", occasion, account_id, kind, self._now_ms(), body),
            )
            return bool(database.changes())

    def due(self, channel: NoticeChannel, limit: int) -> Sequence[Notice]:
        now_ms = self._now_ms()
        wanted = {"channel": channel, "since": now_ms - SENT_FOR_MS, "now": now_ms, "limit": limit}
        return [
            Notice(*row, deliveries=(Delivery(channel, attempts, None, last_error),))
            for *row, attempts, last_error in self._database.execute(_DUE, wanted)
        ]

    def list(self, account_id: str | None, limit: int) -> Sequence[Notice]:
        """Newest first."""
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM notices WHERE ? IS NULL OR account_id = ?"
            " ORDER BY created_at_ms DESC, id LIMIT ?",
            (account_id, account_id, limit),
        )
        return [Notice(*row, deliveries=self._deliveries(row[0])) for row in rows]

    def delivered(self, notice_id: str, channel: NoticeChannel) -> None:
        now_ms = self._now_ms()
        with self._database.writing("keeping that the notice arrived") as database:
            database.execute(_DELIVERED, (notice_id, channel, now_ms, now_ms))

    def failed(
        self, notice_id: str, channel: NoticeChannel, error: str, next_attempt_ms: int | None
    ) -> None:
        """Note a failed attempt; with `None` it is not tried again."""
        again_ms = _FAR_MS if next_attempt_ms is None else next_attempt_ms
        with self._database.writing("keeping that the notice failed") as database:
            database.execute(_FAILED, (notice_id, channel, again_ms, error))

    def _deliveries(self, notice_id: str) -> tuple[Delivery, ...]:
        return tuple(Delivery(*row) for row in self._database.execute(_DELIVERIES, (notice_id,)))
