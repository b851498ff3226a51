"""The data folder and its SQLite file: who may open it, how, and in which schema version.

One connection writes, on the event loop's thread; reads run on a few threads of their own with
read-only connections.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from merino.domain.errors import Misconfigured, StoreUnavailable

T = TypeVar("T")

FOLDER_MODE = 0o700
FILE_MODE = 0o600
READ_THREADS = 2
# An old connection of this process may be about to finish; a reader can afford to wait for it.
READ_BUSY_TIMEOUT_MS = 5_000
LOG_BYTES = 4 * 1024 * 1024
"""How long SQLite's write-ahead log is left before it is moved into the database; and what its file
is cut to when it begins anew."""
UNSYNCED, SYNCED = 1, 2
"""SQLite's `synchronous`, NORMAL and FULL: whether a commit waits for the disk."""
MIGRATIONS = Path(__file__).parent / "migrations"

TRANSIENT_ERRORS = (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.IOError, apsw.NoMemError)
"""What goes away by itself once somebody frees space or lets go of a lock."""


class FolderInUse(Misconfigured):
    """Another process owns the data folder."""


class SchemaTooNew(Misconfigured):
    """The folder was written by a later version of Merino."""


def folder_owner(folder: Path) -> int | None:
    """The process that has a data folder open, if one has."""
    try:
        with (folder / "lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read(32))
    except (OSError, ValueError):
        return None
    return None


class FolderLock:
    """Exclusive ownership of a data folder, held until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._fd, 32).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise FolderInUse(
                f"The data folder {folder} is in use by process {owner or 'unknown'}. Talk to the "
                "running relay through its admin API, stop it, or choose another folder with "
                "--data."
            ) from None
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def prepare_folder(folder: Path) -> None:
    """Make the data folder, readable by its owner only. Raises `Misconfigured`."""
    try:
        is_new = not folder.exists()
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)
        if is_new:
            sync_folder(folder.parent)
    except OSError as error:
        raise Misconfigured(
            f"The data folder {folder} cannot be used: {error.strerror}. Choose another with "
            "--data or MERINO_DATA."
        ) from None


def connect_writer(path: Path) -> apsw.Connection:
    """The one connection that writes. Never waits for a lock: it runs on the event loop."""
    # SQLite gives its -wal and -shm files the mode of the main file.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
    try:
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -4096")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        _migrate(connection, path)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise Misconfigured(
            f"{path} is not a usable SQLite database: {error}. Restore it from a backup, or choose "
            "another folder with --data."
        ) from None
    except apsw.BusyError:
        raise FolderInUse(
            f"{path} is locked by another program. Close whatever has it open and try again."
        ) from None
    return connection


def connect_reader(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(READ_BUSY_TIMEOUT_MS)
    return connection


def _migrate(connection: apsw.Connection, path: Path) -> None:
    version = connection.pragma("user_version")
    scripts = sorted(MIGRATIONS.glob("*.sql"))
    newest = int(scripts[-1].name[:4])
    if version > newest:
        raise SchemaTooNew(
            f"{path} has schema version {version}; this Merino knows up to {newest}. Use the "
            "version of Merino that wrote it, or a later one."
        )
    for script in scripts:
        number = int(script.name[:4])
        if number > version:
            with connection:
                connection.execute(script.read_text(encoding="utf-8"))
                connection.pragma("user_version", number)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_database(path: Path) -> None:
    """Make everything durable that is committed. In WAL mode a commit is in the log or, after a
    checkpoint, which has synced it, in the database. (SQLite locks the other two files, never the
    log; only therefore may it be opened and closed here.) Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(path.with_name(f"{path.name}-wal"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_folder(path.parent)


@contextlib.contextmanager
def synced(connection: apsw.Connection, level: int) -> Generator[None]:
    """Transactions in it are on the disk when they are committed (`SYNCED`), or need not be
    (`UNSYNCED`), whatever the others are."""
    before = connection.pragma("synchronous")
    if level == before:
        yield
        return
    connection.pragma("synchronous", level)
    try:
        yield
    finally:
        connection.pragma("synchronous", before)


@contextlib.contextmanager
def writing(
    connection: apsw.Connection, what: str, *, lasts: bool = True
) -> Generator[apsw.Connection]:
    """One transaction of an operator's action. Where durability is against power cuts it is on the
    disk afterwards, unless it is of a kind that need not last: what is made anew if it is lost.
    Raises `StoreUnavailable` if SQLite cannot."""
    try:
        with contextlib.nullcontext() if lasts else synced(connection, UNSYNCED):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
    except TRANSIENT_ERRORS as error:
        raise StoreUnavailable(
            f"The database cannot write now ({error}), so {what} was not done. Try again.",
            retry_after_s=1.0,
        ) from error


class Readers:
    """Runs reads off the event loop, each thread with a read-only connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, read: Callable[[apsw.Connection], T]) -> T:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="merino-read")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._run, read)

    def _run(self, read: Callable[[apsw.Connection], T]) -> T:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect_reader(self._path)
            self._connections.append(connection)
        try:
            # One transaction, so that several statements see the same moment.
            connection.execute("BEGIN")
            try:
                return read(connection)
            finally:
                connection.execute("ROLLBACK")
        except TRANSIENT_ERRORS as error:
            raise StoreUnavailable(
                f"The database cannot be read now ({error}). Try again.", retry_after_s=1.0
            ) from error

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()


def fetch_one(
    connection: apsw.Connection, sql: str, bindings: tuple[Any, ...] | dict[str, Any] = ()
) -> tuple[Any, ...] | None:
    return connection.execute(sql, bindings).fetchone()
