"""What a model costs: rates, and one row of the price book."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from merino.domain.clock import DAY_MS
from merino.domain.usage import CACHE_WRITE_UNITS, Units

PPM = 1_000_000
"""A factor of one."""

_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-dollars per million LLM tokens, and per call.

    `steps` are the rates of calls with more input than a threshold, ascending; they then hold for
    the whole call, as at Google, Anthropic and OpenAI.
    """

    input: int
    cached: int
    cache_write: int
    output: int
    audio_input: int
    audio_output: int
    image_input: int
    per_call_nanos: int = 0
    steps: tuple[tuple[int, Rates], ...] = ()
    units: Units = ()
    """Rates of what is counted beside tokens, also per million."""
    dearest_input: int = field(init=False, repr=False, compare=False)
    """The dearest kind of text input."""
    has_media: bool = field(init=False, repr=False, compare=False)
    """Whether audio or images are dearer than text."""

    def __post_init__(self) -> None:
        # What is kept longer than usual costs more; a request says so, and is held for then.
        dearest = max(self.input, self.cached, self.cache_write)
        object.__setattr__(self, "dearest_input", dearest)
        object.__setattr__(
            self,
            "has_media",
            self.audio_output > self.output or max(self.audio_input, self.image_input) > dearest,
        )

    def at(self, input_tokens: int) -> Rates:
        """The rates of a call with so much input."""
        rates = self
        for above, step in self.steps:
            if input_tokens <= above:
                break
            rates = step
        return rates

    def times(self, factor: Decimal, *, caches: bool) -> Rates:
        """Every rate times `factor`, the fee per call as it is. Without `caches`, what is read from
        the cache costs what other input costs."""

        def scaled(nanos: int) -> int:
            return int((nanos * factor).to_integral_value(ROUND_HALF_UP))

        return Rates(
            scaled(self.input),
            scaled(self.cached if caches else self.input),
            scaled(self.cache_write),
            scaled(self.output),
            scaled(self.audio_input),
            scaled(self.audio_output),
            scaled(self.image_input),
            self.per_call_nanos,
            tuple((above, step.times(factor, caches=caches)) for above, step in self.steps),
            tuple(
                (unit, scaled(rate) if unit in CACHE_WRITE_UNITS else rate)
                for unit, rate in self.units
            ),
        )


@dataclass(frozen=True, slots=True)
class Price:
    """One row of the book. `id` is stable text that names provider, model, tier and date.

    `upstream` is what the vendor charges us. The account pays `account` times `account_ppm`
    millionths: its own rates with a factor of one, or the vendor's rates with a markup. To that
    come `fixed_nanos` a call, and it is never less than `minimum_nanos`, unless the call used
    nothing. `hours_utc` are minutes of the day `[from, to)` to which the row is limited, and with
    `weekdays_only` not on Saturday and Sunday.
    """

    id: str
    provider: str
    model: str
    valid_from: date
    tier: str | None
    upstream: Rates
    account: Rates
    account_ppm: int = PPM
    hours_utc: tuple[int, int] | None = None
    weekdays_only: bool = False
    source: str = ""
    fixed_nanos: int = 0
    minimum_nanos: int = 0

    def times(self, ppm: int) -> Price:
        """The price with a discount: the account pays `ppm` millionths of it, in all its parts."""
        return replace(
            self,
            id=f"{self.id}+{ppm / PPM:g}",
            account_ppm=self.account_ppm * ppm // PPM,
            fixed_nanos=self.fixed_nanos * ppm // PPM,
            minimum_nanos=self.minimum_nanos * ppm // PPM,
        )

    def account_rate(self, nanos: int) -> int:
        """What the account pays where its rates say `nanos`, in whole nano-units."""
        return nanos * self.account_ppm // PPM

    def is_valid_at(self, at_ms: int) -> bool:
        # 1970-01-01 was a Thursday.
        if self.weekdays_only and (at_ms // DAY_MS + 3) % 7 >= 5:
            return False
        if self.hours_utc is None:
            return True
        minute = at_ms % DAY_MS // _MINUTE_MS
        start, end = self.hours_utc
        return start <= minute < end if start < end else minute >= start or minute < end


PriceKey = tuple[str, str, str | None]
"""Provider, model and service tier."""

STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "standard_only"})
CHEAPER_TIERS = frozenset({"flex", "batch"})
TIER_NAMES = {"fast": "priority"}
"""OpenAI renamed priority processing in July 2026 and takes either name."""
