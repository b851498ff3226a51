"""What a provider says was used and owed, and what the relay booked, in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple, TypeVar

from merino.domain.usage import CACHE_WRITE_UNITS

N = TypeVar("N", int, Fraction)

OTHER = "other"
"""Kind of a cost that says not what it is for."""
HEDGE = "hedge"
"""Kind of a cost that is assumed, for attempts that lost a race."""
PARENT: Mapping[str, str] = {
    **dict.fromkeys(("cached", "cache_write", "audio_input", "image_input"), "input"),
    **dict.fromkeys(CACHE_WRITE_UNITS, "cache_write"),
    "audio_output": "output",
    "image_output": "output",
}
"""Of which kind a kind is a part. A provider that does not tell the part counts it with the whole.
"""


class Place(NamedTuple):
    """Where a figure belongs: the day (UTC, ``2026-10-31``), the provider's model, and whose
    credential was used; empty where that is not told apart."""

    day: str
    model: str
    key: str


@dataclass(frozen=True, slots=True)
class Billed:
    """Usage that a provider lists. `calls` is `None` where it does not count them; `units` are
    counts by kind, none of which contains another; `tier` is empty for the standard one."""

    place: Place
    calls: int | None
    units: Mapping[str, int]
    tier: str = ""


@dataclass(frozen=True, slots=True)
class Charged:
    """A cost that a provider lists, in nano-dollars. `what` are its own words."""

    place: Place
    kind: str
    nanos: Fraction
    what: str = ""
    tier: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """All that the files of a provider say."""

    usage: tuple[Billed, ...] = ()
    costs: tuple[Charged, ...] = ()


@dataclass(slots=True)
class Late:
    """Calls of a day that ended on a later one; a provider may count them there."""

    calls: int = 0
    units: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class Own:
    """What the relay booked at one place. `nanos` is cost by kind, as `units`.

    `estimated` calls were counted by the relay, since the upstream did not say what they used:
    most were cut off or cancelled. `broken` are attempts that ended without an answer, `hedges`
    those that lost a race; what these were taken to cost is in `nanos`, too, as a kind of its own.
    """

    calls: int = 0
    units: dict[str, int] = field(default_factory=dict[str, int])
    nanos: dict[str, Fraction] = field(default_factory=dict[str, Fraction])
    estimated: int = 0
    broken: int = 0
    hedges: int = 0
    tiers: set[str] = field(default_factory=set[str])
    late: dict[str, Late] = field(default_factory=dict[str, Late])
    """By the day that they ended on."""

    @property
    def cost(self) -> Fraction:
        return sum(self.nanos.values(), Fraction(0))


@dataclass(slots=True)
class Theirs:
    """What the provider says of one place. `calls` is `None` where it does not count them."""

    calls: int | None = None
    units: dict[str, int] = field(default_factory=dict[str, int])
    nanos: dict[str, Fraction] = field(default_factory=dict[str, Fraction])
    tiers: set[str] = field(default_factory=set[str])
    is_foreign: bool = False
    """Whether it is about a key that is none of ours."""

    @property
    def cost(self) -> Fraction:
        return sum(self.nanos.values(), Fraction(0))


def add_up(sums: dict[str, N], more: Mapping[str, N]) -> None:
    """Add counts or amounts, kind by kind."""
    for kind, each in more.items():
        sums[kind] = sums[kind] + each if kind in sums else each
