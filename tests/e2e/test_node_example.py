"""The Node.js example as its readers run it: compiled, against a relay and a server that refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "node"
PACKAGES = ROOT / ".venv" / "node" / "node_modules"
RELAY = """
[[deployments]]
name = "good"
provider = "simulator"
upstream_model = "plain!ttft=20ms"
price = { input = 1, output = 1 }
[aliases.o3-mini]
deployments = ["good"]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example in a folder of its own, its types checked."""
    if shutil.which("node") is None:
        pytest.skip("there is no Node.js")
    if not (PACKAGES / "openai").exists():
        pytest.skip(f"the npm packages are not in {PACKAGES}; `make .venv/.tested` installs them")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "tsconfig.json"):
        shutil.copy(EXAMPLE / name, folder)
    shutil.copytree(EXAMPLE / "src", folder / "src")
    (folder / "node_modules").symlink_to(PACKAGES)
    done = subprocess.run(
        ["node", str(PACKAGES / "typescript" / "bin" / "tsc")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (0, "") == (done.returncode, done.stdout)
    return folder


def run(folder: Path, base_url: str, key: str, prompts: list[str], **environment: str):
    """The example's answers, its status and its exit code."""
    done = subprocess.run(
        ["node", "dist/main.js"],
        cwd=folder,
        env=os.environ | {"MERINO_API_KEY": key, "MERINO_BASE_URL": base_url} | environment,
        input="\n".join(prompts),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr.startswith("Status: "), done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return answers, json.loads(done.stderr.removeprefix("Status: ")), done.returncode


@dataclass
class Seen:
    """What a server saw: how many calls at once at most, and every key and time by prompt."""

    at_once: int = 0
    at_once_most: int = 0
    calls: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""


@contextmanager
def refusing() -> Iterator[Seen]:
    """A server that takes 20 ms a call, refuses each prompt once with a time to come back, and those
    that say "never" for good."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            prompt = body["messages"][0]["content"]
            with seen.lock:
                seen.at_once += 1
                seen.at_once_most = max(seen.at_once_most, seen.at_once)
                before = seen.calls.setdefault(prompt, [])
                before.append((self.headers["idempotency-key"], time.monotonic()))
                is_first = len(before) == 1
            time.sleep(0.02)
            with seen.lock:
                seen.at_once -= 1
            if "never" in prompt:
                self.answer(400, {"error": {"message": "not like this", "code": None}})
            elif is_first:
                error = {"error": {"message": "too much", "code": None}}
                self.answer(429, error, {"retry-after-ms": "120"})
            else:
                message = {"role": "assistant", "content": f"re: {prompt}"}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                self.answer(200, {"id": "x", "model": "m", "choices": [choice]})

        def answer(self, status: int, body: dict, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)


def test_a_batch_through_a_relay(start_relay, built) -> None:
    """Every prompt is answered, in order, and the relay was paid once for each."""
    relay = start_relay(RELAY)
    prompts = [f"Prompt number {number}" for number in range(60)]
    answers, status, code = run(built, f"{relay.url}/v1", relay.key, prompts)
    assert (0, {"queued": 0, "running": 0, "completed": 60, "failed": 0}) == (code, status)
    assert 60 == len(answers)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert f'"{prompt}"' in answer["content"]
    assert 60 == len(relay.cli("calls", "list", "--limit", "100")["data"])
    assert relay.cli("ledger", "verify")["ok"]


def test_limits_retries_and_failures(built) -> None:
    """Never more calls at once than allowed; a refused call is tried again, under its key and not
    before it is told to; one that fails for good stands in its place among the answers."""
    prompts = [f"never {number}" if number % 5 == 2 else f"ask {number}" for number in range(20)]
    with refusing() as seen:
        answers, status, code = run(built, seen.url, "k", prompts, MAX_CONCURRENT="4")
    assert (1, 16, 4) == (code, status["completed"], status["failed"])
    assert 4 == seen.at_once_most
    for prompt, answer in zip(prompts, answers, strict=True):
        calls = seen.calls[prompt]
        if "never" in prompt:
            assert ("400 not like this", 1) == (answer["error"], len(calls))
        else:
            assert (f"re: {prompt}", 2) == (answer["content"], answer["attempts"])
            (first_key, first_s), (second_key, second_s) = calls
            assert first_key == second_key
            assert 0.12 <= second_s - first_s


def test_the_lock_names_no_registry() -> None:
    """What is installed is pinned by its hash, wherever it is fetched from."""
    text = (EXAMPLE / "package-lock.json").read_text()
    assert "resolved" not in text
    assert "://" not in text
    for name, package in json.loads(text)["packages"].items():
        assert not name or package["integrity"].startswith("sha512-")
