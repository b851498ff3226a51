"""A call goes out as it came, and over another dialect where that is refused or known to be."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from time import perf_counter
from types import MappingProxyType
from typing import Any

import pytest
from tests.unit.gateway.test_lost_hedges import Stream
from tests.unit.gateway.test_pipeline import KEY, FakeReply, World

from merino.domain.errors import InvalidCall, UpstreamRefused
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.call import Call, new_call_id
from merino.gateway.roads import Roads, is_about_road
from merino.gateway.verdicts import Sent, judge
from merino.translation.answered import Made
from merino.translation.table import TRANSLATIONS
from merino.wire.chat import CHAT, parse_chat
from merino.wire.responses import parse_responses

CALL = b'{"model":"a","input":"hello"}'
CHAT_ANSWER = b'{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
ANSWER = b'{"object":"response","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}'
NO_PATH = (404, b'{"detail":"Not Found"}')


class Carried:
    body = b'{"model":"a","messages":[{"role":"user","content":"hello"}]}'
    told = ("carried over",)
    dispensable = MappingProxyType({})

    def answer(self, body: bytes) -> bytes:
        assert CHAT_ANSWER == body
        return ANSWER

    def stream(self):
        raise AssertionError("this call is not streamed")


class Translation:
    target: Any = CHAT

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.carried = 0

    def carry(self, request, made) -> Any:
        self.carried += 1
        if self.refuses:
            raise InvalidCall("No hosted tools.", param="tools[0]", code="unsupported_parameter")
        return Carried()


class Whole(Stream):
    headers = ((b"content-type", b"application/json"),)

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(body, ends=True)
        self.status = status

    def whole(self, bytes_max: int) -> bytes:
        return b"".join(self.pieces)

    async def read(self, bytes_max: int) -> bytes:
        return b"".join(self.pieces)


class Upstream:
    """Answers by endpoint; keeps what it was asked."""

    def __init__(self, **answers) -> None:
        self.answers = answers
        self.asked = []

    async def send(self, request) -> Any:
        self.asked.append((request.deployment.name, request.endpoint))
        name = "chat" if request.endpoint == "chat/completions" else request.endpoint
        return Whole(*self.answers[name])


def called(world, upstream, roads, calls=1, body=CALL, parse=parse_responses):
    world.pipeline._attempts = Attempts(
        {"simulator": upstream}, world.fleet, RetryPolicy(backoff_base_s=0.001), roads=roads
    )
    world.pipeline.planner._roads = roads
    replies = []

    async def scene() -> None:
        for _ in range(calls):
            reply = FakeReply(world.journal)
            call = Call(new_call_id(), KEY, parse(body), world.alias, perf_counter(), body)
            await world.pipeline.run(call, reply)
            replies.append((reply, call))

    asyncio.run(scene())
    return replies


def test_what_is_refused_is_carried_over_and_remembered() -> None:
    """The first call is refused, carried over and told so; the next one goes that road at once.
    The deployment stays as good as it was, and the ledger has the upstream's usage."""
    world, roads = World("m"), Roads({("responses", "chat/completions"): Translation()})
    upstream = Upstream(responses=NO_PATH, chat=(200, CHAT_ANSWER))
    found = called(world, upstream, roads, calls=2)
    assert [("d0", "responses"), ("d0", "chat/completions"), ("d0", "chat/completions")] == (
        upstream.asked
    )
    for reply, call in found:
        assert ANSWER == reply.body
        assert "carried over" in call.request.adjusted
        assert () == call.attempts
    assert [(3, 2, "responses")] * 2 == [
        (each.input_tokens, each.output_tokens, each.endpoint) for each in world.ledger.records
    ]
    assert "closed" == world.fleet.of(world.alias.deployments[0]).breaker.state


def test_the_operators_word_needs_no_refusal() -> None:
    """Where the setting leaves an API out, it is never asked."""
    world, roads = World("m"), Roads({("responses", "chat/completions"): Translation()})
    (deployment,) = world.alias.deployments
    chat_only = replace(deployment, endpoints=("chat/completions",))
    world.alias = replace(world.alias, deployments=(chat_only,))
    upstream = Upstream(chat=(200, CHAT_ANSWER))
    called(world, upstream, roads)
    assert [("d0", "chat/completions")] == upstream.asked


