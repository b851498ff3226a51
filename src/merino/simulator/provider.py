"""The simulated provider inside the process: no network, and every failure on demand.

What it answers is `script.py`'s; docs/reference/simulator.md describes it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from merino.domain.deployment import Deployment
from merino.domain.errors import Misconfigured, UpstreamBroken
from merino.gateway.ports import AskedFor, Headers, UpstreamRequest
from merino.simulator.playback import Playback, Simulation, Tally
from merino.simulator.steps import Head, Step, refusal
from merino.wire.collecting import collected


class SimulatorProvider:
    """Deterministic for a seed and an order of requests. `speed` divides every duration, and
    `defaults` are options for every model, written like a model name's suffix."""

    def __init__(
        self,
        *,
        seed: int = 0,
        speed: float = 1.0,
        defaults: str = "",
        now_s: Callable[[], float] = time.time,
    ) -> None:
        try:
            self._simulation = Simulation(seed=seed, speed=speed, defaults=defaults, now_s=now_s)
        except ValueError as error:
            raise Misconfigured(f"The simulator cannot be set up: {error}") from None

    @property
    def tally(self) -> Tally:
        return self._simulation.tally

    async def send(self, request: UpstreamRequest) -> SimulatedResponse:
        simulation = self._simulation
        steps = simulation.steps(request.endpoint, request.body)
        return await self._begun(SimulatedResponse(steps, simulation.speed, simulation.tally))

    async def ask(self, deployment: Deployment, asked: AskedFor) -> SimulatedResponse:
        """A request about what the simulated vendor keeps."""
        target = f"/v1/{asked.path}?{asked.query}".encode("latin-1")
        steps = self._simulation.ask(asked.method, target, asked.body)
        if steps is None:
            steps = iter(refusal(f"Invalid URL ({asked.method} /v1/{asked.path})", status=404))
        return await self._begun(SimulatedResponse(steps, self._simulation.speed, Tally()))

    async def _begun(self, response: SimulatedResponse) -> SimulatedResponse:
        await response.begin()
        return response


class SimulatedResponse:
    """Paces the answer's bytes and stops when nobody wants them."""

    has_finished = False

    def __init__(self, steps: Iterator[Step], speed: float, tally: Tally) -> None:
        self._playback = Playback(steps, self, speed=speed, tally=tally)
        self._head: Head | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._error: Exception | None = None
        self._is_paused = False
        self._is_complete = False

    async def begin(self) -> None:
        """Wait for the head; the body is held back until somebody reads it."""
        self._playback.run()
        try:
            if self._head is None and self._error is None:
                await self._wait()
        except BaseException:
            self._playback.stop()
            raise
        if self._error is not None:
            raise self._error

    @property
    def status(self) -> int:
        assert self._head is not None
        return self._head.status

    @property
    def headers(self) -> Headers:
        assert self._head is not None
        return self._head.headers

    def header_like(self, prefix: bytes) -> bool:
        return any(name.startswith(prefix) for name, _ in self.headers)

    def header(self, name: bytes) -> bytes | None:
        for each, value in self.headers:
            if each == name:
                return value
        return None

    def whole(self, bytes_max: int) -> bytes | None:
        return None

    async def read(self, bytes_max: int) -> bytes:
        return await collected(self.pipe, bytes_max)

    async def pipe(self, sink: Callable[[bytes], None]) -> None:
        if self._error is not None:
            raise self._error
        if self._is_complete:
            return
        self._sink = sink
        try:
            if not self._is_paused:
                self._playback.resume()
            while not self._is_complete and self._error is None:
                await self._wait()
        finally:
            self._sink = None
            self._playback.pause()
        error = self._error
        if error is not None:
            raise error

    def end(self) -> None:
        if not self._is_complete:
            self._playback.stop()
            self._is_complete = True
            self._wake()

    def pause(self) -> None:
        self._is_paused = True
        self._playback.pause()

    def resume(self) -> None:
        self._is_paused = False
        if self._sink is not None:
            self._playback.resume()

    def close(self) -> None:
        self._playback.stop()
        if not self._is_complete:
            self._fail(UpstreamBroken("The simulator's answer was closed before its end."))

    # -- what the playback calls -----------------------------------------------------------------

    def on_head(self, head: Head) -> None:
        self._head = head
        self._playback.pause()
        self._wake()

    def on_pieces(self, pieces: list[bytes]) -> None:
        assert self._sink is not None
        try:
            self._sink(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        except Exception as error:  # noqa: BLE001  # the reader's own error goes back to its pipe()
            self._playback.pause()
            self._fail(error)

    def on_end(self) -> None:
        self._is_complete = True
        self._wake()

    def on_cut(self) -> None:
        self._fail(UpstreamBroken("The simulator cut the connection."))

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._wake()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
