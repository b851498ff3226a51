"""Connections that went stale in the pool: whose fault that is, and what is done about it."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from tests.loopback import OK, Upstream, answering, ask, read_request, run

from merino.domain.errors import UpstreamBroken, UpstreamUnreachable
from merino.settings import UpstreamSettings
from merino.transport import client as client_module
from merino.transport.client import UpstreamClient

RESET = struct.pack("ii", 1, 0)
PARTING_408 = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Dying:
    """An upstream whose used connections end at their next request, in one of several ways."""

    def __init__(self, end: str, together: int = 1) -> None:
        self.end = end
        self.requests = 0
        self._together = together
        """So many are answered for the first time when all are there."""
        self._all_there = asyncio.Event()

    async def __call__(self, reader, writer) -> None:
        await read_request(reader)
        self.requests += 1
        if self.requests >= self._together:
            self._all_there.set()
        await self._all_there.wait()
        writer.write(OK)
        await read_request(reader)
        self.requests += 1
        if self.end == "reset":
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif self.end == "408":
            writer.write(PARTING_408)
        elif self.end == "interim":
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        elif self.end == "half":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi")
        elif self.end == "byte":
            writer.write(b"H")
        await writer.drain()


@pytest.mark.parametrize("on_uvloop", [False, True])
@pytest.mark.parametrize("end", ["close", "reset", "408"])
def test_a_burst_on_dead_connections(end, on_uvloop) -> None:
    """However many of them had died unseen: every call is answered, each on a new connection."""
    calls = 12

    async def scenario() -> None:
        client = UpstreamClient()
        async with Upstream(Dying(end, together=calls)) as server:
            origin = server.origin()
            first = await asyncio.gather(*(ask(client, origin) for _ in range(calls)))
            assert [(200, b"hi")] * calls == first
            again = await asyncio.gather(*(ask(client, origin) for _ in range(calls)))
            assert [(200, b"hi")] * calls == again
            assert 2 * calls == server.connections
        await client.aclose()

    run(scenario(), on_uvloop=on_uvloop)


def test_the_others_are_dropped() -> None:
    """What was idle when one was found dead is closed, and not tried one after the other."""

    async def scenario() -> None:
        client = UpstreamClient()
        upstream = Dying("close", together=5)
        async with Upstream(upstream) as server:
            origin = server.origin()
            await asyncio.gather(*(ask(client, origin) for _ in range(5)))
            assert (200, b"hi") == await ask(client, origin)
            assert (6, 7) == (server.connections, upstream.requests)
            assert (200, b"hi") == await ask(client, origin)
            assert 7 == server.connections, "the newest had been used too, and died in its turn"
        await client.aclose()

    run(scenario())


@pytest.mark.parametrize("end", ["interim", "half", "byte"])
def test_once_something_of_an_answer_came(end) -> None:
    """The upstream was at work on it, so the request is not sent again."""

    async def scenario() -> None:
        client = UpstreamClient()
        upstream = Dying(end)
        async with Upstream(upstream) as server:
            await ask(client, server.origin())
            with pytest.raises(UpstreamBroken, match="closed the connection"):
                await ask(client, server.origin())
            assert (1, 2) == (server.connections, upstream.requests)
        await client.aclose()

    run(scenario())


def test_a_new_connection_that_ends() -> None:
    """Nothing was stale there: it is the upstream's failure, once."""

    async def handle(reader, writer) -> None:
        await read_request(reader)

    async def scenario() -> None:
        client = UpstreamClient()
        async with Upstream(handle) as server:
            with pytest.raises(UpstreamBroken, match="without an answer"):
                await ask(client, server.origin())
            assert 1 == server.connections
        await client.aclose()

    run(scenario())


def test_not_more_than_once() -> None:
    """If the new connection ends as well, that is the answer."""
    is_down = False

    async def handle(reader, writer) -> None:
        while not is_down:
            await read_request(reader)
            if not is_down:
                writer.write(OK)
                await writer.drain()

    async def scenario() -> None:
        nonlocal is_down
        client = UpstreamClient()
        async with Upstream(handle) as server:
            await ask(client, server.origin())
            is_down = True
            with pytest.raises(UpstreamBroken, match="without an answer"):
                await ask(client, server.origin())
            assert 2 == server.connections
        await client.aclose()

    run(scenario())


def test_one_that_was_at_work(monkeypatch) -> None:
    """A connection that ends long after the request was sent was not stale: a second execution
    would be paid twice."""
    monkeypatch.setattr(client_module, "STALE_S_MAX", 0.0)

    async def scenario() -> None:
        client = UpstreamClient()
        upstream = Dying("close")
        async with Upstream(upstream) as server:
            await ask(client, server.origin())
            with pytest.raises(UpstreamBroken, match="without an answer"):
                await ask(client, server.origin())
            assert 1 == server.connections
        await client.aclose()

    run(scenario())


def test_a_408_on_a_new_connection_is_an_answer() -> None:
    """It is the parting of a balancer only where the connection had been idle."""

    async def scenario() -> None:
        client = UpstreamClient()
        async with Upstream(answering(PARTING_408)) as server:
            assert (408, b"") == await ask(client, server.origin())
            assert 1 == server.connections
        await client.aclose()

    run(scenario())


def test_a_pool_that_is_full() -> None:
    """The new connection takes the place of the dead one: with one allowed, one is open."""

    async def scenario() -> None:
        client = UpstreamClient(UpstreamSettings(connections_max_per_origin=1))
        async with Upstream(Dying("reset")) as server:
            origin = server.origin()
            answers = await asyncio.gather(*(ask(client, origin) for _ in range(6)))
            assert [(200, b"hi")] * 6 == answers
        await client.aclose()

    run(scenario())


def test_an_upstream_that_is_gone() -> None:
    """If nobody is there for the new connection, that is told as what it is."""

    async def scenario() -> None:
        client = UpstreamClient()
        async with Upstream(Dying("close")) as server:
            origin = server.origin()
            await ask(client, origin)
            server.close()
            with pytest.raises(UpstreamUnreachable, match="Cannot connect"):
                await ask(client, origin)
        await client.aclose()

    run(scenario())
