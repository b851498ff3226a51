"""Hedging over real sockets: who gets the second request, under which key, and that the slower one is
really cut off."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import merino
from merino.client import ClientPolicy, Endpoint, HedgePolicy

MESSAGES: Any = [{"role": "user", "content": "hi"}]
HEDGE = HedgePolicy(share=1.0, samples_min=5, delay_min_s=0.5)
"""The delay is long enough that no other call is slow by chance."""
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
WAIT_S = 10.0


class Server:
    """Answers at once; while `is_stuck`, or `stuck_next` once, it says nothing until the caller
    hangs up."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[str] = []
        self.is_stuck = self.stuck_next = False
        self.status = 200
        self.hung_up = threading.Event()


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.keys.append(self.headers["idempotency-key"])
            is_next, server.stuck_next = server.stuck_next, False
            if server.is_stuck or is_next:
                self.connection.settimeout(WAIT_S)
                if self.connection.recv(1) == b"":
                    server.hung_up.set()
                self.close_connection = True
                return
            if body.get("stream"):
                chunk = {"choices": [{"index": 0, "delta": {"content": "hi"}}]}
                data = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
                content_type = "text/event-stream"
            else:
                message = {"role": "assistant", "content": "hi"}
                data = json.dumps({"choices": [{"index": 0, "message": message}]}).encode()
                content_type = "application/json"
            self.send_response(server.status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)


def drive(kind: str, server: Server, fallbacks, steps, **policy) -> merino.OpenAI:
    """A client of that kind, through whose `create` go the steps; each is called between two
    calls, and the last call's text is checked."""
    options: dict[str, Any] = {
        "api_key": "k",
        "base_url": server.url,
        "policy": ClientPolicy(**{"hedge": HEDGE, "max_retries": 0, **policy}),
        "fallbacks": fallbacks,
    }
    if kind == "sync":
        with merino.OpenAI(**options) as client:
            for step in steps:
                step(lambda **f: client.chat.completions.create(model="o3", messages=MESSAGES, **f))
        return client
    with asyncio.Runner() as runner:
        client: Any = merino.AsyncOpenAI(**options)

        def ask(**fields):
            async def whole():
                found = await client.chat.completions.create(
                    model="o3", messages=MESSAGES, **fields
                )
                return [chunk async for chunk in found] if fields.get("stream") else found

            return runner.run(whole())

        for step in steps:
            step(ask)
        runner.run(client.close())
    return client


def warm(ask) -> None:
    for _ in range(6):
        ask()


@KINDS
def test_another_endpoint(kind) -> None:
    """The second request goes to the other endpoint under a key of its own; the first is cut."""
    with serving() as first, serving() as second:

        def stuck(ask) -> None:
            first.is_stuck = True
            assert "hi" == ask().choices[0].message.content
            assert first.hung_up.wait(WAIT_S)

        client = drive(kind, first, [Endpoint(second.url, "k2")], [warm, stuck])
        assert (7, 1) == (len(first.keys), len(second.keys))
        assert 8 == len({*first.keys, *second.keys})
    summary = client.metrics.summary()
    assert (1, 1, 0, 7) == tuple(
        summary[name] for name in ("hedges", "hedges_won", "retries", "total_requests")
    )
    assert "hedges_won" in str(client.metrics)


@KINDS
def test_the_same_endpoint(kind) -> None:
    """With one endpoint only, it gets both."""
    with serving() as server:

        def stuck(ask) -> None:
            server.stuck_next = True
            assert "hi" == ask().choices[0].message.content
            assert server.hung_up.wait(WAIT_S)

        client = drive(kind, server, [], [warm, stuck])
        assert 8 == len(server.keys) == len(set(server.keys))
    assert 1 == client.metrics.hedges_won


@KINDS
def test_streams(kind) -> None:
    """A hedged stream is read to its end."""
    with serving() as first, serving() as second:

        def texts(ask) -> list[str]:
            return [chunk.choices[0].delta.content for chunk in ask(stream=True)]

        def both(ask) -> None:
            for _ in range(6):
                assert ["hi"] == texts(ask)
            first.is_stuck = True
            assert ["hi"] == texts(ask)
            assert first.hung_up.wait(WAIT_S)

        client = drive(kind, first, [Endpoint(second.url, "k2")], [both])
    assert 1 == client.metrics.hedges_won


