"""Progress of a data folder's first start. It may die anywhere, and the next start completes it. It
is over once its keys have been shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from merino.sqlite.database import Database
from merino.sqlite.writer import Writer

_NAME = "first_start"
_BEGUN, _OVER = 1, 2
_NOTE = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_WHAT = "noting the first start"
# Versions without this note made an account, a key and an admin key, in this order.
_WAS_LEFT = """
SELECT NOT EXISTS (SELECT 1 FROM admin_keys)
    AND (SELECT count(*) = 1 AND min(name) = :account FROM accounts)
    AND (SELECT count(*) = 0 OR count(*) = 1 AND min(name) = :key FROM keys)
"""


class FirstStart:
    """`sync` makes durable what is committed."""

    def __init__(self, writer: Writer, sync: Callable[[], None]) -> None:
        self._writer = writer
        self._sync = sync

    async def begin(self, account: str, key: str) -> bool:
        """Whether there is anything to do: this is the folder's first start, or an earlier one was
        interrupted. `account` and `key` are the names that a first start gives."""

        def begin(database: Database) -> bool:
            row = database.one("SELECT value FROM meta WHERE name = ?", (_NAME,))
            if row is not None:
                return row[0] == _BEGUN
            is_first = database.only(
                f"SELECT NOT EXISTS (SELECT 1 FROM accounts) OR ({_WAS_LEFT})",
                {"account": account, "key": key},
            )
            with database.writing(_WHAT):
                database.execute(_NOTE, (_NAME, _BEGUN if is_first else _OVER))
            return bool(is_first)

        return await self._writer.run(begin)

    async def has_credit(self, account_id: str) -> bool:
        """Whether anything was booked for the account yet."""
        sql = "SELECT 1 FROM entries WHERE account_id = ? LIMIT 1"
        return await self._writer.run(lambda database: database.one(sql, (account_id,))) is not None

    async def made(self) -> None:
        """Sync to disk: the keys shown next must survive a crash of the machine. Raises
        `OSError`."""
        await asyncio.to_thread(self._sync)

    async def shown(self) -> None:
        """The first start is over."""
        await self._writer.write(_WHAT, lambda database: database.change(_NOTE, (_NAME, _OVER)))
