"""The pooled upstream client: HTTP/1.1 over kept-alive connections, bytes in, bytes out.

It never retries by itself. A request whose bytes may have reached the upstream is never sent twice.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple, cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httptools

from merino.domain.errors import UpstreamBroken, UpstreamTimedOut, UpstreamUnreachable
from merino.gateway.running import Signal, apart
from merino.wire.exchange import Headers

_UNREAD_BYTES_MAX = 64 * 1024
"""What arrives before anybody reads is kept up to this; then the upstream has to wait."""

_HEAD_END = b"\r\n\r\n"


class Origin(NamedTuple):
    """Where connections go. `ca_file` replaces the system's trusted certificates."""

    scheme: str
    host: str
    port: int
    ca_file: str | None = None

    @classmethod
    def of(cls, base_url: str, ca_file: str | None = None) -> Origin:
        """Raises `ValueError` for a URL that is not http(s) with a host."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} must be an http:// or https:// URL with a host")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname, port, ca_file)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Connections per origin, times in seconds, sizes in bytes."""

    connections_max_per_origin: int = 1000
    idle_s: float = 30.0
    head_bytes_max: int = 64 * 1024


class UpstreamConnection(asyncio.Protocol):
    """One connection; carries one request at a time and is its `UpstreamResponse`."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.is_lost = False
        self.idle_since = 0.0
        self.connect_s: float | None = None
        """How long opening it took, while it carries its first exchange."""
        self.status = 0
        self.is_head_done = False
        self._is_in_use = False
        self._is_body_done = False
        self._head = b""
        """What has arrived up to the end of the head, and what came with it."""
        self._interim_heads = 0
        self._folded = b""
        self._keeps_alive = False
        self._is_read_paused = False
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._sink: Callable[[bytes], None] | None = None
        self._error: Exception | None = None
        self._waiter: Signal | None = None
        # The parser calls this for every piece of a body: the list's own method is the fastest.
        self.on_body = self._unread.append
        self._parser = httptools.HttpResponseParser(self)

    # -- the exchange ----------------------------------------------------------------------------

    def begin(self, data: bytes) -> None:
        """Send a request."""
        assert self.transport is not None
        self._is_in_use = True
        self.transport.write(data)

    def change(self) -> Signal:
        """To be awaited until something has come of it. Raises, or fails with, what has broken
        it."""
        if self._error is not None:
            raise self._error
        self._waiter = waiter = Signal(self._loop)
        return waiter

    def header(self, name: bytes) -> bytes | None:
        folded = self._folded
        if not folded:
            folded = self._folded = self._own_head().lower()
        at = folded.find(b"\n%b:" % name)
        if at < 0:
            return None
        at += len(name) + 2
        return self._own_head()[at : folded.find(b"\n", at)].strip()

    def header_like(self, prefix: bytes) -> bool:
        folded = self._folded
        if not folded:
            folded = self._folded = self._own_head().lower()
        return b"\n" + prefix in folded

    @property
    def headers(self) -> Headers:
        headers: Headers = []
        for line in self._own_head().split(b"\n")[1:-2]:
            name, _, value = line.partition(b":")
            headers.append((name.lower(), value.strip()))
        return headers

    def _own_head(self) -> bytes:
        """The head of the answer without those of the interim ones, up to its last line end."""
        head = self._head
        begin = 0
        for _ in range(self._interim_heads):
            begin = head.index(_HEAD_END, begin) + 4
        end = head.index(_HEAD_END, begin) + 2
        if begin or end < len(head):
            self._head = head = head[begin:end] + b"\r\n"
            self._interim_heads = 0
        return head

    def whole(self, bytes_max: int) -> bytes | None:
        if not self._is_body_done or self._error is not None or self._unread_bytes > bytes_max:
            return None
        # Short answers arrive with their head.
        unread = self._unread
        body = unread[0] if len(unread) == 1 else b"".join(unread)
        unread.clear()
        return body

    async def read(self, bytes_max: int) -> bytes:
        body = self.whole(bytes_max)
        if body is not None:
            return body
        pieces: list[bytes] = []
        size = 0

        def take(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            if size > bytes_max:
                raise UpstreamBroken(
                    f"The upstream's answer is larger than {bytes_max} bytes.",
                    code="upstream_answer_too_large",
                )
            pieces.append(piece)

        await self.pipe(take)
        return b"".join(pieces)

    async def pipe(self, sink: Callable[[bytes], None]) -> None:
        try:
            self._deliver(sink)
            self._sink = sink
            if self._is_read_paused:
                self.resume()
            while not self._is_body_done:
                await self.change()
            if self._error is not None:
                raise self._error
        except asyncio.CancelledError:
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self._sink = None

    def pause(self) -> None:
        if self.transport is not None and not self._is_read_paused and not self.is_lost:
            self._is_read_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and self._is_read_paused and not self.is_lost:
            self._is_read_paused = False
            self.transport.resume_reading()

    def close(self) -> None:
        """Give the connection back after a whole answer, else cut it."""
        if not self._is_in_use:
            return
        self._is_in_use = False
        is_reusable = (
            self._is_body_done
            and self._keeps_alive
            and self._error is None
            and not self.is_lost
            and not self._unread
        )
        self._pool.give_back(self, is_reusable=is_reusable)

    def ready_again(self) -> None:
        """Back from the pool after a whole answer: its parser stands before the next one."""
        if self._is_read_paused:
            self.resume()
        self.connect_s = None
        self._head = self._folded = b""
        self._interim_heads = self._unread_bytes = 0
        self.is_head_done = self._is_body_done = False

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes, but behave as they do.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if not self._is_in_use:
            self._pool.forget(self)
            return
        if exc is None and self.is_head_done and self._is_delimited_by_close():
            self._is_body_done = True
        elif not self._is_body_done:
            where = "in the middle of its answer" if self.is_head_done else "without an answer"
            self._fail(f"The upstream closed the connection {where}.")
        self._wake()

    def data_received(self, data: bytes) -> None:
        if not self._is_in_use:
            # Nobody asked: whatever this is, the connection cannot be trusted any more.
            self._pool.forget(self)
            self.abort()
            return
        if not self.is_head_done:
            self._head += data
        sink = self._sink
        error: Exception | None = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as found:
            error = _explained(found)
        if sink is not None:
            try:
                self._deliver(sink)
            except Exception as found:  # noqa: BLE001 - the reader's own, and goes to the reader
                error = error or found
        if error is None and not self.is_head_done:
            if len(self._head) <= self._pool.limits.head_bytes_max:
                return
            error = _broken("The upstream's head is too large.")
        if error is not None:
            if self._error is None:
                self._error = error
            self.abort()
        elif sink is None:
            self._unread_bytes += len(data)
            if self._unread_bytes > _UNREAD_BYTES_MAX and not self._is_body_done:
                self.pause()
        elif not self._is_body_done:
            return
        # Last of all: whoever waits goes on in here, and may be done with this connection.
        self._wake()

    def eof_received(self) -> bool:
        return False

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # -- parser callbacks (and `on_body`) --------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_body_done:
            raise _broken("The upstream sent more than the answer it was asked for.")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._interim_heads += 1
            return  # 100 Continue, 103 Early Hints: the answer is still to come
        self.status = status
        self.is_head_done = True
        self._keeps_alive = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        if self.is_head_done:
            self._is_body_done = True

    # -- steps -----------------------------------------------------------------------------------

    def _deliver(self, sink: Callable[[bytes], None]) -> None:
        """Hand over what has arrived, in one piece."""
        unread = self._unread
        if unread:
            data = unread[0] if len(unread) == 1 else b"".join(unread)
            unread.clear()
            self._unread_bytes = 0
            sink(data)

    def _fail(self, message: str) -> None:
        if self._error is None:
            self._error = _broken(message)

    def _is_delimited_by_close(self) -> bool:
        return not (self.header(b"content-length") or self.header(b"transfer-encoding"))

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if self._error is None:
                waiter.set()
            else:
                waiter.fail(self._error)


def _broken(message: str) -> UpstreamBroken:
    return UpstreamBroken(message, code="upstream_connection_broken")


def _explained(error: httptools.HttpParserError) -> Exception:
    if isinstance(error, httptools.HttpParserCallbackError):
        cause = error.__context__
        return cause if isinstance(cause, Exception) else error
    if isinstance(error, httptools.HttpParserUpgrade):
        return _broken("The upstream switched protocols unasked.")
    return _broken(f"The upstream's answer is not proper HTTP: {error}.")


class _Pool:
    """The connections to one origin: last used first, so that the others may go idle and close."""

    def __init__(self, client: UpstreamClient, origin: Origin) -> None:
        self._client = client
        self._origin = origin
        self._idle: list[UpstreamConnection] = []
        self._open = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.limits = client.limits

    def take_idle(self) -> UpstreamConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_lost and not _is_closing(connection):
                return connection
            self._open -= 1
        return None

    async def acquire(self, connect_timeout_s: float) -> UpstreamConnection:
        deadline = perf_counter() + connect_timeout_s
        while True:
            if (connection := self.take_idle()) is not None:
                return connection
            if self._open < self.limits.connections_max_per_origin:
                return await self._connect(connect_timeout_s)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                async with asyncio.timeout(max(0.0, deadline - perf_counter())):
                    await turn
            except TimeoutError:
                raise UpstreamTimedOut(
                    f"All {self.limits.connections_max_per_origin} connections to {self._origin} "
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
        for connection in [c for c in self._idle if now - c.idle_since > self.limits.idle_s]:
            self.forget(connection)
            connection.abort()

    def close(self) -> None:
        for connection in tuple(self._idle):
            self.forget(connection)
            connection.abort()

    async def _connect(self, connect_timeout_s: float) -> UpstreamConnection:
        self._open += 1
        try:
            async with asyncio.timeout(connect_timeout_s):
                began = perf_counter()
                connection = await self._client.open(self._origin, self)
                connection.connect_s = perf_counter() - began
                return connection
        except TimeoutError:
            self._failed()
            raise UpstreamTimedOut(
                f"Connecting to {self._origin} took longer than {connect_timeout_s:g} s.",
                code="upstream_connect_timeout",
            ) from None
        except OSError as error:
            self._failed()
            reason = error.strerror or str(error) or type(error).__name__
            raise UpstreamUnreachable(
                f"Cannot connect to {self._origin}: {reason}.", code="upstream_unreachable"
            ) from error
        except BaseException:
            self._failed()
            raise

    def _failed(self) -> None:
        self._open -= 1
        self._next()

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


class UpstreamClient:
    """Connections to every origin. Proxy environment variables are read when it is made."""

    def __init__(self, limits: ClientLimits | None = None) -> None:
        self.limits = limits or ClientLimits()
        self._pools: dict[Origin, _Pool] = {}
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._proxies = getproxies()
        self._sweep: asyncio.TimerHandle | None = None

    async def send(
        self, origin: Origin, data: bytes, *, connect_timeout_s: float = 5.0
    ) -> UpstreamConnection:
        """Send a rendered request; return once the head of its answer arrived.

        Raises `UpstreamUnreachable` or `UpstreamTimedOut` if nothing was sent, `UpstreamBroken` if
        it failed afterwards.
        """
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = _Pool(self, origin)
        if self._sweep is None:
            self._arm_sweep()
        connection = pool.take_idle() or await apart(pool.acquire(connect_timeout_s))
        connection.begin(data)
        try:
            while not connection.is_head_done:
                await connection.change()
        except BaseException:
            connection.close()
            raise
        return connection

    async def aclose(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for pool in self._pools.values():
            pool.close()

    async def open(self, origin: Origin, pool: _Pool) -> UpstreamConnection:
        """A new connection, through the proxy if one is configured for this origin."""
        loop = asyncio.get_running_loop()
        context = self._context(origin.ca_file) if origin.scheme == "https" else None
        proxy = self._proxy_for(origin)
        if proxy is not None:
            return await self._open_through(proxy, origin, pool, context)
        _, connection = await loop.create_connection(
            lambda: UpstreamConnection(pool),
            origin.host,
            origin.port,
            ssl=context,
            server_hostname=origin.host if context else None,
        )
        return connection

    async def _open_through(
        self,
        proxy: tuple[str, int, bytes],
        origin: Origin,
        pool: _Pool,
        context: ssl.SSLContext | None,
    ) -> UpstreamConnection:
        host, port, authorization = proxy
        loop = asyncio.get_running_loop()
        transport, tunnel = await loop.create_connection(_Tunnel, host, port)
        authority = f"{origin.host}:{origin.port}".encode()
        transport.write(
            b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (authority, authority, authorization)
        )
        try:
            await tunnel.established
            connection = UpstreamConnection(pool)
            if context is None:
                transport.set_protocol(connection)
                connection.connection_made(transport)
            else:
                secured = await loop.start_tls(
                    transport, connection, context, server_hostname=origin.host
                )
                if secured is None:
                    raise ConnectionError("the connection closed during the TLS handshake")
                connection.connection_made(secured)
        except BaseException:
            transport.abort()
            raise
        return connection

    def _proxy_for(self, origin: Origin) -> tuple[str, int, bytes] | None:
        url = self._proxies.get(origin.scheme) or self._proxies.get("all")
        if not url or proxy_bypass(f"{origin.host}:{origin.port}"):
            return None
        parts = urlsplit(url if "//" in url else f"//{url}")
        if not parts.hostname:
            return None
        authorization = b""
        if parts.username:
            import base64

            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = b"Proxy-Authorization: Basic %b\r\n" % base64.b64encode(pair.encode())
        return parts.hostname, parts.port or 3128, authorization

    def _context(self, ca_file: str | None) -> ssl.SSLContext:
        context = self._contexts.get(ca_file)
        if context is None:
            context = ssl.create_default_context(cafile=ca_file)
            context.set_alpn_protocols(["http/1.1"])
            self._contexts[ca_file] = context
        return context

    def _arm_sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(max(0.05, self.limits.idle_s / 4), self._expire)

    def _expire(self) -> None:
        now = perf_counter()
        for pool in self._pools.values():
            pool.expire(now)
        self._arm_sweep()


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self.established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" not in self._head or self.established.done():
            return
        status = self._head.split(b"\r\n", 1)[0].split(b" ")
        if len(status) > 1 and status[1] == b"200":
            self.established.set_result(None)
        else:
            shown = self._head[:60].split(b"\r\n", 1)[0].decode("latin-1")
            self.established.set_exception(ConnectionError(f"the proxy answered '{shown}'"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.established.done():
            self.established.set_exception(ConnectionError("the proxy closed the connection"))


def _is_closing(connection: UpstreamConnection) -> bool:
    return connection.transport is None or connection.transport.is_closing()
