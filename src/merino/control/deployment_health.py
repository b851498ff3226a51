"""How deployments do over time: how many attempts failed there, how soon and how fast they answer.

Reading is the store's; what a figure is made of is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from merino.control.overview import CallSums, added
from merino.control.usage import Cut, FirstTokens, UsageSums
from merino.domain.call import HEDGE_LOST, Attempt
from merino.domain.clock import HOUR_MS

HeatOf = Literal["errors", "first_token"]
HEAT_STEPS: Mapping[HeatOf, Sequence[float]] = {
    "errors": (0.0, 0.01, 0.05, 0.2, 0.5),
    "first_token": (1_000, 2_000, 4_000, 8_000, 16_000),
}
"""What each colour goes up to; the last one is for all beyond."""
_CALLERS_OWN = frozenset(range(400, 500)) - {401, 402, 403, 404, 408, 409, 425, 429}


@dataclass(frozen=True, slots=True)
class LastError:
    """The newest attempt that failed at a deployment, in its own words without secrets."""

    deployment: str
    at_ms: int
    status: int
    outcome: str
    message: str
    call_id: str


class FailedAttempts(Protocol):
    """Attempts that failed by the deployment's fault."""

    async def failed(
        self, since_ms: int, until_ms: int, slot_ms: int
    ) -> Mapping[tuple[str, int], int]:
        """By deployment and when a slot (whole hours) begins."""
        ...

    async def last_errors(self) -> Mapping[str, LastError]:
        """By deployment."""
        ...


@dataclass(frozen=True, slots=True)
class Cell:
    """A deployment in a slot. `value` is what the map is of, `step` its colour."""

    calls: int
    failed: int
    value: float | None
    step: int


@dataclass(frozen=True, slots=True)
class Heat:
    """A row for each deployment that was asked, a cell for each slot; `None` where nothing was."""

    slots: Sequence[int]
    slot_ms: int
    rows: Mapping[str, Sequence[Cell | None]]


@dataclass(frozen=True, slots=True)
class Pace:
    """A deployment over time, a value for each slot."""

    slots: Sequence[int]
    slot_ms: int
    first_token_ms: Mapping[str, Sequence[float | None]]
    """By percentile."""
    errors: Sequence[float | None]
    tokens_per_s: Sequence[float | None]


def is_deployments_fault(attempt: Attempt) -> bool:
    """Not that of the caller's request, and not a race that it lost."""
    return attempt.outcome != HEDGE_LOST and attempt.status not in _CALLERS_OWN


def failed_share(sums: CallSums, attempts: int) -> float | None:
    """Of the attempts at a deployment; `None` without any. `attempts` are those that failed, also
    where another deployment answered the call; calls of before these were counted count as one."""
    failed = max(attempts, sums.failed)
    tried = sums.calls - sums.refused - sums.failed + failed
    return failed / tried if tried > 0 else None


def step_of(value: float | None, of: HeatOf) -> int:
    """Which colour a value has."""
    steps = HEAT_STEPS[of]
    if value is None:
        return 0
    return next((place for place, most in enumerate(steps) if value <= most), len(steps))


class HealthDesk:
    """Puts the maps and lines together. Reading costs the same however many calls there were."""

    def __init__(
        self, usage: UsageSums, first_tokens: FirstTokens, attempts: FailedAttempts
    ) -> None:
        self._usage = usage
        self._first_tokens = first_tokens
        self._attempts = attempts

    async def last_errors(self) -> Mapping[str, LastError]:
        return await self._attempts.last_errors()

    async def failed(self, since_ms: int, until_ms: int) -> Mapping[str, int]:
        """Attempts that failed in this time, by deployment."""
        found: dict[str, int] = {}
        by_hour = await self._attempts.failed(since_ms, until_ms, HOUR_MS)
        for (name, _), attempts in by_hour.items():
            found[name] = found.get(name, 0) + attempts
        return found

    async def heat(self, since_ms: int, until_ms: int, slot_ms: int, of: HeatOf) -> Heat:
        slots = list(range(since_ms // slot_ms * slot_ms, until_ms, slot_ms))
        sums = await self._sums(slots[0], until_ms, Cut(), slot_ms)
        failed = await self._attempts.failed(slots[0], until_ms, slot_ms)
        p95: dict[tuple[str, int], float | None] = {}
        if of == "first_token":
            spreads = await self._first_tokens.spreads(
                "deployment", slots[0], until_ms, Cut(), slot_ms
            )
            p95 = {(row.group, row.at_ms): row.spread.at(0.95) for row in spreads}
        rows: dict[str, list[Cell | None]] = {}
        for name in sorted({name for name, _ in (*sums, *failed)} - {""}):
            cells: list[Cell | None] = []
            for at_ms in slots:
                here = sums.get((name, at_ms), CallSums(""))
                attempts = failed.get((name, at_ms), 0)
                if not here.calls and not attempts:
                    cells.append(None)
                    continue
                share = failed_share(here, attempts)
                value = share if of == "errors" else p95.get((name, at_ms))
                cells.append(
                    Cell(here.calls, max(attempts, here.failed), value, step_of(value, of))
                )
            rows[name] = cells
        return Heat(slots, slot_ms, rows)

    async def pace(self, deployment: str, since_ms: int, until_ms: int, slot_ms: int) -> Pace:
        slots = list(range(since_ms // slot_ms * slot_ms, until_ms, slot_ms))
        cut = Cut.of({"deployment": [deployment]})
        sums = await self._sums(slots[0], until_ms, cut, slot_ms)
        failed = await self._attempts.failed(slots[0], until_ms, slot_ms)
        spreads = await self._first_tokens.spreads(None, slots[0], until_ms, cut, slot_ms)
        by_slot = {row.at_ms: row.spread for row in spreads}
        here = [sums.get((deployment, at_ms), CallSums("")) for at_ms in slots]
        return Pace(
            slots,
            slot_ms,
            {
                name: [by_slot[at].at(share) if at in by_slot else None for at in slots]
                for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
            },
            [
                failed_share(each, failed.get((deployment, at_ms), 0))
                for at_ms, each in zip(slots, here, strict=True)
            ],
            [each.tokens_per_s for each in here],
        )

    async def _sums(
        self, since_ms: int, until_ms: int, cut: Cut, slot_ms: int
    ) -> dict[tuple[str, int], CallSums]:
        rows = await self._usage.usage(("deployment",), since_ms, until_ms, cut, slot_ms, _NEEDED)
        found: dict[tuple[str, int], CallSums] = {}
        for row in rows:  # one for each currency
            place = row.group[0], row.at_ms
            known = found.get(place)
            found[place] = row.sums if known is None else added("", [known, row.sums])
        return found


_NEEDED = ("calls", "refused", "failed", "generated_tokens", "generating_ms")
