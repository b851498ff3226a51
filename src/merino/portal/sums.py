"""What an account has used over a window that ends now."""

from __future__ import annotations

from collections.abc import Mapping

from merino.control.overview import CallSums, SumBy, added
from merino.control.usage import Cut, Span
from merino.domain.clock import DAY_MS, epoch_ms
from merino.portal.visits import PortalDesk

WINDOWS_MS: Mapping[str, int] = {"24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}


async def used(desk: PortalDesk, account_id: str, window: str) -> CallSums:
    since_ms, until_ms = _span(window)
    rows = await desk.usage.usage((), since_ms, until_ms, _of(account_id))
    return added("", [row.sums for row in rows])


async def used_by(
    desk: PortalDesk, account_id: str, window: str, by: SumBy
) -> Mapping[str, CallSums]:
    """By model or key, the dearest first."""
    since_ms, until_ms = _span(window)
    rows = await desk.usage.usage((by,), since_ms, until_ms, _of(account_id))
    dearest = sorted(rows, key=lambda row: (-row.sums.charged_nanos, row.group))
    return {row.group[0]: row.sums for row in dearest}


async def used_over_time(
    desk: PortalDesk, account_id: str, window: str
) -> tuple[int, Mapping[int, CallSums]]:
    """The length of a slot, and by when each begins what it had; also of those without a call."""
    since_ms, until_ms = _span(window)
    span = Span(since_ms, until_ms, since_ms, since_ms)
    rows = await desk.usage.usage((), since_ms, until_ms, _of(account_id), span.slot_ms)
    found = {row.at_ms: row.sums for row in rows}
    return span.slot_ms, {at_ms: found.get(at_ms, CallSums("")) for at_ms in span.slots}


def _span(window: str) -> tuple[int, int]:
    now_ms = epoch_ms()
    return now_ms - WINDOWS_MS[window], now_ms + 1


def _of(account_id: str) -> Cut:
    return Cut.of({"account": [account_id]})
