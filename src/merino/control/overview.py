"""What operators and owners look at: sums of calls, their speed, and how available models are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Literal, Protocol, cast

from merino.domain.clock import DAY_MS, epoch_ms

LabelName = Literal["user", "tag", "metadata"]
"""What callers say of their calls."""
SumBy = Literal["alias", "key", "account", "deployment"] | LabelName

STATUS_WINDOWS_MS: Mapping[str, int] = {
    "24h": DAY_MS,
    "30d": 30 * DAY_MS,
    "90d": 90 * DAY_MS,
}
SPAN_MS = 300_000
"""The shortest time that sums are kept of."""
AVAILABILITY_FORMULA = "availability = min(1 - failed / (calls - refused), 1 - unanswered / probes)"
"""Failed: answered with 5xx. Refused: 4xx, the caller's own making, and callers who left. Probes:
minutes in which all the model's deployments were asked how they are; unanswered: none answered.

The lower of the two, so that neither hides the other: many probes of a quiet model no failed calls,
many calls by day no outage by night. One that has nothing to say is left out."""


@dataclass(frozen=True, slots=True)
class CallSums:
    """`refused` calls ended with 4xx, `failed` ones with 5xx. `first_token_ms` is the sum over the
    answered calls whose first token was timed, `generated_tokens` came in `generating_ms` after
    it."""

    group: str
    calls: int = 0
    refused: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    charged_nanos: int = 0
    upstream_nanos: int = 0
    first_token_calls: int = 0
    first_token_ms: int = 0
    generated_tokens: int = 0
    generating_ms: int = 0

    @property
    def margin_nanos(self) -> int:
        return self.charged_nanos - self.upstream_nanos

    @property
    def first_token_mean_ms(self) -> float | None:
        return self.first_token_ms / self.first_token_calls if self.first_token_calls else None

    @property
    def tokens_per_s(self) -> float | None:
        return self.generated_tokens / self.generating_ms * 1000 if self.generating_ms else None

    @property
    def answered_share(self) -> float | None:
        """Of the calls that were not the caller's own mistake; `None` while there is none."""
        counted = self.calls - self.refused
        return 1 - self.failed / counted if counted > 0 else None


@dataclass(frozen=True, slots=True)
class Probes:
    """Minutes in which every deployment of an alias was asked, and those in which none answered."""

    minutes: int = 0
    unanswered: int = 0

    @property
    def answered_share(self) -> float | None:
        return 1 - self.unanswered / self.minutes if self.minutes else None


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a deployment was left alone; `ended_ms` is `None` while it lasts."""

    deployment: str
    began_ms: int
    ended_ms: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Availability:
    """One alias in one window. `burn` is the part of the error budget that is used up: 1 is all of
    it."""

    alias: str
    window: str
    sums: CallSums
    probes: Probes
    objective: float

    @property
    def availability(self) -> float | None:
        """By `AVAILABILITY_FORMULA`; `None` while there is neither call nor probe."""
        shares = (self.sums.answered_share, self.probes.answered_share)
        return min((share for share in shares if share is not None), default=None)

    @property
    def burn(self) -> float | None:
        availability = self.availability
        if availability is None:
            return None
        budget = 1 - self.objective
        return (1 - availability) / budget if budget > 0 else (0.0 if availability == 1 else None)


class Sums(Protocol):
    """Sums of calls, up to the newest one."""

    async def sums(
        self, by: SumBy, since_ms: int, account_id: str | None = None
    ) -> Sequence[CallSums]: ...

    async def last_used_ms(self, key_ids: Sequence[str]) -> Mapping[str, int]:
        """When each key was last used, if it was and the call is still kept."""
        ...


class Uptime(Protocol):
    """What is remembered of deployments' health."""

    async def probes(self, since_ms: int) -> Mapping[str, Probes]:
        """By alias, of those that had any."""
        ...

    async def outages(self, limit: int) -> Sequence[Outage]:
        """The newest first."""
        ...


class OverviewDesk:
    """Use cases around sums. `objective` is the share of calls that shall be answered."""

    def __init__(
        self,
        sums: Sums,
        uptime: Uptime,
        objective: float = 0.995,
        now_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        self._sums = sums
        self._uptime = uptime
        self._objective = objective
        self._now_ms = now_ms

    def configure(self, objective: float) -> None:
        self._objective = objective

    async def by_alias(self, days: int, account_id: str | None = None) -> Sequence[CallSums]:
        return await self._sums.sums("alias", self._now_ms() - days * DAY_MS, account_id)

    async def last_used_ms(self, key_ids: Sequence[str]) -> Mapping[str, int]:
        return await self._sums.last_used_ms(key_ids)

    async def availability(self, aliases: Sequence[str]) -> list[Availability]:
        """Every alias in every window of the status page."""
        found: list[Availability] = []
        for window, length_ms in STATUS_WINDOWS_MS.items():
            rows = await self._sums.sums("alias", self._now_ms() - length_ms)
            by_alias = {row.group: row for row in rows}
            probes = await self._uptime.probes(self._now_ms() - length_ms)
            found += [
                Availability(
                    alias,
                    window,
                    by_alias.get(alias, CallSums(alias)),
                    probes.get(alias, Probes()),
                    self._objective,
                )
                for alias in aliases
            ]
        return found

    async def outages(self, limit: int) -> Sequence[Outage]:
        return await self._uptime.outages(limit)


def added(group: str, rows: Sequence[CallSums]) -> CallSums:
    """All rows as one."""
    if len(rows) == 1:
        return replace(rows[0], group=group)
    return CallSums(group, *map(sum, zip(*map(_sums_of, rows), strict=True)))


_sums_of = cast(
    "Callable[[CallSums], tuple[int, ...]]",
    attrgetter(*[field.name for field in fields(CallSums)][1:]),
)
