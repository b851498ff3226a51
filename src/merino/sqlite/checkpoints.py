"""Keeps SQLite's write-ahead log short: its content goes into the database, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from merino.running.every import every
from merino.sqlite.database import LOG_BYTES, TRANSIENT_ERRORS, Database

LOG_BYTES_MAX = 16 * LOG_BYTES
"""The log begins anew when all of it is in the database while nothing is written. If no such moment
came before it is this long, the little that is left is done on the event loop."""
EVERY_S = 1.0


class Checkpoints:
    """`writer` is the connection that writes; it is used on the event loop only."""

    def __init__(self, path: Path, writer: Database) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._writer = writer
        self._own: Database | None = None

    async def run(self) -> None:
        """Until cancelled."""
        await every(EVERY_S, self.look)

    async def look(self) -> None:
        """Move what is in the log into the database, if that is worth it."""
        if self._log_bytes() <= LOG_BYTES:
            return
        working = asyncio.ensure_future(asyncio.to_thread(self._checkpoint))
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            await working  # whoever cancels is about to close the connection
            raise
        if self._log_bytes() > LOG_BYTES_MAX:
            with contextlib.suppress(*TRANSIENT_ERRORS):
                self._writer.move_log()

    def close(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None

    def _log_bytes(self) -> int:
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

    def _checkpoint(self) -> None:
        with contextlib.suppress(*TRANSIENT_ERRORS):
            if self._own is None:
                self._own = Database.to_checkpoint(self._path)
            self._own.move_log()
