"""What is to be compared: the tokens of a month, or of real calls."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from msgspec import structs

from merino.domain.errors import InvalidCall
from merino.domain.usage import NO_USAGE, Usage
from merino.exports.numbers import TOKENS_MAX

MONTHS_MAX = 600
CALLS_MAX = 10**12


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
