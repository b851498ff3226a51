"""The dashboard over sockets: what only a process of its own can show. Its pages are tested in
`tests/unit/dashboard`."""

from __future__ import annotations

import json
import re
import signal
import time

import httpx2


def test_figures_come_while_they_change(start_relay) -> None:
    """The stream of the overview tells at once how many calls there were; the page of a chat gets
    its answer in pieces."""
    relay = start_relay("""
        [[deployments]]
        name = "slow"
        provider = "simulator"
        upstream_model = "o3-mini!output=40,chunks=4,tps=100"
        [aliases.slow]
        deployments = ["slow"]
    """)
    with relay.http(follow_redirects=True) as http:
        http.post("/dashboard/sign-in", data={"key": relay.key})
        found = re.search(r'name="csrf" value="([^"]+)"', http.get("/dashboard/calls").text)
        assert found is not None
        key = relay.cli("keys", "list")["data"][0]["id"]
        headers = {"x-csrf": found[1], "x-key": key}
        body = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        chat = "/dashboard/playground/chat"
        with http.stream("POST", chat, json=body, headers=headers) as answer:
            pieces = list(answer.iter_raw())
        assert len(pieces) > 2
        assert pieces[-1].endswith(b"data: [DONE]\n\n")
        with http.stream("GET", "/dashboard/live?window=24h") as stream:
            event = next(line for line in stream.iter_lines() if line.startswith("data:"))
    assert "1" == json.loads(event[5:])["figures"]["calls"]


def ask(relay, model: str) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    with relay.http() as http:
        return http.post("/v1/chat/completions", json=body)


def test_an_outage_is_remembered_when_the_relay_is_killed(start_relay) -> None:
    """A breaker that opened is told by the next process, with its history."""
    failing = """
        [[deployments]]
        name = "failing"
        provider = "simulator"
        upstream_model = "o3-mini!status=500"
        [status]
        public = true
    """
    relay = start_relay(failing)
    deadline = time.monotonic() + 15
    with httpx2.Client(base_url=relay.url, trust_env=False) as http:
        while not (lasting := http.get("/status.json").json()["incidents"]):
            ask(relay, "failing")
            assert time.monotonic() < deadline
    assert None is lasting[0]["ended_at"]
    relay.stop(signal.SIGKILL)
    again = start_relay(failing)
    with httpx2.Client(base_url=again.url, trust_env=False) as http:
        (told,) = http.get("/status.json").json()["incidents"]
    assert lasting[0]["began_at"] == told["began_at"]
    assert None is not told["ended_at"]
    (row,) = [row for row in again.cli("deployments", "list")["data"] if row["name"] == "failing"]
    assert ["open", "closed"] == [each["state"] for each in row["state"]["history"]]
