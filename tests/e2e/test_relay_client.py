"""`RelayClient`, the client of one call and one dictionary, against small servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import openai
import pytest

from merino.client import ClientMetrics, NoAnswer, RelayClient
from merino.client.sinks import PrometheusSink

MESSAGES = [{"role": "user", "content": "hi"}]


def completion(text: str | None = "hi", finish: str = "stop", tokens: int = 2) -> dict:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        "usage": usage,
    }


@contextmanager
def serving(answer_of) -> Iterator[str]:
    """A server that answers each body with what `answer_of` makes of it: JSON, or text."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            found = answer_of(body)
            is_text = isinstance(found, str)
            data = found.encode() if is_text else json.dumps(found).encode()
            kind = "text/event-stream" if body.get("stream") else "application/json"
            self.send_response(200)
            self.send_header("content-type", "text/html" if found == "page" else kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1"
    finally:
        http.shutdown()
        http.server_close()


def asked(client: RelayClient, kind: str, **fields) -> dict:
    if kind == "sync":
        try:
            return client.chat_completion("m", MESSAGES, **fields)
        finally:
            client.close()

    async def scenario() -> dict:
        async with client:
            return await client.chat_completion_async("m", MESSAGES, **fields)

    return asyncio.run(scenario())


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@KINDS
def test_key_and_address_of_the_environment(kind, monkeypatch) -> None:
    """Argument, then Merino's variables, then OpenAI's, as for the other clients."""
    for name in ("MERINO_API_KEY", "MERINO_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with serving(lambda _: completion()) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        assert "hi" == asked(RelayClient("k"), kind)["content"]
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        monkeypatch.setenv("MERINO_BASE_URL", url)
        monkeypatch.setenv("MERINO_API_KEY", "k")
        assert "hi" == asked(RelayClient(), kind)["content"]


@KINDS
@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": "the provider failed", "code": 502}},
        {**completion(), "choices": []},
        {**completion(), "choices": None},
        "page",
    ],
)
def test_a_200_that_is_no_answer(kind, answer) -> None:
    """It is an error of the package's family, and a failed call."""
    with serving(lambda _: answer) as url:
        client = RelayClient("k", url)
        with pytest.raises(NoAnswer) as caught:
            asked(client, kind)
    assert isinstance(caught.value, openai.OpenAIError)
    assert (0, {"NoAnswer": 1}) == (client.metrics.succeeded, dict(client.metrics.errors))


@KINDS
def test_an_escalated_call_cost_both(kind) -> None:
    """The usage of the empty answer was billed, too."""

    def thinker(body) -> dict:
        allowed = body["max_completion_tokens"]
        return completion("done", tokens=30) if allowed > 50 else completion("", "length", allowed)

    with serving(thinker) as url:
        client = RelayClient("k", url, on_empty="escalate")
        answer = asked(client, kind, max_completion_tokens=50)
    assert ("done", 80, 82) == (
        answer["content"],
        answer["usage"]["completion_tokens"],
        answer["usage"]["total_tokens"],
    )
    assert 82 == client.metrics.total_tokens


def test_callbacks() -> None:
    """An async function is awaited; where nothing could await it, it is refused."""
    event = {"choices": [{"index": 0, "delta": {"content": "a"}}], "model": "m", "id": "x"}
    text = f"data: {json.dumps(event)}\n\n" * 2 + "data: [DONE]\n\n"
    heard: list[str] = []

    async def hear(piece: str) -> None:
        heard.append(piece)

    with serving(lambda _: text) as url:
        client = RelayClient("k", url)
        assert "aa" == asked(client, "async", callback=hear)["content"]
        assert ["a", "a"] == heard
        with pytest.raises(TypeError, match="chat_completion_async"):
            client.chat_completion("m", MESSAGES, callback=hear)
    assert None is client.metrics.total_tokens, "the stream did not tell"


def test_what_nobody_told_is_unknown() -> None:
    """No zero stands for a number that is not known."""
    metrics = ClientMetrics()
    summary = metrics.summary()
    unknown = {name for name, value in summary.items() if value is None}
    assert {"total_tokens", "p50_ttft_ms", "p50_latency_ms", "avg_latency_ms"} <= unknown
    assert "total_tokens     -" in str(metrics)


def test_prometheus_sinks_share_a_registry() -> None:
    """Two clients of one program count into the same metrics."""
    from prometheus_client import CollectorRegistry

    from merino.client import CallEvent

    registry = CollectorRegistry()
    for sink in (PrometheusSink(registry), PrometheusSink(registry)):
        sink.call(CallEvent("e", 200, "", 1, 0.1, 0.0))
    labels = {"endpoint": "e", "outcome": "200"}
    assert 2.0 == registry.get_sample_value("merino_client_calls_total", labels)


def response(text: str = "hi", *, is_cut: bool = False, tokens: int = 2) -> dict:
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": "m", "role": "assistant", "status": "completed"}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": [{**item, "content": [part]}] if text else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": 1 + tokens,
        },
    }


def responded(client: RelayClient, kind: str, **fields) -> dict:
    if kind == "sync":
        return client.response("m", "hi", **fields)
    return asyncio.run(client.response_async("m", "hi", **fields))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_response_is_a_dictionary(kind) -> None:
    """Its text, usage, time and id, plain and streamed; the client's figures count it."""

    def answer_of(body: dict) -> dict | str:
        whole = response()
        if not body.get("stream"):
            return whole
        delta = {"type": "response.output_text.delta", "delta": "hi", "item_id": "m"}
        events = [{**delta, "output_index": 0, "content_index": 0, "logprobs": []},
                  {"type": "response.completed", "response": whole}]  # fmt: skip
        return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)

    pieces: list[str] = []
    with serving(answer_of) as url, RelayClientOf(url) as client:
        for fields in ({}, {"callback": pieces.append}):
            found = responded(client, kind, **fields)
            assert ("hi", "m", "resp_1") == (found["content"], found["model"], found["id"])
            assert {
                "input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "reasoning_tokens": 1,
            } == found["usage"]  # fmt: skip
            assert found["latency_ms"] > 0
        assert ["hi"] == pieces
        assert 6 == client.get_metrics_summary()["total_tokens"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_escalated_response_has_room(kind) -> None:
    """One that spent its limit on thinking is asked once more with twice of it; a failed one is no
    answer."""
    asked_for: list[int] = []

    def answer_of(body: dict) -> dict:
        asked_for.append(body["max_output_tokens"])
        is_cut = len(asked_for) == 1
        return response("" if is_cut else "hi", is_cut=is_cut, tokens=20)

    with serving(answer_of) as url, RelayClientOf(url, on_empty="escalate") as client:
        found = responded(client, kind, max_output_tokens=20)
    assert ([20, 40], "hi", 40) == (asked_for, found["content"], found["usage"]["output_tokens"])
    with serving(lambda _: response() | {"status": "failed"}) as url, RelayClientOf(url) as client:
        with pytest.raises(NoAnswer):
            responded(client, kind)


@contextmanager
def RelayClientOf(url: str, **more) -> Iterator[RelayClient]:  # noqa: N802 - as the class it makes
    client = RelayClient("k", url, max_retries=0, requests_per_second=1000, **more)
    try:
        yield client
    finally:
        client.close()
