"""How a call ended, for its settlement and its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from merino.domain.ledger import Resolution
from merino.domain.usage import NO_USAGE, Usage, UsageSource
from merino.gateway.reckoning import Oddity, Reckoned


class Outcome(msgspec.Struct, gc=False):
    resolution: Resolution
    status: int
    usage: Usage = NO_USAGE
    source: UsageSource = "none"
    oddity: Oddity | None = None
    said: Usage | None = None
    """What was reported, if it differs from what is billed."""
    produced: bool = False
    error_code: str | None = None
    finish_reason: str | None = None
    service_tier: str | None = None
    answer: bytes | None = None
    content_type: bytes = b""
    response_id: str | None = None
    """What the upstream calls its answer, where later calls may name it."""
    response: bytes = b""
    """The whole answer as one object, where it may be kept."""
    sealed: Sequence[bytes] = ()
    """The marks of what of it only its maker can read."""


class Failure(NamedTuple):
    """What ended a call before its answer was whole, as its record says it."""

    status: int
    code: str


def settled(
    status: int,
    found: Reckoned,
    said: Usage | None = None,
    *,
    produced: bool = False,
    error_code: str | None = None,
    finish_reason: str | None = None,
    service_tier: str | None = None,
    answer: bytes | None = None,
    content_type: bytes = b"",
    response_id: str | None = None,
    response: bytes = b"",
    sealed: Sequence[bytes] = (),
) -> Outcome:
    """How a paid call ended."""
    usage = found.usage
    return Outcome(
        "settled",
        status,
        usage,
        found.source,
        found.oddity,
        None if said is usage else said,
        produced,
        error_code,
        finish_reason,
        service_tier,
        answer,
        content_type,
        response_id,
        response,
        sealed,
    )
