"""`Retry-After` and `retry-after-ms`, as upstreams send them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_S = 1e9
"""A wait nobody waits for: 30 years."""


def parse_retry_after(
    retry_after_ms: bytes | None, retry_after: bytes | None, now: datetime | None = None
) -> float | None:
    """Seconds to wait, never negative; `None` when neither header says anything usable.

    `retry_after_ms` wins. `retry_after` is a number of seconds or an HTTP date. A number too large
    to be a wait is a point in time (see `from_now_s`).
    """
    for value, unit_s in ((retry_after_ms, 0.001), (retry_after, 1.0)):
        if value is None:
            continue
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):
            is_moment = MOMENT_MIN <= number < _EPOCH_MAX
            return max(0.0, from_now_s(number, now) if is_moment else number * unit_s)
        if number > 0 and value.strip(b" \t+")[:1].isdigit():
            return LONGEST_S  # digits beyond any float, where "inf" is no number
    if retry_after is None:
        return None
    return _until_s(retry_after.decode("latin-1"), now)


_RESET = re.compile(
    r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?!s))?(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+(?:\.\d+)?)ms)?"
)


def parse_rate_limit_reset(value: bytes | None, now: datetime | None = None) -> float | None:
    """Seconds until an `x-ratelimit-reset-*` header's time: OpenAI's ``6m0s`` or ``20ms``, or plain
    seconds; some gateways send a point in time: epoch seconds or milliseconds, or a date. `None` if
    it says nothing usable."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    try:
        seconds = float(text)
    except ValueError:
        found = _RESET.fullmatch(text)
        if not text or found is None:
            return _until_s(text, now)
        hours, minutes, whole, ms = (float(part or 0) for part in found.group("h", "m", "s", "ms"))
        seconds = hours * 3600 + minutes * 60 + whole + ms / 1000
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return max(0.0, from_now_s(seconds, now))


MOMENT_MIN = 1e9
"""A number from here on (2001 as epoch seconds, 31 years as a wait) is a point in time, not a
wait."""
_EPOCH_S_MAX = 1e11
"""Epoch seconds of the year 5138; a larger number counts milliseconds or less."""
_EPOCH_MAX = 1e20
"""Epoch nanoseconds of that year; a larger number is no point in time in any unit."""


def from_now_s(number: float, now: datetime | None = None) -> float:
    """Seconds to wait, from a number that is a wait or a point in time since 1970, in seconds or a
    smaller unit; below zero if that time has passed."""
    if not MOMENT_MIN <= number < _EPOCH_MAX:
        return number
    while number >= _EPOCH_S_MAX:
        number /= 1000
    return number - (now or datetime.now(UTC)).timestamp()


def _until_s(text: str, now: datetime | None) -> float | None:
    """Seconds until a date, an HTTP date or ISO 8601; never negative."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(text.strip())
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
        except (ValueError, OverflowError, TypeError, IndexError):
            continue  # the library's errors for years and zones that do not exist
    return None


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
