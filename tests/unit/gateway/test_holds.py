"""How much of an account a call may reserve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.gateway.holds import Grant, Quote, Refuse, Wait, decide
from merino.gateway.ports import Headroom
from merino.settings import HoldSettings

INPUT_NANOS = 100
PER_TOKEN_NANOS = 8


@dataclass
class Quoted:
    """A quote by two functions."""

    output_tokens: int
    caller_limited: bool
    worst_nanos: Callable[[int], int]
    affordable_tokens: Callable[[int], int]
    max_cost_nanos: int | None
    expected_tokens: int | None
    has_output: bool


def quote(
    output_tokens: int = 1000,
    *,
    caller_limited: bool = False,
    max_cost_nanos: int | None = None,
    expected_tokens: int | None = None,
    has_output: bool = True,
) -> Quote:
    return Quoted(
        output_tokens=output_tokens,
        caller_limited=caller_limited,
        worst_nanos=lambda tokens: INPUT_NANOS + tokens * PER_TOKEN_NANOS,
        affordable_tokens=lambda nanos: max(0, (nanos - INPUT_NANOS) // PER_TOKEN_NANOS),
        max_cost_nanos=max_cost_nanos,
        expected_tokens=expected_tokens,
        has_output=has_output,
    )


def room(available: int, ceiling: int | None = None) -> Headroom:
    return Headroom(available, available if ceiling is None else ceiling, "balance")


def test_worst_case_is_held_when_it_fits() -> None:
    """A call whose worst case fits is held for exactly that, unclamped."""
    assert Grant(8100, 1000) == decide(room(8100), quote(), HoldSettings())


def test_caller_who_set_a_limit_they_can_pay_waits_for_others() -> None:
    """Money that other calls hold is waited for, not refused and not clamped away."""
    assert isinstance(decide(room(500, 9000), quote(caller_limited=True), HoldSettings()), Wait)


def test_limit_the_balance_can_never_pay_is_lowered_to_what_it_affords() -> None:
    """A limit beyond the whole balance is clamped to the balance."""
    decision = decide(room(4100), quote(caller_limited=True), HoldSettings())
    assert Grant(4100, 500, is_clamped=True) == decision


def test_unlimited_call_is_clamped_to_what_is_free_above_the_floor() -> None:
    """A caller without a limit takes what is free now rather than waiting for everything."""
    policy = HoldSettings(clamp_floor_tokens=100)
    assert Grant(1700, 200, is_clamped=True) == decide(room(1700, 9000), quote(), policy)


def test_unlimited_call_waits_rather_than_starve() -> None:
    """Below the floor an unlimited call waits for the money that others hold."""
    policy = HoldSettings(clamp_floor_tokens=100)
    assert isinstance(decide(room(300, 9000), quote(), policy), Wait)


def test_empty_balance_refuses_for_good() -> None:
    """When even the smallest answer cannot be paid, waiting will not help."""
    decision = decide(room(110), quote(), HoldSettings(clamp_output_tokens_min=16))
    assert Refuse(INPUT_NANOS + 16 * PER_TOKEN_NANOS, "balance") == decision


def test_refuse_policy_never_clamps() -> None:
    """With `when_short = "refuse"` a short balance is a refusal, a busy one a wait."""
    policy = HoldSettings(when_short="refuse")
    assert Refuse(8100, "balance") == decide(room(8000), quote(), policy)
    assert isinstance(decide(room(8000, 8100), quote(), policy), Wait)


def test_max_cost_clamps_or_refuses() -> None:
    """`x-merino-max-cost` bounds the worst case, whatever the balance has."""
    rich = room(1_000_000)
    assert Grant(900, 100, is_clamped=True, clamped_by="x-merino-max-cost") == decide(
        rich, quote(max_cost_nanos=900), HoldSettings()
    )
    refuse = decide(rich, quote(max_cost_nanos=900), HoldSettings(when_short="refuse"))
    assert Refuse(8100, "max_cost") == refuse


@pytest.mark.parametrize("bound_by", ["key_cap", "account_cap"])
def test_a_spend_cap_that_lowers_the_limit_is_named(bound_by) -> None:
    """Who has a balance, but has nearly spent what may be spent, is not told of the balance."""
    capped = Headroom(900, 900, bound_by)
    assert Grant(900, 100, is_clamped=True, clamped_by="spend cap") == decide(
        capped, quote(), HoldSettings()
    )


def test_expected_mode_holds_the_usual_cost_when_the_worst_does_not_fit() -> None:
    """In `expected` mode the learned p99 is held and the caller's limit stays."""
    policy = HoldSettings(mode="expected")
    short = decide(room(1000), quote(expected_tokens=100), policy)
    assert Grant(900, 1000, held_tokens=100) == short
    assert Grant(8100, 1000) == decide(room(8100), quote(expected_tokens=100), policy)


def test_call_without_output_is_never_clamped() -> None:
    """Embeddings have nothing to lower: they are held, wait or are refused."""
    free = quote(0, has_output=False)
    assert Grant(100, 0) == decide(room(100), free, HoldSettings())
    assert Refuse(100, "balance") == decide(room(99), free, HoldSettings())


