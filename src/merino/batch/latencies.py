"""How long calls took, of any number of them: buckets that are three percent wide."""

from __future__ import annotations

import math

_BUCKETS_PER_E = 32
_LEAST_S = 1e-4


class Latencies:
    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0

    def add(self, seconds: float) -> None:
        bucket = math.ceil(math.log(max(seconds, _LEAST_S)) * _BUCKETS_PER_E)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1

    def quantile(self, share: float) -> float:
        """At least this share took no longer; 0 where there are none."""
        wanted, seen = share * self.count, 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return math.exp(bucket / _BUCKETS_PER_E)
        return 0.0
