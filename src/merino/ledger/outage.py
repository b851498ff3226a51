"""How long SQLite has refused to write: locked by another program, full, damaged.

An outage begins with a failed write and ends with a successful one, so an idle relay sees none.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import structlog

from merino.domain.errors import StoreUnavailable

WAIT_S = 5.0
_RETRY_AFTER_S_MIN = 1.0
_RETRY_AFTER_S_MAX = 10.0

log = structlog.get_logger("merino.storage")


class Outage:
    """After `wait_s` it `is_long`: too long to accept calls on trust."""

    def __init__(self, wait_s: float = WAIT_S, clock: Callable[[], float] = monotonic) -> None:
        self.error: Exception | None = None
        self.is_long = False
        self._wait_s = wait_s
        self._clock = clock
        self._began_at = 0.0

    @property
    def lasts_s(self) -> float:
        return 0.0 if self.error is None else self._clock() - self._began_at

    def go_on(self, error: Exception) -> None:
        """A write failed."""
        if self.error is None:
            self._began_at = self._clock()
        self.error = error
        if not self.is_long and self.lasts_s >= self._wait_s:
            self.is_long = True
            log.error("the database cannot be written; new calls are refused", reason=str(error))

    def end(self) -> None:
        """A write succeeded."""
        if self.is_long:
            log.info("the database can be written again", after_s=round(self.lasts_s, 1))
        self.error, self.is_long = None, False

    def refusal(self, calls: int) -> StoreUnavailable:
        """The error for a call. The best guess of how long the outage will still last is how long
        it has lasted."""
        if self.is_long:
            why = f"The database has not taken a write for {self.lasts_s:.0f} s ({self.error})"
        else:
            why = f"{calls} finished calls wait for the database"
            why += "" if self.error is None else f" ({self.error})"
        return StoreUnavailable(
            f"{why}, so new calls are refused; the relay takes them again by itself once it can "
            "write. Try again.",
            code="store_unavailable",
            retry_after_s=min(max(self.lasts_s, _RETRY_AFTER_S_MIN), _RETRY_AFTER_S_MAX),
        )
