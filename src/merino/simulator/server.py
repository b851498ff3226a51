"""The simulated provider over real sockets: what tests, demos and benchmarks put a relay before.

A test double for loopback: it speaks just enough HTTP/1.1 for well-behaved clients.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http
import socket
import struct
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from typing import cast

import msgspec

from merino.simulator.playback import Playback, Simulation, Tally
from merino.simulator.script import ENDPOINTS, MODEL_NAMES
from merino.simulator.steps import (
    Bytes,
    End,
    Head,
    Step,
    failure,
    refusal,
)

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 256 * 1024 * 1024
_FLUSH_POLL_S = 0.002
_FLUSH_POLLS_MAX = 500
_START_S = 10.0
_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}


class SimulatorServer:
    """A listening simulator. `last_head` and `last_body` are the last request as it came in."""

    def __init__(self, simulation: Simulation, credential: str | None) -> None:
        self.simulation = simulation
        self.credential = credential
        self.last_head = b""
        self.last_body = b""
        self.port = 0
        self.host = ""
        self.connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None

    @property
    def tally(self) -> Tally:
        return self.simulation.tally

    @property
    def base_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    async def listen(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: _Connection(self), host, port, backlog=2048
        )
        self.host = host
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._listener is not None:
            self._listener.close()
            for connection in tuple(self.connections):
                connection.abort()
            while self.connections:  # noqa: ASYNC110  # each is gone within two turns of the loop
                await asyncio.sleep(0)
            await self._listener.wait_closed()
            self._listener = None


async def serve_simulator(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    seed: int = 0,
    speed: float = 1.0,
    defaults: str = "",
    credential: str | None = None,
) -> SimulatorServer:
    """Start serving on this loop. Port 0 picks a free one. With a `credential`, requests that do
    not carry it are refused as the vendor would."""
    server = SimulatorServer(Simulation(seed=seed, speed=speed, defaults=defaults), credential)
    await server.listen(host, port)
    return server


@contextlib.contextmanager
def simulator_in_thread(
    *, seed: int = 0, speed: float = 1.0, defaults: str = "", credential: str | None = None
) -> Generator[SimulatorServer]:
    """A simulator on a free loopback port, on a loop of its own, for synchronous callers."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()
    try:
        starting = serve_simulator(seed=seed, speed=speed, defaults=defaults, credential=credential)
        server = asyncio.run_coroutine_threadsafe(starting, loop).result(_START_S)
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result(_START_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_START_S)
        loop.close()


