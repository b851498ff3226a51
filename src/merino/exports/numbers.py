"""Numbers as people and their spreadsheets write them: read right, or refused, never guessed.

A point is a decimal mark to some and groups thousands to others, and so is a comma. What reads the
same everywhere is read; what would be another number in another country is refused.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from merino.domain.errors import InvalidCall
from merino.domain.money import parse_nanos

TOKENS_MAX = 10**15
GROWTH_MAX = Decimal(10)

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}
_MARKS = "_,.'\u2019 \u00a0\u2009\u202f"
"""What people group thousands with; the last three are spaces that do not break a line."""
_TOKENS = re.compile(rf"(?P<number>[0-9][0-9{_MARKS}]*?)\s?(?P<unit>[kKmMbBgG]?)\Z")
_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?\Z")
_GROUPED = re.compile(
    rf"(?P<groups>[1-9][0-9]{{0,2}}(?P<mark>[{_MARKS}])[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*)"
    r"(?:(?!(?P=mark))[.,](?P<decimals>[0-9]+))?\Z"
)
_WHOLE = re.compile(r"(?P<digits>[0-9]+)[.,](?:0|00|0000+)\Z")
_WRITE = "write 2500000, 2_500_000 or 2.5M"


def parse_tokens(text: str, name: str = "tokens") -> int:
    """Read a number of tokens such as ``10M``, ``2.5k`` or ``10_000_000``.

    Thousands may be grouped as people group them (``1,000,000``, ``1 000 000``, ``1'000'000``,
    ``1.000.000``). What means one number in one country and another in the next (``2,500M``,
    ``10.000``) is refused: a guess would be wrong by a factor of a thousand. Raises `InvalidCall`
    that names `name` when it is not a number, not whole or too many.
    """
    match = _TOKENS.match(text.strip())
    # A comma before three digits is no decimal one where no unit makes decimals likely, and ours is
    # a language that groups by commas.
    number = None if match is None else _number(match["number"], commas_group=not match["unit"])
    if match is None or number is None:
        raise InvalidCall(
            f"{name}: {text[:40]!r} is not a number of tokens, or not the same one everywhere; "
            f"{_WRITE}",
            param=name,
            code="invalid_tokens",
        )
    tokens = number * _UNITS[match["unit"].lower()]
    if tokens.denominator != 1 or tokens > TOKENS_MAX:
        raise InvalidCall(
            f"{name}: {text[:40]!r} must be a whole number of tokens, at most {TOKENS_MAX:,}",
            param=name,
            code="invalid_tokens",
        )
    return int(tokens)


def parse_count(text: str, *, commas_group: bool) -> int | None:
    """A count in a cell of somebody's export; `None` if it is none, or if it may be another one.

    `commas_group`: the file was written where commas group thousands. Decimals may be there if they
    are zeros. A power of ten is refused: whoever wrote it has rounded the count to a few digits.
    """
    text = text.strip()
    whole = _WHOLE.match(text)
    number = Fraction(whole["digits"]) if whole else _number(text, commas_group=commas_group)
    if number is None or number.denominator != 1 or number > TOKENS_MAX:
        return None
    return int(number)


def _number(text: str, *, commas_group: bool) -> Fraction | None:
    """`None` if it is none, or if it reads otherwise elsewhere."""
    grouped = _GROUPED.match(text)
    if grouped is not None:
        groups, mark, decimals = grouped["groups"], grouped["mark"], grouped["decimals"]
        # A single point or comma before three digits may be a decimal one, unless another mark
        # behind it shows that it is not.
        is_one_group = groups.count(mark) == 1 and decimals is None
        if is_one_group and (mark == "." or (mark == "," and not commas_group)):
            return None
        return Fraction(f"{groups.replace(mark, '')}.{decimals or 0}")
    digits = text.replace("_", "")
    return Fraction(digits) if _PLAIN.match(digits) and not text.endswith("_") else None


def parse_amount(text: str) -> int:
    """Read an amount of dollars as nano-dollars: ``40``, ``40.50``, ``1,250.00``. Raises
    `ValueError` for what is none, is below zero, or is another amount elsewhere (``1.250``)."""
    plain = text.strip()
    if _GROUPED.match(plain):
        number = _number(plain, commas_group=True)
        if number is None:
            raise ValueError(f"{text[:40]!r} is another amount elsewhere; write 1250 or 1.25")
        plain = str(Decimal(number.numerator) / number.denominator)
    nanos = parse_nanos(plain)
    if nanos < 0:
        raise ValueError(f"{text[:40]!r} is negative")
    return nanos


def parse_share(text: str, name: str) -> Decimal:
    """Read a share: ``0.3`` or ``30%``. Raises `InvalidCall` unless it is from 0 to 1."""
    share = _decimal(text.removesuffix("%"), name, "a share such as 0.3 or 30%")
    if text.endswith("%"):
        share /= 100
    if not 0 <= share <= 1:
        raise InvalidCall(
            f"{name}: {text[:40]!r} is not between 0 and 1", param=name, code="invalid_share"
        )
    return share


def parse_growth(text: str) -> Decimal:
    """Read a monthly growth: ``0.05`` or ``5%``. Raises `InvalidCall`, also for a number from 1 on
    without a percent sign: ``5`` would be 500 %, and 5 % is what most would mean."""
    growth = _decimal(text.removesuffix("%"), "growth", "a rate a month such as 0.05 or 5%")
    if text.endswith("%"):
        growth /= 100
    elif 1 <= growth <= GROWTH_MAX:
        raise InvalidCall(
            f"growth: {text[:40]!r} may mean {growth.normalize():f} % a month, or "
            f"{(growth * 100).normalize():f} %; write one of them with its percent sign",
            param="growth",
            code="invalid_growth",
        )
    if not -1 < growth <= GROWTH_MAX:
        raise InvalidCall(
            f"growth: {text[:40]!r} is not between -100% and 1000% a month",
            param="growth",
            code="invalid_growth",
        )
    return growth


def _decimal(text: str, name: str, what: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or len(number.as_tuple().digits) > 18 or number.adjusted() < -18:
        raise InvalidCall(f"{name}: {text[:40]!r} is not {what}", param=name, code="invalid_number")
    return number
