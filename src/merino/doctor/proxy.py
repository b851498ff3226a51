"""Proxies that environment variables put between a program and its server."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from merino.doctor.finding import Finding, ok, problem, warning
from merino.doctor.secrets import without_password

_SUFFIX = "_proxy"
_SOCKS = ("socks4", "socks5", "socks5h")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's URL and the variable that names it."""

    url: str
    variable: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.url.startswith("https:") else 80)


def proxy_of(base_url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that clients take for this URL; `None`: they connect directly."""
    found: dict[str, Proxy] = {}
    for name, value in environ.items():
        if name.lower().endswith(_SUFFIX) and value.strip():
            kind = name.lower().removesuffix(_SUFFIX)
            # The name in small letters wins, as it does with clients.
            if kind not in found or name.islower():
                found[kind] = Proxy(value.strip(), name)
    parts = urlsplit(base_url)
    proxy = found.get(parts.scheme) or found.get("all")
    if proxy is None:
        return None
    if "no" in found and is_excepted(parts.hostname or "", parts.netloc, found["no"].url):
        return None
    url = proxy.url if "://" in proxy.url else f"http://{proxy.url}"
    return Proxy(url, proxy.variable)


def is_excepted(host: str, netloc: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names this server: itself, with its port, or a domain above it."""
    for entry in no_proxy.lower().split(","):
        name = entry.strip().removeprefix("*").lstrip(".")
        if entry.strip() == "*" or (name and name in (host, f"[{host}]", netloc.lower())):
            return True
        if name and host.endswith(f".{name}"):
            return True
    return False


def check_proxy(base_url: str, proxy: Proxy | None) -> list[Finding]:
    if proxy is None:
        return [ok("proxy", "No proxy is in between.")]
    host = urlsplit(base_url).hostname or ""
    shown = f"{proxy.variable} ({without_password(proxy.url)})"
    if is_local(host):
        return [
            problem(
                "proxy-catches-local",
                f"{shown} sends calls for {host} to a proxy, which cannot know this machine's or "
                "network's own addresses.",
                f"Add it to the exceptions: NO_PROXY={host} (separated by commas from others).",
            )
        ]
    if fault := _fault(proxy.url):
        return [problem("proxy", f"{shown} {fault}.", "Write it like http://proxy.example:3128.")]
    return [
        warning(
            "proxy",
            f"Calls go through the proxy of {shown}. Some proxies hold streams back, or end silent "
            "connections while a model thinks.",
            f"If that is not meant, add {host} to NO_PROXY.",
        )
    ]


def is_local(host: str) -> bool:
    """This machine or a private network, as far as the name tells."""
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host


def _fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "cannot be read"
    if parts.scheme in _SOCKS:
        return "is a SOCKS proxy, which needs the package socksio and is not examined further"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not a proxy's URL"
    return None
