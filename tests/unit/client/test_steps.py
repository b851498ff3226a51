"""The life of a call, on a clock of the test's own: what servers do, and what becomes of it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.client.engine import Attempt, ClientPolicy, Endpoint, Engine
from merino.client.steps import DEADLINE, OPEN, Outcome, Refused, Send, steps

A, B = "http://a/v1", "http://b/v1"


@dataclass
class Ran:
    """How one call went."""

    began_s: float
    outcome: Outcome | None = None
    refused: str = ""
    was_cancelled: bool = False
    ended_s: float | None = None
    sent: list[tuple[float, str]] = field(default_factory=list)


Server = Callable[[int, str], tuple[float, Outcome]]
"""Of the number of the request and the endpoint: how long it takes, and what comes."""


class World:
    """Runs any number of calls at once. Time passes only when nothing else is left to do."""

    def __init__(self, server: Server, *urls: str, **policy) -> None:
        self.now = 1000.0
        self.server = server
        endpoints = [Endpoint(url, "k") for url in urls or (A,)]
        self.engine = Engine(endpoints, ClientPolicy(**policy), clock=lambda: self.now)
        self.in_flight = 0
        self.most_in_flight = 0
        self.sent_at: list[float] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, moment_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment_s, next(self._numbers), do))

    def run(self, until_s: float = float("inf")) -> None:
        while self._events and self._events[0][0] <= until_s:
            moment_s, _, do = heapq.heappop(self._events)
            self.now = max(self.now, moment_s)
            do()

    def call(self, at_s: float = 0.0, cancelled_after_s: float | None = None) -> Ran:
        ran = Ran(1000.0 + at_s)
        turn = itertools.count()
        state = {"expected": -1, "is_sent": False}

        def begin() -> None:
            state["plan"] = steps(self.engine, self.engine.call(b"{}"))
            advance(lambda: next(state["plan"]))

        def advance(resume) -> None:
            try:
                step = resume()
            except StopIteration as ended:
                end(outcome=ended.value)
            except Refused as refused:
                end(refused=refused.name)
            else:
                take(step)

        def take(step) -> None:
            number = state["expected"] = next(turn)

            def resume_once(resume) -> Callable[[], None]:
                def resumed() -> None:
                    if state["expected"] == number and ran.ended_s is None:
                        state["expected"] = -1
                        advance(resume)

                return resumed

            if isinstance(step, Send):
                self._send(step, ran, state, resume_once)
                return
            go_on = resume_once(lambda: next(state["plan"]))
            waiter = step.waiter
            if waiter is not None:
                waiter.wake = lambda: self.at(self.now, go_on)
                if waiter.is_due:
                    self.at(self.now, go_on)
            if step.seconds < float("inf"):
                self.at(self.now + step.seconds, go_on)

        def end(outcome=None, refused="", was_cancelled=False) -> None:
            if state["is_sent"]:
                self._over(state)
            ran.outcome, ran.refused, ran.was_cancelled = outcome, refused, was_cancelled
            ran.ended_s = self.now

        def cancel() -> None:
            if ran.ended_s is None and "plan" in state:
                state["plan"].close()
                end(was_cancelled=True)

        self.at(ran.began_s, begin)
        if cancelled_after_s is not None:
            self.at(ran.began_s + cancelled_after_s, cancel)
        return ran

    def _send(self, step: Send, ran: Ran, state, resume_once) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        state["is_sent"] = True
        self.sent_at.append(self.now)
        ran.sent.append((self.now, step.attempt.endpoint.base_url))
        seconds, outcome = self.server(len(self.sent_at), step.attempt.endpoint.base_url)
        if seconds >= step.seconds:
            seconds, outcome = step.seconds, Outcome(0, error=DEADLINE)

        def answered():
            self._over(state)
            return state["plan"].send(outcome)

        self.at(self.now + seconds, resume_once(answered))

    def _over(self, state) -> None:
        self.in_flight -= 1
        state["is_sent"] = False


def one(server: Server, *urls: str, **policy) -> tuple[Ran, World]:
    world = World(server, *urls, **policy)
    ran = world.call()
    world.run()
    return ran, world


OK = Outcome(200)
BROKEN = Outcome(0, error="RemoteProtocolError")


def told(status: int, *codes: str, **headers: str) -> Outcome:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Outcome(status, names, codes=codes)


def plays(*plan: Outcome, seconds: float = 0.1) -> Server:
    """A server that answers with each of the plan in turn, the last one for good."""
    return lambda number, _: (seconds, plan[min(number, len(plan)) - 1])


@pytest.mark.parametrize(
    ("plan", "policy", "status", "requests"),
    [
        # What may pass is tried again, and a broken body is as good as no answer.
        ((BROKEN, OK), {}, 200, 2),
        ((BROKEN, BROKEN, OK), {}, 200, 3),
        ((BROKEN,), {"max_retries": 1}, 0, 2),
        ((told(503), told(429), OK), {}, 200, 3),
        ((told(408), OK), {}, 200, 2),
        ((told(500),), {"max_retries": 0}, 500, 1),
        # What cannot pass is not.
        ((told(400),), {}, 400, 1),
        ((told(401),), {}, 401, 1),
        ((told(429, "insufficient_quota"),), {}, 429, 1),
        ((told(429, "billing_hard_limit_reached"),), {}, 429, 1),
        ((told(429, "rate_limit_exceeded"), OK), {}, 200, 2),
        # What the server says about it wins.
        ((told(400, x_should_retry="true"), OK), {}, 200, 2),
        ((told(503, x_should_retry="false"),), {}, 503, 1),
        ((told(429, "insufficient_quota", x_should_retry="true"), OK), {}, 200, 2),
        # A wait beyond the bound is the server's error at once.
        ((told(429, retry_after="121"), OK), {}, 429, 1),
        ((told(503, retry_after_ms="86400000"), OK), {}, 503, 1),
        ((told(429, retry_after="119"), OK), {}, 200, 2),
        ((told(429, retry_after="30"), OK), {"wait_max_s": 20.0}, 429, 1),
        # And so is one that ends after the deadline.
        ((told(503, retry_after="30"), OK), {"deadline_s": 10.0}, 503, 1),
    ],
)
def test_what_servers_do(plan, policy, status, requests) -> None:
    """Each behaviour of a server has one outcome and one number of requests."""
    ran, world = one(plays(*plan), **policy)
    assert (status, requests) == (ran.outcome.status, len(ran.sent))
    summary = world.engine.metrics.summary()
    assert (1, requests - 1) == (summary["total_requests"], summary["retries"])
    assert (100.0 if status == 200 else 0.0) == summary["success_rate"]


def test_told_waits_are_kept() -> None:
    """The next attempt comes no sooner than the server asked for, and not in the call's time."""
    ran, world = one(plays(told(429, retry_after="7"), OK))
    first, second = (moment for moment, _ in ran.sent)
    assert second - first >= 7.0
    summary = world.engine.metrics.summary()
    assert 200.0 == pytest.approx(summary["avg_latency_ms"]), "two attempts of 100 ms, no wait"


