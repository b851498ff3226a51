"""Proxies that environment variables put between a program and its server."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from merino.doctor.finding import Finding, ok, problem, warning
from merino.doctor.secrets import without_password
from merino.settings.proxies import Proxies, Proxy

_SOCKS = ("socks4", "socks5", "socks5h")
_HOW = "Write it like http://proxy.example:3128."


def proxy_of(base_url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that clients take for this URL; `None`: they connect directly."""
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Proxies(environ).of(parts.scheme, parts.hostname or "", port)


def check_relays_proxy(base_url: str, proxy: Proxy | None) -> list[Finding]:
    """As `check_proxy`, for the relay's own connections: it speaks less than clients do."""
    why_not = None if proxy is None else proxy.why_not_spoken()
    if proxy is None or why_not is None:
        return check_proxy(base_url, proxy)
    return [problem("proxy", f"{_shown(proxy)} {why_not}.", _HOW)]


def check_proxy(base_url: str, proxy: Proxy | None) -> list[Finding]:
    if proxy is None:
        return [ok("proxy", "No proxy is in between.")]
    host = urlsplit(base_url).hostname or ""
    shown = _shown(proxy)
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
        return [problem("proxy", f"{shown} {fault}.", _HOW)]
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


def _shown(proxy: Proxy) -> str:
    return f"{proxy.variable} ({without_password(proxy.url)})"


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
