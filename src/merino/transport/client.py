"""The pooled upstream client: HTTP/1.1 over kept-alive connections, bytes in, bytes out.

It repeats nothing, with one exception: what was sent on a connection that had gone stale in the
pool goes out once more on a new one. See `docs/decisions/0007`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextvars import Context
from time import perf_counter

from merino.domain.errors import UpstreamBroken, UpstreamTimedOut, UpstreamUnreachable
from merino.running.runner import apart
from merino.running.standstill import Standstill
from merino.settings import UpstreamSettings
from merino.transport.connecting import Connector, Origin, Trusted
from merino.transport.connection import UpstreamConnection
from merino.transport.unpacked import UnpackedResponse
from merino.wire.unpacking import is_packed

STALE_S_MAX = 5.0
"""A connection that was dead before it was used says so within this time. One that ends later may
have been at work on the request."""

Response = UpstreamConnection | UnpackedResponse


class UpstreamClient:
    """Connections to every origin. `standstill` knows when this process did not run, so that
    nobody is blamed for it."""

    def __init__(
        self,
        settings: UpstreamSettings | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        standstill: Standstill | None = None,
    ) -> None:
        self.settings = settings or UpstreamSettings()
        self._pools: dict[Origin, _Pool] = {}
        self.connector = Connector(environ)
        self.standstill = standstill or Standstill()
        self._sweep: asyncio.TimerHandle | None = None

    async def send(
        self, origin: Origin, data: bytes, *, connect_timeout_s: float = 5.0
    ) -> Response:
        """Send a rendered request; return once the head of its answer arrived.

        Raises `UpstreamUnreachable` or `UpstreamTimedOut` if nothing was sent, `UpstreamBroken` if
        it failed afterwards.
        """
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = _Pool(self, origin)
        if self._sweep is None:
            self._arm_sweep()
        # What arrives on a connection is handled in the context in which it was opened, and
        # it serves other calls than the one that asked for it.
        connection = pool.take_idle() or await apart(pool.acquire(connect_timeout_s), Context())
        sent_at = perf_counter()
        connection.begin(self.connector.addressed(origin, data) if pool.is_proxied else data)
        try:
            while not connection.is_head_done:
                await connection.change()
        except BaseException as error:
            is_stale = isinstance(error, UpstreamBroken) and connection.is_stale
            connection.close()
            if not is_stale or perf_counter() - sent_at > STALE_S_MAX:
                raise
            connection = None
        if connection is None or (connection.status == 408 and connection.is_stale):
            if connection is not None:
                connection.close()
            connection = await self._send_anew(pool, data, sent_at, connect_timeout_s)
        if connection.header_like(b"content-encoding:"):
            return self._unpacked(connection)
        return connection

    async def _send_anew(
        self, pool: _Pool, data: bytes, sent_at: float, connect_timeout_s: float
    ) -> UpstreamConnection:
        """Once more, on a connection that nobody has used. Those that were idle when the stale one
        was tried have met the same fate, or will."""
        pool.drop_idle_since(sent_at)
        connection = await apart(pool.acquire(connect_timeout_s, is_new=True), Context())
        connection.begin(self.connector.addressed(pool.origin, data) if pool.is_proxied else data)
        try:
            while not connection.is_head_done:
                await connection.change()
        except BaseException:
            connection.close()
            raise
        return connection

    def _unpacked(self, connection: UpstreamConnection) -> Response:
        values = [value for name, value in connection.headers if name == b"content-encoding"]
        codings = b",".join(values)
        if not is_packed(codings):
            return connection
        try:
            return UnpackedResponse(connection, codings, self.settings.answer_bytes_max)
        except BaseException:
            connection.close()
            raise

    def trust(self, certificates: Trusted) -> None:
        """Trust these from now on. Idle connections that rest on what was trusted before are
        closed."""
        self.connector.trust(certificates)
        for origin, pool in self._pools.items():
            if origin.scheme == "https":
                pool.close()

    def configure(self, settings: UpstreamSettings) -> None:
        """Other limits from now on. Connections above them are closed once they are idle."""
        self.settings = settings
        for pool in self._pools.values():
            pool.configure(settings)

    async def aclose(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for pool in self._pools.values():
            pool.close()

    def _arm_sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(max(0.05, self.settings.idle_s / 4), self._expire)

    def _expire(self) -> None:
        now = perf_counter()
        for pool in self._pools.values():
            pool.expire(now)
        self._arm_sweep()


class _Pool:
    """The connections to one origin: last used first, so that the others may go idle and close."""

    def __init__(self, client: UpstreamClient, origin: Origin) -> None:
        self._client = client
        self.origin = origin
        self.is_proxied = client.connector.is_proxied(origin)
        self._idle: list[UpstreamConnection] = []
        self._open = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._settings = client.settings

    def configure(self, settings: UpstreamSettings) -> None:
        self._settings = settings

    def take_idle(self) -> UpstreamConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_lost and not _is_closing(connection):
                return connection
            self._open -= 1
        return None

    async def acquire(
        self, connect_timeout_s: float, *, is_new: bool = False
    ) -> UpstreamConnection:
        """An idle connection, or a new one; with `is_new` only that, before those who wait."""
        deadline = perf_counter() + connect_timeout_s
        while True:
            if is_new:
                if self._open >= self._settings.connections_max_per_origin and self._idle:
                    self._drop(self._idle[0])
            elif (connection := self.take_idle()) is not None:
                return connection
            if self._open < self._settings.connections_max_per_origin:
                return await self._connect(connect_timeout_s)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if is_new:
                self._waiting.appendleft(turn)
            else:
                self._waiting.append(turn)
            try:
                async with asyncio.timeout(max(0.0, deadline - perf_counter())):
                    await turn
            except TimeoutError:
                raise UpstreamTimedOut(
                    f"All {self._settings.connections_max_per_origin} connections to {self.origin} "
                    f"were busy for {connect_timeout_s:g} s.",
                    code="upstream_pool_exhausted",
                ) from None
            finally:
                if turn in self._waiting:
                    self._waiting.remove(turn)

    def give_back(self, connection: UpstreamConnection, *, is_reusable: bool) -> None:
        if is_reusable:
            connection.ready_again()
            connection.idle_since = perf_counter()
            self._idle.append(connection)
        else:
            self._open -= 1
            connection.abort()
        if self._waiting:
            self._next()

    def forget(self, connection: UpstreamConnection) -> None:
        """An idle connection ended."""
        if connection in self._idle:
            self._idle.remove(connection)
            self._open -= 1
            self._next()

    def expire(self, now: float) -> None:
        """Close what has been idle for too long."""
        self.drop_idle_since(now - self._settings.idle_s)

    def drop_idle_since(self, moment: float) -> None:
        """Close what nobody has used after that."""
        for connection in [each for each in self._idle if each.idle_since < moment]:
            self._drop(connection)

    def close(self) -> None:
        for connection in tuple(self._idle):
            self._drop(connection)

    def _drop(self, connection: UpstreamConnection) -> None:
        self.forget(connection)
        connection.abort()

    async def _connect(self, connect_timeout_s: float) -> UpstreamConnection:
        self._open += 1
        try:
            began = perf_counter()
            try:
                return await self._opened(connect_timeout_s)
            except TimeoutError:
                if not self._client.standstill.lost_since(began, perf_counter()):
                    raise
                # Nothing was sent, and the time was not the upstream's.
                return await self._opened(connect_timeout_s)
        except TimeoutError:
            self._failed()
            raise UpstreamTimedOut(
                f"Connecting to {self.origin} took longer than {connect_timeout_s:g} s.",
                code="upstream_connect_timeout",
            ) from None
        except OSError as error:
            self._failed()
            reason = error.strerror or str(error) or type(error).__name__
            raise UpstreamUnreachable(
                f"Cannot connect to {self.origin}: {reason}.", code="upstream_unreachable"
            ) from error
        except BaseException:
            self._failed()
            raise

    async def _opened(self, connect_timeout_s: float) -> UpstreamConnection:
        async with asyncio.timeout(connect_timeout_s):
            began = perf_counter()
            connection = await self._client.connector.open(
                self.origin, lambda: UpstreamConnection(self)
            )
            connection.connect_s = perf_counter() - began
            return connection

    def _failed(self) -> None:
        self._open -= 1
        self._next()

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


def _is_closing(connection: UpstreamConnection) -> bool:
    return connection.transport is None or connection.transport.is_closing()
