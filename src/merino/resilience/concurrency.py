"""How many calls at once a deployment bears, found by trying."""

from __future__ import annotations


class AdaptiveLimit:
    """Additive increase, multiplicative decrease (Chiu and Jain, 1989, as in TCP): one more for
    every `limit` calls that went well while it was used, `backoff` times as many after an overload,
    at most once per `cooldown_s`. With `slow_start` it doubles instead until the first overload."""

    __slots__ = (
        "_backoff",
        "_cooldown_s",
        "_decreased_at",
        "_is_starting",
        "_limit",
        "_max",
        "_min",
    )

    def __init__(
        self,
        start: float = 20.0,
        *,
        limit_min: float = 1.0,
        limit_max: float = 1000.0,
        backoff: float = 0.5,
        cooldown_s: float = 1.0,
        slow_start: bool = False,
    ) -> None:
        self._is_starting = slow_start
        self._limit = start
        self._min = limit_min
        self._max = limit_max
        self._backoff = backoff
        self._cooldown_s = cooldown_s
        self._decreased_at = float("-inf")

    @property
    def limit(self) -> int:
        return int(self._limit)

    def succeeded(self, in_flight: int) -> None:
        """`in_flight` counts the call that succeeded. An unused limit proves nothing."""
        if in_flight * 2 >= self._limit:
            step = 1.0 if self._is_starting else 1.0 / self._limit
            self._limit = min(self._max, self._limit + step)

    def overloaded(self, now: float) -> None:
        """A timeout, or the deployment said that it was too much."""
        if now - self._decreased_at >= self._cooldown_s:
            self._limit = max(self._min, self._limit * self._backoff)
            self._decreased_at = now
            self._is_starting = False
