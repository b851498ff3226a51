"""Keeps SQLite's write-ahead log short: its content goes into the database, off the event loop."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import apsw

from merino.running.every import every
from merino.storage.database import LOG_BYTES, TRANSIENT_ERRORS

LOG_BYTES_MAX = 16 * LOG_BYTES
"""The log begins anew when all of it is in the database while nothing is written. If no such moment
came before it is this long, the little that is left is done on the event loop."""
EVERY_S = 1.0


class Checkpoints:
    """`writer` is the connection that writes; it is used on the event loop only."""

    def __init__(self, path: Path, writer: apsw.Connection) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._writer = writer
        self._own: apsw.Connection | None = None

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
                self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

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
        """Neither waits for readers and the writer nor keeps them waiting: what they need stays in
        the log for the next time."""
        with contextlib.suppress(*TRANSIENT_ERRORS):
            if self._own is None:
                self._own = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
            # A connection that has read nothing yet does not know that there is a log.
            self._own.pragma("schema_version")
            self._own.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
