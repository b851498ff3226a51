"""Notices when this process did not run for a while: it was stopped, its machine was paused, or
its event loop was blocked. What took too long meanwhile was nobody else's fault."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

LATE_S = 1.0
"""A clock that is looked at five times a second, and was not for so long, stood still."""
_REMEMBERED_MAX = 16


class Standstill:
    """`begin`, then `note` again and again; `note` wherever a timer of some length has gone off,
    too, since that may be the first that runs again. Readings are of one monotonic clock."""

    def __init__(self) -> None:
        self._noted_at: float | None = None
        self._times: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED_MAX)
        self._listeners: list[Callable[[float, float], None]] = []

    def subscribe(self, on_lost: Callable[[float, float], None]) -> None:
        """Hear of every standstill when it is noticed: how long it was, and what time it is."""
        self._listeners.append(on_lost)

    def begin(self, now: float) -> None:
        """From now on it is looked at regularly."""
        self._noted_at = now

    def end(self) -> None:
        """Nobody looks any more, so nothing can be said."""
        self._noted_at = None

    def note(self, now: float) -> float:
        """The process runs. Returns for how long it did not; mostly 0."""
        noted_at = self._noted_at
        if noted_at is None:
            return 0.0
        self._noted_at = now
        lost_s = now - noted_at
        if lost_s < LATE_S:
            return 0.0
        self._times.append((noted_at, now))
        for each in self._listeners:
            each(lost_s, now)
        return lost_s

    def lost_since(self, since: float, now: float) -> float:
        """How much of the time from `since` to `now` the process did not run."""
        self.note(now)
        return sum(
            max(0.0, min(end, now) - max(begin, since)) for begin, end in self._times if end > since
        )
