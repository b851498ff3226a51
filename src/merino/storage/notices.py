"""Notices until they are delivered."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import apsw

from merino.domain.credits import Notice, NoticeKind
from merino.storage.database import writing

_COLUMNS = (
    "id, occasion, account_id, kind, created_at_ms, body, attempts, delivered_at_ms, last_error"
)
_FAR_MS = 2**62
"""When the next attempt is after the last one."""


class NoticeStore:
    """`control.ports.Notices`."""

    def __init__(self, connection: apsw.Connection, now_ms: Callable[[], int]) -> None:
        self._connection = connection
        self._now_ms = now_ms

    def add(self, occasion: str, account_id: str, kind: NoticeKind, body: str) -> bool:
        now_ms = self._now_ms()
        with writing(self._connection, "keeping the notice") as connection:
            connection.execute(
                "INSERT OR IGNORE INTO notices (id, occasion, account_id, kind, created_at_ms,"
                " body, next_attempt_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (f"ntc_{secrets.token_hex(8)}", occasion, account_id, kind, now_ms, body, now_ms),
            )
            return bool(connection.changes())

    def due(self, limit: int) -> Sequence[Notice]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM notices WHERE delivered_at_ms IS NULL"  # noqa: S608 - our own words
            " AND next_attempt_ms <= ? ORDER BY next_attempt_ms, id LIMIT ?",
            (self._now_ms(), limit),
        )
        return [Notice(*row) for row in rows]

    def list(self, account_id: str | None, limit: int) -> Sequence[Notice]:
        """The newest first."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM notices WHERE ? IS NULL OR account_id = ?"  # noqa: S608 - our own words
            " ORDER BY created_at_ms DESC, id LIMIT ?",
            (account_id, account_id, limit),
        )
        return [Notice(*row) for row in rows]

    def delivered(self, notice_id: str) -> None:
        with writing(self._connection, "keeping that the notice arrived") as connection:
            connection.execute(
                "UPDATE notices SET delivered_at_ms = ?, attempts = attempts + 1,"
                " last_error = NULL WHERE id = ?",
                (self._now_ms(), notice_id),
            )

    def failed(self, notice_id: str, error: str, next_attempt_ms: int | None) -> None:
        """`None`: it is not tried again."""
        with writing(self._connection, "keeping that the notice failed") as connection:
            connection.execute(
                "UPDATE notices SET attempts = attempts + 1, last_error = ?, next_attempt_ms = ?"
                " WHERE id = ?",
                (error, _FAR_MS if next_attempt_ms is None else next_attempt_ms, notice_id),
            )
