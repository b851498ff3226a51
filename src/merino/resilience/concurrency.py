"""How many calls at once a deployment bears, found by trying."""

from __future__ import annotations

_KNEE_SHARE = 0.9
_FEWER_SHARE = 0.85
_HELPED_SHARE = 0.95


class AdaptiveLimit:
    """Additive increase, multiplicative decrease (Chiu and Jain, 1989, as in TCP): one more for
    every `limit` calls that went well while it was used, `backoff` times as many after an overload,
    at most once per `cooldown_s`.

    With `quick` it doubles instead, until the first overload, and after each overload up to nine
    tenths of where that one was: as TCP's slow start with its threshold. Little of what an upstream
    allows is then left unused, however often it says that it is too much."""

    __slots__ = (
        "_backoff",
        "_cooldown_s",
        "_decreased_at",
        "_is_quick",
        "_knee",
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
        quick: bool = False,
    ) -> None:
        self._is_quick = quick
        self._knee = limit_max if quick else 0.0
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
            step = 1.0 if self._limit < self._knee else 1.0 / self._limit
            self._limit = min(self._max, self._limit + step)

    def overloaded(self, now: float) -> None:
        """A timeout, or the deployment said that it was too much."""
        if now - self._decreased_at >= self._cooldown_s:
            self._knee = self._limit * _KNEE_SHARE if self._is_quick else 0.0
            self._limit = max(self._min, self._limit * self._backoff)
            self._decreased_at = now

    def strained(self, share: float, *, is_first: bool) -> None:
        """Calls take longer the more of them there are: go down to this share. `is_first`: the
        round before was not strained, so that this is about where it begins."""
        if is_first:
            self._knee = min(self._knee, self._limit * _KNEE_SHARE)
        self._limit = max(self._min, self._limit * share)


class Strain:
    """Whether calls take longer than they need to, as they do where they wait for each other.

    Their mean is taken over rounds of calls; strained is a round that took `tolerance` times as
    long as the quickest so far, and `margin_s` longer: less may be this machine's own. Fewer calls
    at once should then be quicker: where they are not, it is the calls themselves that take longer,
    and that is normal from then on.
    """

    __slots__ = (
        "_at_once",
        "_before",
        "_count",
        "_margin_s",
        "_quickest_s",
        "_samples",
        "_sum_s",
        "_tolerance",
    )

    def __init__(self, *, tolerance: float = 2.0, margin_s: float = 0.25) -> None:
        self._tolerance = tolerance
        self._margin_s = margin_s
        self._quickest_s = float("inf")
        self._before: tuple[float, float] | None = None
        """Mean time, and calls at once, of the round that was strained first."""
        self._sum_s = 0.0
        self._at_once = 0
        self._count = 0
        self._samples = 0

    @property
    def is_strained(self) -> bool:
        """Whether the last round was: nothing should grow now."""
        return self._before is not None

    def observe(self, latency_s: float, at_once: int, samples: int) -> bool:
        """A call that went well, begun as one of `at_once`. A round that begins with it takes
        `samples` calls. True once for each strained round: there should be fewer at once."""
        if not self._count:
            self._samples = samples
        self._sum_s += latency_s
        self._at_once += at_once
        self._count += 1
        if self._count < self._samples:
            return False
        mean_s, mean_at_once = self._sum_s / self._count, self._at_once / self._count
        self._sum_s, self._at_once, self._count = 0.0, 0, 0
        most_s = max(self._quickest_s * self._tolerance, self._quickest_s + self._margin_s)
        if mean_s <= most_s:
            self._quickest_s = min(self._quickest_s, mean_s)
            self._before = None
            return False
        if self._before is None:
            self._before = mean_s, mean_at_once
        before_s, before_at_once = self._before
        is_fewer = mean_at_once <= before_at_once * _FEWER_SHARE
        if is_fewer and mean_s > before_s * _HELPED_SHARE:
            self._quickest_s = mean_s
            self._before = None
            return False
        return True
