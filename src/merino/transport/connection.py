"""One connection to an upstream: a request out, its answer in, for whoever reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from merino.domain.errors import UpstreamBroken
from merino.running.signal import Signal
from merino.wire.collecting import collected
from merino.wire.exchange import Headers

HEAD_BYTES_MAX = 64 * 1024
_UNREAD_BYTES_MAX = 64 * 1024
"""What arrives before anybody reads is kept up to this; then the upstream has to wait."""

_CHUNK_SIZE_DIGITS_MAX = 10
_HEAD_END = b"\r\n\r\n"


class Pool(Protocol):
    """Where a connection comes from, and goes to when its answer is read."""

    def give_back(self, connection: UpstreamConnection, *, is_reusable: bool) -> None:
        """Its exchange is over."""
        ...

    def forget(self, connection: UpstreamConnection) -> None:
        """It ended while nothing was asked of it."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One connection; carries one request at a time and is its `UpstreamResponse`."""

    has_finished = False  # nobody reads the answer here

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.is_lost = False
        self.idle_since = 0.0
        self.connect_s: float | None = None
        """How long opening it took, while it carries its first exchange."""
        self.status = 0
        self.is_head_done = False
        self._is_in_use = False
        self._is_body_done = False
        self._head = b""
        """What has arrived up to the end of the head, and what came with it."""
        self._interim_heads = 0
        self._is_between_chunks = False
        """The parser has taken a whole chunk, and nothing after it."""
        self._folded = b""
        self._keeps_alive = False
        self._is_read_paused = False
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._sink: Callable[[bytes], None] | None = None
        self._error: Exception | None = None
        self._waiter: Signal | None = None
        # The parser calls this for every piece of a body: the list's own method is the fastest.
        self.on_body = self._unread.append
        self._parser = httptools.HttpResponseParser(self)

    # -- the exchange ----------------------------------------------------------------------------

    def begin(self, data: bytes) -> None:
        """Send a request."""
        assert self.transport is not None
        self._is_in_use = True
        self.transport.write(data)

    def change(self) -> Signal:
        """To be awaited until something has come of it. Raises, or fails with, what has broken
        it."""
        if self._error is not None:
            raise self._error
        self._waiter = waiter = Signal(self._loop)
        return waiter

    @property
    def is_stale(self) -> bool:
        """It had been used before, and its peer ended it in the meantime: nothing of an answer
        came, or (as some balancers part) a 408 that was on its way when the request was sent."""
        if self.connect_s is not None:
            return False
        if not self._head:
            return self.is_lost
        return self.status == 408 and not self._keeps_alive

    def header(self, name: bytes) -> bytes | None:
        folded = self._folded or self._fold()
        at = folded.find(b"\n" + name + b":")
        if at < 0:
            return None
        # Once it is folded, the head is this answer's own.
        return self._head[at + len(name) + 2 : folded.find(b"\n", at + 1)].strip()

    def header_like(self, prefix: bytes) -> bool:
        return b"\n" + prefix in (self._folded or self._fold())

    def _fold(self) -> bytes:
        self._folded = folded = self._own_head().lower()
        return folded

    @property
    def headers(self) -> Headers:
        headers: Headers = []
        for line in self._own_head().split(b"\n")[1:-2]:
            name, _, value = line.partition(b":")
            headers.append((name.lower(), value.strip()))
        return headers

    def _own_head(self) -> bytes:
        """The head of the answer without those of the interim ones, up to its last line end."""
        head = self._head
        begin = 0
        for _ in range(self._interim_heads):
            begin = head.index(_HEAD_END, begin) + 4
        end = head.index(_HEAD_END, begin) + 2
        if begin or end < len(head):
            self._head = head = head[begin:end] + b"\r\n"
            self._interim_heads = 0
        return head

    def whole(self, bytes_max: int) -> bytes | None:
        if not self._is_body_done or self._error is not None or self._unread_bytes > bytes_max:
            return None
        # Short answers arrive with their head.
        unread = self._unread
        body = unread[0] if len(unread) == 1 else b"".join(unread)
        unread.clear()
        return body

    async def read(self, bytes_max: int) -> bytes:
        body = self.whole(bytes_max)
        if body is not None:
            return body
        return await collected(self.pipe, bytes_max)

    async def pipe(self, sink: Callable[[bytes], None]) -> None:
        try:
            self._deliver(sink)
            self._sink = sink
            if self._is_read_paused:
                self.resume()
            while not self._is_body_done:
                await self.change()
            if self._error is not None:
                raise self._error
        except asyncio.CancelledError:
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self._sink = None

    def end(self) -> None:
        if not self._is_body_done:
            self._keeps_alive = False
            self._is_body_done = True
            self._wake()

    def pause(self) -> None:
        if self.transport is not None and not self._is_read_paused and not self.is_lost:
            self._is_read_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and self._is_read_paused and not self.is_lost:
            self._is_read_paused = False
            self.transport.resume_reading()

    def close(self) -> None:
        """Give the connection back after a whole answer, else cut it."""
        if not self._is_in_use:
            return
        self._is_in_use = False
        is_reusable = (
            self._is_body_done
            and self._keeps_alive
            and self._error is None
            and not self.is_lost
            and not self._unread
        )
        self._pool.give_back(self, is_reusable=is_reusable)

    def ready_again(self) -> None:
        """Back from the pool after a whole answer: its parser stands before the next one."""
        if self._is_read_paused:
            self.resume()
        self.connect_s = None
        self._head = self._folded = b""
        self._interim_heads = self._unread_bytes = 0
        self.is_head_done = self._is_body_done = False

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes, but behave as they do.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if not self._is_in_use:
            self._pool.forget(self)
            return
        if exc is None and self.is_head_done and self._is_delimited_by_close():
            self._is_body_done = True
        elif not self._is_body_done:
            where = "in the middle of its answer" if self.is_head_done else "without an answer"
            self._fail(f"The upstream closed the connection {where}.")
        self._wake()

    def data_received(self, data: bytes) -> None:
        if not self._is_in_use:
            # Nobody asked: whatever this is, the connection cannot be trusted any more.
            self._pool.forget(self)
            self.abort()
            return
        sink = self._sink
        if sink is not None and self._is_between_chunks:
            # A read that is one whole chunk, as those of a stream mostly are, needs no parser: it
            # stands before a chunk, and after this one before the next.
            end = data.find(b"\r\n", 0, _CHUNK_SIZE_DIGITS_MAX)
            size = len(data) - end - 4
            if end > 0 and size > 0 and data[-2:] == b"\r\n" and data[:end] == b"%x" % size:
                try:
                    sink(data[end + 2 : -2])
                except Exception as found:  # noqa: BLE001 - the reader's own, and goes to the reader
                    self._break_off(found)
                return
        if not self.is_head_done:
            self._head += data
        error: Exception | None = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as found:
            error = _explained(found)
        if data[-2:] != b"\r\n":
            self._is_between_chunks = False  # the beginning of the next one came along
        if sink is not None:
            try:
                self._deliver(sink)
            except Exception as found:  # noqa: BLE001 - the reader's own, and goes to the reader
                error = error or found
        if error is None and not self.is_head_done:
            if len(self._head) <= HEAD_BYTES_MAX:
                return
            error = _broken("The upstream's head is too large.")
        if error is not None:
            self._break_off(error)
            return
        if sink is None:
            self._unread_bytes += len(data)
            if self._unread_bytes > _UNREAD_BYTES_MAX and not self._is_body_done:
                self.pause()
        elif not self._is_body_done:
            return
        # Last of all: whoever waits goes on in here, and may be done with this connection.
        self._wake()

    def _break_off(self, error: Exception) -> None:
        """The answer cannot be read on: its reader gets `error`, the first one."""
        if self._error is None:
            self._error = error
        self.abort()
        self._wake()

    def eof_received(self) -> bool:
        return False

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # -- parser callbacks (and `on_body`) --------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_body_done:
            raise _broken("The upstream sent more than the answer it was asked for.")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                # Taken for an interim answer, it would be waited for the real one in vain.
                raise _broken(
                    f"The upstream answered with status {status:03d}, which is no answer."
                )
            self._interim_heads += 1
            return  # 100 Continue, 103 Early Hints: the answer is still to come
        self.status = status
        self.is_head_done = True
        self._keeps_alive = self._parser.should_keep_alive()

    def on_chunk_header(self) -> None:
        self._is_between_chunks = False

    def on_chunk_complete(self) -> None:
        self._is_between_chunks = True

    def on_message_complete(self) -> None:
        self._is_between_chunks = False
        if self.is_head_done:
            self._is_body_done = True

    # -- steps -----------------------------------------------------------------------------------

    def _deliver(self, sink: Callable[[bytes], None]) -> None:
        """Hand over what has arrived, in one piece."""
        unread = self._unread
        if unread:
            data = unread[0] if len(unread) == 1 else b"".join(unread)
            unread.clear()
            self._unread_bytes = 0
            sink(data)

    def _fail(self, message: str) -> None:
        if self._error is None:
            self._error = _broken(message)

    def _is_delimited_by_close(self) -> bool:
        coding = self.header(b"transfer-encoding") or b""
        return not (self.header(b"content-length") or coding.lower().endswith(b"chunked"))

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if self._error is None:
                waiter.set()
            else:
                waiter.fail(self._error)


def _broken(message: str) -> UpstreamBroken:
    return UpstreamBroken(message, code="upstream_connection_broken")


def _explained(error: httptools.HttpParserError) -> Exception:
    if isinstance(error, httptools.HttpParserCallbackError):
        cause = error.__context__
        return cause if isinstance(cause, Exception) else error
    if isinstance(error, httptools.HttpParserUpgrade):
        return _broken("The upstream switched protocols unasked.")
    return _broken(f"The upstream's answer is not proper HTTP: {error}.")
