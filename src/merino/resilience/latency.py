"""What is known of a deployment's latency, and who is quickest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import exp
from typing import TypeVar

T = TypeVar("T")


class PeakEwma:
    """A mean that follows a rise at once and a fall with time constant `tau_s`, so that one slow
    answer is noticed and then forgotten. After Finagle's "Peak EWMA" load balancer."""

    __slots__ = ("_at", "_tau_s", "value_s")

    def __init__(self, tau_s: float = 10.0) -> None:
        self._tau_s = tau_s
        self._at = 0.0
        self.value_s = 0.0

    def observe(self, seconds: float, now: float) -> None:
        if seconds > self.value_s:
            self.value_s = seconds
        else:
            weight = exp(-max(0.0, now - self._at) / self._tau_s)
            self.value_s = self.value_s * weight + seconds * (1.0 - weight)
        self._at = now

    def faded_s(self, now: float) -> float:
        """The value as far as it can still be believed: who is left alone because of a peak would
        else never be tried again."""
        return self.value_s * exp(-max(0.0, now - self._at) / self._tau_s)


class RollingQuantile:
    """A quantile of the last `size` values; `None` until there are `samples_min`. Worked out anew
    for every 16th value."""

    __slots__ = ("_q", "_samples_min", "_seen", "_values", "value")

    def __init__(self, q: float, *, samples_min: int, size: int = 1000) -> None:
        self._q = q
        self._samples_min = samples_min
        self._values: deque[float] = deque(maxlen=max(size, samples_min))
        self._seen = 0
        self.value: float | None = None

    @property
    def samples_min(self) -> int:
        return self._samples_min

    def configure(self, samples_min: int) -> None:
        """Fewer or more values before anything is said; those that are known stay."""
        if samples_min == self._samples_min:
            return
        self._samples_min = samples_min
        self._values = deque(self._values, maxlen=max(self._values.maxlen or 0, samples_min))
        self.value = None
        if self._seen >= samples_min and self._values:
            self._rank()

    def observe(self, value: float) -> None:
        self._values.append(value)
        self._seen += 1
        if self._seen >= self._samples_min and (self.value is None or self._seen % 16 == 0):
            self._rank()

    def _rank(self) -> None:
        ordered = sorted(self._values)
        self.value = ordered[min(len(ordered) - 1, int(len(ordered) * self._q))]


def better_of_two(
    candidates: Sequence[T], cost: Callable[[T], float], pick: Callable[[int], int]
) -> T:
    """The cheaper of two drawn at random: nearly as good as the best of all, and no herd runs to
    whoever was best a moment ago (Mitzenmacher, *The Power of Two Choices*, 2001). `pick(n)` draws
    an index below n."""
    if len(candidates) == 1:
        return candidates[0]
    first = pick(len(candidates))
    second = pick(len(candidates) - 1)
    if second >= first:
        second += 1
    one, other = candidates[first], candidates[second]
    return one if cost(one) <= cost(other) else other
