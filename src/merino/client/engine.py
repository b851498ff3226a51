"""What everything that one client sends shares: limits, endpoints with their breakers, metrics.

No I/O and no waiting happens here. `steps` asks, in the order of a call's life; whoever drives the
steps waits and sends. Safe to be asked from several threads at once.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, cast

from merino.client.answers import (
    estimated_tokens,
    exhausted_for_s,
    is_retryable,
    refused_wait_s,
    retry_after_s,
    room_in_s,
)
from merino.client.members import Attempt, Member, rest_s_of
from merino.client.metrics import AttemptEvent, CallEvent, ClientMetrics, MetricsSink
from merino.client.policy import ClientPolicy, Endpoint, HedgePolicy
from merino.client.turns import Permits, Places, Waiter
from merino.resilience.backoff import wait_s
from merino.resilience.breaker import Outcome
from merino.resilience.buckets import TokenBucket
from merino.resilience.latency import RollingQuantile
from merino.resilience.retry_budget import RetryBudget

__all__ = [
    "Attempt",
    "Call",
    "ClientPolicy",
    "Endpoint",
    "Engine",
    "HedgePolicy",
    "estimated_tokens",
    "is_retryable",
    "room_in_s",
]

KINDS_MAX = 64
"""Models, each plain and streamed, whose latency is followed."""
MEMBERS_MAX = 256
"""Base URLs whose breakers are kept."""
LOST = "lost_to_a_hedge"
"""The `error` of an attempt that was cancelled because the other one was quicker."""


class Call:
    """One call on its way; made by `Engine.call`. `is_patient` calls (a batch's) have time: they
    wait for a breaker, and "too many requests" is no attempt of theirs."""

    __slots__ = (
        "attempts",
        "began_s",
        "deadline_s",
        "has_place",
        "hedges",
        "is_patient",
        "kind",
        "last_endpoint",
        "max_retries",
        "refusals",
        "route",
        "tokens",
        "waited_s",
        "wanted",
    )

    def __init__(
        self,
        route: tuple[tuple[Member, Endpoint], ...],
        tokens: int,
        now: float,
        policy: ClientPolicy,
        max_retries: int | None,
        kind: tuple[str, bool] | None,
    ) -> None:
        self.route = route
        self.began_s = now
        self.deadline_s = float("inf") if policy.deadline_s is None else now + policy.deadline_s
        self.max_retries = policy.max_retries if max_retries is None else max_retries
        self.tokens = tokens
        self.attempts = 0
        self.refusals = 0
        self.hedges = 0
        self.kind = kind
        """Model, and whether it is streamed; `None` if the call must not be sent twice."""
        self.waited_s = 0.0
        self.last_endpoint = ""
        self.wanted: tuple[float, ...] = ()
        self.has_place = False
        self.is_patient = False


class Engine:
    """Shared by everything one client and its copies send. `endpoints[0]` is where calls go that do
    not say where; the others are the fallbacks of every call."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        policy: ClientPolicy,
        sinks: Sequence[MetricsSink] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.policy = policy
        self.metrics = ClientMetrics()
        self.clock = clock
        self.sinks = tuple(sinks)
        self._sinks: list[MetricsSink] = [self.metrics, *sinks]
        self._endpoints = list(endpoints)
        self.fallbacks = self._endpoints[1:]
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        self._dropped: deque[Callable[[], None]] = deque()
        self._start()

    def _start(self) -> None:
        now = self.clock()
        policy = self.policy
        self._members: dict[str, Member] = {}
        for each in self._endpoints:
            self._member(each.base_url, now)
        buckets: list[TokenBucket] = []
        counts_tokens: list[bool] = []
        for limit, per_s, is_tokens in (
            (policy.requests_per_second, 1.0, False),
            (policy.requests_per_minute, 60.0, False),
            (policy.tokens_per_minute, 60.0, True),
        ):
            if limit is not None:
                buckets.append(TokenBucket(limit, limit / per_s, now))
                counts_tokens.append(is_tokens)
        self._permits = Permits(buckets) if buckets else None
        self._counts_tokens = tuple(counts_tokens)
        self._places = None if policy.max_concurrency is None else Places(policy.max_concurrency)
        share = policy.hedge.share if policy.hedge is not None else 0.0
        self._hedges = RetryBudget(share, 0, now)
        self._first_bytes: dict[tuple[str, bool], RollingQuantile] = {}

    def call(
        self,
        body: Callable[[], bytes] | bytes,
        *,
        primary: Endpoint | None = None,
        max_retries: int | None = None,
        may_hedge: bool = False,
        has_fallbacks: bool = True,
    ) -> Call:
        """A call begins. `primary`: where it goes first; `max_retries`: instead of the policy's;
        `may_hedge`: sending it twice does no harm beyond what it costs."""
        if os.getpid() != self._process_id:  # forked: locks and limits are the child's own now
            self._lock = threading.Lock()
            self._process_id = os.getpid()
            self._start()
        policy = self.policy
        data = b""
        if policy.tokens_per_minute is not None or (may_hedge and policy.hedge is not None):
            data = body if isinstance(body, bytes) else body()
        tokens = estimated_tokens(data) if policy.tokens_per_minute is not None else 0
        kind = _kind(data) if may_hedge and policy.hedge is not None else None
        endpoints = self._endpoints if has_fallbacks else self._endpoints[:1]
        if primary is not None:
            endpoints = [primary, *endpoints[1:]]
        now = self.clock()
        with self._lock:
            route = tuple((self._member(each.base_url, now), each) for each in endpoints)
        call = Call(route, tokens, now, policy, max_retries, kind)
        if self._permits is not None:
            call.wanted = self._permits.wanted_by(tokens, self._counts_tokens)
        return call

    # Places and permits.

    def try_place(self, call: Call) -> Waiter | None:
        """Take the call's place among those that run at once; or a waiter that is due when it has
        one."""
        if self._places is None:
            return None
        self.sweep()
        with self._lock:
            waiter = self._places.join()
        if waiter.is_due:
            call.has_place = True
            return None
        return waiter

    def leave_places(self, waiter: Waiter) -> None:
        with self._lock:
            assert self._places is not None
            self._places.leave(waiter)

    def give_place(self, call: Call) -> None:
        if call.has_place:
            call.has_place = False
            with self._lock:
                assert self._places is not None
                self._places.give_back()

    def try_hedge_place(self) -> bool:
        """A second place at once, for the second attempt of a call."""
        if self._places is None:
            return True
        with self._lock:
            return self._places.try_take()

    def give_hedge_place(self) -> None:
        if self._places is not None:
            with self._lock:
                self._places.give_back()

    def drop(self, end: Callable[[], None]) -> None:
        """`end` gives back what a stream had that nobody closed. It is heard of in the middle of
        anything, even of what holds the lock, so it is done later."""
        self._dropped.append(end)

    def sweep(self) -> None:
        """Do what `drop` put off."""
        while self._dropped:
            try:
                end = self._dropped.popleft()
            except IndexError:  # another thread was quicker
                return
            end()

    def try_permits(self, call: Call) -> tuple[Waiter, float] | None:
        """Take what a request needs of every limit; or a waiter, and how long it will take."""
        permits = self._permits
        if permits is None:
            return None
        with self._lock:
            now = self.clock()
            if permits.try_take(call.wanted, now):
                return None
            waiter = permits.join(call.wanted)
            return waiter, permits.expected_s(now)

    def permits_wait_s(self, waiter: Waiter) -> float:
        """0: the waiter has its permits. Else: when to ask again, unless it is roused before."""
        with self._lock:
            assert self._permits is not None
            return self._permits.wait_s(waiter, self.clock())

    def leave_permits(self, waiter: Waiter) -> None:
        with self._lock:
            assert self._permits is not None
            self._permits.leave(waiter)

    def give_back(self, call: Call) -> None:
        """The request was not sent after all."""
        if self._permits is not None:
            with self._lock:
                self._permits.give_back(call.wanted, self.clock())

    # Endpoints.

    def rest_s(self, call: Call, after: Attempt | None = None) -> float:
        """How long every endpoint of the call is left alone still; 0: one is well."""
        with self._lock:
            now = self.clock()
            return min(rest_s_of(member, each, now) for member, each, _ in _order(call, after))

    def attempt(self, call: Call, after: Attempt | None = None) -> Attempt | float:
        """Where to send now; or, if every endpoint is left alone, in how many seconds to ask again.

        The first endpoint is preferred; after a failure the next one comes first.
        """
        with self._lock:
            now = self.clock()
            soonest = float("inf")
            for member, endpoint, is_primary in _order(call, after):
                rest_s = rest_s_of(member, endpoint, now)
                if rest_s > 0:
                    soonest = min(soonest, rest_s)
                    continue
                call.attempts += 1
                call.last_endpoint = endpoint.base_url
                if call.attempts == 1:
                    member.budget.call()
                    if call.kind is not None:
                        self._hedges.call()
                begun = member.breaker.begin()
                return Attempt(member, endpoint, begun, now, is_primary=is_primary)
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
            now = self.clock()
            well = [row for row in _order(call, first) if rest_s_of(row[0], row[1], now) == 0]
            if not well:
                return None
            if self._permits is not None and not self._permits.try_take(call.wanted, now):
                return None
            if not self._hedges.try_take(now):
                if self._permits is not None:
                    self._permits.give_back(call.wanted, now)
                return None
            call.hedges += 1
            member, endpoint, is_primary = well[0]
            begun = member.breaker.begin()
            return Attempt(member, endpoint, begun, now, is_primary=is_primary, is_hedge=True)

    def is_open(self, call: Call) -> bool:
        """Whether the breaker of every endpoint of the call refuses."""
        with self._lock:
            now = self.clock()
            return not any(member.breaker.allows(now) for member, _ in call.route)

    def breaker_states(self) -> dict[str, str]:
        """Of every base URL that was called, and of the fallbacks."""
        with self._lock:
            return {each.base_url: each.breaker.state for each in self._members.values()}

    # What came of an attempt.

    def answered(
        self,
        call: Call,
        attempt: Attempt,
        status: int,
        headers: Mapping[str, str],
        codes: tuple[str, ...] = (),
        *,
        is_final: bool = False,
    ) -> float | None:
        """An answer came. Returns how long to wait before the next attempt; `None` if this is what
        the caller gets."""
        told_s = retry_after_s(headers) if status >= 400 else None
        with self._lock:
            now = self.clock()
            self._note(call, attempt, status, headers, now)
            wait: float | None = None
            if is_retryable(status, headers, codes, is_final=is_final):
                wait = self._next_wait(call, attempt, status, told_s, now)
                if told_s is not None and (wait is None or wait < told_s):
                    # Not asked again by this call, or elsewhere first: nobody asks it too early.
                    self._pause(attempt, told_s, now)
        self._tell(attempt, status, "", will_retry=wait is not None)
        return wait

    def begun(self, call: Call, attempt: Attempt, status: int, headers: Mapping[str, str]) -> None:
        """The head of a stream came; `streamed` tells how it ended."""
        with self._lock:
            now = self.clock()
            self._heed(call, attempt, headers, now)
            if status < 400:
                self._follow(call, now - attempt.began_s)

    def streamed(self, call: Call, attempt: Attempt, status: int, error: str) -> None:
        """A stream was read to its end, or closed by its reader, or (`error`) broke."""
        outcome: Outcome = "failure" if error and error != "cancelled" else "success"
        with self._lock:
            now = self.clock()
            if error == "cancelled":
                outcome = "ignored"
            attempt.member.breaker.end(attempt.begun, outcome, now, error)
        self._tell(attempt, status, error, will_retry=False)
        self.ended(call, status, error)

    def failed(
        self, call: Call, attempt: Attempt, error: str, *, is_the_callers: bool = False
    ) -> float | None:
        """No answer came. Returns how long to wait before the next attempt; `None`: give up.
        `is_the_callers`: it had too little time to say anything about the endpoint."""
        outcome: Outcome = "ignored" if is_the_callers else "failure"
        with self._lock:
            now = self.clock()
            attempt.member.breaker.end(attempt.begun, outcome, now, error)
            wait = self._next_wait(call, attempt, 0, None, now)
        self._tell(attempt, 0, error, will_retry=wait is not None)
        return wait

    def half_failed(
        self, call: Call, attempt: Attempt, status: int, headers: Mapping[str, str], error: str
    ) -> None:
        """One attempt of a hedged call failed; the other one is still running."""
        with self._lock:
            now = self.clock()
            if error:
                attempt.member.breaker.end(attempt.begun, "failure", now, error)
            else:
                self._note(call, attempt, status, headers, now)
        self._tell(attempt, status, error, will_retry=False)

    def lost(self, call: Call, attempt: Attempt) -> None:
        """The other attempt of a hedged call was quicker, and this one is cancelled."""
        with self._lock:
            now = self.clock()
            attempt.member.breaker.end(attempt.begun, "ignored", now)
            if not attempt.is_hedge:
                # It took at least this long. Left out, the slow ones would never be known, and
                # more and more calls would seem slow.
                self._follow(call, now - attempt.began_s)
        self._tell(attempt, 0, LOST, will_retry=False)

    def left(self, attempt: Attempt) -> None:
        """The caller cancelled: that says nothing about the endpoint."""
        with self._lock:
            attempt.member.breaker.end(attempt.begun, "ignored", self.clock())

    def ended(self, call: Call, status: int, error: str) -> None:
        """The call is over: its place is free, and every sink hears of it."""
        self.give_place(call)
        event = CallEvent(
            call.last_endpoint,
            status,
            error,
            call.attempts + call.hedges,
            max(0.0, self.clock() - call.began_s - call.waited_s),
            call.waited_s,
        )
        for sink in self._sinks:
            sink.call(event)

    def _member(self, base_url: str, now: float) -> Member:
        member = self._members.get(base_url)
        if member is None:
            if len(self._members) >= MEMBERS_MAX:
                kept = {each.base_url for each in self._endpoints}
                del self._members[next(each for each in self._members if each not in kept)]
            member = self._members[base_url] = Member(base_url, self.policy, now)
        return member

    def _next_wait(
        self, call: Call, attempt: Attempt, status: int, told_s: float | None, now: float
    ) -> float | None:
        policy = self.policy
        if call.is_patient and status == 429:
            call.attempts -= 1
            call.refusals += 1
            return refused_wait_s(told_s, call.refusals, random.uniform)
        if call.attempts > call.max_retries:
            return None
        if self._is_another_well(call, attempt, now):
            wait = 0.0  # another endpoint, at once
        else:
            if told_s is not None and told_s > policy.wait_max_s and not call.is_patient:
                return None
            wait = wait_s(
                call.attempts - 1,
                base_s=policy.backoff_base_s,
                max_s=policy.backoff_max_s,
                retry_after_s=told_s,
                uniform=random.uniform,
            )
        if now + wait >= call.deadline_s or not attempt.member.budget.try_take(now):
            return None
        return wait

    def _is_another_well(self, call: Call, attempt: Attempt, now: float) -> bool:
        """Whether the call has an endpoint left that it did not try and that may be asked now."""
        if call.attempts >= len(call.route):
            return False
        return any(
            member is not attempt.member and rest_s_of(member, endpoint, now) == 0
            for member, endpoint in call.route
        )

    def _note(
        self, call: Call, attempt: Attempt, status: int, headers: Mapping[str, str], now: float
    ) -> None:
        outcome: Outcome = "success" if status < 400 else "ignored"
        if status >= 500:
            outcome = "failure"
        attempt.member.breaker.end(attempt.begun, outcome, now, f"status {status}")
        self._heed(call, attempt, headers, now)
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

    def _heed(self, call: Call, attempt: Attempt, headers: Mapping[str, str], now: float) -> None:
        pause_s = exhausted_for_s(headers, call.tokens)
        if pause_s is not None:
            self._pause(attempt, pause_s, now)

    def _pause(self, attempt: Attempt, seconds: float, now: float) -> None:
        """Leave the endpoint alone with this key. What is longer than anybody may wait is not
        waited for: the next call asks, and has the server's own answer."""
        if 0 < seconds <= self.policy.wait_max_s:
            attempt.member.pause(attempt.endpoint.api_key, now + seconds, now)

    def _tell(self, attempt: Attempt, status: int, error: str, *, will_retry: bool) -> None:
        event = AttemptEvent(
            attempt.endpoint.base_url,
            status,
            error,
            self.clock() - attempt.began_s,
            will_retry,
            attempt.is_hedge,
        )
        for sink in self._sinks:
            sink.attempt(event)


def _order(call: Call, after: Attempt | None) -> list[tuple[Member, Endpoint, bool]]:
    """The call's endpoints in the order of preference, and whether each is its own."""
    route = call.route
    if len(route) == 1:
        member, endpoint = route[0]
        return [(member, endpoint, True)]
    rows = [(member, each, index == 0) for index, (member, each) in enumerate(route)]
    if after is not None and len(rows) > 1:
        last = next((index for index, (member, _) in enumerate(route) if member is after.member), 0)
        rows = [*rows[last + 1 :], *rows[: last + 1]]
    return rows


def _kind(body: bytes) -> tuple[str, bool] | None:
    try:
        fields: Any = json.loads(body)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    members = cast("dict[str, Any]", fields)
    return str(members.get("model")), bool(members.get("stream"))
