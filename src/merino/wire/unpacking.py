"""Unpacks answers that come compressed although the relay asks for plain ones (`content-encoding`).

gzip and deflate always; br and zstd if a package is installed that bounds its output. Nothing is
unpacked beyond a limit, however few bytes have arrived.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterator
from importlib import import_module
from typing import Any, Protocol

from merino.domain.errors import UpstreamBroken

_PIECE_BYTES = 64 * 1024
_CODINGS_MAX = 3
_ZSTD_WINDOW_BYTES_MAX = 8 * 1024 * 1024
"""The most that RFC 9659 allows for HTTP."""
_ZSTD_INPUT_BYTES = 512
"""Bytes taken at a time if the output cannot be bounded: a block of four bytes may stand for 128
KiB."""
_GZIP = 31
_ZLIB, _RAW = 15, -15  # zlib's `wbits`
_GZIP_MAGIC = b"\x1f\x8b"


def is_packed(content_encoding: bytes) -> bool:
    """Whether this header value means that there is something to unpack."""
    return bool(_names(content_encoding))


def _names(content_encoding: bytes) -> list[bytes]:
    names = [each.strip().lower() for each in content_encoding.split(b",")]
    return [each for each in names if each not in (b"", b"identity")]


class Step(Protocol):
    """Removes one coding. `errors` are what its package raises for broken input."""

    @property
    def errors(self) -> tuple[type[Exception], ...]: ...

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The output in pieces, each made only on demand."""
        ...

    @property
    def is_whole(self) -> bool:
        """Nothing is missing at the end."""
        ...


