"""Clients of one vendor's API at models of another's, over sockets: two turns with a tool and with
thinking that upstreams verify."""

from __future__ import annotations

import contextlib
import json

import httpx2
import openai
import pytest
from tests.conftest import RelayProcess
from tests.recording_upstream import Recorded, RecordingUpstream, Told, recording

DEPLOYMENT = """
[[deployments]]
name = "{name}"
provider = "{provider}"
base_url = "{address}/v1"
upstream_model = "{model}"
endpoints = ["{endpoint}"]
price = {{ input = 1.0, cached = 0.1, output = 2.0 }}
account_price = {{ input = 1.0, cached = 0.1, output = 2.0 }}
"""
UPSTREAMS = {
    "claude": ("anthropic", "messages"),
    "older": ("anthropic", "messages"),
    "gpt": ("openai", "responses"),
    "box": ("openai", "chat/completions"),
    "sampled": ("anthropic", "messages"),
    "gem": ("gemini", "generateContent"),
    "gem-2": ("gemini", "generateContent"),
    "busy": ("anthropic", "messages"),
}
NEWEST = """
[[deployments]]
name = "newest"
base_url = "{address}/v1"
upstream_model = "newest"
price = {{ input = 1.0, cached = 0.1, output = 2.0 }}
"""
ALIASES = """
[aliases.gpt]
deployments = ["gpt"]
[aliases.box]
deployments = ["box"]
[aliases.either]
deployments = ["busy", "box"]
[aliases.other]
deployments = ["busy", "gpt"]
[retries]
attempts_max = 2
backoff_base_s = 0.001
"""
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
SIGNATURE, SEALED = "EqQB+sig/==", "gAAAAAB-sealed"


def event(kind: str, **members) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def as_json(value: object, status: int = 200) -> Told:
    return Told(status, {"content-type": "application/json"}, [json.dumps(value).encode()])


def as_stream(*events: bytes) -> Told:
    return Told(200, {"content-type": "text/event-stream"}, list(events))


