"""However bytes are cut into reads, both ends of the relay understand the same."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any, cast

import pytest
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st

from merino.transport.connection import UpstreamConnection
from merino.transport.server import lane_protocol
from merino.transport.sweeping import ServerLimits


class FakeTransport:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = write_eof = close

    def is_closing(self) -> bool:
        return self.is_closed

    def can_write_eof(self) -> bool:
        return True

    def get_extra_info(self, name: str, default=None):
        return {"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 9)}.get(name, default)

    def set_write_buffer_limits(self, **_) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class FakePool:
    def __init__(self) -> None:
        self.returned: list[bool] = []

    def give_back(self, connection, *, is_reusable: bool) -> None:
        self.returned.append(is_reusable)
        connection.ready_again()

    def forget(self, connection) -> None:
        pass


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


PIECES = [b"data: a\n\n", b"x\r\n", b"data: " + b"b" * 300 + b"\r\n\r\n", b"5\r\n12345\r\n", b"end"]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


CHUNK_ENDS = [len(HEAD + chunked(PIECES[:count])) - 5 for count in range(len(PIECES) + 1)]


@given(st.lists(st.integers(0, 2000), max_size=30))
@example(CHUNK_ENDS)
@example([end + 1 for end in CHUNK_ENDS])
@example([end - 2 for end in CHUNK_ENDS])
@settings(deadline=None)
def test_a_chunked_answer_may_be_cut_anywhere(places) -> None:
    """The same bytes come out, twice in a row on one connection, and it is kept."""

    async def run() -> None:
        pool = FakePool()
        connection = UpstreamConnection(pool)
        connection.connection_made(cast("Any", FakeTransport()))
        for _ in range(2):
            connection.begin(b"request")
            got: list[bytes] = []
            parts = cut(HEAD + chunked(PIECES), places)
            while parts and not connection.is_head_done:
                connection.data_received(parts.pop(0))
            reading = asyncio.create_task(connection.pipe(got.append))
            await asyncio.sleep(0)
            for part in parts:
                connection.data_received(part)
            await reading
            assert b"text/event-stream" == connection.header(b"content-type")
            connection.close()
            assert b"".join(PIECES) == b"".join(got)
        assert [True, True] == pool.returned

    asyncio.run(run())


@pytest.mark.parametrize("junk", [b"zz\r\n", b"5\r\n1234\r\n\r\n", b"+5\r\n12345\r\n"])
def test_a_chunk_that_is_none_breaks_the_answer(junk) -> None:
    """Also where a whole chunk was expected in one read."""

    async def run() -> None:
        connection = UpstreamConnection(FakePool())
        connection.connection_made(cast("Any", FakeTransport()))
        connection.begin(b"request")
        connection.data_received(HEAD)
        reading = asyncio.create_task(connection.pipe(lambda _: None))
        await asyncio.sleep(0)
        for part in (b"3\r\nabc\r\n", b"3\r\ndef\r\n", junk):
            connection.data_received(part)
        with pytest.raises(Exception, match="not proper HTTP"):
            await reading

    asyncio.run(run())


class FakeFront:
    """Answers every request with what it understood."""

    body_bytes_max_of_stranger = 64 * 1024

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, bytes, bytes | None, bytes]] = []
        self.notes = 0

    def takes(self, target: bytes) -> bool:
        return True

    def body_bytes_max(self, exchange) -> int:
        return 100_000

    def handle(self, exchange) -> None:
        if exchange.head.notes is None:
            exchange.head.notes = "seen"
        else:
            self.notes += 1
        self.seen.append((exchange.method, exchange.target, exchange.header(b"x-a"), exchange.body))
        exchange.respond(200, b"", b"ok")

    def owner(self, exchange) -> str | None:
        return None

    def malformed(self, status: int, message: str) -> tuple[bytes, bytes]:
        return b"", message.encode()


def request(body: bytes, more: bytes = b"", name: bytes = b"Content-Length") -> bytes:
    return b"POST /v1/x HTTP/1.1\r\nHost: h\r\nX-A: %b\r\n%b: %d\r\n\r\n%b" % (
        more, name, len(body), body,
    )  # fmt: skip


async def served(parts: list[bytes]) -> tuple[FakeFront, FakeTransport]:
    front: Any = FakeFront()
    protocol = lane_protocol(front, ServerLimits())

    async def nothing(scope, receive, send) -> None:
        raise AssertionError("all of it is the lane's")

    config = uvicorn.Config(nothing, http=protocol, lifespan="off", log_config=None)
    config.load()
    transport: Any = FakeTransport()
    connection = protocol(
        config=config, server_state=uvicorn.Server(config).server_state, app_state={}
    )
    connection.connection_made(transport)
    for part in parts:
        connection.data_received(part)
        await asyncio.sleep(0)
    connection.connection_lost(None)
    return front, transport


BODIES = [b"{}", b"x" * 500, b"", b"POST /v1/y HTTP/1.1\r\nHost: h\r\n\r\n", b"{}"]


@given(
    st.lists(st.integers(0, 2000), max_size=20),
    st.sampled_from([b"Content-Length", b"content-length"]),
)
@example([], b"content-length")
@settings(deadline=None)
def test_requests_may_be_cut_anywhere(places, name) -> None:
    """Whether a head comes for the first time or again, and whatever comes in one read."""

    async def run() -> None:
        wanted = [(b"POST", b"/v1/x", b"a", body) for body in BODIES]
        stream = b"".join(request(body, b"a", name) for body in BODIES)
        front, transport = await served(cut(stream, places))
        assert wanted == front.seen
        assert len(BODIES) == transport.written.count(b"HTTP/1.1 200 OK\r\n")
        # Each in a read of its own: from the second on the head is known.
        front, _ = await served([request(body, b"a", name) for body in BODIES])
        assert wanted == front.seen
        assert front.notes == len(BODIES) - 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "digits", [b"+2", b"2 ", b"0x2", b"-2", b"2,2", b"99999999999999999999", b""]
)
def test_a_known_head_lets_no_odd_length_pass(digits) -> None:
    """What the parser refuses the first time is refused behind a known head, too."""

    async def run() -> None:
        good = request(b"{}")
        odd = good.replace(b"Content-Length: 2", b"Content-Length: " + digits)
        front, transport = await served([good, good, odd])
        assert 2 == len(front.seen)
        assert b"HTTP/1.1 4" in transport.written

    asyncio.run(run())


def test_a_value_that_looks_like_a_length_is_none() -> None:
    """The length is that of the header, not of another one's value before it."""

    async def run() -> None:
        first = request(b"{}", b"a-Length: 7")
        second = request(b"{...}", b"a-Length: 9")
        front, _ = await served([first, first, second])
        assert [b"a-Length: 7", b"a-Length: 7", b"a-Length: 9"] == [each[2] for each in front.seen]
        assert [b"{}", b"{}", b"{...}"] == [each[3] for each in front.seen]

    asyncio.run(run())
