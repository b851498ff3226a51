"""Takes a backup, and shows that it can be opened."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from merino import __version__
from merino.backup.repository import FILE_MODE, FOLDER_MODE, Repository, Snapshot
from merino.backup.sealing import Damaged
from merino.domain.errors import Misconfigured
from merino.sqlite.data_folder import FolderLock
from merino.sqlite.database import Database
from merino.storage import Store
from merino.storage.folder_copy import PEPPER, copy_folder
from merino.storage.store import DATABASE

PEPPER_BYTES = 32


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found when a backup was opened. `problems` is empty if all is well."""

    accounts: int
    entries: int
    problems: list[str]


def take(
    data: Path, repository: Repository, now_ms: Callable[[], int], *, with_pepper: bool
) -> Snapshot:
    """Keep the folder as it is now. Raises `Misconfigured`."""
    _check_apart(data, repository.folder)
    with repository.changing() as place:
        copied = copy_folder(data, place, now_ms)
        parts = dict(copied.parts)
        if not with_pepper:
            parts.pop(PEPPER, None)
        snapshot_id = _id_of(copied.moment_ms)
        with repository.writing(snapshot_id) as pack:
            files = [pack.add(name, path) for name, path in sorted(parts.items())]
            pack.finish()
        snapshot = Snapshot(
            id=snapshot_id,
            moment_ms=copied.moment_ms,
            merino=__version__,
            schema=copied.schema,
            applied_seq=copied.applied_seq,
            files=files,
            new_bytes=pack.new_bytes,
            has_pepper=PEPPER in parts,
        )
        repository.commit(snapshot)
    return snapshot


def verify(repository: Repository, snapshot: Snapshot) -> Opened:
    """Lay a backup down beside the others, every block checked, and open it as a relay does. It is
    removed again. Raises `Damaged`."""
    with repository.changing() as place:
        lay_down(repository, snapshot, place)
        if not snapshot.has_pepper:
            write_secret(place / PEPPER, os.urandom(PEPPER_BYTES))
        return open_folder(place)


def lay_down(repository: Repository, snapshot: Snapshot, folder: Path) -> None:
    """Write a backup's files; the database last, without which a folder is no data folder."""
    for file in sorted(snapshot.files, key=lambda file: file.name == DATABASE):
        target = folder / file.name
        if Path(file.name).is_absolute() or ".." in Path(file.name).parts:
            raise Damaged(f"The backup {snapshot.id} names a file outside of it: {file.name}")
        target.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(fd, "wb") as written:
            for block in repository.content(file):
                written.write(block)
            written.flush()
            os.fsync(fd)
            size = os.fstat(fd).st_size
        if size != file.size_bytes:
            raise Damaged(f"{file.name} has {size} bytes in the backup, not {file.size_bytes}")
        part.rename(target)


def open_folder(folder: Path) -> Opened:
    """Look through the database, then open the folder as a relay does, which books what its journal
    has, and recompute every balance."""
    database = Database.to_read(folder / DATABASE)
    try:
        problems = [f"{DATABASE}: {fault}" for fault in database.faults()]
    finally:
        database.close()
    if problems:
        return Opened(0, 0, problems)
    return asyncio.run(_open(folder))


async def _open(folder: Path) -> Opened:
    store = Store.open(folder)
    try:
        found = await store.books.verify()
    finally:
        await store.close()
    problems = [
        f"{each.what}: expected {each.expected}, found {each.actual}" for each in found.differences
    ]
    return Opened(found.accounts, found.entries, problems)


def write_secret(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def take_empty_folder(folder: Path) -> FolderLock:
    """A new folder, or an empty one, which no relay can take meanwhile. Raises `Misconfigured`."""
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    there = sorted(path.name for path in folder.iterdir() if path.name != "lock")
    if there:
        raise Misconfigured(
            f"{folder} is not empty: it has {', '.join(there[:3])}. Restore into a new folder, "
            "look at it, and put it in the old one's place."
        )
    return FolderLock(folder)


def _check_apart(data: Path, target: Path) -> None:
    one, other = data.resolve(), target.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise Misconfigured(
            f"{target} and the data folder {data} lie within each other. Keep backups elsewhere, "
            "best on another disk."
        )


def _id_of(moment_ms: int) -> str:
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return f"{moment:%Y%m%dT%H%M%S}{moment_ms % 1000:03d}Z-{secrets.token_hex(2)}"
