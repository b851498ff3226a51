"""Where a call may go, and in which order."""

from __future__ import annotations

import random
from time import perf_counter
from typing import cast

import pytest

from merino.domain.deployment import Alias, Deployment
from merino.domain.key import VirtualKey
from merino.gateway.call import Call, new_call_id
from merino.gateway.expectations import Expectations
from merino.gateway.fleet import Fleet
from merino.gateway.planning import Planner
from merino.gateway.ports import Ledger
from merino.pricing.price import Rates
from merino.pricing.tariff import own_price
from merino.wire.chat import parse_chat
from merino.wire.messages import parse_messages

RATES = Rates(1, 1, 1, 1, 1, 1, 1)


class World:
    def __init__(self, names: str, **alias) -> None:
        self.now = 1000.0
        self.fleet = Fleet(clock=lambda: self.now, chance=random.Random(1))
        self.alias = Alias("o3", tuple(Deployment(name, "openai", "m") for name in names), **alias)
        self.planner = Planner(
            tariff=lambda deployment, at_ms, tier, account_id: own_price("p", RATES, RATES),
            fleet=self.fleet,
            ledger=cast("Ledger", None),  # no plan asks it
            expectations=Expectations(),
        )

    def order(self, more: bytes = b"", account: str = "acme") -> str:
        call = Call(
            id=new_call_id(),
            key=VirtualKey(id="k", account_id=account, name="n", hint="", secret_hash=b""),
            request=parse_chat(b'{"model":"o3","messages":[{}]%b}' % more),
            alias=self.alias,
            received_at=perf_counter(),
        )
        return "".join(each.name for each in self.planner.plan(call).candidates)


@pytest.mark.parametrize("field", [b"user", b"prompt_cache_key"])
def test_a_session_keeps_its_order(field) -> None:
    """Calls of one session go to one deployment, those of others spread, also another account's of
    the same name."""
    world = World("abc", session_affinity=True)
    orders = [world.order(b',"%b":"u%d"' % (field, number)) for number in range(30)]
    assert orders == [world.order(b',"%b":"u%d"' % (field, number)) for number in range(30)]
    assert 3 == len({order[0] for order in orders})
    assert orders != [world.order(b',"%b":"u%d"' % (field, each), "b") for each in range(30)]


def test_a_session_of_messages_keeps_its_order() -> None:
    """Its clients name it in their metadata."""
    world = World("abc", session_affinity=True)

    def order(session: int) -> str:
        body = (
            b'{"model":"o3","max_tokens":9,"messages":[{}],"metadata":{"user_id":"%d"}}' % session
        )
        call = Call(
            id=new_call_id(),
            key=VirtualKey(id="k", account_id="acme", name="n", hint="", secret_hash=b""),
            request=parse_messages(body),
            alias=world.alias,
            received_at=perf_counter(),
        )
        return "".join(each.name for each in world.planner.plan(call).candidates)

    orders = [order(session) for session in range(30)]
    assert orders == [order(session) for session in range(30)]
    assert 3 == len({each[0] for each in orders})


@pytest.mark.parametrize("value", [b"null", b'""'])
def test_nobody_is_no_session(value) -> None:
    """Clients that send an empty `user` are not all one: their calls follow the policy."""
    world = World("abc", session_affinity=True, selection_policy="round_robin")
    assert ["abc", "bca", "cab"] == [world.order(b',"user":%b' % value) for _ in range(3)]


def test_the_slow_one_is_tried_again() -> None:
    """One slow answer does not keep a deployment from ever being asked again."""
    world = World("ab", selection_policy="fastest")
    slow, quick = (world.fleet.of(each) for each in world.alias.deployments)
    slow.whole_pace.observe(5.0, world.now, is_ranked=False)
    quick.whole_pace.observe(0.5, world.now, is_ranked=False)
    assert "ba" == world.order()
    world.now += 60
    quick.whole_pace.observe(0.5, world.now, is_ranked=False)
    assert "ab" == world.order()


def test_the_dearest_that_may_answer_is_held_for() -> None:
    """A vendor may have another model answer, which the call names: its price counts as well."""
    dear = Rates(1, 1, 1, 50_000_000_000, 1, 1, 1)
    world = World("a")

    def tariff(deployment, at_ms, tier, account_id):
        rates = dear if deployment.upstream_model == "dear" else RATES
        return own_price(deployment.name, rates, rates)

    world.planner.tariff = tariff
    held = []
    for more in (
        b"",
        b',"fallbacks":[{"model":"cheap"},{"model":"dear"}]',
        b',"fallbacks":"default"',
    ):
        body = b'{"model":"o3","max_tokens":100,"messages":[{}]%b}' % more
        call = Call(
            id=new_call_id(),
            key=VirtualKey(id="k", account_id="acme", name="n", hint="", secret_hash=b""),
            request=parse_messages(body),
            alias=world.alias,
            received_at=perf_counter(),
        )
        held.append(world.planner.plan(call).quote.worst_nanos(100))
    assert held[0] == held[2] < held[1]
    assert 100 * 50_000 <= held[1]
