"""The decisions of a client's calls: when to send, where, whether to try again.

No I/O and no waiting happens here: the transports ask, wait and send. Safe to be asked from several
threads at once.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit

from merino.client.metrics import AttemptEvent, CallEvent, ClientMetrics, MetricsSink
from merino.resilience.backoff import wait_s
from merino.resilience.breaker import Breaker, BreakerPolicy, Outcome
from merino.resilience.buckets import TokenBucket
from merino.resilience.latency import RollingQuantile
from merino.resilience.retry_budget import RetryBudget
from merino.wire.retry_after import parse_rate_limit_reset, parse_retry_after

RETRY_STATUSES = frozenset((408, 409, 425, 429))
PAUSE_MAX_S = 120.0
"""Longest pause taken from an upstream's `x-ratelimit-reset-*`."""
HEDGED_PATHS = ("/chat/completions", "/completions", "/embeddings")
"""Calls that may be sent twice: what they make is in the answer and nowhere else."""
KINDS_MAX = 64
"""Models, each plain and streamed, whose latency is followed."""
LOST = "lost_to_a_hedge"
"""The `error` of an attempt that was cancelled because the other one was quicker."""


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

    `max_retries` counts attempts beyond the first, over all endpoints. `deadline_s` is the time one
    call may take up to the head of its answer, with all waits. The breaker of an endpoint opens
    after `breaker_threshold` failures in a row or half of at least as many in a minute, for
    `breaker_open_s`. Without `hedge` no call is sent twice at a time.
    """

    max_retries: int = 2
    requests_per_minute: int | None = None
    requests_per_second: int | None = None
    tokens_per_minute: int | None = None
    max_concurrency: int | None = None
    deadline_s: float | None = None
    backoff_base_s: float = 0.5
    backoff_max_s: float = 20.0
    retry_share: float = 0.2
    retry_reserve: int = 10
    breaker_threshold: int = 10
    breaker_open_s: float = 60.0
    hedge: HedgePolicy | None = None


class _Member:
    def __init__(self, endpoint: Endpoint, policy: ClientPolicy, now: float) -> None:
        self.endpoint = endpoint
        self.breaker = Breaker(
            BreakerPolicy(
                outcomes_min=max(2, policy.breaker_threshold),
                consecutive_failures=policy.breaker_threshold,
                open_s=policy.breaker_open_s,
                open_max_s=max(300.0, policy.breaker_open_s),
            ),
            uniform=random.uniform,
        )
        self.budget = RetryBudget(policy.retry_share, policy.retry_reserve, now)
        self.paused_until_s = 0.0


class Call:
    """One call on its way; made by `Engine.call`."""

    __slots__ = (
        "attempts",
        "began_s",
        "deadline_s",
        "hedges",
        "kind",
        "last_endpoint",
        "tokens",
        "waited_s",
    )

    def __init__(
        self, tokens: int, now: float, deadline_s: float | None, kind: tuple[str, bool] | None
    ) -> None:
        self.began_s = now
        self.deadline_s = float("inf") if deadline_s is None else now + deadline_s
        self.tokens = tokens
        self.attempts = 0
        self.hedges = 0
        self.kind = kind
        """Model, and whether it is streamed; `None` if the call must not be sent twice."""
        self.waited_s = 0.0
        self.last_endpoint = ""


class Attempt:
    """One attempt at an endpoint; made by `Engine.attempt` and `Engine.hedge`."""

    __slots__ = ("began_s", "begun", "is_hedge", "member")

    def __init__(self, member: _Member, begun: int, now: float, *, is_hedge: bool = False) -> None:
        self.member = member
        self.begun = begun
        self.began_s = now
        self.is_hedge = is_hedge

    @property
    def endpoint(self) -> Endpoint:
        return self.member.endpoint


class Engine:
    """Shared by everything one client sends."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        policy: ClientPolicy,
        sinks: Sequence[MetricsSink] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.policy = policy
        self.metrics = ClientMetrics()
        self._clock = clock
        self._sinks: list[MetricsSink] = [self.metrics, *sinks]
        self._endpoints = list(endpoints)
        self.base_path = urlsplit(endpoints[0].base_url).path.rstrip("/")
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        now = self._clock()
        policy = self.policy
        self._members = [_Member(each, policy, now) for each in self._endpoints]
        self._buckets: list[tuple[TokenBucket, bool]] = []
        for limit, per_s, counts_tokens in (
            (policy.requests_per_second, 1.0, False),
            (policy.requests_per_minute, 60.0, False),
            (policy.tokens_per_minute, 60.0, True),
        ):
            if limit is not None:
                self._buckets.append((TokenBucket(limit, limit / per_s, now), counts_tokens))
        share = policy.hedge.share if policy.hedge is not None else 0.0
        self._hedges = RetryBudget(share, 0, now)
        self._first_bytes: dict[tuple[str, bool], RollingQuantile] = {}

    def call(self, body: bytes, *, may_hedge: bool = False) -> Call:
        """A call begins. `may_hedge`: sending it twice does no harm beyond what it costs."""
        if os.getpid() != self._process_id:  # forked: locks and limits are the child's own now
            self._lock = threading.Lock()
            self._process_id = os.getpid()
            self._start()
        tokens = estimated_tokens(body) if self.policy.tokens_per_minute is not None else 0
        kind = _kind(body) if may_hedge and self.policy.hedge is not None else None
        return Call(tokens, self._clock(), self.policy.deadline_s, kind)

    def reserve(self, call: Call) -> float:
        """Take the call's permits of every limit, and return how long to wait before sending."""
        with self._lock:
            now = self._clock()
            wait = 0.0
            for bucket, counts_tokens in self._buckets:
                permits = min(call.tokens, bucket.capacity) if counts_tokens else 1.0
                wait = max(wait, bucket.reserve(permits, now))
            return wait

    def give_back(self, call: Call) -> None:
        """The call left before it was sent."""
        with self._lock:
            now = self._clock()
            for bucket, counts_tokens in self._buckets:
                bucket.give_back(min(call.tokens, bucket.capacity) if counts_tokens else 1.0, now)

    def remaining_s(self, call: Call) -> float:
        return call.deadline_s - self._clock()

    def attempt(self, call: Call, after: Attempt | None = None) -> Attempt | float:
        """Where to send now; or, if every endpoint is left alone, in how many seconds to ask again.

        The first endpoint is preferred; after a failure the next one comes first.
        """
        with self._lock:
            now = self._clock()
            members = self._members
            if after is not None:
                index = members.index(after.member) + 1
                members = [*members[index:], *members[:index]]
            soonest = float("inf")
            for member in members:
                if not member.breaker.allows(now):
                    soonest = min(soonest, member.breaker.retry_after_s(now))
                elif now < member.paused_until_s:
                    soonest = min(soonest, member.paused_until_s - now)
                else:
                    call.attempts += 1
                    call.last_endpoint = member.endpoint.base_url
                    if call.attempts == 1:
                        member.budget.call()
                        if call.kind is not None:
                            self._hedges.call()
                    return Attempt(member, member.breaker.begin(), now)
            return soonest

    def hedge_after_s(self, call: Call) -> float | None:
        """How long to wait for the first byte before `hedge` is asked; `None`: for ever."""
        policy = self.policy.hedge
        if policy is None or call.kind is None or call.hedges:
            return None
        with self._lock:
            followed = self._first_bytes.get(call.kind)
        if followed is None or followed.value is None:
            return None
        return max(policy.delay_min_s, followed.value)

    def hedge(self, call: Call, first: Attempt) -> Attempt | None:
        """Where to send the call once more while `first` is still running; `None` if no endpoint is
        well, a limit has no room at once, or enough calls were hedged."""
        with self._lock:
            now = self._clock()
            members = self._members
            index = members.index(first.member) + 1
            for member in [*members[index:], *members[:index]]:
                if member.breaker.allows(now) and now >= member.paused_until_s:
                    break
            else:
                return None
            wanted = [
                (bucket, min(call.tokens, bucket.capacity) if counts_tokens else 1.0)
                for bucket, counts_tokens in self._buckets
            ]
            if any(bucket.fill(now) < permits for bucket, permits in wanted):
                return None
            if not self._hedges.try_take(now):
                return None
            for bucket, permits in wanted:
                bucket.try_take(permits, now)
            call.hedges += 1
            return Attempt(member, member.breaker.begin(), now, is_hedge=True)

    def is_open(self) -> bool:
        """Whether every breaker refuses."""
        with self._lock:
            now = self._clock()
            return not any(member.breaker.allows(now) for member in self._members)

    def breaker_states(self) -> dict[str, str]:
        with self._lock:
            return {each.endpoint.base_url: each.breaker.state for each in self._members}

    def answered(
        self, call: Call, attempt: Attempt, status: int, headers: Mapping[str, str]
    ) -> float | None:
        """An answer came. Returns how long to wait before the next attempt; `None` if this is what
        the caller gets."""
        retry_after_s = parse_retry_after(
            _bytes(headers.get("retry-after-ms")), _bytes(headers.get("retry-after"))
        )
        with self._lock:
            now = self._clock()
            self._note(call, attempt, status, headers, now)
            wait: float | None = None
            if is_retryable(status, headers):
                wait = self._next_wait(call, attempt, retry_after_s, now)
            if wait is None and status == 429 and retry_after_s is not None:
                attempt.member.paused_until_s = now + min(retry_after_s, PAUSE_MAX_S)
        self._tell(attempt, status, "", will_retry=wait is not None)
        return wait

    def failed(self, call: Call, attempt: Attempt, error: str) -> float | None:
        """No answer came. Returns how long to wait before the next attempt; `None`: give up."""
        with self._lock:
            now = self._clock()
            attempt.member.breaker.end(attempt.begun, "failure", now, error)
            wait = self._next_wait(call, attempt, None, now)
        self._tell(attempt, 0, error, will_retry=wait is not None)
        return wait

    def half_failed(
        self, call: Call, attempt: Attempt, status: int, headers: Mapping[str, str], error: str
    ) -> None:
        """One attempt of a hedged call failed; the other one is still running."""
        with self._lock:
            now = self._clock()
            if error:
                attempt.member.breaker.end(attempt.begun, "failure", now, error)
            else:
                self._note(call, attempt, status, headers, now)
        self._tell(attempt, status, error, will_retry=False)

    def lost(self, call: Call, attempt: Attempt) -> None:
        """The other attempt of a hedged call was quicker, and this one is cancelled."""
        with self._lock:
            now = self._clock()
            attempt.member.breaker.end(attempt.begun, "ignored", now)
            if not attempt.is_hedge:
                # It took at least this long. Left out, the slow ones would never be known, and
                # more and more calls would seem slow.
                self._follow(call, now - attempt.began_s)
        self._tell(attempt, 0, LOST, will_retry=False)

    def left(self, attempt: Attempt) -> None:
        """The caller cancelled: that says nothing about the endpoint."""
        with self._lock:
            attempt.member.breaker.end(attempt.begun, "ignored", self._clock())

    def ended(self, call: Call, status: int, error: str) -> None:
        event = CallEvent(
            call.last_endpoint,
            status,
            error,
            call.attempts + call.hedges,
            self._clock() - call.began_s,
            call.waited_s,
        )
        for sink in self._sinks:
            sink.call(event)

    def _next_wait(
        self, call: Call, attempt: Attempt, retry_after_s: float | None, now: float
    ) -> float | None:
        policy = self.policy
        if call.attempts > policy.max_retries or not attempt.member.budget.try_take(now):
            return None
        if len(self._members) > call.attempts:
            wait = 0.0  # another endpoint, at once
        else:
            wait = wait_s(
                call.attempts - 1,
                base_s=policy.backoff_base_s,
                max_s=policy.backoff_max_s,
                retry_after_s=retry_after_s,
                uniform=random.uniform,
            )
        return wait if now + wait < call.deadline_s else None

    def _note(
        self, call: Call, attempt: Attempt, status: int, headers: Mapping[str, str], now: float
    ) -> None:
        outcome: Outcome = "success" if status < 400 else "ignored"
        if status >= 500:
            outcome = "failure"
        attempt.member.breaker.end(attempt.begun, outcome, now, f"status {status}")
        self._heed(call, attempt.member, headers, now)
        if status < 400:
            self._follow(call, now - attempt.began_s)

    def _follow(self, call: Call, first_byte_s: float) -> None:
        policy = self.policy.hedge
        if policy is None or call.kind is None:
            return
        followed = self._first_bytes.get(call.kind)
        if followed is None:
            if len(self._first_bytes) >= KINDS_MAX:
                return
            followed = RollingQuantile(policy.quantile, samples_min=policy.samples_min)
            self._first_bytes[call.kind] = followed
        followed.observe(first_byte_s)

    def _heed(self, call: Call, member: _Member, headers: Mapping[str, str], now: float) -> None:
        for what, wanted in (("requests", 1), ("tokens", call.tokens)):
            if headers.get(f"x-ratelimit-remaining-{what}") == "0":
                reset_s = parse_rate_limit_reset(_bytes(headers.get(f"x-ratelimit-reset-{what}")))
                if reset_s is not None:
                    limit = _whole(headers.get(f"x-ratelimit-limit-{what}"))
                    pause_s = room_in_s(reset_s, limit, wanted)
                    member.paused_until_s = now + min(pause_s, PAUSE_MAX_S)

    def _tell(self, attempt: Attempt, status: int, error: str, *, will_retry: bool) -> None:
        event = AttemptEvent(
            attempt.endpoint.base_url,
            status,
            error,
            self._clock() - attempt.began_s,
            will_retry,
            attempt.is_hedge,
        )
        for sink in self._sinks:
            sink.attempt(event)


