"""The production client against real servers: a relay, and small ones that fail as told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest

import merino
from merino.client import (
    CircuitOpen,
    ClientPolicy,
    DeadlineExceeded,
    Endpoint,
    OutOfCredits,
    ReasoningBudgetExhausted,
    RelayClient,
)

MESSAGES: Any = [{"role": "user", "content": "Why do sheep follow each other?"}]
ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
QUICK: dict[str, Any] = {"backoff_base_s": 0.001}


class Server:
    """Answers with what it was told, one after the other, the last one for good."""

    def __init__(self, *plan) -> None:
        self.plan = list(plan)
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def serving(*plan) -> Iterator[Server]:
    """Each step: a status, or (status, headers, body), or "drop"."""
    server = Server(*plan)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with server.lock:
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.seen.append((self.path, headers, body))
                step = server.plan.pop(0) if len(server.plan) > 1 else server.plan[0]
            if step == "drop":
                self.connection.close()
                self.close_connection = True
                return
            status, extra, answer = step if isinstance(step, tuple) else (step, {}, None)
            if answer is None:
                answer = ANSWER if status == 200 else {"error": {"message": "no", "code": None}}
            data = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", **extra}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_) -> None:
            pass

    class Queueing(ThreadingHTTPServer):
        request_queue_size = 1024

    http = Queueing(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)


def client(server, kind="sync", **policy) -> Any:
    make = merino.OpenAI if kind == "sync" else merino.AsyncOpenAI
    fallbacks = policy.pop("fallbacks", ())
    return make(
        api_key="k", base_url=server.url, policy=ClientPolicy(**QUICK | policy), fallbacks=fallbacks
    )


def ask(subject, **fields):
    """One call, whichever kind the client is."""
    if isinstance(subject, openai.OpenAI):
        with subject:
            return subject.chat.completions.create(model="o3", messages=MESSAGES, **fields)

    async def asked():
        async with subject:
            return await subject.chat.completions.create(model="o3", messages=MESSAGES, **fields)

    return asyncio.run(asked())


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@KINDS
@pytest.mark.parametrize("plan", [(503, 200), ("drop", 200), (429, 500, 200)])
def test_retries(kind, plan) -> None:
    """What may be tried again is, under one idempotency key and one body."""
    with serving(*plan) as server:
        subject = client(server, kind)
        assert "hi" == ask(subject).choices[0].message.content
    assert len(plan) == len(server.seen)
    assert 1 == len({headers["idempotency-key"] for _, headers, _ in server.seen})
    assert 1 == len({body for _, _, body in server.seen})
    summary = subject.metrics.summary()
    assert (1, 100.0, len(plan) - 1) == (
        summary["total_requests"],
        summary["success_rate"],
        summary["retries"],
    )


@KINDS
def test_the_last_error_is_the_packages_own(kind) -> None:
    """After the last attempt the caller gets what the package would have raised."""
    with serving(500) as server, pytest.raises(openai.InternalServerError):
        ask(client(server, kind, max_retries=2))
    assert 3 == len(server.seen)
    with serving(400) as server, pytest.raises(openai.BadRequestError):
        ask(client(server, kind))
    assert 1 == len(server.seen)
    with serving("drop") as server, pytest.raises(openai.APIConnectionError):
        ask(client(server, kind, max_retries=1))


@KINDS
def test_out_of_credits(kind) -> None:
    """A 429 that waiting does not mend is an error of its own, and is not tried again."""
    body = {"error": {"message": "no credit", "code": "insufficient_quota", "type": "x"}}
    with serving((429, {"x-should-retry": "false"}, body)) as server:
        with pytest.raises(OutOfCredits, match="no credit") as caught:
            ask(client(server, kind))
    assert isinstance(caught.value, openai.RateLimitError)
    assert 1 == len(server.seen)


@KINDS
def test_failover(kind) -> None:
    """The next endpoint gets the same call under its own key, at its own path."""
    with serving(503) as first, serving(200) as second:
        other = Endpoint(second.url.replace("/v1", "/other/v2"), "key-2")
        assert "hi" == ask(client(first, kind, fallbacks=[other])).choices[0].message.content
    assert 1 == len(first.seen) == len(second.seen)
    path, headers, body = second.seen[0]
    assert ("/other/v2/chat/completions", "Bearer key-2") == (path, headers["authorization"])
    assert first.seen[0][2] == body


@KINDS
def test_the_breaker(kind) -> None:
    """After enough failures nothing is sent; the error says when to come back, and is one the
    package's users catch already."""
    with serving(500) as server:
        subject = client(server, kind, max_retries=0, breaker_threshold=3)
        seen = []

        async def calls_async():
            for _ in range(5):
                try:
                    await subject.chat.completions.create(model="o3", messages=MESSAGES)
                except openai.APIError as error:
                    seen.append(error)
            await subject.close()

        if kind == "async":
            asyncio.run(calls_async())
        else:
            for _ in range(5):
                try:
                    subject.chat.completions.create(model="o3", messages=MESSAGES)
                except openai.APIError as error:
                    seen.append(error)
            subject.close()
        assert 3 == len(server.seen)
    assert isinstance(seen[-1], CircuitOpen)
    assert isinstance(seen[-1], openai.APIConnectionError)
    assert 0 < seen[-1].retry_after_s <= 72
    assert "open" in subject.breakers.values()


