"""How each of the last days was: what calls got, how long deployments were out, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merino.control.overview import CallSums, Outage
from merino.domain.clock import DAY_MS

DAYS = 90
CAUSES_MAX = 3


@dataclass(frozen=True, slots=True)
class Day:
    """A day in UTC. `out_ms` is how long at least one deployment took no calls, `causes` why."""

    at_ms: int
    calls: int
    answered_share: float | None
    out_ms: int
    causes: tuple[str, ...]


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
