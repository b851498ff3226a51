"""The batch runner as its users run it: a process of its own against a relay or a simulator."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import merino
from merino.batch import BatchProcessor
from merino.simulator.server import simulator_in_thread

RELAY = """
[[deployments]]
name = "d"
provider = "simulator"
upstream_model = "{model}"
price = {{ input = 1, output = 1 }}
[aliases.o3]
deployments = ["d"]
"""


def lines(count: int, **body) -> str:
    return "".join(
        json.dumps(
            {
                "custom_id": f"call-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": "o3",
                    "messages": [{"role": "user", "content": f"Number {number}"}],
                    "max_completion_tokens": 20,
                }
                | body,
            }
        )
        + "\n"
        for number in range(count)
    )


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "merino", "batch", "run", *map(str, arguments)]


def environ(base_url: str, key: str = "k") -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return kept | {"MERINO_BASE_URL": base_url, "MERINO_API_KEY": key}


def run(base_url, *arguments, key="k", code=0) -> dict:
    done = subprocess.run(
        command(*arguments, "--json"),
        env=environ(base_url, key),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert code == done.returncode, done.stderr
    return json.loads(done.stdout)


def ids(path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def simulator():
    with simulator_in_thread() as server:
        yield server


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
    """Killed at twenty random moments and resumed, a batch gives every call exactly one result, and
    the relay was paid for one answer to each."""
    kills, count = 20, 1500
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


def test_failures_have_a_file_of_their_own(simulator, tmp_path) -> None:
    """Calls that fail for good end in the error file with the upstream's message; what is tried
    again and succeeds is no failure."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    good = lines(20, model="plain!fail_rate=0.2")
    bad = lines(22, model="plain!status=400").splitlines(keepends=True)[20:]
    source.write_text(good + "".join(bad))
    found = run(simulator.base_url, source, "-o", out, "--concurrency", "4", code=1)
    assert (20, 2) == (found["succeeded"], found["failed"])
    errors = tmp_path / "out.errors.jsonl"
    assert ["call-20", "call-21"] == sorted(ids(errors))
    failed = json.loads(errors.read_text().splitlines()[0])
    assert 400 == failed["response"]["status_code"]
    assert failed["error"]["message"] == failed["response"]["body"]["error"]["message"]


def test_adapts_to_a_limit(start_relay, tmp_path) -> None:
    """Against a limited relay it needs no tuning: nothing is lost and the rate is used."""
    relay = start_relay(RELAY.format(model="plain!output=2") + '[limits.accounts."*"]\nrps = 50\n')
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(lines(250))
    found = run(f"{relay.url}/v1", source, "-o", out, "--concurrency", "100", key=relay.key)
    assert 250 == found["succeeded"]


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("prompts.txt", "one\n\ntwo\nthree\n", ["--model", "plain"]),
        (
            "rows.csv",
            'text,label\none,a\n"two, and more",b\nthree,c\n',
            ["--model", "plain", "--prompt", "Classify: {text}"],
        ),
    ],
)
def test_other_formats(simulator, tmp_path, name, text, options) -> None:
    """Prompts a line, and CSV rows through a template."""
    source, out = tmp_path / name, tmp_path / "out.jsonl"
    source.write_text(text)
    found = run(simulator.base_url, source, "-o", out, "--in-order", *options)
    assert 3 == found["succeeded"]
    contents = [
        json.loads(line)["response"]["body"]["choices"][0]["message"]["content"]
        for line in out.read_text().splitlines()
    ]
    assert all(
        word in content for word, content in zip(("one", "two", "three"), contents, strict=True)
    )


BAD = [
    ("{", "not JSON"),
    ("[1]", "not a JSON object"),
    ('{"custom_id":"x","body":{"model":"m"},"extra":1}', "unknown field 'extra'"),
    ('{"body":{"model":"m"}}', "custom_id"),
    ('{"custom_id":"x","method":"GET","body":{"model":"m"}}', "must be POST"),
    ('{"custom_id":"x","url":"/v1/files","body":{"model":"m"}}', "/v1/files"),
    ('{"custom_id":"x","body":{}}', "model is missing"),
    ('{"custom_id":"x","body":{"model":"m","stream":true}}', "stream"),
    ('{"custom_id":"call-0","body":{"model":"m"}}', "custom_id of line 1 once more"),
]


def test_bad_lines_are_told_before_anything_is_sent(simulator, tmp_path) -> None:
    """Every bad line with its number; nothing is sent, unless told to go on without them."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(
        lines(1, model="plain").encode()
        + b"".join(text.encode() + b"\n" for text, _ in BAD)
        + b"\xff\xfe\n"
    )
    done = subprocess.run(
        command(source, "-o", out),
        env=environ(simulator.base_url),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert 2 == done.returncode
    for line, (_, said) in enumerate(BAD, 2):
        assert any(
            f"in.jsonl:{line}: " in told and said in told for told in done.stderr.splitlines()
        )
    assert f"in.jsonl:{len(BAD) + 2}: not UTF-8" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    found = run(simulator.base_url, source, "-o", out, "--skip-bad")
    assert (1, 1) == (found["items"], found["succeeded"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-cost", "-1"], "above zero"),
        (["--price", "1"], "input,output"),
        (["--base-url", "ftp://x"], "http"),
        (["--max-cost", "5", "--model", "nobody-knows"], "--price"),
    ],
)
def test_wrong_options(simulator, tmp_path, arguments, said) -> None:
    """One line, exit code 2, and nothing is sent."""
    source = tmp_path / "in.jsonl"
    source.write_text(lines(1))
    done = subprocess.run(
        command(source, "-o", tmp_path / "out.jsonl", *arguments),
        env=environ(simulator.base_url),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert 2 == done.returncode
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_dry_run(tmp_path) -> None:
    """Prices the whole file without a server."""
    source = tmp_path / "in.jsonl"
    source.write_text(lines(10))
    found = run("http://127.0.0.1:9/v1", source, "--dry-run")
    assert ({"o3": 10}, 0) == (found["models"], found["items_without_price"])
    # 20 output tokens at 8 dollars a million, ten times, and some input.
    assert 0.0016 < float(found["worst_case"]) < 0.004


def test_the_processor(simulator) -> None:
    """The queue in memory: results in input order, one failure does not spoil the others."""

    async def scenario() -> None:
        async with merino.AsyncOpenAI(api_key="k", base_url=simulator.base_url) as client:
            processor = BatchProcessor(client, max_concurrent=3, batch_size=5, retry_attempts=1)
            for number in range(6):
                processor.enqueue(f"Number {number}", model="plain")
            broken = processor.enqueue({"messages": [], "custom_id": "broken"}, model="plain")
            assert 7 == processor.get_status()["queued"]
            results = await processor.process_batch()
            assert [f"request-{number}" for number in range(1, 7)] == [
                each.custom_id for each in results[:6]
            ]
            assert all(f"Number {i}" in each.content for i, each in enumerate(results[:6]))
            assert (None, "broken") == (results[5].error, broken)
            assert results[6].error
            assert {
                "queued": 0,
                "running": 0,
                "completed": 6,
                "failed": 1,
            } == processor.get_status()
            assert [] == list(await processor.process_batch())

    asyncio.run(scenario())
