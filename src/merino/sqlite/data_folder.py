"""The data folder: who owns it, who may read it, and making names in it durable."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from merino.domain.errors import Misconfigured

FOLDER_MODE = 0o700
FILE_MODE = 0o600


class FolderInUse(Misconfigured):
    """Another process owns the data folder."""


def folder_owner(folder: Path) -> int | None:
    """The process that has a data folder open, if any."""
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


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
