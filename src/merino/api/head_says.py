"""What the headers of a call say."""

from __future__ import annotations

from typing import Protocol

from merino.domain.deployment import Alias
from merino.domain.errors import InvalidCall
from merino.domain.money import parse_nanos
from merino.gateway.idempotency import check_idempotency_key
from merino.gateway.keys import bearer_secret
from merino.gateway.labels import tags_of
from merino.wire.exchange import Headers, RequestHead
from merino.wire.request import ModelRequest


class HasHeaders(Protocol):
    def header(self, name: bytes, /) -> bytes | None: ...


def authorization_of(head: HasHeaders) -> bytes | None:
    """The `Authorization` header; Anthropic's clients may have a header for the key alone."""
    given = head.header(b"authorization")
    if given is None and (key := head.header(b"x-api-key")):
        return b"Bearer " + key
    return given


def passed_along(headers: Headers, prefixes: tuple[bytes, ...]) -> tuple[tuple[bytes, bytes], ...]:
    """Those whose names begin so, each once: what comes in several lines is one list."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name.startswith(prefixes):
            found[name] = b"%b,%b" % (found[name], value) if name in found else value
    return tuple(found.items())


_LOOPBACK = ("127.0.0.1", "::1", "")


def address_of(head: RequestHead, peer: str) -> str:
    """Where a request came from: what a proxy on this machine says, else who is connected."""
    return (_forwarded_for(head) if peer in _LOOPBACK else "") or peer


def _forwarded_for(head: RequestHead) -> str:
    """Who the nearest proxy says it forwards for; empty without one."""
    given = head.header(b"x-forwarded-for")
    if given is None:
        return ""
    last = given.rpartition(b",")[2].strip().decode("latin-1")
    return last if len(last) <= 45 and last.isprintable() else ""


class HeadSays:
    """What the headers of a call say. Raises `KeyRejected` and `InvalidCall`."""

    __slots__ = (
        "_came_by",
        "_own_s",
        "idempotency_key",
        "max_cost_nanos",
        "reads_s",
        "secret",
        "tags",
        "traceparent",
        "tracestate",
    )

    def __init__(self, head: RequestHead) -> None:
        self.secret = bearer_secret(authorization_of(head))
        given = head.header(b"idempotency-key")
        self.idempotency_key = (
            None if given is None else check_idempotency_key(given.decode("latin-1"))
        )
        given = head.header(b"x-merino-max-cost")
        self.max_cost_nanos = None if given is None else _max_cost_nanos(given)
        self.traceparent = head.header(b"traceparent")
        self.tracestate = b""
        if self.traceparent is not None:
            self.tracestate = head.header(b"tracestate") or b""
        self._own_s = self.reads_s = 0.0
        given = head.header(b"x-merino-timeout")
        if given is not None:
            self._own_s = _seconds(given)
            if not self._own_s:
                raise InvalidCall(
                    "The x-merino-timeout header must be a number of seconds above zero.",
                    param="x-merino-timeout",
                )
        given = head.header(b"x-merino-tags")
        self.tags = () if given is None else tags_of(given)
        self._came_by = _forwarded_for(head)
        given = head.header(b"x-stainless-read-timeout") or head.header(b"x-stainless-timeout")
        if given is not None:
            self.reads_s = _seconds(given)  # the packages also send words here

    def address(self, peer: str) -> str:
        """Where a call came from: what a proxy on this machine says, else who is connected."""
        return self._came_by if self._came_by and peer in _LOOPBACK else peer

    def timeout_s(self, alias: Alias, request: ModelRequest) -> float:
        """The alias's limit, or less if the caller waits less.

        OpenAI's packages tell how long they wait for the next byte. To an answer that is not
        streamed that is its deadline; a stream keeps them waiting with comments.
        """
        if self._own_s:
            return min(alias.timeout_s, self._own_s)
        reads_s = self.reads_s
        if reads_s and not request.stream and reads_s < alias.timeout_s:
            # A little less than theirs, so that they hear why.
            return reads_s - min(0.25, reads_s * 0.25)
        return alias.timeout_s


def _seconds(given: bytes) -> float:
    """A time above zero; 0 for anything else."""
    try:
        seconds = float(given)
    except ValueError:
        return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


def _max_cost_nanos(value: bytes) -> int:
    try:
        nanos = parse_nanos(value.decode("latin-1").strip())
        if nanos <= 0:
            raise ValueError("it must be above zero")
    except ValueError as error:
        raise InvalidCall(
            f"The x-merino-max-cost header is not usable: {error}", param="x-merino-max-cost"
        ) from None
    return nanos
