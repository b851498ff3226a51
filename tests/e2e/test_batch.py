"""The batch runner as its users run it: a process of its own against a relay or a simulator."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from tests.batch_lines import ids, lines
from tests.conftest import KILLS
from tests.in_process import run_command

RELAY = """
[[deployments]]
name = "d"
provider = "simulator"
upstream_model = "{model}"
price = {{ input = 1, output = 1 }}
[aliases.o3]
deployments = ["d"]
"""


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "merino", "batch", "run", *map(str, arguments)]


def environ(base_url: str, key: str = "k") -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return kept | {"MERINO_BASE_URL": base_url, "MERINO_API_KEY": key}


def run(base_url, *arguments, key="k", code=0) -> dict:
    """In this process: what ends it from outside has processes of its own."""
    given = ("batch", "run", *map(str, arguments), "--json")
    done = run_command(*given, environ=environ(base_url, key))
    assert code == done.returncode, done.stderr
    return json.loads(done.stdout)


def test_whole_batch(start_relay, tmp_path) -> None:
    """Every call has one result in OpenAI's format, and the cost is what the ledger says."""
    relay = start_relay(RELAY.format(model="plain"))
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(lines(200))
    found = run(f"{relay.url}/v1", source, "-o", out, "--in-order", key=relay.key)
    assert (200, 200, 0) == (found["items"], found["succeeded"], found["failed"])
    assert [f"call-{number}" for number in range(200)] == ids(out)
    first = json.loads(out.read_text().splitlines()[0])
    assert {"id", "custom_id", "response", "error"} == set(first)
    assert (200, None) == (first["response"]["status_code"], first["error"])
    assert first["response"]["body"]["choices"][0]["message"]["content"]
    spent = 5_000_000_000 - relay.balance_nanos()
    assert found["cost"] == f"{spent / 1e9:.9f}".rstrip("0")


def test_killed_and_resumed(start_relay, tmp_path) -> None:
    """Killed at random moments and resumed, a batch gives every call exactly one result, and
    the relay was paid for one answer to each."""
    kills, count = KILLS, 75 * KILLS
    relay = start_relay(RELAY.format(model="plain!ttft=10ms,output=3"))
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(lines(count))
    arguments = (source, "-o", out, "--concurrency", "8", "--quiet")
    chance = random.Random(1)
    for kill in range(kills):
        process = subprocess.Popen(
            command(*arguments, "--resume"),
            env=environ(f"{relay.url}/v1", relay.key),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if kill % 4 == 3:  # at any moment, starting included
            time.sleep(chance.uniform(0, 0.6))
        else:  # while calls are under way
            before = out.stat().st_size if out.exists() else 0
            deadline = time.monotonic() + 20
            while not (out.exists() and out.stat().st_size > before):
                assert None is process.poll(), process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)
        assert -signal.SIGKILL == process.returncode
    assert out.read_bytes().count(b"\n") < count
    found = run(f"{relay.url}/v1", *arguments, "--resume", key=relay.key)
    assert (0, count) == (found["failed"], found["succeeded"] + found["skipped"])
    assert sorted(f"call-{number}" for number in range(count)) == sorted(ids(out))
    results = [json.loads(line)["response"]["request_id"] for line in out.read_text().splitlines()]
    assert count == len(set(results))
    assert relay.cli("ledger", "verify")["ok"]
    # One answer was paid for each: the relay keeps what it answered to a key, and a batch that
    # asks again gets that, also when it was killed before it could write the answer down.
    calls = relay.cli("calls", "list", "--status", "200", "--limit", str(2 * count))["data"]
    assert count == len({call["idempotency_key"] for call in calls})
    assert set(results) == {call["id"] for call in calls}
    assert count == len(calls)


def test_max_cost(start_relay, tmp_path) -> None:
    """A budget is never overspent, by all runs together, and a higher one goes on."""
    relay = start_relay(RELAY.format(model="plain!output=10"))
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(lines(100))
    found = run(
        f"{relay.url}/v1", source, "-o", out, "--max-cost", "0.0005", "--price", "1,1",
        key=relay.key, code=3,
    )  # fmt: skip
    assert found["stopped_by_max_cost"]
    assert 0 < float(found["cost"]) <= 0.0005
    assert found["done"] > 5
    again = run(
        f"{relay.url}/v1", source, "-o", out, "--max-cost", "0.0005", "--price", "1,1", "--resume",
        key=relay.key, code=3,
    )  # fmt: skip
    assert found["cost"] == again["cost_of_earlier_runs"]
    assert float(again["cost"]) + float(found["cost"]) <= 0.0005
    assert again["done"] <= 3  # what is left may be worth a call or two, at their real cost
    assert again["stopped_by_max_cost"]
    rest = run(
        f"{relay.url}/v1", source, "-o", out, "--max-cost", "1", "--price", "1,1", "--resume",
        key=relay.key,
    )  # fmt: skip
    assert 100 == rest["succeeded"] + rest["skipped"]
    assert 100 == len(set(ids(out)))
    paid = sum(
        json.loads(line)["response"].get("cost", "") != "" for line in out.read_text().splitlines()
    )
    assert 100 == paid
    spent = 5_000_000_000 - relay.balance_nanos()
    costs = sum(float(each["cost"]) for each in (found, again, rest))
    assert spent / 1e9 == pytest.approx(costs)


def test_adapts_to_a_limit(start_relay, tmp_path) -> None:
    """Against a limited relay it needs no tuning: nothing is lost and the rate is used."""
    relay = start_relay(RELAY.format(model="plain!output=2") + '[limits.accounts."*"]\nrps = 50\n')
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(lines(250))
    found = run(f"{relay.url}/v1", source, "-o", out, "--concurrency", "100", key=relay.key)
    assert 250 == found["succeeded"]
