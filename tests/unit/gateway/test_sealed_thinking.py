"""Thinking that only its maker can read stays with its maker, or is left out and told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.test_lost_hedges import Stream
from tests.unit.gateway.test_pipeline import KEY, FakeReply, World
from tests.unit.gateway.test_roads import Whole

from merino.domain.errors import UpstreamRefused
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.call import Call, new_call_id
from merino.gateway.issuers import Issuers, is_about_sealed
from merino.wire.responses import parse_responses
from merino.wire.sealed import mark_of_item, marks_of, without_sealed

TOLD = "input.encrypted_content removed"
REFUSAL = {
    "error": {
        "message": "The encrypted content gAAA could not be verified. Reason: Encrypted content could "
        "not be decrypted or parsed.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_encrypted_content",
    }
}


class Vendors:
    """Each deployment seals under its own credential, and refuses what another one sealed."""

    def __init__(self, refusal: tuple[int, dict[str, Any]] = (400, REFUSAL)) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.down: set[str] = set()
        self.refusal = refusal

    async def send(self, request: Any) -> Any:
        body = json.loads(request.body)
        name, credential = request.deployment.name, request.deployment.credential
        self.asked.append((name, body))
        if name in self.down:
            return Whole(503, b'{"error":{"message":"down"}}')
        items = body["input"] if isinstance(body["input"], list) else []
        seals = [each["encrypted_content"] for each in items if "encrypted_content" in each]
        if any(not each.startswith(credential) for each in seals):
            return Whole(self.refusal[0], json.dumps(self.refusal[1]).encode())
        number = len(self.asked)
        output: list[dict[str, Any]] = [
            {"type": "reasoning", "id": f"rs_{number}", "summary": [],
             "encrypted_content": f"{credential}-{number}/+="},
            {"type": "function_call", "id": f"fc_{number}", "call_id": f"c{number}", "name": "f",
             "arguments": "{}"},
        ]  # fmt: skip
        usage = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}
        whole = {"id": f"resp_{number}", "status": "completed", "output": output, "usage": usage}
        if not body.get("stream"):
            return Whole(200, json.dumps(whole).encode())
        events = [{"type": "response.output_item.done", "output_index": at, "item": item}
                  for at, item in enumerate(output)]  # fmt: skip
        events.append({"type": "response.completed", "response": whole})
        pieces = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]
        return Stream(*pieces, ends=True)


def make(*credentials: str, vendors: Vendors | None = None) -> tuple[World, Vendors]:
    world, vendors = World(*["m"] * len(credentials)), vendors or Vendors()
    world.alias = replace(
        world.alias,
        deployments=tuple(
            replace(each, credential=credential)
            for each, credential in zip(world.alias.deployments, credentials, strict=True)
        ),
    )
    world.pipeline._attempts = Attempts(
        {"simulator": vendors}, world.fleet, RetryPolicy(backoff_base_s=0.001)
    )
    return world, vendors


def call(world: World, items: Any, **fields: Any) -> tuple[FakeReply, Call]:
    body = json.dumps({"model": "a", "input": items, "max_output_tokens": 50, **fields}).encode()
    reply = FakeReply(world.journal)

    async def scene() -> Call:
        made = Call(new_call_id(), KEY, parse_responses(body), world.alias, perf_counter(), body)
        await world.pipeline.run(made, reply)
        return made

    return reply, asyncio.run(scene())


def conversation(vendor: str) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_9", "summary": [], "encrypted_content": f"{vendor}-9"},
        {"type": "function_call", "id": "fc_9", "call_id": "c9", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c9", "output": "ok"},
    ]


def items_of(reply: FakeReply) -> list[dict[str, Any]]:
    if reply.body.startswith(b"{"):
        return json.loads(reply.body)["output"]
    lines = [json.loads(each[6:]) for each in reply.body.splitlines() if each[:7] == b"data: {"]
    return [each["item"] for each in lines if "item" in each]


@pytest.mark.parametrize("stream", [False, True])
def test_it_goes_to_its_maker_first(stream: bool) -> None:
    """Whoever comes first in the alias: a turn that brings sealed thinking is its maker's, and goes
    out as it came."""
    world, vendors = make("one", "two")
    vendors.down = {"d0"}
    reply, _ = call(world, "hi", stream=stream)
    vendors.down = set()
    items = [{"role": "user", "content": "hi"}, *items_of(reply)]
    _, second = call(world, items, stream=stream)
    assert "d1" == vendors.asked[-1][0]
    assert items == vendors.asked[-1][1]["input"]
    assert () == second.request.adjusted


def test_elsewhere_it_is_left_out_before_anybody_has_to_refuse_it() -> None:
    """When its maker fails, the next one gets all but the thinking, and the caller is told."""
    world, vendors = make("one", "two")
    reply, _ = call(world, "hi")
    items = [{"role": "user", "content": "hi"}, *items_of(reply)]
    vendors.down = {"d0"}
    vendors.asked.clear()
    reply, second = call(world, items)
    assert reply.error is None
    assert ["d0", "d1"] == [name for name, _ in vendors.asked]
    assert ["user", "function_call"] == [
        each.get("role") or each["type"] for each in vendors.asked[-1][1]["input"]
    ]
    assert "id" not in vendors.asked[-1][1]["input"][1]
    assert (TOLD,) == second.request.adjusted


def test_the_same_credential_reads_it() -> None:
    """Another deployment of the same provider and credential gets it as it came."""
    world, vendors = make("one", "one")
    reply, _ = call(world, "hi")
    items = [{"role": "user", "content": "hi"}, *items_of(reply)]
    vendors.down = {"d0"}
    call(world, items)
    assert ("d1", items) == (vendors.asked[-1][0], vendors.asked[-1][1]["input"])


@pytest.mark.parametrize(
    "refusal",
    [
        (400, REFUSAL),
        (400, {"error": {"message": "Encrypted content could not be verified.", "code": None}}),
        (422, {"detail": "invalid_encrypted_content"}),
        (404, {"error": {"message": "Item with id 'rs_9' not found. Items are not persisted when "
                         "`store` is set to false.", "code": None}}),
        (503, {"error": {"message": "failed to decrypt encrypted_content"}}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_read_is_asked_once_more_without(refusal: Any, stream: bool) -> None:
    """Thinking that nobody remembers is sent as it came; when it is refused, in whatever words, the
    same upstream is asked once more, and the next call is not changed for it."""
    world, vendors = make("one", vendors=Vendors(refusal))
    before = conversation("rotated")
    for _ in range(2):
        vendors.asked.clear()
        reply, made = call(world, before, stream=stream)
        assert reply.error is None
        assert before == vendors.asked[0][1]["input"]
        assert ["message", "function_call", "function_call_output"] == [
            each.get("type", "message") for each in vendors.asked[1][1]["input"]
        ]
        assert 2 == len(vendors.asked)
        assert (TOLD,) == made.request.adjusted
        assert before == json.loads(bytes(made.request.fields["input"]))
    member = world.fleet.of(world.alias.deployments[0])
    assert "closed" == member.breaker.state


def test_a_conversation_that_is_sealed_whole_is_refused_as_it_is() -> None:
    """A compaction is the conversation itself: nothing is left out of it."""
    world, vendors = make("one")
    items = [{"type": "compaction", "id": "cmp_1", "encrypted_content": "rotated-1"}]
    reply, _ = call(world, [*items, {"role": "user", "content": "hi"}])
    assert "invalid_encrypted_content" == reply.error.code
    assert 1 == len(vendors.asked)


def test_other_refusals_are_no_reason_to_forget() -> None:
    """A refusal that is about something else is passed on, asked once."""
    other = {"error": {"message": "Invalid 'tools[0].name'.", "code": "invalid_value"}}
    world, vendors = make("one", vendors=Vendors((400, other)))
    reply, made = call(world, conversation("rotated"))
    assert "invalid_value" == reply.error.code
    assert (1, ()) == (len(vendors.asked), made.request.adjusted)


def test_busy_upstreams_are_not_taken_for_it() -> None:
    """A 429 is about pace, whatever it mentions."""
    error = UpstreamRefused("too many encrypted_content", status=429, error_type="x")
    assert not is_about_sealed(error)


def test_accounts_do_not_share_what_is_known() -> None:
    """Another account that brings the same bytes is told nothing of their maker; the oldest are
    forgotten first."""
    issuers = Issuers()
    issuers.note("a", [b"1", b"2"], "d0")
    assert "d0" == issuers.find("a", [b"1"])
    assert issuers.find("b", [b"1"]) is None
    issuers.note("a", [b"2"], "d1")
    assert "d1" == issuers.find("a", [b"1", b"2"])


@given(
    texts=st.lists(st.text(), min_size=1, max_size=5),
    sealed=st.text(min_size=1),
    is_ascii=st.booleans(),
)
def test_only_sealed_thinking_is_left_out(texts: list[str], sealed: str, is_ascii: bool) -> None:
    """Whatever else an input has stays in its order, but for ids; the mark of what is sealed does not
    depend on how its JSON is written."""
    said = [{"type": "message", "role": "user", "content": text} for text in texts]
    thought = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": sealed}
    items = [thought, *said, thought]
    raw = json.dumps(items, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    left = without_sealed(raw)
    assert left is not None
    assert said == json.loads(left)
    assert without_sealed(left) is None
    if "\ud800" <= max(sealed) <= "\udfff":
        return
    marks = marks_of(json.dumps(items).encode())
    assert [mark_of_item(json.dumps(thought, ensure_ascii=False).encode())] * 2 == marks
