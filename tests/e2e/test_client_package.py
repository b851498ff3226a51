"""What a bare client of the openai package can do works on ours, and its loop covers the whole answer:
over real sockets, against servers that misbehave as told."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import openai
import pytest

import merino
from merino.client import ClientPolicy, DeadlineExceeded, Endpoint, HedgePolicy

MESSAGES: Any = [{"role": "user", "content": "hi"}]
ANSWER = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
).encode()
QUICK: dict[str, Any] = {"backoff_base_s": 0.001}
_http = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


class Request:
    def __init__(self, head: bytes, body: bytes) -> None:
        line, *fields = head.decode("latin-1").split("\r\n")
        self.path = line.split(" ")[1]
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (each.partition(":") for each in fields)
        }
        self.body = body


Play = Callable[[socket.socket, int, Request], None]


class Server:
    """Hands every request to `play`, with its number; keeps connections alive while it returns."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.seen: list[Request] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        with connection:
            while True:
                try:
                    while b"\r\n\r\n" not in data:
                        more = connection.recv(65536)
                        if not more:
                            return
                        data += more
                    head, _, data = data.partition(b"\r\n\r\n")
                    request = Request(head, b"")
                    length = int(request.headers.get("content-length", "0"))
                    while len(data) < length:
                        data += connection.recv(65536)
                    request.body, data = data[:length], data[length:]
                    with self._lock:
                        self.seen.append(request)
                        number = len(self.seen)
                    self.play(connection, number, request)
                except (OSError, ValueError):
                    return

    def close(self) -> None:
        self._listener.close()


@contextmanager
def serving(play: Play) -> Iterator[Server]:
    server = Server(play)
    try:
        yield server
    finally:
        server.close()


def answer(connection: socket.socket, status: int = 200, body: bytes = ANSWER, **headers) -> None:
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    connection.sendall(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body)


def fine(connection, number, request) -> None:
    answer(connection)


def end(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)
    raise OSError


def make(kind: str, url: str, **options) -> Any:
    policy = options.pop("policy", {})
    return (merino.OpenAI if kind == "sync" else merino.AsyncOpenAI)(
        base_url=url, **{"api_key": "one", "policy": ClientPolicy(**QUICK | policy)} | options
    )


def ask(client, **fields):
    """One call, whichever kind the client is."""
    given = {"model": "m", "messages": MESSAGES, **fields}
    if isinstance(client, openai.OpenAI):
        return client.chat.completions.create(**given)
    return asyncio.run(client.chat.completions.create(**given))


def broken(framing: str) -> Play:
    """The first answer breaks off, or falls silent, in its body."""

    def play(connection, number, request) -> None:
        if number > 1:
            answer(connection)
            return
        head = "HTTP/1.1 200 X\r\ncontent-type: application/json\r\n"
        if framing == "length":
            connection.sendall(f"{head}content-length: 900\r\n\r\n".encode() + ANSWER[:40])
        elif framing == "chunked":
            connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode() + b'5\r\n{"id"')
        elif framing == "gzip":
            body = b"this is no gzip at all"
            answer(connection, body=body, content_encoding="gzip")
            return
        elif framing == "silent":
            connection.sendall(f"{head}content-length: 900\r\n\r\n".encode() + ANSWER[:40])
            time.sleep(3)
        end(connection)

    return play


@KINDS
@pytest.mark.parametrize("framing", ["length", "chunked", "gzip", "silent"])
def test_a_broken_body_is_tried_again(kind, framing) -> None:
    """Under the same idempotency key; and the call is one, that succeeded."""
    with serving(broken(framing)) as server:
        client = make(kind, server.url, timeout=0.5)
        assert "hi" == ask(client).choices[0].message.content
        assert 2 == len(server.seen)
        assert 1 == len({request.headers["idempotency-key"] for request in server.seen})
    assert (1, 1) == (client.metrics.calls, client.metrics.succeeded)
    assert 3 == client.metrics.total_tokens


@KINDS
def test_a_broken_body_fails_over(kind) -> None:
    """To the next endpoint, under its own key, whatever key the caller's headers name."""

    def always(connection, number, request) -> None:
        broken("length")(connection, 1, request)

    with serving(always) as bad, serving(fine) as good:
        client = make(kind, bad.url, fallbacks=[Endpoint(good.url, "two")])
        ask(client, extra_headers={"Authorization": "Bearer caller", "X-Own": "1"})
        assert "Bearer caller" == bad.seen[0].headers["authorization"]
        (request,) = good.seen
        assert ("Bearer two", "1") == (request.headers["authorization"], request.headers["x-own"])
        assert bad.seen[0].headers["idempotency-key"] == request.headers["idempotency-key"]
        assert good.url.removeprefix("http://").removesuffix("/v1") == request.headers["host"]
        assert bad.seen[0].body == request.body


