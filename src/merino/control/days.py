"""How each of the last days was: what calls got, how long deployments were out, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from merino.control.overview import CallSums, Outage, added
from merino.domain.clock import DAY_MS

DAYS = 90
CAUSES_MAX = 3
_BAD_TIMES = 5
"""A day that missed by so many times what may be missed is a bad one."""


DayGrade = Literal["none", "good", "warn", "bad"]
"""`none`: nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Day:
    """A day in UTC. `out_ms` is how long at least one deployment took no calls, `causes` why."""

    at_ms: int
    calls: int
    answered_share: float | None
    out_ms: int
    causes: tuple[str, ...]

    def grade(self, objective: float) -> DayGrade:
        share = self.answered_share
        if share is None and not self.out_ms:
            return "none"
        if share is not None and share < 1 - (1 - objective) * _BAD_TIMES:
            return "bad"
        return "warn" if self.out_ms or (share is not None and share < objective) else "good"


@dataclass(frozen=True, slots=True)
class Month:
    """Such as ``2026-11``, in UTC, as far as it has come. `answered_share` is `None` without
    calls."""

    name: str
    calls: int
    answered_share: float | None


def months_of(sums: Mapping[int, CallSums], number: int = 2) -> list[Month]:
    """The newest first, of days by when they begin; only those that had calls."""
    by_month: dict[str, list[CallSums]] = {}
    for at_ms, each in sums.items():
        name = f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m}"
        by_month.setdefault(name, []).append(each)
    whole = {name: added(name, days) for name, days in by_month.items()}
    found = [Month(name, each.calls, each.answered_share) for name, each in whole.items()]
    return sorted(found, key=lambda each: each.name, reverse=True)[:number]


def days_of(
    sums: Mapping[int, CallSums], outages: Sequence[Outage], now_ms: int, days: int = DAYS
) -> list[Day]:
    """The oldest first; `sums` by when a day begins."""
    today = now_ms // DAY_MS * DAY_MS
    found: list[Day] = []
    for at_ms in range(today - (days - 1) * DAY_MS, today + 1, DAY_MS):
        spans, causes = _out_within(outages, at_ms, min(at_ms + DAY_MS, now_ms))
        each = sums.get(at_ms, CallSums(""))
        found.append(Day(at_ms, each.calls, each.answered_share, _length(spans), causes))
    return found


def _out_within(
    outages: Sequence[Outage], since_ms: int, until_ms: int
) -> tuple[list[tuple[int, int]], tuple[str, ...]]:
    spans: list[tuple[int, int]] = []
    causes: dict[str, None] = {}
    for outage in sorted(outages, key=lambda each: each.began_ms):
        began = max(outage.began_ms, since_ms)
        ended = min(until_ms if outage.ended_ms is None else outage.ended_ms, until_ms)
        if began < ended:
            spans.append((began, ended))
            causes[outage.reason] = None
    return spans, tuple(causes)[:CAUSES_MAX]


def _length(spans: Sequence[tuple[int, int]]) -> int:
    """Of all together; what overlaps counts once. `spans` begin in order."""
    length, end = 0, 0
    for began, ended in spans:
        length += max(0, ended - max(began, end))
        end = max(end, ended)
    return length
