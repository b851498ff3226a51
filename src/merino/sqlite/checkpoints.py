"""Keeps SQLite's write-ahead log short: its content goes into the database, on the thread that
writes."""

from __future__ import annotations

import contextlib
from pathlib import Path

from merino.running.every import every
from merino.sqlite.database import LOG_BYTES, TRANSIENT_ERRORS, Database
from merino.sqlite.writer import Writer

EVERY_S = 1.0


class Checkpoints:
    def __init__(self, path: Path, writer: Writer) -> None:
        self._log = path.with_name(f"{path.name}-wal")
        self._writer = writer

    async def run(self) -> None:
        """Run until cancelled."""
        await every(EVERY_S, self.look)

    async def look(self) -> None:
        """Move the log's content into the database, if that is worth it."""
        if self._log_bytes() > LOG_BYTES:
            with contextlib.suppress(*TRANSIENT_ERRORS):
                # On the thread that writes, nothing new comes behind what is moved: all of it is.
                await self._writer.run(Database.move_log)

    def _log_bytes(self) -> int:
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0
