"""What is mended of a request, what is remembered of it, and from whom nothing is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples
from tests.unit.gateway.test_attempts import Answer, World

from merino.domain.errors import UpstreamRefused
from merino.gateway.parameters import MENDS_MAX, Mend, Parameters
from merino.wire.chat import parse_chat


def body(**fields) -> bytes:
    return json.dumps({"model": "o3", "messages": [{}], **fields}).encode()


def refusal(code: str, param: str) -> bytes:
    error = {"message": "no", "type": "invalid_request_error", "param": param, "code": code}
    return json.dumps({"error": error}).encode()


def sent(world: World, number: int = -1) -> dict:
    return json.loads(world.upstreams.bodies[number])


NAMES = ["reasoning_effort", "service_tier", "temperature", "seed", "verbosity"]
VALUES = ["none", "flex", 0, 1, 2.5, "a" * 300, None, {"a": 1}]


class Upstream:
    """Refuses one value of one parameter, and answers everything else."""

    def __init__(self, world: World, name: str, wrong) -> None:
        self.name, self.wrong, self.send_on = name, wrong, world.upstreams.send

    async def send(self, request) -> Any:
        answer = await self.send_on(request)
        fields = json.loads(request.body)
        if self.name in fields and fields[self.name] == self.wrong:
            return Answer(400, refusal("unsupported_value", self.name))
        return answer


@settings(max_examples=examples(60))
@given(st.sampled_from(NAMES), st.sampled_from(["none", "bogus", 3, "x" * 500]), st.data())
def test_a_refused_value_takes_nothing_from_others(name, wrong, data) -> None:
    """Only the value that was refused is left out, for its sender and for whoever sends it again;
    every other value arrives."""
    wrong = str(wrong) if name in ("reasoning_effort", "service_tier") else wrong
    world = World("a", a=[200])
    one: Any = world.attempts.one
    one._providers = {"openai": Upstream(world, name, wrong)}
    call, _, error = world.one(world.call(body(**{name: wrong})))
    assert (None, (f"{name} removed",)) == (error, call.request.adjusted)
    right = data.draw(st.sampled_from(["low", "high", "auto"]))
    assert world.one(world.call(body(**{name: right})))[2] is None
    assert right == sent(world)[name]
    before = len(world.upstreams.bodies)
    world.one(world.call(body(**{name: wrong})))
    assert (1, False) == (len(world.upstreams.bodies) - before, name in sent(world))


REFUSALS = {
    "azure, older versions": (400, {"error": {"message": "Unknown argument: stream_options"}}),
    "openai": (
        400,
        {"error": {"message": "no", "param": "stream_options", "code": "unsupported_parameter"}},
    ),
    "azure, models": (422, {"detail": "Extra parameters ['stream_options'] are not allowed"}),
    "azure foundry": (
        400,
        {
            "error": {
                "code": "Invalid input",
                "message": '{"detail":[{"loc":["body","stream_options","include_usage"]}]}',
            }
        },
    ),
    "pydantic": (422, {"detail": [{"loc": ["body", "stream_options"], "msg": "no extra inputs"}]}),
    "mistral": (
        422,
        {"object": "error", "message": {"detail": [{"loc": ["body", "stream_options"]}]}},
    ),
    "vllm": (400, {"object": "error", "message": "('body', 'stream_options')", "code": 400}),
    "in words": (400, {"error": "Stream options can only be defined when stream=True"}),
    "serde": (400, "Failed to deserialize: unknown field `stream_options`, expected one of"),
    "unnamed": (422, {"detail": "Extra inputs are not permitted"}),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_the_relay_added_is_taken_back(name) -> None:
    """In whatever words it is refused: the call goes again without it, later calls never with it,
    and the caller, who sent none, hears nothing of it."""
    status, said = REFUSALS[name]
    raw = said.encode() if isinstance(said, str) else json.dumps(said).encode()
    world = World("a", a=[Answer(status, raw), 200])
    for calls in (1, 2):
        call = world.call(body(stream=True))
        call.request.request_usage()
        _, _, error = world.one(call)
        assert (None, ()) == (error, call.request.adjusted)
        assert calls + 1 == len(world.upstreams.bodies)
        assert "stream_options" not in sent(world)
    assert [("a", 1)] == [*world.attempts.one.parameters.counts()]


def test_only_our_part_of_the_callers_options_is_taken_back() -> None:
    """What the caller sent there goes on being sent, as it came."""
    refused = Answer(400, b'{"error":"unknown field include_usage of stream_options"}')
    world = World("a", a=[refused, 200])
    call = world.call(body(stream=True, stream_options={"include_obfuscation": False}))
    call.request.request_usage()
    assert world.one(call)[2] is None
    assert {"include_obfuscation": False, "include_usage": True} == sent(world, 0)["stream_options"]
    assert {"include_obfuscation": False} == sent(world)["stream_options"]


def test_a_callers_own_options_are_theirs() -> None:
    """Who asked for usage themselves hears that the upstream takes no such thing."""
    world = World("a", a=[Answer(422, b'{"detail":"stream_options: extra inputs"}')])
    call = world.call(body(stream=True, stream_options={"include_usage": True}))
    call.request.request_usage()
    _, _, error = world.one(call)
    assert isinstance(error, UpstreamRefused)
    assert (422, 1) == (error.status, len(world.upstreams.bodies))


def test_a_limit_of_ours_is_renamed_and_never_left_out() -> None:
    """A call whose output is bounded by the relay does not go without a bound."""
    refused = Answer(422, b'{"detail":[{"loc":["body","max_completion_tokens"]}]}')
    world = World("a", a=[refused, 200])
    call = world.call(body())
    call.request.set_output_tokens_max(77, reason="balance")
    assert world.one(call)[2] is None
    assert (77, False) == (sent(world).get("max_tokens"), "max_completion_tokens" in sent(world))


def test_what_did_not_help_is_not_remembered() -> None:
    """An upstream that refuses the mended call too has taught nothing."""
    world = World("a", a=[Answer(400, b'{"error":"unknown field stream_options"}')])
    call = world.call(body(stream=True))
    call.request.request_usage()
    _, _, error = world.one(call)
    assert isinstance(error, UpstreamRefused)
    assert (400, 2) == (error.status, len(world.upstreams.bodies))
    assert not world.attempts.one.parameters.has_any


def test_callers_cannot_fill_what_is_remembered() -> None:
    """A thousand made up values leave so many, the latest, and short ones."""
    world = World("a", a=[200])
    [deployment] = world.alias.deployments
    parameters = Parameters()
    for number in range(1000):
        request = parse_chat(body(seed=f"{number}" * 1000))
        error = UpstreamRefused("no", status=400, param="seed", code="unsupported_value")
        mend = next(iter(parameters.mend_for(error, deployment, request, (), 0.0)), None)
        assert isinstance(mend, Mend)
        assert len(mend.value or b"") == 16
        parameters.remember(deployment, [mend], 0.0)
    assert [("a", MENDS_MAX)] == [*parameters.counts()]
