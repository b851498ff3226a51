"""Two accounts of the same days side by side, and the parts of what lies between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from merino.reconcile.explain import Difference, explained, late_calls
from merino.reconcile.nouns import Charged, Own, Place, Statement, Theirs
from merino.reconcile.sides import Rates, both_sides


@dataclass(frozen=True, slots=True)
class Line:
    """Both sides at one place. Calls are `None` where the provider does not count them."""

    place: Place
    their_calls: int | None
    own_calls: int
    their_nanos: Fraction
    own_nanos: Fraction
    their_units: Mapping[str, int]
    own_units: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """`differences` add up to what the provider asks less what was booked, exactly. `keys` is what
    the provider lists by key, where it tells that."""

    days: tuple[str, str]
    lines: tuple[Line, ...]
    differences: tuple[Difference, ...]
    their_nanos: Fraction
    own_nanos: Fraction
    their_calls: int | None
    own_calls: int
    keys: Mapping[str, Fraction]
    notes: tuple[str, ...] = ()

    @property
    def unexplained(self) -> Fraction:
        return sum(
            (each.nanos for each in self.differences if each.cause == "unexplained"), Fraction(0)
        )


def reconcile(
    statement: Statement,
    books: Mapping[Place, Own],
    days: tuple[str, str],
    keys: Mapping[str, str] | None = None,
) -> Reconciliation:
    """Compare the days from the first up to, not including, the last.

    `books` may hold days before, whose calls ended later. `keys` says which credential of ours each
    of the provider's keys is; without it keys are not told apart.
    """
    first, end = days
    sides = both_sides(statement, books, days, keys or {})
    theirs, own, rates = sides.theirs, sides.own, sides.rates
    booked = {place: (each.calls, each.cost, dict(each.units)) for place, each in own.items()}
    found = [*late_calls(theirs, own, rates, first, end)]
    rates = Rates(own)
    has_costs = any(each.nanos for each in theirs.values())
    lines: list[Line] = []
    for place in sorted(theirs.keys() | {each for each in own if first <= each.day < end}):
        side = theirs.get(place, Theirs())
        asked = side.cost if has_costs else rates.value(place, side.units)
        calls, cost, units = booked.get(place, (0, Fraction(0), {}))
        lines.append(Line(place, side.calls, calls, asked, cost, side.units, units))
        found += explained(place, side, own.get(place, Own()), asked, rates)
    counted = [each.their_calls for each in lines if each.their_calls is not None]
    return Reconciliation(
        days,
        tuple(lines),
        tuple(each for each in found if each.nanos),
        sum((each.their_nanos for each in lines), Fraction(0)),
        sum((each.own_nanos for each in lines), Fraction(0)),
        sum(counted) if counted else None,
        sum(each.own_calls for each in lines),
        _by_key(statement.costs, first, end),
        tuple(_notes(statement, sides.left_out, sides.shared, has_costs=has_costs)),
    )


def _by_key(costs: Iterable[Charged], first: str, end: str) -> dict[str, Fraction]:
    found: dict[str, Fraction] = {}
    for row in costs:
        if row.place.key and first <= row.place.day < end:
            found[row.place.key] = found.get(row.place.key, Fraction(0)) + row.nanos
    return found


def _notes(statement: Statement, left_out: int, shared: int, *, has_costs: bool) -> Iterable[str]:
    if left_out:
        yield f"{left_out:,} rows of other days are left out"
    if not statement.usage:
        yield "the files hold no usage, so that few causes can be told apart"
    if not has_costs:
        yield "the files hold no costs; usage is compared at the relay's own prices"
    if shared:
        yield f"{shared:,} costs are told for several models or keys, and shared out by usage"
