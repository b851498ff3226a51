"""The socket in a data folder, over which the command line speaks to a running relay."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
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