@KINDS
def test_fallbacks_learn_nothing_of_the_first_endpoint(kind) -> None:
    """Its cookies, organization and sign-in are its own, also where the HTTP client would add
    them."""

    def first(connection, number, request) -> None:
        answer(connection, 200 if number == 1 else 503, set_cookie="session=secret; Path=/")

    made = openai.DefaultHttpxClient if kind == "sync" else openai.DefaultAsyncHttpxClient
    for given in ({}, {"http_client": made(auth=("user", "secret"))}):
        with serving(first) as server, serving(fine) as other:
            client = make(
                kind,
                server.url,
                organization="org-secret",
                project="proj-secret",
                default_headers={"api-key": "secret"},
                fallbacks=[Endpoint(other.url, "two")],
                **given,
            )

            async def twice(client=client) -> None:
                async with client:
                    for _ in range(2):
                        await client.chat.completions.create(model="m", messages=MESSAGES)

            if kind == "sync":
                with client:
                    ask(client)
                    ask(client)
            else:
                asyncio.run(twice())
            assert "session=secret" == server.seen[1].headers["cookie"]
            assert "org-secret" == server.seen[1].headers["openai-organization"]
            (request,) = other.seen
            assert "Bearer two" == request.headers["authorization"]
            assert "secret" not in str(request.headers)


@KINDS
def test_a_call_that_raised_is_a_failed_call(kind) -> None:
    """Broken bodies, broken streams and errors inside streams count, and open the breaker."""
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
    failed = b'data: {"error": {"message": "overloaded", "code": "busy"}}\n\n'

    def play(connection, number, request) -> None:
        if not json.loads(request.body).get("stream"):
            broken("length")(connection, 1, request)
        head = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ncontent-length: 9000\r\n\r\n"
        connection.sendall(head + event + (failed if number == 2 else b""))
        end(connection)

    with serving(play) as server:
        client = make(kind, server.url, max_retries=0, policy={"breaker_threshold": 3})

        async def streamed() -> None:
            async for _ in await client.chat.completions.create(
                model="m", messages=MESSAGES, stream=True
            ):
                pass

        for is_streamed in (False, True, True):
            with pytest.raises((openai.APIError, _http.TransportError)):
                if not is_streamed:
                    ask(client)
                elif kind == "async":
                    asyncio.run(streamed())
                else:
                    list(ask(client, stream=True))
    assert (3, 3, 0) == (client.metrics.calls, client.metrics.failed, client.metrics.succeeded)
    assert "busy" in client.metrics.errors
    assert ["open"] == list(client.breakers.values())


@KINDS
def test_the_latest_key_and_address_are_used(kind) -> None:
    """By attribute, copy, header and callable; what is left behind gets no prompt."""
    keys = iter(["renewed-1", "renewed-2"])

    async def renewed_async() -> str:
        return next(keys)

    renewed = renewed_async if kind == "async" else lambda: next(keys)
    with serving(fine) as old, serving(fine) as new:
        client = make(kind, old.url)
        client.api_key = "two"
        ask(client)
        ask(client, extra_headers={"authorization": "Basic Yg=="})
        ask(client.with_options(api_key="three"))
        ask(client.copy(default_headers={"Authorization": "Bearer four"}))
        wanted = ["Bearer two", "Basic Yg==", "Bearer three", "Bearer four"]
        assert wanted == [request.headers["authorization"] for request in old.seen]
        if hasattr(client, "_refresh_api_key"):
            moved = client.copy(api_key=renewed, base_url=new.url)
            ask(moved)
            ask(moved)
            wanted = ["Bearer renewed-1", "Bearer renewed-2"]
            assert wanted == [request.headers["authorization"] for request in new.seen]
        client.base_url = new.url
        ask(client)
        assert (4, "Bearer two") == (len(old.seen), new.seen[-1].headers["authorization"])
    assert client.metrics.calls in (5, 7), "copies count into the same metrics"


@KINDS
@pytest.mark.parametrize("retries", [0, 1, 4])
def test_retries_are_what_was_said_last(kind, retries) -> None:
    """The package's own argument wins over the policy's, and that of a copy over the client's."""

    def down(connection, number, request) -> None:
        answer(connection, 503, b"{}", retry_after_ms="1")

    with serving(down) as server:
        for client in (
            make(kind, server.url, max_retries=retries, policy={"max_retries": 2}),
            make(kind, server.url, policy={"max_retries": 3}).with_options(max_retries=retries),
            make(kind, server.url).copy(policy=ClientPolicy(max_retries=retries, **QUICK)),
        ):
            server.seen.clear()
            with pytest.raises(openai.InternalServerError):
                ask(client)
            assert retries + 1 == len(server.seen)
            counts = [request.headers["x-stainless-retry-count"] for request in server.seen]
            assert [str(number) for number in range(retries + 1)] == counts


