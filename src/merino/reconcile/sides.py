"""Both sides in the same words: models, credentials and kinds; and the rates usage is valued at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from merino.domain.usage import CACHE_WRITE_UNITS
from merino.reconcile.names import same_names
from merino.reconcile.nouns import (
    PARENT,
    Billed,
    Charged,
    Late,
    Own,
    Place,
    Statement,
    Theirs,
    add_up,
)

N = TypeVar("N", int, Fraction)


class Rates:
    """What the relay booked for one of a kind: at the place itself, else over the whole month."""

    def __init__(self, books: Mapping[Place, Own]) -> None:
        self._at: dict[tuple[Place, str], Fraction] = {}
        sums: dict[tuple[str, str], list[Fraction]] = {}
        for place, own in books.items():
            for kind, count in own.units.items():
                if not count:
                    continue
                nanos = own.nanos.get(kind, Fraction(0))
                self._at[place, kind] = nanos / count
                whole = sums.setdefault((place.model, kind), [Fraction(0), Fraction(0)])
                whole[0] += nanos
                whole[1] += count
        self._of = {each: nanos / count for each, (nanos, count) in sums.items()}

    def of(self, place: Place, kind: str) -> Fraction:
        """Nano-dollars; 0 if the relay has booked none of this kind."""
        found = self._at.get((place, kind))
        return self._of.get((place.model, kind), Fraction(0)) if found is None else found

    def value(self, place: Place, units: Mapping[str, int]) -> Fraction:
        return sum((count * self.of(place, kind) for kind, count in units.items()), Fraction(0))


@dataclass(frozen=True, slots=True)
class Sides:
    """`left_out` rows of the provider were of other days; `shared` costs were told for several
    places together, and shared out by usage."""

    theirs: dict[Place, Theirs]
    own: dict[Place, Own]
    rates: Rates
    left_out: int
    shared: int


def both_sides(
    statement: Statement,
    books: Mapping[Place, Own],
    days: tuple[str, str],
    keys: Mapping[str, str],
) -> Sides:
    first, end = days
    rows = (*statement.usage, *statement.costs)
    their_names, own_names = same_names(
        {row.place.model for row in rows if row.place.model}, {place.model for place in books}
    )
    own = _own_side(books, own_names, set(keys.values()))
    told = {kind for row in statement.usage for kind in row.units}
    kind_of = _folding(told, {kind for each in own.values() for kind in each.units})
    for each in own.values():
        each.units = _renamed(each.units, kind_of)
        each.nanos = _renamed(each.nanos, kind_of)
        for late in each.late.values():
            late.units = _renamed(late.units, kind_of)
    rates = Rates(own)
    theirs: dict[Place, Theirs] = {}

    def at(place: Place) -> Theirs:
        is_foreign = bool(keys) and bool(place.key) and place.key not in keys
        key = place.key if is_foreign else keys.get(place.key, "")
        name = their_names.get(place.model, place.model)
        return theirs.setdefault(Place(place.day, name, key), Theirs(is_foreign=is_foreign))

    inside = [row for row in rows if first <= row.place.day < end]
    for row in inside:
        if isinstance(row, Billed):
            _add_usage(at(row.place), row, kind_of)
    shared = 0
    counted = list(theirs.items())
    for row in inside:
        if isinstance(row, Charged):
            among = _places_of(row, counted, their_names, keys)
            if len(among) > 1:
                shared += 1
                _share_out(row, among, rates, kind_of)
            else:
                each = among[0][1] if among else at(row.place)
                _add_cost(each, row, kind_of, Fraction(1))
    return Sides(theirs, own, rates, len(rows) - len(inside), shared)


def _own_side(
    books: Mapping[Place, Own], names: Mapping[str, str], told_apart: set[str]
) -> dict[Place, Own]:
    found: dict[Place, Own] = {}
    for place, own in books.items():
        key = place.key if place.key in told_apart else ""
        at = found.setdefault(Place(place.day, names[place.model], key), Own())
        at.calls += own.calls
        at.estimated += own.estimated
        at.broken += own.broken
        at.hedges += own.hedges
        at.tiers |= own.tiers
        add_up(at.units, own.units)
        add_up(at.nanos, own.nanos)
        for day, late in own.late.items():
            sums = at.late.setdefault(day, Late())
            sums.calls += late.calls
            add_up(sums.units, late.units)
    return found


def _folding(told: set[str], booked: set[str]) -> Callable[[str], str]:
    """By which name a kind goes. What the provider does not tell apart is counted with its whole;
    so are cache writes by their life, where the relay could not tell it."""
    lives = told & set(CACHE_WRITE_UNITS)
    is_life_lost = bool(lives) and "cache_write" in booked and "cache_write" not in told

    def kind_of(kind: str) -> str:
        if is_life_lost and (kind in lives or kind == "cache_write"):
            return "cache_write"
        while told and kind not in told and kind in PARENT:
            kind = PARENT[kind]
        return kind

    return kind_of


def _renamed(sums: Mapping[str, N], kind_of: Callable[[str], str]) -> dict[str, N]:
    found: dict[str, N] = {}
    for kind, each in sums.items():
        name = kind_of(kind)
        found[name] = found[name] + each if name in found else each
    return found


def _add_usage(theirs: Theirs, row: Billed, kind_of: Callable[[str], str]) -> None:
    if row.tier:
        theirs.tiers.add(row.tier)
    if row.calls is not None:
        theirs.calls = (theirs.calls or 0) + row.calls
    add_up(theirs.units, _renamed(row.units, kind_of))


def _add_cost(theirs: Theirs, row: Charged, kind_of: Callable[[str], str], share: Fraction) -> None:
    if row.tier:
        theirs.tiers.add(row.tier)
    add_up(theirs.nanos, {kind_of(row.kind): row.nanos * share})


def _places_of(
    row: Charged,
    counted: Iterable[tuple[Place, Theirs]],
    names: Mapping[str, str],
    keys: Mapping[str, str],
) -> list[tuple[Place, Theirs]]:
    """Places with usage that a cost may be about: all of its day, if it names no model."""
    model = names.get(row.place.model, row.place.model)
    is_all_keys = not keys or not row.place.key
    key = keys.get(row.place.key, row.place.key)
    is_all_models = not model and not row.what
    return [
        (place, each)
        for place, each in counted
        if place.day == row.place.day
        and (is_all_models or place.model == model)
        and (is_all_keys or place.key == key)
    ]


def _share_out(
    row: Charged,
    among: list[tuple[Place, Theirs]],
    rates: Rates,
    kind_of: Callable[[str], str],
) -> None:
    """By what the usage of its kind is worth at each place, else by all tokens, else evenly."""
    kind = kind_of(row.kind)
    weights = [each.units.get(kind, 0) * rates.of(place, kind) for place, each in among]
    if not any(weights):
        weights = [rates.value(place, each.units) for place, each in among]
    if not any(weights):
        weights = [Fraction(sum(each.units.values()) or 1) for _, each in among]
    whole = sum(weights, Fraction(0))
    for (_, each), weight in zip(among, weights, strict=True):
        if weight:
            _add_cost(each, row, kind_of, weight / whole)
