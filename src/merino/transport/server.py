"""The fast lane: `/v1` is answered here, on uvicorn's own connections, without ASGI.

A connection belongs to uvicorn (signals, TLS, shutdown) and speaks through uvicorn's httptools
parser. A request the front takes becomes a `LaneExchange`; any other goes the ASGI way.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from merino.gateway.running import Runner
from merino.transport.h1 import STATUS_LINES
from merino.wire.exchange import Cancellable, Exchange, Front, Headers, render_headers

_DISCARD_S = 1.0
_DISCARD_BYTES_MAX = 4 * 1024 * 1024
_LAST_CHUNK = b"0\r\n\r\n"
_CLOSE = b"connection: close\r\n"
_HEAD_END = b"\r\n\r\n"
_KNOWN_HEADS_MAX = 1024
_KNOWN_HEAD_BYTES_MAX = 4096
_LENGTH_DIGITS_MAX = 10
_LINE_BREAK = re.compile(rb"[\r\n]")
_NO_UPGRADE = "This server does not upgrade connections."
_HOST_WRONG = "The Host header must be given once."
_LENGTH_WRONG = "Content-Length must be given once, as a number."
_CODING_WRONG = "Transfer-Encoding must be 'chunked', given once."
_ONCE = {
    b"host": _HOST_WRONG,
    b"content-length": _LENGTH_WRONG,
    b"transfer-encoding": _CODING_WRONG,
}


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Sizes in bytes, times in seconds. Times are kept to the precision of `sweep_s`."""

    head_bytes_max: int = 32 * 1024
    headers_max: int = 100
    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    keep_alive_s: float = 75.0
    write_timeout_s: float = 300.0
    buffer_bytes: int = 64 * 1024
    pipelined_max: int = 16
    sweep_s: float = 1.0


class _Refused(Exception):
    """The request is not one we take; raised inside parser callbacks."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Head:
    """What the head of a request says, but for the length of its body."""

    __slots__ = ("header", "headers", "is_http_1_0", "keeps_alive", "method", "notes", "target")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        fields: dict[bytes, bytes],
        *,
        is_http_1_0: bool,
        keeps_alive: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.header = fields.get
        self.notes: Any = None
        self.is_http_1_0 = is_http_1_0
        self.keeps_alive = keeps_alive


class LaneExchange:
    """`wire.exchange.Exchange` over one request of a `LaneProtocol`'s connection."""

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
    _body_bytes = 0
    _pieces: list[bytes] | None = None
    _is_finished = False

    def __init__(self, protocol: LaneProtocol, head: _Head) -> None:
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
        """A piece of the body. Raises `_Refused` if it becomes too large."""
        self._body_bytes += len(data)
        if self._body_bytes > self.body_bytes_max:
            raise _Refused(413, _too_large(self.body_bytes_max, self._protocol.front))
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


