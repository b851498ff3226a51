"""When a call is sent a second time, where, and who wins."""

from __future__ import annotations

import asyncio
import json

import pytest

from merino.client.engine import LOST, Attempt, ClientPolicy, Endpoint, Engine, HedgePolicy
from merino.client.hedging import race

BODY = json.dumps({"model": "o3", "messages": []}).encode()
PRESSED = HedgePolicy(share=1.0, samples_min=4, delay_min_s=0.0)


class Heard:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.attempts = []

    def attempt(self, event) -> None:
        self.attempts.append(event)

    def call(self, event) -> None: ...


class Answer:
    """As much of a response as a race looks at."""

    def __init__(self, status: int = 200) -> None:
        self.status_code = status
        self.headers: dict[str, str] = {}
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True


class Stand:
    """An engine on a clock of the test's own, with endpoints `a` and perhaps `b`."""

    def __init__(self, *names: str, hedge: HedgePolicy = PRESSED, **policy) -> None:
        self.now = 1000.0
        self.heard = Heard()
        endpoints = [Endpoint(f"http://{name}/v1", name) for name in names or ("a", "b")]
        self.engine = Engine(
            endpoints, ClientPolicy(hedge=hedge, **policy), [self.heard], clock=lambda: self.now
        )

    def answered(self, seconds: float, body: bytes = BODY) -> None:
        """One call that took so long."""
        call = self.engine.call(body, may_hedge=True)
        attempt = self.engine.attempt(call)
        assert isinstance(attempt, Attempt)
        self.now += seconds
        self.engine.answered(call, attempt, 200, {})

    def begun(self):
        call = self.engine.call(BODY, may_hedge=True)
        attempt = self.engine.attempt(call)
        assert isinstance(attempt, Attempt)
        return call, attempt


def test_the_wait_is_the_observed_quantile() -> None:
    """Nothing is hedged before enough first bytes were seen; then after their p95, each model and
    streams apart from plain calls."""
    stand = Stand(hedge=HedgePolicy(samples_min=20, delay_min_s=0.1))
    call, _ = stand.begun()
    for number in range(19):
        stand.answered(0.2 + number / 100)
        assert None is stand.engine.hedge_after_s(call)
    stand.answered(3.0)
    assert 3.0 == pytest.approx(stand.engine.hedge_after_s(call))
    for fields in ({"model": "o4"}, {"model": "o3", "stream": True}):
        other = stand.engine.call(json.dumps(fields).encode(), may_hedge=True)
        assert None is stand.engine.hedge_after_s(other)


def test_the_least_wait() -> None:
    """Quick answers are not raced against each other."""
    stand = Stand(hedge=HedgePolicy(samples_min=4, delay_min_s=0.5))
    for _ in range(4):
        stand.answered(0.01)
    assert 0.5 == stand.engine.hedge_after_s(stand.begun()[0])


def test_calls_that_must_not_be_sent_twice() -> None:
    """Neither a call that was not said to be harmless nor one without a model is hedged."""
    stand = Stand()
    for _ in range(4):
        stand.answered(0.1)
    assert None is stand.engine.hedge_after_s(stand.engine.call(BODY))
    assert None is stand.engine.hedge_after_s(stand.engine.call(b"[]", may_hedge=True))
    assert None is stand.engine.hedge_after_s(stand.engine.call(b"\xff", may_hedge=True))


def test_where_the_second_goes() -> None:
    """To another endpoint that is well, else to the same one, and only once per call."""
    stand = Stand("a", "b")
    call, first = stand.begun()
    second = stand.engine.hedge(call, first)
    assert ("b", True) == (second.endpoint.api_key, second.is_hedge)
    assert None is stand.engine.hedge_after_s(call)
    alone = Stand("a")
    call, first = alone.begun()
    assert "a" == alone.engine.hedge(call, first).endpoint.api_key


def test_an_endpoint_that_rests_gets_no_hedge() -> None:
    """One that said 429 with a time to come back is left alone until then."""
    stand = Stand("a", "b", max_retries=0)
    call, first = stand.begun()
    failed = stand.engine.attempt(call, first)
    assert isinstance(failed, Attempt)
    assert "b" == failed.endpoint.api_key
    stand.engine.answered(call, failed, 429, {"retry-after": "30"})
    call, first = stand.begun()
    assert "a" == stand.engine.hedge(call, first).endpoint.api_key


def test_the_budget() -> None:
    """However slow everything is, no more than the share of calls is hedged."""
    stand = Stand(hedge=HedgePolicy(share=0.05, samples_min=1, delay_min_s=0.0))
    hedged = 0
    for _ in range(1000):
        call, first = stand.begun()
        hedged += stand.engine.hedge(call, first) is not None
    assert 50 == pytest.approx(hedged, abs=1)


def test_limits_count_hedges() -> None:
    """A hedge takes a permit that is there at once, or is not sent."""
    stand = Stand(requests_per_second=2)
    call, first = stand.begun()
    assert None is stand.engine.try_permits(call)
    assert None is not stand.engine.hedge(call, first)
    call, first = stand.begun()
    assert None is stand.engine.hedge(call, first)


