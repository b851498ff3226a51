"""Proxies that environment variables put between a program and a server, and the exceptions.

One reading for the relay's own connections and for `merino doctor`. It is that of curl, Go and
Python's `urllib`, and where they differ the one that names more exceptions.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

_SUFFIX = "_proxy"
_SCHEMES_SPOKEN = ("http",)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_BRACKETED = re.compile(r"\[([^\]]*)\](?::(\d{1,5}))?")
_WITH_PORT = re.compile(r"([^:]*):(\d{1,5})")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's URL, always with a scheme, and the variable that names it."""

    url: str
    variable: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)

    def why_not_spoken(self) -> str | None:
        """Why the relay cannot go through it; never with its password."""
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            return "has a host or port that cannot be read"
        if parts.scheme not in _SCHEMES_SPOKEN:
            return f"begins with {parts.scheme}://, which the relay does not speak"
        return None if host else "names no host"


class Proxies:
    """What the variables say: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`, in small or
    capital letters."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        found: dict[str, Proxy] = {}
        # Small letters win; an empty variable in small letters takes back the one in capitals.
        for name in sorted(environ, key=str.islower):
            if name.lower().endswith(_SUFFIX):
                kind = name.lower().removesuffix(_SUFFIX)
                value = environ[name].strip()
                if value:
                    found[kind] = Proxy(value, name)
                elif name.islower():
                    found.pop(kind, None)
        exceptions = found.pop("no", None)
        self._exceptions = NoProxy("" if exceptions is None else exceptions.url)
        self._proxies = {
            kind: Proxy(each.url if "://" in each.url else f"http://{each.url}", each.variable)
            for kind, each in found.items()
        }

    def of(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy on the way to a server; `None`: there is none."""
        proxy = self._proxies.get(scheme) or self._proxies.get("all")
        if proxy is None or self._exceptions.names(scheme, host, port):
            return None
        return proxy


class _Exception(NamedTuple):
    """One entry of NO_PROXY: a range of addresses, or a name that stands for all below it."""

    scheme: str
    network: _Network | None
    name: str
    port: int | None


class NoProxy:
    """The value of NO_PROXY: separated by commas or spaces, each entry a host name (and all names
    below it, with or without a leading `.` or `*.`), an address, a range (`10.0.0.0/8`), any of
    them with a port, IPv6 with or without brackets; or `*` for everything."""

    def __init__(self, value: str) -> None:
        entries = re.split(r"[\s,]+", value.lower())
        self._is_all = "*" in entries
        self._exceptions = [_parsed(each) for each in entries if each not in ("", "*")]

    def names(self, scheme: str, host: str, port: int) -> bool:
        """Whether a server is to be reached without a proxy."""
        if self._is_all:
            return True
        host = host.lower().strip("[]").rstrip(".")
        addresses = _addresses(host)
        for each in self._exceptions:
            if each.port not in (None, port) or each.scheme not in ("", "all", scheme):
                continue
            if addresses:
                # Addresses are compared as such: `.1` is not above 127.0.0.1.
                network = each.network
                if network is not None and any(address in network for address in addresses):
                    return True
            elif each.name and (host == each.name or host.endswith(f".{each.name}")):
                return True
        return False


def _parsed(entry: str) -> _Exception:
    scheme, mark, rest = entry.partition("://")
    if not mark:
        scheme, rest = "", entry
    rest = rest.rstrip("/")
    network = _network(rest.replace("[", "").replace("]", "")) if "/" in rest else _network(rest)
    if network is not None:
        return _Exception(scheme, network, "", None)
    split = _BRACKETED.fullmatch(rest) or _WITH_PORT.fullmatch(rest)
    port = None
    if split is not None:
        rest = split[1]
        port = int(split[2]) if split[2] else None
    name = rest.removeprefix("*").strip(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            name = ""
    return _Exception(scheme, _network(rest), name, port)


def _network(text: str) -> _Network | None:
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    # `::ffff:10.0.0.0/104` means 10.0.0.0/8.
    if isinstance(found, ipaddress.IPv6Network) and found.prefixlen >= 96:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, found.prefixlen - 96))
    return found


def _addresses(host: str) -> list[_Address]:
    """The address that a host is, in all forms it may be meant by; none if it is a name."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return []
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return [found, found.ipv4_mapped]
    return [found]
