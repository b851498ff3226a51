"""What is to be compared: the tokens of a month, or of real calls."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from msgspec import structs

from merino.domain.errors import InvalidCall
from merino.domain.usage import NO_USAGE, Usage

TOKENS_MAX = 10**15
MONTHS_MAX = 600
GROWTH_MAX = Decimal(10)
CALLS_MAX = 10**12

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}
_TOKENS = re.compile(r"(?P<number>[0-9][0-9_,.'\u2019 \u00a0\u202f]*?)\s?(?P<unit>[kKmMbBgG]?)\Z")
_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?\Z")
_GROUPED = re.compile(
    r"[0-9]{1,3}(?P<mark>[_,.'\u2019 \u00a0\u202f])[0-9]{3}(?:(?P=mark)[0-9]{3})*\Z"
)
_WRITE = "write 2500000, 2_500_000 or 2.5M"


def parse_tokens(text: str, name: str = "tokens") -> int:
    """Read a number of tokens such as ``10M``, ``2.5k`` or ``10_000_000``.

    Thousands may be grouped as people group them (``1,000,000``, ``1 000 000``, ``1'000'000``,
    ``1.000.000``). What means one number in one country and another in the next (``2,500M``,
    ``10.000``) is refused: a guess would be wrong by a factor of a thousand. Raises `InvalidCall`
    that names `name` when it is not a number, not whole or too many.
    """
    match = _TOKENS.match(text.strip())
    number = None if match is None else _number(match["number"], has_unit=bool(match["unit"]))
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


def _number(text: str, *, has_unit: bool) -> Fraction | None:
    """`None` if it is none, or if it reads otherwise elsewhere."""
    grouped = _GROUPED.match(text)
    if grouped is not None:
        mark = grouped["mark"]
        is_one_group = text.count(mark) == 1
        # A single point or comma before three digits may be a decimal one; a comma is not where
        # no unit makes decimals likely, and ours is a language that groups by commas.
        if is_one_group and (mark == "." or (mark == "," and has_unit)):
            return None
        return Fraction(text.replace(mark, ""))
    digits = text.replace("_", "")
    return Fraction(digits) if _PLAIN.match(digits) and not text.endswith("_") else None


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
    """Read a monthly growth: ``0.05`` or ``5%``. Raises `InvalidCall`."""
    growth = _decimal(text.removesuffix("%"), "growth", "a rate a month such as 0.05 or 5%")
    if text.endswith("%"):
        growth /= 100
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


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Tokens of `calls` calls to one model: one real call, or many summed up.

    `calls` of 0 means that their number is not known; then fees per call are left out, and so are
    the dearer rates for long contexts, which need the input of a single call. `charged_nanos` is
    what accounts really paid for them, where that is known.
    """

    model: str
    usage: Usage
    calls: int = 0
    tier: str | None = None
    charged_nanos: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A month of a workload as planned.

    `cached_share` is the part of the input that the provider's prompt cache serves,
    `reasoning_share` the part of the output that is hidden reasoning: it is billed as output, so it
    changes no cost but what a visible token costs. Raises `InvalidCall` for impossible values.
    """

    model: str
    input_tokens: int
    output_tokens: int
    cached_share: Decimal = Decimal(0)
    reasoning_share: Decimal = Decimal(0)
    calls: int = 0
    tier: str | None = None

    def __post_init__(self) -> None:
        for name, value, most in (
            ("input_tokens", self.input_tokens, TOKENS_MAX),
            ("output_tokens", self.output_tokens, TOKENS_MAX),
            ("calls", self.calls, CALLS_MAX),
        ):
            if not 0 <= value <= most:
                raise InvalidCall(
                    f"{name}: {value} is not between 0 and {most:,}",
                    param=name,
                    code="invalid_tokens",
                )
        for name, share in (
            ("cached_share", self.cached_share),
            ("reasoning_share", self.reasoning_share),
        ):
            if not (share.is_finite() and 0 <= share <= 1):
                raise InvalidCall(
                    f"{name}: {share} is not between 0 and 1", param=name, code="invalid_share"
                )

    def rows(self) -> tuple[UsageRow, ...]:
        """The month as usage."""
        usage = Usage(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cached_tokens=round(self.input_tokens * self.cached_share),
            reasoning_tokens=round(self.output_tokens * self.reasoning_share),
        )
        return (UsageRow(self.model, usage, self.calls, self.tier),)


_COUNTS = tuple(name for name in NO_USAGE.__struct_fields__ if name.endswith("_tokens"))


def total(rows: tuple[UsageRow, ...]) -> Usage:
    """All tokens of all rows."""
    sums = {name: sum(getattr(row.usage, name) for row in rows) for name in _COUNTS}
    return structs.replace(NO_USAGE, **sums)


def with_output_share(rows: tuple[UsageRow, ...], share: Fraction) -> tuple[UsageRow, ...]:
    """As many tokens in all, with another part of them output; what lies inside input and output
    keeps its part of each."""
    changed: list[UsageRow] = []
    for row in rows:
        usage = row.usage
        both = usage.input_tokens + usage.output_tokens
        output_tokens = round(both * share)
        changed.append(_replaced(row, _resized(usage, both - output_tokens, output_tokens)))
    return tuple(changed)


def with_cached_share(rows: tuple[UsageRow, ...], share: Fraction) -> tuple[UsageRow, ...]:
    """The same tokens, with another part of the input served from the prompt cache."""
    changed: list[UsageRow] = []
    for row in rows:
        usage = row.usage
        others = usage.cache_write_tokens + usage.audio_input_tokens + usage.image_input_tokens
        cached_tokens = min(round(usage.input_tokens * share), max(0, usage.input_tokens - others))
        changed.append(_replaced(row, structs.replace(usage, cached_tokens=cached_tokens)))
    return tuple(changed)


def _replaced(row: UsageRow, usage: Usage) -> UsageRow:
    return UsageRow(row.model, usage, row.calls, row.tier)


def _resized(usage: Usage, input_tokens: int, output_tokens: int) -> Usage:
    def part(count: int, whole: int, new_whole: int) -> int:
        return count * new_whole // whole if whole else 0

    def inside_input(count: int) -> int:
        return part(count, usage.input_tokens, input_tokens)

    def inside_output(count: int) -> int:
        return part(count, usage.output_tokens, output_tokens)

    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=inside_input(usage.cached_tokens),
        cache_write_tokens=inside_input(usage.cache_write_tokens),
        reasoning_tokens=inside_output(usage.reasoning_tokens),
        image_input_tokens=inside_input(usage.image_input_tokens),
        audio_input_tokens=inside_input(usage.audio_input_tokens),
        audio_output_tokens=inside_output(usage.audio_output_tokens),
    )
