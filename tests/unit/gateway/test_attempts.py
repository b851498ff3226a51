"""The retry loop: who is asked, how often, after how long, and what is remembered of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.domain.batch import ItemRef
from merino.domain.call import HEDGE_LOST
from merino.domain.deployment import Alias, Deployment
from merino.domain.errors import (
    LimitExceeded,
    NoDeploymentAvailable,
    StreamBroken,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimedOut,
    UpstreamUnreachable,
)
from merino.domain.key import VirtualKey
from merino.domain.limits import Demand, Limits
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.call import Call, CancelCause, new_call_id
from merino.gateway.fleet import CREDENTIAL_OPEN_S, Fleet, FleetPolicy
from merino.gateway.health_checks import HealthChecks
from merino.resilience.breaker import BreakerPolicy
from merino.wire.chat import parse_chat

KEY = VirtualKey(id="k", account_id="a", name="n", hint="", secret_hash=b"")
QUICK = RetryPolicy(backoff_base_s=0.0001, backoff_throttled_s=0.0001, hedge_delay_min_s=0.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Answer:
    """An upstream's answer, all there at once."""

    has_finished = False

    def __init__(self, status: int = 200, body: bytes = b"{}", headers=()) -> None:
        self.status, self.body, self.headers = status, body, list(headers)

    def header(self, name):
        return dict(self.headers).get(name)

    def header_like(self, prefix):
        return any(name.startswith(prefix) for name, _ in self.headers)

    def whole(self, bytes_max):
        return self.body

    async def read(self, bytes_max):
        return self.body

    def close(self) -> None:
        pass


class Upstreams:
    """Plays, for each deployment, what it is told: an answer, an error, or a wait before it."""

    def __init__(self, **plans) -> None:
        self.plans = {name: list(plan) for name, plan in plans.items()}
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.cancelled: Counter = Counter()
        self.running = 0
        self.at_once: list[int] = []
        self.standins: dict[str, Deployment] = {}

    async def send(self, request) -> Any:
        name = request.deployment.name
        self.asked.append(name)
        self.bodies.append(request.body)
        plan = self.plans[name]
        step = plan.pop(0) if len(plan) > 1 else plan[0]
        self.running += 1
        self.at_once.append(self.running)
        try:
            if isinstance(step, tuple):
                wait_s, step = step
                await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            self.cancelled[name] += 1
            raise
        finally:
            self.running -= 1
        if isinstance(step, Exception):
            raise step
        request.deployment = self.standins.get(name, request.deployment)
        if isinstance(step, int):
            return Answer(step)
        return step


class Consumer:
    """Takes an answer; `breaks` after content when told to."""

    used_tokens = None
    arrived = None

    def __init__(self, original=None, *, breaks: bool = False) -> None:
        self.original = original or self
        self.winner = None
        self.on_win = None
        self.deployment = None
        self.breaks = breaks
        self.answers: list = []

    @property
    def is_committed(self) -> bool:
        return self.original.winner is not None

    async def consume(self, response) -> None:
        if self.original.winner is not None:
            raise UpstreamBroken("too late")
        self.original.winner = self
        self.original.answers.append(response)
        if self.on_win is not None:
            self.on_win()
        if self.breaks:
            raise StreamBroken("broke in the middle")

    def rival(self):
        return Consumer(self)


class World:
    def __init__(self, names="ab", policy=QUICK, fleet=None, limits=None, hedging=False, **plans):
        self.clock = Clock()
        self.upstreams = Upstreams(**plans)
        self.fleet = Fleet(
            fleet or FleetPolicy(hedge_samples_min=20),
            clock=self.clock,
            chance=random.Random(1),
        )
        self.attempts = Attempts({"openai": self.upstreams}, self.fleet, policy)
        self.alias = Alias(
            "o3",
            tuple(
                Deployment(
                    name, "openai", f"model-{name}", limits=(limits or {}).get(name, Limits())
                )
                for name in names
            ),
            hedging=hedging,
        )
        self.fleet.keep(self.alias.deployments)

    def call(self, body: bytes = b'{"model":"o3","messages":[{}]}', **fields) -> Call:
        return Call(
            id=new_call_id(),
            key=KEY,
            request=parse_chat(body),
            alias=self.alias,
            received_at=perf_counter(),
            **fields,
        )

    async def run(self, call: Call | None = None, consumer=None):
        call = call or self.call()
        call.task = asyncio.current_task()
        consumer = consumer or Consumer()
        try:
            await self.attempts.run(call, self.alias.deployments, consumer)
        except UpstreamFailed as error:
            return call, consumer, error
        return call, consumer, None

    def one(self, *args, **kwargs):
        return asyncio.run(self.run(*args, **kwargs))


