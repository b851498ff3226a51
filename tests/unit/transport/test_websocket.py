"""A connection that is switched to WebSocket: the handshake, frames of any kind, and its end."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.transport.test_whose_request import Line, Repeating

from merino.transport.server import lane_protocol
from merino.transport.sweeping import ServerLimits

pytest.importorskip("wsproto", reason="`make .venv/.tested` installs it")

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage
from wsproto.utilities import generate_accept_token

from merino.transport import websocket

KEY = b64encode(b"0123456789abcdef")
OFFER = (
    b"GET /v1/responses HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % KEY
)


class Echo:
    """A session that answers each message with itself."""

    message_bytes_max = 1000

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.told: list[Any] = []

    def received(self, text: bytes) -> None:
        self.told.append(text)
        self.socket.send(text)

    def writable(self, is_writable: bool) -> None:
        self.told.append(is_writable)

    def lost(self) -> None:
        self.told.append("lost")

    def drain(self) -> None:
        self.socket.close(1012, "restart")


class Fronted(Repeating):
    def __init__(self) -> None:
        super().__init__()
        self.session: Echo | None = None
        self.refuses = False

    def connect(self, exchange: Any) -> Callable[[Any], Echo] | None:
        if self.refuses:
            exchange.respond(401, b"x-why: key\r\n", b"{}")
            return None

        def opened(socket: Any) -> Echo:
            self.session = Echo(socket)
            return self.session

        return opened


class Client:
    """The other end, with wsproto's frames."""

    def __init__(self, *, refuses: bool = False) -> None:
        async def nothing(scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError("all of it is the lane's")

        self.front = Fronted()
        self.front.refuses = refuses
        protocol = lane_protocol(self.front, ServerLimits())  # type: ignore[arg-type]
        config = uvicorn.Config(nothing, http=protocol, lifespan="off", log_config=None)
        config.load()
        self.state = uvicorn.Server(config).server_state
        self.line = Line()
        self.server: Any = protocol(config=config, server_state=self.state, app_state={})
        self.line.set_protocol = self.switched  # type: ignore[attr-defined]
        self.server.connection_made(self.line)
        self.frames = Connection(ConnectionType.CLIENT)
        self.read = 0

    def switched(self, protocol: Any) -> None:
        self.server = protocol

    def send(self, data: bytes) -> None:
        self.server.data_received(data)

    def connect(self, more: bytes = b"") -> None:
        self.send(OFFER + more)
        head, end, _ = bytes(self.line.written).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"sec-websocket-accept: %b" % generate_accept_token(KEY) in head.lower() + head
        self.read = len(head + end)

    def events(self) -> list[Any]:
        data = bytes(self.line.written)[self.read :]
        self.read += len(data)
        self.frames.receive_data(data)
        return list(self.frames.events())


def run(scene: Callable[[], None]) -> None:
    async def inside() -> None:
        scene()

    asyncio.run(inside())


@settings(max_examples=50)
@given(
    texts=st.lists(st.text(max_size=60), min_size=1, max_size=4),
    size=st.integers(1, 60),
    is_in_frames=st.booleans(),
)
def test_messages_come_whole_however_they_are_cut(
    texts: list[str], size: int, is_in_frames: bool
) -> None:
    """In pieces of any size and in any number of frames, also right behind the handshake, each
    message arrives once, in order."""

    def scene() -> None:
        client = Client()
        data = b""
        for text in texts:
            half = len(text) // 2
            parts = [(text[:half], False), (text[half:], True)] if is_in_frames else [(text, True)]
            for part, is_last in parts:
                data += client.frames.send(Message(data=part, message_finished=is_last))
        client.connect(data[:size])
        for at in range(size, len(data), size):
            client.send(data[at : at + size])
        said = [each.data for each in client.events() if isinstance(each, TextMessage)]
        assert texts == said
        assert [text.encode("utf-8", "surrogatepass") for text in texts] == (
            client.front.session.told  # type: ignore[union-attr]
        )
        client.server.connection_lost(None)

    run(scene)


def test_pings_are_answered_and_the_end_is() -> None:
    """A ping has its pong; a close is answered, the connection ends, and the session hears of it."""

    def scene() -> None:
        client = Client()
        client.connect()
        client.send(client.frames.send(Ping(payload=b"x")))
        assert [Pong(payload=b"x")] == client.events()
        client.send(client.frames.send(CloseConnection(code=1000)))
        (closed,) = client.events()
        assert 1000 == closed.code
        assert client.line.is_closing()
        client.server.connection_lost(None)
        assert "lost" == client.front.session.told[-1]  # type: ignore[union-attr]
        assert client.server not in client.state.connections

    run(scene)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda frames: frames.send(Message(data="x" * 1001)), 1009),
        (lambda frames: b"".join(frames.send(Message(data="x" * 400, message_finished=False))
                                 for _ in range(3)), 1009),
        (lambda frames: frames.send(BytesMessage(data=b"x")), 1003),
        (lambda frames: b"\x81\x02hi", 1002),
        (lambda frames: b"\x81\x82\0\0\0\0\xff\xfe", 1007),
    ],
    ids=["large", "large in frames", "bytes", "no mask", "no text"],
)  # fmt: skip
def test_what_is_no_message_of_ours_ends_the_connection(
    make: Callable[[Any], bytes], code: int
) -> None:
    """Too much, bytes, frames without a mask, text that is none: closed with its code, and what
    follows is not read."""

    def scene() -> None:
        client = Client()
        client.connect()
        client.send(make(client.frames))
        assert [code] == [each.code for each in client.events() if hasattr(each, "code")]
        client.send(Connection(ConnectionType.CLIENT).send(Message(data="more")))
        assert [] == client.front.session.told  # type: ignore[union-attr]
        client.server.connection_lost(None)

    run(scene)


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Version: 13", b"Version: 8", 426),
        (b"Key: %b" % KEY, b"Key: eA==", 400),
        (b"Key: %b" % KEY, b"Key: no", 400),
        (b"GET ", b"POST ", 400),
        (b"Host: x", b"Host: x\r\nContent-Length: 3", 400),
        (b"Host: x", b"Host: x\r\nAuthorization: a\r\nAuthorization: b", 400),
    ],
)
def test_a_handshake_that_is_none_is_answered_over_http(
    old: bytes, new: bytes, status: int
) -> None:
    """Nothing is switched; the connection ends behind the answer."""

    def scene() -> None:
        client = Client()
        client.send(OFFER.replace(old, new))
        assert bytes(client.line.written).startswith(b"HTTP/1.1 %d " % status)
        assert client.front.session is None
        client.server.connection_lost(None)

    run(scene)


