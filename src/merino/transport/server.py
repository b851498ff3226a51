"""The fast lane: `/v1` is answered here, on uvicorn's own connections, without ASGI.

A connection belongs to uvicorn (signals, TLS, shutdown) and speaks through uvicorn's httptools
parser. A request the front takes becomes a `LaneExchange`; any other goes the ASGI way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from importlib.util import find_spec
from time import perf_counter
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from merino.running.runner import Runner
from merino.transport.arriving import ArrivingBodies
from merino.transport.exchange import LaneExchange, too_large
from merino.transport.h1 import STATUS_LINES
from merino.transport.head import (
    HEAD_END,
    KNOWN_HEAD_BYTES_MAX,
    Framing,
    Head,
    KnownHeads,
    Refused,
    check_upgrade,
    framing_of,
    head_bytes,
    without_upgrade,
)
from merino.transport.sweeping import ServerLimits, Sweeper
from merino.wire.exchange import Exchange, Front, Headers, render_headers

HAS_SOCKETS = find_spec("wsproto") is not None
_USE_POST = "There are no WebSockets here: wsproto is not installed. POST, with stream = true."
_DISCARD_S = 1.0
_DISCARD_BYTES_MAX = 4 * 1024 * 1024
BODY_BYTES_PER_S_MIN = 16 * 1024
"""A body that arrives at this rate or faster is given all the time it needs."""
_NO_HEAD = -1
_GIVEN_UP = (
    "The request's body was still arriving when the bodies on their way became too many for the"
    " relay's memory. Send it again, with fewer at once."
)


class _Unanswered(Exception):
    """A request that cannot be answered in its turn; the client sends it again on a new line."""


class LaneProtocol(HttpToolsProtocol):
    """A client connection. Made by `lane_protocol`, which binds `front` and `limits`."""

    front: Front
    limits: ServerLimits
    sweeper: Sweeper
    known_heads: KnownHeads
    arriving: ArrivingBodies[LaneProtocol]

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
        self._is_upgrading = self._is_switching = False
        self.is_writable = True
        self._exchange: LaneExchange | None = None
        self._receiving: LaneExchange | None = None
        self._backlog: deque[LaneExchange] = deque()
        self._asgi_receiving = False
        self._cycle_before: Any = None
        self._new_head: Head | None = None
        self._in_head = True
        self._head_bytes = 0
        """Of a head that is not complete: bytes that came of it, or a little fewer."""
        self._fed_bytes = 0
        self._begun = 0
        """Requests that what is being read belongs to, those that it begins among them."""
        self._is_discarding = False
        self._discarded_bytes = 0
        self._closes_after_exchange = False
        self._waiting_since = 0.0
        self._paused_since = 0.0
        self._dated_by: object = None
        self._context = copy_context()
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
        self._received()
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
        # A known request may end within what was read; the next begins there.
        while data and not self._is_discarding and not self.transport.is_closing():
            data = self._take(data)

    def _take(self, data: bytes) -> bytes:
        """Take what `data` begins with, and return what is left."""
        head_end = -1
        if not self._head_bytes and self._in_head:
            self._waiting_since = perf_counter()
            cycle: Any = self.cycle
            if (
                self._exchange is None
                and self.timeout_keep_alive_task is None
                and (cycle is None or cycle.response_complete)
            ):
                head_end = data.find(HEAD_END, 0, KNOWN_HEAD_BYTES_MAX)
                if head_end > 0 and (left := self._take_known(data, head_end)) is not None:
                    return left
        elif (exchange := self._receiving) is not None and exchange.body_bytes_left >= 0:
            return self._take_body(exchange, data)
        self._unset_keepalive_if_required()
        self._new_head = None
        if not self._feed(data):
            return b""
        if self._in_head:
            self._count_head(len(data))
        elif self._receiving is not None and self._receiving.bytes_taken:
            self.arriving.note(self, self._owner, self._receiving.bytes_taken)
        if head_end > 0 and self._new_head is not None:
            self.known_heads.learn(data, head_end, self._new_head)
        return b""

    def _count_head(self, fed: int) -> None:
        """`fed` bytes were read, and a head is not complete, or has not begun."""
        if self._head_bytes == _NO_HEAD:
            self._head_bytes = 0
        elif self._begun > 1:
            self._head_bytes = 1  # where in them it began, the parser does not tell
        else:
            self._head_bytes += fed
            if self._head_bytes > self.limits.head_bytes_max:
                self._refuse(431, "The request's head is too large.")

    def _feed(self, data: bytes) -> bool:
        """Have the parser read all of `data`. False if the connection was given up."""
        self._begun = 0 if self._in_head and not self._head_bytes else 1
        while True:
            self._fed_bytes = self._head_bytes + len(data)
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as ended:
                # The parser leaves off here; for us the request goes on as if nobody had asked.
                self._is_upgrading = False
                if self._is_switching:
                    self._switch(data[ended.args[0] :])
                    return False
                version = self.parser.get_http_version()
                method = self.parser.get_method()
                head = without_upgrade(method, self.url, self.headers, version)
                data = head + data[ended.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self._head_bytes = 0
            except httptools.HttpParserCallbackError as error:
                found = error.__context__
                if isinstance(found, _Unanswered):
                    self._answer_no_more()
                elif isinstance(found, Refused):
                    self._refuse(found.status, found.message)
                else:
                    raise
                return False
            except httptools.HttpParserError as error:
                self._refuse(400, f"Malformed HTTP request: {error}")
                return False
            else:
                return True

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
        self._begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        url, headers = self.url, self.headers
        if self.parser.should_upgrade():
            self._is_switching = check_upgrade(self.parser.get_method(), url, headers)
            if self._is_switching and not HAS_SOCKETS:
                # Its clients go on over HTTP when they get this status, and only then.
                raise Refused(426, _USE_POST)
            self._is_upgrading = True
            return
        self._in_head = False
        if len(url) > self.limits.head_bytes_max // 2:
            raise Refused(414, "The request's target is too long.")
        if len(headers) > self.limits.headers_max or (
            # Else its head cannot be too large.
            (self._fed_bytes > self.limits.head_bytes_max or self._begun > 1)
            and head_bytes(url, headers) > self.limits.head_bytes_max
        ):
            raise Refused(431, "The request's head is too large.")
        # Of a repeated name the first value counts; those that may not be repeated are refused.
        fields = dict(reversed(headers))
        framing = framing_of(url, headers, fields, http_version=self.parser.get_http_version())
        self.expect_100_continue = framing.expects_continue
        is_lane = self.front.takes(url)
        is_other_way_busy = self._is_asgi_running() if is_lane else self._exchange is not None
        if is_other_way_busy or self._closes_after_exchange:
            # The lane and ASGI know nothing of each other's turn.
            raise _Unanswered
        if is_lane:
            self._begin_lane(url, headers, fields, framing)
        else:
            self._begin_asgi()

    def on_body(self, body: bytes) -> None:
        exchange = self._receiving
        if exchange is None:
            if self._asgi_receiving:
                self._grant(len(body))
                super().on_body(body)
            return
        exchange.take(body)
        self._grant(len(body))

    def on_message_complete(self) -> None:
        if self._is_upgrading:
            return
        exchange = self._received()
        self._in_head = True
        self._head_bytes = _NO_HEAD
        if exchange is None:
            if self._asgi_receiving:
                self._asgi_receiving = False
                super().on_message_complete()
            return
        exchange.is_received()
        if self.transport.is_closing():
            return  # the answer before it was this connection's last
        if self._exchange is None:
            self._run(exchange)
        else:
            self._backlog.append(exchange)
            self.flow.pause_reading()
            if len(self._backlog) > self.limits.pipelined_max:
                raise Refused(429, "Too many pipelined requests.")

    # -- requests whose head is known ------------------------------------------------------------

    def _take_known(self, data: bytes, head_end: int) -> bytes | None:
        """Take a request whose head is known, and as much of its body as is here. What is left of
        `data`, or `None` if it is for the parser."""
        found = self.known_heads.find(data, head_end)
        if found is None or self._closes_after_exchange:
            return None
        head, length = found
        exchange = LaneExchange(self, head)
        if length > self.front.body_bytes_max_of_stranger:
            exchange.body_bytes_max = self.front.body_bytes_max(exchange)
            if length > exchange.body_bytes_max:
                return None  # refused by the usual way
        body_end = head_end + 4 + length
        if len(data) >= body_end:
            exchange.body = data[head_end + 4 : body_end]
            exchange.received_at = self._waiting_since
            self._run(exchange)
            return data[body_end:]
        exchange.body_bytes_max = length
        exchange.body_bytes_left = length
        self._in_head = False
        self._receiving = exchange
        return self._take_body(exchange, data[head_end + 4 :])

    def _take_body(self, exchange: LaneExchange, data: bytes) -> bytes:
        """Take what is here of a body whose length is known, and return what is left."""
        left = exchange.body_bytes_left
        self._grant(len(data))
        if len(data) < left:
            exchange.take(data)
            exchange.body_bytes_left = left - len(data)
            if data:
                self.arriving.note(self, self._owner, exchange.bytes_taken)
            return b""
        exchange.take(data if len(data) == left else data[:left])
        self._received()
        self._in_head = True
        exchange.is_received()
        self._run(exchange)
        return data[left:]

    # -- bodies that are on their way ------------------------------------------------------------

    def _grant(self, count: int) -> None:
        """`count` bytes of a body came: it may take longer by the time they are worth."""
        self._waiting_since = min(
            perf_counter(), self._waiting_since + count / BODY_BYTES_PER_S_MIN
        )

    def _owner(self) -> str | None:
        exchange = self._receiving
        return None if exchange is None else self.front.owner(exchange)

    def _received(self) -> LaneExchange | None:
        """Nothing more is received, of what is returned."""
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            self.arriving.forget(self)
        return exchange

    def give_up_body(self) -> None:
        """Unfinished bodies hold too much; this one makes room."""
        self._refuse(408, _GIVEN_UP)

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

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._closes_after_exchange and not self._is_asgi_running():
            self.transport.close()

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

    def forgive(self, late_s: float) -> None:
        """So long nobody could read or write."""
        self._waiting_since += late_s
        self._paused_since += late_s

    def check(self, now: float) -> None:
        """The sweep's visit: who is too slow, or has been idle too long?"""
        limits = self.limits
        if not self.is_writable:
            if now - self._paused_since > limits.write_timeout_s:
                self.transport.abort()
        elif self._is_discarding:
            return
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

    def _begin_lane(
        self,
        url: bytes,
        headers: Headers,
        fields: dict[bytes, bytes],
        framing: Framing,
    ) -> None:
        head = Head(
            self.parser.get_method(),
            url,
            headers,
            fields,
            is_http_1_0=self.parser.get_http_version() == "1.0",
            keeps_alive=self.parser.should_keep_alive() and not self._closes_after_exchange,
        )
        exchange = LaneExchange(self, head)
        self._waiting_since = perf_counter()
        length = framing.length
        if length or framing.is_chunked:
            exchange.body_bytes_max = self.front.body_bytes_max(exchange)
            if length is not None and length > exchange.body_bytes_max:
                raise Refused(413, too_large(exchange.body_bytes_max, self.front))
            if self.expect_100_continue and self._exchange is None:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if length and head.keeps_alive and not head.is_http_1_0 and not framing.expects_continue:
            self._new_head = head
        self._receiving = exchange

    def _switch(self, rest: bytes) -> None:
        """Switch to WebSocket. `rest` came behind the handshake."""
        from merino.transport.websocket import SocketProtocol, handshake

        self._is_switching = False
        if self._exchange is not None or self._is_asgi_running() or self._closes_after_exchange:
            self._answer_no_more()
            return
        version, fields = self.parser.get_http_version(), dict(reversed(self.headers))
        try:
            framing_of(self.url, self.headers, fields, http_version=version)
            answer = handshake(self.parser.get_method(), version, fields)
        except Refused as refused:
            self._refuse(refused.status, refused.message)
            return
        head = Head(b"GET", self.url, self.headers, fields, is_http_1_0=False, keeps_alive=False)
        self._exchange = exchange = LaneExchange(self, head)
        opened = self.front.connect(exchange)
        if opened is None:
            return  # it was refused, and the connection is closed
        self._exchange = None
        self._unset_keepalive_if_required()
        self.sweeper.discard(self)
        self.connections.discard(self)
        self.transport.write(answer)
        socket = SocketProtocol(
            self.transport,
            self.loop,
            self.server_state,
            self._context,
            self.limits.write_timeout_s,
        )
        socket.begin(opened, rest)

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

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
        self._cycle_before = self.cycle
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
        runner = exchange.task = Runner(work, self.loop, exchange, self._ended, self._context)
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

    def _answer_no_more(self) -> None:
        """An earlier request is being answered: its answer is the last on this line."""
        self._received()
        self._is_discarding = True
        if self._asgi_receiving and self.pipeline:
            self._asgi_receiving = False
            self.pipeline.popleft()  # what waits for its turn without being complete
            self.cycle = self._cycle_before
        elif self._is_asgi_running():
            cast("Any", self.cycle).keep_alive = False
        self._close_after_exchange()

    def _refuse(self, status: int, message: str) -> None:
        """Answer a request that is none, and close: what follows on the line cannot be trusted."""
        is_behind = self.pipeline if self._asgi_receiving else self._is_asgi_running()
        if self._exchange is not None or is_behind:
            self._answer_no_more()
            return
        self._received()
        self._is_discarding = True
        if not self._asgi_receiving or self._take_over():
            head, body = self.front.malformed(status, message)
            self.transport.write(
                b"%b%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (STATUS_LINES[status], self.date_line, head, len(body), body)
            )
        # Closing with unread data resets the connection and may destroy the answer on its way.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_DISCARD_S, self.transport.close)

    def _take_over(self) -> bool:
        """The ASGI app must not answer a request that turned out to be none. False if it has."""
        self._asgi_receiving = False
        cycle = cast("Any", self.cycle)
        has_begun = cycle.response_started
        if not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        return not has_begun


def lane_protocol(front: Front, limits: ServerLimits | None = None) -> type[LaneProtocol]:
    """A protocol class for uvicorn's `Config(http=...)` that serves `front`."""
    chosen = limits or ServerLimits()
    return type(
        "BoundLaneProtocol",
        (LaneProtocol,),
        {
            "front": front,
            "limits": chosen,
            "sweeper": Sweeper(chosen),
            "known_heads": KnownHeads(),
            "arriving": ArrivingBodies(chosen.arriving_bytes_max),
        },
    )
