"""Calls that come, wait, are hedged, streamed, cancelled and dropped beside each other: the drivers'
own code on an event loop whose time passes only when nothing else is left to do."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.client.engine import ClientPolicy, Endpoint, Engine, HedgePolicy
from merino.client.hedging import Sent, race
from merino.client.steps import DEADLINE, Outcome, Refused, Send, steps
from merino.client.waiting import TimeIsUp, wait_async, within_async
from merino.client.watching import Lease

A, B = "http://a/v1", "http://b/v1"
LAST_S = 50_000.0
"""Nobody has a reason to wait until then."""


class _Idle(selectors.DefaultSelector):
    """Instead of waiting, time passes."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits, and nobody will be roused"
        self.now += max(0.0, timeout)
        assert self.now < LAST_S, "somebody waits for ever"
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._idle = _Idle()
        super().__init__(self._idle)

    def time(self) -> float:
        return self._idle.now


class Broken(Exception):
    """Nothing came."""


@dataclass(frozen=True)
class Plan:
    """What a server does with a request: after so many seconds, this status (0: the connection
    breaks); a stream is read for so long, then it ends so (`None`: its reader drops it)."""

    seconds: float
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    read_s: float = 0.0
    end: str | None = ""


class Response:
    def __init__(self, plan: Plan, world: World) -> None:
        self.plan = plan
        self.status_code = plan.status
        self.headers = dict(plan.headers)
        self._world = world
        self._is_open = True

    async def aclose(self) -> None:
        if self._is_open:
            self._is_open = False
            self._world.in_flight -= 1


@dataclass
class World:
    engine: Engine
    plans: list[Plan]
    clock: Callable[[], float]
    in_flight: int = 0
    most_in_flight: int = 0
    sent: list[tuple[float, int]] = field(default_factory=list)

    async def send(self, tokens: int) -> Response:
        plan = self.plans[len(self.sent) % len(self.plans)]
        self.sent.append((self.clock(), tokens))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(plan.seconds)
            if not plan.status:
                raise Broken
        except BaseException:
            self.in_flight -= 1
            raise
        return Response(plan, self)

    async def attempt(self, step: Send, *, is_stream: bool) -> Outcome:
        """As the clients' `_sent` does, over a server of ours."""

        async def one(_: object) -> Response:
            return await self.send(step.call.tokens)

        async def raced() -> Sent:
            if self.engine.hedge_after_s(step.call) is None:
                try:
                    return Sent(step.attempt, response=await one(None))
                except Broken as broken:
                    return Sent(step.attempt, failure=broken)
            return await race(self.engine, step.call, step.attempt, one, (Broken,))

        try:
            found = await within_async(step.seconds, raced)
        except TimeIsUp:
            return Outcome(0, error=DEADLINE)
        step.attempt = found.attempt
        response = found.response
        if response is None:
            return Outcome(0, error="Broken")
        is_open = is_stream and response.status_code < 400
        if not is_open:
            await response.aclose()
        return Outcome(response.status_code, response.headers, is_open=is_open, response=response)

    async def call(self, prompt: str, *, is_stream: bool) -> float:
        """Ask, and read what comes; returns when the answer, or its head, was there."""
        engine = self.engine
        body = json.dumps({"model": "m", "stream": is_stream, "max_tokens": 10, "p": prompt})
        call = engine.call(body.encode(), may_hedge=True)
        plan, last = steps(engine, call), None
        try:
            step = next(plan)
            while True:
                if not isinstance(step, Send):
                    await wait_async(step)
                    step = next(plan)
                    continue
                last = step
                step = plan.send(await self.attempt(step, is_stream=is_stream))
        except StopIteration as ended:
            outcome: Outcome = ended.value
        except Refused:
            return self.clock()
        except BaseException as broken:
            plan.throw(broken)
            raise
        ended_s = self.clock()
        if outcome.is_open:
            assert last is not None
            await self._read(outcome.response, Lease(engine, call, last.attempt, 200))
        return ended_s

    @staticmethod
    async def _read(response: Response, lease: Lease) -> None:
        plan = response.plan
        error: str | None = "cancelled"
        try:
            await asyncio.sleep(plan.read_s)
            error = plan.end
        finally:
            await response.aclose()
            if error is None:
                lease.drop()
            else:
                lease.end(error)


