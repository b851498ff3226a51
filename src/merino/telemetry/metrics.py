"""Prometheus metrics, counted in plain Python and rendered only when scraped.

Names follow OpenTelemetry's GenAI conventions where those have one. Labels are aliases,
deployments, statuses, codes of errors: from the configuration or a closed set, so that no caller
and no upstream can add one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from merino.domain import errors
from merino.domain.call import CallRecord

REFUSED_SERIES_MAX = 200
SERIES_MAX = 2_000
"""More combinations of labels than this are counted under `other`."""

# OpenTelemetry's buckets for durations end at 82 s; reasoning models think longer.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
DURATION_BUCKETS_S = (*_SECONDS, 164.0, 328.0, 656.0)
LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
OVERHEAD_BUCKETS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)


@dataclass(slots=True)
class _Histogram:
    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        running, rows = 0, list[tuple[str, float]]()
        for bound, seen in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += seen
            rows.append((bound, running))
        return rows


@dataclass(slots=True)
class _Series:
    """Everything counted for one (alias, deployment, endpoint, status, error code), and the
    histograms of its alias at its deployment."""

    duration: _Histogram
    ttft: _Histogram
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    charged_nanos: int = 0
    upstream_nanos: int = 0
    overrun_nanos: int = 0
    failed_over: int = 0


# What the relay says itself, and of upstreams what OpenAI's reference knows; see
# docs/reference/errors.md.
_OWN_CODES = """
    account_disabled
    account_not_found balance_held batch_not_found call_exceeds_limit call_not_found caller_left
    duplicated_key empty_array endpoint_not_supported file_content_missing file_not_found
    idempotency_key_in_use idempotency_key_reused incomplete_upload insufficient_quota
    integer_above_max_value integer_below_min_value internal_error invalid_api_key
    invalid_authorization invalid_form invalid_json invalid_type invalid_value key_disabled
    key_expired key_not_found malformed_http max_cost_exceeded method_not_allowed
    missing_api_key missing_file missing_required_parameter other_dialect
    previous_response_elsewhere previous_response_not_found model_not_found model_not_priced
    no_deployment_available no_exchange_rate not_found rate_limit_exceeded request_timeout
    request_too_large shutting_down store_unavailable too_many_parts unknown_path
    upgrade_required upstream_answer_too_large upstream_broken upstream_connect_timeout
    upstream_connection_broken upstream_credential_refused upstream_credit_exhausted
    upstream_error upstream_event_too_large upstream_failed upstream_invalid_response
    upstream_pool_exhausted upstream_limit_ignored upstream_redirect upstream_stream_broken
    upstream_timeout upstream_unreachable websocket_busy websocket_connection_limit_reached
    array_above_max_length mutually_exclusive_parameters not_cancellable relay_restarted
    response_lost storage_full
"""
_VENDORS_CODES = """
    context_length_exceeded content_filter content_policy_violation invalid_image invalid_prompt
    server_error string_above_max_length tokens unknown_parameter unsupported_parameter
    unsupported_value
