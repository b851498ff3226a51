"""What a running relay puts into its data folder: the socket over which the command line speaks to
it, and a note of who and where it is."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

from merino.domain.errors import Misconfigured

ADMIN_SOCKET = "admin.sock"
SOCKET_PATH_BYTES_MAX = 103
"""The longest address of a unix socket that every system takes; Linux alone takes 107."""
_DESCRIPTORS = Path("/proc/self/fd")


@contextlib.contextmanager
def admin_socket(folder: Path) -> Generator[str]:
    """The socket's address, good until the context ends. If the folder's own path is too long for
    one, it leads there through a descriptor of the folder. Raises `Misconfigured`."""
    path = str(folder / ADMIN_SOCKET)
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        yield path
        return
    if not _DESCRIPTORS.is_dir():
        raise Misconfigured(
            f"The path of the data folder {folder} is too long: with /{ADMIN_SOCKET} it may have "
            f"{SOCKET_PATH_BYTES_MAX} bytes here. Choose a shorter one with --data or MERINO_DATA"
        )
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield str(_DESCRIPTORS / str(descriptor) / ADMIN_SOCKET)
    finally:
        os.close(descriptor)


RELAY_NOTE = "relay.json"


@dataclass(frozen=True, slots=True)
class RelayNote:
    """`settings` is the file it was started with, `started_at` in seconds since 1970."""

    process: int
    version: str
    address: str
    settings: str | None
    started_at: float


def write_note(folder: Path, note: RelayNote) -> None:
    """For `merino status` and `merino stop`; nothing else depends on it."""
    path = folder / RELAY_NOTE
    with contextlib.suppress(OSError):
        path.write_text(json.dumps(asdict(note)), encoding="utf-8")
        path.chmod(0o600)


def read_note(folder: Path) -> RelayNote | None:
    try:
        said = json.loads((folder / RELAY_NOTE).read_text("utf-8"))
        return RelayNote(
            int(said["process"]),
            str(said["version"]),
            str(said["address"]),
            said["settings"],
            float(said["started_at"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remove_note(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / RELAY_NOTE).unlink(missing_ok=True)