@pytest.mark.parametrize(
    ("plan", "asked", "status"),
    [
        ({"a": [200], "b": [200]}, "a", None),
        ({"a": [503], "b": [200]}, "ab", None),
        ({"a": [UpstreamUnreachable("no")], "b": [200]}, "ab", None),
        ({"a": [429], "b": [200]}, "ab", None),
        ({"a": [400], "b": [200]}, "a", 400),
        ({"a": [404], "b": [200]}, "ab", None),
        ({"a": [404], "b": [410]}, "ab", 410),
        ({"a": [503], "b": [404]}, "aba", 503),
        ({"a": [500, 200], "b": [502]}, "abb", 502),
        ({"a": [401], "b": [200]}, "ab", None),
    ],
)
def test_who_is_asked(plan, asked, status) -> None:
    """Failures fail over, the caller's own mistakes do not, and three attempts are all."""
    world = World(**plan)
    call, consumer, error = world.one()
    assert asked == "".join(world.upstreams.asked)
    if status is None:
        assert error is None
        assert 1 == len(consumer.answers)
    else:
        assert isinstance(error, UpstreamRefused)
        assert status == error.status
    recorded = [*(attempt.deployment for attempt in call.attempts)]
    assert list(asked)[: len(recorded)] == recorded


def test_never_after_content() -> None:
    """Once content reached the caller no other attempt follows, whatever happens."""
    world = World(a=[200], b=[200])
    _, _, error = world.one(consumer=Consumer(breaks=True))
    assert isinstance(error, StreamBroken)
    assert ["a"] == world.upstreams.asked


def test_a_breaker_keeps_calls_away_and_lets_them_back() -> None:
    """After five failures in a row a deployment is not asked; when its time is up it is tried."""
    world = World(a=[503, 503, 503, 503, 503, 200], b=[200])
    for _ in range(7):
        _, _, error = world.one()
        assert error is None
    assert "ababababab" + "bb" == "".join(world.upstreams.asked)
    state = world.fleet.state_of("a")
    assert ("open", True) == (state.breaker, 10 < state.usable_in_s < 20)
    world.clock.now += 20
    world.one()
    assert "a" == world.upstreams.asked[-1]
    assert ["open", "half_open"] == [change.state for change in world.fleet.state_of("a").history]


def test_everything_down() -> None:
    """When all breakers are open, callers are told at once, with the time to come back."""
    world = World(a=[503], b=[503])
    for _ in range(20):
        _, _, error = world.one()
    assert isinstance(error, NoDeploymentAvailable)
    assert 1 <= (error.retry_after_s or 0) <= 20
    assert "a: breaker open, b: breaker open" in error.message
    asked = len(world.upstreams.asked)
    world.one()
    assert asked == len(world.upstreams.asked)


def test_a_refused_credential_opens_at_once() -> None:
    """One 401 of our credential is enough: trying again mends nothing."""
    world = World(a=[401], b=[200])
    world.one()
    world.one()
    assert "abb" == "".join(world.upstreams.asked)
    assert "credential" in world.fleet.state_of("a").reason


def test_a_refused_credential_is_an_outcome_of_its_own() -> None:
    """What an operator has to mend is told apart from an upstream that is broken."""
    call, _, _ = World(a=[401], b=[200]).one()
    assert [("a", "CredentialRefused")] == [
        (each.deployment, each.outcome) for each in call.attempts
    ]


def test_a_refused_credential_is_known_until_the_breaker_closes() -> None:
    """Calls that were under way and failed trials are the same trouble; one good answer after the
    other ends it."""
    world = World("a", a=[401, 401, 200])
    _, _, error = world.one()
    assert error is not None
    member = world.fleet.get("a")
    since_ms = world.fleet.troubles()[0].since_ms
    changes = len(member.history)
    member.failed(error, "a", world.clock())
    assert changes == len(member.history)
    world.clock.now += CREDENTIAL_OPEN_S
    world.one()
    assert [("a", "credential", 401, since_ms)] == [each[:4] for each in world.fleet.troubles()]
    world.clock.now += CREDENTIAL_OPEN_S
    for _ in range(BreakerPolicy().probes_max):
        assert [] != world.fleet.troubles()
        world.one()
    assert ([], "closed") == (world.fleet.troubles(), member.breaker.state)


