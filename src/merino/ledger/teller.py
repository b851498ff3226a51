"""The rules of a bank that several relays share, without a database: what a charge comes off, who
is served, how much is advanced, who is dead. Whoever keeps the purses locks their rows, asks here,
and writes what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merino.ledger.messages import Ask

ALONE_S = 60.0
"""So long a relay holds from its parts without hearing from the bank."""
GRACE_S = 5.0
"""What clocks of a relay and the bank may differ by, over so long."""
WAITS_S = 5.0
"""A place in the line is kept this long after the relay last spoke of it."""


def charge(out: int, free: int, nanos: int) -> tuple[int, int]:
    """What a relay has of a purse, and what nobody has, once a call was charged. What exceeds the
    relay's part comes off what nobody has, below zero if need be: then nothing is advanced until
    that is made up for."""
    left = out - nanos
    return (left, free) if left >= 0 else (0, free + left)


def advance(free: int, need: int, want: int, relays: int) -> int:
    """What is given to a relay that needs `need` and would like `want`; at most half an equal share
    of what is there, unless it needs more. 0 if there is not what it needs."""
    if free < need:
        return 0
    return min(max(want, need), max(need, free // (2 * relays)))


@dataclass(frozen=True, slots=True)
class Place:
    """A relay's place in the line for an account's money: of its call that came at `since`."""

    relay_id: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Served:
    """`advances` by purse: of all that were asked for, or of none."""

    advances: Mapping[str, int]
    line: Sequence[Place]


def serve(
    relay_id: str,
    ask: Ask,
    free: Mapping[str, int],
    line: Sequence[Place],
    relays: int,
    now: float,
) -> Served:
    """First come, first served within an account, whichever relay it comes to."""
    others = [each for each in left(relay_id, line) if each.until > now]
    mine = Place(relay_id, now - ask.waited_s, now + WAITS_S)
    is_first = all(mine.since <= other.since for other in others)
    if is_first and all(free[purse] >= need for purse, need in ask.needs.items()):
        given = {
            purse: advance(free[purse], need, ask.wants[purse], relays)
            for purse, need in ask.needs.items()
        }
        return Served(given, others)
    return Served({}, [*others, mine])


def left(relay_id: str, line: Sequence[Place]) -> Sequence[Place]:
    """The line without this relay."""
    return [place for place in line if place.relay_id != relay_id]


def is_silent(seen_at: float, now: float) -> bool:
    """Whether a relay holds nothing new by now, by whatever clock: its parts are frozen."""
    return now - seen_at > ALONE_S + GRACE_S


def is_dead(seen_at: float, now: float, longest_hold_s: float) -> bool:
    """Whether the last hold it can have given is over: its parts may go home."""
    return now - seen_at > ALONE_S + GRACE_S + longest_hold_s
