"""Code written for the `openai` package works by changing base URL and key."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

CHAT: Any = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture
def client(relay):
    with openai.OpenAI(base_url=f"{relay.url}/v1", api_key=relay.key, max_retries=0) as client:
        yield client


def test_plain_call(client) -> None:
    """A chat completion comes back whole, with usage."""
    answer = client.chat.completions.create(model="o3", messages=CHAT)
    assert answer.choices[0].message.content
    usage = answer.usage
    assert usage.prompt_tokens + usage.completion_tokens == usage.total_tokens
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens


def test_headers_tell_cost_and_timing(client, relay) -> None:
    """Every JSON answer says what it cost, where it went and where its time went."""
    raw = client.chat.completions.with_raw_response.create(model="o3-mini", messages=CHAT)
    headers = raw.headers
    assert headers["x-request-id"].startswith("req_")
    assert float(headers["x-merino-cost"]) > 0
    assert "true" == headers["x-merino-simulated"]
    assert headers["x-merino-deployment"]
    assert "relay;dur=" in headers["server-timing"]
    assert "queue=" in headers["x-merino-overhead-ms"]
    with relay.http() as http:
        call = http.get(f"/v1/calls/{headers['x-request-id']}").json()
    assert headers["x-merino-cost"] == call["cost"]
    usage = raw.parse().usage
    assert usage.prompt_tokens == call["usage"]["input_tokens"]
    assert usage.completion_tokens == call["usage"]["output_tokens"]


def test_cost_is_the_books_arithmetic(client) -> None:
    """The cost header equals tokens times the guide's prices for o3: 2.10 in, 8.40 out."""
    raw = client.chat.completions.with_raw_response.create(model="o3", messages=CHAT)
    usage = raw.parse().usage
    micros = usage.prompt_tokens * 2_100 + usage.completion_tokens * 8_400
    assert micros == round(float(raw.headers["x-merino-cost"]) * 1e9)


def test_stream_without_usage(client) -> None:
    """A caller who did not ask for usage sees no usage chunk, and every chunk has a choice."""
    chunks = list(client.chat.completions.create(model="o3", messages=CHAT, stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert "stop" == chunks[-1].choices[0].finish_reason
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_stream_with_usage(client) -> None:
    """A caller who asked for usage gets it in the last chunk, which has no choices."""
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model="o3", messages=CHAT, stream=True, stream_options=options
        )
    )
    assert [] == chunks[-1].choices
    assert chunks[-1].usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_stream_ends_with_its_cost(relay) -> None:
    """A stream's cost is a comment directly before [DONE], and can be read later."""
    body = {"model": "o3", "messages": CHAT, "stream": True}
    with relay.http() as http:
        answer = http.post("/v1/chat/completions", json=body)
        *_, cost, last = answer.text.rstrip("\n").split("\n")
        assert "data: [DONE]" == last
        assert cost.startswith(": x-merino-cost: 0.")
        call = http.get(f"/v1/calls/{answer.headers['x-request-id']}").json()
    assert cost == f": x-merino-cost: {call['cost']}"
    assert "settled" == call["resolution"]
    assert call["ttft_ms"] > 0


def test_async_client_in_parallel(relay) -> None:
    """The async client runs plain and streamed calls side by side."""

    async def scenario() -> None:
        async with openai.AsyncOpenAI(base_url=f"{relay.url}/v1", api_key=relay.key) as client:

            async def streamed() -> str:
                stream = await client.chat.completions.create(
                    model="o4-mini", messages=CHAT, stream=True
                )
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            async def plain() -> str | None:
                answer = await client.chat.completions.create(model="o4-mini", messages=CHAT)
                return answer.choices[0].message.content

            answers = await asyncio.gather(
                *(streamed() for _ in range(8)), *(plain() for _ in range(8))
            )
            assert 1 == len(set(answers))

    asyncio.run(scenario())


def test_tools(client) -> None:
    """Tool definitions reach the model and tool calls come back."""
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    answer = client.chat.completions.create(
        model="o3", messages=CHAT, tools=[tool], tool_choice="required"
    )
    call = answer.choices[0].message.tool_calls[0]
    assert "get_weather" == call.function.name
    assert "city" in json.loads(call.function.arguments)
    assert "tool_calls" == answer.choices[0].finish_reason


def test_json_schema(client) -> None:
    """A JSON schema passes through and the answer satisfies it."""
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}, "score": {"type": "integer"}},
        "required": ["answer", "score"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="o4",
        messages=CHAT,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "verdict", "schema": schema, "strict": True},
        },
    )
    parsed = json.loads(answer.choices[0].message.content)
    assert {"answer", "score"} == set(parsed)
    assert isinstance(parsed["score"], int)


def test_image_part(client) -> None:
    """An image part passes through and its bytes are not taken for text tokens."""
    parts = [
        {"type": "text", "text": "What is this?"},
        {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 20_000},
        },
    ]
    answer = client.chat.completions.create(
        model="o4", messages=[{"role": "user", "content": parts}], max_completion_tokens=2000
    )
    assert 0 < answer.usage.prompt_tokens < 5_000


