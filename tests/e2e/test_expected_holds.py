"""Holding what calls usually cost (`hold.mode = "expected"`): the overdraft takes what is above."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from tests.conftest import RelayProcess
from tests.fake_server import FakeServer, fake_server

CONFIG = """
[hold]
mode = "expected"
wait_s = 0.2

[[deployments]]
name = "m"
base_url = "{url}/v1"
credential = "env:UPSTREAM_KEY"
upstream_model = "m"
price = {{ input = 1.00, output = 10.00 }}

[aliases.m]
deployments = ["m"]
"""
SLOW = """
[hold]
mode = "expected"
wait_s = 0.2

[[deployments]]
name = "m"
provider = "simulator"
upstream_model = "plain!input=7,output=900,tps=2000"
price = { input = 1.00, output = 10.00 }

[aliases.m]
deployments = ["m"]
"""
USUAL_TOKENS = 10
INPUT_TOKENS = 7
INPUT_NANOS, OUTPUT_NANOS = 1_000, 10_000
LIMIT_TOKENS = 1_000
WORST_NANOS = LIMIT_TOKENS * OUTPUT_NANOS
PATH = "/v1/chat/completions"


def cost_nanos(output_tokens: int) -> int:
    return INPUT_TOKENS * INPUT_NANOS + output_tokens * OUTPUT_NANOS


def usage(output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": output_tokens,
        "total_tokens": INPUT_TOKENS + output_tokens,
    }


def answer_with(upstream: FakeServer, output_tokens: int) -> None:
    message = {"role": "assistant", "content": "baa " * (output_tokens // 2)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    upstream.answers[PATH] = (200, body | {"choices": [choice], "usage": usage(output_tokens)})
    upstream.headers["content-type"] = "application/json"


def stream_with(upstream: FakeServer, output_tokens: int) -> None:
    body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks: list[dict[str, object]] = [
        {"choices": [{"index": 0, "delta": {"content": "baa "}, "finish_reason": None}]}
        for _ in range(output_tokens)
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({"choices": [], "usage": usage(output_tokens)})
    events = [f"data: {json.dumps(body | chunk)}\n\n" for chunk in chunks]
    upstream.answers[PATH] = (200, "".join(events) + "data: [DONE]\n\n")
    upstream.headers["content-type"] = "text/event-stream"


@pytest.fixture
def upstream() -> Iterator[FakeServer]:
    with fake_server({}) as server:
        yield server


@pytest.fixture
def relay(start_relay: Callable[..., RelayProcess], upstream: FakeServer) -> RelayProcess:
    """A relay that has seen what such calls usually use."""
    config = CONFIG.format(url=upstream.address)
    relay = start_relay(config, env={"UPSTREAM_KEY": "sk-x"})
    answer_with(upstream, USUAL_TOKENS)
    with relay.http() as http:
        for _ in range(20):
            assert 200 == call(http).status_code
    return relay


def call(http: httpx2.Client, **more: object) -> httpx2.Response:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": LIMIT_TOKENS,
    }
    return http.post("/v1/chat/completions", json=body | more)


def account(relay: RelayProcess, credit: str, overdraft: str) -> dict[str, str]:
    """The headers of a key of an account with so much."""
    relay.cli("accounts", "create", "--name", "thin", "--overdraft", overdraft)
    relay.cli("accounts", "credit", "thin", credit)
    key = relay.cli("keys", "create", "--account", "thin", "--name", "thin")["key"]
    return {"authorization": f"Bearer {key}"}


def entries(relay: RelayProcess) -> dict[str, int]:
    """What was booked of the account's calls, by kind."""
    found: dict[str, int] = {}
    for each in relay.cli("entries", "list", "--account", "thin", "--limit", "1000")["data"]:
        if each["call_id"]:
            found[each["kind"]] = found.get(each["kind"], 0) + each["amount_nanos"]
    return found


