"""The simulated provider inside the process, as the gateway uses it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from merino.domain.deployment import Deployment
from merino.domain.errors import Misconfigured, UpstreamBroken
from merino.gateway.ports import Provider, UpstreamRequest
from merino.simulator.options import OPTION_NAMES
from merino.simulator.provider import SimulatedResponse, SimulatorProvider

DEPLOYMENT = Deployment("sim", "simulator", "o3")
ASK = [{"role": "user", "content": "Why is the sky blue?"}]
FAST = 10_000.0
ALL = 100_000_000

pytestmark = pytest.mark.anyio


def simulator(**settings: Any) -> SimulatorProvider:
    return SimulatorProvider(
        **{"seed": 1, "speed": FAST, "now_s": lambda: 1_700_000_000, **settings}
    )


def request(model: str, endpoint: str = "chat/completions", **body: Any) -> UpstreamRequest:
    data = json.dumps({"model": model, "messages": ASK, **body}).encode()
    return UpstreamRequest("call", endpoint, data, DEPLOYMENT)


async def ask(
    provider: SimulatorProvider, model: str, **body: Any
) -> tuple[int, SimulatedResponse, bytes]:
    response = await provider.send(request(model, **body))
    try:
        return response.status, response, await response.read(ALL)
    finally:
        response.close()


async def answer(model: str, **body: Any) -> dict[str, Any]:
    return json.loads((await ask(simulator(), model, **body))[2])


def events(data: bytes) -> list[Any]:
    """The JSON of each event of a good stream, but for `[DONE]`."""
    parts = [event.removeprefix(b"data: ") for event in data.split(b"\n\n") if event]
    return [json.loads(part) for part in parts if part != b"[DONE]"]


def content_chunks(data: bytes) -> list[str]:
    choices = [choice for event in events(data) for choice in event["choices"]]
    return [choice["delta"]["content"] for choice in choices if choice["delta"].get("content")]


async def test_it_satisfies_the_port() -> None:
    """The provider and its response fit the gateway's Protocols."""
    provider: Provider = simulator()
    response = await provider.send(request("o3"))
    assert 200 == response.status
    assert b"application/json" == response.header(b"content-type")
    assert response.header(b"nowhere") is None
    response.close()


async def test_same_seed_same_bytes() -> None:
    """Seed and order of requests decide every byte and every failure."""
    models = ["o3", "o4-mini!fail_rate=0.5", "o4-mini!fail_rate=0.5", "gpt-4o!jitter=1,ttft=1s"] * 5

    async def run(seed: int) -> list[tuple[int, bytes]]:
        provider = simulator(seed=seed)
        answers = [await ask(provider, model) for model in models]
        return [(status, data) for status, _, data in answers]

    first = await run(5)
    assert first == await run(5)
    assert [status for status, _ in first] != [status for status, _ in await run(6)]
    assert {200, 503} == {status for status, _ in first}


async def test_a_budget_spent_on_thinking_leaves_nothing_to_say() -> None:
    """A reasoning model whose limit is used up by thinking answers nothing, for `length`."""
    limited = await answer("o3!reasoning=100", max_completion_tokens=100)
    assert "" == limited["choices"][0]["message"]["content"]
    assert "length" == limited["choices"][0]["finish_reason"]
    assert 100 == limited["usage"]["completion_tokens"]
    assert 100 == limited["usage"]["completion_tokens_details"]["reasoning_tokens"]
    streamed = (await ask(simulator(), "o3!reasoning=100", max_completion_tokens=100, stream=True))[
        2
    ]
    assert [] == content_chunks(streamed)
    partly = await answer("o3!reasoning=100", max_completion_tokens=104)
    assert "This is a simulated" == partly["choices"][0]["message"]["content"]
    above = await answer("o3!reasoning=100,output=50,ignore_limit", max_completion_tokens=20)
    assert 150 == above["usage"]["completion_tokens"]