class Vendors:
    """Models that think, call a tool, and answer once they have its result and, where they seal it,
    their own thinking as it was."""

    def __call__(self, request: Recorded) -> Told:
        asked = json.loads(request.body)
        if ":" in request.target:
            return self.gemini(request.target, asked)
        model, stream = asked["model"], asked.get("stream", False)
        if model == "busy":
            error = {"type": "overloaded_error", "message": "Overloaded"}
            return as_json({"type": "error", "error": error}, 529)
        if model == "newest":
            # As OpenAI's: no Messages, and tools with effort only in responses.
            if request.target.endswith("/messages"):
                return as_json({"error": {"message": "Invalid URL (POST /v1/messages)"}}, 404)
            if request.target.endswith("/chat/completions") and "tools" in asked:
                return refused("Function tools with reasoning_effort: please use /v1/responses.")
        if model == "sampled" and "temperature" in asked:
            return refused("`temperature` is not supported with this model.")
        if request.target.endswith("/messages"):
            return self.messages(asked, stream=stream)
        if request.target.endswith("/responses"):
            return self.responses(asked, stream=stream)
        return self.chat(asked, stream=stream)

    def messages(self, asked: dict, *, stream: bool) -> Told:
        thinking = asked.get("thinking", {})
        if asked["model"] == "older" and thinking.get("type") == "adaptive":
            said = "adaptive thinking is not supported on this model"
            return refused(said)
        if asked["model"] == "older" and "output_config" in asked:
            return refused("This model does not support the effort parameter.")
        last = asked["messages"][-1]["content"]
        has_result = isinstance(last, list) and last[0]["type"] == "tool_result"
        if has_result:
            block = asked["messages"][-2]["content"][0]
            if block != {"type": "thinking", "thinking": "hm", "signature": SIGNATURE}:
                return refused("messages.1.content.0: Invalid `signature` in `thinking` block")
            blocks = [{"type": "text", "text": f"It is {last[0]['content']}."}]
        else:
            blocks = [
                {"type": "thinking", "thinking": "hm", "signature": SIGNATURE},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"q": "a"}},
            ]
        usage = {"input_tokens": 10, "cache_read_input_tokens": 30, "output_tokens": 8}
        message = {"id": "m", "type": "message", "role": "assistant", "model": asked["model"],
                   "stop_sequence": None}  # fmt: skip
        reason = "end_turn" if has_result else "tool_use"
        if not stream:
            return as_json({**message, "content": blocks, "stop_reason": reason, "usage": usage})
        events = [
            event(
                "message_start",
                message={
                    **message,
                    "content": [],
                    "stop_reason": None,
                    "usage": {**usage, "output_tokens": 1},
                },
            )
        ]
        for index, block in enumerate(blocks):
            empty = {name: "" for name in ("text", "thinking", "signature") if name in block}
            empty |= {"input": {}} if "input" in block else {}
            events.append(
                event("content_block_start", index=index, content_block={**block, **empty})
            )
            for kind, field in (("text_delta", "text"), ("thinking_delta", "thinking"),
                                ("signature_delta", "signature")):  # fmt: skip
                if field in block:
                    delta = {"type": kind, field: block[field]}
                    events.append(event("content_block_delta", index=index, delta=delta))
            if "input" in block:
                delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
                events.append(event("content_block_delta", index=index, delta=delta))
            events.append(event("content_block_stop", index=index))
        delta = {"stop_reason": reason, "stop_sequence": None}
        return as_stream(*events, event("message_delta", delta=delta, usage=usage),
                         event("message_stop"))  # fmt: skip

    def responses(self, asked: dict, *, stream: bool) -> Told:
        items = asked["input"]
        results = [each for each in items if each.get("type") == "function_call_output"]
        if results:
            at = next(n for n, each in enumerate(items) if each.get("type") == "function_call")
            if items[at - 1].get("encrypted_content") != SEALED:
                return refused("The encrypted content could not be verified.")
            text = {
                "type": "output_text",
                "text": f"It is {results[0]['output']}.",
                "annotations": [],
            }
            output = [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
                       "content": [text]}]  # fmt: skip
        else:
            output = [
                {"id": "rs_1", "type": "reasoning", "encrypted_content": SEALED,
                 "summary": [{"type": "summary_text", "text": "hm"}]},
                {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "look",
                 "arguments": '{"q":"a"}', "status": "completed"},
            ]  # fmt: skip
        usage = {"input_tokens": 40, "input_tokens_details": {"cached_tokens": 30},
                 "output_tokens": 8, "output_tokens_details": {"reasoning_tokens": 3},
                 "total_tokens": 48}  # fmt: skip
        response = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
                    "model": "gpt", "output": output, "usage": usage}  # fmt: skip
        if not stream:
            return as_json(response)
        begun = {**response, "status": "in_progress", "output": [], "usage": None}
        events = [event("response.created", response=begun, sequence_number=0)]
        for index, item in enumerate(output):
            events.append(event("response.output_item.added", output_index=index, item=item,
                                sequence_number=len(events)))  # fmt: skip
            events.append(event("response.output_item.done", output_index=index, item=item,
                                sequence_number=len(events)))  # fmt: skip
        return as_stream(*events, event("response.completed", response=response,
                                        sequence_number=len(events)))  # fmt: skip

    def gemini(self, target: str, asked: dict) -> Told:
        """Newer models are told a level, older ones a budget; both verify their signature."""
        model, _, method = target.removeprefix("/v1/models/").partition(":")
        thinking = asked.get("generationConfig", {}).get("thinkingConfig", {})
        if model == "gem-2" and "thinkingLevel" in thinking:
            return google("Thinking level is not supported for this model.")
        results = [
            part["functionResponse"]
            for content in asked["contents"]
            for part in content["parts"]
            if "functionResponse" in part
        ]
        if results:
            call = asked["contents"][-2]["parts"][-1]
            if call.get("thoughtSignature") != SIGNATURE:
                return google("Function call is missing a thought_signature in functionCall parts.")
            parts = [{"text": f"It is {results[0]['response']['output']}."}]
        else:
            called = {"name": "look", "args": {"q": "a"}}
            parts = [
                {"text": "hm", "thought": True},
                {"functionCall": called, "thoughtSignature": SIGNATURE},
            ]
        usage = {"promptTokenCount": 40, "cachedContentTokenCount": 30, "candidatesTokenCount": 5,
                 "thoughtsTokenCount": 3, "totalTokenCount": 48}  # fmt: skip
        every = {"usageMetadata": usage, "modelVersion": model}
        ended = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
        if method == "generateContent":
            return as_json({"candidates": [ended], **every})
        assert method == "streamGenerateContent?alt=sse"
        events = [
            {"candidates": [{"content": {"role": "model", "parts": [each]}, "index": 0}], **every}
            for each in parts
        ]
        last = {"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}
        events.append({"candidates": [last], **every})
        return as_stream(*(f"data: {json.dumps(each)}\r\n\r\n".encode() for each in events))

    def chat(self, asked: dict, *, stream: bool) -> Told:
        results = [each for each in asked["messages"] if each["role"] == "tool"]
        message: dict = {"role": "assistant", "content": "", "reasoning_content": "hm"}
        if results:
            message = {"role": "assistant", "content": f"It is {results[0]['content']}."}
        else:
            function = {"name": "look", "arguments": '{"q":"a"}'}
            message["tool_calls"] = [
                {"index": 0, "id": "call_1", "type": "function", "function": function}
            ]
        reason = "stop" if results else "tool_calls"
        usage = {"prompt_tokens": 40, "completion_tokens": 8, "total_tokens": 48,
                 "prompt_tokens_details": {"cached_tokens": 30}}  # fmt: skip
        if not stream:
            choice = {"index": 0, "message": message, "finish_reason": reason}
            return as_json({"id": "c", "model": "box", "choices": [choice], "usage": usage})
        choices = [{"index": 0, "delta": message, "finish_reason": None},
                   {"index": 0, "delta": {}, "finish_reason": reason}]  # fmt: skip
        every = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "box"}
        chunks = [{**every, "choices": [each]} for each in choices]
        chunks.append({**every, "choices": [], "usage": usage})
        return as_stream(
            *(f"data: {json.dumps(each)}\n\n".encode() for each in chunks), b"data: [DONE]\n\n"
        )


