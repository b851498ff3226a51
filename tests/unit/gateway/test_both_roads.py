"""The same answer over either road: what it costs, what the caller gets, and how it fails."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples
from tests.unit.gateway.test_lost_hedges import Stream
from tests.unit.gateway.test_pipeline import KEY, FakeReply, World
from tests.unit.gateway.test_roads import Whole

from merino.domain.errors import UpstreamBroken, UpstreamRefused
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.call import Call, new_call_id
from merino.gateway.roads import Roads, TranslatedResponse
from merino.translation.table import TRANSLATIONS, Made
from merino.wire.chat import parse_chat
from merino.wire.messages import parse_messages
from merino.wire.responses import parse_responses

ELSEWHERE = (
    400,
    (
        b'{"error":{"message":"Function tools with reasoning_effort are not supported for this model in'
        b' /v1/chat/completions. Please use /v1/responses instead.","type":"invalid_request_error",'
        b'"param":"reasoning_effort","code":null}}'
    ),
)
TOOL = {"type": "object", "properties": {}}


def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: %b\n\n" % json.dumps({"model": "up", "choices": [choice]}).encode()


def chat_usage(spent: dict[str, int]) -> dict[str, Any]:
    return {
        "prompt_tokens": spent["input"],
        "completion_tokens": spent["output"],
        "total_tokens": spent["input"] + spent["output"],
        "prompt_tokens_details": {
            "cached_tokens": spent["cached"],
            "cache_write_tokens": spent["written"],
        },
        "completion_tokens_details": {"reasoning_tokens": spent["reasoning"]},
    }


def responses_usage(spent: dict[str, int]) -> dict[str, Any]:
    return {
        "input_tokens": spent["input"],
        "output_tokens": spent["output"],
        "total_tokens": spent["input"] + spent["output"],
        "input_tokens_details": {
            "cached_tokens": spent["cached"],
            "cache_write_tokens": spent["written"],
        },
        "output_tokens_details": {"reasoning_tokens": spent["reasoning"]},
    }


SPENT = {"input": 30, "output": 9, "cached": 5, "written": 2, "reasoning": 3}


def chat_events(spent: dict[str, int] | None, texts: list[str]) -> list[bytes]:
    events = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"content": text}) for text in texts]
    events.append(chunk({}, "stop"))
    if spent is not None:
        usage = json.dumps({"choices": [], "usage": chat_usage(spent)}).encode()
        events.append(b"data: %b\n\n" % usage)
    return [*events, b"data: [DONE]\n\n"]


def message(text: str, status: str = "completed") -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def response(
    spent: dict[str, int] | None, output: list[Any], status: str = "completed"
) -> dict[str, Any]:
    usage = None if spent is None else responses_usage(spent)
    return {
        "id": "resp_up",
        "object": "response",
        "status": status,
        "model": "up",
        "output": output,
        "usage": usage,
    }


def responses_events(spent: dict[str, int] | None, texts: list[str]) -> list[bytes]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    datas: list[dict[str, Any]] = [
        {"type": "response.created", "response": response(None, [], "in_progress")},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**message("", "in_progress"), "content": []},
        },
        {"type": "response.content_part.added", **place, "part": part},
    ]
    datas += [{"type": "response.output_text.delta", **place, "delta": text} for text in texts]
    whole = message("".join(texts))
    datas.append({"type": "response.output_item.done", "output_index": 0, "item": whole})
    datas.append({"type": "response.completed", "response": response(spent, [whole])})
    return [
        b"event: %b\ndata: %b\n\n"
        % (
            data["type"].encode(),
            json.dumps({"type": data["type"], "sequence_number": at, **data}).encode(),
        )
        for at, data in enumerate(datas)
    ]


class Cut(Stream):
    """A stream whose connection breaks behind its last piece."""

    async def pipe(self, sink: Any) -> None:
        for piece in self.pieces:
            sink(piece)
        raise UpstreamBroken("connection reset", code="upstream_broken")


class Upstream:
    """Answers by deployment and endpoint, or by endpoint alone; keeps what it was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    async def send(self, request: Any) -> Any:
        body = json.loads(request.body)
        self.asked.append((request.deployment.name, request.endpoint, body))
        answer = self.answers.get(f"{request.deployment.name} {request.endpoint}")
        answer = answer or self.answers[request.endpoint]
        return answer if isinstance(answer, Stream) else Whole(*answer)


