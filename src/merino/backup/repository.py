"""The folder that backups are kept in. Files in it are written once and never changed, so that it
can be copied elsewhere at any time.

    repository.json    what it is, and whether it takes a key
    packs/ID.pack      the blocks that were new in the backup ID, one after the other
    packs/ID.index     which they are, and where
    snapshots/ID       the backup: its files, and of which blocks they consist

A snapshot is written last. What a backup left behind that broke off is removed by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from merino.backup.sealing import Damaged, Sealer
from merino.domain.errors import Misconfigured

FORMAT = 1
BLOCK_BYTES = 64 * 1024
"""SQLite changes pages in place, so what is equal stays at its place in the file."""
FOLDER_MODE = 0o700
FILE_MODE = 0o600


class BackupsBusy(Misconfigured):
    """Another backup into the same folder is on its way."""


class KeptFile(msgspec.Struct, frozen=True):
    name: str
    size_bytes: int
    blocks: str
    """Their names, all of the same length, one after the other."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One backup. `moment_ms`: all that was acknowledged before is in it."""

    format: int = FORMAT
    id: str
    moment_ms: int
    merino: str
    schema: int
    applied_seq: int
    files: list[KeptFile]
    new_bytes: int
    has_pepper: bool

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class _About(msgspec.Struct):
    format: int
    is_encrypted: bool


_NAME_CHARS = 40
_Place = tuple[str, int, int]
_Index = list[tuple[str, int, int]]
_encode = msgspec.json.encode


class Repository:
    def __init__(self, folder: Path, sealer: Sealer) -> None:
        self.folder = folder
        self.is_encrypted = sealer.is_encrypting
        self._sealer = sealer
        self._packs = folder / "packs"
        self._snapshots = folder / "snapshots"
        self._places: dict[str, _Place] | None = None

    @classmethod
    def open(cls, folder: Path, secret: bytes | None) -> Repository:
        """Raises `Misconfigured` if there are no backups in it, or if they take another key."""
        path = folder / "repository.json"
        try:
            about = msgspec.json.decode(path.read_bytes(), type=_About)
        except FileNotFoundError:
            raise Misconfigured(
                f"There are no backups in {folder}: it has no {path.name}. Name the folder that "
                "was given to `merino backup`."
            ) from None
        except msgspec.DecodeError as error:
            raise Misconfigured(f"{path} cannot be read: {error}") from None
        if about.format != FORMAT:
            raise Misconfigured(
                f"{path} has format {about.format}; this Merino reads {FORMAT}. Use the version "
                "that wrote it, or a later one."
            )
        if about.is_encrypted and secret is None:
            raise Misconfigured(f"The backups in {folder} are encrypted; name --key-file")
        if secret is not None and not about.is_encrypted:
            raise Misconfigured(
                f"The backups in {folder} are not encrypted; leave --key-file out, or name another "
                "folder"
            )
        return cls(folder, Sealer(secret))

    @classmethod
    def make_or_open(cls, folder: Path, secret: bytes | None) -> Repository:
        """Raises `Misconfigured` as `open`, and for a folder that has other things in it."""
        path = folder / "repository.json"
        if not path.exists():
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            others = [each.name for each in folder.iterdir() if each.name != "lock"]
            if others:
                raise Misconfigured(
                    f"{folder} has other things in it ({', '.join(sorted(others)[:3])}). Name a "
                    "new or an empty folder for the backups."
                )
            write_durably(path, _encode(_About(FORMAT, secret is not None)))
        return cls.open(folder, secret)

    @contextlib.contextmanager
    def changing(self) -> Generator[Path]:
        """Alone: a folder for what is on the way, which is removed. Raises `BackupsBusy`."""
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackupsBusy(
                    f"Another backup into {self.folder} is on its way; wait until it is done"
                ) from None
            self._sweep()
            place = self.folder / f".on-the-way-{os.getpid()}"
            place.mkdir(mode=FOLDER_MODE)
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)
        finally:
            os.close(fd)

    def _sweep(self) -> None:
        """Remove what broke off."""
        for path in self.folder.glob(".on-the-way-*"):
            shutil.rmtree(path, ignore_errors=True)
        known = {path.name for path in self._snapshot_paths()}
        if not self._packs.is_dir():
            return
        packs = {path.stem for path in self._packs.glob("*.pack")}
        for path in self._packs.iterdir():
            # A pack outlives its snapshot if later ones use its blocks: then it has an index.
            broke_off = path.stem not in known and not (self._packs / f"{path.stem}.index").exists()
            if path.suffix == ".part" or broke_off or path.stem not in packs:
                path.unlink(missing_ok=True)

    # Snapshots

    def snapshots(self) -> list[Snapshot]:
        """The oldest first. Raises `Damaged`."""
        return [self._snapshot(path) for path in self._snapshot_paths()]

    def _snapshot_paths(self) -> list[Path]:
        if not self._snapshots.is_dir():
            return []
        return sorted(path for path in self._snapshots.iterdir() if path.suffix != ".part")

    def _snapshot(self, path: Path) -> Snapshot:
        content = self._sealer.open(path.read_bytes(), f"The backup {path.name}")
        try:
            return msgspec.json.decode(content, type=Snapshot)
        except msgspec.DecodeError as error:
            raise Damaged(f"The backup {path.name} cannot be read: {error}") from None

    def find(self, wanted: str | None, at_ms: int | None) -> Snapshot:
        """The one of this id; else the newest, not after the moment. Raises `Misconfigured`."""
        snapshots = self.snapshots()
        if not snapshots:
            raise Misconfigured(f"There is no complete backup in {self.folder}")
        if wanted is not None:
            found = [each for each in snapshots if each.id == wanted]
            if not found:
                raise Misconfigured(
                    f"There is no backup {wanted} in {self.folder}; "
                    f"`merino backup list {self.folder}` shows those that there are"
                )
            return found[0]
        early = [each for each in snapshots if at_ms is None or each.moment_ms <= at_ms]
        if not early:
            raise Misconfigured(
                f"The oldest backup in {self.folder}, {snapshots[0].id}, is later than that"
            )
        return early[-1]

    def prune(self, keep: int) -> list[str]:
        """Remove all but the newest, and the packs that nothing needs any more. Returns the ids of
        those that are gone."""
        snapshots = self.snapshots()
        gone, left = snapshots[:-keep], snapshots[-keep:]
        for snapshot in gone:
            (self._snapshots / snapshot.id).unlink()
        if not gone:
            return []
        needed = {name for snapshot in left for file in snapshot.files for name in names_of(file)}
        for path in sorted(self._packs.glob("*.index")):
            if not any(name in needed for name, _, _ in self._index(path)):
                path.unlink()
                path.with_suffix(".pack").unlink(missing_ok=True)
        self._places = None
        return [snapshot.id for snapshot in gone]

    # Blocks

    def writing(self, snapshot_id: str) -> PackWriter:
        self._packs.mkdir(mode=FOLDER_MODE, exist_ok=True)
        return PackWriter(self._packs / snapshot_id, self._sealer, self._known())

    def commit(self, snapshot: Snapshot) -> None:
        """From here on it is a backup."""
        self._snapshots.mkdir(mode=FOLDER_MODE, exist_ok=True)
        write_durably(self._snapshots / snapshot.id, self._sealer.seal(_encode(snapshot)))
        self._places = None

    def content(self, file: KeptFile) -> Iterator[bytes]:
        """A file's blocks, in order, each checked. Raises `Damaged`."""
        for name in names_of(file):
            yield self._block(name, file.name)

    def _block(self, name: str, of: str) -> bytes:
        place = self._known().get(name)
        if place is None:
            raise Damaged(f"A block of {of} is missing from the backup")
        pack, offset, length = place
        path = self._packs / f"{pack}.pack"
        try:
            with path.open("rb") as file:
                file.seek(offset)
                piece = file.read(length)
        except FileNotFoundError:
            raise Damaged(f"{path} is missing, with a block of {of}") from None
        block = self._sealer.open(piece, f"A block of {of} in {path}")
        if self._sealer.name(block) != name:
            raise Damaged(f"A block of {of} in {path} is another one than was written")
        return block

    def _known(self) -> dict[str, _Place]:
        if self._places is None:
            self._places = {
                name: (path.stem, offset, length)
                for path in sorted(self._packs.glob("*.index"))
                for name, offset, length in self._index(path)
            }
        return self._places

    def _index(self, path: Path) -> _Index:
        content = self._sealer.open(path.read_bytes(), str(path))
        return msgspec.json.decode(content, type=_Index)