def test_the_overdraft_takes_what_is_above_the_usual(
    relay: RelayProcess, upstream: FakeServer
) -> None:
    """A call whose worst case does not fit goes out on what it usually costs, unclamped; what it
    costs above is an overrun, which the overdraft takes; then the account has nothing left."""
    thin = account(relay, "0.005", "0.004")
    seen = len(upstream.seen)
    with relay.http() as http:
        http.headers.update(thin)
        usual = call(http)
        answer_with(upstream, 800)
        above = call(http)
        call_of = newest(relay)
        answer_with(upstream, USUAL_TOKENS)
        after = [call(http) for _ in range(10)]
        refused = [each for each in after if each.status_code != 200]

    assert 200 == usual.status_code == above.status_code
    assert "x-merino-adjusted" not in above.headers
    assert cost_nanos(800) == call_of["charged_nanos"]
    assert WORST_NANOS > call_of["held_nanos"]
    overrun_nanos = cost_nanos(800) - call_of["held_nanos"]
    assert overrun_nanos > 0
    assert overrun_nanos == entries(relay)["overrun"]

    answered = 2 + len(after) - len(refused)
    balance = relay.cli("accounts", "show", "thin")["balance"]
    assert seen + answered == len(upstream.seen)
    charged_nanos = cost_nanos(800) + (answered - 1) * cost_nanos(USUAL_TOKENS)
    assert 5_000_000 - charged_nanos == balance["posted_nanos"]
    assert -4_000_000 <= balance["posted_nanos"] < 0
    assert 0 == balance["held_nanos"]
    assert refused
    assert {(429, "insufficient_quota")} == {
        (each.status_code, each.json()["error"]["code"]) for each in refused
    }
    assert {"false"} == {each.headers["x-should-retry"] for each in refused}
    assert [] == relay.cli("ledger", "verify")["differences"]


def test_a_stream_above_the_usual_grows_its_hold(relay: RelayProcess, upstream: FakeServer) -> None:
    """A stream that goes above what it was held for takes more as it comes, to its end, and the
    books say what it cost."""
    thin = account(relay, "0.005", "0.004")
    stream_with(upstream, 600)
    with relay.http() as http:
        http.headers.update(thin)
        text = call(http, stream=True).text
        found = http.get(f"/v1/calls/{newest(relay)['id']}").json()
    assert text.rstrip().endswith("data: [DONE]")
    assert ("settled", cost_nanos(600)) == (found["resolution"], found["cost_nanos"])
    assert 5_000_000 - cost_nanos(600) == relay.balance_nanos("thin")
    assert cost_nanos(600) == sum(entries(relay).values())
    assert [] == relay.cli("ledger", "verify")["differences"]


def test_a_stream_that_outgrows_balance_and_overdraft_is_cut(relay: RelayProcess) -> None:
    """Where the balance cannot grow the hold any more the stream ends with an error event, and what
    came so far is paid, not more than there was."""
    assert 0 == relay.stop()
    relay.config.write_text(SLOW)
    relay.start()
    thin = account(relay, "0.002", "0.001")
    ask = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": LIMIT_TOKENS,
        "stream": True,
    }
    lines: list[str] = []
    with relay.http() as http:
        http.headers.update(thin)
        with (
            http.stream("POST", PATH, json=ask) as answer,
            pytest.raises(httpx2.RemoteProtocolError),
        ):
            lines.extend(answer.iter_lines())
    assert any("insufficient_quota" in line for line in lines[-4:]), lines[-4:]
    assert "data: [DONE]" not in lines
    call_of = newest(relay)
    assert ("settled", "insufficient_quota") == (call_of["resolution"], call_of["error_code"])
    assert -1_000_000 <= relay.balance_nanos("thin") < 0
    assert sum(entries(relay).values()) == call_of["charged_nanos"]
    assert [] == relay.cli("ledger", "verify")["differences"]


def newest(relay: RelayProcess) -> dict[str, Any]:
    return relay.cli("calls", "list", "--account", "thin", "--limit", "1")["data"][0]


def test_what_was_learned_outlives_a_restart(relay: RelayProcess, upstream: FakeServer) -> None:
    """After an orderly stop the next start estimates, and holds, by what was seen before."""
    ask = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    with relay.http() as http:
        before = http.post("/v1/estimate", json=ask).json()
    assert 0 == relay.stop()
    relay.start()
    with relay.http() as http:
        after = http.post("/v1/estimate", json=ask).json()
    thin = account(relay, "0.0005", "0")
    with relay.http() as http:
        http.headers.update(thin)
        answer = call(http)
    relay.stop(signal.SIGKILL)
    relay.start()
    with relay.http() as http:
        again = http.post("/v1/estimate", json=ask).json()

    assert before == after == again
    assert (200, None) == (answer.status_code, answer.headers.get("x-merino-adjusted"))
    assert len(upstream.seen) == 21