def called(
    answers: dict[str, Any] | Upstream,
    endpoint: str,
    *models: str,
    endpoints: tuple[str, ...] = (),
    calls: int = 1,
    **fields: Any,
) -> tuple[FakeReply, Call, World, Upstream]:
    world, roads, upstream = (
        World(*(models or ("m",))),
        Roads(TRANSLATIONS, Made),
        answers if isinstance(answers, Upstream) else Upstream(answers),
    )
    if endpoints:
        world.alias = replace(
            world.alias,
            deployments=tuple(
                replace(each, endpoints=endpoints) for each in world.alias.deployments
            ),
        )
    world.pipeline._attempts = Attempts(
        {"simulator": upstream}, world.fleet, RetryPolicy(backoff_base_s=0.001), roads=roads
    )
    world.pipeline.planner._roads = roads
    asked = (
        {"input": "hello"}
        if endpoint == "responses"
        else {"messages": [{"role": "user", "content": "hello"}]}
    )
    body = json.dumps({"model": "a", **asked, **fields}).encode()
    parses: dict[str, Any] = {"responses": parse_responses, "messages": parse_messages}
    parse = parses.get(endpoint, parse_chat)
    found: list[Any] = []

    async def scene() -> None:
        for _ in range(calls):
            reply = FakeReply(world.journal)
            call = Call(new_call_id(), KEY, parse(body), world.alias, perf_counter(), body)
            await world.pipeline.run(call, reply)
            found[:] = [reply, call]

    asyncio.run(scene())
    assert 0 == world.ledger.held
    return found[0], found[1], world, upstream


def datas(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]


def billed(world: World) -> tuple[Any, ...]:
    record = world.ledger.records[-1]
    return (
        record.input_tokens, record.output_tokens, record.cached_tokens, record.cache_write_tokens,
        record.reasoning_tokens, record.charged_nanos, record.usage_source,
    )  # fmt: skip


@st.composite
def spendings(draw: st.DrawFn) -> dict[str, int] | None:
    if draw(st.integers(0, 5)) == 0:
        return None
    total = draw(st.integers(5, 5000))
    cached = draw(st.integers(0, total))
    output = draw(st.integers(10, 900))
    return {
        "input": total,
        "output": output,
        "cached": cached,
        "written": draw(st.integers(0, total - cached)),
        "reasoning": draw(st.integers(0, output)),
    }


@settings(max_examples=examples(40))
@given(
    spent=spendings(),
    texts=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8),
    stream=st.booleans(),
)
def test_an_answer_costs_the_same_over_either_road(
    spent: dict[str, int] | None, texts: list[str], stream: bool
) -> None:
    """What was scripted is billed alike to both kinds of callers, natively and carried over; where
    nothing was reported, each caller's own words are what is estimated."""
    text = "".join(texts)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    usage = {} if spent is None else {"usage": chat_usage(spent)}
    chat = (200, json.dumps({"choices": [choice], **usage}).encode())
    responses = (200, json.dumps(response(spent, [message(text)])).encode())
    answers: dict[str, Any] = {"chat/completions": chat, "responses": responses}
    if stream:
        answers = {
            "chat/completions": Stream(*chat_events(spent, texts), ends=True),
            "responses": Stream(*responses_events(spent, texts), ends=True),
        }
    bills = [
        billed(called(answers, endpoint, endpoints=(upstream,), stream=stream)[2])
        for endpoint in ("responses", "chat/completions")
        for upstream in ("responses", "chat/completions")
    ]
    assert bills[0] == bills[1]
    assert bills[2] == bills[3]
    assert spent is None or bills[0] == bills[2]