async def test_effort_scales_thinking() -> None:
    """More reasoning effort, more hidden tokens; a plain chat model has none."""
    thought = [
        (await answer("o4-mini", reasoning_effort=effort))["usage"]["completion_tokens_details"][
            "reasoning_tokens"
        ]
        for effort in ("none", "low", "medium", "high")
    ]
    assert thought == [0, thought[2] // 4, thought[2], thought[2] * 4]
    assert thought[2] > 0
    plain = await answer("gpt-4o")
    assert 0 == plain["usage"]["completion_tokens_details"]["reasoning_tokens"]


async def test_images_cost_input_tokens() -> None:
    """An image part adds tokens by its detail."""
    tokens: list[int] = []
    for detail in ("low", "high"):
        image = {"type": "image_url", "image_url": {"url": "data:,", "detail": detail}}
        content = [{"type": "text", "text": "four"}, image]
        reply = await answer("o3", messages=[{"role": "user", "content": content}])
        tokens.append(reply["usage"]["prompt_tokens"])
    assert [90, 770] == tokens


async def test_reported_counts_can_be_chosen() -> None:
    """`input` and `cached` are reported as given, also when they contradict each other."""
    usage = (await answer("o3!input=10,cached=20"))["usage"]
    assert 10 == usage["prompt_tokens"]
    assert 20 == usage["prompt_tokens_details"]["cached_tokens"]


async def test_the_number_of_chunks_can_be_chosen() -> None:
    """`chunks` is exact, and the text is the same however it is cut."""
    texts: set[str] = set()
    for chunks in (1, 7, 40):
        data = (await ask(simulator(), f"o3!output=40,chunks={chunks}", stream=True))[2]
        assert chunks == len(content_chunks(data))
        texts.add("".join(content_chunks(data)))
    assert 1 == len(texts)
    data = (await ask(simulator(), "o3!chunks=300", stream=True))[2]
    assert 300 == len(content_chunks(data))


async def test_usage_comes_only_when_asked_for() -> None:
    """`include_usage` adds `usage: null` to chunks and a chunk without choices; else nothing."""
    data = (await ask(simulator(), "o3", stream=True))[2]
    assert all("usage" not in event for event in events(data))
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = events((await ask(simulator(), "o3", **asked))[2])
    assert all(chunk["usage"] is None for chunk in chunks)
    assert [] == last["choices"]
    assert all(
        event["usage"] is None
        for event in events((await ask(simulator(), "o3!no_usage", **asked))[2])
    )
    *_, last = events((await ask(simulator(), "o3!usage_in_last_chunk", **asked))[2])
    assert "stop" == last["choices"][0]["finish_reason"]
    assert last["usage"]["completion_tokens"] > 0
    assert "usage" not in await answer("o3!no_usage")


async def test_failing_at_first_and_then_recovering() -> None:
    """`fail_first` fails the first requests of that name, with the status asked for."""
    provider = simulator()
    model = "o3!fail_first=2,status=429,retry_after=3"
    replies = [await ask(provider, model) for _ in range(3)]
    assert [429, 429, 200] == [status for status, _, _ in replies]
    assert b"3" == replies[0][1].header(b"retry-after")
    assert "rate_limit_exceeded" == json.loads(replies[0][2])["error"]["code"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("o3!foo", "Unknown simulator option 'foo'"),
        ("o3!tps", "needs a value: tps=..."),
        ("o3!ttft=soon", "takes a duration"),
        ("o3!ttft=nan", "takes a duration"),
        ("o3!output=-1", "takes a whole number"),
        ("o3!output=9999999", "takes a whole number"),
        ("o3!no_done=1", "takes no value"),
        ("o3!fail=500,status=501", "given twice"),
        ("o3!", "Unknown simulator option ''"),
    ],
)
async def test_wrong_options_are_named(model: str, said: str) -> None:
    """A suffix outside the grammar is a 400 that names the option."""
    status, _, data = await ask(simulator(), model)
    assert 400 == status
    error = json.loads(data)["error"]
    assert said in error["message"]
    assert ("model", "unknown_simulator_option") == (error["param"], error["code"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"n": 0}, "n"),
        ({"n": "two"}, "n"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning_effort": ["low"]}, "reasoning_effort"),
        ({"model": 5}, "model"),
        ({"model": "text-embedding-3-small"}, "model"),
    ],
)
async def test_wrong_requests_are_refused_like_the_vendor_does(
    body: dict[str, Any], param: str
) -> None:
    """A wrong field is a refusal in OpenAI's error body that names it."""
    status, _, data = await ask(simulator(), **{"model": "o3", **body})
    assert status in (400, 404)
    error = json.loads(data)["error"]
    assert {"message", "type", "param", "code"} == set(error)
    assert (param, "invalid_request_error") == (error["param"], error["type"])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model":"o3","x":\xff}'])