class Unpacker:
    """Removes all codings of an answer, the last one first. Raises `UpstreamBroken` for unknown
    codings, for data that is not packed as declared, and beyond `bytes_max`."""

    def __init__(self, content_encoding: bytes, bytes_max: int) -> None:
        self.name = content_encoding.decode("latin-1")[:60]
        self._bytes_left = self._bytes_max = bytes_max
        names = _names(content_encoding)
        if len(names) > _CODINGS_MAX:
            raise self._unreadable("more codings than anybody needs")
        self._steps = [self._step(each.decode("latin-1")) for each in reversed(names)]
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The output of a piece, in pieces of a bounded size."""
        if not data:
            return
        self._has_begun = True
        for piece in self._through(self._steps, data):
            self._bytes_left -= len(piece)
            if self._bytes_left < 0:
                raise UpstreamBroken(
                    f"The upstream's answer, unpacked, is larger than {self._bytes_max} bytes. "
                    "A relay's limit is its setting upstream.answer_bytes_max.",
                    code="upstream_answer_too_large",
                )
            yield piece

    def finish(self) -> None:
        """The answer has ended. Raises if its compressed data has not."""
        if self._has_begun and not all(each.is_whole for each in self._steps):
            raise self._unreadable("it ends in the middle")

    def _through(self, steps: list[Step], data: bytes) -> Generator[bytes]:
        try:
            for piece in steps[0].feed(data):
                if len(steps) == 1:
                    yield piece
                else:
                    yield from self._through(steps[1:], piece)
        except steps[0].errors as error:
            raise self._unreadable(str(error) or type(error).__name__) from error

    def _step(self, name: str) -> Step:
        make = _STEPS.get(name)
        step = None if make is None else make()
        if step is None:
            package = _PACKAGES.get(name)
            raise self._unreadable(
                f"install the package {package} to have it unpacked"
                if package
                else "the relay does not know this coding"
            )
        return step

    def _unreadable(self, why: str) -> UpstreamBroken:
        return UpstreamBroken(
            f"The upstream's answer is compressed (content-encoding: {self.name}), unasked, and "
            f"cannot be unpacked: {why}.",
            code="upstream_invalid_response",
        )


class _Zlib:
    """gzip, of any number of members, or deflate, with zlib's wrapping (as the standard has it) or
    without (as some send it). Bytes after the end are padding."""

    errors = (zlib.error,)

    def __init__(self, wbits: int | None) -> None:
        self._wbits = wbits
        """`None`: the first two bytes will tell."""
        self._inside: Any = None
        self._waiting = b""
        self._members = 0
        self._is_over = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        data = self._waiting + data
        self._waiting = b""
        while data and not self._is_over:
            if self._inside is None and not self._begin(data):
                return
            inside: Any = self._inside
            has_more = True
            while has_more:
                piece = inside.decompress(data, _PIECE_BYTES)
                data = inside.unconsumed_tail
                if piece:
                    yield piece
                # A full piece may leave output behind that needs no more input.
                has_more = not inside.eof and (bool(data) or len(piece) == _PIECE_BYTES)
            if not inside.eof:
                return
            data = inside.unused_data
            self._inside = None
            self._members += 1

    def _begin(self, data: bytes) -> bool:
        if self._members and (self._wbits != _GZIP or not _GZIP_MAGIC.startswith(data[:2])):
            self._is_over = True
            return False
        if len(data) < 2:
            self._waiting = data  # too few bytes to tell
            return False
        if self._wbits is None:
            is_wrapped = data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._wbits = _ZLIB if is_wrapped else _RAW
        self._inside = zlib.decompressobj(self._wbits)
        return True

    @property
    def is_whole(self) -> bool:
        return self._members > 0 and self._inside is None


class _Brotli:
    def __init__(self, package: Any) -> None:
        self.errors = (package.error,)
        self._inside = package.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        inside = self._inside
        has_more = not inside.is_finished()
        while has_more:
            piece = inside.process(data, output_buffer_limit=_PIECE_BYTES)
            data = b""
            if piece:
                yield piece
            # A full piece may leave output behind, if only the end.
            is_full = len(piece) >= _PIECE_BYTES or not inside.can_accept_more_data()
            has_more = is_full and not inside.is_finished()

    @property
    def is_whole(self) -> bool:
        return self._inside.is_finished()


class _Zstd:
    """By the standard library of Python 3.14, or its backport."""

    def __init__(self, package: Any) -> None:
        self.errors = (package.ZstdError,)
        self._package = package
        self._inside = self._frame()

    def _frame(self) -> Any:
        log_max = self._package.DecompressionParameter.window_log_max
        return self._package.ZstdDecompressor(
            options={log_max: _ZSTD_WINDOW_BYTES_MAX.bit_length() - 1}
        )

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inside.eof:
                self._inside = self._frame()
            inside = self._inside
            has_more = True
            while has_more:
                piece = inside.decompress(data, _PIECE_BYTES)
                data = b""
                if piece:
                    yield piece
                has_more = not inside.eof and not inside.needs_input
            data = inside.unused_data

    @property
    def is_whole(self) -> bool:
        return self._inside.eof


class _Zstandard:
    """By the package `zstandard`, whose output can only be bounded by its input."""

    def __init__(self, package: Any) -> None:
        self.errors = (package.ZstdError,)
        self._decompressor = package.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
        self._inside = self._decompressor.decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inside.eof:
                self._inside = self._decompressor.decompressobj()
            piece = self._inside.decompress(data[:_ZSTD_INPUT_BYTES])
            data = self._inside.unused_data + data[_ZSTD_INPUT_BYTES:]
            if piece:
                yield piece

    @property
    def is_whole(self) -> bool:
        return self._inside.eof


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


def _brotli() -> Step | None:
    for name in ("brotli", "brotlicffi"):
        package = _package(name)
        # Older versions cannot be told when to stop.
        if package is not None and hasattr(package.Decompressor, "can_accept_more_data"):
            return _Brotli(package)
    return None


def _zstd() -> Step | None:
    for name in ("compression.zstd", "backports.zstd"):
        if (package := _package(name)) is not None:
            return _Zstd(package)
    package = _package("zstandard")
    return None if package is None else _Zstandard(package)


_STEPS: dict[str, Callable[[], Step | None]] = {
    "gzip": lambda: _Zlib(_GZIP),
    "x-gzip": lambda: _Zlib(_GZIP),
    "deflate": lambda: _Zlib(None),
    "br": _brotli,
    "zstd": _zstd,
}
_PACKAGES = {"br": "brotli (1.2 or later)", "zstd": "zstandard"}
