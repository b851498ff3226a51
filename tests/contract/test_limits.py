"""What every adapter of `gateway.ports.Limits` must do, wherever it keeps its state.

A store shared by several relays is proven by one more factory in `ADAPTERS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.domain.account import AccountLimit
from merino.domain.deployment import Alias
from merino.domain.errors import LimitExceeded
from merino.domain.key import VirtualKey
from merino.domain.limits import Demand, Limits
from merino.gateway.limits import LimitPolicy, RateLimiter
from merino.gateway.ports import Limiter

O3 = Alias("o3", ())


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class ChangingLimits(Limiter, Protocol):
    """The port, and how its owner tells it of changes."""

    def configure(self, policy: LimitPolicy) -> None: ...

    def account_changed(self, account_id: str) -> None: ...


ADAPTERS: Mapping[str, Callable[[LimitPolicy, Callable[[], float]], ChangingLimits]] = {
    "memory": RateLimiter
}


@dataclass
class World:
    """Limits over accounts that may change, and a clock."""

    make: Callable[[LimitPolicy, Callable[[], float]], ChangingLimits]
    accounts: dict[str, AccountLimit] = field(default_factory=dict)
    wait_s: float = 0.0
    waiting_max: int = 1000
    clock: Clock = field(default_factory=Clock)

    def limits(self) -> ChangingLimits:
        return self.make(self.policy(), self.clock)

    def policy(self) -> LimitPolicy:
        return LimitPolicy(
            account_limit=lambda account_id: self.accounts.get(account_id, AccountLimit()),
            wait_s=self.wait_s,
            waiting_max=self.waiting_max,
        )


@pytest.fixture(params=sorted(ADAPTERS))
def world(request: pytest.FixtureRequest) -> Callable[..., World]:
    return lambda **more: World(ADAPTERS[request.param], **more)


def key(name: str = "ci", account: str = "acme", **limits) -> VirtualKey:
    return VirtualKey(
        id=f"key_{name}",
        account_id=account,
        name=name,
        hint="mk-..",
        secret_hash=b"",
        limits=Limits(**limits),
    )


def admitted(limits: Limiter, subject: VirtualKey, tokens=0, alias=O3, times=1000) -> int:
    count = 0
    for _ in range(times):
        try:
            limits.take(subject, alias, Demand(1, tokens)).release(Demand(1, tokens))
        except LimitExceeded:
            break
        count += 1
    return count


def refused(limits: Limiter, subject: VirtualKey, tokens=0, alias=O3) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as caught:
        limits.take(subject, alias, Demand(1, tokens))
    return caught.value


async def taken(limits: Limiter, subject: VirtualKey, tokens=0, alias=O3, within_s=60.0):
    """As the pipeline takes: at once, else with a turn in the queue."""
    try:
        return limits.take(subject, alias, Demand(1, tokens))
    except LimitExceeded as refusal:
        return await limits.wait(subject, alias, Demand(1, tokens), refusal, within_s)


async def settled() -> None:
    """Every task has got as far as it can without the clock."""
    for _ in range(5):
        await asyncio.sleep(0)


# -- what applies ---------------------------------------------------------------------------------


def test_no_limit_costs_nothing(world) -> None:
    """Without limits every call is admitted, and no header claims otherwise."""
    limits = world().limits()
    assert 1000 == admitted(limits, key())
    assert [] == limits.headers(key(), O3)


@pytest.mark.parametrize(
    ("subject", "account", "alias", "said"),
    [
        (key(rps=3), None, O3, "3 requests per second of key 'ci'"),
        (key(rpm=3), None, O3, "3 requests per minute of key 'ci'"),
        (key(), AccountLimit(Limits(rpm=3)), O3, "3 requests per minute of account 'acme'"),
        (key(), AccountLimit(Limits(rpm=3), name="Acme Ltd"), O3, "of account 'Acme Ltd'"),
        (key(), None, Alias("o3", (), limits=Limits(rpm=3)), "of alias 'o3'"),
        (key(rpm=9), AccountLimit(Limits(rpm=3)), O3, "of account 'acme'"),
    ],
)
def test_each_limit_limits(world, subject, account, alias, said) -> None:
    """Limits of key, account and alias all hold; the refusal names whose it is and its value."""
    limits = world(accounts={} if account is None else {"acme": account}).limits()
    assert 3 == admitted(limits, subject, alias=alias)
    refusal = refused(limits, subject, alias=alias)
    assert said in refusal.message
    assert "rate_limit_exceeded" == refusal.code


def test_an_account_and_an_alias_are_shared(world) -> None:
    """Keys of one account share its limit, callers of one alias the alias's; others have their
    own."""
    limits = world(accounts={"acme": AccountLimit(Limits(rpm=3))}).limits()
    alias = Alias("o4", (), limits=Limits(rpm=2))
    assert 2 == admitted(limits, key("one"), times=2)
    assert 1 == admitted(limits, key("two"))
    assert 2 == admitted(limits, key("three", "umbrella"), alias=alias)
    assert 0 == admitted(limits, key("four", "initech"), alias=alias)
    assert 1000 == admitted(limits, key("four", "initech"))


# -- all or none ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tight", [Limits(rps=1), Limits(rpm=1), Limits(tpm=100), Limits(concurrency=1)]
)
def test_a_refused_call_takes_nothing(world, tight) -> None:
    """Whichever limit refuses, no other has given anything, however often the call comes."""
    limits = world(
        accounts={"acme": AccountLimit(Limits(rpm=50, tpm=5000, concurrency=5))}
    ).limits()
    narrow = Alias("narrow", (), limits=tight)
    running = limits.take(key(), narrow, Demand(1, 100))
    before = limits.headers(key(), O3)
    for _ in range(20):
        refused(limits, key(), 100, narrow)
    refused(limits, key(), 4950)
    assert before == limits.headers(key(), O3)
    assert [limits.take(key(), O3, Demand(1, 0)) for _ in range(4)], (
        "concurrency was not taken either"
    )
    running.release(Demand(1, 100))


def test_a_refusal_names_what_takes_longest(world) -> None:
    """Several limits without room: the named one, and the time, are those of the last to have
    room; whoever comes back then is admitted."""
    setting = world(accounts={"acme": AccountLimit(Limits(rpm=1))})
    limits = setting.limits()
    subject = key(rps=1)
    limits.take(subject, O3, Demand(1, 0)).release(Demand(1, 0))
    refusal = refused(limits, subject)
    assert "per minute of account" in refusal.message
    assert refusal.retry_after_s == pytest.approx(60)
    setting.clock.now += refusal.retry_after_s
    limits.take(subject, O3, Demand(1, 0))


# -- giving back ----------------------------------------------------------------------------------


def test_tokens_are_given_back(world) -> None:
    """A call takes its estimate of LLM tokens and gets back what it did not use, once."""
    limits = world().limits()
    subject = key(tpm=1000)
    permit = limits.take(subject, O3, Demand(1, 900))
    refused(limits, subject, 200)
    permit.release(Demand(1, 100))
    permit.release(Demand(1, 100))
    limits.take(subject, O3, Demand(1, 900))
    assert (b"x-ratelimit-remaining-tokens", b"0") in limits.headers(subject, O3)


def test_more_than_estimated_is_a_debt(world) -> None:
    """Who used more than the estimate waits the longer before the next call."""
    setting = world()
    limits = setting.limits()
    subject = key(tpm=600)
    limits.take(subject, O3, Demand(1, 100)).release(Demand(1, 700))
    refusal = refused(limits, subject, 100)
    assert refusal.retry_after_s == pytest.approx(20)
    setting.clock.now += refusal.retry_after_s
    limits.take(subject, O3, Demand(1, 100))


def test_a_call_that_was_refused_elsewhere_takes_nothing(world) -> None:
    """A permit that is undone leaves every limit as if the call had never come, once."""
    limits = world(accounts={"acme": AccountLimit(Limits(rps=5, concurrency=1))}).limits()
    subject = key(rpm=10, tpm=1000)
    limits.take(subject, O3, Demand(1, 0)).release(Demand(1, 0))
    before = limits.headers(subject, O3)
    permit = limits.take(subject, O3, Demand(1, 700))
    permit.undo()
    permit.undo()
    permit.release(Demand(1, 0))
    assert before == limits.headers(subject, O3)
    assert 4 == admitted(limits, subject)


def test_calls_in_flight(world) -> None:
    """Concurrency counts what runs, and frees its place when that ends, once."""
    limits = world().limits()
    subject = key(concurrency=2)
    first, _ = limits.take(subject, O3, Demand(1, 0)), limits.take(subject, O3, Demand(1, 0))
    assert "2 calls in flight" in refused(limits, subject).message
    first.release(Demand(1, 0))
    first.release(Demand(1, 0))
    limits.take(subject, O3, Demand(1, 0))
    refused(limits, subject)


# -- the truth about when to come back ------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "used_s", "wait_s"),
    [({"rps": 4}, 0.0, 0.25), ({"rpm": 600}, 0.0, 0.1), ({"rpm": 6}, 4.0, 6.0)],
)
def test_the_named_time_is_true(world, limit, used_s, wait_s) -> None:
    """A caller who comes back when told is admitted, and one who comes earlier is not."""
    setting = world()
    limits = setting.limits()
    subject = key(**limit)
    admitted(limits, subject)
    setting.clock.now += used_s
    refusal = refused(limits, subject)
    assert refusal.retry_after_s == pytest.approx(wait_s)
    setting.clock.now += refusal.retry_after_s - 0.001
    refused(limits, subject)
    setting.clock.now += 0.001_001
    limits.take(subject, O3, Demand(1, 0))


def test_a_call_that_never_fits(world) -> None:
    """A call larger than the limit is told so, instead of being told to come back."""
    refusal = refused(world().limits(), key(tpm=1000), 1001)
    assert ("call_exceeds_limit", None) == (refusal.code, refusal.retry_after_s)


@given(
    tpm=st.integers(1, 50_000),
    used=st.integers(0, 50_000),
    asked=st.integers(1, 60_000),
    supposed=st.integers(0, 60_000),
)
def test_what_is_only_supposed_refuses_no_call(tpm, used, asked, supposed) -> None:
    """Beyond what a call asks for itself, it gets what there is, at least half of what the limit
    holds; it is refused for good only if it asks for more than that ever is."""
    limits = World(RateLimiter).limits()
    subject, tokens = key(tpm=tpm), asked + supposed
    limits.take(subject, O3, Demand(1, min(used, tpm))).release(Demand(1, min(used, tpm)))
    try:
        permit = limits.take(subject, O3, Demand(1, tokens), asked)
    except LimitExceeded as error:
        assert ("call_exceeds_limit" == error.code) == (asked > tpm)
        return
    granted = tokens if permit.tokens_max is None else permit.tokens_max
    assert asked <= granted <= tpm
    assert granted == tokens or granted >= tpm // 2
    assert tokens > tpm or granted == tokens


def test_a_call_that_gets_less_may_wait_for_it(world) -> None:
    """Its turn comes when half of what the limit holds is there again, not all of it."""
    now = world(wait_s=60.0)

    async def scenario() -> int | None:
        limits = now.limits()
        subject = key(tpm=6000)
        limits.take(subject, O3, Demand(1, 5000)).release(Demand(1, 5000))
        with pytest.raises(LimitExceeded) as caught:
            limits.take(subject, O3, Demand(1, 100_000), 100)
        assert caught.value.retry_after_s == pytest.approx(20)
        waiting = asyncio.create_task(
            limits.wait(subject, O3, Demand(1, 100_000), caught.value, 60.0, 100)
        )
        await settled()
        now.clock.now += 20
        limits.take(key("other"), O3, Demand(1, 0)).release(Demand(1, 0))
        limits.account_changed("acme")
        return (await waiting).tokens_max

    assert 3000 == asyncio.run(scenario())


def test_headers_show_the_tightest(world) -> None:
    """OpenAI's headers describe the limit that is reached first, in OpenAI's format."""
    limits = world(accounts={"acme": AccountLimit(Limits(rpm=1000, tpm=6000))}).limits()
    subject = key(rpm=60)
    limits.take(subject, O3, Demand(1, 600))
    assert {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"5400",
        b"x-ratelimit-reset-tokens": b"6s",
    } == dict(limits.headers(subject, O3))


def test_a_minutes_flood_is_the_buckets_arithmetic(world) -> None:
    """A limit of 600 a minute offered 3,000 for a minute admits what the bucket holds and gains:
    600 + 600, within 1 %, and of two callers none is starved."""
    setting = world(accounts={"acme": AccountLimit(Limits(rpm=600))})
    limits = setting.limits()
    counts = {"one": 0, "two": 0}
    for number in range(3000):
        name = "one" if number % 2 else "two"
        counts[name] += admitted(limits, key(name), times=1)
        setting.clock.now += 60 / 3000
    assert 1188 <= sum(counts.values()) <= 1212
    assert min(counts.values()) >= 400


@settings(max_examples=examples(60))
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 60), st.floats(0, 2)), max_size=60
    )
)
@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_no_interleaving_admits_too_much(adapter, steps) -> None:
    """Whatever two keys take, keep and give back, their account's buckets never give more than they
    hold and gain, and never more calls run than may."""
    setting = World(
        ADAPTERS[adapter], {"acme": AccountLimit(Limits(rps=5, tpm=120, concurrency=3))}
    )
    limits, began = setting.limits(), setting.clock.now
    running, calls, tokens_used = [], 0, 0
    for name, tokens, pause_s in steps:
        setting.clock.now += pause_s
        try:
            running.append((limits.take(key(name), O3, Demand(1, tokens)), tokens))
        except LimitExceeded:
            if running:
                permit, estimate = running.pop(0)
                permit.release(Demand(1, estimate // 2))
                tokens_used -= estimate - estimate // 2
        else:
            calls, tokens_used = calls + 1, tokens_used + tokens
        elapsed_s = setting.clock.now - began
        assert len(running) <= 3
        assert calls <= 5 + 5 * elapsed_s + 1e-6
        assert tokens_used <= 120 + 2 * elapsed_s + 1e-6


# -- changes --------------------------------------------------------------------------------------


def test_a_changed_key_counts_from_its_next_call(world) -> None:
    """A key's new limit holds at once; what was used stays used, in proportion."""
    limits = world().limits()
    subject = key(rpm=10)
    assert 5 == admitted(limits, subject, times=5)
    assert 10 == admitted(limits, replace(subject, limits=Limits(rpm=20)))
    assert 0 == admitted(limits, replace(subject, limits=Limits(rpm=40)))
    assert 1000 == admitted(limits, replace(subject, limits=Limits(rpm=None)))


