"""How a connection to an upstream is opened: directly or through a proxy, with TLS or without."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, zip_longest
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from merino.settings.proxies import Proxies, Proxy

P = TypeVar("P", bound=asyncio.Protocol)

NEXT_ADDRESS_S = 0.25
"""How long an address may stay silent before the next one is tried beside it (RFC 8305)."""
_ADDRESSES_MAX = 16
_TUNNEL_HEAD_BYTES_MAX = 64 * 1024
_IP_VERSIONS = (socket.AF_INET, socket.AF_INET6)


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
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Trusted = Mapping[str | None, ssl.SSLContext]
"""What is trusted, by the file with the certificates; `None`: the system's."""


class Connector:
    """Opens connections. Proxy environment variables are read when it is made."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._trusted: dict[str | None, ssl.SSLContext] = {}
        self._proxies = Proxies(os.environ if environ is None else environ)
        self._reach = Reach()
        self._forwards: dict[Origin, Proxy] = {}

    async def open(self, origin: Origin, make: Callable[[], P]) -> P:
        """A new connection, through the proxy if one is configured for this origin. Raises
        `OSError`."""
        context = self._context(origin.ca_file) if origin.scheme == "https" else None
        proxy = self._proxies.of(origin.scheme, origin.host, origin.port)
        if proxy is not None:
            return await self._open_through(proxy, origin, make, context)
        return await self._open(
            origin.host, origin.port, make, context, origin.host if context else None
        )

    async def _open(
        self,
        host: str,
        port: int,
        make: Callable[[], P],
        context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> P:
        loop = asyncio.get_running_loop()
        where: dict[str, Any] = {"host": host, "port": port}
        if not _is_address(host):
            where = {"sock": await self._reach.to(host, port)}
        _, connection = await loop.create_connection(
            make, ssl=context, server_hostname=server_hostname, **where
        )
        return connection

    async def _open_through(
        self, proxy: Proxy, origin: Origin, make: Callable[[], P], context: ssl.SSLContext | None
    ) -> P:
        why_not = proxy.why_not_spoken()
        if why_not is not None:
            raise ConnectionError(f"the proxy of {proxy.variable} {why_not}")
        if origin in self._forwards:
            return await self._open(proxy.host, proxy.port, make)
        loop = asyncio.get_running_loop()
        tunnel = await self._open(proxy.host, proxy.port, _Tunnel)
        transport = tunnel.transport
        authority = str(origin).encode()
        transport.write(
            b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n"
            % (authority, authority, _authorization(proxy))
        )
        try:
            await tunnel.established
            connection = make()
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
        except _TunnelRefused:
            transport.abort()
            if context is not None:
                raise
            # Many proxies have tunnels for TLS only, and forward what is plain.
            self._forwards[origin] = proxy
            return await self._open(proxy.host, proxy.port, make)
        except BaseException:
            transport.abort()
            raise
        return connection

    def is_proxied(self, origin: Origin) -> bool:
        """Whether a proxy lies on the way there."""
        return self._proxies.of(origin.scheme, origin.host, origin.port) is not None

    def addressed(self, origin: Origin, request: bytes) -> bytes:
        """A request as it goes out: to a proxy that forwards, it names the whole address."""
        proxy = self._forwards.get(origin)
        if proxy is None:
            return request
        method, _, rest = request.partition(b" ")
        line, _, rest = rest.partition(b"\r\n")
        authority = str(origin).encode()
        return b"%b http://%b%b\r\n%b%b" % (method, authority, line, _authorization(proxy), rest)

    def trust(self, trusted: Trusted) -> None:
        """For the connections opened from now on."""
        self._trusted = dict(trusted)

    def _context(self, ca_file: str | None) -> ssl.SSLContext:
        context = self._trusted.get(ca_file)
        if context is None:
            context = self._trusted[ca_file] = _context(ca_file)
        return context


def read_trusted(origins: Iterable[Origin]) -> Trusted:
    """The certificates that these origins are trusted by, as they are in their files now. Raises
    `OSError`."""
    return {
        ca_file: _context(ca_file)
        for ca_file in {each.ca_file for each in origins if each.scheme == "https"}
    }


def _context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _authorization(proxy: Proxy) -> bytes:
    parts = urlsplit(proxy.url)
    if not parts.username:
        return b""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return b"Proxy-Authorization: Basic %b\r\n" % base64.b64encode(pair.encode())


def _is_address(host: str) -> bool:
    for version in _IP_VERSIONS:
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(version, host)
            return True
    return False


# -- a name with several addresses -----------------------------------------------------------------


class Reach:
    """Connects to names. Addresses are tried in the system's order, the versions of IP in turn;
    each one beside those before it, if they fail or stay silent.

    uvloop has no such race of its own, and would give all the time there is to the first address.
    """

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        """The version of IP that took over where the system's first one led nowhere."""

    async def to(self, host: str, port: int) -> socket.socket:
        """A connected socket to the address that takes the connection first. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise OSError(f"{host[:100]!r} is not a host's name") from None
        addresses = interleaved(
            [(family, address) for family, _, _, _, address in found], self._first.get(host)
        )
        left = deque(addresses)
        tasks: list[asyncio.Task[socket.socket]] = []
        winner: asyncio.Task[socket.socket] | None = None
        try:
            trying: set[asyncio.Task[socket.socket]] = set()
            while winner is None and (left or trying):
                if left:
                    tasks.append(loop.create_task(_connected(*left.popleft())))
                    trying.add(tasks[-1])
                done, trying = await asyncio.wait(
                    trying,
                    timeout=NEXT_ADDRESS_S if left else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                succeeded = [each for each in done if each.exception() is None]
                winner = succeeded[0] if succeeded else None
        finally:
            for each in tasks:
                if each is not winner:
                    _give_up(each)
        if winner is None:
            raise _together([each.exception() for each in tasks])
        family = addresses[tasks.index(winner)][0]
        if family != addresses[0][0]:
            self._first[host] = family
        return winner.result()


def interleaved(
    addresses: list[tuple[int, Any]], first: int | None = None
) -> list[tuple[int, Any]]:
    """The versions of IP in turn, beginning with `first`, or with the one the system put first."""
    families = sorted(
        dict.fromkeys(family for family, _ in addresses), key=lambda each: each != first
    )
    by_family = [[each for each in addresses if each[0] == family] for family in families]
    in_turn = chain.from_iterable(zip_longest(*by_family))
    return [each for each in in_turn if each is not None][:_ADDRESSES_MAX]


async def _connected(family: int, address: Any) -> socket.socket:
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setblocking(False)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(found, address)
    except BaseException:
        found.close()
        raise
    return found


def _give_up(task: asyncio.Task[socket.socket]) -> None:
    if not task.done():
        task.cancel()
    elif not task.cancelled() and task.exception() is None:
        task.result().close()


def _together(errors: list[BaseException | None]) -> OSError:
    """One error for all addresses; each reason once."""
    found = [each for each in errors if isinstance(each, OSError)]
    # The event loops' own words name the address, or do not; the system's are always the same.
    reasons = [os.strerror(each.errno) if each.errno else str(each) for each in found]
    return OSError("; ".join(dict.fromkeys(reasons)) or "it has no address")


class _TunnelRefused(ConnectionError):
    """The proxy makes no tunnel there."""


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy's answer to CONNECT."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # pyright: ignore[reportAttributeAccessIssue] - uvloop's own

    def data_received(self, data: bytes) -> None:
        if self.established.done():
            return
        self._head += data
        if b"\r\n\r\n" not in self._head:
            if len(self._head) > _TUNNEL_HEAD_BYTES_MAX:
                self.established.set_exception(ConnectionError("the proxy's answer has no end"))
            return
        status = self._head.split(b"\r\n", 1)[0].split(b" ")
        if len(status) > 1 and len(status[1]) == 3 and status[1][:1] == b"2":
            self.established.set_result(None)
        else:
            shown = self._head[:60].split(b"\r\n", 1)[0].decode("latin-1")
            refused = ConnectionError if status[1:2] == [b"407"] else _TunnelRefused
            self.established.set_exception(refused(f"the proxy answered '{shown}'"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.established.done():
            self.established.set_exception(ConnectionError("the proxy closed the connection"))
