"""Responses in the background are billed for what they used, whenever the relay dies."""

from __future__ import annotations

import contextlib
import random
import signal
import time

import httpx2
import pytest
from tests.conftest import KILLS

from merino.simulator.server import simulator_in_thread

CONFIG = """
{section}
[credits]
start = 1000

[[deployments]]
name = "far"
base_url = "{url}"
upstream_model = "plain!input=7,output=11,ttft=2ms,tps=20"
price = {{ input = 1.00, output = 10.00 }}
account_price = {{ input = 1.00, output = 10.00 }}

[aliases.far]
deployments = ["far"]
"""
AT_ONCE = 3


@pytest.mark.parametrize("section", ["", '[responses]\nstore = "relay"'], ids=["native", "relay"])
def test_kill_nine_in_the_background(start_relay, section) -> None:
    """Killed over and over while responses are made: each that was taken ends, an upstream's as it
    would have; each is settled once, by what its own object says; no hold is left."""
    rng = random.Random(20261129)
    taken: dict[str, str] = {}
    with simulator_in_thread() as upstream:
        relay = start_relay(CONFIG.format(url=upstream.base_url, section=section))
        key = relay.key
        for _ in range(KILLS):
            with _http(relay.url, key) as http, contextlib.suppress(httpx2.TransportError):
                for _ in range(AT_ONCE):
                    body = {"model": "far", "input": "Hi", "background": True}
                    answer = http.post("/v1/responses", json=body)
                    assert 200 == answer.status_code, answer.text
                    taken[answer.json()["id"]] = answer.headers["x-request-id"]
                    time.sleep(rng.uniform(0, 0.25))
            relay.stop(signal.SIGKILL)
            relay.start()
        assert KILLS * AT_ONCE == len(taken)
        ended = []
        with _http(relay.url, key) as http:
            for response_id, call_id in taken.items():
                found = _ended(http, response_id)
                ended.append(found["status"])
                call = _settled(http, call_id)
                usage = found["usage"] or {"input_tokens": 0, "output_tokens": 0}
                used = (usage["input_tokens"], usage["output_tokens"])
                assert used == (call["usage"]["input_tokens"], call["usage"]["output_tokens"])
                assert used[0] * 1_000 + used[1] * 10_000 == call["cost_nanos"]
        assert {"completed", "failed"} >= set(ended)
        if not section:
            assert {"completed"} == set(ended)
        spent = sum(call["cost_nanos"] for call in _calls(relay, taken.values(), key))
        account = relay.cli("accounts", "show", "default")["balance"]
        assert 0 == account["held_nanos"]
        assert spent == 1000 * 10**9 - account["posted_nanos"]
        assert [] == relay.cli("ledger", "verify")["differences"]
        relay.stop()


def _http(url: str, key: str) -> httpx2.Client:
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.Client(base_url=url, timeout=20, trust_env=False, headers=headers)


def _calls(relay, call_ids, key):
    with _http(relay.url, key) as http:
        return [http.get(f"/v1/calls/{each}").json() for each in call_ids]


def _ended(http: httpx2.Client, response_id: str):
    for _ in range(400):
        found = http.get(f"/v1/responses/{response_id}").json()
        assert "id" in found, found
        if found.get("status") not in ("queued", "in_progress"):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{response_id} did not end")


def _settled(http: httpx2.Client, call_id: str):
    for _ in range(400):
        answer = http.get(f"/v1/calls/{call_id}")
        if answer.status_code == 200:
            return answer.json()
        time.sleep(0.05)
    raise AssertionError(f"{call_id} was not settled")