@KINDS
def test_an_http_client_of_the_users_own(kind) -> None:
    """Its hooks see every request, and the loop is around it; only hedging needs connections of
    our own, and says so."""
    heard: list[str] = []

    def hook(request) -> None:
        heard.append(request.headers["authorization"])

    async def hook_async(request) -> None:
        hook(request)

    def twice(connection, number, request) -> None:
        answer(connection, 500 if number == 1 else 200)

    made = openai.DefaultHttpxClient if kind == "sync" else openai.DefaultAsyncHttpxClient
    with serving(twice) as server:
        given = made(event_hooks={"request": [hook if kind == "sync" else hook_async]})
        client = make(kind, server.url, http_client=given)

        async def asked_and_closed():
            async with client:
                return await client.chat.completions.create(model="m", messages=MESSAGES)

        if kind == "sync":
            with client:
                found = ask(client)
        else:
            found = asyncio.run(asked_and_closed())
        assert "hi" == found.choices[0].message.content
        assert ["Bearer one"] * 2 == heard
        assert (1, 1) == (client.metrics.calls, client.metrics.retries)
        with pytest.raises(openai.OpenAIError, match="hedge and http_client exclude each other"):
            make(kind, server.url, http_client=given, policy={"hedge": HedgePolicy()})
        with pytest.raises(openai.OpenAIError, match="hedge and http_client exclude each other"):
            make(kind, server.url, policy={"hedge": HedgePolicy()}).copy(http_client=given)


@KINDS
def test_redirects_are_followed(kind) -> None:
    """To another host, without the key; and nothing of ours gets in the way."""
    with serving(fine) as target:

        def moved(connection, number, request) -> None:
            where = target.url.replace("127.0.0.1", "localhost") + "/chat/completions"
            answer(connection, 308, b"", location=where)

        with serving(moved) as server:
            assert "hi" == ask(make(kind, server.url)).choices[0].message.content
            assert "authorization" not in target.seen[0].headers


@KINDS
def test_raw_and_streamed_responses(kind) -> None:
    """Both are the package's own, with the number of retries; a streamed one keeps its place until
    it is closed."""

    def second(connection, number, request) -> None:
        answer(connection, 500 if number == 1 else 200, retry_after_ms="1")

    with serving(second) as server:
        client = make(kind, server.url, policy={"max_concurrency": 1, "deadline_s": 1.5})
        create = {"model": "m", "messages": MESSAGES}
        if kind == "sync":
            raw = client.chat.completions.with_raw_response.create(**create)
            assert ("hi", 1) == (raw.parse().choices[0].message.content, raw.retries_taken)
            with client.chat.completions.with_streaming_response.create(**create) as streamed:
                with pytest.raises(DeadlineExceeded):
                    ask(client.copy(policy=None).with_options(timeout=1))
                assert "hi" == streamed.parse().choices[0].message.content
            ask(client)
            return

        async def scenario() -> None:
            raw = await client.chat.completions.with_raw_response.create(**create)
            assert ("hi", 1) == (raw.parse().choices[0].message.content, raw.retries_taken)
            async with client.chat.completions.with_streaming_response.create(**create) as streamed:
                with pytest.raises(DeadlineExceeded):
                    await client.chat.completions.create(**create)
                assert "hi" == (await streamed.parse()).choices[0].message.content
            await client.chat.completions.create(**create)

        asyncio.run(scenario())


@KINDS
def test_the_deadline_holds_whatever_comes(kind) -> None:
    """Also for a body that trickles in, where no single read is too slow."""

    def trickle(connection, number, request) -> None:
        connection.sendall(b"HTTP/1.1 200 X\r\ncontent-length: 9000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b" ")
            time.sleep(0.1)

    with serving(trickle) as server:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="1 attempts"):
            ask(make(kind, server.url, policy={"deadline_s": 0.6}))
        assert time.monotonic() - began < 5.0, "a hundred pieces would take ten"