class _Sweeper:
    """One timer for all connections: cheaper than arming and cancelling one per request."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._connections: set[LaneProtocol] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: LaneProtocol, loop: asyncio.AbstractEventLoop) -> None:
        self._connections.add(connection)
        if self._timer is None:
            self._timer = loop.call_later(self._limits.sweep_s, self._sweep, loop)

    def discard(self, connection: LaneProtocol) -> None:
        self._connections.discard(connection)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = perf_counter()
        for connection in tuple(self._connections):
            connection.check(now)
        self._timer = (
            loop.call_later(self._limits.sweep_s, self._sweep, loop) if self._connections else None
        )


class LaneProtocol(HttpToolsProtocol):
    """A client connection. Made by `lane_protocol`, which binds `front` and `limits`."""

    front: Front
    limits: ServerLimits
    sweeper: _Sweeper
    known_heads: dict[bytes, _Head]
    """Heads that the parser and all checks have let pass, without the number in their
    `content-length`: the one thing in which a client's requests differ. Such a head says the same
    again, so it is not read again."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # A fresh parser: uvicorn's is lenient about data after `connection: close`.
        self.parser = httptools.HttpRequestParser(self)
        self.is_writable = True
        self._exchange: LaneExchange | None = None
        self._receiving: LaneExchange | None = None
        self._backlog: deque[LaneExchange] = deque()
        self._asgi_receiving = False
        self._new_head: _Head | None = None
        self._in_head = True
        self._head_bytes = 0
        self._fed_bytes = 0
        self._is_discarding = False
        self._discarded_bytes = 0
        self._closes_after_exchange = False
        self._waiting_since = 0.0
        self._paused_since = 0.0
        self._dated_by: object = None
        self._date_line = b""

    # -- connection ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self.transport.set_write_buffer_limits(high=self.limits.buffer_bytes)
        self._waiting_since = perf_counter()
        self.sweeper.add(self, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self.sweeper.discard(self)
        exchange, self._exchange = self._exchange, None
        self._receiving = None
        self._backlog.clear()
        super().connection_lost(exc)
        if exchange is not None:
            exchange.lost()

    def data_received(self, data: bytes) -> None:
        if self._is_discarding:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > _DISCARD_BYTES_MAX:
                self.transport.abort()
            return
        head_end = -1
        if not self._head_bytes and self._in_head:
            self._waiting_since = perf_counter()
            if self._exchange is None and self.timeout_keep_alive_task is None:
                head_end = data.find(_HEAD_END, 0, _KNOWN_HEAD_BYTES_MAX)
                if head_end > 0 and self._take_known(data, head_end):
                    return
        elif (exchange := self._receiving) is not None and exchange.body_bytes_left >= 0:
            self._take_body(exchange, data)
            return
        self._unset_keepalive_if_required()
        self._new_head = None
        self._fed_bytes = self._head_bytes + len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, _NO_UPGRADE)
            return
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__
            if not isinstance(refused, _Refused):
                raise
            self._refuse(refused.status, refused.message)
            return
        except httptools.HttpParserError as error:
            self._refuse(400, f"Malformed HTTP request: {error}")
            return
        if self._in_head:
            self._head_bytes = max(0, self._head_bytes + len(data))
            if self._head_bytes > self.limits.head_bytes_max:
                self._refuse(431, "The request's head is too large.")
        if head_end > 0 and self._new_head is not None:
            self._learn(data, head_end, self._new_head)

    def write(self, data: bytes) -> None:
        # The client may have left between the last event and this one; the task hears of it next.
        if not self.transport.is_closing():
            self.transport.write(data)

    def cut(self) -> None:
        """Let what was written out, then end without the proper end of the answer."""
        self._exchange = None
        self.transport.close()

    # -- parser callbacks ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        url, headers = self.url, self.headers
        if len(url) > self.limits.head_bytes_max // 2:
            raise _Refused(414, "The request's target is too long.")
        if len(headers) > self.limits.headers_max or (
            self._fed_bytes > self.limits.head_bytes_max  # else its head cannot be too large
            and _head_bytes(url, headers) > self.limits.head_bytes_max
        ):
            raise _Refused(431, "The request's head is too large.")
        # Of a repeated name the first value counts; those that may not be repeated are refused.
        fields = dict(reversed(headers))
        length, is_chunked = self._check_head(url, headers, fields)
        if self.front.takes(url):
            self._begin_lane(url, headers, fields, length, is_chunked=is_chunked)
        elif self._exchange is not None or self._backlog:
            # Behind a lane request: answered in order on a connection of its own, after a retry.
            self._close_after_exchange()
        else:
            self._begin_asgi()

    def on_body(self, body: bytes) -> None:
        exchange = self._receiving
        if exchange is None:
            if self._asgi_receiving:
                super().on_body(body)
            return
        exchange.take(body)
        self._waiting_since = perf_counter()

    def on_message_complete(self) -> None:
        exchange, self._receiving = self._receiving, None
        self._in_head = True
        # What was just read is this message's end, and no part of the next one's head.
        self._head_bytes = -self._fed_bytes
        if exchange is None:
            if self._asgi_receiving:
                self._asgi_receiving = False
                super().on_message_complete()
            return
        exchange.is_received()
        if self._exchange is None:
            self._run(exchange)
        else:
            self._backlog.append(exchange)
            self.flow.pause_reading()
            if len(self._backlog) > self.limits.pipelined_max:
                raise _Refused(429, "Too many pipelined requests.")

    # -- requests whose head is known ------------------------------------------------------------

    def _take_known(self, data: bytes, head_end: int) -> bool:
        """Take a request whose head is known, and as much of its body as is here."""
        at, stop = _length_digits(data, head_end)
        head = self.known_heads.get(data[:at] + data[stop:head_end])
        if head is None or not 0 < stop - at <= _LENGTH_DIGITS_MAX:
            return False
        digits = data[at:stop]
        if not digits.isdigit() or self._closes_after_exchange:
            return False
        length = int(digits)
        exchange = LaneExchange(self, head)
        if length > self.front.body_bytes_max_of_stranger:
            exchange.body_bytes_max = self.front.body_bytes_max(exchange)
            if length > exchange.body_bytes_max:
                return False  # refused by the usual way
        if len(data) - head_end - 4 == length:
            exchange.body = data[head_end + 4 :]
            exchange.received_at = self._waiting_since
            self._run(exchange)
            return True
        exchange.body_bytes_max = length
        exchange.body_bytes_left = length
        self._in_head = False
        self._receiving = exchange
        if len(data) > head_end + 4:
            self._take_body(exchange, data[head_end + 4 :])
        return True

    def _take_body(self, exchange: LaneExchange, data: bytes) -> None:
        left = exchange.body_bytes_left
        self._waiting_since = perf_counter()
        if len(data) < left:
            exchange.take(data)
            exchange.body_bytes_left = left - len(data)
            return
        exchange.take(data if len(data) == left else data[:left])
        self._receiving = None
        self._in_head = True
        exchange.is_received()
        self._run(exchange)
        if len(data) > left:
            self.data_received(data[left:])

    def _learn(self, data: bytes, head_end: int, head: _Head) -> None:
        at, stop = _length_digits(data, head_end)
        line_at = data.rfind(b"\r\n", 0, at) + 2
        if data[line_at:at].lower() != b"content-length: " or not data[at:stop].isdigit():
            return  # another header's value looks like it
        if len(self.known_heads) >= _KNOWN_HEADS_MAX:
            self.known_heads.clear()
        self.known_heads[data[:at] + data[stop:head_end]] = head

    # -- answering -------------------------------------------------------------------------------

    @property
    def date_line(self) -> bytes:
        headers = self.server_state.default_headers  # uvicorn replaces the list every second
        if headers is not self._dated_by:
            self._dated_by = headers
            self._date_line = render_headers(headers)
        return self._date_line

    def exchange_done(self, keeps_alive: bool) -> None:
        self._exchange = None
        self.server_state.total_requests += 1
        if not keeps_alive or self._closes_after_exchange:
            self.transport.close()
            return
        if self._backlog:
            self._run(self._backlog.popleft())
            if not self._backlog:
                self.flow.resume_reading()
        else:
            self._waiting_since = perf_counter()

    def shutdown(self) -> None:
        """uvicorn drains: a running exchange finishes, an idle connection closes."""
        if self._exchange is not None:
            self._close_after_exchange()
        elif self._is_asgi_running():
            super().shutdown()
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.is_writable = False
        self._paused_since = perf_counter()
        if self._exchange is not None and self._exchange.on_writable is not None:
            self._exchange.on_writable(False)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.is_writable = True
        if self._exchange is not None and self._exchange.on_writable is not None:
            self._exchange.on_writable(True)

    def check(self, now: float) -> None:
        """The sweep's visit: who is too slow, or has been idle too long?"""
        limits = self.limits
        if self._is_discarding:
            return
        if not self.is_writable:
            if now - self._paused_since > limits.write_timeout_s:
                self.transport.abort()
        elif self._receiving is not None or self._asgi_receiving:
            if now - self._waiting_since > limits.body_timeout_s:
                self._refuse(408, "The request's body did not arrive in time.")
        elif self._exchange is not None or self._is_asgi_running():
            return
        elif self._head_bytes:
            if now - self._waiting_since > limits.head_timeout_s:
                self._refuse(408, "The request's head did not arrive in time.")
        elif now - self._waiting_since > limits.keep_alive_s:
            self.transport.close()

    # -- steps -----------------------------------------------------------------------------------

    def _check_head(
        self, url: bytes, headers: Headers, fields: dict[bytes, bytes]
    ) -> tuple[int | None, bool]:
        """Content length (if any) and whether the body is chunked. Raises `_Refused`."""
        if len(fields) != len(headers):
            _check_repeated(headers)
        length, is_chunked = None, False
        if (given := fields.get(b"content-length")) is not None:
            if not given.isdigit() or len(given) > 18:
                raise _Refused(400, _LENGTH_WRONG)
            length = int(given)
        if (coding := fields.get(b"transfer-encoding")) is not None:
            if coding.lower() != b"chunked":
                raise _Refused(400, _CODING_WRONG)
            if length is not None:
                raise _Refused(400, "Content-Length and Transfer-Encoding exclude each other.")
            is_chunked = True
        if (expected := fields.get(b"expect")) is not None:
            if expected.lower() != b"100-continue":
                raise _Refused(417, "Unknown expectation.")
            self.expect_100_continue = True
        if b"upgrade" in fields and b"upgrade" in fields.get(b"connection", b"").lower():
            raise _Refused(400, _NO_UPGRADE)
        if _LINE_BREAK.search(b"".join(fields.values())):
            raise _Refused(400, "A header's value must be on one line.")
        if b"host" not in fields and self.parser.get_http_version() == "1.1":
            raise _Refused(400, _HOST_WRONG)
        if url[:1] != b"/" and url != b"*":
            raise _Refused(400, "The request's target must be a path.")
        return length, is_chunked

    def _begin_lane(
        self,
        url: bytes,
        headers: Headers,
        fields: dict[bytes, bytes],
        length: int | None,
        *,
        is_chunked: bool,
    ) -> None:
        head = _Head(
            self.parser.get_method(),
            url,
            headers,
            fields,
            is_http_1_0=self.parser.get_http_version() == "1.0",
            keeps_alive=self.parser.should_keep_alive() and not self._closes_after_exchange,
        )
        exchange = LaneExchange(self, head)
        self._waiting_since = perf_counter()
        if length or is_chunked:
            exchange.body_bytes_max = self.front.body_bytes_max(exchange)
            if length is not None and length > exchange.body_bytes_max:
                raise _Refused(413, _too_large(exchange.body_bytes_max, self.front))
            if self.expect_100_continue and self._exchange is None:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if length and head.keeps_alive and not head.is_http_1_0 and b"expect" not in fields:
            self._new_head = head
        self._receiving = exchange

    def _begin_asgi(self) -> None:
        self.scope = {  # pyright: ignore[reportAttributeAccessIssue] - uvicorn completes it
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        self._asgi_receiving = True
        super().on_headers_complete()

    def _is_asgi_running(self) -> bool:
        cycle = cast("Any", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _run(self, exchange: LaneExchange) -> None:
        self._exchange = exchange
        if self._closes_after_exchange:
            exchange.refuse_keep_alive()
        checked: Exchange = exchange
        work = self.front.handle(checked)
        if work is None:
            return
        runner = exchange.task = Runner(work, self.loop, exchange, self._ended)
        running = cast("set[Runner]", self.tasks)  # uvicorn waits for these, and cuts what is left
        running.add(runner)
        runner.go_on()

    def _ended(self, runner: Runner, exchange: Exchange, error: BaseException | None) -> None:
        cast("set[Runner]", self.tasks).discard(runner)
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self.front.failed(exchange, error)

    def _close_after_exchange(self) -> None:
        self._closes_after_exchange = True
        self._backlog.clear()
        if self._exchange is not None and not self._exchange.has_started:
            self._exchange.refuse_keep_alive()

    def _refuse(self, status: int, message: str) -> None:
        """Answer a request that is none, and close: what follows on the line cannot be trusted."""
        self._receiving = None
        if self._exchange is not None:
            # An earlier request is being answered: its answer must stay the last on this line.
            self._is_discarding = True
            self._close_after_exchange()
            return
        head, body = self.front.malformed(status, message)
        self.transport.write(
            b"%b%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINES[status], self.date_line, head, len(body), body)
        )
        # Closing with unread data resets the connection and may destroy the answer on its way.
        self._is_discarding = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_DISCARD_S, self.transport.close)


def _length_digits(data: bytes, head_end: int) -> tuple[int, int]:
    """Where the number of a `content-length` begins and ends, if there is one."""
    at = data.find(b"-Length: ", 0, head_end) + 9
    if at < 9:
        at = data.find(b"-length: ", 0, head_end) + 9
    return at, data.find(b"\r", at)


def _check_repeated(headers: Headers) -> None:
    names = [name for name, _ in headers]
    for name, message in _ONCE.items():
        if names.count(name) > 1:
            raise _Refused(400, message)
    # A repeated name hides a value from the checks that follow.
    if _LINE_BREAK.search(b"".join([value for _, value in headers])):
        raise _Refused(400, "A header's value must be on one line.")


def _head_bytes(url: bytes, headers: Headers) -> int:
    return len(url) + sum([len(name) + len(value) + 4 for name, value in headers])


def _too_large(body_bytes_max: int, front: Front) -> str:
    told = f"The request's body is larger than {body_bytes_max} bytes"
    if body_bytes_max == front.body_bytes_max_of_stranger:
        return f"{told}, the most that is taken without a valid key; check the key that you send."
    return f"{told}."


def lane_protocol(front: Front, limits: ServerLimits | None = None) -> type[LaneProtocol]:
    """A protocol class for uvicorn's `Config(http=...)` that serves `front`."""
    chosen = limits or ServerLimits()
    return type(
        "BoundLaneProtocol",
        (LaneProtocol,),
        {"front": front, "limits": chosen, "sweeper": _Sweeper(chosen), "known_heads": {}},
    )
