"""The client's side of the relay: offers of other protocols, slow bodies, and too many of them."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.transport.test_whose_request import Line, Repeating

from merino.transport import server
from merino.transport.arriving import ArrivingBodies
from merino.transport.server import lane_protocol
from merino.transport.sweeping import ServerLimits


class Owned(Repeating):
    """Knows whose request it is by its key; everything but `/v1` is for the ASGI app."""

    body_bytes_max_of_stranger = 100_000

    def takes(self, target: bytes) -> bool:
        return target.startswith(b"/v1/")

    def body_bytes_max(self, exchange) -> int:
        return 100_000

    def owner(self, exchange) -> str | None:
        return (exchange.header(b"authorization") or b"").decode() or None


class Relay:
    """Connections to a lane with an ASGI app beside it."""

    def __init__(self, app=None, **limits) -> None:
        self.front: Any = Owned()
        self.protocol = lane_protocol(self.front, ServerLimits(**limits))

        async def nothing(scope, receive, send) -> None:
            raise AssertionError("all of it is the lane's")

        self.config = uvicorn.Config(
            app or nothing, http=self.protocol, lifespan="off", log_config=None
        )
        self.config.load()
        self.state = uvicorn.Server(self.config).server_state

    def connect(self):
        line: Any = Line()
        connection = self.protocol(config=self.config, server_state=self.state, app_state={})
        connection.connection_made(line)
        return connection, line


def head(key: bytes, length: int, more: bytes = b"", path: bytes = b"/v1/x") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: %b\r\n%bContent-Length: %d\r\n\r\n" % (
        path, key, more, length,
    )  # fmt: skip


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"


@pytest.mark.parametrize("offer", [H2C, H2C.replace(b"h2c", b"TLS/1.0, HTTP/2.0")])
@pytest.mark.parametrize("cut_at", [0, 30, 90, 200])
def test_an_offer_of_another_protocol_is_passed_over(offer, cut_at) -> None:
    """The request is served as it is, whole or in pieces, and the connection goes on."""

    async def run() -> None:
        connection, line = Relay().connect()
        one = head(b"a", 5, offer) + b"hello"
        for data in (
            one[:cut_at],
            one[cut_at:],
            head(b"a", 2, offer) + b"{}" + head(b"b", 2) + b"[]",
        ):
            if data:
                connection.data_received(data)
        assert 3 == line.written.count(b"HTTP/1.1 200 OK\r\n")
        assert [b"hello", b"{}", b"[]"] == [
            body for body in (b"hello", b"{}", b"[]") if b"b'%b')" % body in line.written
        ]
        connection.connection_lost(None)

    asyncio.run(run())


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v1/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_would_be_no_request_any_more_is_refused(sent) -> None:
    """A WebSocket and a tunnel are not served, and the answer says so."""

    async def run() -> None:
        connection, line = Relay().connect()
        connection.data_received(sent)
        assert line.written.startswith(b"HTTP/1.1 400 ")
        connection.connection_lost(None)

    asyncio.run(run())


@pytest.mark.parametrize("target", [b"/v1/responses", b"/v1/responses/", b"/v1/responses?model=o3"])
def test_without_its_library_a_websocket_is_told_to_use_http(target, monkeypatch) -> None:
    """426 at once, and the end of the connection: Codex and its like then go on with POST."""
    monkeypatch.setattr(server, "HAS_SOCKETS", False)

    async def run() -> None:
        connection, line = Relay().connect()
        offer = b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
        connection.data_received(b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (target, offer))
        assert line.written.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
        assert b"\r\nconnection: close\r\n" in line.written
        connection.connection_lost(None)

    asyncio.run(run())


@pytest.mark.parametrize("path", [b"/v1/x", b"/page"])
def test_a_body_that_dribbles_in_is_given_up(path) -> None:
    """Each byte gives it the time one byte is worth, not the whole time again."""

    async def run() -> None:
        async def app(scope, receive, send) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        connection, line = Relay(app, body_timeout_s=3.0).connect()
        connection.data_received(head(b"a", 10_000, path=path))
        began = perf_counter()
        for second in range(3):
            connection.data_received(b"x")
            connection.check(began + second)
            assert b"" == line.written
        connection.check(began + 3.1)
        assert line.written.startswith(b"HTTP/1.1 408 ")
        await asyncio.sleep(0)
        connection.connection_lost(None)

    asyncio.run(run())


def test_a_body_that_comes_steadily_has_the_time_it_needs() -> None:
    """A slow line is no dribble: at 16 KiB a second no limit is met."""

    async def run() -> None:
        connection, line = Relay(body_timeout_s=3.0).connect()
        connection.data_received(head(b"a", 90_000))
        connection._waiting_since -= 3.0  # three seconds ago
        connection.data_received(b"x" * 48 * 1024)
        connection.check(perf_counter() + 2.9)
        assert b"" == line.written
        connection.check(perf_counter() + 3.1)
        assert line.written.startswith(b"HTTP/1.1 408 ")
        connection.connection_lost(None)

    asyncio.run(run())


def test_time_in_which_the_relay_stood_still_is_nobodys_fault() -> None:
    """After a pause of the machine a client is as far in its time-out as before."""

    async def run() -> None:
        relay = Relay(body_timeout_s=3.0)
        connection, line = relay.connect()
        connection.data_received(head(b"a", 10))
        relay.protocol.sweeper._due_at -= 3_600.0
        connection._waiting_since -= 3_600.0
        relay.protocol.sweeper._sweep(asyncio.get_running_loop())
        assert b"" == line.written
        connection.connection_lost(None)

    asyncio.run(run())


@pytest.mark.parametrize("is_read", [False, True])
def test_a_malformed_body_of_a_page_has_one_answer(is_read) -> None:
    """Whether the app has answered already, or would answer later."""

    async def app(scope, receive, send) -> None:
        if is_read:
            while (await receive()).get("more_body"):
                pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})

    async def run() -> None:
        connection, line = Relay(app).connect()
        connection.data_received(
            b"POST /page HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
        )
        for _ in range(5):
            await asyncio.sleep(0)
        connection.data_received(b"zz\r\n")
        for _ in range(5):
            await asyncio.sleep(0)
        assert 1 == line.written.count(b"HTTP/1.1 ")
        connection.connection_lost(None)

    asyncio.run(run())


def test_a_malformed_body_does_not_spoil_the_answer_before_it() -> None:
    """A page that is still being made is answered; what was malformed behind it is not."""

    async def run() -> None:
        go_on = asyncio.Event()

        async def app(scope, receive, send) -> None:
            await go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": scope["path"].encode()})

        connection, line = Relay(app).connect()
        connection.data_received(
            b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n"
            b"POST /two HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        )
        await asyncio.sleep(0)
        assert b"" == line.written
        go_on.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert 1 == line.written.count(b"HTTP/1.1 ")
        assert b"/one" in line.written
        assert line.is_closed
        connection.connection_lost(None)

    asyncio.run(run())


def test_whoever_holds_most_gives_way() -> None:
    """A caller with many unfinished bodies loses the oldest of them, others lose none."""

    async def run() -> None:
        relay = Relay(arriving_bytes_max=10_000)
        bob, bobs = relay.connect()
        bob.data_received(head(b"bob", 5_000) + b"b" * 2_000)
        alices = [relay.connect() for _ in range(4)]
        for connection, _ in alices:
            connection.data_received(head(b"alice", 5_000) + b"a" * 2_500)
        assert [True, False, False, False] == [
            line.written.startswith(b"HTTP/1.1 408 ") for _, line in alices
        ]
        bob.data_received(b"b" * 3_000)
        assert bobs.written.startswith(b"HTTP/1.1 200 ")
        for connection, _ in (*alices, (bob, bobs)):
            connection.connection_lost(None)
        assert 0 == relay.protocol.arriving.bytes_held

    asyncio.run(run())


class Body:
    def __init__(self, bodies: ArrivingBodies[Body]) -> None:
        self.bodies = bodies

    def give_up_body(self) -> None:
        self.bodies.forget(self)


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.sampled_from(["a", "b", None]), st.integers(0, 60)),
        max_size=60,
    )
)
@settings(deadline=None)
def test_unfinished_bodies_never_hold_more_than_is_allowed(steps) -> None:
    """Whatever grows, ends or is given up, the sum is kept and is right."""
    bodies: ArrivingBodies[Body] = ArrivingBodies(100)
    all_of_them = [Body(bodies) for _ in range(8)]
    sizes: dict[int, int] = {}
    for which, owner, more in steps:
        body = all_of_them[which]
        if body not in bodies._bodies:
            sizes[which] = 0
        if more % 7 == 6:
            bodies.forget(body)
        else:
            sizes[which] += more
            bodies.note(body, lambda owner=owner: owner, sizes[which])
        assert bodies.bytes_held <= 100
        held = [sizes[at] for at, each in enumerate(all_of_them) if each in bodies._bodies]
        assert sum(held) == bodies.bytes_held
