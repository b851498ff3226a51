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

_COLUMNS = "id, account_id, filename, purpose, size_bytes, created_at_ms, expires_at_ms"
_PART = ".part"
_COPY_BYTES = 1 << 20
_DELETE_AT_ONCE = 100


class FileStore:
    """`control.ports.Files`. A file is complete or absent: it is renamed into place."""

    def __init__(self, database: Database, folder: Path, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._folder = folder
        self._now_ms = now_ms
        self._sweep()

    def path(self, file_id: str) -> Path:
        return self._folder / file_id

    async def add(self, file: StoredFile, content: BinaryIO) -> None:
        """Keep a copy of `content`, which reaches the disk before its row does. Raises
        `StoreUnavailable`."""
        await asyncio.to_thread(self._copy, file.id, content)
        try:
            with self._database.writing("keeping the file"):
                self.insert(file)
        except BaseException:
            self.path(file.id).unlink(missing_ok=True)
            raise

    def insert(self, file: StoredFile) -> None:
        """Insert the row of a file that is on the disk, in the open transaction."""
        self._database.execute(
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

    def get(self, file_id: str, account_id: str) -> StoredFile:
        row = self._database.one(
            f"SELECT {_COLUMNS} FROM files WHERE id = ? AND account_id = ?",
            (file_id, account_id),
        )
        if row is None:
            raise NotFound(f"No such File object: {file_id[:100]}", param="id")
        return StoredFile(*row)

    def list(
        self, account_id: str, *, purpose: str | None, after: str | None, limit: int, newest: bool
    ) -> Sequence[StoredFile]:
        """At most `limit` of an account's files, after the given one."""
        order, beyond = ("DESC", "<") if newest else ("ASC", ">")
        since = () if after is None else self._place(after, account_id)
        past = "" if after is None else f" AND (created_at_ms, id) {beyond} (?, ?)"
        kind = "" if purpose is None else " AND purpose = ?"
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM files WHERE account_id = ?{past}{kind}"
            f" ORDER BY created_at_ms {order}, id {order} LIMIT ?",
            (account_id, *since, *(() if purpose is None else (purpose,)), limit),
        )
        return [StoredFile(*row) for row in rows]

    def kept_bytes(self, account_id: str) -> int:
        row = self._database.one(
            "SELECT coalesce(sum(size_bytes), 0) FROM files WHERE account_id = ?",
            (account_id,),
        )
        assert row is not None
        return row[0]

    def delete(self, file_id: str) -> None:
        with self._database.writing("deleting the file") as database:
            database.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self.path(file_id).unlink(missing_ok=True)

    def delete_old(self) -> int:
        """Delete some of the files that are too old, but none that a batch still needs."""
        rows = self._database.execute(
            "SELECT id FROM files WHERE expires_at_ms <= ? AND id NOT IN (SELECT input_file_id"
            " FROM batches WHERE status IN ('validating', 'in_progress', 'finalizing',"
            " 'cancelling')) LIMIT ?",
            (self._now_ms(), _DELETE_AT_ONCE),
        )
        old = [file_id for (file_id,) in rows]
        for file_id in old:
            self.delete(file_id)
        return len(old)

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

    def _place(self, file_id: str, account_id: str) -> tuple[int, str]:
        try:
            file = self.get(file_id, account_id)
        except NotFound as error:
            raise NotFound(error.message, param="after") from None
        return file.created_at_ms, file.id

    def _sweep(self) -> None:
        """Remove files that a dead process began to write, and files without a row."""
        if not self._folder.is_dir():
            return
        known = {file_id for (file_id,) in self._database.execute("SELECT id FROM files")}
        for path in self._folder.iterdir():
            if path.name not in known:
                with suppress(OSError):
                    path.unlink()
