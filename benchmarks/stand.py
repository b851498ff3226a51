"""The stand the relay is measured on: the same mock upstream behind nginx and behind the relay.

Gateways run on core 0; the mock and the load on core 1. With one core all share it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
GATEWAY_CORE, LOAD_CORE = CORES[0], CORES[-1]
HERE = Path(__file__).parent
START_TIMEOUT_S = 20.0

ANSWER = json.dumps(
    {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "o3",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "A flock keeps together. " * 28},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 180,
            "completion_tokens": 140,
            "total_tokens": 320,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
        },
    },
    separators=(",", ":"),
)


def request_body(*, streamed: bool) -> bytes:
    """About 950 bytes, as an ordinary short chat."""
    body: dict[str, object] = {
        "model": "o3",
        "messages": [
            {"role": "developer", "content": "You are a shepherd. " * 20},
            {"role": "user", "content": "How do I keep my flock together? " * 12},
        ],
        "max_completion_tokens": 500,
    }
    if streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    # Without spaces, as the openai package sends it.
    return json.dumps(body, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Gateway:
    name: str
    port: int
    pid: int
    key: str = "none"
    headers: tuple[tuple[str, str], ...] = ()
    """What it wants to be told besides."""
    path: str = "/v1/chat/completions"
    body: bytes = b""
    """What is asked; empty: an ordinary short chat."""


def on_core(core: int, command: list[str], **options: object) -> subprocess.Popen[str]:
    pinned = ["taskset", "-c", str(core), *command]
    return subprocess.Popen(pinned, text=True, **options)  # type: ignore[call-overload]


@contextmanager
def stopping(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(
    port: int, process: subprocess.Popen[str], *, timeout_s: float = START_TIMEOUT_S
) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise SystemExit(f"{process.args!r} does not listen on port {port}")


NGINX = """
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000000; default_type application/json;
    client_body_temp_path {folder}/{name}.body; proxy_temp_path {folder}/{name}.proxy;
    fastcgi_temp_path {folder}/{name}.f; uwsgi_temp_path {folder}/{name}.u;
    scgi_temp_path {folder}/{name}.s;
    {rest}
}}
"""


@contextmanager
def nginx(folder: Path, name: str, port: int, core: int, rest: str) -> Iterator[Gateway]:
    config = folder / f"{name}.conf"
    config.write_text(NGINX.format(folder=folder, name=name, rest=rest))
    command = ["nginx", "-p", str(folder), "-c", str(config), "-e", str(folder / "nginx.log")]
    with stopping(on_core(core, command)) as process:
        wait_for_port(port, process)
        yield Gateway(name, port, process.pid)


@contextmanager
def json_upstream(folder: Path) -> Iterator[int]:
    port = free_port()
    server = f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{ANSWER}'; }} }}"
    with nginx(folder, "upstream", port, LOAD_CORE, server):
        yield port


@contextmanager
def streaming_upstream() -> Iterator[int]:
    port = free_port()
    command = [sys.executable, str(HERE / "upstream.py"), str(port)]
    with stopping(on_core(LOAD_CORE, command)) as process:
        wait_for_port(port, process)
        yield port


@contextmanager
def nginx_gateway(folder: Path, upstream_port: int) -> Iterator[Gateway]:
    port = free_port()
    rest = f"""
    upstream mock {{ server 127.0.0.1:{upstream_port}; keepalive 256;
                     keepalive_requests 1000000000; }}
    server {{ listen 127.0.0.1:{port};
        location / {{ proxy_pass http://mock; proxy_http_version 1.1;
                      proxy_set_header Connection ""; proxy_buffering off; }} }}"""
    with nginx(folder, f"nginx-{port}", port, GATEWAY_CORE, rest) as gateway:
        yield Gateway("nginx proxy_pass", gateway.port, gateway.pid)


RELAY = """
[credits]
start = "1000000000"
[[deployments]]
name = "mock"
base_url = "http://127.0.0.1:{upstream_port}/v1"
credential = "env:MOCK_CREDENTIAL"
upstream_model = "o3"
[aliases.o3]
deployments = ["mock"]
"""


@contextmanager
def relay_gateway(
    folder: Path,
    upstream_port: int,
    *,
    data: str = "data",
    key: str = "",
    sources: Path | None = None,
) -> Iterator[Gateway]:
    """The relay as users start it. `key` is needed for a data folder that exists already;
    `sources` is where the package lies, if not where it is installed."""
    config = folder / f"relay-{upstream_port}.toml"
    config.write_text(RELAY.format(upstream_port=upstream_port))
    command = [sys.executable, "-m", "merino", "serve", "--port", "0"]
    command += ["--data", str(folder / data), "--config", str(config)]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MERINO_")
    } | {"MOCK_CREDENTIAL": "sk-mock"}
    if sources is not None:
        environment["PYTHONPATH"] = str(sources)
    with (folder / "relay.log").open("a") as log:
        process = on_core(
            GATEWAY_CORE, command, stdout=subprocess.PIPE, stderr=log, env=environment
        )
    with stopping(process):
        assert process.stdout is not None
        port = 0
        for line in process.stdout:
            if found := re.search(r"Listening on http://\S+:(\d+)", line):
                port = int(found[1])
            elif found := re.search(r"\bmk-\S+", line):
                key = found[0]
            if port and key:
                break
        else:
            raise SystemExit(f"The relay did not start:\n{(folder / 'relay.log').read_text()}")
        yield Gateway("merino", port, process.pid, key)
        process.stdout.close()
