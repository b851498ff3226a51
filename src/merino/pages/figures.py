"""Numbers as people read them, in one way on every page: money, counts, durations, shares.

What is shown is rounded; hovering tells the whole value. Nothing that is shown breaks over lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from markupsafe import Markup

from merino.domain.money import DECIMALS, NANOS_PER_UNIT, format_nanos, with_sign

NONE = "–"
"""What stands where there is no value: nothing was measured, or nothing is limited."""
_NOTHING = Markup('<span class="none">–</span>')
MINUS = "−"
"""As wide as a digit, unlike a hyphen."""
SIGNIFICANT = 3
"""Digits of an amount below one, and of a duration."""
_CENTS = 2
_CHANGE_LEAST = 0.0005
"""What is less is no change that anybody looks for."""
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))
_COUNT_WHOLE_BELOW = 10_000


def decimals_of(nanos: int) -> int:
    """How many decimals an amount is shown with: cents, and below one three digits that count."""
    size = abs(nanos)
    if size >= NANOS_PER_UNIT or size == 0:
        return _CENTS
    leading = DECIMALS - len(str(size))
    text = _rounded(size, min(DECIMALS, leading + SIGNIFICANT))
    return max(_CENTS, len(text.partition(".")[2].rstrip("0")))


def decimals_in(amounts: Iterable[int | None]) -> int:
    """Those of the amount in a column that needs most, so that its points stand in a line."""
    return max((decimals_of(nanos) for nanos in amounts if nanos is not None), default=_CENTS)


def money_text(nanos: int | None, currency: str | None) -> str:
    """``$1,234.50``, ``$0.000382``, ``−$11.31``. What is not nothing never looks like nothing."""
    if nanos is None:
        return NONE
    text = with_sign(_rounded(abs(nanos), decimals_of(nanos)), currency)
    return f"{MINUS}{text}" if nanos < 0 else text


def exact_text(nanos: int, currency: str | None) -> str:
    """The whole amount: ``$0.00038203``."""
    text = with_sign(format_nanos(abs(nanos)), currency)
    return f"{MINUS}{text}" if nanos < 0 else text


def money(nanos: int | None, currency: str | None, column: int = 0) -> Markup:
    """An amount, whole on hover. `column` is how many decimals the widest of its column has; the
    style leaves room for those that this one lacks."""
    if nanos is None:
        return _NOTHING
    lacking = column - decimals_of(nanos)
    room = f' data-room="{lacking}"' if lacking > 0 else ""
    return _figure(
        format_nanos(nanos), exact_text(nanos, currency), money_text(nanos, currency), room
    )


def price(nanos: int, currency: str | None) -> Markup:
    """What something costs a piece, to the last digit: it is what calls are billed with."""
    text = exact_text(nanos, currency)
    return _figure(format_nanos(nanos), text, text)


def amounts(of: Mapping[str, int]) -> Markup:
    """What was spent in each currency: sums over accounts of several have no other meaning."""
    told = [money(nanos, currency) for currency, nanos in sorted(of.items())]
    return Markup(" + ").join(told) if told else money(0, None)


def count_text(value: float | None) -> str:
    """As short as it can be read: ``9,812``, ``12.4 k``, ``1.24 M``."""
    if value is None:
        return NONE
    size = abs(value)
    if size < _COUNT_WHOLE_BELOW:
        return _signed(f"{size:,.0f}", value)
    for unit, name in _UNITS:
        if size >= unit * 0.99995:
            digits = 2 if size < 10 * unit else 1 if size < 100 * unit else 0
            return _signed(f"{size / unit:,.{digits}f}\N{NO-BREAK SPACE}{name}", value)
    return _signed(f"{size:,.0f}", value)


def count(value: float | None) -> Markup:
    """A number, whole on hover."""
    if value is None:
        return _NOTHING
    return _figure(f"{value:.15g}", f"{value:,.15g}", count_text(value))


def duration_text(ms: float | None) -> str:
    """``0.42 ms``, ``812 ms``, ``4.25 s``, ``3 min 20 s``: three digits, then parts."""
    if ms is None:
        return NONE
    space = "\N{NO-BREAK SPACE}"
    size = abs(ms)
    if size < 999.5:
        return _signed(f"{_digits(size)}{space}ms", ms)
    if size < 119_500:
        return _signed(f"{_digits(size / 1000)}{space}s", ms)
    seconds = round(size / 1000)
    for unit, name, part, part_name in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= unit:
            whole, rest = divmod(seconds, unit)
            more = f"{space}{rest // part}{space}{part_name}" if rest // part else ""
            return _signed(f"{whole}{space}{name}{more}", ms)
    return _signed(f"{seconds}{space}s", ms)


def duration(ms: float | None) -> Markup:
    """A time that something took, in milliseconds on hover."""
    if ms is None:
        return _NOTHING
    return _figure(f"{ms:.10g}", f"{ms:,.10g} ms", duration_text(ms))


def share_text(value: float | None, digits: int = 1) -> str:
    """``3.4 %``. What is neither none nor all never looks so: ``< 0.1 %``, ``> 99.9 %``."""
    if value is None:
        return NONE
    space, least = "\N{NO-BREAK SPACE}", 10.0**-digits
    percent = abs(value) * 100
    if 0 < percent < least:
        return _signed(f"<{space}{least:.{digits}f}{space}%", value)
    if 100 - least < percent < 100:
        return _signed(f">{space}{100 - least:.{digits}f}{space}%", value)
    text = f"{percent:,.0f}" if percent in (0, 100) else f"{percent:,.{digits}f}"
    return _signed(f"{text}{space}%", value)


def change_text(now: float, before: float) -> str:
    """How much more than before: ``+12 %``, ``−3.4 %``, ``× 12``; from nothing it is ``new``."""
    if now == before or (before and abs(now - before) < abs(before) * _CHANGE_LEAST):
        return "±0\N{NO-BREAK SPACE}%"
    if not before:
        return "new"
    share = (now - before) / abs(before)
    if share >= 9.995:
        return f"×\N{NO-BREAK SPACE}{now / before:,.0f}"
    digits = 0 if abs(share) >= 0.1 else 1
    return ("+" if share > 0 else "") + share_text(share, digits)


def _figure(value: str, title: str, text: str, more: str = "") -> Markup:
    return Markup(  # noqa: S704 - digits and signs of ours; pages have hundreds of them
        f'<data class="figure" value="{value}" title="{title}"{more}>{text}</data>'
    )


def _digits(size: float) -> str:
    """Three that count, of a number below a thousand."""
    if size >= 99.95:
        return f"{size:.0f}"
    return f"{size:.1f}" if size >= 9.995 else f"{size:.2f}"


def _signed(text: str, value: float) -> str:
    return f"{MINUS}{text}" if value < 0 else text


def _rounded(size: int, decimals: int) -> str:
    step = 10 ** (DECIMALS - decimals)
    shown, left = divmod(size, step)
    shown += left * 2 > step or (left * 2 == step and shown % 2)  # half to even
    units, part = divmod(shown, 10**decimals)
    whole, rest = f"{units:,}", f"{part:0{decimals}d}"
    rest = rest[:_CENTS] + rest[_CENTS:].rstrip("0")
    return f"{whole}.{rest}"
