"""What was learned of calls, in one small file that is rewritten each time. Losing it does no harm:
it is learned again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from merino.domain.errors import StoreUnavailable
from merino.gateway.ports import Learned
from merino.sqlite.data_folder import FILE_MODE

FORMAT = 1
FILE_BYTES_MAX = 64 * 1024 * 1024
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
_Rate = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class _Tag(msgspec.Struct, array_like=True):
    tag: str
    output_tokens: list[_Tokens]
    reasoning_tokens: list[_Tokens]
    tokens_per_s: list[_Rate]


class _Contents(msgspec.Struct):
    format: int
    tags: list[_Tag]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Contents).decode


class LearnedFile:
    """`gateway.ports.LearnedMemory`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = b""

    def load(self) -> Sequence[Learned]:
        """Empty if there is no file, or if it is not one of ours: holds and estimates depend on
        it."""
        try:
            if self._path.stat().st_size > FILE_BYTES_MAX:
                return ()
            self._saved = self._path.read_bytes()
            contents = _decode(self._saved)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return ()
        if contents.format != FORMAT:
            return ()
        return [
            Learned(each.tag, each.output_tokens, each.reasoning_tokens, each.tokens_per_s)
            for each in contents.tags
            if len(each.output_tokens) == len(each.reasoning_tokens) == len(each.tokens_per_s)
        ]

    def save(self, learned: Sequence[Learned]) -> None:
        """Save completely or not at all; skip what is saved already. Raises `StoreUnavailable`."""
        tags = [
            _Tag(each.tag, each.output_tokens, each.reasoning_tokens, each.tokens_per_s)
            for each in learned
        ]
        data = _encode(_Contents(FORMAT, tags))
        if data == self._saved or (not tags and not self._saved):
            return
        fresh = self._path.with_suffix(".new")
        try:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            fresh.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise StoreUnavailable(f"{self._path} cannot be written: {error.strerror}") from None
        self._saved = data
