"""Upstreams over loopback sockets that play what a test tells them, byte by byte."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Self

import uvloop

from merino.transport.client import UpstreamClient
from merino.transport.connecting import Origin

REQUEST = b"POST /v1/x HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Upstream:
    """A server that counts its connections and plays one handler on each."""

    def __init__(
        self, handler: Handler, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self._host = host
        self._handler = handler
        self._context = context
        self.connections = 0
        self.port = 0

    async def _serve(self, reader, writer) -> None:
        self.connections += 1
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()

    async def __aexit__(self, *_) -> None:
        self.close()
        await asyncio.sleep(0.02)  # what was aborted is closed in the next turns of the loop

    def origin(self, scheme: str = "http", host: str = "127.0.0.1", ca_file=None) -> Origin:
        return Origin(scheme, host, self.port, ca_file)


class Swallowing:
    """A port that of ::1 that takes no connection and refuses none: what a firewall makes of an address."""

    def __init__(self, port: int) -> None:
        self._sockets: list[socket.socket] = []
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::1", port))
        listener.listen(0)
        self._sockets.append(listener)
        for _ in range(8):  # until its queue is full
            waiting = socket.socket(socket.AF_INET6)
            waiting.setblocking(False)
            waiting.connect_ex(("::1", port))
            self._sockets.append(waiting)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_) -> None:
        for each in self._sockets:
            each.close()


async def read_request(reader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(2)


def answering(*answers: bytes, pause_s: float = 0.0) -> Handler:
    """One answer after the other on a connection, the last one for good."""

    async def handle(reader, writer) -> None:
        left = list(answers)
        while True:
            await read_request(reader)
            await asyncio.sleep(pause_s)
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()

    return handle


async def ask(client: UpstreamClient, origin: Origin, **options) -> tuple[int, bytes]:
    response = await client.send(origin, REQUEST, **options)
    try:
        return response.status, await response.read(2**20)
    finally:
        response.close()


def run(scenario: Awaitable[None], *, on_uvloop: bool = False) -> None:
    """On asyncio's own event loop, or on the relay's."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario

    (uvloop.run if on_uvloop else asyncio.run)(bounded())
