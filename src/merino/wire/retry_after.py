"""`Retry-After` and `retry-after-ms`, as upstreams send them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_retry_after(
    retry_after_ms: bytes | None, retry_after: bytes | None, now: datetime | None = None
) -> float | None:
    """Seconds to wait, never negative; `None` when neither header says anything usable.

    `retry_after_ms` wins. `retry_after` is a number of seconds or an HTTP date.
    """
    for value, unit_s in ((retry_after_ms, 0.001), (retry_after, 1.0)):
        if value is None:
            continue
        try:
            seconds = float(value) * unit_s
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    if retry_after is None:
        return None
    try:
        moment = parsedate_to_datetime(retry_after.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