def test_without_any_road_the_call_is_told_so() -> None:
    """No deployment takes it: the refusal names the endpoint, and nobody is asked."""
    world, roads = World("m"), Roads()
    (deployment,) = world.alias.deployments
    chat_only = replace(deployment, endpoints=("chat/completions",))
    world.alias = replace(world.alias, deployments=(chat_only,))
    upstream = Upstream()
    ((reply, _),) = called(world, upstream, roads)
    assert "endpoint_not_supported" == reply.error.code
    assert "/v1/responses" in reply.error.message
    assert [] == upstream.asked


def test_a_path_that_is_not_there_is_named() -> None:
    """An upstream's bare 404 would not say what was missing: the first call is told as the next
    ones are."""
    world = World("m")
    found = called(world, Upstream(responses=NO_PATH), Roads(), calls=2)
    for reply, _ in found:
        assert ("endpoint_not_supported", "model") == (reply.error.code, reply.error.param)
        assert "/v1/responses" in reply.error.message
    assert "closed" == world.fleet.of(world.alias.deployments[0]).breaker.state


def test_a_path_that_is_not_there_sends_the_call_elsewhere() -> None:
    """Without a translation the next deployment is asked, and the first one not again."""
    world, roads = World("m", "n"), Roads()

    class Two(Upstream):
        async def send(self, request) -> Any:
            self.asked.append((request.deployment.name, request.endpoint))
            return Whole(*(NO_PATH if request.deployment.name == "d0" else (200, ANSWER)))

    upstream = Two()
    found = called(world, upstream, roads, calls=2)
    assert [("d0", "responses"), ("d1", "responses"), ("d1", "responses")] == upstream.asked
    assert [ANSWER, ANSWER] == [reply.body for reply, _ in found]
    assert "closed" == world.fleet.of(world.alias.deployments[0]).breaker.state


def test_what_cannot_be_carried_over_names_the_field() -> None:
    """Another deployment may take it; if there is none, the caller is told which field it was."""
    world = World("m")
    roads = Roads({("responses", "chat/completions"): Translation(refuses=True)})
    ((reply, _),) = called(world, Upstream(responses=NO_PATH), roads)
    assert ("tools[0]", 400) == (reply.error.param, reply.error.status)
    assert [] != world.ledger.records
    assert 0 == world.ledger.held


@pytest.mark.parametrize(
    ("status", "said", "is_road"),
    [
        (404, '{"detail":"Not Found"}', True),
        (405, "", True),
        (404, "404 page not found", True),
        (501, '{"error":{"message":"Not implemented"}}', True),
        (404, '{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}',
         False),
        (400, '{"error":{"message":"Not supported in the v1/responses endpoint."}}', True),
        (400, '{"error":{"message":"Unsupported value"}}', False),
        (404, '{"error":{"message":"Response with id \'resp_1234\' not found."}}', False),
        (404, '{"error":{"message":"Not here.","param":"previous_response_id"}}', False),
        (429, '{"error":{"message":"Slow down at v1/responses"}}', False),
    ],
)  # fmt: skip
def test_which_refusals_are_about_the_api(status, said, is_road) -> None:
    """A missing path or a word about another API; not a missing model, nor a limit."""
    error = UpstreamRefused(said, status=status, error_type=None)
    error.body = said.encode()
    sent = CALL[:-1] + b',"previous_response_id":"resp_1234"}'
    error.verdict = judge(status, (), error.body, Sent(sent)).verdict
    assert is_road is is_about_road(error, parse_responses(sent), sent)


@pytest.mark.parametrize(
    ("status", "said", "is_road"),
    [
        (404, '{"detail":"Not Found"}', True),
        (405, '{"detail":"Method Not Allowed"}', True),
        (404, "404 page not found", True),
        (404, "<pre>Cannot POST /v1/chat/completions</pre>", True),
        (404, '{"error":{"message":"Invalid URL (POST /v1/chat/completions)"}}', True),
        (404, '{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}',
         False),
        (404, '{"error":{"message":"Not Found"}}', False),
        (404, "", False),
    ],
)  # fmt: skip
def test_which_refusals_of_a_chat_are_about_its_path(status, said, is_road) -> None:
    """Nearly every server has chats: only words about the path say that one has none."""
    error = UpstreamRefused(said, status=status, error_type=None)
    error.body = said.encode()
    body = b'{"model":"a","messages":[{"role":"user","content":"hi"}]}'
    assert is_road is is_about_road(error, parse_chat(body), body)


def test_a_callers_words_teach_nothing() -> None:
    """A refusal that quotes the caller's own words about an API is no evidence."""
    body = b'{"model":"a","messages":[{"role":"user","content":"use V1/Responses"}]}'
    error = UpstreamRefused("Bad content: use V1/Responses", status=400, error_type=None)
    assert not is_about_road(error, parse_chat(body), body)
    assert is_about_road(error, parse_chat(body), b"{}")


