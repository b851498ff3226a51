"""A consistent copy of a data folder, taken by another process than its relay, which is not asked.

What is acknowledged is in the journal before that, and in the database before the journal forgets
it; what operators change is in the database before it is acknowledged. So these come one after the
other: the journal as it is, its files held open; one state of the database; the files that this
state names. Whatever was acknowledged before the first of them is in the copy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from merino.domain.errors import Misconfigured
from merino.ledger.segments import segment_paths
from merino.sqlite.data_folder import FILE_MODE, FOLDER_MODE
from merino.sqlite.database import BusyError, Database, SqliteError
from merino.storage.store import DATABASE, FILES, JOURNAL

PEPPER = "pepper"
_OF_A_PROCESS = frozenset(
    ("lock", "admin.sock", "relay.json", f"{DATABASE}-wal", f"{DATABASE}-shm")
)
_TRIES = 5


@dataclass(frozen=True, slots=True)
class FolderCopy:
    """`parts` are the files that the copy consists of, by their names in the folder. Those of the
    database and the journal are copies already; others never change once they are there."""

    moment_ms: int
    """Everything that was acknowledged before is in it."""
    schema: int
    applied_seq: int
    parts: dict[str, Path]


def copy_folder(folder: Path, place: Path, now_ms: Callable[[], int]) -> FolderCopy:
    """Copy what changes into `place`. Raises `Misconfigured` if this is no data folder, or if its
    database cannot be read."""
    if not (folder / DATABASE).is_file():
        raise Misconfigured(
            f"{folder} is no data folder: there is no {DATABASE} in it. Name it with --data or "
            "MERINO_DATA."
        )
    for _ in range(_TRIES):
        copied = _copy(folder, place, now_ms)
        if copied is not None:
            return copied
    raise Misconfigured(
        f"Files of {folder / FILES} went away {_TRIES} times while they were being copied. Try "
        "again when fewer files are deleted."
    )


def _copy(folder: Path, place: Path, now_ms: Callable[[], int]) -> FolderCopy | None:
    """`None` if a file was deleted that the copied database still names."""
    moment_ms = now_ms()
    with contextlib.ExitStack() as stack:
        held: list[tuple[str, int, int]] = []
        for path in segment_paths(folder / JOURNAL):
            with contextlib.suppress(FileNotFoundError):  # it is in the database by now
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                held.append((path.name, fd, os.fstat(fd).st_size))
        schema, applied_seq, file_ids = _copy_database(folder / DATABASE, place / DATABASE)
        parts = {DATABASE: place / DATABASE}
        (place / JOURNAL).mkdir(mode=FOLDER_MODE, exist_ok=True)
        for name, fd, size in held:
            parts[f"{JOURNAL}/{name}"] = target = place / JOURNAL / name
            _copy_lines(fd, size, target)
    for file_id in file_ids:
        parts[f"{FILES}/{file_id}"] = path = folder / FILES / file_id
        if not path.is_file():
            return None
    return FolderCopy(moment_ms, schema, applied_seq, parts | _others(folder, parts))


def _copy_database(path: Path, target: Path) -> tuple[int, int, list[str]]:
    target.unlink(missing_ok=True)
    try:
        source = Database.to_read(path)
        try:
            source.copy_to(target)
        finally:
            source.close()
        copied = Database.to_read(target)
        try:
            return (
                copied.only("PRAGMA user_version"),
                copied.only("SELECT value FROM meta WHERE name = 'applied_seq'"),
                [file_id for (file_id,) in copied.execute("SELECT id FROM files ORDER BY id")],
            )
        finally:
            copied.close()
    except BusyError:
        raise Misconfigured(
            f"{path} is locked by another program. Close whatever has it open and try again."
        ) from None
    except SqliteError as error:
        raise Misconfigured(f"{path} cannot be read: {error}.") from None


def _copy_lines(fd: int, size: int, target: Path) -> None:
    """The lines that were whole at that size. What follows was not acknowledged."""
    data = os.pread(fd, size, 0)
    while len(data) < size and (more := os.pread(fd, size - len(data), len(data))):
        data += more
    made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(made, "wb") as file:
        file.write(data[: data.rfind(b"\n") + 1])


def _others(folder: Path, parts: dict[str, Path]) -> dict[str, Path]:
    """What else lies in the folder: its secret, what was learned, notes of damage, reports."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_known = name in parts or name in _OF_A_PROCESS
        is_elsewhere = name.startswith(f"{FILES}/") or (
            name.startswith(f"{JOURNAL}/") and path.suffix in {".log", ".part"}
        )
        if path.is_symlink() or not path.is_file() or is_known or is_elsewhere:
            continue
        if path.suffix not in {".part", ".new"}:
            found[name] = path
    return found
