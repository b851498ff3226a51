"""Numbers as people read them on a terminal. Programs get them whole, from pipes and `--json`."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal

from merino.domain.money import DECIMALS, NANOS_PER_UNIT, format_nanos, with_sign

SIGNIFICANT = 3
"""Digits of an amount below one."""
_CENTS = 2
_AMOUNT = re.compile(r"(-?)([^\d\s-]*\s?)(\d+)\.(\d{1,9})\Z")


def shortened(text: str) -> str:
    """An amount with its sign, such as ``$1234.567`` or ``$0.0003820345``: with thousands marked,
    to the cent, or to three digits where it is less than one. Anything else stays as it is."""
    found = _AMOUNT.match(text)
    if found is None:
        return text
    minus, sign, units, decimals = found.groups()
    nanos = int(units) * NANOS_PER_UNIT + int(decimals.ljust(DECIMALS, "0"))
    return f"{minus}{sign}{_rounded(nanos)}"


def money(nanos: int, currency: str | None) -> str:
    """The same, of an amount in nano-units."""
    return shortened(with_sign(format_nanos(nanos), currency))


def count(value: int) -> str:
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    """``1 bad line``, ``2,000 bad lines``."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def duration(seconds: float) -> str:
    """``410 ms``, ``1.2 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def share(part: float, whole: float) -> str:
    """``37 %``. What is neither none nor all never looks so."""
    if not whole:
        return "-"
    percent = part / whole * 100
    if 0 < percent < 1:
        return "<1 %"
    if 99 < percent < 100:
        return ">99 %"
    return f"{percent:.0f} %"


def _rounded(nanos: int) -> str:
    decimals = _CENTS
    if 0 < nanos < NANOS_PER_UNIT:
        leading = DECIMALS - len(str(nanos))
        decimals = max(_CENTS, min(DECIMALS, leading + SIGNIFICANT))
    amount = Decimal(nanos).scaleb(-DECIMALS)
    text = f"{amount.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_EVEN):,f}"
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest[:_CENTS]}{rest[_CENTS:].rstrip('0')}"
