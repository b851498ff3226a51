"""Why a limit is hit by a program that means to be slow, from a relay's records of calls."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merino.doctor.finding import Finding, ok, problem

REFUSED_MIN = 5
ATTEMPTS_MAX = 3
"""A call and the two retries that clients make by themselves."""
_MINUTE_MS = 60_000
_SECOND_MS = 1_000


@dataclass(frozen=True, slots=True)
class SeenCall:
    """What matters of a call record here."""

    key_id: str
    at_ms: int
    is_refused: bool
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class KeyLimits:
    name: str
    rps: int | None = None
    rpm: int | None = None


def check_pace(calls: Sequence[SeenCall], keys: Mapping[str, KeyLimits]) -> list[Finding]:
    """One finding for each key that was refused more than now and then."""
    findings: list[Finding] = []
    for key_id in sorted({call.key_id for call in calls if call.is_refused}):
        own = sorted((call for call in calls if call.key_id == key_id), key=lambda each: each.at_ms)
        if sum(call.is_refused for call in own) >= REFUSED_MIN:
            findings.append(_judged(own, keys.get(key_id, KeyLimits(key_id))))
    if calls and not findings:
        findings.append(ok("limit-reached", "No key kept running into its limits lately."))
    return findings


def _judged(calls: list[SeenCall], key: KeyLimits) -> Finding:
    minute = _busiest(calls, _MINUTE_MS)
    refused = sum(call.is_refused for call in minute)
    served = len(minute) - refused
    second = len(_busiest(minute, _SECOND_MS))
    repeats = Counter(call.idempotency_key for call in minute if call.idempotency_key)
    most = max(repeats.values(), default=0)
    seen = (
        f"Key '{key.name}': in its busiest minute {len(minute)} calls came, and {refused} of them "
        "were refused for the rate"
    )
    if most > ATTEMPTS_MAX:
        return problem("retries-multiplied", f"{seen}; one call came {most} times.", _RETRIES)
    if second >= max(REFUSED_MIN, len(minute) / 2):
        return problem("burst", f"{seen}; {second} came within one second.", _burst_mend(key))
    if refused >= ATTEMPTS_MAX * max(1, served):
        return problem(
            "retries-multiplied",
            f"{seen}: {refused / max(1, served):.0f} refusals for each answer, all the while.",
            _RETRIES,
        )
    limit = f" ({key.rpm} per minute)" if key.rpm else ""
    return problem(
        "limiter-ineffective",
        f"{seen}; they came evenly, so more is simply sent than the limit allows{limit}.",
        "A limiter in the program is set too high, is made anew for each call, or counts in each "
        "process by itself: share one. Merino's client has one (ClientPolicy). Or have the limit "
        "raised (`merino keys update --rpm`).",
    )


def _busiest(calls: list[SeenCall], window_ms: int) -> list[SeenCall]:
    """The longest run of calls within a window; of equals the last."""
    moments = [call.at_ms for call in calls]
    best = (0, 0)
    for end, moment in enumerate(moments, start=1):
        start = bisect_left(moments, moment - window_ms + 1)
        if end - start >= best[1] - best[0]:
            best = (start, end)
    return calls[slice(*best)]


_RETRIES = (
    "Let one place only retry: the openai package does it twice by itself, so a loop of one's own "
    "around it multiplies (3 x 3 = 9 calls). Set max_retries=0 or take the loop out, and wait as "
    "long as Retry-After says."
)


def _burst_mend(key: KeyLimits) -> str:
    allowed = f"at most {key.rps} per second" if key.rps else "a few per second"
    return (
        f"A limit per minute does not spread calls over it: send {allowed}, with a token bucket or "
        "a semaphore instead of starting all at once (asyncio.gather). Merino's client does it: "
        "ClientPolicy(requests_per_second=..., max_concurrency=...)."
    )