def test_a_changed_alias_counts_from_its_next_call(world) -> None:
    """So does an alias's."""
    limits = world().limits()
    assert 2 == admitted(limits, key(), alias=replace(O3, limits=Limits(rps=2)))
    assert 1000 == admitted(limits, key())


@pytest.mark.parametrize("by", ["account", "policy"])
def test_a_changed_account_counts_from_the_next_call(world, by) -> None:
    """An account's new limit, its own or the policy's, holds for all its keys at once, and ends at
    once."""
    setting = world()
    limits = setting.limits()

    def change(limit: AccountLimit) -> None:
        setting.accounts["acme"] = limit
        if by == "account":
            limits.account_changed("acme")
        else:
            limits.configure(setting.policy())

    assert 1000 == admitted(limits, key("one"))
    change(AccountLimit(Limits(rps=2)))
    assert 1 == admitted(limits, key("one"), times=1)
    assert 1 == admitted(limits, key("two"))
    change(AccountLimit(Limits(rps=4)))
    assert 0 == admitted(limits, key("one"))
    change(AccountLimit())
    assert 1000 == admitted(limits, key("two"))


def test_a_call_in_flight_ends_well_after_its_limits_changed(world) -> None:
    """What was taken under a limit that is gone, or has come since, is given back to whom it was
    taken from and to nobody else."""
    setting = world(accounts={"acme": AccountLimit(Limits(tpm=100, concurrency=1))})
    limits = setting.limits()
    before = limits.take(key(), O3, Demand(1, 100))
    setting.accounts["acme"] = AccountLimit()
    limits.account_changed("acme")
    meanwhile = limits.take(key(), O3, Demand(1, 500))
    setting.accounts["acme"] = AccountLimit(Limits(tpm=1000, concurrency=2))
    limits.account_changed("acme")
    limits.take(key(), O3, Demand(1, 1000)).release(Demand(1, 1000))
    meanwhile.release(Demand(1, 0))
    refused(limits, key(), 200)
    before.release(Demand(1, 100))
    setting.clock.now += 60
    assert [limits.take(key(), O3, Demand(1, 500)) for _ in range(2)]
    refused(limits, key())


