"""The way to upstreams through a real relay: standing still, renewed certificates, proxies."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.authority import make_authority

DEPLOYMENT = """
[[deployments]]
name = "up"
base_url = "{url}/v1"
upstream_model = "m"
price = {{ input = 1.00, output = 10.00 }}
{more}
"""
STRICT = "[retries]\nattempts_max = 1\n[breaker]\nconsecutive_failures = 1\n"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
MESSAGE = {"role": "assistant", "content": "Hello there."}
ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": USAGE,
}


class Upstream(ThreadingHTTPServer):
    """Answers what it is told by the message: `pause S` before an answer, `stream`, `gzip`."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.context = context
        self.is_asked = threading.Semaphore(0)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def get_request(self):
        connection, address = super().get_request()
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True)
        return connection, address

    def handle_error(self, request, client_address) -> None:
        pass

    @property
    def url(self) -> str:
        return f"http{'' if self.context is None else 's'}://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        what, _, how = body["messages"][0]["content"].partition(" ")
        self.server.is_asked.release()
        if what == "stream":
            self.stream(float(how))
            return
        if what == "pause":
            time.sleep(float(how))
        data = json.dumps(ANSWER).encode()
        self.send_response(200)
        if what == "gzip":
            data = gzip.compress(data)
            self.send_header("Content-Encoding", "GZip")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def stream(self, pause_s: float) -> None:
        packer = zlib.compressobj(wbits=31)
        self.send_response(200)
        self.send_header("content-type", "Text/Event-Stream")
        self.send_header("content-encoding", "gzip")
        self.send_header("connection", "close")
        self.end_headers()
        for text in ("Hello", " there", "."):
            delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
            self.event(packer, json.dumps({"id": "c", "choices": [delta]}))
            time.sleep(pause_s)
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self.event(packer, json.dumps({"id": "c", "choices": [last]}))
        self.event(packer, json.dumps({"id": "c", "choices": [], "usage": USAGE}))
        self.event(packer, "[DONE]")
        self.wfile.write(packer.flush())
        self.close_connection = True

    def event(self, packer, data: str) -> None:
        packed = packer.compress(f"data: {data}\n\n".encode())
        self.wfile.write(packed + packer.flush(zlib.Z_SYNC_FLUSH))
        self.wfile.flush()

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def upstream():
    with Upstream() as server:
        yield server
        server.shutdown()


def body(text: str, **more):
    return {"model": "up", "messages": [{"role": "user", "content": text}], **more}


def test_a_relay_that_stood_still(start_relay, upstream) -> None:
    """A stopped process that goes on answers its calls, whose limits have long passed by the
    clock, and blames no upstream for the time."""
    limits = "first_token_timeout_s = 1.5\nidle_timeout_s = 1.5\nanswer_timeout_s = 1.5"
    relay = start_relay(DEPLOYMENT.format(url=upstream.url, more=limits) + STRICT)
    asked = (body("stream 0.4", stream=True), body("pause 1"), body("pause 0.6"))
    found: list[tuple[int, bool]] = []

    def call(what) -> None:
        with relay.http() as http:
            answer = http.post("/v1/chat/completions", json=what)
            found.append((answer.status_code, b"Hello" in answer.content))

    calls = [threading.Thread(target=call, args=(each,)) for each in asked]
    for each in calls:
        each.start()
    for _ in calls:
        assert upstream.is_asked.acquire(timeout=10)
    relay.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(2.5)
    finally:
        relay.process.send_signal(signal.SIGCONT)
    for each in calls:
        each.join(20)
    assert [(200, True)] * 3 == found
    with relay.http() as http:
        assert 200 == http.post("/v1/chat/completions", json=body("gzip")).status_code
    assert "breaker changed" not in relay.errors()


def test_a_renewed_authority_by_reload(start_relay, tmp_path) -> None:
    """After SIGHUP the new file counts; one that is no certificate refuses the reload and leaves
    the old one in force."""
    (tmp_path / "new").mkdir()
    trusted, old = make_authority(tmp_path)
    renewed, new = make_authority(tmp_path / "new")
    with Upstream(old) as server:
        relay = start_relay(DEPLOYMENT.format(url=server.url, more=f'ca_file = "{trusted}"'))

        def status(expected_log: str | None = None) -> int:
            if expected_log is not None:
                seen = len(relay.errors())
                relay.process.send_signal(signal.SIGHUP)
                deadline = time.monotonic() + 10
                while expected_log not in relay.errors()[seen:]:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            with relay.http() as http:
                return http.post("/v1/chat/completions", json=body("now")).status_code

        assert 200 == status()
        Path(trusted).write_text("nothing of the kind")
        assert 200 == status("not reloaded")
        assert trusted in relay.errors()
        shutil.copy(renewed, trusted)
        server.context = new
        assert 200 == status("settings reloaded")
        server.shutdown()


def start(relay_folder, config: str, **env: str) -> subprocess.CompletedProcess[str]:
    path = relay_folder / "merino.toml"
    path.write_text(config)
    kept = {n: v for n, v in os.environ.items() if not n.lower().endswith("_proxy")}
    return subprocess.run(
        [
            *(sys.executable, "-m", "merino", "config", "check", "--config", str(path)),
            *("--data", str(relay_folder / "data")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=kept | env,
    )


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({"HTTPS_PROXY": "socks5://me:secret@127.0.0.1:1080"}, 2),
        ({"all_proxy": "https://me:secret@127.0.0.1:1080"}, 2),
        ({"HTTP_PROXY": "socks5://127.0.0.1:1080"}, 0),
        ({"HTTPS_PROXY": "socks5://127.0.0.1:1080", "NO_PROXY": "10.0.0.0/8, .test"}, 0),
        ({"HTTPS_PROXY": "http://127.0.0.1:1080"}, 0),
    ],
)
def test_proxies_that_are_not_spoken(tmp_path, env, code) -> None:
    """They are refused before anything is sent, if a deployment is behind one; its password is not
    shown."""
    done = start(tmp_path, DEPLOYMENT.format(url="https://llm.test", more=""), **env)
    assert code == done.returncode, done.stderr
    if code:
        assert "NO_PROXY" in done.stderr
        assert next(iter(env)) in done.stderr
        assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