async def test_bodies_that_are_no_json_object_are_refused(body: bytes) -> None:
    """Whatever is not a JSON object is a 400."""
    response = await simulator().send(UpstreamRequest("c", "chat/completions", body, DEPLOYMENT))
    assert 400 == response.status
    response.close()


async def test_cuts() -> None:
    """A cut fails before the head, or after the chosen number of chunks."""
    provider = simulator()
    with pytest.raises(UpstreamBroken):
        await provider.send(request("o3!cut"))
    response = await provider.send(request("o3!cut_after=2", stream=True))
    received: list[bytes] = []
    with pytest.raises(UpstreamBroken):
        await response.pipe(received.append)
    response.close()
    assert 2 == len(content_chunks(b"".join(received)))
    with pytest.raises(UpstreamBroken):
        await ask(provider, "o3!cut_after=0")
    assert (0, 3) == (provider.tally.active, provider.tally.cut)


async def test_hanging_ends_when_cancelled() -> None:
    """A hanging answer keeps its caller waiting until it gives up, and is counted as cancelled."""
    provider = simulator()
    sending = asyncio.ensure_future(provider.send(request("o3!hang")))
    await asyncio.sleep(0)
    assert not sending.done()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    response = await provider.send(request("o3!hang_after=1", stream=True))
    received: list[bytes] = []
    piping = asyncio.ensure_future(response.pipe(received.append))
    await asyncio.sleep(0)
    assert 1 == len(content_chunks(b"".join(received)))
    assert not piping.done()
    response.close()
    with pytest.raises(UpstreamBroken):
        await piping
    assert (0, 2) == (provider.tally.active, provider.tally.cancelled)


