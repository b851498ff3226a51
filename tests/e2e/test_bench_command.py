"""`merino bench` as its users run it: against a simulator over sockets, and against nothing good."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from merino.bench.results import read_run
from merino.simulator.server import simulator_in_thread

STEADY = "ttft=50ms,tps=200,output=10,reasoning=0"


@pytest.fixture(scope="module")
def server():
    with simulator_in_thread(defaults=STEADY) as running:
        yield running


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "merino", "bench", *map(str, arguments)]


def environ() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return kept | {"GOOD_KEY": "sk-secret-of-the-bench"}


def bench(*arguments, code: int = 0) -> str:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environ(), timeout=60, check=False
    )
    assert code == done.returncode, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def measured(*arguments, code: int = 0) -> dict:
    done = subprocess.run(
        command(*arguments, "--json"),
        capture_output=True,
        text=True,
        env=environ(),
        timeout=60,
        check=False,
    )
    assert code == done.returncode, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_latency_is_measured_and_written(server, tmp_path) -> None:
    """Every file is there, the figures are the server's, and the key is in none of them."""
    out = tmp_path / "run"
    told = bench(
        *("latency", "--target", f"sim={server.base_url},o3!tps=20,GOOD_KEY", "--requests", 8),
        *("--warmup", 2, "--out", out, "--quiet"),
    )
    result, samples = read_run(out)
    summary = result.summaries[0]
    assert (8, 8, "closed", []) == (
        summary.calls,
        summary.good,
        result.loop,
        result.why_invalid,
    )
    assert 10 == len(samples)
    assert {10} == {each.output_tokens for each in samples}
    assert {9} == {len(each.gaps_ms) for each in samples}
    assert 45 < summary.metrics["ttft_ms"].percentiles["p50"] < 100
    assert "closed loop" in (out / "report.md").read_text()
    for name in ("result.json", "samples.jsonl", "report.html", "report.md"):
        assert "sk-secret" not in (out / name).read_text()
    assert "sk-secret" not in told
    assert "First token" in told


def test_open_loop_counts_from_the_schedule(server, tmp_path) -> None:
    """A server that stands still for a while delays the calls that were due meanwhile, and the
    report shows it."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "merino", "bench", "serve", "--port", "0"),
            *("--behaviour", "ttft=5ms,output=1,reasoning=0"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[2]
    try:
        freeze = threading.Timer(3.0, process.send_signal, [signal.SIGSTOP])
        thaw = threading.Timer(4.0, process.send_signal, [signal.SIGCONT])
        freeze.start()
        thaw.start()
        result = measured(
            *("throughput", "--target", f"sim={url}", "--rate", 50, "--arrivals", "constant"),
            *("--duration", 5, "--warmup", 1, "--quiet"),
        )
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)
        process.stdout.close()
    ttft = result["summaries"][0]["metrics"]["ttft_ms"]
    assert "open" == result["loop"]
    assert 250 == result["summaries"][0]["calls"]
    # A fifth of the calls was due while nothing moved; a closed loop would have seen one of them.
    assert ttft["percentiles"]["p99"] > 800
    assert ttft["percentiles"]["p90"] > 300
    assert ttft["percentiles"]["p50"] < 100


def test_two_targets_are_compared(server, tmp_path) -> None:
    """A server that is 30 ms slower to begin is seen, paired by round."""
    with simulator_in_thread(defaults=STEADY.replace("50ms", "80ms")) as slower:
        result = measured(
            *("compare", "--target", f"a={server.base_url}", "--target", f"b={slower.base_url}"),
            *("--rounds", 5, "--requests", 4, "--warmup", 1, "--out", tmp_path / "c"),
        )
    found = {(each["metric"], each["statistic"]): each for each in result["differences"]}
    ttft = found["ttft_ms", "p50"]
    assert ttft["low"] > 0
    assert 25 < ttft["difference"] < 35
    assert "b is slower" in bench("report", tmp_path / "c")


def test_a_sweep_stops_where_the_objectives_end(server) -> None:
    """A server that takes eight calls at once keeps no more than its arithmetic says."""
    result = measured(
        *("sweep", "--target", f"sim={server.base_url}", "--rate", 20, "--rate-max", 40),
        *("--duration", 1, "--warmup", 1, "--slo", "ttft_ms_p99=1000", "--arrivals", "constant"),
    )
    missed = [each["why_not"] for each in result["steps"] if not each["is_kept"]]
    # A machine with other work may let the generator be late, which says nothing of the server.
    assert all("generator was late" in why for why in missed), missed
    if not missed:
        assert [20, 40] == [each["rate_per_s"] for each in result["steps"]]
        assert 40 == result["best_rate_per_s"]
    result = measured(
        *("sweep", "--target", f"sim={server.base_url}", "--rate", 20, "--rate-max", 40),
        *("--duration", 1, "--warmup", 1, "--slo", "ttft_ms_p50=10", "--arrivals", "constant"),
        *("--precision", 0.5),
    )
    assert None is result["best_rate_per_s"]


def test_interrupting_keeps_what_was_measured(server, tmp_path) -> None:
    """Ctrl-C ends the run, writes the files, and says that it is a part."""
    process = subprocess.Popen(
        command(
            *("throughput", "--target", f"sim={server.base_url}", "--concurrency", 4),
            *("--duration", 60, "--out", tmp_path / "part", "--quiet"),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ(),
    )
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=15)
    assert 1 == process.returncode, errors
    assert b"interrupted" in out
    result, samples = read_run(tmp_path / "part")
    assert result.summaries[0].good > 10
    assert {"interrupted"} == {each.error for each in samples if each.error}


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_the_responses_api_is_measured_alike(server, stream, tmp_path) -> None:
    """The same scenario over the other API: first tokens, thinking and tokens as the server counts
    them."""
    found = {}
    for api in ("chat", "responses"):
        out = tmp_path / api
        bench(
            *("latency", "--target", f"sim={server.base_url},o3!reasoning=5", "--requests", 4),
            *("--warmup", 1, "--api", api, stream, "--scenario", "code", "--out", out, "--quiet"),
        )
        result, samples = read_run(out)
        assert ([], api, 4) == (
            result.why_invalid,
            result.settings["api"],
            result.summaries[0].good,
        )
        counted = [each for each in samples if not each.is_warmup]
        assert all(each.last_token_s is not None for each in counted)
        found[api] = [
            (each.input_tokens > 0, each.output_tokens, each.reasoning_tokens, each.tokens_source)
            for each in counted
        ]
    assert found["chat"] == found["responses"]
    assert (True, 15, 5, "reported") == found["responses"][0]