def raced(stand: Stand, plan: dict[str, object]):
    """The outcome of a race in which each endpoint does what the plan says: an answer or error at
    once, or `None`: never. Returns it with the endpoints whose attempt was cancelled."""
    cancelled: list[str] = []

    async def send(attempt: Attempt):
        name = attempt.endpoint.api_key
        if plan[name] is None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(name)
                raise
        planned = plan[name]
        if isinstance(planned, Exception):
            raise planned
        return planned

    async def scenario():
        call, first = stand.begun()
        ended = await asyncio.wait_for(race(stand.engine, call, first, send, (OSError,)), 5)
        stand.engine.answered(call, ended.attempt, ended.response.status_code, {})
        return ended, call

    for _ in range(4):
        stand.answered(0.001)
    ended, call = asyncio.run(scenario())
    return ended, call, cancelled


def test_the_hedge_wins() -> None:
    """The slow attempt is cancelled, and every sink hears of both."""
    stand = Stand(max_concurrency=1)
    ended, _, cancelled = raced(stand, {"a": None, "b": Answer()})
    assert ("b", ["a"]) == (ended.attempt.endpoint.api_key, cancelled)
    assert stand.engine.try_hedge_place(), "the second attempt's place is free again"
    seen = [(event.status, event.error, event.is_hedge) for event in stand.heard.attempts[-2:]]
    assert [(0, LOST, False), (200, "", True)] == seen
    metrics = stand.engine.metrics
    assert (1, 1, 0) == (metrics.hedges, metrics.hedges_won, metrics.retries)


def test_a_failed_hedge_harms_nothing() -> None:
    """When the second fails, the first goes on; its failure counts against its endpoint."""
    for failure in (Answer(503), OSError("gone")):
        stand = Stand()
        first = Answer()
        event = asyncio.Event()

        async def slow(attempt, failure=failure, event=event, first=first):
            if attempt.is_hedge:
                asyncio.get_running_loop().call_later(0.01, event.set)
                if isinstance(failure, Exception):
                    raise failure
                return failure
            await event.wait()
            return first

        async def scenario(stand=stand, slow=slow):
            call, attempt = stand.begun()
            return await race(stand.engine, call, attempt, slow, (OSError,))

        for _ in range(4):
            stand.answered(0.001)
        ended = asyncio.run(scenario())
        assert first is ended.response
        assert not first.closed
        failed = stand.heard.attempts[-1]
        assert (True, False) == (failed.is_hedge, failed.will_retry)
        assert isinstance(failure, OSError) or failure.closed


def test_both_fail() -> None:
    """The last failure is what the retry loop goes on with."""
    stand = Stand()
    event = asyncio.Event()

    async def send(attempt):
        if not attempt.is_hedge:
            await event.wait()
            raise OSError("first")
        asyncio.get_running_loop().call_later(0.01, event.set)
        raise OSError("second")

    async def scenario():
        call, attempt = stand.begun()
        return await race(stand.engine, call, attempt, send, (OSError,))

    for _ in range(4):
        stand.answered(0.001)
    ended = asyncio.run(scenario())
    assert ("first", None) == (str(ended.failure), ended.response)


def test_no_place_no_hedge() -> None:
    """With as many calls at once as are allowed, none is doubled."""

    async def scenario(stand):
        call, attempt = stand.begun()
        done = asyncio.Event()

        async def send(attempt):
            await done.wait()
            return Answer()

        racing = asyncio.create_task(race(stand.engine, call, attempt, send, (OSError,)))
        asyncio.get_running_loop().call_later(0.02, done.set)
        await racing
        return call

    stand = Stand(max_concurrency=1)
    for _ in range(4):
        stand.answered(0.001)
    assert stand.engine.try_hedge_place()
    assert 0 == asyncio.run(scenario(stand)).hedges


def test_a_cancelled_call_cancels_both() -> None:
    """Nothing is left behind, and no endpoint is blamed."""
    stand = Stand()
    for _ in range(4):
        stand.answered(0.001)
    running: list[str] = []

    async def scenario() -> None:
        both = asyncio.Event()

        async def send(attempt):
            running.append(attempt.endpoint.api_key)
            if attempt.is_hedge:
                both.set()
            try:
                await asyncio.Event().wait()
            finally:
                running.remove(attempt.endpoint.api_key)

        call, first = stand.begun()
        racing = asyncio.create_task(race(stand.engine, call, first, send, (OSError,)))
        await asyncio.wait_for(both.wait(), 5)
        assert ["a", "b"] == running
        racing.cancel()
        await asyncio.gather(racing, return_exceptions=True)
        assert {asyncio.current_task()} == asyncio.all_tasks()

    asyncio.run(scenario())
    assert [] == running
    assert 4 == len(stand.heard.attempts)


@pytest.mark.parametrize("fields", [{"quantile": 1.0}, {"share": 0.0}, {"samples_min": 0}])
def test_wrong_policies(fields) -> None:
    """A policy that could never work is refused when it is made."""
    with pytest.raises(ValueError, match="hedge"):
        HedgePolicy(**fields)