def test_a_429_is_a_rest_not_a_failure() -> None:
    """A deployment that says it gets too much is left alone as long as it says, and no longer."""
    refused = Answer(429, headers=[(b"retry-after", b"7")])
    world = World(a=[refused, 200], b=[200])
    world.one()
    world.one()
    assert "abb" == "".join(world.upstreams.asked)
    assert "closed" == world.fleet.state_of("a").breaker
    world.clock.now += 7.1
    world.one()
    assert "a" == world.upstreams.asked[-1]


def test_an_upstream_at_its_limit_is_spared() -> None:
    """`x-ratelimit-remaining: 0` on an answer is heeded before it becomes a refusal."""
    spent = Answer(
        headers=[
            (b"x-ratelimit-remaining-requests", b"0"),
            (b"x-ratelimit-reset-requests", b"1m30s"),
        ]
    )
    world = World(a=[spent], b=[200])
    world.one()
    world.one()
    assert "ab" == "".join(world.upstreams.asked)
    assert 90 == pytest.approx(world.fleet.state_of("a").usable_in_s)


def test_a_refusal_without_a_time_of_its_own_names_one_too() -> None:
    """A 429 that has no `Retry-After` says with `x-ratelimit-reset` when to come back."""
    headers = [
        (b"x-ratelimit-remaining-tokens", b"0"),
        (b"x-ratelimit-reset-tokens", b"1m30s"),
    ]
    world = World(a=[Answer(429, headers=headers)], b=[200])
    world.one()
    assert 90 == pytest.approx(world.fleet.state_of("a").usable_in_s)


def test_own_limits_of_a_deployment() -> None:
    """What a deployment may get is a limit like others; calls beyond go to the next one."""
    world = World(a=[200], b=[200], limits={"a": Limits(rpm=2)})
    for _ in range(3):
        world.one()
    assert "aab" == "".join(world.upstreams.asked)


def test_all_deployments_at_their_limits() -> None:
    """That is a limit like any other: told as one, which and how much, with a true time."""
    world = World(a=[200], b=[200], limits={"a": Limits(rpm=1), "b": Limits(rpm=2)})
    for _ in range(3):
        world.one()
    with pytest.raises(LimitExceeded, match="a: 1 requests per minute, b: 2 requests") as refused:
        world.one()
    assert 29 < (refused.value.retry_after_s or 0) <= 30
    world.fleet.drain("b", is_drained=True)  # now it is not for limits alone
    assert isinstance(world.one()[2], NoDeploymentAvailable)


WAITING = RetryPolicy(wait_s=5.0, waiting_max=6)


def test_waiting_for_room_at_the_deployments() -> None:
    """With `wait_s` a call waits for room at its deployments: first come, first served within an
    account, accounts in turn; nobody overtakes, and whoever leaves is not waited for."""
    world = World("a", WAITING, a=[(0.01, 200)], limits={"a": Limits(concurrency=1)})
    order: list[str] = []

    async def one(account: str, name: str) -> None:
        call = world.call()
        call.key = replace(KEY, account_id=account)
        _, _, error = await world.run(call)
        assert error is None
        order.append(name)

    async def scenario() -> None:
        waits = [asyncio.create_task(one("x", f"x{each}")) for each in range(4)]
        waits += [asyncio.create_task(one("y", f"y{each}")) for each in range(2)]
        await asyncio.sleep(0.005)
        waits[1].cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    asyncio.run(scenario())
    assert (["x0", "x2", "y0", "x3", "y1"], 0) == (order, len(world.attempts.turns))
    assert 1 == max(world.upstreams.at_once)


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        (RetryPolicy(wait_s=0.05), {}),
        (RetryPolicy(wait_s=60.0), {"timeout_s": 0.05}),
        (RetryPolicy(wait_s=60.0, waiting_max=0), {}),
        (RetryPolicy(wait_s=60.0), {"batch_item": ItemRef("b", 1)}),
        (RetryPolicy(), {}),
    ],
)
def test_the_wait_for_room_ends(policy, fields) -> None:
    """With `wait_s`, the deadline, or at once: then the limit is told."""
    world = World("a", policy, a=[200], limits={"a": Limits(rpm=1)})
    world.one()

    async def scenario() -> None:
        with pytest.raises(LimitExceeded, match="1 requests per minute"):
            await asyncio.wait_for(world.run(world.call(**fields)), 5)

    asyncio.run(scenario())
    assert 0 == len(world.attempts.turns)


