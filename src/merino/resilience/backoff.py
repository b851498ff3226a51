"""How long to wait before trying again."""

from __future__ import annotations

from collections.abc import Callable

_DOUBLINGS_MAX = 60


def full_jitter_s(
    retry: int, *, base_s: float, max_s: float, uniform: Callable[[float, float], float]
) -> float:
    """A wait drawn evenly from 0 to ``min(max_s, base_s * 2 ** retry)``; `retry` counts from 0.

    "Full jitter" of M. Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015: it
    spreads those who failed together better than any other schedule of the same mean.
    """
    bound_s = min(max_s, base_s * 2.0 ** min(retry, _DOUBLINGS_MAX))
    return uniform(0.0, bound_s)


def wait_s(
    retry: int,
    *,
    base_s: float,
    max_s: float,
    retry_after_s: float | None,
    uniform: Callable[[float, float], float],
) -> float:
    """As `full_jitter_s`, but never shorter than the server asked for."""
    drawn_s = full_jitter_s(retry, base_s=base_s, max_s=max_s, uniform=uniform)
    return drawn_s if retry_after_s is None else max(drawn_s, retry_after_s)
