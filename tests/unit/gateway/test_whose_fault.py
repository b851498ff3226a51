"""What is the relay's own fault, or nobody's, is not held against a deployment."""

from __future__ import annotations

import asyncio
from time import perf_counter
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.test_attempts import Clock, World, cut

from merino.domain.deployment import Deployment
from merino.domain.errors import UpstreamBroken, UpstreamTimedOut
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.fleet import Fleet
from merino.gateway.health_checks import FAILURES_MIN, HealthChecks
from merino.gateway.metering import StreamLimits, StreamRelay
from merino.gateway.whole_answer import WholeAnswer
from merino.resilience.breaker import BreakerPolicy
from merino.running.standstill import Standstill
from merino.running.watchdog import Watchdog

MANY = 3 * BreakerPolicy().consecutive_failures

OWN = [
    UpstreamTimedOut("all connections are busy", code="upstream_pool_exhausted"),
    UpstreamBroken("larger than we take", code="upstream_answer_too_large"),
    UpstreamBroken("larger than we take", code="upstream_event_too_large"),
]


@pytest.mark.parametrize("error", OWN, ids=lambda each: each.code)
def test_our_own_limits_open_no_breaker(error) -> None:
    """However often the relay's own limit ends an attempt, others may go there."""
    world = World("a", a=[error])
    for _ in range(MANY):
        world.one()

    assert "closed" == world.fleet.state_of("a").breaker
    assert world.fleet.get("a").answers


@pytest.mark.parametrize(
    ("error", "asked"),
    list(zip(OWN, ("abb", "a", "a"), strict=True)),
    ids=[each.code for each in OWN],
)
def test_too_large_is_not_bought_again(error, asked) -> None:
    """Neither there nor elsewhere, whereas a busy pool is no reason to give up."""
    world = World(a=[error], b=[UpstreamBroken("down")])
    _, _, found = world.one()

    assert asked == "".join(world.upstreams.asked)
    assert found is not None


@pytest.mark.parametrize("cause", ["first_token_timeout", "answer_timeout", "idle_timeout"])
def test_a_failure_across_a_standstill_says_nothing(cause) -> None:
    """Whatever ended the attempt: while the relay stood still, nobody could answer it."""
    world = World("a", RetryPolicy(attempts_max=1), a=[(60.0, 200)])
    standstill = Standstill()
    world.attempts = Attempts(
        {"openai": world.upstreams}, world.fleet, world.attempts.policy, standstill
    )

    async def stopped() -> None:
        call = world.call()
        standstill.subscribe(call.grant)
        standstill.begin(perf_counter() - 30.0)  # the clock was last looked at half a minute ago
        task = asyncio.create_task(world.run(call))
        await asyncio.sleep(0.001)
        call.cancel(cause)
        await task

    for _ in range(MANY):
        asyncio.run(stopped())
    assert "closed" == world.fleet.state_of("a").breaker
    for _ in range(MANY):
        asyncio.run(cut(world, cause))
    assert "open" == world.fleet.state_of("a").breaker


class Reply:
    has_begun = is_writable = True
    is_disconnected = False

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data) -> None:
        self.sent.append(data)


def watched(kind: str, world: World, now: float):
    """A call's stream or whole answer whose attempt began just now, with a second for each limit."""
    call: Any = world.call()
    call.deployment = Deployment(
        "a", "openai", "m", first_token_timeout_s=1.0, idle_timeout_s=1.0, answer_timeout_s=1.0
    )
    call.received_at = call.started_at = call.sent_at = now
    call.timeout_s = 1.0
    call.task = SimpleNamespace(cancel=lambda: None)
    if kind == "whole":
        return call, WholeAnswer(call, 100)
    limits = StreamLimits(keep_alive_s=1000.0)
    relay = StreamRelay(call, cast("Any", Reply()), limits, lambda more: True, keep=False)
    relay._has_content = kind == "flowing"
    relay._last_read_at = now
    return call, relay


@settings(deadline=None)
@given(
    kind=st.sampled_from(("whole", "waiting", "flowing")),
    before_s=st.floats(0.0, 0.9),
    lost_s=st.floats(1.0, 1e5),
    after_s=st.floats(0.0, 2.0),
)
def test_time_that_did_not_run_is_nobodys(kind, before_s, lost_s, after_s) -> None:
    """A call is cut when its limit has passed without the standstill, and never before."""
    begun = perf_counter()
    call, relay = watched(kind, World("a", a=[200]), begun)
    now = begun + before_s + lost_s
    relay.grant(lost_s, now)
    relay.check(now)
    assert call.cancel_cause is None

    relay.check(now + after_s)
    elapsed_s = before_s + after_s
    assert abs(elapsed_s - 1.0) < 1e-6 or (elapsed_s > 1.0) == (call.cancel_cause is not None)
    assert abs(call.lost_s - lost_s) < 1e-9


def test_a_sweep_that_comes_late_judges_nobody(monkeypatch) -> None:
    """It grants what was lost to every call, and looks at them only the next time."""
    happened: list[str] = []
    all_of_it = asyncio.Event()

    class Call:
        def grant(self, lost_s, now) -> None:
            happened.append(f"granted {round(lost_s)}")

        def check(self, now) -> None:
            happened.append("checked")
            if len(happened) > 2:
                all_of_it.set()

    readings = iter((0.0, 0.2, 60.2, 60.4))
    monkeypatch.setattr("merino.running.watchdog.perf_counter", lambda: next(readings, 60.5))

    async def scenario() -> None:
        standstill = Standstill()
        watchdog = Watchdog(0.0, standstill)
        watchdog.watch(Call())
        sweeping = asyncio.create_task(watchdog.run())
        await all_of_it.wait()
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        assert 0.0 == standstill.note(1e6), "nobody looks any more"

    asyncio.run(scenario())
    assert ["checked", "granted 60", "checked"] == happened[:3]


class Pings:
    def __init__(self, error: Exception, during=lambda: None) -> None:
        self._error, self._during = error, during

    async def ping(self, deployment):
        self._during()
        raise self._error


@pytest.mark.parametrize("why", ["pool", "standstill", "upstream"])
def test_health_checks_blame_nobody_else(why) -> None:
    """A check that found no connection free, or during which the relay stood still, counts as
    none."""
    clock = Clock()
    fleet = Fleet(clock=clock)
    member = fleet.of(Deployment("a", "openai", "m", health_check_s=1.0))
    standstill = Standstill()
    standstill.begin(clock.now)

    def during() -> None:
        clock.now += 30.0 if why == "standstill" else 0.5

    error = OWN[0] if why == "pool" else UpstreamTimedOut("no", code="upstream_connect_timeout")
    checks = HealthChecks(fleet, {"openai": Pings(error, during)}, clock, standstill)
    for _ in range(FAILURES_MIN):
        asyncio.run(checks.check(member))

    assert ("open" if why == "upstream" else "closed") == member.breaker.state
