"""A relay in this process: its parts are what they always are, and no socket lies between them and
a test.

It has an event loop of its own, which runs only while something is asked: tests stay plain
functions, and nothing happens behind their back.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout
from html import unescape
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any, Self, TypeVar, cast
from unittest.mock import patch

import httpx2

from merino.app import Relay
from merino.cli import connection
from merino.cli.root import run
from merino.control_plane import as_local
from merino.live import live_of
from merino.running.runner import Runner
from merino.serving import first_start
from merino.settings import load
from merino.storage import Store
from merino.wire.exchange import Cancellable, Headers

T = TypeVar("T")
TIMEOUT_S = 30.0
BASE_URL = "http://relay.test"

SIMULATED = """
[[deployments]]
name = "fast"
provider = "simulator"
upstream_model = "o3-mini!output=4,reasoning=2"
[[deployments]]
name = "broken"
provider = "simulator"
upstream_model = "o3-mini!status=400"
[aliases.o3]
deployments = ["fast"]
[aliases.broken]
deployments = ["broken"]
"""
"""Two models: one that answers, one that refuses."""


class InProcess:
    """Has the account `default` with credit, a key of it and an admin key, as after a first start."""

    def __init__(
        self,
        folder: Path,
        config: str = SIMULATED,
        environ: Mapping[str, str] | None = None,
        given: frozenset[str] = frozenset(),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        self.config = folder / "merino.toml"
        self.config.write_text(config)
        self._environ = dict(environ or {})
        self._given = given
        self.key = self.admin_key = ""
        self._loop = asyncio.Runner()
        self.run(self._begin())

    async def _begin(self) -> None:
        settings = load(self.config, self._environ)
        self.store = store = Store.open(self.data)
        await store.start()
        live = live_of(settings, self._environ, store.accounts.get, store.additions.list())
        self.relay = Relay(live, store, self._environ, given=self._given)
        key, admin_key = await first_start(settings.credits.start_nanos, store)
        if key is not None and admin_key is not None:
            self.key, self.admin_key = key, admin_key
            await store.first_start.shown()
        self._asgi = self.relay.asgi()
        self.app = as_local(self._app, _is_of_a_command)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        """As the server does: the fast lane first."""
        query = scope["query_string"]
        target = (scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1")
        if not self.relay.front.takes(target.encode("latin-1")):
            await self._asgi(scope, receive, send)
            return
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        exchange = LaneExchange(scope["method"], target, headers, body + message.get("body", b""))
        await exchange.served_by(self.relay.front)
        done = exchange.answered
        lines = [(name.encode(), value.encode("latin-1")) for name, value in done.headers.items()]
        await send({"type": "http.response.start", "status": done.status, "headers": lines})
        await send({"type": "http.response.body", "body": done.body})

    def restart(self) -> None:
        self.run(self.relay.close())
        self.run(self.store.close())
        self.run(self._begin())

    def close(self) -> None:
        self.run(self.relay.close())
        self.run(self.store.close())
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(TIMEOUT_S):
                return await work

        return self._loop.run(bounded())

    # -- what is asked ---------------------------------------------------------------------------

    def client(self, **options: Any) -> Client:
        return Client(self, **options)

    @property
    def admin(self) -> Client:
        """The admin API, with the admin key."""
        return self.client(
            base_url=f"{BASE_URL}/admin/v1",
            headers={"authorization": f"Bearer {self.admin_key}"},
        )

    def ask(
        self,
        target: str,
        body: Any = None,
        *,
        method: str = "",
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """A request of the fast lane. A body that is bytes is sent as it is."""
        return self.exchanged(target, body, method=method, key=key, headers=headers).answered

    def exchanged(
        self,
        target: str,
        body: Any = None,
        *,
        method: str = "",
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        hangs_up_after: int | None = None,
    ) -> LaneExchange:
        """The same with its pieces, whether it was answered or not."""
        content = body if isinstance(body, bytes) else b"" if body is None else _json(body)
        given = {"authorization": f"Bearer {self.key if key is None else key}"}
        given |= {"content-length": str(len(content))} | dict(headers or {})
        exchange = LaneExchange(
            method or ("GET" if body is None else "POST"),
            target,
            given,
            content,
            hangs_up_after=hangs_up_after,
        )
        self.run(exchange.served_by(self.relay.front))
        return exchange

    def chat(self, model: str = "o3", text: str = "Hi", *, key: str | None = None, **more: Any):
        """A call, answered or refused."""
        messages = [{"role": "user", "content": text}]
        return self.ask(
            "/v1/chat/completions", {"model": model, "messages": messages} | more, key=key
        )

    def cli(self, *arguments: str) -> Any:
        """A command's JSON output."""
        done = self.command(*arguments, "--json")
        assert 0 == done.returncode, done.stdout + done.stderr
        return json.loads(done.stdout)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """How `merino ...` ended. It reaches this relay as it reaches others by their folder's
        socket."""
        with self.reached():
            return run_command(*arguments, "--data", str(self.data))

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Commands that run meanwhile reach this relay."""

        @asynccontextmanager
        async def transport(data: Path) -> AsyncGenerator[httpx2.AsyncBaseTransport]:
            yield httpx2.ASGITransport(self.app)

        with (
            patch.object(connection, "_transport", transport),
            patch.object(connection, "asyncio", SimpleNamespace(run=self.run)),
        ):
            yield

    def browser(self, key: str = "") -> Browser:
        return Browser(self, key)

    def balance_nanos(self, account: str = "default") -> int:
        return self.admin.get(f"/accounts/{account}").json()["balance"]["posted_nanos"]


def run_command(
    *arguments: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`merino ...` in this process; with nothing else in its environment than `environ`, if that is
    given."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    own = dict(os.environ)
    if environ is not None:
        os.environ.clear()
        os.environ.update(environ)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run(arguments)
    finally:
        os.environ.clear()
        os.environ.update(own)
    said, told = (cast("io.BytesIO", each.buffer).getvalue().decode() for each in (out, err))
    return subprocess.CompletedProcess(arguments, code, said, told)


class Client:
    """`httpx2.AsyncClient` over the relay's ASGI app, for tests that are no coroutines."""

    def __init__(self, relay: InProcess, address: str = "127.0.0.1", **options: Any) -> None:
        self._relay = relay
        transport = httpx2.ASGITransport(relay.app, client=(address, 50_000))
        self._http = httpx2.AsyncClient(
            transport=transport, **{"base_url": BASE_URL, "trust_env": False, **options}
        )
        self.cookies = self._http.cookies

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._relay.run(self._http.aclose())

    def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        return self._relay.run(self._http.request(method, path, **more))

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("POST", path, **more)


