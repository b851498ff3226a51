"""Files of accounts: a row each, and the content beside the database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from merino.domain.batch import StoredFile
from merino.domain.errors import NotFound, StoreUnavailable
from merino.sqlite.data_folder import FILE_MODE, FOLDER_MODE
from merino.sqlite.database import Database
from merino.sqlite.readers import Readers
from merino.sqlite.writer import Writer

_COLUMNS = "id, account_id, filename, purpose, size_bytes, created_at_ms, expires_at_ms"
_OF_ACCOUNT = "SELECT coalesce(sum(size_bytes), 0) FROM files WHERE account_id = ?"
# Files that a batch still needs.
_NEEDED = (
    "SELECT input_file_id FROM batches"
    " WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling')"
)
_PART = ".part"
_COPY_BYTES = 1 << 20
_DELETE_AT_ONCE = 100


class FileStore:
    """`control.ports.Files`. A file is complete or absent: it is renamed into place."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        points: Readers,
        folder: Path,
        now_ms: Callable[[], int],
    ) -> None:
        self._writer = writer
        self._points = points
        self._folder = folder
        self._now_ms = now_ms
        self._sweep(database)

    def path(self, file_id: str) -> Path:
        return self._folder / file_id

    async def add(self, file: StoredFile, content: BinaryIO, account_bytes_max: int) -> bool:
        """Keep a copy of `content`, which reaches the disk before its row does. False if its
        account would keep more than it may. Raises `StoreUnavailable`."""

        def write(database: Database) -> bool:
            kept_bytes = database.only(_OF_ACCOUNT, (file.account_id,))
            if kept_bytes + file.size_bytes > account_bytes_max:
                return False
            self.insert(database, file)
            return True

        await asyncio.to_thread(self._copy, file.id, content)
        try:
            is_kept = await self._writer.write("keeping the file", write)
        except asyncio.CancelledError:
            raise  # its row may be written all the same; the next start sweeps it if not
        except BaseException:
            await asyncio.to_thread(self._unlink, [file.id])
            raise
        if not is_kept:
            await asyncio.to_thread(self._unlink, [file.id])
        return is_kept

    def insert(self, database: Database, file: StoredFile) -> None:
        """Insert the row of a file that is on the disk, in the open transaction."""
        database.execute(
            f"INSERT INTO files ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                file.id,
                file.account_id,
                file.filename,
                file.purpose,
                file.size_bytes,
                file.created_at_ms,
                file.expires_at_ms,
            ),
        )

    async def get(self, file_id: str, account_id: str) -> StoredFile:
        return await self._points.run(lambda database: _get(database, file_id, account_id))

    async def list(
        self, account_id: str, *, purpose: str | None, after: str | None, limit: int, newest: bool
    ) -> Sequence[StoredFile]:
        """At most `limit` of an account's files, after the given one."""
        order, beyond = ("DESC", "<") if newest else ("ASC", ">")
        past = "" if after is None else f" AND (created_at_ms, id) {beyond} (?, ?)"
        kind = "" if purpose is None else " AND purpose = ?"

        def read(database: Database) -> Sequence[StoredFile]:
            since = () if after is None else _place(database, after, account_id)
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM files WHERE account_id = ?{past}{kind}"
                f" ORDER BY created_at_ms {order}, id {order} LIMIT ?",
                (account_id, *since, *(() if purpose is None else (purpose,)), limit),
            )
            return [StoredFile(*row) for row in rows]

        return await self._points.run(read)

    async def kept_bytes(self, account_id: str) -> int:
        return await self._points.run(lambda database: database.only(_OF_ACCOUNT, (account_id,)))

    async def delete(self, file_id: str) -> bool:
        """False, and nothing is done, if a batch still needs it."""
        gone = await self._writer.write(
            "deleting the file",
            lambda database: database.change(
                f"DELETE FROM files WHERE id = ? AND id NOT IN ({_NEEDED})", (file_id,)
            ),
        )
        if gone:
            await asyncio.to_thread(self._unlink, [file_id])
        return bool(gone)

    async def delete_old(self) -> int:
        """Delete some of the files that are too old, but none that a batch still needs."""
        now_ms = self._now_ms()

        def write(database: Database) -> list[str]:
            rows = database.execute(
                "DELETE FROM files WHERE id IN (SELECT id FROM files WHERE expires_at_ms <= ?"
                f" AND id NOT IN ({_NEEDED}) LIMIT ?) RETURNING id",
                (now_ms, _DELETE_AT_ONCE),
            )
            return [file_id for (file_id,) in rows.fetchall()]

        old = await self._writer.write("deleting old files", write)
        await asyncio.to_thread(self._unlink, old)
        return len(old)

    def _unlink(self, file_ids: Sequence[str]) -> None:
        for file_id in file_ids:
            self.path(file_id).unlink(missing_ok=True)

    @contextmanager
    def writing(self, file_id: str) -> Generator[BinaryIO]:
        """A new file's content; in place and on the disk when the block ends well."""
        part = self._folder / f"{file_id}{_PART}"
        try:
            self._folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            with os.fdopen(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(fd)
            part.rename(self.path(file_id))
        except OSError as error:
            part.unlink(missing_ok=True)
            raise StoreUnavailable(
                f"The file cannot be written now ({error.strerror}). Try again.", retry_after_s=5.0
            ) from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _copy(self, file_id: str, content: BinaryIO) -> None:
        with self.writing(file_id) as file:
            while piece := content.read(_COPY_BYTES):
                file.write(piece)

    def _sweep(self, database: Database) -> None:
        """Remove files that a dead process began to write, and files without a row."""
        if not self._folder.is_dir():
            return
        known = {file_id for (file_id,) in database.execute("SELECT id FROM files")}
        for path in self._folder.iterdir():
            if path.name not in known:
                with suppress(OSError):
                    path.unlink()


def _get(database: Database, file_id: str, account_id: str, param: str = "id") -> StoredFile:
    row = database.one(
        f"SELECT {_COLUMNS} FROM files WHERE id = ? AND account_id = ?", (file_id, account_id)
    )
    if row is None:
        raise NotFound(f"No such File object: {file_id[:100]}", param=param)
    return StoredFile(*row)


def _place(database: Database, file_id: str, account_id: str) -> tuple[int, str]:
    file = _get(database, file_id, account_id, param="after")
    return file.created_at_ms, file.id
