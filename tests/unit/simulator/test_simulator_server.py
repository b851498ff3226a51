from __future__ import annotations

import base64
import json
import socket
import struct
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import FunctionToolParam
from openai.types.responses.response_input_param import FunctionCallOutput

from merino.simulator.server import SimulatorServer, simulator_in_thread

ASK: Any = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatorServer]:
    with simulator_in_thread(seed=7) as running:
        yield running


@pytest.fixture
def client(server: SimulatorServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as opened:
        yield opened


def exchange(server: SimulatorServer, model: str, **body: object) -> tuple[bytes, bool]:
    """Everything one raw request gets back, and whether the connection was reset."""
    data = json.dumps({"model": model, "messages": ASK, **body}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        b"content-length: %d\r\n\r\n" % len(data)
    )
    received = b""
    with socket.create_connection((server.host, server.port), timeout=5) as peer:
        peer.sendall(head + data)
        try:
            while piece := peer.recv(65536):
                received += piece
        except ConnectionResetError:
            return received, True
    return received, False


def test_the_real_client_reads_a_plain_answer(client: openai.OpenAI) -> None:
    """A chat completion has text that says it is simulated, and consistent usage."""
    answer = client.chat.completions.create(
        model="o3!reasoning=100,output=20,cached=3", messages=ASK
    )
    assert answer.choices[0].message.content is not None
    assert answer.choices[0].message.content.startswith("This is a simulated answer from o3")
    assert "stop" == answer.choices[0].finish_reason
    assert answer.usage is not None
    assert 120 == answer.usage.completion_tokens
    assert 100 == answer.usage.completion_tokens_details.reasoning_tokens
    assert 3 == answer.usage.prompt_tokens_details.cached_tokens
    assert answer.usage.prompt_tokens + 120 == answer.usage.total_tokens


def test_the_real_client_reads_a_stream(client: openai.OpenAI) -> None:
    """A stream carries the same text as the plain answer, and usage in a chunk without choices."""
    plain = client.chat.completions.create(model="o3!output=30", messages=ASK)
    chunks = list(
        client.chat.completions.create(
            model="o3!output=30",
            messages=ASK,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert plain.choices[0].message.content == text
    assert [False] * (len(chunks) - 1) + [True] == [c.usage is not None for c in chunks]
    assert [] == chunks[-1].choices
    assert plain.usage == chunks[-1].usage
    assert "stop" == chunks[-2].choices[0].finish_reason


def test_tools_are_called(client: openai.OpenAI) -> None:
    """With tools, the first is called with arguments that fit its schema; with its result, text."""
    tools: Any = [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                    "required": ["city"],
                },
            },
        }
    ]
    answer = client.chat.completions.create(model="o4", messages=ASK, tools=tools)
    call: Any = answer.choices[0].message.tool_calls[0]
    assert "tool_calls" == answer.choices[0].finish_reason
    assert "weather" == call.function.name
    assert {"city": "simulated", "days": 0} == json.loads(call.function.arguments)
    result: Any = [
        *ASK,
        answer.choices[0].message.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    final = client.chat.completions.create(model="o4", messages=result, tools=tools)
    assert "stop" == final.choices[0].finish_reason
    with client.chat.completions.stream(
        model="o4", messages=ASK, tools=tools, tool_choice="required"
    ) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert call.function.arguments == streamed.function.arguments


def test_json_schema_is_satisfied(client: openai.OpenAI) -> None:
    """A JSON schema gets JSON of that shape."""
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["a", "b"]},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 2},
            "score": {"type": "number", "exclusiveMinimum": 1},
        },
        "required": ["kind", "tags", "score"],
        "$defs": {"tag": {"type": "string", "minLength": 12}},
    }
    answer = client.chat.completions.create(
        model="gpt-4o",
        messages=ASK,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    value = json.loads(answer.choices[0].message.content or "")
    assert {"kind": "a", "tags": ["simulatedsim"] * 2, "score": 1.5} == value


def test_several_choices(client: openai.OpenAI) -> None:
    """`n` choices come back, in a stream too, and each is counted."""
    model = "gpt-4o!output=5"
    answer = client.chat.completions.create(model=model, messages=ASK, n=3)
    assert [0, 1, 2] == [choice.index for choice in answer.choices]
    assert 15 == answer.usage.completion_tokens
    chunks = list(client.chat.completions.create(model=model, messages=ASK, n=3, stream=True))
    ends = [c.choices[0].index for c in chunks if c.choices[0].finish_reason]
    assert [0, 1, 2] == ends


def test_embeddings(client: openai.OpenAI) -> None:
    """Floats and base64 are the same unit vector; `dimensions` sets its length."""
    name = "text-embedding-3-small"
    packed = client.embeddings.create(model=name, input=["a", "b"], dimensions=8)
    plain = client.embeddings.create(model=name, input="a", dimensions=8, encoding_format="float")
    assert 2 == len(packed.data)
    assert 8 == len(plain.data[0].embedding)
    assert pytest.approx(packed.data[0].embedding) == plain.data[0].embedding
    assert sum(x * x for x in plain.data[0].embedding) == pytest.approx(1)
    assert 1536 == len(client.embeddings.create(model=name, input="a").data[0].embedding)
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=name, input=[])
    assert "input" == caught.value.param