# -- a turn in the queue --------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [{"wait_s": 0.0}, {"wait_s": 5.0, "waiting_max": 0}])
def test_nobody_waits_who_may_not(world, policy) -> None:
    """Without `wait_s`, or with a full queue, the refusal is raised as it is."""
    limits = world(**policy).limits()
    subject = key(rpm=1)
    limits.take(subject, O3, Demand(1, 0))
    refusal = refused(limits, subject)

    async def scenario() -> None:
        with pytest.raises(LimitExceeded) as caught:
            await limits.wait(subject, O3, Demand(1, 0), refusal, 60.0)
        assert refusal is caught.value

    asyncio.run(scenario())


def test_a_call_that_never_fits_does_not_wait(world) -> None:
    """Nor when others of its account are waiting."""
    limits = world(wait_s=5.0).limits()
    subject = key(tpm=100)

    async def scenario() -> None:
        running = await taken(limits, subject, 100)
        waits = asyncio.create_task(taken(limits, subject, 100))
        await settled()
        with pytest.raises(LimitExceeded, match="more than the limit"):
            await taken(limits, subject, 101)
        running.release(Demand(1, 0))
        (await waits).release(Demand(1, 0))

    asyncio.run(scenario())


def test_who_waited_in_vain_is_told_the_truth(world) -> None:
    """After `wait_s` the refusal says when to come back from then on, not from the beginning, and
    names the limit also to whom had to queue behind others."""
    setting = world(wait_s=0.02)
    limits = setting.limits()
    subject = key(rpm=1)

    async def scenario() -> None:
        limits.take(subject, O3, Demand(1, 0))
        waits = [asyncio.create_task(taken(limits, subject)) for _ in range(2)]
        await settled()
        setting.clock.now += 15
        for refusal in await asyncio.gather(*waits, return_exceptions=True):
            assert isinstance(refusal, LimitExceeded)
            assert "1 requests per minute of key 'ci'" in refusal.message
            assert refusal.retry_after_s == pytest.approx(45)
        setting.clock.now += 45
        limits.take(subject, O3, Demand(1, 0))

    asyncio.run(scenario())