SECONDS = st.floats(0.01, 3).map(lambda s: round(s, 2))
PLANS = st.builds(
    Plan,
    SECONDS,
    st.sampled_from([200, 200, 200, 200, 0, 429, 500]),
    st.sampled_from([(), (), (("retry-after", "1"),), (("x-should-retry", "false"),)]),
    SECONDS,
    st.sampled_from(["", "", "ReadError", None]),
)
ARRIVALS = st.tuples(
    SECONDS.map(lambda s: s * 2), st.none() | SECONDS, st.booleans(), st.integers(0, 90)
)


@settings(max_examples=examples(40))
@given(
    arrivals=st.lists(ARRIVALS, min_size=1, max_size=20),
    plans=st.lists(PLANS, min_size=1, max_size=10),
    per_second=st.none() | st.integers(1, 4),
    tokens_per_minute=st.none() | st.integers(20, 400),
    at_once=st.none() | st.integers(1, 3),
    deadline_s=st.none() | st.floats(0.2, 8),
    has_fallback=st.booleans(),
    hedges=st.booleans(),
)
def test_streams_hedges_and_tokens(
    arrivals, plans, per_second, tokens_per_minute, at_once, deadline_s, has_fallback, hedges
) -> None:
    """Whoever is hedged, streams, drops, fails or leaves when: no limit is exceeded in any stretch
    of time, no call waits beyond its deadline, and in the end all that was taken is given back."""
    loop = _Loop()
    policy = ClientPolicy(
        requests_per_second=per_second,
        tokens_per_minute=tokens_per_minute,
        max_concurrency=at_once,
        deadline_s=deadline_s,
        max_retries=3,
        breaker_open_s=5.0,
        backoff_base_s=0.2,
        hedge=HedgePolicy(share=1.0, samples_min=1, delay_min_s=0.1) if hedges else None,
    )
    endpoints = [Endpoint(url, "k") for url in ((A, B) if has_fallback else (A,))]
    world = World(Engine(endpoints, policy, clock=loop.time), plans, loop.time)

    async def one(at_s: float, cancelled_after_s: float | None, is_stream: bool, size: int) -> None:
        await asyncio.sleep(at_s)
        began_s = loop.time()
        task = asyncio.create_task(world.call("x" * size, is_stream=is_stream))
        if cancelled_after_s is not None:
            loop.call_later(cancelled_after_s, task.cancel)
        try:
            ended_s = await task
        except asyncio.CancelledError:
            return
        if deadline_s is not None:
            assert ended_s <= began_s + deadline_s + 1e-6

    async def everybody() -> None:
        await asyncio.gather(*(one(*each) for each in arrivals))

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(everybody())

    rows = sorted(world.sent)
    sums = [0]
    for _, tokens in rows:
        sums.append(sums[-1] + min(tokens, tokens_per_minute or 0))
    for first, last in combinations_with_replacement(range(len(rows)), 2):
        span_s = rows[last][0] - rows[first][0] + 1e-6
        if per_second is not None:
            assert last - first + 1 <= per_second * (1 + span_s) + 1e-6
        if tokens_per_minute is not None:
            assert sums[last + 1] - sums[first] <= tokens_per_minute * (1 + span_s / 60) + 1e-6
    if at_once is not None:
        assert world.most_in_flight <= at_once

    engine = world.engine
    engine.sweep()
    assert 0 == world.in_flight
    assert len(arrivals) == engine.metrics.calls
    for _ in range(at_once or 1):
        assert None is engine.try_place(engine.call(b"{}")), "every place is free"
    loop._idle.now += 3600.0
    probe = engine.call(b"x" * 3 * (tokens_per_minute or 0))
    assert None is engine.try_permits(probe), "nobody stands in the queue, and buckets are full"