@KINDS
def test_the_deadline(kind) -> None:
    """A wait that would end after the deadline is not begun."""
    with serving((503, {"retry-after": "30"}, None)) as server:
        began = time.monotonic()
        with pytest.raises(openai.InternalServerError):
            ask(client(server, kind, deadline_s=1.0))
        assert time.monotonic() - began < 1
    with serving(200) as server:
        subject = client(server, kind, deadline_s=8.0, requests_per_minute=1)
        if kind == "sync":
            subject.chat.completions.create(model="o3", messages=MESSAGES)
            with pytest.raises(DeadlineExceeded, match="more would be needed"):
                ask(subject)
        else:

            async def twice():
                async with subject:
                    for _ in range(2):
                        await subject.chat.completions.create(model="o3", messages=MESSAGES)

            with pytest.raises(DeadlineExceeded, match="more would be needed"):
                asyncio.run(twice())
    assert isinstance(DeadlineExceeded("x", request=None), openai.APITimeoutError)


def test_limits_take_the_time_the_arithmetic_says() -> None:
    """Two hundred calls at once through a limit are sent at its rate, in order, and nothing blocks
    the loop meanwhile."""
    waits: list[float] = []

    async def scenario() -> None:
        with serving(200) as server:
            subject = merino.AsyncOpenAI(
                api_key="k",
                base_url=server.url,
                policy=ClientPolicy(requests_per_second=100, max_concurrency=50),
            )
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            ticking = asyncio.create_task(tick())
            began = time.monotonic()
            await asyncio.gather(
                *(
                    subject.chat.completions.create(model="o3", messages=MESSAGES)
                    for _ in range(200)
                )
            )
            waits.append(time.monotonic() - began)
            ticking.cancel()
            assert ticks > 3
            await subject.close()
            assert 200 == len(server.seen)

    asyncio.run(scenario())
    # 100 at once, then 100 more at 100 a second; what is above is this machine's own work.
    assert waits[0] >= 0.99


def test_cancelled_calls_leave_nothing() -> None:
    """A call that is cancelled while it waits gives back its permits; no task is left."""

    async def scenario() -> None:
        with serving(200) as server:
            subject = client(server, "async", requests_per_minute=1)
            await subject.chat.completions.create(model="o3", messages=MESSAGES)
            waiting = asyncio.create_task(
                subject.chat.completions.create(model="o3", messages=MESSAGES)
            )
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await subject.close()
            assert {asyncio.current_task()} == asyncio.all_tasks()
            assert 1 == len(server.seen)

    asyncio.run(scenario())