def test_embeddings(start_relay) -> None:
    """Embeddings come back in the package's default base64 and are billed for their input."""
    relay = start_relay(
        """
[[deployments]]
name = "embed"
provider = "simulator"
upstream_model = "text-embedding-3-small"
price = { input = 0.02 }
"""
    )
    with openai.OpenAI(base_url=f"{relay.url}/v1", api_key=relay.key) as client:
        raw = client.embeddings.with_raw_response.create(model="embed", input=["a", "b"])
    answer = raw.parse()
    assert 2 == len(answer.data)
    assert all(isinstance(item.embedding[0], float) for item in answer.data)
    cost_nanos = answer.usage.prompt_tokens * 20
    assert f"{cost_nanos / 1e9:.9f}".rstrip("0") == raw.headers["x-merino-cost"].rstrip("0")


def test_models(client) -> None:
    """The models a key may call are listed, and each can be fetched, slashes and all."""
    names = [model.id for model in client.models.list()]
    assert {"o3", "o3-mini", "o4", "o4-mini", "sim/o3"} <= set(names)
    assert "sim/o3" == client.models.retrieve("sim/o3").id


@pytest.mark.parametrize("path", ["sim/o3", "sim%2Fo3", "sim%2fo3"])
def test_model_ids_may_be_percent_encoded(relay, path) -> None:
    """A model id with a slash works in any spelling."""
    with relay.http() as http:
        assert "sim/o3" == http.get(f"/v1/models/{path}").json()["id"]


def test_max_tokens_is_renamed_for_reasoning_models(client) -> None:
    """`max_tokens`, which o-series models refuse, is renamed and the answer says so."""
    raw = client.chat.completions.with_raw_response.create(
        model="o3", messages=CHAT, max_tokens=2000
    )
    assert "max_tokens->max_completion_tokens" in raw.headers["x-merino-adjusted"]
    assert raw.parse().choices[0].message.content


def test_unknown_model_is_not_found(client) -> None:
    """An unknown alias is OpenAI's 404, naming the field."""
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="gpt-9", messages=CHAT)
    assert "model_not_found" == raised.value.code
    assert "model" == raised.value.param


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("sk-proj-abcdef", "looks like an OpenAI key; this relay's keys start with mk-"),
        ("mk-" + "a" * 49, "no key of this relay matches"),
        ("mka-abc", "admin key"),
        ("nonsense", "keys start with mk-"),
    ],
)
def test_wrong_key_gets_a_hint(relay, key, hint) -> None:
    """A key of the wrong kind is told what kind it is and what is wanted."""
    with openai.OpenAI(base_url=f"{relay.url}/v1", api_key=key, max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as raised:
            client.chat.completions.create(model="o3", messages=CHAT)
    assert hint in raised.value.message


def test_idempotency_key_is_billed_once(relay) -> None:
    """A repeat with the same key gets the first answer and no second bill."""
    body = {"model": "o3", "messages": CHAT}
    headers = {"idempotency-key": "once-1"}
    with relay.http() as http:
        before = relay.balance_nanos()
        first = http.post("/v1/chat/completions", json=body, headers=headers)
        after = relay.balance_nanos()
        second = http.post("/v1/chat/completions", json=body, headers=headers)
        assert first.content == second.content
        assert "true" == second.headers["x-merino-replayed"]
        assert before - after == round(float(second.headers["x-merino-cost"]) * 10**9)
        assert first.headers["x-merino-cost"] == second.headers["x-merino-cost"]
        assert first.headers["x-request-id"] == second.headers["x-request-id"]
        assert after == relay.balance_nanos() < before
        other = http.post("/v1/chat/completions", json=body | {"model": "o4"}, headers=headers)
        assert 422 == other.status_code
        assert "idempotency_key_reused" == other.json()["error"]["code"]


def test_idempotent_stream_is_replayed(relay) -> None:
    """A repeated stream brings the same events."""
    body = {"model": "o3", "messages": CHAT, "stream": True}
    headers = {"idempotency-key": "once-2"}
    with relay.http() as http:
        first = http.post("/v1/chat/completions", json=body, headers=headers).text
        second = http.post("/v1/chat/completions", json=body, headers=headers).text
    first, second = (
        [line for line in text.splitlines() if line.startswith("data:")] for text in (first, second)
    )
    assert "data: [DONE]" == first[-1]
    assert first == second


@pytest.mark.parametrize("stream", [False, True])
def test_a_repeat_tells_what_the_first_call_cost(start_relay, stream) -> None:
    """At once, when the database has it, and after a restart: the same, and charged once."""
    relay = start_relay()
    full = relay.balance_nanos()
    costs: list[Any] = []
    for times in (2, 1):
        with openai.OpenAI(base_url=f"{relay.url}/v1", api_key=relay.key) as client:
            for _ in range(times):
                raw = client.chat.completions.with_raw_response.create(
                    model="o3", messages=CHAT, stream=stream, extra_headers={"idempotency-key": "1"}
                )
                costs.append(raw.headers.get("x-merino-cost"))
                assert raw.parse()
            relay.balance_nanos()  # has everything applied
            raw = client.chat.completions.with_raw_response.create(
                model="o3", messages=CHAT, stream=stream, extra_headers={"idempotency-key": "1"}
            )
            assert "true" == raw.headers["x-merino-replayed"]
            costs.append(raw.headers["x-merino-cost"])
        charged = full - relay.balance_nanos()
        assert 0 == relay.stop()
        if times == 2:
            relay.start()
    first, *repeats = costs
    assert (None if stream else repeats[0]) == first
    assert [charged] * 4 == [round(float(each) * 10**9) for each in repeats]


def test_max_cost_clamps(client) -> None:
    """`x-merino-max-cost` lowers the output limit of a call that could cost more."""
    raw = client.chat.completions.with_raw_response.create(
        model="o3", messages=CHAT, extra_headers={"x-merino-max-cost": "0.005"}
    )
    assert "max_completion_tokens=" in raw.headers["x-merino-adjusted"]
    assert float(raw.headers["x-merino-cost"]) <= 0.005


def test_max_cost_refuses_what_cannot_fit(client) -> None:
    """A maximum below the smallest answer is refused as the caller's own mistake."""
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(
            model="o3", messages=CHAT, extra_headers={"x-merino-max-cost": "0.000001"}
        )
    assert "max_cost_exceeded" == raised.value.code


def test_estimate_prices_without_calling(relay) -> None:
    """An estimate names input tokens and worst case and costs nothing."""
    with relay.http() as http:
        before = relay.balance_nanos()
        body = {"model": "o3", "messages": CHAT, "max_completion_tokens": 1000}
        estimate = http.post("/v1/estimate", json=body).json()
        assert before == relay.balance_nanos()
    assert estimate["input_tokens"] > 0
    assert 1000 == estimate["output_tokens_max"]
    assert estimate["worst_case_nanos"] == estimate["input_tokens"] * 2_100 + 1000 * 8_400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/completions"),
        ("GET", "/v1/assistants"),
        ("POST", "/v1/audio/speech"),
        ("GET", "/v1"),
        ("GET", "/v1/../admin"),
        ("GET", "/nowhere"),
    ],
)
def test_unknown_paths_are_refused(relay, method, path) -> None:
    """Nothing passes unmetered: an unknown path is a 404 in OpenAI's envelope."""
    with relay.http() as http:
        answer = http.request(method, path)
    assert 404 == answer.status_code
    if path.startswith("/v1"):
        assert {"message", "type", "param", "code"} == set(answer.json()["error"])


