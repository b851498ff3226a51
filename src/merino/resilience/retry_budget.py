"""How much extra traffic may be made of a deployment's calls."""

from __future__ import annotations

RESERVE_WINDOW_S = 10.0


class RetryBudget:
    """Every call pays in `share`, every extra attempt takes out 1; besides, `reserve` of them are
    allowed per ten seconds so that quiet deployments are retried too.

    Extra attempts over any stretch are at most ``share * calls + reserve * (stretch / 10 s + 1) +
    burst``. After Finagle's `RetryBudget`.
    """

    __slots__ = ("_at", "_balance", "_balance_max", "_burst", "_reserve_per_s", "share")

    def __init__(self, share: float, reserve: int, now: float, *, burst: int = 10) -> None:
        self.share = share
        self._reserve_per_s = reserve / RESERVE_WINDOW_S
        self._balance = float(reserve)
        self._burst = burst
        self._balance_max = float(max(reserve, burst))
        self._at = now

    @property
    def reserve(self) -> int:
        return round(self._reserve_per_s * RESERVE_WINDOW_S)

    def configure(self, share: float, reserve: int) -> None:
        """Other terms from now on; what was saved stays, as far as there is room for it."""
        self.share = share
        self._reserve_per_s = reserve / RESERVE_WINDOW_S
        self._balance_max = float(max(reserve, self._burst))
        self._balance = min(self._balance, self._balance_max)

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