@KINDS
def test_files_are_sent_whole_again(kind) -> None:
    """A retry sends the same file again, not what is left of it."""

    def second(connection, number, request) -> None:
        body = b'{"id": "f", "object": "file", "bytes": 1, "created_at": 1, "filename": "x",'
        body += b'"purpose": "batch", "status": "processed"}'
        answer(connection, 500 if number % 2 else 200, body, retry_after_ms="1")

    def upload(client, file):
        if kind == "sync":
            return client.files.create(file=file, purpose="batch")
        return asyncio.run(client.files.create(file=file, purpose="batch"))

    with serving(second) as server:
        upload(make(kind, server.url), ("x.jsonl", io.BytesIO(b"all of the file")))
        assert 2 == len(server.seen)
        assert all(b"all of the file" in request.body for request in server.seen)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_dropped_stream_gives_back_its_place() -> None:
    """Nobody has to close what nobody holds any more."""

    def stream(connection, number, request) -> None:
        event = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
        answer(connection, body=event + b"data: [DONE]\n\n", content_type="text/event-stream")

    with serving(stream) as server:
        client = make("sync", server.url, policy={"max_concurrency": 1, "deadline_s": 5.0})
        for _ in range(3):
            ask(client, stream=True)
            gc.collect()
        assert ["a"] == [each.choices[0].delta.content for each in ask(client, stream=True)]


def test_loops_that_ended_leave_no_connections() -> None:
    """One client may serve a loop per task for ever."""
    folder = Path(f"/proc/{os.getpid()}/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc to count descriptors")
    with serving(fine) as server:
        client = make("async", server.url)
        ask(client)
        before = len(list(folder.iterdir()))
        for _ in range(20):
            ask(client)
        assert len(list(folder.iterdir())) < before + 10


def test_one_bound_for_all_loops_and_threads() -> None:
    """`max_concurrency` is the client's, however many loops and threads use it."""
    running, most, lock = [], [0], threading.Lock()

    def slow(connection, number, request) -> None:
        with lock:
            running.append(number)
            most[0] = max(most[0], len(running))
        time.sleep(0.05)
        with lock:
            running.remove(number)
        answer(connection)

    with serving(slow) as server:
        client = make("async", server.url, policy={"max_concurrency": 2})

        async def several() -> None:
            await asyncio.gather(
                *(client.chat.completions.create(model="m", messages=MESSAGES) for _ in range(4))
            )

        threads = [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert (12, 12) == (client.metrics.succeeded, len(server.seen))
    assert most[0] <= 2


def test_trio() -> None:
    """The asynchronous client runs where the package's does, and waits there, too."""
    trio = pytest.importorskip("trio")

    def second(connection, number, request) -> None:
        answer(connection, 503 if number == 1 else 200)

    with serving(second) as server:
        policy = {"max_concurrency": 1, "deadline_s": 20.0, "requests_per_second": 5}

        async def scenario() -> list[str]:
            found: list[str] = []
            async with make("async", server.url, policy=policy) as client:

                async def one() -> None:
                    told = await client.chat.completions.create(model="m", messages=MESSAGES)
                    found.append(told.choices[0].message.content)

                async with trio.open_nursery() as nursery:
                    for _ in range(7):
                        nursery.start_soon(one)
            return found

        assert ["hi"] * 7 == trio.run(scenario)


# The package itself asks for a connection in the way that newer websockets deprecate.
@pytest.mark.filterwarnings("ignore:connect.. must be used as a context:DeprecationWarning")
@KINDS
def test_websockets_are_left_alone(kind) -> None:
    """They are the package's own: its key, its address, its messages; neither a call nor an attempt
    of ours, and no place of `max_concurrency` is taken."""
    websockets = pytest.importorskip("websockets.sync.server")
    heard: list[tuple[str, str]] = []

    def handle(connection) -> None:
        request = connection.request
        heard.append((request.path, request.headers["Authorization"]))
        connection.send(json.dumps({"type": "session.created", "event_id": "e", "session": {}}))

    with websockets.serve(handle, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1"
        socket_url = url.replace("http", "ws")
        policy = {"max_concurrency": 1, "requests_per_second": 1, "deadline_s": 5.0}
        client = make(kind, url, policy=policy, websocket_base_url=socket_url)
        if not hasattr(client, "realtime"):
            pytest.skip("this version of the package has no realtime")
        copied = client.with_options(api_key="two")

        async def received() -> list[str]:
            kinds = []
            for each in (client, copied):
                async with each.realtime.connect(model="m") as connection:
                    kinds.append((await connection.recv()).type)
            await client.close()
            return kinds

        if kind == "sync":
            kinds = []
            for each in (client, copied):
                with each.realtime.connect(model="m") as connection:
                    kinds.append(connection.recv().type)
            client.close()
        else:
            kinds = asyncio.run(received())
        server.shutdown()
    assert ["session.created"] * 2 == kinds
    path = "/v1/realtime?model=m"
    assert [(path, "Bearer one"), (path, "Bearer two")] == heard
    assert (0, {url: "closed"}) == (client.metrics.calls, client.breakers)