def test_a_chat_that_is_refused_for_its_effort_goes_over() -> None:
    """Tools with effort that a chat does not take are asked through the Responses API, at once and
    from then on; the caller gets a chat's chunks."""
    answers = {
        "chat/completions": ELSEWHERE,
        "responses": Stream(*responses_events(SPENT, ["Hi", " you"]), ends=True),
    }
    tools = [{"type": "function", "function": {"name": "f", "parameters": TOOL}}]
    reply, _, world, upstream = called(
        answers, "chat/completions", calls=2, stream=True, tools=tools, reasoning_effort="high"
    )
    assert ["chat/completions", "responses", "responses"] == [each[1] for each in upstream.asked]
    body = upstream.asked[-1][2]
    assert ({"effort": "high"}, False, True) == (body["reasoning"], body["store"], body["stream"])
    assert {"type": "function", "name": "f", "parameters": TOOL, "strict": False} == body["tools"][
        0
    ]
    deltas = [
        each["choices"][0]["delta"].get("content") for each in datas(reply.body) if each["choices"]
    ]
    assert "Hi you" == "".join(filter(None, deltas))
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert (30, 9, 5, 2, 3) == billed(world)[:5]
    assert "closed" == world.fleet.of(world.alias.deployments[0]).breaker.state


def test_a_caller_who_did_not_ask_for_usage_does_not_get_it() -> None:
    """The relay asks for usage itself; a chunk of it is for those who asked."""
    answers = {"responses": Stream(*responses_events(SPENT, ["Hi"]), ends=True)}
    asks_for_it: dict[str, Any] = {"stream_options": {"include_usage": True}}
    for asked, has in (({}, False), (asks_for_it, True)):
        reply = called(answers, "chat/completions", endpoints=("responses",), stream=True, **asked)[
            0
        ]
        assert has == any(each.get("usage") for each in datas(reply.body))


def test_a_stream_through_chat_ends_once() -> None:
    """One last event, `[DONE]` behind it, and the usage that was reported."""
    answers = {"chat/completions": Stream(*chat_events(SPENT, ["Hi", " you"]), ends=True)}
    reply, call, world, upstream = called(
        answers, "responses", endpoints=("chat/completions",), stream=True, truncation="auto"
    )
    kinds = [each["type"] for each in datas(reply.body)]
    assert 1 == kinds.count("response.completed")
    assert "response.completed" == kinds[-1]
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert 30 == datas(reply.body)[-1]["response"]["usage"]["input_tokens"]
    assert {"include_usage": True} == upstream.asked[0][2]["stream_options"]
    told = ("carried over to /v1/chat/completions", "truncation removed")
    assert told == call.request.adjusted
    assert (30, 9, 5, 2, 3) == billed(world)[:5]


@pytest.mark.parametrize("asks_for_usage", [True, False])
def test_a_response_that_failed_costs_a_chat_what_it_reports(asks_for_usage: bool) -> None:
    """Its last event says what it used: over either road that is billed, and a chat hears of it if
    it asked."""
    events = responses_events(SPENT, ["Hi"])[:-1]
    failed = response(SPENT, [message("Hi")], "failed") | {"error": {"message": "oh"}}
    data = json.dumps({"type": "response.failed", "sequence_number": 9, "response": failed})
    events.append(f"event: response.failed\ndata: {data}\n\n".encode())
    bills = []
    for endpoint in ("responses", "messages", "chat/completions"):
        more: dict[str, Any] = {}
        if "/" in endpoint:
            more = {"stream_options": {"include_usage": asks_for_usage}}
        if endpoint == "messages":
            more = {"max_tokens": 50}
        answers = {"responses": Stream(*events, ends=True)}
        taken = ("responses",)
        reply, _, world, _ = called(answers, endpoint, endpoints=taken, stream=True, **more)
        assert reply.error is not None
        bills.append(billed(world))
    assert bills[0] == bills[1] == bills[2]
    assert (30, 9, "reported") == (*bills[0][:2], bills[0][-1])
    assert asks_for_usage is (b'"prompt_tokens":30' in reply.body)