def test_another_endpoint_at_once() -> None:
    """A call that failed goes to the next endpoint without a wait, also where the first one asked
    for a day; and nobody asks the first too early."""
    ran, world = one(lambda _, url: (0.5, told(429, retry_after="60") if url == A else OK), A, B)
    assert [(1000.0, A), (1000.5, B)] == ran.sent
    later = world.call(at_s=10.0)
    world.run()
    assert [B] == [url for _, url in later.sent]
    ran, _ = one(lambda _, url: (0.5, told(503, retry_after="86400") if url == A else OK), A, B)
    assert 200 == ran.outcome.status


def test_a_running_attempt_ends_at_the_deadline() -> None:
    """Whatever the server does, the caller knows within the deadline."""
    ran, world = one(plays(OK, seconds=60.0), deadline_s=2.0)
    assert (DEADLINE, 1002.0) == (ran.refused, ran.ended_s)
    assert {DEADLINE: 1} == world.engine.metrics.summary()["error_breakdown"]
    world = World(plays(OK, seconds=1.5), deadline_s=2.0, max_concurrency=1)
    first, second, third = world.call(), world.call(), world.call()
    world.run()
    assert (200, DEADLINE, DEADLINE) == (first.outcome.status, second.refused, third.refused)
    assert [1001.5, 1002.0, 1002.0] == [first.ended_s, second.ended_s, third.ended_s]


def test_a_wait_that_cannot_end_in_time_is_refused_at_once() -> None:
    """Who would have to wait longer than the deadline knows it now, and takes nothing."""
    world = World(plays(OK, seconds=0.0), deadline_s=1.0, requests_per_second=2)
    rans = [world.call() for _ in range(60)]
    world.run()
    refused = [ran for ran in rans if ran.refused == DEADLINE]
    # Two at once, one after half a second; the one whose turn is at the deadline is too late.
    assert 57 == len(refused)
    assert {1000.0} == {ran.ended_s for ran in refused}
    after = world.call(at_s=2.0)
    world.run()
    assert (1002.0, 200) == (after.sent[0][0], after.outcome.status)