class _Connection(asyncio.Protocol):
    """One client: one request after the other."""

    def __init__(self, server: SimulatorServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._playback: Playback | None = None
        self._unsent_head = b""
        self._is_chunked = False
        self._is_last = False
        self._is_writable = True
        self._is_invited = False
        self._tally: Tally | None = None

    # -- what asyncio calls ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes, but behave as they do.
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # asyncio's signature
        self._server.connections.discard(self)
        self._transport = None
        if self._playback is not None:
            self._playback.stop()
            self._playback = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._playback is None:
            self._next_request()

    def pause_writing(self) -> None:
        self._is_writable = False
        if self._playback is not None:
            self._playback.pause()

    def resume_writing(self) -> None:
        self._is_writable = True
        if self._playback is not None:
            self._playback.resume()

    # -- requests --------------------------------------------------------------------------------

    def _next_request(self) -> None:
        """Begin every request that is complete; a loop, because answers may end at once."""
        while self._playback is None and self._transport is not None and not self._is_last:
            received = self._received
            end = received.find(b"\r\n\r\n")
            if end < 0:
                if len(received) > HEAD_BYTES_MAX:
                    self._refuse(431, "The head of the request is too large.")
                return
            head = bytes(received[:end])
            request_line, *lines = head.split(b"\r\n")
            parts = request_line.split(b" ")
            fields = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(b":") for line in lines)
            }
            length = fields.get(b"content-length", b"0")
            if len(parts) != 3 or not length.isdigit() or b"transfer-encoding" in fields:
                self._refuse(400, "The simulator reads HTTP/1.1 requests with a Content-Length.")
                return
            size = int(length)
            if size > BODY_BYTES_MAX:
                self._refuse(413, "The body of the request is too large.")
                return
            total = end + 4 + size
            if len(received) < total:
                if fields.get(b"expect", b"").lower() == b"100-continue" and not self._is_invited:
                    self._is_invited = True
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            body = bytes(received[end + 4 : total])
            del received[:total]
            self._is_invited = False
            self._tally = None
            self._is_last = fields.get(b"connection", b"").lower() == b"close"
            self._play(self._steps(parts[0], parts[1], fields, head, body))

    def _steps(
        self,
        method: bytes,
        target: bytes,
        fields: dict[bytes, bytes],
        head: bytes,
        body: bytes,
    ) -> Iterator[Step]:
        server = self._server
        path = target.partition(b"?")[0].decode("latin-1").removeprefix("/v1").strip("/")
        if path == "__stats":
            return _json(asdict(server.tally))
        server.last_head, server.last_body = head, body
        if server.credential is not None:
            wanted = b"Bearer " + server.credential.encode()
            given = fields.get(b"authorization")
            if given is None and b"x-api-key" in fields:
                given = b"Bearer " + fields[b"x-api-key"]
            if given != wanted:
                return iter(failure(401, None))
        if path == "models" and method == b"GET":
            return _json({"object": "list", "data": [_model(name) for name in MODEL_NAMES]})
        if path in ENDPOINTS:
            if method != b"POST":
                return iter(refusal(f"Not allowed to use this method on /{path}.", status=405))
            # Only calls are counted, so that reading the counters does not change them.
            self._tally = server.tally
            return server.simulation.steps(path, body)
        kept = server.simulation.ask(method.decode("latin-1"), target, body)
        if kept is not None:
            return kept
        message = f"Invalid URL ({method.decode('latin-1')} {target.decode('latin-1')})"
        return iter(refusal(message, status=404))

    def _refuse(self, status: int, message: str) -> None:
        self._is_last = True
        self._tally = None
        self._play(iter(refusal(message, status=status)))

    def _play(self, steps: Iterator[Step]) -> None:
        simulation = self._server.simulation
        self._playback = Playback(steps, self, speed=simulation.speed, tally=self._tally or Tally())
        if not self._is_writable:
            self._playback.pause()
        self._playback.run()

    # -- what the playback calls -----------------------------------------------------------------

    def on_head(self, head: Head) -> None:
        lines = [b"HTTP/1.1 %d %b" % (head.status, _REASONS.get(head.status, b"Simulated"))]
        lines += [b"%b: %b" % field for field in head.headers]
        self._is_chunked = head.length is None
        if head.length is None:
            lines.append(b"transfer-encoding: chunked")
        else:
            lines.append(b"content-length: %d" % head.length)
        if self._is_last:
            lines.append(b"connection: close")
        # Sent together with the first piece, which follows at once.
        self._unsent_head = b"\r\n".join(lines) + b"\r\n\r\n"

    def on_pieces(self, pieces: list[bytes]) -> None:
        if self._is_chunked:
            pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        self._write(b"".join(pieces))

    def on_end(self) -> None:
        self._playback = None
        self._write(b"0\r\n\r\n" if self._is_chunked else b"")
        if self._transport is not None:
            if self._is_last:
                self._transport.close()
            elif self._received:
                # Not from here: the playback that calls is still on the stack.
                asyncio.get_running_loop().call_soon(self._next_request)

    def on_cut(self) -> None:
        self._playback = None
        self._is_last = True
        self._write(b"")
        asyncio.get_running_loop().call_later(_FLUSH_POLL_S, self._cut_when_flushed)

    def _write(self, data: bytes) -> None:
        data, self._unsent_head = self._unsent_head + data, b""
        if data and self._transport is not None:
            self._transport.write(data)

    def _cut_when_flushed(self, polls: int = 0) -> None:
        """Reset the connection, but not before what was to be sent has left."""
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size() and polls < _FLUSH_POLLS_MAX:
            asyncio.get_running_loop().call_later(_FLUSH_POLL_S, self._cut_when_flushed, polls + 1)
        else:
            self.abort()

    def abort(self) -> None:
        """Reset the connection now."""
        if self._transport is not None:
            peer = self._transport.get_extra_info("socket")
            if peer is not None:
                # Closing without lingering sends a reset instead of a clean end.
                linger = struct.pack("ii", 1, 0)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()


def _json(value: object) -> Iterator[Step]:
    data = msgspec.json.encode(value)
    return iter(
        (Head(200, [(b"content-type", b"application/json")], len(data)), Bytes(data), End())
    )


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "simulator"}


async def _run(arguments: argparse.Namespace) -> None:
    server = await serve_simulator(
        arguments.host,
        arguments.port,
        seed=arguments.seed,
        speed=arguments.speed,
        defaults=arguments.defaults,
        credential=arguments.credential,
    )
    sys.stdout.write(f"Simulator at {server.base_url} (counters at /__stats). Ctrl-C stops it.\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await server.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m merino.simulator.server",
        description="Serve simulated models with OpenAI's API. Nothing it says is real.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=9000, help="0 picks a free one")
    parser.add_argument("--seed", type=int, default=0, help="decides every random draw")
    parser.add_argument("--speed", type=float, default=1.0, help="divides every duration")
    parser.add_argument("--defaults", default="", help="options for every model: ttft=1s,tps=50")
    parser.add_argument("--credential", default=None, help="refuse requests without this bearer")
    try:
        asyncio.run(_run(parser.parse_args(argv)))
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError, OverflowError) as error:
        sys.stderr.write(f"The simulator cannot start: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