@pytest.mark.parametrize("stream", [True, False])
def test_a_failed_response_that_is_paid_is_no_whole_answer_of_a_chat(stream: bool) -> None:
    """A chat has no word for failing with something to pay: it was cut short, and is billed."""
    failed = response(SPENT, [message("Hi")], "failed") | {"error": {"message": "oh"}}
    data = json.dumps({"type": "response.failed", "sequence_number": 1, "response": failed})
    event = f"event: response.failed\ndata: {data}\n\n".encode()
    whole = (200, json.dumps(failed).encode())
    answers = {"responses": Stream(event, ends=True) if stream else whole}
    reply, _, world, _ = called(
        answers, "chat/completions", endpoints=("responses",), stream=stream
    )
    assert reply.error is None
    assert b'"finish_reason":"length"' in reply.body
    assert b'"Hi"' in reply.body
    assert (30, 9, "reported") == (*billed(world)[:2], billed(world)[-1])


@pytest.mark.parametrize("breaks", ["error", "cut", "end"])
def test_a_stream_that_fails_after_content_says_so_once(breaks: str) -> None:
    """However the upstream breaks, the caller's last event is a failure in their dialect, and what
    they got is paid for."""
    events = chat_events(SPENT, ["Hi", " you"])[:3]
    if breaks == "error":
        events.append(b'data: {"error":{"message":"overloaded","code":"busy"}}\n\n')
    kind = Cut if breaks == "cut" else Stream
    answers = {"chat/completions": kind(*events, ends=True)}
    reply, _, world, _ = called(answers, "responses", endpoints=("chat/completions",), stream=True)
    assert reply.error is not None
    kinds = [each["type"] for each in datas(reply.body)]
    assert "response.completed" not in kinds
    assert "response.output_text.delta" in kinds
    assert billed(world)[1] > 0


@pytest.mark.parametrize("kind", [Cut, Stream])
def test_an_answer_that_was_whole_before_the_end_broke_is_whole(kind: type[Stream]) -> None:
    """Once the model has said why it stopped, a missing `[DONE]` or a broken connection takes
    nothing away."""
    events = chat_events(SPENT, ["Hi"])[:-1]
    answers = {"chat/completions": kind(*events, ends=True)}
    reply, _, world, _ = called(answers, "responses", endpoints=("chat/completions",), stream=True)
    assert reply.error is None
    assert "response.completed" == datas(reply.body)[-1]["type"]
    assert (30, 9, 5, 2, 3) == billed(world)[:5]


