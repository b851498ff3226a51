"""How a connection to an upstream is opened: directly or through a proxy, with TLS or without."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable
from typing import NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

P = TypeVar("P", bound=asyncio.Protocol)


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


class Connector:
    """Opens connections. Proxy environment variables are read when it is made."""

    def __init__(self) -> None:
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._proxies = getproxies()

    async def open(self, origin: Origin, make: Callable[[], P]) -> P:
        """A new connection, through the proxy if one is configured for this origin. Raises
        `OSError`."""
        loop = asyncio.get_running_loop()
        context = self._context(origin.ca_file) if origin.scheme == "https" else None
        proxy = self._proxy_for(origin)
        if proxy is not None:
            return await self._open_through(proxy, origin, make, context)
        _, connection = await loop.create_connection(
            make,
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
        make: Callable[[], P],
        context: ssl.SSLContext | None,
    ) -> P:
        host, port, authorization = proxy
        loop = asyncio.get_running_loop()
        transport, tunnel = await loop.create_connection(_Tunnel, host, port)
        authority = f"{origin.host}:{origin.port}".encode()
        transport.write(
            b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (authority, authority, authorization)
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