def test_room_that_comes_at_the_last_moment(world) -> None:
    """Between the last look and the refusal time goes on; what was refused may fit by then, and is
    refused all the same, to come back soon."""
    setting = world(wait_s=0.02)
    limits = setting.limits()
    subject = key(rpm=60)
    ticking = setting.clock

    class Ticking(Clock):
        def __call__(self) -> float:
            now = self.now
            if now > 1000.0:
                self.now += 0.2
            return now

    async def scenario() -> None:
        for _ in range(60):
            limits.take(subject, O3, Demand(1, 0))
        waits = asyncio.create_task(taken(limits, subject))
        await settled()
        ticking.__class__ = Ticking
        ticking.now = 1000.9
        with pytest.raises(LimitExceeded) as caught:
            await waits
        assert caught.value.retry_after_s < 0.1

    asyncio.run(scenario())


def test_turns_are_first_come_first_served(world) -> None:
    """Nobody who waits for a limit is overtaken at it, not even by a call that would fit at once:
    small ones do not starve a large one."""
    limits = world(wait_s=5.0).limits()
    alias = Alias("narrow", (), limits=Limits(concurrency=1, tpm=6000))

    async def scenario() -> None:
        running = await taken(limits, key(), alias=alias)
        waits = [asyncio.create_task(taken(limits, key(), alias=alias)) for _ in range(3)]
        await settled()
        limits.take(key("other", rpm=100), O3, Demand(1, 0))  # wants nothing that those wait for
        for each in waits:
            assert not each.done()
            running.release(Demand(1, 0))
            running = await each
        running.release(Demand(1, 0))
        limits.take(key(), O3, Demand(1, 0))

    asyncio.run(scenario())