class Hanging(Stream):
    """A stream that falls silent, and lives until the relay ends it."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(*pieces, ends=True)
        self.over = asyncio.Event()

    async def pipe(self, sink: Any) -> None:
        await super().pipe(sink)
        await self.over.wait()

    def end(self) -> None:
        self.over.set()


@pytest.mark.parametrize(("left_out", "has_finished"), [(1, True), (3, False)])
def test_an_answer_that_has_ended_is_known_to_have(left_out: int, has_finished: bool) -> None:
    """An upstream that never ends its stream is not waited for as long as a silent one, once the
    model has said why it stopped; the caller gets the end then."""
    hanging = Hanging(*chat_events(SPENT, ["Hi"])[:-left_out])
    request = parse_responses(b'{"model": "a", "input": "hello", "stream": true}')
    carried = TRANSLATIONS["responses", "chat/completions"].carry(request, Made("call", 1))
    response = TranslatedResponse(hanging, carried)  # type: ignore[arg-type]
    got: list[bytes] = []

    async def scene() -> None:
        piping = asyncio.ensure_future(response.pipe(got.append))
        await asyncio.sleep(0)
        assert has_finished == response.has_finished
        hanging.end()
        await piping

    asyncio.run(scene())
    assert has_finished == (b"response.completed" in b"".join(got))


@pytest.mark.parametrize("body", [b"<html>", b"", b"[1]", b"null", b'{"a":', b"{}", b"\xff"])
@pytest.mark.parametrize(
    ("asked", "taken"), [("responses", "chat/completions"), ("chat/completions", "responses")]
)
def test_garbage_is_garbage_over_either_road(body: bytes, asked: str, taken: str) -> None:
    """What is no answer fails as it does natively, so that the call goes on elsewhere."""
    carried, *_ = called({taken: (200, body)}, asked, endpoints=(taken,))
    native, *_ = called({asked: (200, body)}, asked, endpoints=(asked,))
    assert isinstance(carried.error, UpstreamBroken)
    assert isinstance(native.error, UpstreamBroken)
    assert native.error.code == carried.error.code


def test_failover_crosses_from_road_to_road() -> None:
    """A deployment that fails before content is followed by one that is asked in the other dialect,
    both from the call as it came."""
    world_answers = {
        "d0 chat/completions": Cut(chat_events(SPENT, ["x"])[0], ends=True),
        "d0 responses": (404, b'{"detail":"Not Found"}'),
        "d1 responses": Stream(*responses_events(SPENT, ["Hi"]), ends=True),
    }
    reply, call, world, upstream = called(
        world_answers, "responses", "m", "n", stream=True, truncation="auto", max_output_tokens=77
    )
    asked = [(each[0], each[1]) for each in upstream.asked]
    assert [("d0", "responses"), ("d0", "chat/completions"), ("d1", "responses")] == asked
    assert (77, 77) == (
        upstream.asked[1][2]["max_completion_tokens"],
        upstream.asked[2][2]["max_output_tokens"],
    )
    assert "auto" == upstream.asked[2][2]["truncation"]
    assert "resp_up" in reply.body.decode()
    assert "truncation removed" not in call.request.adjusted
    assert (30, 9, 5, 2, 3) == billed(world)[:5]


def test_what_cannot_be_carried_is_named() -> None:
    """A tool that the upstream would have to run is refused by its place; nobody is asked."""
    reply, _, _, upstream = called(
        {}, "responses", endpoints=("chat/completions",), tools=[{"type": "web_search"}]
    )
    assert "tools[0].type" == reply.error.param
    assert "web_search" in reply.error.message
    assert [] == upstream.asked


def test_thinking_that_an_upstream_does_not_take_back_is_left_out() -> None:
    """A chat that refuses `reasoning_content` in messages (Groq, Mistral) is asked without it, and
    from then on at once; other refusals are no reason to forget what was thought."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "ok"},
        "finish_reason": "stop",
    }
    good = (200, json.dumps({"choices": [choice], "usage": chat_usage(SPENT)}).encode())
    refusal = b'{"error":{"message":"\'messages.1\': property \'reasoning_content\' is unsupported","type":"invalid_request_error"}}'
    items = [
        {"role": "user", "content": "hi"},
        {
            "type": "reasoning",
            "id": "r",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "ok"},
    ]

    class Picky(Upstream):
        async def send(self, request: Any) -> Any:
            self.asked.append((request.deployment.name, request.endpoint, json.loads(request.body)))
            return Whole(*((400, refusal) if b"reasoning_content" in request.body else good))

    for kind, expected in ((Picky, [True, False, False]), (Upstream, [True, True])):
        upstream = kind({"chat/completions": good})
        reply, call, _, _ = called(
            upstream, "responses", endpoints=("chat/completions",), calls=2, input=items
        )
        assert reply.error is None
        assert expected == [
            "reasoning_content" in each[2]["messages"][1] for each in upstream.asked
        ]
        assert (kind is Picky) == ("messages.reasoning_content removed" in call.request.adjusted)