def is_retryable(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the same call may be answered otherwise next time."""
    may_pass = status >= 500 or status in RETRY_STATUSES
    return may_pass and headers.get("x-should-retry") != "false"


def room_in_s(reset_s: float, limit: int | None, wanted: int) -> float:
    """When an empty bucket holds `wanted`, if it is full again in `reset_s`. Waiting until it is
    full would leave what it gains meanwhile unused. Without knowing how much is wanted, a sixtieth
    of it is: one second's worth of a limit per minute."""
    if limit is None or limit < 1:
        return reset_s
    return reset_s * min(1.0, (wanted or limit / 60) / limit)


def _whole(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() else None


def _kind(body: bytes) -> tuple[str, bool] | None:
    try:
        fields: Any = json.loads(body)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    members = cast("dict[str, Any]", fields)
    return str(members.get("model")), bool(members.get("stream"))


def estimated_tokens(body: bytes) -> int:
    """LLM tokens a request may use, for the limit per minute: a third of its bytes, and the output
    it allows (1,000 if it does not say)."""
    output = 1000
    try:
        fields: Any = json.loads(body)
    except ValueError:
        fields = None
    if isinstance(fields, dict):
        members = cast("dict[str, Any]", fields)
        for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
            if isinstance(members.get(name), int):
                output = members[name]
                break
    return len(body) // 3 + output


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1", "replace")
