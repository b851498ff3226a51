"""The relay's own side: calls, put together by day, model and credential."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from merino.domain.call import HEDGE_LOST
from merino.domain.usage import CACHE_WRITE_UNITS, Usage
from merino.pricing.cost import TOKENS_PER_RATE
from merino.pricing.price import Price, Rates
from merino.reconcile.nouns import HEDGE, Late, Own, Place, add_up

PER_CALL = "call"
"""Kind of a fee per call."""
_REPORTED = frozenset(("reported", "none"))
_BROKEN = frozenset(("UpstreamBroken", "UpstreamTimedOut", "StreamBroken"))
"""Ends of attempts that a provider may have worked for, and bill, though nobody got an answer."""


@dataclass(frozen=True, slots=True)
class OwnAttempt:
    """One that failed, or lost a race; `nanos` is what that is taken to have cost."""

    outcome: str
    nanos: int


@dataclass(frozen=True, slots=True)
class OwnCall:
    """One call as the books have it; times in milliseconds since 1970. `nanos` is without what its
    lost attempts were taken to cost."""

    at_ms: int
    ended_ms: int
    model: str
    key: str
    usage: Usage
    nanos: int
    price: Price | None
    tier: str
    source: str
    is_answered: bool
    attempts: tuple[OwnAttempt, ...] = ()


def own_books(calls: Iterable[OwnCall]) -> dict[Place, Own]:
    """Sums by the day on which calls began (UTC)."""
    books: dict[Place, Own] = {}
    for call in calls:
        add_call(books, call)
    return books


def add_call(books: dict[Place, Own], call: OwnCall) -> None:
    day, last_day = day_of(call.at_ms), day_of(call.ended_ms)
    own = books.setdefault(Place(day, call.model, call.key), Own())
    for attempt in call.attempts:
        if attempt.outcome == HEDGE_LOST:
            own.hedges += 1
            add_up(own.nanos, {HEDGE: Fraction(attempt.nanos)})
        elif attempt.outcome in _BROKEN:
            own.broken += 1
    units = units_of(call.usage)
    if not call.is_answered and not units and not call.nanos:
        return  # no provider bills a refusal
    own.calls += 1
    own.estimated += call.source not in _REPORTED
    if call.tier:
        own.tiers.add(call.tier)
    add_up(own.units, units)
    add_up(own.nanos, cost_by_kind(call.usage, units, call.nanos, call.price))
    if last_day != day:
        late = own.late.setdefault(last_day, Late())
        late.calls += 1
        add_up(late.units, units)


def day_of(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def units_of(usage: Usage) -> dict[str, int]:
    """Counts by kind, none of which contains another."""
    told = dict(usage.units)
    written = sum(told.get(unit, 0) for unit in CACHE_WRITE_UNITS)
    parts = {
        "cached": usage.cached_tokens,
        "cache_write": max(0, usage.cache_write_tokens - written),
        "audio_input": usage.audio_input_tokens,
        "image_input": usage.image_input_tokens,
        **told,
    }
    inside = sum(
        count for kind, count in parts.items() if kind in CACHE_WRITE_UNITS or kind not in told
    )
    units = {
        "input": max(0, usage.input_tokens - inside),
        **parts,
        "output": usage.output_tokens - usage.audio_output_tokens,
        "audio_output": usage.audio_output_tokens,
    }
    return {kind: count for kind, count in units.items() if count}


def cost_by_kind(
    usage: Usage, units: dict[str, int], nanos: int, price: Price | None
) -> dict[str, Fraction]:
    """What a call cost, shared out by what its kinds cost at its price; the sum is `nanos`.

    Where the book has that price no longer, or has it otherwise, the shares are right and the sum
    stays what was booked.
    """
    shares: dict[str, Fraction] = {}
    if price is not None:
        rates = price.upstream.at(usage.input_tokens)
        for kind, count in units.items():
            shares[kind] = Fraction(count * rate_of(rates, kind), TOKENS_PER_RATE)
        if rates.per_call_nanos:
            shares[PER_CALL] = Fraction(rates.per_call_nanos)
    whole = sum(shares.values(), Fraction(0))
    if whole:
        return {kind: share * nanos / whole for kind, share in shares.items() if share}
    if not nanos:
        return {}
    kinds = [kind for kind in units if kind in ("input", "output")] or [PER_CALL]
    return {kind: Fraction(nanos, len(kinds)) for kind in kinds}


_RATES: dict[str, Callable[[Rates], int]] = {
    "input": lambda rates: rates.input,
    "cached": lambda rates: rates.cached,
    "cache_write": lambda rates: rates.cache_write,
    "audio_input": lambda rates: rates.audio_input,
    "image_input": lambda rates: rates.image_input,
    "output": lambda rates: rates.output,
    "audio_output": lambda rates: rates.audio_output,
}


def rate_of(rates: Rates, kind: str) -> int:
    """Nano-dollars per million of a kind."""
    told = dict(rates.units).get(kind)
    if told is not None:
        return told
    if kind in CACHE_WRITE_UNITS:
        return rates.cache_write
    read = _RATES.get(kind)
    return 0 if read is None else read(rates)
