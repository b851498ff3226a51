"""One request on a client's connection, and the answer to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from merino.transport.h1 import STATUS_LINES
from merino.transport.head import Head, Refused
from merino.wire.exchange import Cancellable, Front, Headers

_LAST_CHUNK = b"0\r\n\r\n"
_CLOSE = b"connection: close\r\n"


class Connection(Protocol):
    """What an exchange needs of the connection it is on."""

    front: Front
    transport: asyncio.Transport
    is_writable: bool

    @property
    def address(self) -> str: ...

    @property
    def date_line(self) -> bytes:
        """The headers every answer has, rendered."""
        ...

    def write(self, data: bytes) -> None: ...

    def cut(self) -> None: ...

    def exchange_done(self, keeps_alive: bool) -> None: ...


class LaneExchange:
    """`wire.exchange.Exchange` over one request of a `Connection`'s connection."""

    # Without slots: what does not change from its default costs nothing.
    body = b""
    received_at = 0.0
    body_bytes_left = -1
    """Bytes still to come of a body whose length is known; -1: the parser counts them."""
    body_bytes_max = 0
    has_started = False
    is_disconnected = False
    on_writable: Callable[[bool], None] | None = None
    on_disconnect: Callable[[], None] | None = None
    task: Cancellable | None = None
    bytes_taken = 0
    """Of the body, so far."""
    _pieces: list[bytes] | None = None
    _is_finished = False

    def __init__(self, protocol: Connection, head: Head) -> None:
        self._protocol = protocol
        self.head = head
        self._keeps_alive = head.keeps_alive
        self.target = head.target
        self.header = head.header

    @property
    def method(self) -> bytes:
        return self.head.method

    @property
    def headers(self) -> Headers:
        return self.head.headers

    @property
    def address(self) -> str:
        return self._protocol.address

    @property
    def is_writable(self) -> bool:
        return self._protocol.is_writable

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        assert not self.has_started
        self.has_started = True
        protocol = self._protocol
        protocol.write(
            b"%b%b%bcontent-length: %d\r\n%b\r\n%b"
            % (
                STATUS_LINES[status],
                protocol.date_line,
                head,
                len(body),
                b"" if self._keeps_alive else _CLOSE,
                body if self.head.method != b"HEAD" else b"",
            )
        )
        self._end()

    def start(self, status: int, head: bytes, data: bytes = b"") -> None:
        assert not self.has_started
        self.has_started = True
        is_chunked = not self.head.is_http_1_0
        if not is_chunked:
            self._keeps_alive = False
        self._protocol.write(
            b"%b%b%b%b%b\r\n%b"
            % (
                STATUS_LINES[status],
                self._protocol.date_line,
                head,
                b"transfer-encoding: chunked\r\n" if is_chunked else b"",
                b"" if self._keeps_alive else _CLOSE,
                self._coded(data),
            )
        )

    def write(self, data: bytes, /) -> None:
        if self.is_disconnected or not data:
            return
        self._protocol.transport.write(
            data if self.head.is_http_1_0 else b"%x\r\n%b\r\n" % (len(data), data)
        )

    def finish(self, data: bytes = b"") -> None:
        data = self._coded(data)
        if not self.head.is_http_1_0:
            data += _LAST_CHUNK
        if data:
            self._protocol.write(data)
        self._end()

    def abort(self) -> None:
        self._is_finished = True
        self._protocol.cut()

    # -- what the protocol tells -----------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """A piece of the body. Raises `Refused` if it becomes too large."""
        self.bytes_taken += len(data)
        if self.bytes_taken > self.body_bytes_max:
            raise Refused(413, too_large(self.body_bytes_max, self._protocol.front))
        if self._pieces is None:
            self._pieces = []
        self._pieces.append(data)

    def is_received(self) -> None:
        """The request is complete."""
        self.received_at = perf_counter()
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            self.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def refuse_keep_alive(self) -> None:
        self._keeps_alive = False

    def lost(self) -> None:
        self.is_disconnected = True
        if not self._is_finished and self.on_disconnect is not None:
            self.on_disconnect()

    def _coded(self, data: bytes) -> bytes:
        """`data` in the transfer coding of this answer."""
        if data and not self.head.is_http_1_0:
            return b"%x\r\n%b\r\n" % (len(data), data)
        return data

    def _end(self) -> None:
        self._is_finished = True
        self.on_disconnect = self.on_writable = None
        self._protocol.exchange_done(self._keeps_alive)


def too_large(body_bytes_max: int, front: Front) -> str:
    told = f"The request's body is larger than {body_bytes_max} bytes"
    if body_bytes_max == front.body_bytes_max_of_stranger:
        return f"{told}, the most that is taken without a valid key; check the key that you send."
    return f"{told}."
