"""How two price books differ, and what looks wrong in one: for reviews of price data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Literal

from merino.domain.money import format_nanos
from merino.pricing.book import PriceBook
from merino.pricing.price import PPM, Price, Rates

ChangeKind = Literal["added", "removed", "changed"]

RATE_NAMES = tuple(
    each.name
    for each in fields(Rates)
    if each.init and each.name not in {"per_call_nanos", "steps", "units"}
)
JUMP_FACTOR = 10
"""A rate that is so many times the one before it is worth a second look."""


@dataclass(frozen=True, slots=True)
class Change:
    """One rate that is not what it was. For a whole row, `rate` is empty."""

    kind: ChangeKind
    price_id: str
    rate: str
    before_nanos: int | None
    after_nanos: int | None

    def __str__(self) -> str:
        if self.kind != "changed":
            return f"{self.kind} {self.price_id}"
        before, after = (
            "-" if nanos is None else format_nanos(nanos)
            for nanos in (self.before_nanos, self.after_nanos)
        )
        return f"changed {self.price_id} {self.rate}: {before} -> {after}"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something allowed that is rarely meant."""

    price_id: str
    why: str


def row_changes(before: PriceBook, after: PriceBook) -> list[Change]:
    """Rows by id: added, removed, or with other rates. A price is named by what it prices and since
    when, so a changed row alters calls of the past if they were billed anew."""
    old = {price.id: price for price in before.prices()}
    new = {price.id: price for price in after.prices()}
    changes: list[Change] = []
    for price_id in sorted(old.keys() | new.keys()):
        changes += _between(price_id, old.get(price_id), new.get(price_id))
    return changes


def moment_changes(
    before: PriceBook, before_ms: int, after: PriceBook, after_ms: int
) -> list[Change]:
    """What costs something else at one moment than at another, by model and tier."""
    changes: list[Change] = []
    for provider, model, tier in sorted(_priced(before) | _priced(after), key=str):
        old = before.find(provider, model, before_ms, tier)
        new = after.find(provider, model, after_ms, tier)
        found = new or old
        if found is not None:
            changes += _between(found.id, old, new)
    return changes


def doubts(book: PriceBook) -> Iterator[Doubt]:
    """What `merino prices check` asks a reviewer to look at."""
    rows = sorted(book.prices(), key=lambda price: (price.provider, price.model, price.valid_from))
    earlier: dict[tuple[str, str, str | None, object], Price] = {}
    for price in rows:
        for name, rates in (("upstream", price.upstream), ("account", price.account)):
            if rates.cached > rates.input:
                yield Doubt(price.id, f"{name}: cached input costs more than input")
            if rates.output < rates.input and rates.output:
                yield Doubt(price.id, f"{name}: output costs less than input")
        for unit in sorted(dict(price.upstream.units).keys() - dict(price.account.units).keys()):
            yield Doubt(price.id, f"accounts pay nothing for {unit}, which the upstream charges")
        is_sold_below = any(
            getattr(price.account, rate) * price.account_ppm < getattr(price.upstream, rate) * PPM
            for rate in RATE_NAMES
        )
        if is_sold_below:
            yield Doubt(price.id, "accounts pay less than the upstream charges")
        key = (price.provider, price.model, price.tier, price.hours_utc)
        last = earlier.get(key)
        if last is not None:
            for rate in ("input", "output"):
                low, high = sorted((getattr(last.upstream, rate), getattr(price.upstream, rate)))
                if low and high >= JUMP_FACTOR * low:
                    yield Doubt(
                        price.id, f"{rate} moves by a factor of {high // low} from {last.id}"
                    )
        earlier[key] = price


def _priced(book: PriceBook) -> set[tuple[str, str, str | None]]:
    return {(price.provider, price.model, price.tier) for price in book.prices()}


def _between(price_id: str, old: Price | None, new: Price | None) -> Iterable[Change]:
    if old is None:
        return [Change("added", price_id, "", None, None)]
    if new is None:
        return [Change("removed", price_id, "", None, None)]
    return [
        Change("changed", price_id, name, before, after)
        for name, before, after in _pairs(old, new)
        if before != after
    ]


def _pairs(old: Price, new: Price) -> Iterator[tuple[str, int | None, int | None]]:
    yield from _rate_pairs("", old.upstream, new.upstream)
    # Accounts pay a factor of the upstream's rates, or rates of their own.
    old_own, new_own = old.account is not old.upstream, new.account is not new.upstream
    if old_own or new_own:
        yield from _rate_pairs("account.", old.account, new.account)
    yield "account_factor", old.account_ppm * 1000, new.account_ppm * 1000


def _rate_pairs(
    prefix: str, old: Rates, new: Rates
) -> Iterator[tuple[str, int | None, int | None]]:
    for name in RATE_NAMES:
        yield prefix + name, getattr(old, name), getattr(new, name)
    yield f"{prefix}per_call", old.per_call_nanos, new.per_call_nanos
    old_units, new_units = dict(old.units), dict(new.units)
    for unit in sorted(old_units.keys() | new_units.keys()):
        yield f"{prefix}units.{unit}", old_units.get(unit), new_units.get(unit)
    old_steps, new_steps = dict(old.steps), dict(new.steps)
    for above in sorted(old_steps.keys() | new_steps.keys()):
        for name in RATE_NAMES:
            before, after = (
                getattr(steps[above], name) if above in steps else None
                for steps in (old_steps, new_steps)
            )
            yield prefix + step_rate(name, above), before, after


def step_rate(name: str, above: int) -> str:
    """What a rate of long contexts is called in a change."""
    return f"{name} above {above} input tokens"