@KINDS
def test_with_a_key_of_the_callers_own(kind) -> None:
    """Whoever gives an idempotency key gets one request, however long it takes."""
    with serving() as first, serving() as second:

        def keyed(ask) -> None:
            ask(extra_headers={"Idempotency-Key": "mine"})

        drive(kind, first, [Endpoint(second.url, "k2")], [warm, keyed])
        assert ("mine", 0) == (first.keys[-1], len(second.keys))


@KINDS
def test_every_address_has_its_own_way(kind, monkeypatch) -> None:
    """A client that hedges goes through the environment's proxy where it must, and past it where it
    must not, whichever endpoint of the call it is."""
    with serving() as proxy, serving() as near:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("NO_PROXY", "localhost")
        far = Server()
        far.url = "http://model.invalid/v1"
        close = near.url.replace("127.0.0.1", "localhost")
        drive(kind, far, [Endpoint(close, "k2")], [lambda ask: ask()])
        assert (1, 0) == (len(proxy.keys), len(near.keys))
        near.url = close
        drive(kind, near, [], [lambda ask: ask()])
        assert (1, 1) == (len(proxy.keys), len(near.keys))
        proxy.status = 503

        drive(kind, far, [Endpoint(close, "k2")], [lambda ask: ask()], max_retries=1)
        assert (2, 2) == (len(proxy.keys), len(near.keys))


@KINDS
def test_a_copy_that_hedges(kind) -> None:
    """Of a client that does not: it has connections that can be cut off."""
    with serving() as first, serving() as second:
        made: Any = merino.OpenAI if kind == "sync" else merino.AsyncOpenAI
        plain = made(api_key="k", base_url=first.url)
        policy = ClientPolicy(hedge=HEDGE, max_retries=0)
        copied = plain.with_options(policy=policy, fallbacks=[Endpoint(second.url, "k2")])

        async def asked() -> str:
            async with copied:
                for number in range(7):
                    first.is_stuck = number == 6
                    found = await copied.chat.completions.create(model="o3", messages=MESSAGES)
                return found.choices[0].message.content

        if kind == "async":
            assert "hi" == asyncio.run(asked())
        else:
            with plain, copied:
                for number in range(7):
                    first.is_stuck = number == 6
                    copied.chat.completions.create(model="o3", messages=MESSAGES)
        assert (1, 1) == (copied.metrics.hedges_won, len(second.keys))


def test_threads_share_a_hedging_client() -> None:
    """Many threads at once, and the loop in the background ends with the client."""
    with serving() as server:
        policy = ClientPolicy(hedge=HEDGE, max_concurrency=8)
        with merino.OpenAI(api_key="k", base_url=server.url, policy=policy) as client:
            answers: list[str | None] = []

            def work() -> None:
                for _ in range(10):
                    found = client.chat.completions.create(model="o3", messages=MESSAGES)
                    answers.append(found.choices[0].message.content)

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert ["hi"] * 80 == answers
            assert "merino-client" in {thread.name for thread in threading.enumerate()}
        assert "merino-client" not in {thread.name for thread in threading.enumerate()}


def test_a_relay_bills_what_both_used(relay) -> None:
    """Against a relay both requests are calls of their own, and its books stay right."""
    options = {
        "api_key": relay.key,
        "base_url": f"{relay.url}/v1",
        "policy": ClientPolicy(hedge=HedgePolicy(share=1.0, samples_min=3, delay_min_s=0.05)),
    }
    with merino.OpenAI(**options) as client:
        for number in range(8):
            client.chat.completions.create(
                model="sim/o3-mini",
                messages=[{"role": "user", "content": f"{number}"}],
                max_completion_tokens=200,
            )
        sent = 8 + client.metrics.hedges
    assert sent == len(relay.cli("calls", "list", "--limit", "100")["data"])
    assert relay.cli("ledger", "verify")["ok"]