def test_the_breaker_learns_the_end() -> None:
    """Answers that break after their head open it like any other failure."""
    world = World(plays(BROKEN), max_retries=0, breaker_threshold=3)
    rans = [world.call(at_s=number) for number in range(5)]
    world.run()
    assert 3 == len(world.sent_at)
    assert [OPEN, OPEN] == [ran.refused for ran in rans[3:]]


def test_streams_keep_their_place() -> None:
    """A stream's place is free when it has ended, not when it has begun; how it ends is counted."""
    for error, rate in (("", 100.0), ("ReadError", 0.0)):
        world = World(plays(Outcome(200, is_open=True)), max_concurrency=1)
        stream = world.call()
        world.run()
        waiting = world.call(at_s=1.0)
        world.run(until_s=1010.0)
        assert None is waiting.ended_s
        assert 0 == world.engine.metrics.calls
        call = world.engine.call(b"{}")
        call.has_place = True
        attempt = world.engine.attempt(call)
        assert isinstance(attempt, Attempt)
        world.engine.streamed(call, attempt, 0 if error else 200, error)
        world.run()
        assert (200, 200) == (stream.outcome.status, waiting.outcome.status)
        assert rate == world.engine.metrics.summary()["success_rate"]


def test_a_patient_call_waits_for_everything() -> None:
    """A batch's call comes again after every "too many", and waits for an open breaker."""
    world = World(plays(*[told(429)] * 9, OK), max_retries=0)
    call = world.engine.call(b"{}")
    call.is_patient = True
    plan = steps(world.engine, call)
    step, outcome = next(plan), None
    while outcome is None:
        try:
            if isinstance(step, Send):
                world.sent_at.append(world.now)
                step = plan.send(world.server(len(world.sent_at), A)[1])
            else:
                world.now += step.seconds
                step = next(plan)
        except StopIteration as ended:
            outcome = ended.value
    assert (200, 10) == (outcome.status, len(world.sent_at))


OUTCOMES = st.sampled_from(
    [
        OK,
        OK,
        OK,
        BROKEN,
        told(500),
        told(429, retry_after="1"),
        told(429, "insufficient_quota"),
        told(503, retry_after="300"),
        told(200, x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="2s"),
    ]
)


@settings(max_examples=examples(60))
@given(
    arrivals=st.lists(
        st.tuples(
            st.floats(0, 6).map(lambda s: round(s, 2)),
            st.none() | st.floats(0, 4).map(lambda s: round(s, 2)),
        ),
        min_size=1,
        max_size=25,
    ),
    answers=st.lists(st.tuples(st.floats(0.01, 3), OUTCOMES), min_size=1, max_size=12),
    per_second=st.none() | st.integers(1, 4),
    per_minute=st.none() | st.integers(2, 20),
    at_once=st.none() | st.integers(1, 3),
    deadline_s=st.none() | st.floats(0.2, 8),
    has_fallback=st.booleans(),
)
def test_no_interleaving_breaks_a_promise(
    arrivals, answers, per_second, per_minute, at_once, deadline_s, has_fallback
) -> None:
    """Whoever comes, fails, retries or leaves when: no limit is exceeded in any stretch of time, no
    call outlives its deadline, and in the end everything taken is given back."""
    world = World(
        lambda number, _: answers[number % len(answers)],
        *((A, B) if has_fallback else (A,)),
        requests_per_second=per_second,
        requests_per_minute=per_minute,
        max_concurrency=at_once,
        deadline_s=deadline_s,
        max_retries=3,
        breaker_open_s=5.0,
        backoff_base_s=0.2,
    )
    rans = [world.call(at_s, cancelled) for at_s, cancelled in arrivals]
    world.run()

    sent = sorted(world.sent_at)
    for limit, span_s in ((per_second, 1.0), (per_minute, 60.0)):
        if limit is not None:
            for first, last in itertools.combinations_with_replacement(range(len(sent)), 2):
                allowed = limit + limit / span_s * (sent[last] - sent[first])
                assert last - first + 1 <= allowed + 1e-6
    if at_once is not None:
        assert world.most_in_flight <= at_once
    for ran in rans:
        assert ran.ended_s is not None, "every call ends"
        if deadline_s is not None:
            assert ran.ended_s <= ran.began_s + deadline_s + 1e-6

    assert 0 == world.in_flight
    assert len(rans) == world.engine.metrics.calls
    world.now += 3600.0
    probe = world.engine.call(b"{}")
    for _ in range(per_second or 1):
        if per_minute is None or per_minute >= (per_second or 1):
            assert None is world.engine.try_permits(probe), "the buckets are full again"
    for _ in range(at_once or 1):
        assert None is world.engine.try_place(world.engine.call(b"{}")), "every place is free"