class Browser:
    """Keeps cookies and finds a page's form token, as a browser with its user would."""

    def __init__(self, relay: InProcess, key: str = "") -> None:
        self.http = relay.client(follow_redirects=True)
        if key:
            answer = self.http.post("/dashboard/sign-in", data={"key": key})
            assert 200 == answer.status_code, answer.text

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self.http.get(f"/dashboard{path}", **more)

    def csrf(self) -> str:
        return found(r'name="csrf" value="([^"]+)"', self.get("/calls").text)

    def post(self, path: str, **fields: Any) -> httpx2.Response:
        """A form with its token, unless `fields` has another one."""
        return self.http.post(f"/dashboard{path}", data={"csrf": self.csrf()} | fields)


def found(pattern: str, text: str) -> str:
    """The group of a pattern that must be there, as a browser would read it."""
    match = re.search(pattern, text)
    assert match is not None, f"no {pattern} in {text}"
    return unescape(match[1])


class Answered:
    """What came of a request of the fast lane."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, *, cut: bool) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.was_cut = cut

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json()["error"]


class LaneExchange:
    """`wire.exchange.Exchange`, and its head, in memory. `hangs_up_after`: pieces of a streamed
    answer that the client takes before it leaves."""

    def __init__(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        hangs_up_after: int | None = None,
    ) -> None:
        self.method = method.encode()
        self.target = target.encode("latin-1")
        self.headers: Headers = [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in (headers or {}).items()
        ]
        self.body = body
        self.address = "127.0.0.1"
        self.received_at = perf_counter()
        self.notes: Any = None
        self.on_writable: Callable[[bool], None] | None = None
        self.on_disconnect: Callable[[], None] | None = None
        self.is_writable = True
        self.is_disconnected = False
        self.was_cut = False
        self.pieces: list[bytes] = []
        self._hangs_up_after = hangs_up_after
        self._runner: Cancellable | None = None
        self._head: tuple[int, bytes] | None = None

    @property
    def head(self) -> LaneExchange:
        return self

    @property
    def task(self) -> Cancellable | None:
        return self._runner

    @property
    def has_started(self) -> bool:
        return self._head is not None

    def header(self, name: bytes, /) -> bytes | None:
        return next((value for each, value in self.headers if each == name), None)

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        self.start(status, head, body)

    def start(self, status: int, head: bytes, data: bytes = b"") -> None:
        assert self._head is None, "answered twice"
        self._head = status, head
        self.write(data)

    def write(self, data: bytes, /) -> None:
        if self.is_disconnected:
            return
        self.pieces.append(data)
        if self._hangs_up_after is not None and len(self.pieces) > self._hangs_up_after:
            self.hang_up()

    def finish(self, data: bytes = b"") -> None:
        self.write(data)

    def abort(self) -> None:
        self.was_cut = True

    def hang_up(self) -> None:
        self.is_disconnected = True
        if self.on_disconnect is not None:
            self.on_disconnect()

    async def served_by(self, front: Any) -> None:
        """As the fast lane's server does."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def on_end(runner: Runner, exchange: Any, error: BaseException | None) -> None:
            if error is not None:
                front.failed(exchange, error)
            ended.set_result(None)

        coroutine = front.handle(self)
        if coroutine is None:
            return
        runner = Runner(coroutine, loop, self, on_end)
        self._runner = runner
        runner.go_on()
        await ended

    @property
    def answered(self) -> Answered:
        assert self._head is not None, "not answered"
        status, head = self._head
        lines = [line.partition(": ") for line in head.decode("latin-1").split("\r\n") if line]
        fields = {name: value for name, _, value in lines}
        return Answered(status, fields, b"".join(self.pieces), cut=self.was_cut)


@contextmanager
def in_process(folder: Path, config: str = SIMULATED, **options: Any) -> Iterator[InProcess]:
    relay = InProcess(folder, config, **options)
    try:
        yield relay
    finally:
        relay.close()


def _is_of_a_command(scope: Any) -> bool:
    return scope["server"][0] == "merino"


def _json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
