"""A typed connection to SQLite; nothing else in the project knows apsw.

Statements are `LiteralString`s: a type checker proves that no outside input is part of one. Values
are bound.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, LiteralString, Protocol, cast

import apsw

from merino.domain.errors import Misconfigured, StoreUnavailable
from merino.sqlite.data_folder import FILE_MODE, FolderInUse, sync_folder
from merino.sqlite.schema import migrate

READ_BUSY_TIMEOUT_MS = 5_000
"""An old connection of this process may be about to finish; a reader can afford to wait for it."""
LOG_BYTES = 4 * 1024 * 1024
"""How long SQLite's write-ahead log may grow before it is moved into the database, and the size its
file is cut to when it restarts."""
UNSYNCED, SYNCED = 1, 2
"""SQLite's `synchronous`, NORMAL and FULL: whether a commit waits for the disk."""

_ROWS_AT_ONCE = 16

SqliteError = apsw.Error
ConstraintError = apsw.ConstraintError
BusyError = apsw.BusyError
TRANSIENT_ERRORS = (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.IOError, apsw.NoMemError)
"""Errors that end by themselves once space or a lock is freed."""
UNBINDABLE = (OverflowError, TypeError, ValueError)
"""The error for a value that SQLite has no type for."""

Row = tuple[Any, ...]
Values = Sequence[Any] | Mapping[str, Any]


class Rows(Protocol):
    """What a statement found, read once."""

    def __iter__(self) -> Iterator[Row]: ...
    def __next__(self) -> Row: ...
    def fetchone(self) -> Row | None: ...
    def fetchall(self) -> list[Row]: ...


