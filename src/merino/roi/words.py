"""Figures and findings as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

from merino.domain.money import NANOS_PER_UNIT
from merino.roi.comparison import BREAK_EVEN_MONTHS_MAX, Comparison, Point, half_up

_CENT_NANOS = NANOS_PER_UNIT // 100


def dollars(nanos: int) -> str:
    """``$4,644.00``, rounded half up to cents; below a cent with as many decimals as it takes."""
    sign, amount = ("-" if nanos < 0 else ""), abs(nanos)
    value = Decimal(amount) / NANOS_PER_UNIT
    if 0 < amount < _CENT_NANOS:
        return f"{sign}${value.normalize():f}"
    return f"{sign}${value.quantize(Decimal('0.01'), ROUND_HALF_UP):,}"


def percent_text(value: Fraction | None) -> str:
    """``86 %``; with a decimal where whole percents would say 0 or 100 of what is neither."""
    if value is None:
        return "-"
    whole = half_up(value)
    if whole in (0, 100) and value not in (0, 100):
        return f"{float(value):.1f} %"
    return f"{whole} %"


def tokens(count: int) -> str:
    """``10M``, ``2.5k``."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{Decimal(count) / unit:.2f}".rstrip("0").rstrip(".") + name
    return str(count)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def title(found: Comparison) -> str:
    """What was compared, in a line."""
    usage = found.usage
    models = dict.fromkeys(
        model for line in found.lines for model, _ in line.offer.prices if line.offer.prices
    )
    named = ", ".join(models) if len(models) <= 3 else counted(len(models), "model")
    parts = [f"{tokens(usage.input_tokens)} input"]
    if usage.cached_tokens:
        parts[0] += f" ({tokens(usage.cached_tokens)} cached)"
    parts.append(f"{tokens(usage.output_tokens)} output tokens")
    if usage.reasoning_tokens:
        parts[1] += f" ({tokens(usage.reasoning_tokens)} reasoning)"
    calls = f" in {counted(found.calls, 'call')}" if found.calls else ""
    growth = found.horizon.growth
    grown = f", growing {float(growth * 100):g} % a month" if growth else ""
    return f"{named}: {' and '.join(parts)}{calls}{grown}"


def break_even_lines(found: Comparison) -> list[str]:
    """What the relay saves, and when it has paid for itself."""
    relay, even, horizon = found.relay, found.break_even, found.horizon
    if relay is None or even is None:
        return []
    verb = "saves" if relay.saved_month_nanos >= 0 else "costs"
    more = "" if relay.saved_month_nanos >= 0 else " more"
    share = percent_text(abs(relay.saved_percent) if relay.saved_percent is not None else None)
    month, year = abs(relay.saved_month_nanos), abs(relay.saved_year_nanos)
    headline = (
        f"{relay.offer.name} {verb} {dollars(month)}/month{more} ({share}), "
        f"{dollars(year)}/year{more} against {found.baseline.offer.name}."
    )
    if not relay.saved_month_nanos:
        headline = (
            f"{relay.offer.name} costs as much as {found.baseline.offer.name}: "
            f"{dollars(relay.month_nanos)}/month."
        )
    lines = [headline]
    if horizon.months != 12:
        lines.append(
            f"Over {counted(horizon.months, 'month')}: {found.baseline.offer.name} "
            f"{dollars(found.baseline.period_nanos)}, {relay.offer.name} "
            f"{dollars(relay.period_nanos)}, saved {dollars(relay.saved_period_nanos)}."
        )
    hidden = found.usage.reasoning_tokens
    visible = found.usage.output_tokens - hidden
    if hidden and visible > 0:
        taken = half_up(Fraction(found.usage.output_tokens, visible) * 10**6)
        lines.append(
            f"Of the output, {tokens(hidden)} is hidden reasoning, billed as output: a million "
            f"visible tokens take {tokens(taken)}."
        )
    if horizon.fixed_nanos or horizon.setup_nanos:
        lines.append(
            f"Fixed costs: hosting {dollars(horizon.hosting_nanos)} and people "
            f"{dollars(horizon.people_nanos)} a month, setup {dollars(horizon.setup_nanos)} once. "
            f"After them: {dollars(relay.net_saved_month_nanos)} in a month, "
            f"{dollars(relay.net_saved_year_nanos)} in the first year."
        )
        if even.month is None:
            lines.append(
                f"Break-even: never within {BREAK_EVEN_MONTHS_MAX // 12} years at this volume."
            )
        else:
            lines.append(f"Break-even: at the end of month {even.month}.")
        if even.volume is None:
            lines.append("No volume helps: the tokens themselves cost no less.")
        elif horizon.fixed_nanos:
            both = found.usage.input_tokens + found.usage.output_tokens
            lines.append(
                f"The monthly fixed costs are covered from {tokens(half_up(both * even.volume))} "
                f"tokens a month on ({float(even.volume):.3g} times this volume)."
            )
    return lines


def is_flat(points: Sequence[Point]) -> bool:
    """Whether a sensitivity is none: every share costs the same."""
    return len({(point.baseline_nanos, point.relay_nanos) for point in points}) == 1


def flat_line(name: str, points: Sequence[Point]) -> str:
    """What takes the place of a table whose rows would all be alike."""
    first = points[0]
    return (
        f"The {name} changes nothing: neither prices it apart, so a month stays at "
        f"{dollars(first.baseline_nanos)} direct, {dollars(first.relay_nanos)} through the relay."
    )
