"""Each provider's recipe in the documentation, tried on a stand-in for it."""

from __future__ import annotations

import json
import re
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.conftest import RelayProcess
from tests.in_process import run_command

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "providers.md"
RECIPES = {
    found[1]: found[2]
    for found in re.finditer(
        r"^## ([^\n]+)\n(?:(?!^## ).)*?^```toml\n(.*?)^```",
        PAGE.read_text(),
        re.DOTALL | re.MULTILINE,
    )
}
ANSWERS: dict[str, Any] = {
    "chat/completions": {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "wool"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    },
    "messages": {
        "id": "msg_x",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "wool"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5},
    },
}


class StandIn(ThreadingHTTPServer):
    """All providers at once: the first part of the path is whose place it takes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, dict[str, str], Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, headers, body))
        kind = next(kind for kind in ANSWERS if self.path.endswith(kind))
        raw = json.dumps(ANSWERS[kind]).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def relay(tmp_path_factory, stand_in) -> Iterator[RelayProcess]:
    """One relay with all recipes in its file, at the stand-in instead of at the providers."""
    texts = [text for name, text in RECIPES.items() if not name.startswith("Several")]
    place = f"http://127.0.0.1:{stand_in.server_address[1]}/"
    config = re.sub(r"https?://(?=[^\"]+/)(?!relay\.example)", place, "\n".join(texts))
    # Whose prices hold is known by the address, which is another one here.
    config = re.sub(
        r"^(upstream_model = .*\n)(?!(?:(?!\[\[).*\n)*price = )",
        r"\1price = { input = 1.00, output = 2.00 }\n",
        config,
        flags=re.MULTILINE,
    )
    variables = dict.fromkeys(re.findall(r"env:(\w+)", config), "")
    environ = {name: f"secret-of-{name}" for name in variables}
    folder = tmp_path_factory.mktemp("recipes") / "data"
    process = RelayProcess(folder, config, environ).start()
    yield process
    process.stop()


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith("Several")])
def test_a_call_arrives_as_the_provider_wants_it(name, relay, stand_in) -> None:
    """At its address, with its credential where it looks for it, and its name of the model; and
    the call is answered and charged."""
    [deployment] = tomllib.loads(RECIPES[name])["deployments"]
    stand_in.seen.clear()
    with relay.http() as http:
        body = {"model": deployment["name"], "messages": [{"role": "user", "content": "hi"}]}
        answer = http.post("/v1/chat/completions", json=body)
    assert 200 == answer.status_code, answer.text
    assert "wool" == answer.json()["choices"][0]["message"]["content"]
    [(path, headers, sent)] = stand_in.seen
    address = urlsplit(deployment["base_url"])
    is_anthropic = deployment.get("provider") == "anthropic"
    kind = "messages" if is_anthropic else "chat/completions"
    assert f"/{address.netloc}{address.path}/{kind}" == path
    assert deployment["upstream_model"] == sent["model"]
    credential = deployment.get("credential", "").removeprefix("env:")
    if is_anthropic:
        assert f"secret-of-{credential}" == headers["x-api-key"]
    elif credential:
        assert f"Bearer secret-of-{credential}" == headers["authorization"]
    else:
        assert "authorization" not in headers
    for header, value in deployment.get("headers", {}).items():
        wanted = f"secret-of-{value[4:]}" if value.startswith("env:") else value
        assert wanted == headers[header.lower()]
    if deployment.get("price", {}).get("output") != 0:
        assert float(answer.headers["x-merino-cost"]) > 0


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_without_fault(name, tmp_path) -> None:
    """As it stands, its settings are right and its model has a price: its own, or the book's."""
    path = tmp_path / "merino.toml"
    path.write_text(RECIPES[name])
    variables = re.findall(r"env:(\w+)", RECIPES[name])
    environ = {**dict.fromkeys(variables, "x"), "PATH": "/usr/bin"}
    checked = run_command("config", "check", "--config", str(path), environ=environ)
    assert (0, "") == (checked.returncode, checked.stderr)
    assert "price" not in checked.stdout


def test_there_are_ten_and_more() -> None:
    """A page of recipes that nobody tries would not be noticed."""
    assert len(RECIPES) >= 12
