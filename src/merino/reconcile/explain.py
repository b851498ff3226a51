"""Why two sides differ at one place.

With `P` and `O` the units of a kind at both, and `r` what the relay booked for one,

    provider - relay = sum((P - O) * r) + (provider - sum(P * r))

holds exactly. The first part is other usage, and is explained by what the relay knows of its own
calls: that they ended on another day, broke off, lost a race, or that it never made them. The
second is another price for the same usage. What nothing explains is told as such, never spread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from merino.domain.money import format_nanos
from merino.reconcile.nouns import HEDGE, OTHER, Own, Place, Theirs
from merino.reconcile.sides import Rates

Cause = Literal[
    "foreign_key", "unknown_calls", "unlisted_calls", "late", "cut_streams", "broken_attempts",
    "lost_hedges", "other_price", "other_tier", "unmetered", "rounding", "unexplained",
]  # fmt: skip
CAUSES: Mapping[Cause, str] = {
    "foreign_key": "calls with a key that is not the relay's",
    "unknown_calls": "calls that the relay never made",
    "unlisted_calls": "calls that the provider does not list",
    "late": "calls that began on one day and ended on another",
    "cut_streams": "cut or cancelled answers, whose usage the relay had to count itself",
    "broken_attempts": "attempts that broke off or timed out, and were billed all the same",
    "lost_hedges": "attempts that lost a race, billed otherwise than assumed",
    "other_price": "another price for the same usage",
    "other_tier": "another service tier",
    "unmetered": "costs of what the relay does not meter",
    "rounding": "rounding",
    "unexplained": "not explained",
}
_ROUNDING_SHARE = Fraction(1, 2000)
_ROUNDING_NANOS = 1_000_000
"""Below a tenth of a cent, and a part in two thousand, a difference is taken for rounding."""
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """A part of what the provider asks beyond what was booked; negative if it asks less. `calls`
    are how many it is about, where that is known; `why` is what shows it."""

    cause: Cause
    place: Place
    nanos: Fraction
    calls: int = 0
    why: str = ""


def late_calls(
    theirs: Mapping[Place, Theirs], own: dict[Place, Own], rates: Rates, first: str, end: str
) -> Iterator[Difference]:
    """Move calls that ended on a later day there, as far as the provider counts them so.

    Never more than it lacks on the day they began, or, where that is before the first day, than it
    has beyond the relay's on the day they ended.
    """
    for place in sorted(own):
        for day, late in sorted(own[place].late.items()):
            there = place._replace(day=day)
            if (there.day >= end and place.day >= end) or there.day < first:
                continue
            source, target = own[place], own.setdefault(there, Own())
            moved: dict[str, int] = {}
            for kind, count in late.units.items():
                their_side = theirs.get(place if place.day >= first else there, Theirs())
                gap = (
                    source.units.get(kind, 0) - their_side.units.get(kind, 0)
                    if place.day >= first
                    else their_side.units.get(kind, 0) - target.units.get(kind, 0)
                )
                if take := min(count, max(0, gap)):
                    moved[kind] = take
            if not moved:
                continue
            worth = Fraction(0)
            for kind, count in moved.items():
                nanos = count * rates.of(place, kind)
                worth += nanos
                _move(source, target, kind, count, nanos)
            calls = late.calls if moved == late.units else 0
            source.calls -= calls
            target.calls += calls
            why = f"began on {place.day}, ended on {day}"
            if place.day >= first:
                yield Difference("late", place, -worth, calls, why)
            if day < end:
                yield Difference("late", there, worth, calls, why)


def _move(source: Own, target: Own, kind: str, count: int, nanos: Fraction) -> None:
    source.units[kind] -= count
    target.units[kind] = target.units.get(kind, 0) + count
    source.nanos[kind] = source.nanos.get(kind, Fraction(0)) - nanos
    target.nanos[kind] = target.nanos.get(kind, Fraction(0)) + nanos


def explained(
    place: Place, theirs: Theirs, own: Own, asked: Fraction, rates: Rates
) -> Iterator[Difference]:
    """Parts that add up to `asked` less what was booked."""
    whole = asked - own.cost
    if theirs.is_foreign:
        yield Difference("foreign_key", place, whole, theirs.calls or 0, f"key {place.key}")
    elif not own.calls and not own.units:
        is_used = bool(theirs.calls or theirs.units)
        yield Difference(
            "unknown_calls" if is_used else "unmetered",
            place,
            whole,
            theirs.calls or 0,
            _tokens(theirs.units) if is_used else ", ".join(sorted(theirs.nanos)),
        )
    elif not theirs.calls and not theirs.units:
        if theirs.nanos:
            yield Difference(
                "rounding" if _is_rounding(whole, asked) else "unexplained",
                place,
                whole,
                why="the provider tells a cost and no usage here",
            )
        else:
            yield Difference("unlisted_calls", place, whole, own.calls, _tokens(own.units))
    else:
        usage = rates.value(place, theirs.units) - rates.value(place, own.units)
        yield from _of_usage(place, theirs, own, usage, rates)
        assumed = own.nanos.get(HEDGE, Fraction(0))
        yield from _of_price(place, theirs, own, whole + assumed - usage, asked, rates)


def _of_usage(
    place: Place, theirs: Theirs, own: Own, worth: Fraction, rates: Rates
) -> Iterator[Difference]:
    left = worth
    beyond = None if theirs.calls is None else theirs.calls - own.calls
    is_more = worth > 0
    if own.hedges:
        calls = own.hedges if beyond is None else max(0, min(own.hedges, beyond))
        part = Fraction(0)
        if is_more and calls:
            is_last = beyond in (None, calls) and not own.estimated and not own.broken
            part = left if is_last else min(left, calls * _mean(place, theirs, own, rates))
        left -= part
        beyond = None if beyond is None else beyond - calls
        assumed = own.nanos.get(HEDGE, Fraction(0))
        why = f"taken to cost {_dollars(assumed)}, billed {_dollars(part)}"
        yield Difference("lost_hedges", place, part - assumed, calls, why)
    if is_more and own.broken and (beyond is None or beyond > 0):
        calls = own.broken if beyond is None else min(own.broken, beyond)
        is_last = beyond in (None, calls) and not own.estimated
        part = left if is_last else min(left, calls * _mean(place, theirs, own, rates))
        left -= part
        beyond = None if beyond is None else beyond - calls
        yield Difference("broken_attempts", place, part, calls, f"{own.broken} broke off here")
    if is_more and beyond is not None and beyond > 0:
        part = left
        if own.estimated:
            part = min(left, beyond * _mean(place, theirs, own, rates))
        left -= part
        why = f"{theirs.calls:,} calls, the relay made {own.calls:,}"
        yield Difference("unknown_calls", place, part, beyond, why)
    if worth < 0 and beyond is not None and beyond < 0:
        part = left
        if own.estimated:
            part = max(left, beyond * _mean(place, theirs, own, rates))
        left -= part
        why = f"{theirs.calls:,} calls, the relay made {own.calls:,}"
        yield Difference("unlisted_calls", place, part, -beyond, why)
    if own.estimated:
        yield Difference(
            "cut_streams", place, left, own.estimated, _units_apart(theirs.units, own.units)
        )
    else:
        yield Difference("unexplained", place, left, why=_units_apart(theirs.units, own.units))


def _mean(place: Place, theirs: Theirs, own: Own, rates: Rates) -> Fraction:
    """What a call is worth at the place."""
    if theirs.calls:
        return rates.value(place, theirs.units) / theirs.calls
    return own.cost / own.calls if own.calls else Fraction(0)


def _of_price(
    place: Place,
    theirs: Theirs,
    own: Own,
    left: Fraction,
    asked: Fraction,
    rates: Rates,
) -> Iterator[Difference]:
    for kind, nanos in sorted(theirs.nanos.items()):
        if kind != OTHER and not own.units.get(kind) and not theirs.units.get(kind):
            left -= nanos
            yield Difference("unmetered", place, nanos, why=kind.replace("_", " "))
    why = _rates_apart(place, theirs, asked, rates)
    if theirs.tiers and theirs.tiers != own.tiers:
        told = f"the provider billed at {', '.join(sorted(theirs.tiers))}"
        yield Difference("other_tier", place, left, why=f"{told}; {why}" if why else told)
    elif _is_rounding(left, asked):
        yield Difference("rounding", place, left)
    else:
        yield Difference("other_price", place, left, why=why)


def _is_rounding(nanos: Fraction, asked: Fraction) -> bool:
    return abs(nanos) <= min(_ROUNDING_NANOS, abs(asked) * _ROUNDING_SHARE)


def _rates_apart(place: Place, theirs: Theirs, asked: Fraction, rates: Rates) -> str:
    """By kind where the provider tells its costs so, else on the whole."""
    found: list[str] = []
    for kind, nanos in sorted(theirs.nanos.items()):
        count, rate = theirs.units.get(kind), rates.of(place, kind)
        if count and abs(nanos / count - rate) > rate * _ROUNDING_SHARE:
            theirs_, ours = _rate(nanos / count), _rate(rate)
            found.append(f"{kind.replace('_', ' ')} {theirs_} a million, booked at {ours}")
    if found:
        return "; ".join(found)
    worth = rates.value(place, theirs.units)
    return f"{float(asked / worth):.4g} times what was booked" if worth else ""


def _rate(nanos: Fraction) -> str:
    return f"${float(nanos * _MILLION) / 1e9:.4g}"


def _dollars(nanos: Fraction | int) -> str:
    return f"${format_nanos(round(nanos))}"


def _tokens(units: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in sorted(units.items()))


def _units_apart(theirs: Mapping[str, int], own: Mapping[str, int]) -> str:
    apart = {
        kind: theirs.get(kind, 0) - own.get(kind, 0) for kind in sorted(theirs.keys() | own.keys())
    }
    return ", ".join(
        f"{count:+,} {kind.replace('_', ' ')}" for kind, count in apart.items() if count
    )