class Database:
    """One connection. `to_write` is for the one that changes things, `to_read` for any other."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    @classmethod
    def to_write(cls, path: Path) -> Database:
        """The one connection that writes, with the newest schema. Raises `Misconfigured`."""
        # SQLite gives its -wal and -shm files the mode of the main file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        try:
            connection = apsw.Connection(str(path))
            _set_up(connection)
            migrate(connection, path)
        except (apsw.NotADBError, apsw.CorruptError) as error:
            raise Misconfigured(
                f"{path} is not a usable SQLite database: {error}. Restore it from a backup, or "
                "choose another folder with --data."
            ) from None
        except apsw.BusyError:
            raise FolderInUse(
                f"{path} is locked by another program. Close whatever has it open and try again."
            ) from None
        return cls(connection)

    @classmethod
    def to_read(cls, path: Path) -> Database:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(READ_BUSY_TIMEOUT_MS)
        return cls(connection)

    def close(self) -> None:
        self._connection.close()

    # Statements

    def execute(self, sql: LiteralString, values: Values = ()) -> Rows:
        return self._connection.execute(sql, cast("Any", values))

    def one(self, sql: LiteralString, values: Values = ()) -> Row | None:
        """The first row, if there is one."""
        return self._connection.execute(sql, cast("Any", values)).fetchone()

    def only(self, sql: LiteralString, values: Values = ()) -> Any:
        """The one value of a statement that always has one."""
        return next(self._connection.execute(sql, cast("Any", values)))[0]

    def change(self, sql: LiteralString, values: Values = ()) -> int:
        """How many rows the statement changed."""
        self._connection.execute(sql, cast("Any", values))
        return self._connection.changes()

    def execute_many(self, sql: LiteralString, rows: Iterable[Values]) -> None:
        """Run a statement once for each row of values."""
        self._connection.executemany(sql, cast("Any", rows))

    def insert(self, into: LiteralString, rows: Sequence[Sequence[Any]]) -> None:
        """Insert many rows with few statements: at each statement's begin and end, a thread may
        have to wait for the interpreter."""
        width = len(rows[0])
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            sql = _insertion(into, width, len(some))
            self._connection.execute(sql, tuple(chain.from_iterable(some)))

    def changes(self) -> int:
        """How many rows the last statement changed."""
        return self._connection.changes()

    def last_insert_rowid(self) -> int:
        return self._connection.last_insert_rowid()

    # Transactions

    @contextlib.contextmanager
    def transaction(self) -> Generator[None]:
        """All of it or nothing. Raises SQLite's errors."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                # After a full disk even this may fail; SQLite has then rolled back by itself.
                with contextlib.suppress(apsw.Error):
                    self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def writing(self, what: str, *, lasts: bool = True) -> Generator[Database]:
        """One transaction of an operator's action. If durability covers power cuts, it is on the
        disk afterwards, unless it need not last because it can be made again. Raises
        `StoreUnavailable` if SQLite cannot."""
        try:
            with contextlib.nullcontext() if lasts else self.synced(UNSYNCED), self.transaction():
                yield self
        except TRANSIENT_ERRORS as error:
            raise StoreUnavailable(
                f"The database cannot write now ({error}), so {what} was not done. Try again.",
                retry_after_s=1.0,
            ) from error

    @contextlib.contextmanager
    def reading(self) -> Generator[Database]:
        """Several statements that see the same moment. Raises `StoreUnavailable`."""
        try:
            self._connection.execute("BEGIN")
            try:
                yield self
            finally:
                self._connection.execute("ROLLBACK")
        except TRANSIENT_ERRORS as error:
            raise unreadable(error) from error

    @contextlib.contextmanager
    def synced(self, level: int) -> Generator[None]:
        """Transactions inside it are on the disk when committed (`SYNCED`), or need not be
        (`UNSYNCED`), whatever holds for others."""
        before = self._connection.pragma("synchronous")
        if level == before:
            yield
            return
        self._connection.pragma("synchronous", level)
        try:
            yield
        finally:
            self._connection.pragma("synchronous", before)

    def set_synced(self, level: int) -> None:
        """As `synced`, from now on."""
        self._connection.pragma("synchronous", level)

    def move_log(self) -> None:
        """Move what is in the write-ahead log into the database. Neither waits for readers nor
        makes them wait: what they need stays in the log for the next time."""
        # A connection that has read nothing yet does not know about the log.
        self._connection.pragma("schema_version")
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def copy_to(self, path: Path) -> None:
        """One state of the whole database, also while another process writes it. Raises
        SQLite's errors."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        target = apsw.Connection(str(path))
        try:
            with target.backup("main", self._connection, "main") as copying:
                copying.step(-1)  # in one step, it is of one moment
        finally:
            target.close()

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the file; nothing, if it is whole."""
        try:
            found = [text for (text,) in self._connection.execute("PRAGMA integrity_check(10)")]
            broken = self._connection.execute("PRAGMA foreign_key_check").fetchall()
        except apsw.Error as error:  # too broken to be looked through
            return [str(error)]
        return [each for each in found if each != "ok"] + [
            f"row {row} of {table} names a row of {parent} that is not there"
            for table, row, parent, _ in broken[:10]
        ]

    def empty_log(self) -> None:
        """Move all of the log into the database, and cut its file to nothing: at the end."""
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _set_up(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -4096")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")


def unreadable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"The database cannot be read now ({error}). Try again.", retry_after_s=1.0
    )


def sync_database(path: Path) -> None:
    """Make everything durable that is committed. In WAL mode a commit is in the log or, after a
    checkpoint, which has synced it, in the database. (SQLite never locks the log, only the other
    two files; that is why it may be opened and closed here.) Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(path.with_name(f"{path.name}-wal"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_folder(path.parent)


@lru_cache
def _insertion(into: LiteralString, width: int, rows: int) -> LiteralString:
    row: LiteralString = f"({marks(width)})"
    return f"{into} VALUES {', '.join([row for _ in range(rows)])}"


def columns_of(kind: Any, **renamed: LiteralString) -> tuple[LiteralString, ...]:
    """The columns of a table whose rows are a dataclass or a struct: its fields."""
    found = getattr(kind, "__struct_fields__", None) or [field.name for field in fields(kind)]
    names = cast("list[LiteralString]", found)
    return tuple([renamed.get(name, name) for name in names])


def marks(count: int) -> LiteralString:
    """Placeholders for this many values."""
    return cast("LiteralString", ", ".join("?" * count))


def numeral(number: int) -> LiteralString:
    """A number as part of a statement, for cases where SQLite's planner has to know it."""
    return cast("LiteralString", f"{number:d}")
