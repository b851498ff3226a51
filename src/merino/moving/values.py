"""Numbers as other programs' files have them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any


def decimal(value: Any) -> Decimal | None:
    """`None` for what is none, or none that is finite."""
    if value is None or isinstance(value, bool):
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def number(value: Any) -> int | None:
    found = decimal(value)
    return None if found is None else int(found)


def plain(value: Decimal) -> str:
    """As amounts are written: no exponent, nine decimals at most."""
    return f"{value.quantize(Decimal('0.000000001')).normalize():f}"
