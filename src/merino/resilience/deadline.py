"""One point in time by which a call must have ended, whatever it is doing."""

from __future__ import annotations

from typing import NamedTuple


class Deadline(NamedTuple):
    """`at_s` is a reading of the caller's monotonic clock; infinity is no deadline."""

    at_s: float

    @classmethod
    def after(cls, timeout_s: float | None, now: float) -> Deadline:
        return cls(float("inf") if timeout_s is None else now + timeout_s)

    def remaining_s(self, now: float) -> float:
        """Never negative."""
        return max(0.0, self.at_s - now)

    def is_over(self, now: float) -> bool:
        return now >= self.at_s

    def allows(self, wait_s: float, now: float) -> bool:
        """Whether there is something left after waiting that long."""
        return now + wait_s < self.at_s