def test_only_the_kind_of_chat_that_was_refused_is_carried() -> None:
    """Tools with effort are refused in a chat; plain chats stay where they were."""
    translation = Translation()
    translation.target = type("Target", (), {"name": "responses"})
    roads = Roads({("chat/completions", "responses"): translation})
    world = World("m")
    (deployment,) = world.alias.deployments

    def call(**more) -> Call:
        body = json.dumps({"model": "a", "messages": [{"role": "user"}], **more}).encode()
        return Call(new_call_id(), KEY, parse_chat(body), world.alias, 0.0, body)

    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    roads.learn(deployment, call(**tools, reasoning_effort="high").request, 1.0)
    assert not roads.is_native(call(**tools, reasoning_effort="low"), deployment, 2.0)
    assert roads.is_native(call(**tools), deployment, 2.0)
    assert roads.is_native(call(), deployment, 2.0)
    assert roads.is_native(call(**tools, reasoning_effort="low"), deployment, 1e6)


class Picky(Upstream):
    """Chat completions only, and no parameter but the usual ones."""

    def __init__(self, refusal) -> None:
        super().__init__(responses=NO_PATH)
        self.refusal = refusal
        self.bodies = []

    async def send(self, request) -> Any:
        if request.endpoint == "responses":
            return await super().send(request)
        self.asked.append((request.deployment.name, request.endpoint))
        sent = json.loads(request.body)
        self.bodies.append(sent)
        refused = [name for name in ("prompt_cache_key", "verbosity", "user") if name in sent]
        status, body = self.refusal(refused) if refused else (200, CHAT_ANSWER)
        return Whole(status, body)


PICKY = {
    "pydantic, all at once": lambda names: (
        422,
        [{"type": "extra_forbidden", "loc": ["body", name]} for name in names],
    ),
    "openai's older words, one by one": lambda names: (
        400,
        {"error": {"message": f'Unrecognized request argument supplied: "{names[0]}"'}},
    ),
    "groq": lambda names: (400, {"error": {"message": f"property '{names[0]}' is unsupported"}}),
    "vllm": lambda names: (400, {"message": f"('body', '{names[0]}')", "code": 400}),
}


@pytest.mark.parametrize("name", PICKY)
def test_a_carried_call_goes_without_what_its_upstream_does_not_know(name) -> None:
    """Its caller wrote it for another API: in whatever words an upstream refuses what an answer can
    do without, it is left out and told, and later calls are written without it."""

    def refusal(names):
        status, said = PICKY[name](names)
        return status, json.dumps(said).encode()

    world, roads = World("m"), Roads(TRANSLATIONS, Made)
    upstream = Picky(refusal)
    body = json.dumps(
        {
            "model": "a",
            "input": "hi",
            "prompt_cache_key": "k",
            "user": "u",
            "text": {"verbosity": "low"},
        }
    ).encode()
    for reply, made in called(world, upstream, roads, calls=2, body=body):
        assert reply.error is None
        removed = {each for each in made.request.adjusted if each.endswith(" removed")}
        assert {"prompt_cache_key removed", "user removed", "verbosity removed"} == removed
    assert upstream.bodies[-1].keys() == upstream.bodies[-2].keys()
    assert not {"prompt_cache_key", "user", "verbosity"} & upstream.bodies[-1].keys()


def test_what_shapes_a_carried_answer_is_not_left_out() -> None:
    """Without its format it would be another answer: the caller hears the refusal."""
    said = b'{"error":{"message":"Unknown parameter: response_format"}}'
    world, roads = World("m"), Roads(TRANSLATIONS, Made)
    form = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}
    body = json.dumps({"model": "a", "input": "hi", "text": form}).encode()
    ((reply, _),) = called(world, Upstream(responses=NO_PATH, chat=(400, said)), roads, body=body)
    assert 400 == reply.error.status
    assert "response_format" in reply.error.message


def test_in_their_own_dialect_callers_hear_of_what_they_sent() -> None:
    """Who wrote the parameter for this API is told that it is none, in the upstream's words."""
    said = b'{"error":{"message":"Unknown parameter: prompt_cache_key"}}'
    body = b'{"model":"a","messages":[{"role":"user","content":"hi"}],"prompt_cache_key":"k"}'
    upstream = Upstream(chat=(400, said))
    ((reply, _),) = called(World("m"), upstream, Roads(), body=body, parse=parse_chat)
    assert (400, 1) == (reply.error.status, len(upstream.asked))
