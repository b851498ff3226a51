"""Limits of keys, accounts and aliases in the path of a call, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from merino.domain.deployment import Alias, Rates
from merino.domain.errors import LimitExceeded
from merino.domain.key import VirtualKey
from merino.gateway.limits import AccountLimit, LimitPolicy, RateLimits, format_reset

ALIAS = Alias("o3", ())


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(name: str = "ci", account: str = "acme", **limits) -> VirtualKey:
    return VirtualKey(
        id=f"key_{name}", account_id=account, name=name, hint="mk-..", secret_hash=b"", **limits
    )


def limits_of(clock=None, **policy) -> RateLimits:
    return RateLimits(LimitPolicy(**policy), clock or Clock())


def admitted(limits, subject, tokens=0, alias=ALIAS, times=1000) -> int:
    count = 0
    for _ in range(times):
        try:
            limits.take(subject, alias, tokens).release(tokens)
        except LimitExceeded:
            break
        count += 1
    return count


def test_no_limit_costs_nothing() -> None:
    """Without limits every call is admitted, and no header claims otherwise."""
    limits = limits_of()
    assert 1000 == admitted(limits, key())
    assert [] == limits.headers(key(), ALIAS)


@pytest.mark.parametrize(
    ("subject", "policy", "alias", "said"),
    [
        (key(rps=3), {}, ALIAS, "3 requests per second of key 'ci'"),
        (key(rpm=3), {}, ALIAS, "3 requests per minute of key 'ci'"),
        (key(), {"acme": AccountLimit(Rates(rpm=3))}, ALIAS, "of account 'acme'"),
        (key(), {"*": AccountLimit(Rates(rpm=3))}, ALIAS, "of account 'acme'"),
        (key(), {}, Alias("o3", (), limits=Rates(rpm=3)), "of alias 'o3'"),
        (key(rpm=9), {"acme": AccountLimit(Rates(rpm=3))}, ALIAS, "of account 'acme'"),
    ],
)
def test_each_limit_limits(subject, policy, alias, said) -> None:
    """Limits of key, account and alias all hold; the refusal names whose it is and its value."""
    limits = limits_of(accounts=policy)
    assert 3 == admitted(limits, subject, alias=alias)
    with pytest.raises(LimitExceeded, match=said) as caught:
        limits.take(subject, alias, 0)
    assert caught.value.retry_after_s > 0


def test_the_named_time_is_right() -> None:
    """A caller who comes back when told is admitted."""
    clock = Clock()
    limits = limits_of(clock)
    subject = key(rpm=600)
    assert 600 == admitted(limits, subject)
    with pytest.raises(LimitExceeded) as caught:
        limits.take(subject, ALIAS, 0)
    assert "Try again in 100ms" in caught.value.message
    clock.now += caught.value.retry_after_s
    limits.take(subject, ALIAS, 0)


def test_tokens_are_given_back() -> None:
    """A call takes its estimate of LLM tokens and gets back what it did not use."""
    limits = limits_of()
    subject = key(tpm=1000)
    permit = limits.take(subject, ALIAS, 900)
    with pytest.raises(LimitExceeded, match="LLM tokens per minute"):
        limits.take(subject, ALIAS, 200)
    permit.release(100)
    permit.release(100)
    limits.take(subject, ALIAS, 900)
    assert (b"x-ratelimit-remaining-tokens", b"0") in limits.headers(subject, ALIAS)


def test_a_call_that_never_fits() -> None:
    """A call larger than the limit is told so, instead of being told to come back."""
    limits = limits_of()
    with pytest.raises(LimitExceeded, match="more than the limit") as caught:
        limits.take(key(tpm=1000), ALIAS, 1001)
    assert ("call_exceeds_limit", None) == (caught.value.code, caught.value.retry_after_s)


def test_calls_in_flight() -> None:
    """Concurrency counts what runs, and frees its place when that ends."""
    limits = limits_of()
    subject = key(concurrency=2)
    first, _ = limits.take(subject, ALIAS, 0), limits.take(subject, ALIAS, 0)
    with pytest.raises(LimitExceeded, match="2 calls in flight"):
        limits.take(subject, ALIAS, 0)
    first.release(0)
    limits.take(subject, ALIAS, 0)


def test_changed_limits_apply_at_once() -> None:
    """A key that is updated, and a policy that is reloaded, count from the next call on."""
    limits = limits_of()
    subject = key(rpm=10)
    assert 10 == admitted(limits, subject)
    assert 0 == admitted(limits, replace(subject, rpm=20)), "what was used stays used"
    assert 1000 == admitted(limits, replace(subject, rpm=None))
    limits.policy = LimitPolicy(accounts={"acme": AccountLimit(Rates(rps=2))})
    assert 2 == admitted(limits, replace(subject, rpm=None))


def test_headers_show_the_tightest() -> None:
    """OpenAI's headers describe the limit that is reached first, in OpenAI's format."""
    limits = limits_of(accounts={"acme": AccountLimit(Rates(rpm=1000, tpm=6000))})
    subject = key(rpm=60)
    limits.take(subject, ALIAS, 600)
    headers = dict(limits.headers(subject, ALIAS))
    assert {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"5400",
        b"x-ratelimit-reset-tokens": b"6s",
    } == headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0201, "21ms"),
        (1.5, "1.5s"),
        (59.9995, "1m0s"),
        (360, "6m0s"),
        (3661, "1h1m1s"),
    ],
)
def test_durations_as_openai_writes_them(seconds, text) -> None:
    """Rounded up, never early."""
    assert text == format_reset(seconds)


def test_waiting_is_fair() -> None:
    """Calls that wait get their turns first come first served, accounts in turn."""
    limits = RateLimits(LimitPolicy(wait_s=5.0))
    greedy = [key(f"g{number}", "greedy") for number in range(6)]
    modest = [key(f"m{number}", "modest") for number in range(2)]
    alias = Alias("o3", (), limits=Rates(concurrency=1))

    async def scenario() -> list[str]:
        order: list[str] = []

        async def one(subject: VirtualKey) -> None:
            try:
                permit = limits.take(subject, alias, 0)
            except LimitExceeded as refusal:
                permit = await limits.wait(subject, alias, 0, refusal)
            order.append(subject.name)
            await asyncio.sleep(0.001)
            permit.release(0)

        await asyncio.gather(*(one(subject) for subject in (*greedy, *modest)))
        return order

    order = asyncio.run(scenario())
    assert sorted(order) == sorted(each.name for each in (*greedy, *modest))
    assert [each.name for each in greedy] == [name for name in order if name[0] == "g"]
    assert order.index("m1") < order.index("g4")


def test_waiting_ends() -> None:
    """Who waits longer than allowed is refused with the limit's own words; nobody waits when
    waiting is off or when the call could never fit."""
    subject = key(rpm=1)
    for policy in (LimitPolicy(wait_s=0.02), LimitPolicy(wait_s=0)):
        limits = RateLimits(policy)

        async def scenario(limits=limits) -> None:
            limits.take(subject, ALIAS, 0)
            with pytest.raises(LimitExceeded, match="1 requests per minute") as caught:
                limits.take(subject, ALIAS, 0)
            with pytest.raises(LimitExceeded, match="1 requests per minute"):
                await limits.wait(subject, ALIAS, 0, caught.value)
            assert 0 == limits.waiting

        asyncio.run(scenario())


def test_leaving_the_queue_loses_nothing() -> None:
    """A caller who hangs up while waiting takes nothing from those behind."""
    limits = RateLimits(LimitPolicy(wait_s=5.0))
    subject = key(concurrency=1)

    async def scenario() -> None:
        running = limits.take(subject, ALIAS, 0)
        with pytest.raises(LimitExceeded) as caught:
            limits.take(subject, ALIAS, 0)
        leaves = asyncio.create_task(limits.wait(subject, ALIAS, 0, caught.value))
        stays = asyncio.create_task(limits.wait(subject, ALIAS, 0, caught.value))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.sleep(0)
        running.release(0)
        permit = await stays
        permit.release(0)
        limits.take(subject, ALIAS, 0).release(0)
        assert (True, 0) == (leaves.cancelled(), limits.waiting)

    asyncio.run(scenario())