def test_environment(monkeypatch) -> None:
    """Merino's variables win over OpenAI's; without a key there is a clear error."""
    for name in ("MERINO_API_KEY", "MERINO_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(openai.OpenAIError, match="MERINO_API_KEY"):
        merino.OpenAI()
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://theirs/v1")
    with merino.OpenAI() as subject:
        assert ("theirs", "http://theirs/v1/") == (subject.api_key, str(subject.base_url))
    monkeypatch.setenv("MERINO_API_KEY", "ours")
    monkeypatch.setenv("MERINO_BASE_URL", "http://ours/v1")
    with merino.OpenAI() as subject:
        assert ("ours", "http://ours/v1/") == (subject.api_key, str(subject.base_url))


def test_import_stays_light() -> None:
    """`import merino` loads neither the openai package nor an HTTP client."""
    code = "import merino, sys; print({'openai', 'httpx', 'httpx2', 'msgspec'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "set()" == done.stdout.strip()


def test_through_a_relay(relay) -> None:
    """The whole way: limits, streaming and metrics of the client, cost from the relay."""
    base_url = f"{relay.url}/v1"

    async def scenario() -> None:
        async with RelayClient(
            relay.key, base_url, requests_per_minute=600, requests_per_second=100
        ) as subject:
            answer = await subject.chat_completion_async("o3", MESSAGES, max_completion_tokens=400)
            assert {"content", "usage", "latency_ms", "model"} == set(answer)
            assert answer["content"]
            assert answer["usage"]["total_tokens"] == (
                answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
            )
            pieces: list[str] = []
            streamed = await subject.chat_completion_async(
                "o3", MESSAGES, max_completion_tokens=400, callback=pieces.append
            )
            assert "".join(pieces) == streamed["content"]
            assert len(pieces) > 3
            same = subject.chat_completion("o3", MESSAGES, max_completion_tokens=400)
            assert set(answer) == set(same)
            summary = subject.get_metrics_summary()
            assert (3, 100.0, "closed") == (
                summary["total_requests"],
                summary["success_rate"],
                summary["circuit_breaker"],
            )
            assert summary["p50_ttft_ms"] > 0
            assert "p99_latency_ms" in str(subject.metrics)

    asyncio.run(scenario())


@pytest.mark.parametrize("on_empty", ["return", "raise", "escalate"])
def test_all_tokens_spent_thinking(relay, on_empty) -> None:
    """An empty answer of a model that only thought is returned, raised, or asked for again with
    more tokens, as wanted."""
    with pytest.MonkeyPatch.context():
        subject = RelayClient(relay.key, f"{relay.url}/v1", on_empty=on_empty)
        fields = {"model": "o3!reasoning=60,output=80", "messages": MESSAGES}
        fields["model"] = "o3"

        async def scenario():
            async with subject:
                return await subject.chat_completion_async(**fields, max_completion_tokens=40)

        if on_empty == "raise":
            with pytest.raises(ReasoningBudgetExhausted, match="40 tokens") as caught:
                asyncio.run(scenario())
            assert 40 == caught.value.usage["completion_tokens"]
        else:
            answer = asyncio.run(scenario())
            assert (on_empty == "escalate") == (answer["usage"]["completion_tokens"] > 40)


def test_sinks(relay) -> None:
    """Prometheus, logging and OpenTelemetry sinks hear of the same calls."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    lines: list[str] = []
    measured: list[tuple] = []

    class Logger:
        def info(self, text, *values):
            lines.append(text % values)

        warning = info

    class Instrument:
        def record(self, *values):
            measured.append(values)

        add = record

    class Meter:
        def create_histogram(self, *_, **__):
            return Instrument()

        create_counter = create_histogram

    with serving(503, 200) as server:
        subject = merino.OpenAI(
            api_key="k",
            base_url=server.url,
            policy=ClientPolicy(**QUICK),
            sinks=[
                merino.client.PrometheusSink(registry),
                merino.client.LoggingSink(Logger()),
                merino.client.OpenTelemetrySink(Meter()),
            ],
        )
        ask(subject)
    labels = {"endpoint": server.url, "outcome": "200"}
    assert 1.0 == registry.get_sample_value("merino_client_calls_total", labels)
    assert 1.0 == registry.get_sample_value(
        "merino_client_attempts_total", labels | {"outcome": "503"}
    )
    assert any("503, trying again" in line for line in lines)
    assert 3 == len(measured)


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("ask.py", ["Hello"], "Metrics: {'total_requests': 1"),
        ("time_models.py", ["2"], "o4-mini  p50"),
    ],
)
def test_examples(relay, script, arguments, said) -> None:
    """The examples run as they stand, against a relay."""
    example = Path(__file__).parents[2] / "examples" / script
    done = subprocess.run(
        [sys.executable, str(example), *arguments],
        env=os.environ | {"MERINO_API_KEY": relay.key, "MERINO_BASE_URL": f"{relay.url}/v1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    assert said in done.stdout
    assert "" == done.stderr


def test_the_package_says_that_it_is_typed() -> None:
    """Type checkers then read it; what they say of what users write, `make check` asks."""
    assert (Path(merino.__file__).parent / "py.typed").exists()
