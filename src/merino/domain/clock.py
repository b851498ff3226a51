"""Time as everybody here counts it: milliseconds since 1970, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from time import time_ns

HOUR_MS = 3_600_000
DAY_MS = 86_400_000


def epoch_ms() -> int:
    """Now."""
    return time_ns() // 1_000_000


def iso(at_ms: int) -> str:
    """ISO 8601 to the millisecond: ``2026-11-29T08:00:00.000Z``. Beyond the year 9999, its end."""
    try:
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.max.replace(tzinfo=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