@pytest.mark.parametrize(("asked", "sent"), [(1, 16), (15, 16), (16, 16), (40, 40)])
def test_a_limit_below_what_the_other_api_takes_is_raised(asked: int, sent: int) -> None:
    """A chat may ask for one token, the Responses API for no fewer than sixteen: those are sent, held
    for and told."""
    for road in ({"endpoints": ("responses",)}, {}):
        answers = {
            "chat/completions": ELSEWHERE,
            "responses": (200, json.dumps(response(SPENT, [message("Hi")])).encode()),
        }
        _, call, world, upstream = called(
            answers, "chat/completions", max_completion_tokens=asked, calls=2, **road
        )
        assert sent == upstream.asked[-1][2]["max_output_tokens"]
        told = "max_output_tokens=16 (minimum)" in call.request.adjusted
        assert (asked < 16) == told
        assert sent == call.output_tokens
        assert 0 == world.ledger.records[-1].overrun_nanos


def test_the_relay_lowers_no_limit_below_what_is_taken() -> None:
    """Where a limit of tokens a minute leaves less, the least that is taken is asked for."""
    world = World("m")
    request = parse_responses(b'{"model": "a", "input": "hello"}')
    call = Call(new_call_id(), KEY, request, world.alias, perf_counter(), b"{}")
    plan = world.pipeline.planner.plan(call)
    assert plan.quote.limit_output(call.asked_input_tokens + 5)
    assert 16 == plan.quote.output_tokens


def test_what_cannot_be_carried_names_a_model_that_takes_it() -> None:
    """Of those that the key may call: the ones that say they have the API, otherwise those of which
    nothing is known."""
    request = parse_responses(b'{"model": "a", "input": "x", "tools": [{"type": "web_search"}]}')
    world, roads = World("m"), Roads(TRANSLATIONS, Made)
    (plain,) = world.alias.deployments
    chats = replace(plain, endpoints=("chat/completions",))
    alias = replace(world.alias, deployments=(chats,))
    call = Call(new_call_id(), KEY, request, alias, perf_counter(), b"{}")
    native = replace(alias, name="native", deployments=(replace(plain, endpoints=("responses",)),))
    unknown = replace(alias, name="unknown", deployments=(plain,))
    for offered, words in (
        ((alias, native, unknown), "Models that take it: native."),
        ((alias, unknown), "It may be taken by: unknown."),
        ((alias,), "No model here is known to take it."),
    ):
        roads.configure({each.name: each for each in offered})
        with pytest.raises(UpstreamRefused) as refused:
            roads.other(call, chats, 0.0)
        assert refused.value.message.endswith(words)
        assert "tools[0].type" == refused.value.param
    call = Call(new_call_id(), replace(KEY, aliases=("a",)), request, alias, perf_counter(), b"{}")
    roads.configure({"a": alias, "native": native})
    with pytest.raises(UpstreamRefused, match="No model here"):
        roads.other(call, chats, 0.0)


def test_what_a_program_says_of_itself_stays_out() -> None:
    """`client_metadata` (Codex) is for the vendor of its own API; a chat gets none, and that is
    told."""
    answers = {"chat/completions": Stream(*chat_events(SPENT, ["Hi"]), ends=True)}
    _, call, _, upstream = called(
        answers, "responses", endpoints=("chat/completions",), stream=True,
        client_metadata={"x-codex-installation-id": "1"},
    )  # fmt: skip
    assert "client_metadata" not in upstream.asked[0][2]
    assert "client_metadata removed" in call.request.adjusted


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": []}, "input", "missing_required_parameter"),
        ({"input": None, "prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
        ({"input": [{"content": "hi"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"id": "msg_1"}]}, "input[0]", "unsupported_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name",
         "missing_required_parameter"),
        ({"tools": [{"type": "custom"}]}, "tools[0].name", "missing_required_parameter"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_in_the_callers_own_words(
    fields: dict[str, Any], param: str, code: str
) -> None:
    """The caller wrote no `messages`: what is wrong is told of their own field, and nobody is
    asked."""
    answers = {"chat/completions": (200, b"{}")}
    reply, _, _, upstream = called(answers, "responses", endpoints=("chat/completions",), **fields)
    assert (param, code, 400) == (reply.error.param, reply.error.code, reply.error.status)
    assert [] == upstream.asked
