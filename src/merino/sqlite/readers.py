"""Threads that read, each with a read-only connection of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from merino.sqlite.database import Database

T = TypeVar("T")


class Readers:
    """Runs reads off the event loop. Those that are known to be short have threads of their own,
    so that they need not wait for a report."""

    def __init__(self, path: Path, threads: int, name: str) -> None:
        self._path = path
        self._threads = threads
        self._name = name
        self._local = threading.local()
        self._databases: list[Database] = []
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, read: Callable[[Database], T]) -> T:
        """Raises `StoreUnavailable`."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._run, read)

    def _run(self, read: Callable[[Database], T]) -> T:
        database: Database | None = getattr(self._local, "database", None)
        if database is None:
            database = self._local.database = Database.to_read(self._path)
            self._databases.append(database)
        with database.reading():
            return read(database)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        for database in self._databases:
            database.close()
        self._databases.clear()
        self._local = threading.local()
