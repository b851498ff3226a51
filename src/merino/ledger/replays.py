"""Answers kept for idempotency keys, sealed by the gateway and never opened here."""

from __future__ import annotations

from merino.gateway.ports import Replay
from merino.sqlite.database import Database
from merino.sqlite.readers import Readers

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
    def __init__(self, readers: Readers, keep_s: float = KEEP_S) -> None:
        self._readers = readers
        self._keep_ms = int(keep_s * 1000)

    def keep_for(self, seconds: float) -> None:
        """Set how old an answer may be."""
        self._keep_ms = int(seconds * 1000)

    async def find(self, replay_id: bytes, now_ms: int) -> Replay | None:
        bound = (replay_id, now_ms - self._keep_ms)
        row = await self._readers.run(lambda database: database.one(_FIND, bound))
        return None if row is None else Replay(*row)

    def delete_old(self, database: Database, now_ms: int, limit: int) -> int:
        """Delete at most `limit` answers that are too old, and return how many."""
        database.execute(_DELETE, (now_ms - self._keep_ms, limit))
        return database.changes()
