"""Reserves disk space that a file will need later, so that it cannot be missing then."""

from __future__ import annotations

import ctypes
import errno
import os

_KEEP_SIZE = 1
_NOT_OFFERED = frozenset((errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL))


def reserve(fd: int, offset: int, length: int) -> None:
    """Allocate blocks beyond the file's end, which stays where it is. Raises `OSError` if there are
    none. Reserves nothing if the system or the file system does not offer this."""
    if _fallocate is None:
        return
    while _fallocate(fd, _KEEP_SIZE, offset, length):
        number = ctypes.get_errno()
        if number in _NOT_OFFERED:
            return
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def _find_fallocate() -> ctypes._NamedFuncPointer | None:  # pyright: ignore[reportPrivateUsage] - it has no other name
    """The standard library has only `posix_fallocate`, which moves the file's end."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = "fallocate" if ctypes.sizeof(ctypes.c_long) == 8 else "fallocate64"
    try:
        function = libc[name]
    except AttributeError:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return function


_fallocate = _find_fallocate()
