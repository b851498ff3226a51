"""The comparison: what each offer costs for the same tokens, and when a relay pays for itself.

Arithmetic is exact: tokens times rates as integers, growth and shares as fractions; every figure is
rounded once, half up, to whole nano-dollars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import floor

from merino.domain.errors import InvalidCall
from merino.domain.usage import Usage
from merino.exports.numbers import GROWTH_MAX
from merino.roi.offers import PARTS_PER_NANO, Offer, refuse_unpriced
from merino.roi.scenario import (
    MONTHS_MAX,
    UsageRow,
    total,
    with_cached_share,
    with_output_share,
)

MONTHS_PER_YEAR = 12
OUTPUT_SHARES = tuple(Fraction(tenth, 10) for tenth in range(1, 10))
CACHED_SHARES = tuple(Fraction(tenth, 10) for tenth in range(10))
BREAK_EVEN_MONTHS_MAX = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """How long, how the volume grows, and what a relay costs apart from tokens.

    `growth` is by month, compounding: month k has (1 + growth)^(k-1) times the first month's
    tokens. `hosting_nanos` and `people_nanos` are by month, `setup_nanos` once.
    """

    months: int = MONTHS_PER_YEAR
    growth: Decimal = Decimal(0)
    hosting_nanos: int = 0
    people_nanos: int = 0
    setup_nanos: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.months <= MONTHS_MAX:
            raise InvalidCall(
                f"months: {self.months} is not between 1 and {MONTHS_MAX}",
                param="months",
                code="invalid_months",
            )
        if not (self.growth.is_finite() and -1 < self.growth <= GROWTH_MAX):
            raise InvalidCall(
                f"growth: {self.growth} is not between -1 and {GROWTH_MAX} a month",
                param="growth",
                code="invalid_growth",
            )
        if min(self.hosting_nanos, self.people_nanos, self.setup_nanos) < 0:
            raise InvalidCall("fixed costs cannot be negative", code="invalid_amount")

    @property
    def fixed_nanos(self) -> int:
        """Fixed costs of a month."""
        return self.hosting_nanos + self.people_nanos

    def volume(self, months: int) -> Fraction:
        """Volume of so many months together, in first months: the geometric series."""
        factor = 1 + Fraction(self.growth)
        if factor == 1:
            return Fraction(months)
        return (factor**months - 1) / (factor - 1)


@dataclass(frozen=True, slots=True)
class Line:
    """One offer's figures. Savings are against the baseline; negative where it costs more.

    Fixed costs are in `net_` figures only, and only of a relay. `saved_percent` is `None` where the
    baseline costs nothing.
    """

    offer: Offer
    month_nanos: int
    year_nanos: int
    period_nanos: int
    saved_month_nanos: int
    saved_year_nanos: int
    saved_period_nanos: int
    saved_percent: Fraction | None
    net_saved_month_nanos: int
    net_saved_year_nanos: int
    net_saved_period_nanos: int


@dataclass(frozen=True, slots=True)
class BreakEven:
    """When the relay pays for itself.

    `month` is the first (counted from 1) at whose end the savings have paid the fixed costs and the
    setup, `None` if that is not within a hundred years. `volume` is the multiple of the first
    month's tokens at which a month's savings equal its fixed costs, `None` if the relay does not
    save on tokens.
    """

    month: int | None
    volume: Fraction | None


@dataclass(frozen=True, slots=True)
class Point:
    """One row of a sensitivity: with `share`, a month at the baseline and at the relay."""

    share: Fraction
    baseline_nanos: int
    relay_nanos: int

    @property
    def saved_nanos(self) -> int:
        return self.baseline_nanos - self.relay_nanos

    @property
    def saved_percent(self) -> Fraction | None:
        return percent(self.saved_nanos, self.baseline_nanos)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found. `lines` have the baseline first, then the other offers as given.

    `left_out` are rows that some offer cannot price: no offer is charged for them.
    """

    usage: Usage
    calls: int
    horizon: Horizon
    lines: tuple[Line, ...]
    break_even: BreakEven | None
    by_output_share: tuple[Point, ...]
    by_cached_share: tuple[Point, ...]
    left_out: tuple[UsageRow, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def baseline(self) -> Line:
        return self.lines[0]

    @property
    def relay(self) -> Line | None:
        """The first relay among the offers."""
        return next((line for line in self.lines if line.offer.kind == "relay"), None)


def compare(
    rows: Sequence[UsageRow],
    offers: Sequence[Offer],
    horizon: Horizon | None = None,
    *,
    months_in_rows: Fraction = Fraction(1),
    notes: Sequence[str] = (),
) -> Comparison:
    """Price `rows` at every offer; the first offer is the baseline.

    `months_in_rows` says how many months the rows cover, so that figures are by month. Raises
    `InvalidCall` if there is nothing to compare, or an offer prices none of it.
    """
    horizon = horizon or Horizon()
    if not offers:
        raise InvalidCall("there is no offer to compare", code="nothing_to_compare")
    if months_in_rows <= 0:
        raise InvalidCall("the rows cover no time", code="nothing_to_compare")
    for offer in offers:
        refuse_unpriced(offer, rows)
    kept: list[UsageRow] = []
    left_out: list[UsageRow] = []
    sums = [0] * len(offers)
    for row in rows:
        parts = [offer.cost(row) for offer in offers]
        costs = [cost for cost in parts if cost is not None]
        if len(costs) < len(offers):
            left_out.append(row)
            continue
        kept.append(row)
        sums = [before + cost for before, cost in zip(sums, costs, strict=True)]
    if not kept:
        raise InvalidCall(
            "no model is priced by all of the offers; compare fewer of them",
            code="nothing_to_compare",
        )
    months = [Fraction(cost, PARTS_PER_NANO) / months_in_rows for cost in sums]
    lines = tuple(
        _line(offer, month, months[0], horizon) for offer, month in zip(offers, months, strict=True)
    )
    usage, calls = total(tuple(kept)), sum(row.calls for row in kept)
    found = next((i for i, offer in enumerate(offers) if i and offer.kind == "relay"), None)
    break_even = None
    by_output: tuple[Point, ...] = ()
    by_cached: tuple[Point, ...] = ()
    if found is not None:
        break_even = _break_even(months[0] - months[found], horizon)
        if not (offers[0].is_as_charged or offers[found].is_as_charged):
            pair, summed = (offers[0], offers[found]), _summed(kept)
            by_output = tuple(
                _point(share, with_output_share(summed, share), pair, months_in_rows)
                for share in OUTPUT_SHARES
            )
            by_cached = tuple(
                _point(share, with_cached_share(summed, share), pair, months_in_rows)
                for share in CACHED_SHARES
            )
    return Comparison(
        usage,
        calls,
        horizon,
        lines,
        break_even,
        by_output,
        by_cached,
        tuple(left_out),
        tuple(notes),
    )


def percent(part_nanos: int, whole_nanos: int) -> Fraction | None:
    """`None` of nothing."""
    return Fraction(100 * part_nanos, whole_nanos) if whole_nanos else None


def half_up(value: Fraction) -> int:
    """The nearest whole number; of two as near, the greater."""
    return floor(value + Fraction(1, 2))


def _line(offer: Offer, month: Fraction, baseline: Fraction, horizon: Horizon) -> Line:
    fixed = horizon.fixed_nanos if offer.kind == "relay" else 0
    setup = horizon.setup_nanos if offer.kind == "relay" else 0
    year, period = horizon.volume(MONTHS_PER_YEAR), horizon.volume(horizon.months)
    spans = (Fraction(1), year, period)
    month_nanos, year_nanos, period_nanos = (half_up(month * span) for span in spans)
    # Differences of what is shown, so that a reader's own subtraction gives the same.
    saved_month = half_up(baseline) - month_nanos
    saved_year = half_up(baseline * year) - year_nanos
    saved_period = half_up(baseline * period) - period_nanos
    return Line(
        offer,
        month_nanos,
        year_nanos,
        period_nanos,
        saved_month,
        saved_year,
        saved_period,
        100 * (baseline - month) / baseline if baseline else None,
        saved_month - fixed,
        saved_year - fixed * MONTHS_PER_YEAR - setup,
        saved_period - fixed * horizon.months - setup,
    )


def _break_even(saved_month: Fraction, horizon: Horizon) -> BreakEven:
    volume = horizon.fixed_nanos / saved_month if saved_month > 0 else None
    factor = 1 + Fraction(horizon.growth)
    # Savings compound; a float tells which month is near, since only the comparison counts and
    # fractions of a thousand months would have thousands of digits.
    saved, fixed, net = float(saved_month), horizon.fixed_nanos, -float(horizon.setup_nanos)
    if horizon.growth == 0:
        gain = saved_month - fixed
        if gain > 0 or (gain == 0 and horizon.setup_nanos == 0):
            month = max(1, -floor(-horizon.setup_nanos / gain)) if gain else 1
            return BreakEven(month if month <= BREAK_EVEN_MONTHS_MAX else None, volume)
        return BreakEven(None, volume)
    for month in range(1, BREAK_EVEN_MONTHS_MAX + 1):
        net += saved - fixed
        if net >= 0:
            return BreakEven(month, volume)
        saved *= float(factor)
        if saved > 1e300:
            break
    return BreakEven(None, volume)


def _point(
    share: Fraction, rows: tuple[UsageRow, ...], pair: tuple[Offer, Offer], months: Fraction
) -> Point:
    sums = [0, 0]
    for row in rows:
        for index, offer in enumerate(pair):
            sums[index] += offer.cost(row) or 0
    baseline, relay = (half_up(Fraction(cost, PARTS_PER_NANO) / months) for cost in sums)
    return Point(share, baseline, relay)


def _summed(rows: Sequence[UsageRow]) -> tuple[UsageRow, ...]:
    """One row for each model and tier: what a sensitivity varies are totals."""
    groups: dict[tuple[str, str | None], list[UsageRow]] = {}
    for row in rows:
        groups.setdefault((row.model, row.tier), []).append(row)
    return tuple(
        UsageRow(model, total(tuple(group)), sum(row.calls for row in group), tier)
        for (model, tier), group in groups.items()
    )
