"""A call that goes on from a response goes to where it was made, or nowhere."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest
from tests.unit.gateway.test_pipeline import KEY, FakeReply, World
from tests.unit.gateway.test_roads import Translation, Whole

from merino.domain.errors import NotFound
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.call import Call, new_call_id
from merino.gateway.origins import Origins
from merino.gateway.roads import Roads
from merino.wire.responses import parse_responses


class Upstream:
    """Each deployment names its responses; the first one is down when told."""

    def __init__(self) -> None:
        self.asked = []
        self.down = set()
        self.number = 0

    async def send(self, request) -> Any:
        name = request.deployment.name
        self.asked.append(name)
        if name in self.down:
            return Whole(503, b'{"error":{"message":"down"}}')
        self.number += 1
        output = [
            {
                "id": f"msg_item{self.number}",
                "type": "message",
                "content": [{"type": "output_text", "text": "Hi"}],
            }
        ]
        usage = {"input_tokens": 300, "output_tokens": 20, "total_tokens": 320}
        answer = {"id": f"resp_{self.number}", "status": "completed", "output": output}
        return Whole(200, json.dumps({**answer, "usage": usage}).encode())


def make(*models: str):
    world, upstream = World(*models), Upstream()
    world.pipeline._attempts = Attempts(
        {"simulator": upstream}, world.fleet, RetryPolicy(backoff_base_s=0.001)
    )
    return world, upstream


def call(world, key=KEY, **more):
    body = json.dumps({"model": "a", "input": "hello", "max_output_tokens": 100, **more}).encode()
    reply = FakeReply(world.journal)

    async def scene() -> Call:
        made = Call(new_call_id(), key, parse_responses(body), world.alias, perf_counter(), body)
        await world.pipeline.run(made, reply)
        return made

    return reply, asyncio.run(scene())


def test_it_stays_where_it_was_made_even_if_another_would_answer() -> None:
    """No failover and no other choice: the one that made it, or its error."""
    world, upstream = make("m", "n")
    upstream.down = {"d0"}
    call(world)
    assert "d1" == world.ledger.records[-1].deployment
    upstream.down = set()
    _, second = call(world, previous_response_id="resp_1")
    assert "d1" == second.deployment.name
    upstream.down, upstream.asked = {"d1"}, []
    reply, _ = call(world, previous_response_id="resp_2")
    assert {"d1"} == set(upstream.asked)
    assert 503 == reply.error.status


def test_its_unseen_input_is_held_for_as_what_it_was() -> None:
    """Instead of the whole context, the tokens of the conversation so far are held for."""
    world, _ = make("m")
    call(world)
    _, second = call(world, previous_response_id="resp_1")
    assert 320 < second.input_tokens < 420
    assert 0 == world.ledger.held


def test_other_accounts_and_unknown_ids_are_not_found() -> None:
    """Nothing is sent anywhere."""
    world, upstream = make("m")
    call(world)
    upstream.asked.clear()
    for key, named in ((replace(KEY, account_id="other"), "resp_1"), (KEY, "resp_9")):
        reply, _ = call(world, key, previous_response_id=named)
        assert isinstance(reply.error, NotFound)
        assert "previous_response_not_found" == reply.error.code
    assert [] == upstream.asked


def test_another_provider_cannot_go_on_from_it() -> None:
    """Another model of the same provider and credential may; others may not."""
    world, upstream = make("m")
    call(world)
    (home,) = world.alias.deployments
    world.alias = replace(world.alias, deployments=(replace(home, name="same"),))
    call(world, previous_response_id="resp_1")
    assert "same" == upstream.asked[-1]
    elsewhere = replace(home, name="else", credential="sk-other")
    world.alias = replace(world.alias, deployments=(elsewhere,))
    reply, _ = call(world, previous_response_id="resp_1")
    assert "previous_response_elsewhere" == reply.error.code


def test_only_so_many_are_in_memory_and_the_records_know_the_rest() -> None:
    """What memory forgot is looked up, by account."""
    world, _ = make("m")
    call(world)
    record = world.ledger.records[-1]

    class Records:
        async def find_response(self, response_id, account_id):
            same = (response_id, account_id) == (record.response_id, record.account_id)
            return record if same else None

    origins = Origins(Records())
    assert "d0" == asyncio.run(origins.find("resp_1", KEY.account_id)).deployment
    with pytest.raises(NotFound):
        asyncio.run(origins.find("resp_1", "other"))


def test_items_that_are_named_bind_to_who_made_them() -> None:
    """A reference goes to the deployment of the newest item that it names, and nowhere else; one
    that nobody knows goes anywhere, and so does another account's."""
    world, upstream = make("m", "n")
    upstream.down = {"d0"}
    call(world)
    upstream.down = set()
    named = [{"type": "item_reference", "id": "msg_item1"}, {"role": "user", "content": "a"}]
    _, second = call(world, input=named)
    assert "d1" == second.deployment.name
    upstream.down, upstream.asked = {"d1"}, []
    reply, _ = call(world, input=named)
    assert {"d1"} == set(upstream.asked)
    assert 503 == reply.error.status
    unknown = [{"type": "item_reference", "id": "msg_item9"}]
    _, other = call(world, input=unknown)
    assert "d0" == other.deployment.name


