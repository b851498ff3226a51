"""The trace that a call belongs to, and its place there: W3C Trace Context, level 1.

Spans are not built while a call runs: they are made of its record, once it has ended. What must be
known before is the number of each attempt's span, since upstreams are told it.
"""

from __future__ import annotations

import re
from random import getrandbits

SPANS = 1 << 64
STATE_LENGTH_MAX = 512
_STEP = 0x9E3779B97F4A7C15
"""Odd, so that adding it again and again meets every number once."""
_PARENT = re.compile(
    rb"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-"
    rb"(?P<flags>[0-9a-f]{2})(?P<more>-.*)?\Z"
)
_STATE = re.compile(rb"[\x20-\x7e]+\Z")


class Trace:
    """`parent` is the caller's span, 0 if it has none; `span` the call's own. Unsampled traces are
    only handed on."""

    __slots__ = ("id", "is_sampled", "parent", "sent", "span", "state")

    def __init__(
        self, trace_id: int, parent: int = 0, *, is_sampled: bool = True, state: bytes = b""
    ) -> None:
        self.id = trace_id
        self.parent = parent
        self.is_sampled = is_sampled
        self.state = state
        self.span = getrandbits(64) or 1
        self.sent = 0
        """How many attempts have been sent."""

    def attempt(self, number: int) -> int:
        """The span of an attempt; the first has number 1."""
        return (self.span + number * _STEP) % SPANS or 1

    def next_attempt(self) -> bytes:
        """The header lines that an attempt is sent with."""
        self.sent += 1
        flags = 1 if self.is_sampled else 0
        line = b"traceparent: 00-%032x-%016x-%02x\r\n" % (self.id, self.attempt(self.sent), flags)
        return line + b"tracestate: %b\r\n" % self.state if self.state else line


def new_trace() -> Trace:
    return Trace(getrandbits(128) or 1)


def continued(parent: bytes, state: bytes | None = None) -> Trace | None:
    """The trace that a caller's ``traceparent`` names; `None` if that is not valid, as the standard
    demands: a new trace is begun then."""
    found = _PARENT.match(parent.strip())
    if found is None or found["version"] == b"ff":
        return None
    if found["version"] == b"00" and found["more"] is not None:
        return None
    trace_id, span = int(found["trace"], 16), int(found["span"], 16)
    if not trace_id or not span:
        return None
    kept = state is not None and len(state) <= STATE_LENGTH_MAX and _STATE.match(state)
    return Trace(
        trace_id,
        span,
        is_sampled=bool(int(found["flags"], 16) & 1),
        state=state if kept and state is not None else b"",
    )
