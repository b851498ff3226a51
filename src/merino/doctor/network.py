"""The way to a server, step by step: name, connection, TLS. Nothing of HTTP is sent."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from dataclasses import dataclass

from merino.doctor.certificate import explain_tls
from merino.doctor.finding import Finding, ok, problem

ADDRESSES_MAX = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect to. `is_proxy` says that the server itself is behind it."""

    host: str
    port: int
    is_tls: bool
    is_proxy: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def check_way(place: Place, context: ssl.SSLContext, timeout_s: float) -> list[Finding]:
    """Stops at the first step that fails."""
    addresses, finding = resolve(place, timeout_s)
    findings = [finding]
    if not addresses:
        return findings
    connection, finding = connect(place, addresses, timeout_s)
    findings.append(finding)
    if connection is None:
        return findings
    with connection:
        if place.is_tls:
            findings.append(handshake(place, connection, context))
    return findings


def resolve(place: Place, timeout_s: float) -> tuple[list[str], Finding]:
    """The addresses of a host's name."""
    answer: queue.Queue[list[str] | OSError | UnicodeError] = queue.Queue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
            answer.put(list(dict.fromkeys(str(each[4][0]) for each in found)))
        except (OSError, UnicodeError) as error:
            answer.put(error)

    # The system's look-up cannot be given a limit; whoever waits for it can.
    threading.Thread(target=look_up, daemon=True).start()
    try:
        found = answer.get(timeout=timeout_s)
    except queue.Empty:
        found = TimeoutError(f"no answer within {timeout_s:g} s")
    if isinstance(found, list):
        shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        seen = (
            f"{place.host} is {shown}."
            if place.host not in found
            else f"{place.host} is an address."
        )
        return found[:ADDRESSES_MAX], ok("name-resolution", seen)
    reason = found.strerror if isinstance(found, OSError) and found.strerror else str(found)
    return [], problem(
        "name-resolution",
        f"The name {place.host} cannot be resolved: {reason}.",
        "Check its spelling, this machine's DNS (resolv.conf, VPN), or a missing entry in "
        "/etc/hosts or the container's network.",
    )


def connect(
    place: Place, addresses: list[str], timeout_s: float
) -> tuple[socket.socket | None, Finding]:
    """A connection to the first address that takes one. Each has its share of the time: one that
    swallows everything, as IPv6 addresses without a route do, must not hide the others."""
    began = time.monotonic()
    error = OSError("no address")
    for tried, address in enumerate(addresses):
        left_s = timeout_s - (time.monotonic() - began)
        if left_s <= 0:
            break
        share_s = left_s / (len(addresses) - tried)
        try:
            connection = socket.create_connection((address, place.port), timeout=share_s)
        except OSError as failed:
            error = failed
            continue
        took_ms = (time.monotonic() - began) * 1000
        return connection, ok("server-unreachable", f"{place} is reached in {took_ms:.0f} ms.")
    return None, _unconnected(place, error, timeout_s)


def handshake(place: Place, connection: socket.socket, context: ssl.SSLContext) -> Finding:
    try:
        with context.wrap_socket(connection, server_hostname=place.host) as secured:
            version = secured.version() or "TLS"
    except TimeoutError:
        return problem(
            "tls",
            f"{place} took the connection and then said nothing: no TLS handshake.",
            "Check that this port is the TLS one, and what stands in between.",
        )
    except (ssl.SSLError, OSError) as error:
        return explain_tls(error, place.host)
    return ok("tls", f"The certificate of {place.host} is good ({version}).")


def speaks_tls(place: Place, timeout_s: float) -> bool:
    """Whether a TLS handshake gets anywhere; whose certificate it is does not matter here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((place.host, place.port), timeout=timeout_s) as connection,
            context.wrap_socket(connection, server_hostname=place.host),
        ):
            return True
    except (ssl.SSLError, OSError):
        return False


def _unconnected(place: Place, error: OSError, timeout_s: float) -> Finding:
    if place.is_proxy:
        return problem(
            "proxy-unreachable",
            f"The proxy {place} cannot be reached: {_reason(error)}.",
            "Correct the proxy variable, or unset it if there is no proxy any more.",
        )
    if isinstance(error, TimeoutError):
        return problem(
            "connect-timeout",
            f"{place} did not answer within {timeout_s:g} s: nothing refused, nothing accepted.",
            "A firewall or a wrong address: check both, and whether a VPN or proxy is needed.",
        )
    return problem(
        "server-unreachable",
        f"{place} cannot be reached: {_reason(error)}.",
        "Start the server (merino serve), or correct host and port; in a container, 127.0.0.1 is "
        "the container itself, and the relay must listen on 0.0.0.0.",
    )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