BAD_BODIES = [
    (b"", None),
    (b"{", None),
    (b"[]", None),
    (b'{"model": "o3"}', "messages"),
    (b'{"messages": [{}]}', "model"),
    (b'{"model": 3, "messages": [{}]}', "model"),
    (b'{"model": "o3", "messages": "hi"}', "messages"),
    (b'{"model": "o3", "messages": []}', "messages"),
    (b'{"model": "o3", "messages": [{}], "stream": "yes"}', "stream"),
    (b'{"model": "o3", "messages": [{}], "n": 0}', "n"),
    (b'{"model": "o3", "messages": [{}], "max_completion_tokens": -1}', "max_completion_tokens"),
    (b'{"model": "o3", "messages": [{}], "temperature": NaN}', None),
    (b'{"model": "o3", "model": "o4", "messages": [{}]}', "model"),
    (b'{"model": "o3", "messages": [{"content": "\xff"}]}', None),
    (b'{"model": "o3", "messages": ' + b"[" * 5000 + b"]" * 5000 + b"}", None),
    (b'{"model": "o3", "messages": [{}], "stream_options": 3}', "stream_options"),
]


@pytest.mark.parametrize(("body", "param"), BAD_BODIES)
def test_bad_bodies_name_the_field(relay, body, param) -> None:
    """A body that cannot be read is a 400 that names the field, never a 500."""
    with relay.http() as http:
        answer = http.post(
            "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
        )
    assert 400 == answer.status_code
    error = answer.json()["error"]
    assert "invalid_request_error" == error["type"]
    assert param is None or param == error["param"]
    assert error["message"]


def test_long_bodies_keep_the_connection(relay) -> None:
    """A body of many reads is no head: its connection goes on with the next call."""
    with relay.http() as http:
        text = "long " * 60_000
        for _ in range(3):
            body = {
                "model": "o3",
                "messages": [{"role": "user", "content": text}],
                "max_completion_tokens": 16,
            }
            answer = http.post("/v1/chat/completions", json=body)
            assert 200 == answer.status_code
            assert "close" != answer.headers.get("connection")
        (connection,) = http._transport._pool.connections
        assert "Request Count: 3" in repr(connection)