def test_drained() -> None:
    """A drained deployment gets nothing, until it is in use again."""
    world = World(a=[200], b=[200])
    world.fleet.drain("a", is_drained=True)
    world.one()
    world.fleet.drain("a", is_drained=False)
    world.one()
    assert "ba" == "".join(world.upstreams.asked)


def test_a_used_up_budget_keeps_nobody_from_who_answers() -> None:
    """Where one deployment fails and the next has no budget left for more tries, the third is
    asked."""
    world = World("abc", a=[500], b=[500], c=[200])
    member = world.fleet.of(world.alias.deployments[1])
    member.answers, budget = False, member.budget
    while budget.try_take(world.clock()):
        pass
    assert world.one()[2] is None
    assert "ac" == "".join(world.upstreams.asked)


def test_a_newcomer_is_trusted() -> None:
    """Nothing speaks against a deployment that was never asked: when the first one fails right
    after the start, all its calls are answered, long before an answer proves that the next works."""
    never = FleetPolicy(breaker=BreakerPolicy(outcomes_min=10**9, consecutive_failures=10**9))
    world = World(a=[500], b=[(0.05, 200)], fleet=never)

    async def calls() -> None:
        assert [None] * 50 == [
            error for _, _, error in await asyncio.gather(*(world.run() for _ in range(50)))
        ]

    asyncio.run(calls())


def test_the_budget_bounds_an_outage() -> None:
    """Two deployments that only fail get at most a fifth more attempts than calls, and a burst."""
    never = FleetPolicy(breaker=BreakerPolicy(outcomes_min=10**9, consecutive_failures=10**9))
    world = World(a=[503], b=[503], fleet=never)

    async def calls() -> None:
        for _ in range(400):
            world.clock.now += 0.005
            await world.run()

    asyncio.run(calls())
    assert 400 < len(world.upstreams.asked) <= 400 * 1.2 + 2 * (3 + 10)


def test_the_deadline_forbids_a_wait_that_is_too_long() -> None:
    """A wait that ends after the caller's deadline is not begun."""
    refused = Answer(503, headers=[(b"retry-after", b"30")])
    world = World("a", a=[refused])
    began = perf_counter()
    _, _, error = world.one(world.call(timeout_s=5.0))
    assert isinstance(error, UpstreamRefused)
    assert perf_counter() - began < 2
    assert ["a"] == world.upstreams.asked


def test_a_lone_deployment_is_asked_again_after_its_rest(monkeypatch) -> None:
    """A 429 that names no time is followed by a rest, and then by another attempt."""
    monkeypatch.setattr("merino.gateway.fleet.THROTTLED_S", 0.01)
    world = World("a", a=[429, 200])
    world.fleet.clock = perf_counter
    assert world.one()[2] is None
    assert "aa" == "".join(world.upstreams.asked)


