"""Nothing that is remembered of one request answers for another.

Known heads spare the parser a head that came before, on any connection. Whatever is sent, and
however it is cut, repeated, pipelined and mixed with what others send, the answers are those of a
server that knows no head and reads one connection at a time.
"""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from random import Random
from typing import Any

import httptools
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.lengths import examples
from tests.unit.transport.test_splits import FakeTransport

from merino.transport.head import KnownHeads
from merino.transport.server import lane_protocol
from merino.transport.sweeping import ServerLimits

DATE = re.compile(rb"date: [^\r]*\r\n")


class Line(FakeTransport):
    """Written to after its end, it keeps nothing."""

    def write(self, data: bytes) -> None:
        if not self.is_closed:
            super().write(data)

    def can_write_eof(self) -> bool:
        return False


class Repeating:
    """A front that answers with all it understood; of some paths only when it is told to."""

    body_bytes_max_of_stranger = 400

    def __init__(self) -> None:
        self.waiting: list = []

    def takes(self, target: bytes) -> bool:
        return True

    def body_bytes_max(self, exchange) -> int:
        return 2_000 if exchange.header(b"authorization") == b"Bearer alice" else 400

    def owner(self, exchange) -> str | None:
        return None

    def handle(self, exchange) -> None:
        notes = exchange.head.notes
        if notes is None:
            notes = exchange.head.notes = exchange.header(b"authorization")
        said = repr(
            (exchange.method, exchange.target, notes, sorted(exchange.headers), exchange.body)
        ).encode()
        # What differs between the two ways by its nature is the spelling of a known length.
        said = re.sub(rb"\(b'content-length', b'\d+'\), ", b"", said)
        if b"later" in exchange.target:
            self.waiting.append((exchange, said))
        else:
            exchange.respond(200, b"", said)

    def answer_waiting(self) -> None:
        while self.waiting:
            exchange, said = self.waiting.pop(0)
            if not exchange.is_disconnected:
                exchange.respond(200, b"", said)

    def malformed(self, status: int, message: str) -> tuple[bytes, bytes]:
        return b"", message.encode()


class NoneKnown(KnownHeads):
    """Every head is for the parser."""

    def find(self, data: bytes, head_end: int):
        return None


class Server:
    """Connections that share what is known."""

    def __init__(self, known: KnownHeads | None = None) -> None:
        self.front: Any = Repeating()
        self.protocol = lane_protocol(self.front, ServerLimits())
        if known is not None:
            self.protocol.known_heads = known

        async def nothing(scope, receive, send) -> None:
            raise AssertionError("all of it is the lane's")

        self.config = uvicorn.Config(nothing, http=self.protocol, lifespan="off", log_config=None)
        self.config.load()
        self.state = uvicorn.Server(self.config).server_state

    def connect(self):
        line: Any = Line()
        connection = self.protocol(config=self.config, server_state=self.state, app_state={})
        connection.connection_made(line)
        return connection, line


KEYS = (b"alice", b"bob", b"carol")
PATHS = (b"/v1/chat/completions", b"/v1/embeddings", b"/v1/later")
SHAPES = (
    # Heads of all kinds that one may be taken for another.
    b"POST %(path)b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %(key)b\r\nContent-Length: %(n)d\r\n\r\n%(body)b",
    b"POST %(path)b HTTP/1.1\r\nhost: x\r\ncontent-length: %(n)d\r\nauthorization: Bearer %(key)b\r\n\r\n%(body)b",
    b"\r\nPOST %(path)b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %(key)b\r\nContent-Length: %(n)d\r\n\r\n%(body)b",
    b"POST %(path)b HTTP/1.1\r\nHost: x\r\nX-Length: 7\r\nAuthorization: Bearer %(key)b\r\nContent-Length: %(n)d\r\n\r\n%(body)b",
    b"POST %(path)b HTTP/1.1\r\nHost: x\r\nX-A: Content-Length: %(n)d\r\nAuthorization: Bearer %(key)b\r\nContent-Length: %(n)d\r\n\r\n%(body)b",
    b"POST %(path)b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %(key)b\r\nX-Key: bob\r\nX-Key: alice\r\nContent-Length: %(n)d\r\n\r\n%(body)b",
    b"POST %(path)b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %(key)b\r\nContent-Length: %(n)d\r\nConnection: close\r\n\r\n%(body)b",
    b"POST %(path)b HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer %(key)b\r\nContent-Length: %(n)d\r\nConnection: keep-alive\r\n\r\n%(body)b",
    b"POST %(path)b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %(key)b\r\nExpect: 100-continue\r\nContent-Length: %(n)d\r\n\r\n%(body)b",
    b"POST %(path)b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nAuthorization: Bearer %(key)b\r\nContent-Length: %(n)d\r\n\r\n%(body)b",
    b"POST %(path)b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %(key)b\r\nTransfer-Encoding: chunked\r\n\r\n%(n)x\r\n%(body)b\r\n0\r\n\r\n",
    b"GET %(path)b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %(key)b\r\n\r\n",
    b"POST %(path)b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %(key)b\r\nContent-Length: 0%(n)d\r\n\r\n%(body)b",
    b"POST %(path)b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %(key)b\r\nContent-Length: +%(n)d\r\n\r\n%(body)b",
    b"POST %(path)b HTTP/1.1\nHost: x\nAuthorization: Bearer %(key)b\nContent-Length: %(n)d\n\n%(body)b",
)  # fmt: skip
BODIES = (
    b"{}",
    b"x" * 300,
    b"y" * 1_500,
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bob\r\n\r\n",
    b"\r\n\r\n",
)