class PackWriter:
    """Adds the blocks that are new; `finish` makes them last."""

    def __init__(self, stem: Path, sealer: Sealer, known: dict[str, _Place]) -> None:
        self.new_bytes = 0
        self._stem = stem
        self._sealer = sealer
        self._known = known
        self._index: _Index = []
        self._part = stem.with_name(f"{stem.name}.part")
        fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        self._file: BinaryIO = os.fdopen(fd, "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    def add(self, name: str, path: Path) -> KeptFile:
        names: list[str] = []
        size = 0
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                size += len(block)
                names.append(self._add(block))
        return KeptFile(name, size, "".join(names))

    def _add(self, block: bytes) -> str:
        name = self._sealer.name(block)
        if name not in self._known:
            piece = self._sealer.seal(block)
            self._known[name] = (self._stem.name, self.new_bytes, len(piece))
            self._index.append((name, self.new_bytes, len(piece)))
            self._file.write(piece)
            self.new_bytes += len(piece)
        return name

    def finish(self) -> None:
        """On the disk, if there is anything."""
        if not self._index:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.rename(self._stem.with_name(f"{self._stem.name}.pack"))
        index = self._stem.with_name(f"{self._stem.name}.index")
        write_durably(index, self._sealer.seal(_encode(self._index)))


def names_of(file: KeptFile) -> Sequence[str]:
    return [
        file.blocks[start : start + _NAME_CHARS]
        for start in range(0, len(file.blocks), _NAME_CHARS)
    ]


def write_durably(path: Path, content: bytes) -> None:
    """All of it, on the disk, or nothing."""
    part = path.with_name(f"{path.name}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
