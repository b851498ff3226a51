"""The `openai` package against an upstream that has only the other API."""

from __future__ import annotations

import json

import openai
import pytest
from openai.types.responses import Response
from tests.fake_server import fake_server

USAGE = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}
TOOL = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}
CONFIG = """
[[deployments]]
name = "box"
base_url = "{address}/v1"
upstream_model = "local"
price = {{ input = 1.0, output = 2.0 }}
account_price = {{ input = 1.0, output = 2.0 }}

[aliases.box]
deployments = ["box"]
"""


def _stream(*deltas: dict, reason: str) -> str:
    chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks.append({"index": 0, "delta": {}, "finish_reason": reason})
    events = [{"id": "c", "model": "local", "choices": [choice]} for choice in chunks]
    events.append({"choices": [], "usage": USAGE})
    return "".join(f"data: {json.dumps(each)}\n\n" for each in events) + "data: [DONE]\n\n"


@pytest.fixture
def upstream(start_relay):
    with fake_server({}) as server:
        relay = start_relay(CONFIG.format(address=server.address))
        with openai.OpenAI(base_url=f"{relay.url}/v1", api_key=relay.key, max_retries=0) as client:
            yield server, client


def test_a_whole_response_through_a_chat(upstream) -> None:
    """It is learned from a 404 that there is no Responses API; the object is what the package's
    strict model takes, and it is billed by what the chat used."""
    server, client = upstream
    message = {"role": "assistant", "content": "Hi.", "reasoning_content": "hm"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    server.answers["/v1/chat/completions"] = 200, {"choices": [choice], "usage": USAGE}
    server.headers["content-type"] = "application/json"
    for _ in range(2):
        raw = client.responses.with_raw_response.create(model="box", input="hi", truncation="auto")
    Response.model_validate_json(raw.content, strict=True)
    assert "Hi." == raw.parse().output_text
    assert "truncation removed" in raw.headers["x-merino-adjusted"]
    assert 20 * 1_000 + 8 * 2_000 == round(float(raw.headers["x-merino-cost"]) * 1e9)
    paths = [path for _, path, _ in server.seen if "models" not in path]
    assert ["/v1/responses", "/v1/chat/completions", "/v1/chat/completions"] == paths


def test_a_streamed_response_through_a_chat(upstream) -> None:
    """Text and a call come event by event; the second turn carries the call and its result."""
    server, client = upstream
    server.headers["content-type"] = "text/event-stream"
    call = {"index": 0, "id": "c1", "function": {"name": "look_up", "arguments": "{}"}}
    server.answers["/v1/chat/completions"] = (
        200,
        _stream(
            {"content": "Let "}, {"content": "me."}, {"tool_calls": [call]}, reason="tool_calls"
        ),
    )
    turn = [{"role": "user", "content": "Weather?"}]
    with client.responses.stream(model="box", input=turn, tools=[TOOL]) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()
    assert "response.completed" == kinds[-1]
    assert "Let me." == answer.output_text
    assert ["message", "function_call"] == [item.type for item in answer.output]
    assert 28 == answer.usage.total_tokens
    turn += [item.to_dict() for item in answer.output]
    turn.append({"type": "function_call_output", "call_id": "c1", "output": "Rain."})
    server.answers["/v1/chat/completions"] = 200, _stream({"content": "Rain."}, reason="stop")
    with client.responses.stream(model="box", input=turn, tools=[TOOL]) as stream:
        assert "Rain." == stream.get_final_response().output_text


def test_what_cannot_be_carried_is_a_400_that_names_it(upstream) -> None:
    """A tool that the upstream would run is refused under its place."""
    _, client = upstream
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="box", input="hi", tools=[{"type": "web_search"}])
    assert "tools[0].type" == caught.value.param