UNEVEN = {6, 7, 8, 13, 14}
"""Shapes after which a connection ends, or whose answer depends on whether an earlier one is out."""


class Sent(bytes):
    """A request; `is_plain` if a connection goes on after it as before."""

    is_plain: bool


def request(shape: int, key: bytes, path: bytes, body: bytes) -> Sent:
    fields = {b"key": key, b"path": path, b"body": body, b"n": len(body)}
    sent = Sent(SHAPES[shape] % fields)
    is_allowed = len(body) <= 400 or key == b"alice"
    sent.is_plain = shape not in UNEVEN and is_allowed
    return sent


def answers(written: bytes) -> list[bytes]:
    """What was said of each request that was served."""
    return re.findall(
        rb"HTTP/1\.1 200 OK\r\n.*?\r\n\r\n(\([^\x00]*?\))(?=HTTP|$)", written, re.DOTALL
    )


requests = st.builds(
    request,
    st.integers(0, len(SHAPES) - 1) | st.integers(0, 3),
    st.sampled_from(KEYS),
    st.sampled_from(PATHS),
    st.sampled_from(BODIES),
)
ALICE, BOB = (request(0, key, PATHS[0], b"{}") for key in (b"alice", b"bob"))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


async def alone(stream: bytes) -> bytes:
    """What a connection gets from a server that knows nothing and has nobody else."""
    server = Server(NoneKnown())
    connection, line = server.connect()
    connection.data_received(stream)
    for _ in range(40):
        server.front.answer_waiting()
        await asyncio.sleep(0)
    connection.connection_lost(None)
    return DATE.sub(b"", line.written)


@given(
    st.lists(
        st.tuples(st.lists(requests, min_size=1, max_size=5), st.lists(st.integers(0, 5_000))),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 2**32),
)
@example([([ALICE, BOB], []), ([ALICE], []), ([ALICE], [])], 1)
@example([([ALICE, BOB, ALICE], []), ([ALICE, BOB], []), ([BOB, ALICE], [])], 2)
@settings(deadline=None, max_examples=examples(75))
def test_no_request_is_taken_for_another(connections, seed) -> None:
    """Requests of several keys, interleaved, split, pipelined and repeated over connections that
    share the known heads, are each answered as if they were alone."""

    async def run() -> None:
        server, random = Server(), Random(seed)
        # Twice over, so that what the first round taught is used in the second.
        for _ in range(2):
            lines = [(*server.connect(), cut(b"".join(sent), at)) for sent, at in connections]
            waiting = list(range(len(lines)))
            while waiting:
                which = random.choice(waiting)
                connection, _, parts = lines[which]
                if parts:
                    connection.data_received(parts.pop(0))
                    if random.random() < 0.3:
                        server.front.answer_waiting()
                        await asyncio.sleep(0)
                else:
                    waiting.remove(which)
            for _ in range(40):
                server.front.answer_waiting()
                await asyncio.sleep(0)
            for (connection, line, _), (sent, _) in zip(lines, connections, strict=True):
                got = DATE.sub(b"", line.written)
                wanted = await alone(b"".join(sent))
                if all(each.is_plain for each in sent):
                    assert wanted == got
                # Where a connection ends depends on what was answered by then, who is meant never.
                for one, other in zip(answers(wanted), answers(got), strict=False):
                    assert one == other
                connection.connection_lost(None)

    asyncio.run(run())


class Plain:
    """A head read by the parser alone."""

    def __init__(self, written: bytes) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(written + b"\r\n\r\n")
        self.method = parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


@given(st.lists(requests, min_size=2, max_size=3), st.integers(1, 200))
@settings(deadline=None)
def test_what_is_learned_is_what_was_written(sent, more) -> None:
    """After any traffic, each head that is known is the one its bytes say."""

    async def run() -> None:
        server = Server()
        connection, _ = server.connect()
        connection.data_received(b"".join(sent) + b"POST /v1/later HTTP/1.1\r\n"[:more])
        for written, head in server.protocol.known_heads._heads.items():
            # The key of a known head lacks nothing but the digits of its length.
            said = dict(head.headers)[b"content-length"]
            at = re.search(rb"(?mi)^content-length: ", written)
            bytes_said = written[: at.end()] + said + written[at.end() :]
            plain = Plain(bytes_said)
            assert (plain.url, plain.headers) == (head.target, head.headers)
            assert plain.method == head.method
        connection.connection_lost(None)

    asyncio.run(run())