def test_base64_is_little_endian_floats(server: SimulatorServer) -> None:
    """The base64 form is what NumPy's `frombuffer(..., float32)` expects."""
    data = json.dumps(
        {"model": "text-embedding-x", "input": "a", "dimensions": 2, "encoding_format": "base64"}
    ).encode()
    with urllib.request.urlopen(f"{server.base_url}/embeddings", data, timeout=5) as reply:
        value = json.load(reply)["data"][0]["embedding"]
    x, y = struct.unpack("<2f", base64.b64decode(value))
    assert pytest.approx(1) == x * x + y * y


def test_models_are_listed(client: openai.OpenAI) -> None:
    """The usual listing names the reasoning models."""
    names = [model.id for model in client.models.list()]
    assert ["o3", "o3-mini", "o4", "o4-mini"] == names[:4]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
    ],
)
def test_statuses(client: openai.OpenAI, status: int, error: type[openai.APIStatusError]) -> None:
    """A chosen status arrives as the client's own error, with Retry-After in both spellings."""
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=f"o3!status={status},retry_after=1500ms", messages=ASK)
    assert status == caught.value.status_code
    assert "2" == caught.value.response.headers["retry-after"]
    assert "1500" == caught.value.response.headers["retry-after-ms"]


def test_strict_models_refuse_what_o_models_refuse(client: openai.OpenAI) -> None:
    """`!strict` speaks the vendor's refusal of parameters that reasoning models lack."""
    refused: list[dict[str, Any]] = [{"temperature": 0.2}, {"max_tokens": 5}]
    for given in refused:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="o3!strict", messages=ASK, **given)
        assert "unsupported_parameter" == caught.value.code
        assert [caught.value.param] == list(given)
    client.chat.completions.create(model="o3!strict", messages=ASK, temperature=1)
    client.chat.completions.create(model="gpt-4o!strict", messages=ASK, temperature=0.2)


def test_error_inside_a_stream(client: openai.OpenAI) -> None:
    """An error event inside a 200 stream reaches the caller, before or after content."""
    for option, expected in (("error_in_stream", 0), ("error_after=2", 2)):
        stream = client.chat.completions.create(model=f"o3!{option}", messages=ASK, stream=True)
        texts = (chunk.choices[0].delta.content for chunk in stream)
        seen: list[str] = []
        with pytest.raises(openai.APIError, match="Simulated failure"):
            seen.extend(text for text in texts if text)
        assert len(seen) == expected