async def test_errors_inside_a_stream() -> None:
    """An error event comes in a 200 stream, before content or after chosen chunks, without an end
    mark; a plain call gets status 500."""
    for option, chunks in (("error_in_stream", 0), ("error_after=3", 3)):
        status, _, data = await ask(simulator(), f"o3!{option}", stream=True)
        assert 200 == status
        *good, last = events(data)
        assert "server_error" == last["error"]["type"]
        assert chunks == sum(bool(event["choices"][0]["delta"]["content"]) for event in good)
        assert b"[DONE]" not in data
        assert 500 == (await ask(simulator(), f"o3!{option}"))[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_bytes_that_are_not_what_they_should_be(stream: bool) -> None:
    """Garbage, broken JSON and wrong content types come with status 200."""
    status, _, data = await ask(simulator(), "o3!garbage", stream=stream)
    assert (200, True) == (status, data.startswith(b"<html>"))
    _, response, _ = await ask(simulator(), "o3!wrong_content_type", stream=stream)
    assert b"text/html; charset=utf-8" == response.header(b"content-type")
    data = (await ask(simulator(), "o3!malformed", stream=stream))[2]
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|Invalid control"):
        _ = events(data) if stream else json.loads(data)


async def test_a_huge_line_is_one_event() -> None:
    """`huge_line` adds one event of that many bytes; a plain answer becomes that long."""
    data = (await ask(simulator(), "o3!huge_line=300000", stream=True))[2]
    assert 300_000 == max(len(text) for text in content_chunks(data))
    plain = await answer("o3!huge_line=300000")
    assert 300_000 == len(plain["choices"][0]["message"]["content"])


async def test_a_slow_drip_is_the_same_stream_byte_by_byte() -> None:
    """`slow_drip` changes the pieces, not the bytes."""
    whole = (await ask(simulator(), "o3!chunks=1", stream=True))[2]
    response = await simulator().send(request("o3!chunks=1,slow_drip=0s", stream=True))
    dripped: list[bytes] = []
    await response.pipe(dripped.append)
    response.close()
    assert whole == b"".join(dripped)
    assert {1} == {len(piece) for piece in dripped}


async def test_pausing_stops_the_bytes() -> None:
    """While paused nothing arrives; resuming brings the rest, nothing lost or repeated."""
    provider = simulator()
    whole = (await ask(provider, "o3!tps=100,chunks=9", stream=True))[2]
    response = await provider.send(request("o3!tps=100,chunks=9", stream=True))
    received: list[bytes] = []
    response.pause()
    piping = asyncio.ensure_future(response.pipe(received.append))
    for _ in range(20):
        await asyncio.sleep(0)
    assert [] == received

    def one_at_a_time(piece: bytes) -> None:
        received.append(piece)
        response.pause()
        asyncio.get_running_loop().call_soon(response.resume)

    response.resume()
    piping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await piping
    await response.pipe(one_at_a_time)
    response.close()
    # The two answers differ in their id alone.
    assert whole.replace(b"0001", b"") == b"".join(received).replace(b"0002", b"")
    assert len(received) > 9


async def test_an_error_of_the_reader_comes_back_to_it() -> None:
    """What the sink raises, `pipe` raises, and nothing more is delivered."""
    response = await simulator().send(request("o3!tps=1000", stream=True))
    pieces: list[bytes] = []

    def refuse(piece: bytes) -> None:
        pieces.append(piece)
        if len(pieces) == 2:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        await response.pipe(refuse)
    response.close()
    assert 2 == len(pieces)


async def test_reading_has_a_limit() -> None:
    """A body longer than allowed is an `UpstreamBroken`."""
    response = await simulator().send(request("o3"))
    with pytest.raises(UpstreamBroken, match="larger than 100 bytes"):
        await response.read(100)
    response.close()
    response.close()


async def test_tokens_of_a_cancelled_answer_are_counted_as_far_as_they_were_made() -> None:
    """The tally knows input and hidden tokens of a stream that was closed in the middle."""
    provider = simulator()
    response = await provider.send(request("o3!input=50,reasoning=30,hang_after=4", stream=True))
    piping = asyncio.ensure_future(response.pipe(lambda _: None))
    await asyncio.sleep(0)
    response.close()
    with pytest.raises(UpstreamBroken):
        await piping
    assert (50, 34) == (provider.tally.prompt_tokens, provider.tally.completion_tokens)
    assert 1 == provider.tally.cancelled


async def test_the_tally_agrees_with_reported_usage() -> None:
    """For finished answers, the tally is the sum of what was reported."""
    provider = simulator()
    asked = {"stream": True, "stream_options": {"include_usage": True}, "n": 2}
    plain = json.loads((await ask(provider, "o3", n=2))[2])["usage"]
    streamed = events((await ask(provider, "o3!tps=1000", **asked))[2])[-1]["usage"]
    assert plain == streamed
    assert 2 * plain["prompt_tokens"] == provider.tally.prompt_tokens
    assert 2 * plain["completion_tokens"] == provider.tally.completion_tokens


async def test_time_passes_as_asked() -> None:
    """Thinking and speaking take tokens / tps after ttft, divided by the simulator's speed."""
    provider = simulator(speed=1000)
    began = asyncio.get_running_loop().time()
    await ask(provider, "o3!ttft=2s,tps=10,reasoning=20,output=30")
    # (2 + 50 / 10) s at a thousandfold speed; timers are never early by more than their grain.
    assert asyncio.get_running_loop().time() - began > 0.006


async def test_defaults_apply_to_every_model() -> None:
    """Defaults are options for every model; a suffix goes on top of them."""
    provider = simulator(defaults="output=3,reasoning=4")
    usage = json.loads((await ask(provider, "o3"))[2])["usage"]
    assert 7 == usage["completion_tokens"]
    usage = json.loads((await ask(provider, "o3!output=5"))[2])["usage"]
    assert 9 == usage["completion_tokens"]


EVIL = [None, True, -1, 0.5, "x", [], [[]], {}, {"a": 1}, [None], "o3", "#/", {"$ref": "#"}, 10**30]


def wicked_bodies() -> Iterator[dict[str, Any]]:
    """Good calls with one value of a wrong kind at some place."""
    tool: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {}}}
    schema: dict[str, Any] = {"type": "json_schema", "json_schema": {"schema": {}}}
    fields = ("messages", "n", "stream", "stream_options", "tools", "tool_choice", "max_tokens")
    more = ("response_format", "reasoning_effort", "service_tier", "temperature", "model")
    rules = ("type", "properties", "required", "items", "minItems", "anyOf", "allOf", "$ref")
    bounds = (
        "minimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "format",
        "enum",
    )
    for evil in EVIL:
        for field in fields + more:
            yield {field: evil}
        yield {"messages": [evil]}
        yield {"messages": [{"role": evil, "content": evil}, {"role": "user", "content": [evil]}]}
        yield {"messages": [{"content": [{"type": evil, "text": evil, "image_url": evil}]}]}
        yield {"tools": [evil], "tool_choice": "required"}
        yield {"tools": [{"function": evil}]}
        yield {"tools": [tool], "tool_choice": {"function": {"name": evil}}}
        for rule in rules + bounds:
            for kind in ("object", "array", "string", "number", "integer"):
                schema["json_schema"]["schema"] = {"type": kind, rule: evil}
                yield {"response_format": schema}