def test_a_reset_is_a_time_to_come_back() -> None:
    """A 429 whose only time is `x-ratelimit-reset` is told with it, and not tried before."""
    spent = [(b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", b"30s")]
    world = World("a", a=[Answer(429, headers=spent), 200])
    _, _, error = world.one(world.call(timeout_s=5.0))
    assert (1, 30.0) == (len(world.upstreams.asked), error.retry_after_s)


def test_a_wait_ahead_changes_nothing_now() -> None:
    """Whether a deployment may be asked after a wait is asked without making that time come: its
    limit gives nothing early, and its breaker stays open."""
    world = World("a", a=[503], limits={"a": Limits(rps=1)})
    member = world.fleet.of(world.alias.deployments[0])
    now = world.clock()
    member.end(member.begin(Demand()), "success", now, unused=Demand(0, 0))
    assert [False, True] == [member.may_be_used_after(each, Demand(), now) for each in (0.5, 1.0)]
    assert "rate_limited" == member.why_not(Demand(), now + 0.5)
    member.breaker.force_open("why not", now, for_s=2.0)
    assert [False, True] == [member.may_be_used_after(each, Demand(), now) for each in (1.5, 2.0)]
    assert "open" == member.breaker.state


def test_drained_while_a_call_waits_to_ask_again() -> None:
    """Who is drained gets no new attempt either, and the call's record promises none."""
    world = World("a", a=[Answer(503, headers=[(b"retry-after-ms", b"20")]), 200])

    async def scenario():
        task = asyncio.create_task(world.run())
        await asyncio.sleep(0.005)
        world.fleet.drain("a", is_drained=True)
        return await task

    call, _, error = asyncio.run(scenario())
    assert isinstance(error, UpstreamRefused)
    assert "a" == "".join(world.upstreams.asked)
    assert [None] == [attempt.reason_for_next for attempt in call.attempts]


async def cut(world: World, cause: CancelCause, after_s: float = 0.01, **fields):
    """A call that the watchdog cuts."""
    call = world.call(**fields)
    task = asyncio.create_task(world.run(call))
    await asyncio.sleep(after_s)
    call.cancel(cause)
    return await task


@pytest.mark.parametrize("hedging", [False, True])
def test_silence_counts_also_of_hedged_calls(hedging) -> None:
    """A deployment that hangs opens its breaker whether or not its alias hedges."""
    world = World(a=[(60.0, 200)], b=[200], hedging=hedging)
    warm(world)
    for _ in range(BreakerPolicy().consecutive_failures):
        call, _, error = asyncio.run(cut(world, "first_token_timeout"))
        assert (None, "UpstreamTimedOut") == (error, call.attempts[0].outcome)
    assert "open" == world.fleet.state_of("a").breaker


@pytest.mark.parametrize(
    ("patience_s", "usual_s", "state"),
    [(10.0, 0.0, "closed"), (0.001, 0.0, "open"), (0.001, 1.0, "closed")],
)
def test_who_is_in_a_hurry_opens_no_breaker(monkeypatch, patience_s, usual_s, state) -> None:
    """A call cut at its own caller's deadline counts against the deployment only if that one had
    the time it usually takes, and then some."""
    monkeypatch.setattr("merino.gateway.blame.PATIENCE_S", patience_s)
    world = World("a", a=[(60.0, 200)])
    if usual_s:
        warm(world, usual_s)
    for _ in range(BreakerPolicy().consecutive_failures):
        _, _, error = asyncio.run(cut(world, "total_timeout", timeout_s=0.01))
        assert isinstance(error, UpstreamTimedOut)
    assert state == world.fleet.state_of("a").breaker


ERROR = (
    b'{"error":{"message":"Unsupported parameter","type":"invalid_request_error",'
    b'"param":"%b","code":"unsupported_parameter"}}'
)


@pytest.mark.parametrize(
    ("body", "param", "sent", "told"),
    [
        (b',"temperature":0.2', b"temperature", b"", "temperature removed"),
        (b',"max_tokens":9', b"max_tokens", b',"max_completion_tokens":9', "max_tokens->"),
        (
            b',"max_completion_tokens":9',
            b"max_completion_tokens",
            b',"max_tokens":9',
            "max_completion_tokens->max_tokens",
        ),
    ],
)
def test_unsupported_parameters_are_mended_and_remembered(body, param, sent, told) -> None:
    """A parameter the upstream refuses is mended, the call repeated once, and later calls are
    mended before they are sent; the caller is told."""
    world = World("a", a=[Answer(400, ERROR % param), 200])
    text = b'{"model":"o3","messages":[{}]%b}'
    call, _, error = world.one(world.call(text % body))
    assert error is None
    assert (text % sent).replace(b"o3", b"model-a") == world.upstreams.bodies[1]
    assert any(told in each for each in call.request.adjusted)
    world.one(world.call(text % body))
    assert 3 == len(world.upstreams.bodies)
    assert world.upstreams.bodies[1] == world.upstreams.bodies[2]


@pytest.mark.parametrize("param", [b"tools", b"messages", b"nonsense"])
def test_what_shapes_the_answer_is_not_dropped(param) -> None:
    """Dropping tools or messages would answer another question: the caller hears of it."""
    world = World("a", a=[Answer(400, ERROR % param), 200])
    _, _, error = world.one(world.call(b'{"model":"o3","messages":[{}],"tools":[1]}'))
    assert isinstance(error, UpstreamRefused)
    assert 1 == len(world.upstreams.asked)


@pytest.mark.parametrize("name", ["max_tokens", "temperature"])
def test_several_unsupported_parameters_are_mended_in_one_call(name) -> None:
    """Upstreams name one parameter at a time: each is mended once, and the caller gets an answer
    the first time."""
    refusals = [Answer(400, ERROR % each) for each in (b"top_p", b"seed", name.encode())]
    world = World("a", a=[*refusals, 200])
    body = b'{"model":"o3","messages":[{}],"temperature":1,"top_p":1,"seed":1,"max_tokens":9}'
    call, _, error = world.one(world.call(body))
    assert (None, 4, 3) == (error, len(world.upstreams.asked), len(call.request.adjusted))
    # One that is refused for ever is no loop.
    world = World("a", a=[Answer(400, ERROR % b"seed")])
    world.one(world.call(body))
    assert 2 == len(world.upstreams.asked)


def test_what_was_refused_is_tried_again_after_a_while() -> None:
    """Models change: after an hour the parameter is sent again, and mended again if need be."""
    world = World("a", a=[Answer(400, ERROR % b"seed"), 200, Answer(400, ERROR % b"seed"), 200])
    body = b'{"model":"o3","messages":[{}],"seed":1}'
    sent = []
    for later_s in (0, 3590, 20):
        world.clock.now += later_s
        assert world.one(world.call(body))[2] is None
        sent.append([b'"seed":1' in each for each in world.upstreams.bodies])
        world.upstreams.bodies.clear()
        if not later_s:
            world.upstreams.plans["a"].insert(0, 200)
    assert [[True, False], [False], [True, False]] == sent


def test_what_was_mended_for_another_deployment_is_not_told() -> None:
    """`x-merino-adjusted` speaks of the request that was answered."""
    world = World(a=[Answer(400, ERROR % b"seed"), 503], b=[200])
    call = world.call(b'{"model":"o3","messages":[{}],"seed":1}')
    call.request.tell("max_completion_tokens=9 (balance)")
    assert world.one(call)[2] is None
    assert (b'"seed":1' in world.upstreams.bodies[-1], "b") == (True, call.deployment.name)
    assert ("max_completion_tokens=9 (balance)",) == call.request.adjusted


def warm(world: World, seconds: float = 0.001) -> None:
    for member in world.fleet.members():
        for _ in range(20):
            member.whole_pace.observe(seconds, 0.0, is_ranked=True)


def test_hedging() -> None:
    """A call that is late is asked for elsewhere too; the first answer wins, the other attempt is
    cancelled and remembered."""
    world = World(a=[(5.0, 200)], b=[200], hedging=True)
    warm(world)
    for _ in range(20):  # a twentieth of the calls may be hedged
        world.attempts.hedging.budget("o3").call()
    call, consumer, error = world.one()
    assert error is None
    assert ("ab", 1) == ("".join(world.upstreams.asked), world.upstreams.cancelled["a"])
    assert "b" == call.deployment.name
    assert [HEDGE_LOST] == [attempt.outcome for attempt in call.attempts]
    assert 1 == len(consumer.answers)
    assert 0 == sum(member.in_flight for member in world.fleet.members())


@pytest.mark.parametrize("hedging", [False, True])
def test_who_really_answered_is_told(hedging) -> None:
    """Where a provider lets another answer for a deployment, that is whom the call is settled with,
    also when the two raced others; and nobody else's name sticks."""
    standin = Deployment("b", "simulator", "model-b!drill", is_free=True)
    world = World(a=[(5.0, 200) if hedging else 503], b=[200], hedging=hedging)
    world.upstreams.standins["b"] = standin
    if hedging:
        warm(world)
        for _ in range(20):
            world.attempts.hedging.budget("o3").call()
    call, _, error = world.one()
    assert (None, standin) == (error, call.deployment)
    world.upstreams.standins.clear()
    world.upstreams.plans["a"] = [200]
    call, _, _ = world.one()
    assert world.alias.deployments[0] == call.deployment


@pytest.mark.parametrize("hedging", [False, True])
def test_waiting_for_upstreams_is_not_our_own_work(hedging) -> None:
    """The time of an attempt that failed, or was too slow, is told as the upstreams'."""
    policy = replace(QUICK, hedge_delay_min_s=0.1)
    first = (5.0, 200) if hedging else (0.1, 503)
    world = World(policy=policy, a=[first], b=[200], hedging=hedging)
    warm(world)
    for _ in range(20):
        world.attempts.hedging.budget("o3").call()
    call = world.call()
    call.started_at = call.received_at
    _, _, error = world.one(call)
    timing = call.timing()
    assert ("b", None) == (call.deployment.name, error)
    assert timing.upstream_ms >= 99
    assert timing.relay_ms < 50


def test_hedges_stay_in_their_budget() -> None:
    """Without a budget left a late call just takes its time."""
    world = World(a=[(0.02, 200)], b=[200], hedging=True)
    warm(world)
    for _ in range(30):
        world.one()
    assert world.upstreams.asked.count("b") <= 30 * 0.05


@pytest.mark.parametrize("leave", [False, True])
def test_hedged_calls_keep_to_limits(leave) -> None:
    """Calls that come at the same moment do not all take the one that is left; and what is taken
    is given back, also by a call that ends before it is sent."""
    world = World("a", a=[(0.01, 200)], limits={"a": Limits(concurrency=1)}, hedging=True)
    warm(world)

    async def scenario() -> list[object]:
        calls = [asyncio.create_task(world.run()) for _ in range(5)]
        await asyncio.sleep(0)
        if leave:
            for each in calls:
                each.cancel()
        return await asyncio.gather(*calls, return_exceptions=True)

    ended = asyncio.run(scenario())
    assert 4 == sum(isinstance(each, LimitExceeded) for each in ended)
    assert 1 >= len(world.upstreams.asked)
    assert [(0, 0)] == [(each.in_flight, each.limits.in_flight) for each in world.fleet.members()]


def test_both_of_a_hedge_may_fail() -> None:
    """When the first fails while the second runs the second answers; when both fail, that is the
    error, and others are tried."""
    world = World("abc", a=[(0.02, 503)], b=[(0.03, 502)], c=[200], hedging=True)
    warm(world)
    for _ in range(20):
        world.attempts.hedging.budget("o3").call()
    call, consumer, error = world.one()
    assert error is None
    assert 1 == len(consumer.answers)
    assert {"a", "b", "c"} == set(world.upstreams.asked)
    told = {each.deployment: each.status for each in call.attempts}
    assert {"a": 503, "b": 502} == told, "each attempt is remembered under its own name"


@settings(max_examples=examples(60))
@given(
    st.lists(
        st.sampled_from([200, 400, 429, 500, 503, UpstreamUnreachable("x"), UpstreamBroken("x")]),
        min_size=6,
        max_size=6,
    ),
    st.booleans(),
)
def test_never_answered_and_retried(plan, hedging) -> None:
    """Whatever the upstreams do, a call is answered at most once, and nothing is asked after."""
    world = World("abc", a=plan[:2], b=plan[2:4], c=plan[4:], hedging=hedging)
    _, consumer, error = world.one()
    assert len(consumer.answers) == (0 if error else 1)
    assert len(world.upstreams.asked) <= 3
    counts = defaultdict(int)
    for member in world.fleet.members():
        counts[member.deployment.name] = member.in_flight
    assert 0 == sum(counts.values())


class Pings:
    def __init__(self, *results) -> None:
        self.results = list(results)

    async def ping(self, deployment):
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


def test_health_checks() -> None:
    """Two failed checks open a breaker, one that succeeds closes it; a refusal is an answer; and
    each is told to the tally."""
    clock = Clock()
    fleet = Fleet(clock=clock)
    deployment = Deployment("a", "openai", "m", health_check_s=5.0)
    fleet.keep([deployment, Deployment("b", "openai", "m")])
    checks = HealthChecks(fleet, {"openai": Pings(503, UpstreamUnreachable("x"), 401)}, clock)
    seen = []
    for _ in range(3):
        due = checks.due(clock())
        assert ["a"] == [member.deployment.name for member in due]
        assert [] == checks.due(clock())
        asyncio.run(checks.check(due[0]))
        told = checks.tally.minute([Alias("m", (deployment,))], clock())
        seen.append((due[0].breaker.state, told[0].is_answered))
        clock.now += 5.0
    assert [("closed", False), ("open", False), ("closed", True)] == seen