@given(
    available=st.integers(0, 20_000),
    in_flight=st.integers(0, 20_000),
    tokens=st.integers(1, 3000),
    caller_limited=st.booleans(),
    expected=st.none() | st.integers(0, 3000),
    max_cost=st.none() | st.integers(1, 30_000),
    mode=st.sampled_from(["worst_case", "expected"]),
    when_short=st.sampled_from(["clamp", "refuse"]),
)
def test_decision_never_overspends_and_never_refuses_who_can_pay(
    available, in_flight, tokens, caller_limited, expected, max_cost, mode, when_short
) -> None:
    """A grant fits what is available; a refusal for lack of balance means the whole balance cannot
    pay; an idle account never makes a call wait."""
    policy = HoldSettings(mode=mode, when_short=when_short)
    wanted = quote(
        tokens, caller_limited=caller_limited, expected_tokens=expected, max_cost_nanos=max_cost
    )
    decision = decide(room(available, available + in_flight), wanted, policy)
    if isinstance(decision, Grant):
        assert decision.amount_nanos <= available
        assert decision.output_tokens <= tokens
        if max_cost is not None:
            assert wanted.worst_nanos(decision.output_tokens) <= max_cost
    elif isinstance(decision, Refuse):
        if decision.because != "max_cost":
            assert decision.needed_nanos > available + in_flight
    else:
        assert in_flight > 0


class FakeLedger:
    """One account in memory; holds are durable at once."""

    def __init__(self, posted: int) -> None:
        self.posted = posted
        self.held = 0
        self.bound_by: Any = "balance"
        self.wake = lambda account_id: None

    def subscribe(self, on_headroom, waiting) -> None:
        self.wake = on_headroom

    def headroom(self, key) -> Headroom:
        return Headroom(self.posted - self.held, self.posted, self.bound_by)

    def balance(self, account_id):
        from merino.domain.account import Balance

        return Balance(self.posted, self.held, 0)

    def hold(self, hold, key):
        if hold.amount_nanos > self.posted - self.held:
            return None
        self.held += hold.amount_nanos
        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    def ask(self, key, nanos, call_id, waited_s) -> bool:
        return False

    def unask(self, account_id, call_id) -> None:
        pass

    def settle(self, amount: int, cost: int) -> None:
        self.held -= amount
        self.posted -= cost
        self.wake("acct")


def call():
    from merino.domain.deployment import Alias
    from merino.domain.key import VirtualKey
    from merino.gateway.call import Call, new_call_id
    from merino.wire.chat import parse_chat

    body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    return Call(
        id=new_call_id(),
        key=VirtualKey(id="k", account_id="acct", name="k", hint="", secret_hash=b""),
        request=parse_chat(body),
        alias=Alias("m", ()),
        received_at=perf_counter(),
    )


def test_waiting_calls_are_served_in_order() -> None:
    """Who waits longest is served first when money comes free, and nobody overtakes."""
    from merino.gateway.holds import Holds

    async def scenario() -> list[int]:
        ledger: Any = FakeLedger(8100)
        holds = Holds(ledger, HoldSettings(wait_s=5))
        served: list[int] = []

        async def one(number: int) -> None:
            grant = await holds.take(call(), quote(caller_limited=True))
            served.append(number)
            await asyncio.sleep(0)
            ledger.settle(grant.amount_nanos, 0)

        await asyncio.gather(*(one(number) for number in range(20)))
        assert 0 == ledger.held
        return served

    assert list(range(20)) == asyncio.run(scenario())


@pytest.mark.parametrize(("wait_s", "timeout_s"), [(0.01, 600.0), (30.0, 0.01)])
@pytest.mark.parametrize(
    ("bound_by", "told"),
    [
        ("balance", "All credit of account"),
        ("key_cap", "All that key"),
        ("account_cap", "may still"),
    ],
)
def test_wait_ends_as_a_temporary_refusal(bound_by, told, wait_s, timeout_s) -> None:
    """A call that waited `wait_s` in vain, or until its deadline, gets a limit error with a time to
    come back, and hears what is all held."""
    from merino.domain.errors import LimitExceeded
    from merino.gateway.holds import Holds

    async def scenario() -> None:
        ledger: Any = FakeLedger(8100)
        ledger.bound_by = bound_by
        holds = Holds(ledger, HoldSettings(wait_s=wait_s))
        first = call()
        await holds.take(first, quote(caller_limited=True))
        hurried = call()
        hurried.timeout_s = timeout_s
        with pytest.raises(LimitExceeded) as refused:
            await asyncio.wait_for(holds.take(hurried, quote(caller_limited=True)), 5)
        assert refused.value.retry_after_s is not None
        assert told in refused.value.message

    asyncio.run(scenario())


def test_waiter_is_refused_for_good_once_the_money_is_gone() -> None:
    """Waiting ends at once when what was waited for has been spent."""
    from merino.domain.errors import BudgetExhausted
    from merino.gateway.holds import Holds

    async def scenario() -> None:
        ledger: Any = FakeLedger(8100)
        holds = Holds(ledger, HoldSettings(wait_s=60, when_short="refuse"))
        await holds.take(call(), quote(caller_limited=True))
        waiting = asyncio.create_task(holds.take(call(), quote(caller_limited=True)))
        await asyncio.sleep(0)
        ledger.settle(8100, 8100)
        with pytest.raises(BudgetExhausted):
            await waiting

    asyncio.run(scenario())


def test_cancelled_waiter_leaves_the_queue() -> None:
    """A caller who hangs up while waiting blocks nobody behind them."""
    from merino.gateway.holds import Holds

    async def scenario() -> None:
        ledger: Any = FakeLedger(8100)
        holds = Holds(ledger, HoldSettings(wait_s=60))
        await holds.take(call(), quote(caller_limited=True))
        leaves = asyncio.create_task(holds.take(call(), quote(caller_limited=True)))
        stays = asyncio.create_task(holds.take(call(), quote(caller_limited=True)))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.sleep(0)
        ledger.settle(8100, 0)
        await asyncio.wait_for(stays, 1)

    asyncio.run(scenario())