"""
KNOWN_ERRORS = frozenset(
    [
        *_OWN_CODES.split(),
        *_VENDORS_CODES.split(),
        *(name for name, each in vars(errors).items() if isinstance(each, type)),
    ]
)
OTHER = "other"
_KNOWN_STATUSES = frozenset([*map(int, HTTPStatus), 499, *range(520, 531)])


def _known_error(code: str | None) -> str | None:
    return code if code is None or code in KNOWN_ERRORS else OTHER


def _known_status(status: int) -> int | str:
    return status if status in _KNOWN_STATUSES else f"{status // 100}xx"


_Labels = tuple[str, str, str, "int | str", "str | None"]
_LABEL_NAMES = (
    "gen_ai_request_model",
    "deployment",
    "gen_ai_operation_name",
    "status",
    "error_type",
)
_OPERATIONS = {"chat/completions": "chat", "responses": "chat"}
"""What OpenTelemetry calls an endpoint, where it calls it something else."""


class Metrics:
    """`gateway.ports.Recorder`: a few additions per call."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._series: dict[_Labels, _Series] = {}
        self._duration: dict[tuple[str, str], _Histogram] = {}
        self._ttft: dict[tuple[str, str], _Histogram] = {}
        self._relay = _Histogram(OVERHEAD_BUCKETS_S)
        self._lag = _Histogram(LAG_BUCKETS_S)
        self.loop_lag = self._lag.observe
        """How late the event loop came, in seconds."""
        self._refused: dict[tuple[int, str], int] = {}
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._labelled: list[
            tuple[
                str,
                str,
                tuple[str, ...],
                Callable[[], Iterable[tuple[tuple[str, ...], float]]],
            ]
        ] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when scraped."""
        self._gauges.append((name, help_text, read))

    def labelled_gauge(
        self,
        name: str,
        help_text: str,
        labels: tuple[str, ...],
        read: Callable[[], Iterable[tuple[tuple[str, ...], float]]],
    ) -> None:
        """Add a gauge with labels that is read when scraped."""
        self._labelled.append((name, help_text, labels, read))

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def call_started(self) -> None:
        self._in_flight += 1

    def call_repeated(self) -> None:
        self._in_flight -= 1

    def request_refused(self, status: int, code: str) -> None:
        """A request that was refused before anybody was asked, whatever is kept of it."""
        labels = (status, code)
        if labels not in self._refused and len(self._refused) >= REFUSED_SERIES_MAX:
            labels = (status, "other")
        self._refused[labels] = self._refused.get(labels, 0) + 1

    def call_finished(self, record: CallRecord) -> None:
        self._in_flight -= 1
        series = self._series.get(
            (record.alias, record.deployment, record.endpoint, record.status, record.error_code)
        ) or self._new_series(record)
        series.calls += 1
        series.input_tokens += record.input_tokens
        series.output_tokens += record.output_tokens
        series.cached_tokens += record.cached_tokens
        series.reasoning_tokens += record.reasoning_tokens
        series.charged_nanos += record.charged_nanos
        series.upstream_nanos += record.upstream_nanos
        series.overrun_nanos += record.overrun_nanos
        if record.attempts:
            series.failed_over += len(record.attempts)
        series.duration.observe(record.duration_ms / 1000)
        self._relay.observe(record.relay_ms / 1000)
        if record.ttft_ms is not None:
            series.ttft.observe(record.ttft_ms / 1000)

    def _new_series(self, record: CallRecord) -> _Series:
        labels: _Labels = (
            record.alias,
            record.deployment,
            record.endpoint,
            _known_status(record.status),
            _known_error(record.error_code),
        )
        known = self._series.get(labels)
        if known is not None:
            return known
        if len(self._series) >= SERIES_MAX:
            labels = (OTHER, OTHER, OTHER, 0, None)
            if labels in self._series:
                return self._series[labels]
        series = self._series[labels] = _Series(
            _histogram(self._duration, labels[:2], DURATION_BUCKETS_S),
            _histogram(self._ttft, labels[:2], DURATION_BUCKETS_S),
        )
        return series

    def render(self) -> bytes:
        """The text a Prometheus server scrapes."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        counters = {
            "calls": ("merino_calls", "Calls answered, by outcome", 1.0),
            "input_tokens": ("gen_ai_client_inference_usage_input_tokens", "Input tokens", 1.0),
            "output_tokens": ("gen_ai_client_inference_usage_output_tokens", "Output tokens", 1.0),
            "cached_tokens": (
                "gen_ai_client_inference_usage_cache_read_input_tokens",
                "Input tokens read from a prompt cache",
                1.0,
            ),
            "reasoning_tokens": (
                "gen_ai_client_inference_usage_reasoning_output_tokens",
                "Output tokens spent reasoning",
                1.0,
            ),
            "charged_nanos": ("merino_charged", "Charged to accounts, in currency units", 1e-9),
            "upstream_nanos": ("merino_upstream_cost", "Charged to us by upstreams", 1e-9),
            "overrun_nanos": ("merino_overrun", "Cost above the holds", 1e-9),
            "failed_over": ("merino_failed_attempts", "Attempts that failed", 1.0),
        }
        for attribute, (name, help_text, unit) in counters.items():
            family = CounterMetricFamily(name, help_text, labels=_LABEL_NAMES)
            for (alias, deployment, endpoint, *rest), series in self._series.items():
                labels = (alias, deployment, _OPERATIONS.get(endpoint, endpoint), *rest)
                shown = [str(label or "") for label in labels]
                family.add_metric(shown, getattr(series, attribute) * unit)
            yield family
        refused = CounterMetricFamily(
            "merino_refused_requests",
            "Requests refused before an upstream was asked",
            labels=("status", "error_type"),
        )
        for (status, code), count in self._refused.items():
            refused.add_metric((str(status), code), count)
        yield refused
        for name, help_text, histograms in (
            ("gen_ai_client_operation_duration_seconds", "Time per call", self._duration),
            (
                "gen_ai_client_operation_time_to_first_chunk_seconds",
                "Time to the first content chunk of streams",
                self._ttft,
            ),
        ):
            family = HistogramMetricFamily(name, help_text, labels=_LABEL_NAMES[:2])
            for names, histogram in histograms.items():
                family.add_metric(names, histogram.buckets(), histogram.total)
            yield family
        overhead = HistogramMetricFamily("merino_overhead_seconds", "Time the relay itself took")
        overhead.add_metric((), self._relay.buckets(), self._relay.total)
        yield overhead
        lag = HistogramMetricFamily(
            "merino_loop_lag_seconds", "How late the event loop comes to what is due"
        )
        lag.add_metric((), self._lag.buckets(), self._lag.total)
        yield lag
        yield GaugeMetricFamily("merino_calls_in_flight", "Calls running now", self._in_flight)
        for name, help_text, read in self._gauges:
            yield GaugeMetricFamily(name, help_text, read())
        for name, help_text, labels, read_all in self._labelled:
            family = GaugeMetricFamily(name, help_text, labels=labels)
            for values, value in read_all():
                family.add_metric(values, value)
            yield family


def _histogram(
    by_names: dict[tuple[str, str], _Histogram], names: tuple[str, str], bounds: tuple[float, ...]
) -> _Histogram:
    histogram = by_names.get(names)
    if histogram is None:
        histogram = by_names[names] = _Histogram(bounds)
    return histogram