def refused(said: str) -> Told:
    error = {"type": "invalid_request_error", "message": said}
    return as_json({"type": "error", "error": error}, 400)


def google(said: str) -> Told:
    return as_json({"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}, 400)


World = tuple[RecordingUpstream, RelayProcess]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with recording(Vendors()) as server:
        config = "".join(
            DEPLOYMENT.format(name=name, model=name, address=server.address, provider=provider,
                              endpoint=endpoint)
            for name, (provider, endpoint) in UPSTREAMS.items()
        )  # fmt: skip
        config += NEWEST.format(address=server.address) + ALIASES
        relay = RelayProcess(tmp_path_factory.mktemp("relay") / "data", config).start()
        yield server, relay
        assert 0 == relay.stop()


@pytest.fixture
def opened():
    """Closes clients at the end."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


def post(relay: RelayProcess, path: str, body: dict) -> httpx2.Response:
    headers = {"authorization": f"Bearer {relay.key}"}
    return httpx2.post(f"{relay.url}{path}", json=body, headers=headers, timeout=20)


COST = (10 * 1_000 + 30 * 100 + 8 * 2_000) / 1e9


def test_a_chat_client_in_two_turns(world: World, opened, model: str, stream: bool) -> None:
    """It sends the message back as it came; the answer and the bill are the same everywhere."""
    _, relay = world
    client = opened(openai.OpenAI(base_url=f"{relay.url}/v1", api_key=relay.key, max_retries=0))
    tool = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
    messages: list = [{"role": "user", "content": "What is it?"}]
    asked: dict = {"model": model, "tools": [tool], "reasoning_effort": "high",
                   "max_completion_tokens": 4000}  # fmt: skip
    for _ in range(2):
        if stream:
            with client.chat.completions.stream(messages=messages, **asked) as events:
                for _event in events:
                    pass
                message = events.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(messages=messages, **asked).choices[0].message
        if not message.tool_calls:
            break
        call = message.tool_calls[0]
        assert ("look", {"q": "a"}) == (call.function.name, json.loads(call.function.arguments))
        back = message.to_dict()
        back.pop("parsed", None)
        messages += [back, {"role": "tool", "tool_call_id": call.id, "content": "blue"}]
    assert "It is blue." == message.content
    assert COST == last_cost(relay)


def test_a_responses_client_in_two_turns(world: World, opened, model: str, stream: bool) -> None:
    """It keeps the items of each answer."""
    _, relay = world
    client = opened(openai.OpenAI(base_url=f"{relay.url}/v1", api_key=relay.key, max_retries=0))
    items: list = [{"role": "user", "content": "What is it?"}]
    tool = {"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}
    asked: dict = {"model": model, "tools": [tool], "reasoning": {"effort": "high", "summary": "auto"},
                   "include": ["reasoning.encrypted_content"], "store": False,
                   "max_output_tokens": 4000}  # fmt: skip
    for _ in range(2):
        if stream and model != "gpt":  # the stand-in's own stream has items only
            with client.responses.stream(input=items, **asked) as events:
                for _event in events:
                    pass
                response = events.get_final_response()
        else:
            response = client.responses.create(input=items, **asked)
        calls = [each for each in response.output if each.type == "function_call"]
        if not calls:
            break
        items += [each.to_dict() for each in response.output]
        items.append(
            {"type": "function_call_output", "call_id": calls[0].call_id, "output": "blue"}
        )
    assert "It is blue." == response.output_text
    assert COST == last_cost(relay)


def test_a_messages_client_in_two_turns(world: World, opened, model: str, stream: bool) -> None:
    """The `anthropic` package, which keeps the blocks of each answer."""
    anthropic = pytest.importorskip("anthropic")
    _, relay = world
    client = opened(anthropic.Anthropic(base_url=relay.url, api_key=relay.key, max_retries=0))
    messages: list = [{"role": "user", "content": "What is it?"}]
    asked: dict = {"model": model, "max_tokens": 4000,
                   "tools": [{"name": "look", "input_schema": SCHEMA}],
                   "thinking": {"type": "adaptive", "display": "summarized"}}  # fmt: skip
    if model == "older":
        asked["thinking"] = {"type": "enabled", "budget_tokens": 2000}
    for _ in range(2):
        if stream:
            with client.messages.stream(messages=messages, **asked) as events:
                message = events.get_final_message()
        else:
            message = client.messages.create(messages=messages, **asked)
        calls = [each for each in message.content if each.type == "tool_use"]
        if not calls:
            break
        assert ("look", {"q": "a"}, "tool_use") == (
            calls[0].name, calls[0].input, message.stop_reason,
        )  # fmt: skip
        result = {"type": "tool_result", "tool_use_id": calls[0].id, "content": "blue"}
        messages += [
            {"role": "assistant", "content": [each.to_dict() for each in message.content]},
            {"role": "user", "content": [result]},
        ]
    assert "It is blue." == message.content[-1].text
    assert (10, 30, 8) == (
        message.usage.input_tokens, message.usage.cache_read_input_tokens,
        message.usage.output_tokens,
    )  # fmt: skip
    assert COST == last_cost(relay)


def pytest_generate_tests(metafunc) -> None:
    if "stream" in metafunc.fixturenames:
        models = ("claude", "older", "gpt", "box", "gem", "gem-2")
        cases = [(model, stream) for model in models for stream in (False, True)]
        metafunc.parametrize(("model", "stream"), cases)


def last_cost(relay: RelayProcess) -> float:
    headers = {"authorization": f"Bearer {relay.admin_key}"}
    record = httpx2.get(f"{relay.url}/admin/v1/calls?limit=1", headers=headers).json()["data"][0]
    return record["charged_nanos"] / 1e9


def test_what_an_older_model_refused_is_known(world: World) -> None:
    """It is asked with a budget instead, at once the next time, and the caller is told."""
    server, relay = world
    body = {"model": "older", "reasoning_effort": "low", "max_completion_tokens": 9000,
            "messages": [{"role": "user", "content": "x"}]}  # fmt: skip
    post(relay, "/v1/chat/completions", body)
    before = len(server.seen)
    answer = post(relay, "/v1/chat/completions", body)
    assert 1 == len(server.seen) - before
    assert {"type": "enabled", "budget_tokens": 2048} == json.loads(server.seen[-1].body)[
        "thinking"
    ]
    assert "thinking.adaptive removed" in answer.headers["x-merino-adjusted"]


def test_a_third_road_is_found(world: World) -> None:
    """Nothing was said of what the upstream has: each API is tried once, and then it is known."""
    server, relay = world
    body = {"model": "newest", "max_tokens": 4000, "output_config": {"effort": "high"},
            "tools": [{"name": "look", "input_schema": SCHEMA}],
            "messages": [{"role": "user", "content": "x"}]}  # fmt: skip
    for expected in (["messages", "completions", "responses"], ["responses"]):
        before = len(server.seen)
        answer = post(relay, "/v1/messages", body)
        assert (200, "tool_use") == (answer.status_code, answer.json()["stop_reason"])
        seen = [each.target.rpartition("/")[2] for each in server.seen[before:]]
        assert expected == [each for each in seen if each != "models"]


def test_a_model_that_is_not_sampled_is_asked_without(world: World) -> None:
    """What the caller said of sampling is left out once it was refused, and that is told."""
    _, relay = world
    body = {"model": "sampled", "temperature": 0.2, "messages": [{"role": "user", "content": "x"}]}
    answer = post(relay, "/v1/chat/completions", body)
    assert 200 == answer.status_code
    assert "temperature removed" in answer.headers["x-merino-adjusted"]


@pytest.mark.parametrize("alias", ["either", "other"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_another_vendor_stands_in(world: World, alias: str, path: str) -> None:
    """One alias may hold deployments of several dialects: before the first content, the next one is
    asked with the caller's own words."""
    server, relay = world
    body = {"model": alias, "max_tokens": 50, "messages": [{"role": "user", "content": "x"}]}
    before = len(server.seen)
    answer = post(relay, path, body)
    assert 200 == answer.status_code
    targets = [each.target for each in server.seen[before:]]
    assert ["/v1/messages"] == sorted({each for each in targets if each.endswith("messages")})
    assert targets[-1] in ("/v1/chat/completions", "/v1/responses")
    assert answer.headers["x-merino-deployment"] in ("box", "gpt")


def test_thinking_of_another_dialect_is_kept_from_the_vendor(world: World) -> None:
    """A conversation that began elsewhere goes to Anthropic without what that one sealed."""
    server, relay = world
    began = post(relay, "/v1/messages", {
        "model": "gpt", "max_tokens": 50, "thinking": {"type": "adaptive"},
        "messages": [{"role": "user", "content": "x"}]}).json()  # fmt: skip
    assert "merino.openai.rs_1." + SEALED == began["content"][0]["signature"]
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": began["content"]},
                {"role": "user", "content": "And now?"}]  # fmt: skip
    answer = post(
        relay, "/v1/messages", {"model": "claude", "max_tokens": 50, "messages": messages}
    )
    assert 200 == answer.status_code
    assert b"merino." not in server.seen[-1].body
    assert b"tool_use" in server.seen[-1].body
    assert "another maker's thinking removed" in answer.headers["x-merino-adjusted"]
