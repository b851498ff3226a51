"""`Retry-After` and `retry-after-ms`, as upstreams send them."""

from __future__ import annotations

import math
import re
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
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, OverflowError, TypeError, IndexError):
        return None  # what the library makes of years and zones that there are not


_RESET = re.compile(
    r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?!s))?(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+(?:\.\d+)?)ms)?"
)


def parse_rate_limit_reset(value: bytes | None) -> float | None:
    """Seconds of an `x-ratelimit-reset-*` header: OpenAI's ``6m0s`` or ``20ms``, or plain seconds;
    `None` if it says nothing usable."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    try:
        seconds = float(text)
    except ValueError:
        found = _RESET.fullmatch(text)
        if not text or found is None:
            return None
        hours, minutes, whole, ms = (float(part or 0) for part in found.group("h", "m", "s", "ms"))
        seconds = hours * 3600 + minutes * 60 + whole + ms / 1000
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WORDS = {"mil": "ms", "sec": "s", "min": "m", "hou": "h", "hrs": "h", "day": "d"}
_PIECE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def parse_duration(text: str) -> float | None:
    """Seconds of ``58.9s`` (Google), ``6m0s`` (OpenAI), ``20 seconds``; `None` if it is none."""
    text = text.strip(" .").lower()
    seconds, position = 0.0, 0
    while position < len(text):
        found = _PIECE.match(text, position)
        if found is None:
            return None
        number, unit = found.groups()
        unit_s = _UNITS_S.get(_WORDS.get(unit[:3], unit))
        if unit_s is None:
            return None
        seconds += float(number) * unit_s
        position = found.end()
        while text[position : position + 1] == " ":
            position += 1
    return seconds if text and math.isfinite(seconds) else None
