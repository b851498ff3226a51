"""Merino behind the proxies whose settings are in deploy/proxies: what passes, and how."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from tests.conftest import RelayProcess
from websockets.sync.client import connect

PROXIES = Path(__file__).parents[2] / "deploy" / "proxies"
CONFIG = """
[[deployments]]
name = "stepwise"
base_url = "http://127.0.0.1:{port}/v1"
credential = "env:STEPWISE_KEY"
upstream_model = "o3"
price = {{ input = 1.00, output = 10.00 }}
[aliases.stepwise]
deployments = ["stepwise"]
"""
EVENTS = 6


class Stepwise(ThreadingHTTPServer):
    """An upstream that sends an event of a stream when it is told to, and notes who hung up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.steps: queue.Queue[str] = queue.Queue()
        self.hung_up = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: Stepwise
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while (text := self.server.steps.get(timeout=30)) != "end":
            self._send(chunk(text))
        self._send('{"usage":{"prompt_tokens":3,"completion_tokens":6},"choices":[]}')
        self._send("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        try:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        except OSError:
            self.server.hung_up.set()
            raise

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.server.hung_up.set()

    def log_message(self, *_: object) -> None:
        pass


def chunk(text: str) -> str:
    return json.dumps(
        {"object": "chat.completion.chunk", "choices": [{"delta": {"content": text}}]}
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def nginx(folder: Path, relay: int) -> tuple[list[str], int]:
    """The file as it is, but for the ports and TLS."""
    port = free_port()
    text = (PROXIES / "nginx.conf").read_text()
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{relay}")
    text = re.sub(r"listen 443 ssl http2;", f"listen 127.0.0.1:{port};", text)
    text = re.sub(r" *ssl_certificate.*\n", "", text)
    spool = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr;\nevents {{}}\n"
        f"http {{ access_log off;\n{spool}{text}}}\n"
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], port


def caddy(folder: Path, relay: int) -> tuple[list[str], int]:
    port = free_port()
    text = (PROXIES / "Caddyfile").read_text()
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{relay}")
    text = text.replace("relay.example.org {", f"http://127.0.0.1:{port} {{")
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{text}")
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    return command, port


@contextmanager
def running(
    make: Callable[[Path, int], tuple[list[str], int]], folder: Path, relay: int
) -> Iterator[str]:
    command, port = make(folder, relay)
    environ = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environ)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Stepwise]:
    server = Stepwise()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def relay(tmp_path_factory, upstream) -> Iterator[RelayProcess]:
    config = CONFIG.format(port=upstream.server_address[1])
    folder = tmp_path_factory.mktemp("relay") / "data"
    process = RelayProcess(folder, config, {"STEPWISE_KEY": "sk-x"}).start()
    yield process
    process.stop()


@pytest.fixture(scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def proxy(request, tmp_path_factory, relay) -> Iterator[str]:
    if shutil.which(request.param.__name__) is None:
        pytest.skip(f"{request.param.__name__} is not installed")
    port = int(relay.url.rpartition(":")[2])
    with running(request.param, tmp_path_factory.mktemp("proxy"), port) as url:
        yield url


@pytest.fixture
def http(proxy, relay) -> Iterator[httpx2.Client]:
    headers = {"authorization": f"Bearer {relay.key}"}
    with httpx2.Client(base_url=proxy, headers=headers, timeout=20, trust_env=False) as client:
        yield client


BODY = {"model": "stepwise", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def test_an_event_is_through_before_the_next_is_sent(http, upstream) -> None:
    """The upstream sends one only when the caller has the one before: a proxy that waits for more
    would wait for ever."""
    upstream.steps.put("word 0")  # the relay's head goes out with the first event
    with http.stream("POST", "/v1/chat/completions", json=BODY) as answer:
        lines = answer.iter_lines()
        for number in range(EVENTS):
            if number:
                upstream.steps.put(f"word {number}")
            assert any(f"word {number}" in line for line in lines)
        upstream.steps.put("end")
        assert any("[DONE]" in line for line in lines)
    assert 200 == answer.status_code


def test_a_hang_up_reaches_the_upstream(http, upstream) -> None:
    """Whoever leaves through the proxy stops the work that they no longer pay for."""
    upstream.hung_up.clear()
    upstream.steps.put("word")
    with http.stream("POST", "/v1/chat/completions", json=BODY) as answer:
        assert any("word" in line for line in answer.iter_lines())
    while not upstream.hung_up.wait(0.01):
        upstream.steps.put("more")  # writing is how it notices
    while not upstream.steps.empty():
        upstream.steps.get()


def test_a_large_body_passes(http) -> None:
    """The relay's own limit is the one that counts: a body of 3 MB is refused by nobody."""
    body = {"model": "sim/o3", "messages": [{"role": "user", "content": "wool " * 600_000}]}
    answer = http.post("/v1/chat/completions", json={**body, "max_completion_tokens": 5})
    assert answer.status_code != 413
    assert "x-request-id" in answer.headers


def test_answers_come_as_they_are(http, relay) -> None:
    """Status, headers and body are those of the relay."""
    body = {"model": "nothing", "messages": [{"role": "user", "content": "hi"}]}
    through = http.post("/v1/chat/completions", json=body)
    with relay.http() as direct:
        same = direct.post("/v1/chat/completions", json=body)
    assert (404, same.json()) == (through.status_code, through.json())
    assert same.headers["content-type"] == through.headers["content-type"]


def test_a_websocket_passes(proxy, relay) -> None:
    """The Responses API's socket is opened and answers."""
    url = proxy.replace("http", "ws") + "/v1/responses"
    headers = {"Authorization": f"Bearer {relay.key}"}
    with connect(url, additional_headers=headers, proxy=None) as socket:
        socket.send(json.dumps({"type": "response.create", "model": "sim/o3-mini", "input": "hi"}))
        kinds = []
        while not kinds or kinds[-1] not in {"response.completed", "error"}:
            kinds.append(json.loads(socket.recv(timeout=20))["type"])
    assert ("response.created", "response.completed") == (kinds[0], kinds[-1])


@pytest.mark.parametrize("path", ["/metrics", "/admin/v1/accounts", "/admin/v1/openapi.json"])
def test_what_is_for_operators_stays_inside(http, path) -> None:
    """Metrics and the admin API are not for everybody; the dashboard asks who comes."""
    assert 403 == http.get(path).status_code
    assert 200 == http.get("/dashboard/sign-in").status_code
    assert 200 == http.get("/livez").status_code
