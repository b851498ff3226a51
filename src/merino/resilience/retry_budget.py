"""How much extra traffic may be made of a deployment's calls."""

from __future__ import annotations

RESERVE_WINDOW_S = 10.0


class RetryBudget:
    """Every call pays in `share`, every extra attempt takes out 1; besides, `reserve` of them are
    allowed per ten seconds so that quiet deployments are retried too.

    Extra attempts over any stretch are at most ``share * calls + reserve * (stretch / 10 s + 1) +
    burst``. After Finagle's `RetryBudget`.
    """

    __slots__ = ("_at", "_balance", "_balance_max", "_reserve_per_s", "share")

    def __init__(self, share: float, reserve: int, now: float, *, burst: int = 10) -> None:
        self.share = share
        self._reserve_per_s = reserve / RESERVE_WINDOW_S
        self._balance = float(reserve)
        self._balance_max = float(max(reserve, burst))
        self._at = now

    def call(self) -> None:
        """A call was made."""
        balance = self._balance + self.share
        self._balance = min(self._balance_max, balance)

    def try_take(self, now: float) -> bool:
        """Whether one more attempt is allowed; if so, it is paid for."""
        if now > self._at:
            paid_in = (now - self._at) * self._reserve_per_s
            self._balance = min(self._balance_max, self._balance + paid_in)
            self._at = now
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True
