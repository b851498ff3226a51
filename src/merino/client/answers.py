"""What an answer means for the call: whether to try again, and how long to leave alone who sent it.

Pure: takes statuses, headers and codes, and returns decisions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from merino.wire.retry_after import parse_rate_limit_reset, parse_retry_after

RETRY_STATUSES = frozenset((408, 409, 425, 429))
FINAL_CODES = frozenset(
    (
        "insufficient_quota",
        "max_cost_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "exceeded_current_quota_error",
        "insufficient_balance",
    )
)
"""Codes or types of errors that say: credit is used up. Waiting does not mend that."""

_REFUSED_WAIT_S = 0.1
_REFUSED_WAIT_MAX_S = 2.0
_TOLD_WAIT_MAX_S = 0.25


def is_retryable(
    status: int,
    headers: Mapping[str, str],
    codes: tuple[str, ...] = (),
    *,
    is_final: bool = False,
) -> bool:
    """Whether the same call may be answered otherwise next time. What the server says about it
    wins; `codes` are the code and the type of its error. `is_final`: its words say that it will
    not."""
    if status < 400:
        return False
    told = headers.get("x-should-retry")
    if told in ("true", "false"):
        return told == "true"
    if is_final or (status < 500 and not FINAL_CODES.isdisjoint(codes)):
        return False
    return status >= 500 or status in RETRY_STATUSES


def is_out_of_credits(body: object) -> bool:
    """Whether an error's body, or its `error` member, says that credit is used up."""
    return not FINAL_CODES.isdisjoint(codes_of(body))


def codes_of(body: object) -> tuple[str, ...]:
    """Code and type of an error, from its body or the body's `error` member."""
    if not isinstance(body, Mapping):
        return ()
    fields = cast("Mapping[str, Any]", body)
    inner = fields.get("error", fields)
    if not isinstance(inner, Mapping):
        return ()
    members = cast("Mapping[str, Any]", inner)
    return tuple(found for name in ("code", "type") if isinstance(found := members.get(name), str))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the server asks to be left alone."""
    return parse_retry_after(
        _bytes(headers.get("retry-after-ms")), _bytes(headers.get("retry-after"))
    )


def exhausted_for_s(headers: Mapping[str, str], tokens: int) -> float | None:
    """For how long an exhausted limit has no room for a call of so many LLM tokens; `None`: none
    is said to be exhausted, or not until when."""
    longest: float | None = None
    for what, wanted in (("requests", 1), ("tokens", tokens)):
        if headers.get(f"x-ratelimit-remaining-{what}") == "0":
            reset_s = parse_rate_limit_reset(_bytes(headers.get(f"x-ratelimit-reset-{what}")))
            if reset_s is not None:
                limit = _whole(headers.get(f"x-ratelimit-limit-{what}"))
                longest = max(longest or 0.0, room_in_s(reset_s, limit, wanted))
    return longest


def room_in_s(reset_s: float, limit: int | None, wanted: int) -> float:
    """When an empty bucket holds `wanted`, if it is full again in `reset_s`. Waiting until it is
    full would leave what it gains meanwhile unused. Without knowing how much is wanted, a sixtieth
    of it is: one second's worth of a limit per minute."""
    if limit is None or limit < 1:
        return reset_s
    return reset_s * min(1.0, (wanted or limit / 60) / limit)


def refused_wait_s(
    told_s: float | None, refusals: int, uniform: Callable[[float, float], float]
) -> float:
    """How long a patient call waits after its so-many-th "too many requests": not sooner than told,
    and spread out, so that those who were refused together do not come back together. Not much
    later either: a call that waits is one less at once."""
    most_s = _REFUSED_WAIT_MAX_S if told_s is None else _TOLD_WAIT_MAX_S
    spread_s = min(most_s, _REFUSED_WAIT_S * 2 ** min(refusals - 1, 10))
    return (told_s or 0.0) + uniform(0, spread_s)


def estimated_tokens(body: bytes) -> int:
    """LLM tokens a request may use, for the limit per minute: a third of its bytes, and the output
    it allows (1,000 if it does not say)."""
    output = 1000
    try:
        fields: Any = json.loads(body)
    except ValueError:
        fields = None
    if isinstance(fields, dict):
        members = cast("dict[str, Any]", fields)
        for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
            if isinstance(members.get(name), int):
                output = members[name]
                break
    return len(body) // 3 + output


def _whole(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() else None


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1", "replace")
