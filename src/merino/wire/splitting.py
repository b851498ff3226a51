"""Server-sent events, split exactly as they came; what they mean is read in each dialect.

The bytes of all events, joined, are the bytes that were fed; nothing is normalised.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

EventKind = Literal["content", "usage", "role", "other", "comment", "done", "error", "garbage"]
"""`content`: something the model produced. `usage`: usage and no choices. `role`: a choice begins.
`other`: any other object. `comment`: carries no data, or is a named event (a heartbeat) whose data
is no object. `garbage`: data that is not a JSON object."""

EVENT_BYTES_MAX = 8 << 20


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event with its exact bytes, terminator included."""

    raw: bytes
    kind: EventKind


BOM = b"\xef\xbb\xbf"
LINE_END = re.compile(rb"\r\n|\n|\r")
# A CR at the very end may be half of a CRLF, so it waits for what follows.
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?=[^\n]))(?:\r\n|\n|\r(?=[^\n]))")


class EventSplitter:
    """Splits what it is fed, in pieces of any size, into events; a dialect says how one is read."""

    __slots__ = ("_event_bytes_max", "_has_cr", "_held")

    def __init__(self, event_bytes_max: int) -> None:
        self._event_bytes_max = event_bytes_max
        self._held = bytearray()
        self._has_cr = False

    def feed_one(self, data: bytes) -> EventKind | None:
        """Take the next bytes if they are exactly one event of a usual form, as most reads are, and
        return its kind. Otherwise `None`, and nothing was taken: give the bytes to `feed`."""
        raise NotImplementedError

    def _read(self, raw: bytes) -> Event:
        """Read one event. Raises `ValueError` if it is too long."""
        raise NotImplementedError

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes and return the events they complete.

        Raises `ValueError` if an event is longer than `event_bytes_max`.
        """
        kind = self.feed_one(data)
        if kind is not None:
            return [Event(data, kind)]
        events: list[Event] = []
        if self._has_cr or b"\r" in data:
            self._has_cr = True
            self._feed_any_line_end(data, events)
            return events
        position = 0
        if held := self._held:
            # Only the last held byte can belong to a terminator that ends in the new bytes.
            searched = len(held) - 1
            held += data
            end = held.find(b"\n\n", searched)
            if end < 0:
                self._check_size(len(held))
                return events
            position = end + 2 - (searched + 1)
            del held[end + 2 :]
            raw = bytes(held)
            held.clear()
            events.append(self._read(raw))
        while (end := data.find(b"\n\n", position)) >= 0:
            end += 2
            events.append(self._read(data[position:end]))
            position = end
        if position < len(data):
            self._held += data[position:]
            self._check_size(len(self._held))
        return events

    def finish(self) -> list[Event]:
        """The stream ended: what is left is an event without its terminator."""
        if not self._held:
            return []
        raw = bytes(self._held)
        self._held.clear()
        return [self._read(raw)]

    def _feed_any_line_end(self, data: bytes, events: list[Event]) -> None:
        held = self._held
        search = max(len(held) - 3, 0)
        held += data
        buffer = bytes(held) if len(held) <= 2 * len(data) + 64 else held
        position = 0
        while (match := _EVENT_END.search(buffer, search)) is not None:
            end = match.end()
            events.append(self._read(bytes(buffer[position:end])))
            position = search = end
        if position:
            del held[:position]
        self._check_size(len(held))

    def _check_size(self, size: int) -> None:
        if size > self._event_bytes_max:
            raise ValueError(f"an event of the stream is longer than {self._event_bytes_max} bytes")
