"""One call as it was measured, and every figure that is computed from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

Source = str
"""Who counted the tokens: `reported` by the server, or `counted` by us from the chunks."""

INTERRUPTED = "interrupted"
_LIMIT_FACTOR, _LIMIT_SLACK = 1.1, 5


class CallSample(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What was seen of one call. Moments are seconds since the run began, by one monotonic clock.

    `scheduled_s` is when the call was due, `sent_s` when its request was written. A token is any
    piece of an answer, thought or said; a visible one is said. `gaps_ms` lie between reads that
    brought tokens. `output_tokens_max` were asked for at most. `error` names a kind of failure;
    such calls count only as errors.
    """

    number: int
    target: str
    scheduled_s: float
    sent_s: float
    end_s: float
    block: int = 0
    scenario: str = ""
    is_warmup: bool = False
    connect_ms: float | None = None
    first_byte_s: float | None = None
    first_token_s: float | None = None
    first_visible_s: float | None = None
    last_token_s: float | None = None
    gaps_ms: list[float] = []
    status: int = 0
    error: str | None = None
    detail: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    output_tokens_max: int | None = None
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    tokens_source: Source = "reported"
    cost_nanos: int | None = None
    overhead_ms: float | None = None
    retries: int = 0


def is_too_long(sample: CallSample) -> bool:
    """Whether the server did not obey the limit of the output. A few tokens more are its way of
    counting, and reasoning is beside the limit to some."""
    most = sample.output_tokens_max
    if most is None or sample.error is not None or sample.tokens_source != "reported":
        return False
    return sample.output_tokens - sample.reasoning_tokens > most * _LIMIT_FACTOR + _LIMIT_SLACK


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure with one value a call: what it is called, its unit and how it is computed."""

    name: str
    title: str
    unit: str
    formula: str
    of: Callable[[CallSample], float | None]


def _since_due(moment_s: float | None, sample: CallSample) -> float | None:
    return None if moment_s is None else (moment_s - sample.scheduled_s) * 1000


def ttfb_ms(sample: CallSample) -> float | None:
    """first_byte - scheduled"""
    return _since_due(sample.first_byte_s, sample)


def ttft_ms(sample: CallSample) -> float | None:
    """first_token - scheduled"""
    return _since_due(sample.first_token_s, sample)


def ttft_visible_ms(sample: CallSample) -> float | None:
    """first_visible_token - scheduled"""
    return _since_due(sample.first_visible_s, sample)


def e2e_ms(sample: CallSample) -> float | None:
    """end - scheduled"""
    return _since_due(sample.end_s, sample)


def tpot_ms(sample: CallSample) -> float | None:
    """(last_token - first_token) / (tokens received after the first)

    Reasoning that is counted but not sent arrives before the first token and is left out.
    """
    if sample.first_token_s is None or sample.last_token_s is None:
        return None
    sent_tokens = sample.output_tokens
    if sample.first_token_s == sample.first_visible_s:
        sent_tokens -= sample.reasoning_tokens
    if sent_tokens < 2:
        return None
    return (sample.last_token_s - sample.first_token_s) * 1000 / (sent_tokens - 1)


def tokens_per_s(sample: CallSample) -> float | None:
    """output_tokens / (end - sent)"""
    span_s = sample.end_s - sample.sent_s
    return sample.output_tokens / span_s if span_s > 0 and sample.output_tokens else None


def lag_ms(sample: CallSample) -> float:
    """sent - scheduled"""
    return (sample.sent_s - sample.scheduled_s) * 1000


METRICS: tuple[Metric, ...] = (
    Metric(
        "connect_ms",
        "Connect",
        "ms",
        "name resolution, TCP and TLS of a new connection",
        lambda sample: sample.connect_ms,
    ),
    Metric("ttfb_ms", "First byte", "ms", ttfb_ms.__doc__ or "", ttfb_ms),
    Metric("ttft_ms", "First token", "ms", ttft_ms.__doc__ or "", ttft_ms),
    Metric(
        "ttft_visible_ms",
        "First visible token",
        "ms",
        ttft_visible_ms.__doc__ or "",
        ttft_visible_ms,
    ),
    Metric(
        "tpot_ms", "Time per output token", "ms", (tpot_ms.__doc__ or "").split("\n")[0], tpot_ms
    ),
    Metric("e2e_ms", "End to end", "ms", e2e_ms.__doc__ or "", e2e_ms),
    Metric(
        "tokens_per_s", "Output tokens/s per call", "1/s", tokens_per_s.__doc__ or "", tokens_per_s
    ),
    Metric(
        "overhead_ms",
        "Relay's own time",
        "ms",
        "server-timing's relay;dur",
        lambda sample: sample.overhead_ms,
    ),
    Metric(
        "input_tokens",
        "Input tokens",
        "",
        "reported by the server, else counted",
        lambda sample: sample.input_tokens,
    ),
    Metric(
        "output_tokens",
        "Output tokens",
        "",
        "reported by the server, else counted",
        lambda sample: sample.output_tokens,
    ),
    Metric(
        "reasoning_tokens",
        "Reasoning tokens",
        "",
        "the part of the output that is thought",
        lambda sample: sample.reasoning_tokens,
    ),
    Metric(
        "cached_tokens",
        "Cached tokens",
        "",
        "the part of the input read from a cache",
        lambda sample: sample.cached_tokens,
    ),
)
"""Figures with one value a call."""

ITL = Metric(
    "itl_ms",
    "Inter-token latency",
    "ms",
    "every gap between two reads that brought tokens, all calls together",
    lambda sample: None,
)
BY_NAME = {metric.name: metric for metric in (*METRICS, ITL)}


def is_good(sample: CallSample) -> bool:
    """Whether its times count: answered, and not of the warm-up."""
    return sample.error is None and not sample.is_warmup


def values_of(samples: Iterable[CallSample], name: str) -> list[float]:
    """A metric's values over the calls that have it."""
    if name == ITL.name:
        return [gap for each in samples for gap in each.gaps_ms]
    of = BY_NAME[name].of
    return [value for each in samples if (value := of(each)) is not None]
