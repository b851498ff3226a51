"""`merino batch run` in this process, against a simulator. Kills, budgets and limits of a relay:
`tests/e2e/test_batch.py`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from typing import Any

import pytest
from tests.batch_lines import ids, lines
from tests.in_process import run_command

import merino
from merino.batch import BatchProcessor
from merino.simulator.server import simulator_in_thread


def ran(base_url: str, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    given = kept | {"MERINO_BASE_URL": base_url, "MERINO_API_KEY": "k"} | environ
    return run_command("batch", "run", *map(str, arguments), environ=given)


def run(base_url: str, *arguments: object, code: int = 0) -> Any:
    done = ran(base_url, *arguments, "--json")
    assert code == done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def simulator():
    with simulator_in_thread() as server:
        yield server


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
    done = ran(simulator.base_url, source, "-o", out)
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
    done = ran(simulator.base_url, source, "-o", tmp_path / "out.jsonl", *arguments)
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
            assert all(f"Number {i}" in (each.content or "") for i, each in enumerate(results[:6]))
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


def contents(path) -> dict[str, str]:
    """What each id's answer says it was asked."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {
        row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"]
        for row in rows
    }


def test_a_changed_file_is_not_resumed_by_mistake(simulator, tmp_path) -> None:
    """A line more at the top moves all others under ids that are made of line numbers: nothing is
    sent until somebody says what is meant."""
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("beta\ngamma\n")
    run(simulator.base_url, source, "-o", out, "--model", "plain")
    source.write_text("alpha\nbeta\ngamma\n")
    before = simulator.tally.requests
    done = ran(simulator.base_url, source, "-o", out, "--model", "plain", "--resume")
    assert (2, before) == (done.returncode, simulator.tally.requests)
    assert f"{source}:1 asks for something else" in done.stderr
    assert "and so do 1 others" in done.stderr
    kept = [source, "-o", out, "--model", "plain", "--resume", "--changed"]
    assert 1 == run(simulator.base_url, *kept, "keep")["done"]
    assert "beta" in contents(out)["line-1"]
    assert 2 == run(simulator.base_url, *kept, "again")["done"]
    found = contents(out)
    words = ("alpha", "beta", "gamma")
    assert all(word in found[f"line-{number}"] for number, word in enumerate(words, 1))


def test_a_mended_item_is_asked_again(simulator, tmp_path) -> None:
    """It was refused for what it was, and is another now."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(lines(2, model="plain!status=400"))
    run(simulator.base_url, source, "-o", out, code=1)
    source.write_text(lines(2, model="plain"))
    found = run(simulator.base_url, source, "-o", out, "--resume")
    assert (2, 0) == (found["succeeded"], found["failed_before"])


@pytest.mark.parametrize("option", ["--out", "--errors"])
def test_results_do_not_go_where_the_calls_are(tmp_path, option) -> None:
    """Also under another name."""
    source, other = tmp_path / "in.jsonl", tmp_path / "other.jsonl"
    source.write_text(lines(1))
    other.symlink_to(source)
    for path in (source, other):
        done = ran("http://127.0.0.1:9/v1", source, "--resume", option, path)
        assert (2, lines(1)) == (done.returncode, source.read_text())
        assert f"{option} {path} is the file of the calls" in done.stderr


def test_the_responses_api_in_a_batch(simulator, tmp_path) -> None:
    """Its answers are answers, asked for once, counted and priced."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    body = {"model": "o3", "input": "Hi", "max_output_tokens": 50}
    item = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    source.write_text(json.dumps(item) + "\n")
    assert 0 < float(run(simulator.base_url, source, "--dry-run")["worst_case"])
    before = simulator.tally.requests
    found = run(simulator.base_url, source, "-o", out, "--max-cost", "1")
    assert (1, before + 1) == (found["succeeded"], simulator.tally.requests)
    assert found["output_tokens"] > 0
    assert "response" == json.loads(out.read_text())["response"]["body"]["object"]