class Knowing(Upstream):
    """Each deployment knows its own items and responses, and has the Responses API."""

    def __init__(self, known: dict[str, str]) -> None:
        super().__init__()
        self.known = known
        self.number = 1000

    async def send(self, request) -> Any:
        asked = json.loads(request.body)
        named = [each["id"] for each in asked["input"] if each.get("type") == "item_reference"]
        named += [asked[name] for name in ("previous_response_id",) if name in asked]
        for each in named:
            if self.known.get(each) != request.deployment.name:
                self.asked.append((request.deployment.name, request.endpoint))
                message = {"error": {"message": f"Item with id '{each}' not found."}}
                return Whole(404, json.dumps(message).encode())
        answer = await super().send(request)
        self.asked[-1] = (request.deployment.name, request.endpoint)
        return answer


def knowing(*models: str, **known: str):
    world, upstream = World(*models), Knowing(known)
    roads = Roads({("responses", "chat/completions"): Translation()})
    world.pipeline._attempts = Attempts(
        {"simulator": upstream}, world.fleet, RetryPolicy(backoff_base_s=0.001), roads=roads
    )
    return world, upstream, roads


def test_items_of_whose_maker_nobody_knows_are_looked_for() -> None:
    """After a restart the relay does not remember who made an item: it asks one after the other,
    and a deployment that does not know it is as good as before."""
    world, upstream, roads = knowing("m", "n", msg_made_before="d1")
    given = [{"type": "item_reference", "id": "msg_made_before"}]
    reply, made = call(world, input=given)
    assert [("d0", "responses"), ("d1", "responses")] == upstream.asked
    assert reply.error is None
    assert "d1" == made.deployment.name
    assert not roads.has_any
    assert "closed" == world.fleet.of(world.alias.deployments[0]).breaker.state


def test_items_that_nobody_knows_are_told_so() -> None:
    """Each deployment is asked once; the last one's words are the answer."""
    world, upstream, roads = knowing("m", "n")
    reply, _ = call(world, input=[{"type": "item_reference", "id": "msg_never_made"}])
    assert [("d0", "responses"), ("d1", "responses")] == upstream.asked
    assert 404 == reply.error.status
    assert "msg_never_made" in reply.error.message
    assert not roads.has_any


def test_a_response_that_its_maker_forgot_is_not_looked_for_in_a_chat() -> None:
    """That an object is not there says nothing of the API: the caller gets the upstream's words,
    and the next call goes the same way."""
    world, upstream, roads = knowing("m", "n", resp_1001="nobody")
    call(world, input=[])
    upstream.asked.clear()
    reply, _ = call(world, input=[], previous_response_id="resp_1001")
    assert [("d0", "responses")] == upstream.asked
    assert 404 == reply.error.status
    assert not roads.has_any
