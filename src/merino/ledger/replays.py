"""Answers kept for idempotency keys, sealed by the gateway and never opened here."""

from __future__ import annotations

from merino.domain.errors import StoreUnavailable
from merino.gateway.ports import Replay
from merino.sqlite.database import TRANSIENT_ERRORS, Database

KEEP_S = 86_400.0
_FIND = """
SELECT id, body_hash, call_id, status, content_type, body, at_ms, NULL,
    (SELECT charged_nanos FROM calls WHERE calls.id = replays.call_id)
FROM replays WHERE id = ? AND at_ms > ?
"""
_DELETE = """
DELETE FROM replays WHERE id IN (SELECT id FROM replays WHERE at_ms <= ? LIMIT ?)
"""


class Replays:
    """Point reads on the writer's database: a few microseconds, less than a thread hand-off."""

    def __init__(self, database: Database, keep_s: float = KEEP_S) -> None:
        self._database = database
        self._keep_ms = int(keep_s * 1000)

    def keep_for(self, seconds: float) -> None:
        """How old an answer may be, from now on."""
        self._keep_ms = int(seconds * 1000)

    def find(self, replay_id: bytes, now_ms: int) -> Replay | None:
        try:
            row = self._database.one(_FIND, (replay_id, now_ms - self._keep_ms))
        except TRANSIENT_ERRORS as error:
            raise StoreUnavailable(
                f"The database cannot be read now ({error}). Try again.", retry_after_s=1.0
            ) from error
        return None if row is None else Replay(*row)

    def delete_old(self, now_ms: int, limit: int) -> int:
        """Delete at most `limit` answers that are too old; how many were."""
        self._database.execute(_DELETE, (now_ms - self._keep_ms, limit))
        return self._database.changes()
