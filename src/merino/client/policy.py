"""What a client may be told to do: endpoints, limits, retries, hedging."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A base URL and the key that goes with it."""

    base_url: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """When a call is sent a second time because the first attempt is slow to begin.

    It must be slower than `quantile` of the times to the first byte of the same model (streams
    apart from plain calls), once `samples_min` of them are known, and than `delay_min_s`. At most
    `share` of the calls are hedged. The second request goes to another endpoint if one is well,
    else to the same. Whoever begins to answer first wins; the other is cancelled.
    """

    quantile: float = 0.95
    share: float = 0.05
    samples_min: int = 50
    delay_min_s: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.quantile < 1 and 0 < self.share <= 1 and self.samples_min >= 1):
            raise ValueError("hedge: quantile and share lie between 0 and 1, samples_min above 0")


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """How a client behaves. Limits of `None` do not apply; durations in seconds.

    `max_retries` counts attempts beyond the first, over all endpoints. Every request that leaves
    counts against `requests_per_*` and `tokens_per_minute`, retries too; a call keeps its place of
    `max_concurrency` until its answer is read or closed. `deadline_s` is the time one call may
    take, with all attempts and waits: until its answer is complete, or, if it is streamed, until
    its head is there. A server that asks for a longer wait than `wait_max_s` is not waited for:
    its error is the answer. The breaker of an endpoint opens after `breaker_threshold` failures in
    a row or half of at least as many in a minute, for `breaker_open_s`. Without `hedge` no call is
    sent twice at a time.
    """

    max_retries: int = 2
    requests_per_minute: int | None = None
    requests_per_second: int | None = None
    tokens_per_minute: int | None = None
    max_concurrency: int | None = None
    deadline_s: float | None = None
    wait_max_s: float = 120.0
    backoff_base_s: float = 0.5
    backoff_max_s: float = 20.0
    retry_share: float = 0.2
    retry_reserve: int = 10
    breaker_threshold: int = 10
    breaker_open_s: float = 60.0
    hedge: HedgePolicy | None = None


DEFAULT_POLICY = ClientPolicy()
"""How a client behaves that was told nothing."""
