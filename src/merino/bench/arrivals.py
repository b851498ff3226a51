"""When calls are due: decided before the run, whatever the server then does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from merino.domain.chance import chance_of

ArrivalKind = Literal["poisson", "constant"]


def arrivals(rate_per_s: float, kind: ArrivalKind, seed: int = 0) -> Iterator[float]:
    """Moments in seconds from 0 on, without end.

    `constant`: one every ``1 / rate``. `poisson`: gaps drawn from the exponential distribution with
    that mean, as callers who know nothing of each other come.
    """
    if not rate_per_s > 0:
        raise ValueError("a rate must be above zero")
    chance = chance_of(seed)
    number = 0
    due = 0.0
    while True:
        yield due
        number += 1
        # Multiplied, not added up, so that no rounding error grows.
        due = number / rate_per_s if kind == "constant" else due + chance.expovariate(rate_per_s)


def replayed(timestamps_ms: Iterable[float], speed: float = 1.0) -> Iterator[float]:
    """The moments of a trace, from its first on; `speed` 2 plays it in half the time."""
    first: float | None = None
    for moment_ms in timestamps_ms:
        if first is None:
            first = moment_ms
        yield (moment_ms - first) / 1000 / speed
