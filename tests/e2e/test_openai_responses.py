"""Code written for the `openai` package's Responses API works by changing base URL and key."""

from __future__ import annotations

import openai
import pytest
from openai.types.responses import Response

ASKED = "Why is the sky blue?"
TOOLS = [
    {
        "type": "function",
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]


@pytest.fixture
def client(relay):
    with openai.OpenAI(base_url=f"{relay.url}/v1", api_key=relay.key, max_retries=0) as client:
        yield client


def _call(relay, answer) -> dict:
    with relay.http() as http:
        return http.get(f"/v1/calls/{answer.headers['x-request-id']}").json()


def test_plain_response_costs_the_books_arithmetic(client, relay) -> None:
    """A response comes back whole, and its usage at the price of o3 is what it costs."""
    raw = client.responses.with_raw_response.create(model="o3", input=ASKED)
    answer = raw.parse()
    Response.model_validate_json(raw.content, strict=True)
    assert "completed" == answer.status
    assert "simulated" in answer.output_text
    usage = answer.usage
    assert 0 < usage.output_tokens_details.reasoning_tokens < usage.output_tokens
    nanos = usage.input_tokens * 2_100 + usage.output_tokens * 8_400
    assert nanos == round(float(raw.headers["x-merino-cost"]) * 1e9)
    call = _call(relay, raw)
    assert "responses" == call["endpoint"]
    assert "reported" == call["usage_source"]
    assert usage.output_tokens == call["usage"]["output_tokens"]


def test_streamed_response(client, relay) -> None:
    """The package's accumulator takes the stream, and its parts are those of the last object."""
    with client.responses.stream(
        model="o3", input=ASKED, reasoning={"effort": "low", "summary": "auto"}
    ) as stream:
        events = list(stream)
        answer = stream.get_final_response()
    assert "response.created" == events[0].type
    assert "response.completed" == events[-1].type
    text = "".join(each.delta for each in events if each.type == "response.output_text.delta")
    assert answer.output_text == text
    assert ["reasoning", "message"] == [each.type for each in answer.output]
    assert list(range(len(events))) == [each.sequence_number for each in events]
    with relay.http() as http:
        call = http.get(f"/v1/calls/{stream._response.headers['x-request-id']}").json()
    assert answer.usage.output_tokens == call["usage"]["output_tokens"]
    assert "settled" == call["resolution"]
    assert call["ttft_ms"] > 0


def test_tools_over_two_turns(client) -> None:
    """A function call comes back, and its output is answered with text."""
    turn = [{"role": "user", "content": "Weather in Oslo?"}]
    first = client.responses.create(model="o3-mini", input=turn, tools=TOOLS, store=False)
    (call,) = [each for each in first.output if each.type == "function_call"]
    assert "look_up" == call.name
    turn += [each.model_dump(exclude_none=True) for each in first.output]
    turn.append({"type": "function_call_output", "call_id": call.call_id, "output": "Rain."})
    second = client.responses.create(model="o3-mini", input=turn, tools=TOOLS, store=False)
    assert second.output_text


def test_a_limit_makes_it_incomplete(client, relay) -> None:
    """An answer that its limit cut says so, and is paid for."""
    raw = client.responses.with_raw_response.create(model="o3", input=ASKED, max_output_tokens=16)
    answer = raw.parse()
    assert "incomplete" == answer.status
    assert "max_output_tokens" == answer.incomplete_details.reason
    call = _call(relay, raw)
    assert "max_output_tokens" == call["finish_reason"]
    assert 16 == call["usage"]["output_tokens"]
