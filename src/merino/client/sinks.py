"""Ready sinks: the standard library's logging (structlog too), Prometheus, OpenTelemetry."""

from __future__ import annotations

import logging
import threading
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from merino.client.engine import LOST
from merino.client.metrics import AttemptEvent, CallEvent


class LoggingSink:
    """One line for each call, and a warning for each attempt that failed. `logger` is one of the
    standard library's or of structlog's."""

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger or logging.getLogger("merino.client")

    def attempt(self, event: AttemptEvent) -> None:
        if event.error == LOST:
            return  # it did nothing wrong but being slow, and the call goes on
        if event.error or event.status >= 400:
            self._logger.warning(
                "attempt at %s failed: %s%s",
                event.endpoint,
                event.error or event.status,
                ", trying again" if event.will_retry else "",
            )

    def call(self, event: CallEvent) -> None:
        self._logger.info(
            "call to %s: %s after %d attempts, %.0f ms",
            event.endpoint,
            event.error or event.status,
            event.attempts,
            event.duration_s * 1000,
        )


class PrometheusSink:
    """Counters and a histogram in a `prometheus_client` registry. Sinks with one registry count
    into the same metrics. Raises `ImportError` without that package."""

    _made: ClassVar[WeakKeyDictionary[Any, tuple[Any, Any, Any]]] = WeakKeyDictionary()
    _lock = threading.Lock()

    def __init__(self, registry: Any = None) -> None:
        from prometheus_client import REGISTRY

        into = registry or REGISTRY
        with self._lock:
            if into not in self._made:
                self._made[into] = self._metrics(into)
            self._calls, self._attempts, self._duration = self._made[into]

    @staticmethod
    def _metrics(registry: Any) -> tuple[Any, Any, Any]:
        from prometheus_client import Counter, Histogram

        labels = ["endpoint", "outcome"]
        return (
            Counter("merino_client_calls", "Calls by outcome", labels, registry=registry),
            Counter("merino_client_attempts", "Attempts by outcome", labels, registry=registry),
            Histogram(
                "merino_client_duration_seconds",
                "Time with the servers, to the end of the answer",
                ["endpoint"],
                buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250),
                registry=registry,
            ),
        )

    def attempt(self, event: AttemptEvent) -> None:
        self._attempts.labels(event.endpoint, event.error or str(event.status)).inc()

    def call(self, event: CallEvent) -> None:
        self._calls.labels(event.endpoint, event.error or str(event.status)).inc()
        self._duration.labels(event.endpoint).observe(event.duration_s)


class OpenTelemetrySink:
    """The same through an OpenTelemetry meter, under the names of its conventions for generative
    AI. `meter` is what `opentelemetry.metrics.get_meter` gives."""

    def __init__(self, meter: Any) -> None:
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", unit="s", description="Time per call"
        )
        self._attempts = meter.create_counter(
            "merino.client.attempts", description="Attempts by outcome"
        )

    def attempt(self, event: AttemptEvent) -> None:
        self._attempts.add(1, _attributes(event.endpoint, event.status, event.error))

    def call(self, event: CallEvent) -> None:
        self._duration.record(
            event.duration_s, _attributes(event.endpoint, event.status, event.error)
        )


def _attributes(endpoint: str, status: int, error: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {"server.address": endpoint}
    if status:
        attributes["http.response.status_code"] = status
    if error:
        attributes["error.type"] = error
    return attributes