async def test_no_request_breaks_the_simulator() -> None:
    """Whatever is in a field, the answer is a whole answer or a refusal."""
    provider = simulator()
    for body in wicked_bodies():
        status, _, data = await ask(provider, **{"model": "o3!strict", **body})
        assert status in (200, 400, 404), body
        assert data
    for wrong in EVIL:
        for body in ({"input": wrong}, {"dimensions": wrong}, {"encoding_format": wrong}):
            fields = {"model": "e", "input": "x", "dimensions": 2, **body}
            sent = UpstreamRequest("c", "embeddings", json.dumps(fields).encode(), DEPLOYMENT)
            response = await provider.send(sent)
            assert response.status in (200, 400), body
            response.close()
    assert 0 == provider.tally.active


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}] * 9},
        {"type": "array", "minItems": 1000, "items": {"$ref": "#"}},
        {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    ],
)
async def test_endless_schemas_end(schema: dict[str, Any]) -> None:
    """A schema that refers to itself is answered or refused, soon."""
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    status, _, _ = await ask(simulator(), "o3", response_format=wanted)
    assert status in (200, 400)


async def test_far_too_deep_a_body_is_refused() -> None:
    """Nesting beyond what can be decoded is a 400."""
    body = b'{"model":"o3","messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    response = await simulator().send(UpstreamRequest("c", "chat/completions", body, DEPLOYMENT))
    assert 400 == response.status
    response.close()


@pytest.mark.parametrize("settings", [{"defaults": "tempo=3"}, {"speed": 0}])
async def test_wrong_settings_are_misconfigurations(settings: dict[str, Any]) -> None:
    """Wrong defaults or speed are refused when the simulator is set up."""
    with pytest.raises(Misconfigured, match="simulator"):
        simulator(**settings)


def test_every_option_is_documented() -> None:
    """The reference names every option of the grammar, and none that does not exist."""
    page = Path(__file__).parents[3] / "docs" / "reference" / "simulator.md"
    options = page.read_text().partition("## Behaviour by name")[2]
    documented = set(re.findall(r"^\| `(\w+)", options, flags=re.MULTILINE))
    assert set(OPTION_NAMES) == documented
