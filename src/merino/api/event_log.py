"""The events of one response, kept so that callers may come and go while it is made."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable

BYTES_MAX = 32 * 1024 * 1024
_NUMBER = re.compile(rb'"sequence_number": ?([0-9]{1,12})')
_EVENT_END = re.compile(rb"\n\n|\r\n\r\n")


class EventLog:
    """Grows by whole events until it is closed. Beyond `BYTES_MAX` it only remembers that there was
    more."""

    def __init__(self, pieces: Iterable[bytes] = ()) -> None:
        self.pieces = list(pieces)
        self.is_closed = False
        self._bytes = sum(map(len, self.pieces))
        self._grown = asyncio.Event()

    @property
    def is_overfull(self) -> bool:
        return self._bytes > BYTES_MAX

    def append(self, data: bytes) -> None:
        if not data:
            return
        self._bytes += len(data)
        if not self.is_overfull:
            self.pieces.append(data)
        self._wake()

    def close(self) -> None:
        self.is_closed = True
        self._wake()

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    async def follow(self, after: int, keep_alive_s: float) -> AsyncIterator[bytes]:
        """The events whose numbers are above `after`, until the log is closed; nothing (`b""`) now
        and then while it does not grow."""
        place = 0
        while True:
            grown = self._grown
            if place < len(self.pieces):
                data = b"".join(self.pieces[place:])
                place = len(self.pieces)
                if after >= 0:
                    data = later_than(data, after)
                if data:
                    yield data
                continue
            if self.is_closed:
                return
            try:
                async with asyncio.timeout(keep_alive_s):
                    await grown.wait()
            except TimeoutError:
                yield b""


def later_than(data: bytes, after: int) -> bytes:
    """The events among these whose numbers are above `after`, and those without a number."""
    found: list[bytes] = []
    start = 0
    for end in [match.end() for match in _EVENT_END.finditer(data)] or [len(data)]:
        event = data[start:end]
        start = end
        number = _NUMBER.search(event)
        if number is None or int(number.group(1)) > after:
            found.append(event)
    return b"".join(found)


def last_number(pieces: Iterable[bytes]) -> int:
    """The number of the last event; -1 if there is none."""
    last = -1
    for piece in pieces:
        for match in _NUMBER.finditer(piece):
            last = max(last, int(match.group(1)))
    return last