@pytest.mark.parametrize("account", ["acme", "other"])
def test_a_large_call_is_not_starved(world, account) -> None:
    """Small calls of any account leave what a large one waits for."""
    setting = world(wait_s=10.0)
    limits = setting.limits()
    alias = Alias("narrow", (), limits=Limits(tpm=6000))

    async def scenario() -> None:
        limits.take(key("first", "nobody"), alias, Demand(1, 6000))
        large = asyncio.create_task(taken(limits, key("large"), 400, alias))
        await settled()
        setting.clock.now += 1  # a hundred LLM tokens flow in
        refusal = refused(limits, key("small", account), 20, alias)
        assert "Other calls wait for their turn, as alias 'narrow'" in refusal.message
        assert refusal.retry_after_s == pytest.approx(3.0)
        small = asyncio.create_task(taken(limits, key("small", account), 20, alias))
        await settled()
        assert not small.done()
        setting.clock.now += 4
        (await large).release(Demand(1, 400))
        await small

    asyncio.run(scenario())


def test_who_cannot_have_a_turn_in_time_holds_up_nobody(world) -> None:
    """Neither other keys of its account, whose own limits have room, nor smaller calls when there
    will be no room for it before it gives up."""
    setting = world(wait_s=2.0, accounts={"acme": AccountLimit(Limits(rpm=1000, tpm=6000))})
    limits = setting.limits()
    spent = key(rpm=1)

    async def scenario() -> None:
        limits.take(spent, O3, Demand(1, 3000))
        waits = asyncio.create_task(taken(limits, spent))
        large = asyncio.create_task(taken(limits, key("large"), 5000))
        await settled()
        limits.take(key("other", rpm=1000), O3, Demand(1, 20))
        waits.cancel()
        large.cancel()
        await settled()

    asyncio.run(scenario())


