"""Progress of a data folder's first start. It may die anywhere, and the next start completes it. It
is over once its keys have been shown."""

from __future__ import annotations

from collections.abc import Callable

from merino.sqlite.database import Database

_NAME = "first_start"
_BEGUN, _OVER = 1, 2
# Versions without this note made an account, a key and an admin key, in this order.
_WAS_LEFT = """
SELECT NOT EXISTS (SELECT 1 FROM admin_keys)
    AND (SELECT count(*) = 1 AND min(name) = :account FROM accounts)
    AND (SELECT count(*) = 0 OR count(*) = 1 AND min(name) = :key FROM keys)
"""


class FirstStart:
    """`sync` makes durable what is committed."""

    def __init__(self, database: Database, sync: Callable[[], None]) -> None:
        self._database = database
        self._sync = sync

    def begin(self, account: str, key: str) -> bool:
        """Whether there is anything to do: this is the folder's first start, or an earlier one was
        interrupted. `account` and `key` are the names that a first start gives."""
        row = self._database.one("SELECT value FROM meta WHERE name = ?", (_NAME,))
        if row is not None:
            return row[0] == _BEGUN
        found = self._database.one(
            f"SELECT NOT EXISTS (SELECT 1 FROM accounts) OR ({_WAS_LEFT})",
            {"account": account, "key": key},
        )
        assert found is not None
        self._note(_BEGUN if found[0] else _OVER)
        return bool(found[0])

    def has_credit(self, account_id: str) -> bool:
        """Whether anything was booked for the account yet."""
        sql = "SELECT 1 FROM entries WHERE account_id = ? LIMIT 1"
        return self._database.one(sql, (account_id,)) is not None

    def admin_names(self) -> set[str]:
        return {name for (name,) in self._database.execute("SELECT name FROM admin_keys")}

    def made(self) -> None:
        """Sync to disk: the keys shown next must survive a crash of the machine. Raises
        `OSError`."""
        self._sync()

    def shown(self) -> None:
        """The first start is over."""
        self._note(_OVER)

    def _note(self, state: int) -> None:
        with self._database.writing("noting the first start") as database:
            database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_NAME, state))
