"""What a client did: counted, summed up, and handed to whoever wants to know."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

SAMPLES_MAX = 10_000
"""Latencies kept for percentiles: the last so many."""


@dataclass(frozen=True, slots=True)
class AttemptEvent:
    """One request that was sent. `status` is 0 when no answer came; `error` says why. `is_hedge`:
    it was sent because another one of the same call was slow."""

    endpoint: str
    status: int
    error: str
    duration_s: float
    will_retry: bool
    is_hedge: bool = False


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One call, to the end of its answer: a stream's when it was read, closed, or broke. `attempts`
    counts hedges, too. `duration_s` is the time spent with the servers; `waited_s`, which is not
    part of it, that spent waiting for limits and between attempts."""

    endpoint: str
    status: int
    error: str
    attempts: int
    duration_s: float
    waited_s: float


class MetricsSink(Protocol):
    """Hears of every attempt and call. Called on the calling thread or loop: be quick, do not
    raise."""

    def attempt(self, event: AttemptEvent) -> None: ...

    def call(self, event: CallEvent) -> None: ...


class ClientMetrics:
    """Counts of one client. Durations in milliseconds; `print(client.metrics)` shows a table.

    `ttft_ms` is the time to the first content of streams, where the caller told us
    (`observe_first_token`). `total_tokens` is what answers said they used; a stream's usage is
    known only if the caller tells it (`observe_tokens`). What nobody told is `None`, not zero.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = 0
        self.succeeded = 0
        self.failed = 0
        self.retries = 0
        self.hedges = 0
        self.hedges_won = 0
        self.total_tokens: int | None = None
        self.errors: Counter[str] = Counter()
        self._latencies_ms: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._total_latency_ms = 0.0
        self._first_token_ms: deque[float] = deque(maxlen=SAMPLES_MAX)

    def attempt(self, event: AttemptEvent) -> None:
        if event.will_retry or event.is_hedge:
            with self._lock:
                self.retries += event.will_retry
                self.hedges += event.is_hedge
                self.hedges_won += event.is_hedge and 0 < event.status < 400

    def call(self, event: CallEvent) -> None:
        with self._lock:
            self.calls += 1
            if 0 < event.status < 400:
                self.succeeded += 1
                self._latencies_ms.append(event.duration_s * 1000)
                self._total_latency_ms += event.duration_s * 1000
            else:
                self.failed += 1
                self.errors[event.error or str(event.status)] += 1

    def observe_no_answer(self) -> None:
        """What was taken for an answer was none: its call failed after all."""
        with self._lock:
            self.succeeded -= 1
            self.failed += 1
            self.errors["NoAnswer"] += 1

    def observe_first_token(self, seconds: float) -> None:
        with self._lock:
            self._first_token_ms.append(seconds * 1000)

    def observe_tokens(self, tokens: int) -> None:
        with self._lock:
            self.total_tokens = (self.total_tokens or 0) + tokens

    def summary(self) -> dict[str, Any]:
        """The guide's keys, and p90, time to first token, retries and hedges. `None`: unknown."""
        with self._lock:
            latencies = sorted(self._latencies_ms)
            first = sorted(self._first_token_ms)
            return {
                "total_requests": self.calls,
                "success_rate": self.succeeded / self.calls * 100 if self.calls else 0.0,
                "avg_latency_ms": (
                    self._total_latency_ms / self.succeeded if self.succeeded else None
                ),
                "p50_latency_ms": _percentile(latencies, 0.50),
                "p90_latency_ms": _percentile(latencies, 0.90),
                "p99_latency_ms": _percentile(latencies, 0.99),
                "p50_ttft_ms": _percentile(first, 0.50),
                "p99_ttft_ms": _percentile(first, 0.99),
                "total_tokens": self.total_tokens,
                "retries": self.retries,
                "hedges": self.hedges,
                "hedges_won": self.hedges_won,
                "error_breakdown": dict(self.errors),
            }

    def __str__(self) -> str:
        rows = [(name, _shown(value)) for name, value in self.summary().items()]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def percentile(ordered: Sequence[float], q: float) -> float:
    """The nearest-rank percentile of sorted values; 0 if there are none."""
    if not ordered:
        return 0.0
    rank = max(1, -int(-len(ordered) * q // 1))
    return ordered[min(rank, len(ordered)) - 1]


def _percentile(ordered: Sequence[float], q: float) -> float | None:
    return percentile(ordered, q) if ordered else None


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) else str(value)
