"""A client's connection once it was switched to WebSocket: messages in, messages out.

The framing is wsproto's. What messages say, a `Session` knows.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from time import perf_counter
from typing import Any

from uvicorn.server import ServerState
from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from merino.running.runner import Runner
from merino.transport.head import Refused
from merino.wire.exchange import OpenSession

PING_S = 20.0
SILENCE_S = 60.0
"""A client that answers no ping for so long is gone."""
_CLOSE_S = 5.0
_GOING_AWAY = 1001
_PROTOCOL_ERROR = 1002
_NO_TEXT = 1003
_TOO_LARGE = 1009


def handshake(method: bytes, version: str, fields: Mapping[bytes, bytes]) -> bytes:
    """The answer to a proper handshake. Raises `Refused`."""
    if method != b"GET" or version != "1.1" or b"content-length" in fields:
        raise Refused(400, "A WebSocket is asked for with GET over HTTP/1.1, without a body.")
    if fields.get(b"sec-websocket-version") != b"13":
        raise Refused(426, "Only version 13 of WebSocket is served (Sec-WebSocket-Version: 13).")
    key = fields.get(b"sec-websocket-key", b"")
    try:
        is_right = len(b64decode(key, validate=True)) == 16
    except NotBase64:
        is_right = False
    if not is_right:
        raise Refused(400, "Sec-WebSocket-Key must be 16 bytes in Base64.")
    return _SWITCHED % generate_accept_token(key)


_SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-accept: %b\r\n\r\n"
)


class SocketProtocol(asyncio.Protocol):
    """`wire.exchange.Socket` over the connection that a lane hands over."""

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        server_state: ServerState,
        context: Context,
        write_timeout_s: float,
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._connections: set[Any] = server_state.connections
        self._tasks: set[Any] = server_state.tasks
        self._context = context
        self._write_timeout_s = write_timeout_s
        self._frames = Connection(ConnectionType.SERVER)
        self._pieces: list[str] = []
        self._piece_bytes = 0
        self._heard_at = perf_counter()
        self._paused_at = 0.0
        self._pinging: asyncio.TimerHandle | None = None
        self._is_closing = False
        self.is_writable = True

    def begin(self, open_session: OpenSession, rest: bytes) -> None:
        """Take over, after the answer that switched protocols; `rest` came behind the handshake."""
        self._session = open_session(self)
        self._connections.add(self)
        self._transport.set_protocol(self)
        self._pinging = self._loop.call_later(PING_S, self._ping)
        if rest:
            self.data_received(rest)

    # -- what the session asks -------------------------------------------------------------------

    def send(self, text: bytes) -> None:
        if not self._is_closing and not self._transport.is_closing():
            said = text.decode("utf-8", "replace")
            self._transport.write(self._frames.send(Message(data=said)))  # type: ignore[arg-type]

    def close(self, code: int, reason: str) -> None:
        if self._is_closing or self._transport.is_closing():
            return
        self._is_closing = True
        self._transport.write(self._frames.send(CloseConnection(code=code, reason=reason)))
        # The client answers and closes; whoever does not is not waited for.
        self._loop.call_later(_CLOSE_S, self._transport.close)

    def run(
        self,
        work: Coroutine[Any, Any, None],
        exchange: Any,
        on_end: Callable[[BaseException | None], None],
    ) -> None:
        def ended(runner: Runner, _: Any, error: BaseException | None) -> None:
            self._tasks.discard(runner)
            on_end(error)

        runner = exchange.task = Runner(work, self._loop, exchange, ended, self._context)
        self._tasks.add(runner)  # the server waits for these, and cuts what is left
        runner.go_on()

    def later(self, after_s: float, then: Callable[[], None]) -> Callable[[], None]:
        return self._loop.call_later(after_s, then).cancel

    # -- what the connection tells ---------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._heard_at = perf_counter()
        try:
            self._frames.receive_data(data)
            for event in self._frames.events():
                self._take(event)
        except (RemoteProtocolError, LocalProtocolError) as error:
            self.close(_PROTOCOL_ERROR, str(error)[:100])

    def _take(self, event: object) -> None:
        if self._is_closing and not isinstance(event, CloseConnection):
            return
        if isinstance(event, TextMessage):
            self._pieces.append(event.data)
            self._piece_bytes += len(event.data)
            if self._piece_bytes > self._session.message_bytes_max:
                self.close(
                    _TOO_LARGE, f"At most {self._session.message_bytes_max} bytes a message."
                )
            elif event.message_finished:
                text = "".join(self._pieces)
                self._pieces.clear()
                self._piece_bytes = 0
                self._session.received(text.encode("utf-8", "surrogatepass"))
        elif isinstance(event, BytesMessage):
            self.close(_NO_TEXT, "Messages are JSON, sent as text.")
        elif isinstance(event, Ping):
            self._transport.write(self._frames.send(event.response()))
        elif isinstance(event, CloseConnection):
            if not self._is_closing:
                self._is_closing = True
                self._transport.write(self._frames.send(event.response()))
            self._transport.close()

    def eof_received(self) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._is_closing = True
        if self._pinging is not None:
            self._pinging.cancel()
        self._session.lost()

    def pause_writing(self) -> None:
        self.is_writable = False
        self._paused_at = perf_counter()
        self._session.writable(False)

    def resume_writing(self) -> None:
        self.is_writable = True
        self._session.writable(True)

    def shutdown(self) -> None:
        """uvicorn drains."""
        self._session.drain()

    def _ping(self) -> None:
        now = perf_counter()
        if not self.is_writable:
            if now - self._paused_at > self._write_timeout_s:
                self._transport.abort()
                return
        elif now - self._heard_at > SILENCE_S:
            self.close(_GOING_AWAY, "The client answers no ping.")
        elif not self._is_closing:
            self._transport.write(self._frames.send(Ping()))
        self._pinging = self._loop.call_later(PING_S, self._ping)
