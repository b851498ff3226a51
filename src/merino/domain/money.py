"""Money as integer nano-units of one currency (1 USD = 1,000,000,000 nano-dollars).

Floats never hold money here; conversion to and from text goes through `Decimal`.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

DECIMALS = 9
NANOS_PER_UNIT = 10**DECIMALS
AMOUNT_NANOS_MAX = 2**62
"""Largest amount accepted anywhere, so that sums stay inside SQLite's and PostgreSQL's int64."""


def parse_nanos(text: str | float | Decimal) -> int:
    """Read an amount such as ``"5.00"`` as nano-units.

    Raises `ValueError` when it is not a finite number, too large, or has over nine decimals.
    """
    try:
        # `repr` of a float from TOML or JSON is the shortest text that means the same number.
        amount = Decimal(repr(text) if isinstance(text, float) else str(text))
    except InvalidOperation:
        raise ValueError(
            f"{text!r} is not an amount; write a decimal number such as 5.00"
        ) from None
    if not amount.is_finite():
        raise ValueError(f"{text!r} is not a finite amount")
    nanos = scaled(amount, DECIMALS, AMOUNT_NANOS_MAX - 1)
    if nanos is None:
        if amount.copy_abs() >= AMOUNT_NANOS_MAX // NANOS_PER_UNIT:
            raise ValueError(
                f"{text!r} is too large; the limit is {AMOUNT_NANOS_MAX // NANOS_PER_UNIT}"
            )
        raise ValueError(f"{text!r} has more than nine decimals")
    return nanos


def scaled(number: Decimal, decimals: int, most: int) -> int | None:
    """The number times ten to the `decimals`; `None` if that is not whole or larger than `most`.

    By its digits, since `Decimal`'s own arithmetic rounds to 28 of them and overflows.
    """
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int), "infinity and NaN have no digits"
    zeros = exponent + decimals
    if not any(digits):
        return 0
    if zeros > len(str(most)) or len(digits) + zeros > len(str(most)):
        return None
    if zeros < 0:
        kept, rest = digits[:zeros], digits[zeros:]
        if any(rest):
            return None
        digits, zeros = kept, 0
    whole = int("".join(map(str, digits)) or "0") * 10**zeros
    return None if whole > most else -whole if sign else whole


def format_nanos(nanos: int) -> str:
    """Exact decimal text, at least two decimals, no trailing zeros beyond: ``0.0012``, ``5.00``."""
    sign = "-" if nanos < 0 else ""
    units, rest = divmod(abs(nanos), NANOS_PER_UNIT)
    decimals = f"{rest:09d}".rstrip("0")
    return f"{sign}{units}.{decimals:0<2}"


_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "CNY": "CN¥", "HKD": "HK$", "JPY": "JP¥"}


def with_sign(amount: str, currency: str | None) -> str:
    """An amount with its currency for reading: ``-$11.31``. Without one it stays as it is."""
    if currency is None:
        return amount
    sign = _SIGNS.get(currency, f"{currency} ")
    return f"-{sign}{amount[1:]}" if amount.startswith("-") else f"{sign}{amount}"