def test_who_is_refused_gets_the_fronts_answer() -> None:
    """A key that is not good is a 401 like any other, and ends the connection."""

    def scene() -> None:
        client = Client(refuses=True)
        client.send(OFFER)
        assert bytes(client.line.written).startswith(b"HTTP/1.1 401 ")
        assert b"x-why: key" in client.line.written
        assert client.line.is_closing()

    run(scene)


def test_a_slow_reader_is_told_of_and_a_silent_one_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The session hears when the client keeps up no more; who answers no ping is closed."""

    def scene() -> None:
        client = Client()
        client.connect()
        client.server.pause_writing()
        assert not client.server.is_writable
        client.server.resume_writing()
        assert [False, True] == client.front.session.told  # type: ignore[union-attr]
        client.server._ping()
        assert [Ping(payload=b"")] == client.events()
        monkeypatch.setattr(websocket, "SILENCE_S", -1.0)
        client.server._ping()
        assert [1001] == [each.code for each in client.events()]
        client.server.connection_lost(None)

    run(scene)


def test_a_server_that_stops_tells_the_session() -> None:
    """uvicorn's drain reaches the session, which closes when it is time."""

    def scene() -> None:
        client = Client()
        client.connect()
        client.server.shutdown()
        assert [1012] == [each.code for each in client.events()]
        client.server.connection_lost(None)

    run(scene)