def test_cut_resets_the_connection(server: SimulatorServer) -> None:
    """What came before a cut arrives; then the connection is reset."""
    received, was_reset = exchange(server, "o3!cut_after=3", stream=True)
    assert was_reset
    assert 3 == received.count(b'"content":') - 1
    received, was_reset = exchange(server, "o3!cut_after=0")
    assert was_reset
    assert received.startswith(b"HTTP/1.1 200 ")
    assert (b"", True) == exchange(server, "o3!cut")


def test_no_done_ends_cleanly(server: SimulatorServer) -> None:
    """`no_done` leaves out the last event only."""
    received, was_reset = exchange(server, "o3!no_done", stream=True)
    assert not was_reset
    assert received.endswith(b"\r\n0\r\n\r\n")
    assert b"[DONE]" not in received


def test_bad_stream_is_bad_for_the_real_client(client: openai.OpenAI) -> None:
    """`malformed` breaks the client's JSON decoding in mid-stream."""
    with pytest.raises(json.JSONDecodeError):
        list(client.chat.completions.create(model="o3!malformed", messages=ASK, stream=True))


def test_a_leaving_client_is_counted(server: SimulatorServer) -> None:
    """A client that leaves a hanging stream is counted as cancelled with the tokens made so far."""
    before = stats(server)
    body = json.dumps(
        {"model": "o3!input=11,reasoning=5,hang_after=2", "stream": True, "messages": ASK}
    )
    with socket.create_connection((server.host, server.port), timeout=5) as peer:
        peer.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body.encode())
        )
        received = b""
        while received.count(b"chat.completion.chunk") < 3:
            received += peer.recv(65536)
        assert before["active"] + 1 == stats(server)["active"]
    after = stats(server)
    while after["active"] != before["active"]:
        after = stats(server)
    assert before["cancelled"] + 1 == after["cancelled"]
    assert before["prompt_tokens"] + 11 == after["prompt_tokens"]
    assert before["completion_tokens"] + 7 == after["completion_tokens"]


def stats(server: SimulatorServer) -> dict[str, int]:
    url = server.base_url.replace("/v1", "/__stats")
    with urllib.request.urlopen(url, timeout=5) as reply:
        return json.load(reply)


def test_pipelined_requests_are_answered_in_order(server: SimulatorServer) -> None:
    """Requests on one connection are answered one after the other."""
    with socket.create_connection((server.host, server.port), timeout=5) as peer:
        peer.sendall(
            b"GET /v1/models HTTP/1.1\r\n\r\nGET /nowhere HTTP/1.1\r\nconnection: close\r\n\r\n"
        )
        received = b""
        while piece := peer.recv(65536):
            received += piece
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"HTTP/1.1 404 Not Found\r\n" in received


def test_a_credential_may_be_demanded() -> None:
    """With a credential set, only requests that carry it are answered."""
    with simulator_in_thread(credential="sk-right") as server:
        for key, is_right in (("sk-wrong", False), ("sk-right", True)):
            with openai.OpenAI(base_url=server.base_url, api_key=key, max_retries=0) as client:
                if is_right:
                    client.chat.completions.create(model="o3", messages=ASK)
                else:
                    with pytest.raises(openai.AuthenticationError):
                        client.chat.completions.create(model="o3", messages=ASK)
        assert b"Bearer sk-right" in server.last_head


def test_a_result_needs_its_call(client: openai.OpenAI) -> None:
    """A tool's result whose call is neither in the input nor in what it goes on from is refused."""
    tools: list[FunctionToolParam] = [
        {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
    ]
    made = client.responses.create(model="o3", input="Look.", tools=tools, tool_choice="required")
    call_id = made.output[-1].to_dict()["call_id"]
    result: FunctionCallOutput = {
        "type": "function_call_output", "call_id": str(call_id), "output": "blue"
    }  # fmt: skip
    went_on = client.responses.create(model="o3", input=[result], previous_response_id=made.id)
    assert "completed" == went_on.status
    with pytest.raises(openai.BadRequestError, match=f"call_id {call_id}") as refused:
        client.responses.create(model="o3", input=[result])
    assert "input" == refused.value.param