def test_nobody_waits_beyond_the_calls_deadline(world) -> None:
    """`wait_s` is the relay's patience; the call's own may be shorter."""
    limits = world(wait_s=30.0).limits()
    subject = key(rpm=1)
    limits.take(subject, O3, Demand(1, 0))

    async def scenario() -> None:
        async with asyncio.timeout(5):
            with pytest.raises(LimitExceeded):
                await taken(limits, subject, within_s=0.01)
            with pytest.raises(LimitExceeded):
                await taken(limits, subject, within_s=-1.0)

    asyncio.run(scenario())


def turns_of(setting: World, waiting: list[VirtualKey]) -> list[str]:
    """Who of these is served in which order, one at a time."""
    limits = setting.limits()
    alias = Alias("narrow", (), limits=Limits(concurrency=1))
    order: list[str] = []

    async def one(subject: VirtualKey) -> None:
        permit = await taken(limits, subject, alias=alias)
        order.append(subject.name)
        permit.release(Demand(1, 0))

    async def scenario() -> None:
        running = await taken(limits, key("first", "nobody"), alias=alias)
        tasks = [asyncio.create_task(one(subject)) for subject in waiting]
        await settled()
        running.release(Demand(1, 0))
        await asyncio.gather(*tasks)

    asyncio.run(scenario())
    return order


def test_accounts_take_turns(world) -> None:
    """Many calls of one account hold up no other account."""
    greedy = [key(f"g{number}", "greedy") for number in range(6)]
    modest = [key(f"m{number}", "modest") for number in range(2)]
    order = turns_of(world(wait_s=5.0), [*greedy, *modest])
    assert ["g0", "m0", "g1", "m1", "g2", "g3", "g4", "g5"] == order


def test_accounts_take_turns_by_weight(world) -> None:
    """An account of weight 3 has three turns for one of the others."""
    setting = world(wait_s=5.0, accounts={"heavy": AccountLimit(weight=3.0)})
    heavy = [key(f"h{number}", "heavy") for number in range(6)]
    light = [key(f"l{number}", "light") for number in range(4)]
    order = turns_of(setting, [*light, *heavy])
    assert 6 == sum(name[0] == "h" for name in order[:8])
    assert [each.name for each in heavy] == [name for name in order if name[0] == "h"]


def test_leaving_the_queue_loses_nothing(world) -> None:
    """A caller who hangs up while waiting takes nothing from those behind, also when the turn has
    just come."""
    limits = world(wait_s=5.0).limits()
    subject = key(concurrency=1)

    async def scenario() -> None:
        running = limits.take(subject, O3, Demand(1, 0))
        leaves, late, stays = (asyncio.create_task(taken(limits, subject)) for _ in range(3))
        await settled()
        leaves.cancel()
        await settled()
        running.release(Demand(1, 0))
        late.cancel()  # its turn is granted, and not yet taken up
        permit = await stays
        permit.release(Demand(1, 0))
        limits.take(subject, O3, Demand(1, 0)).release(Demand(1, 0))
        assert (True, True) == (leaves.cancelled(), late.cancelled())

    asyncio.run(scenario())


@pytest.mark.parametrize("by", ["account", "policy"])
def test_waiting_calls_feel_a_raised_limit(world, by) -> None:
    """Who waits for an account's limit has a turn as soon as it is raised."""
    setting = world(wait_s=5.0, accounts={"acme": AccountLimit(Limits(concurrency=1))})
    limits = setting.limits()

    async def scenario() -> None:
        await taken(limits, key())
        waits = asyncio.create_task(taken(limits, key()))
        await settled()
        assert not waits.done()
        setting.accounts["acme"] = AccountLimit(Limits(concurrency=2))
        if by == "account":
            limits.account_changed("acme")
        else:
            limits.configure(setting.policy())
        await settled()
        assert waits.done()
        refused(limits, key())

    asyncio.run(scenario())
