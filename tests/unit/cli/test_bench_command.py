"""`merino bench` in this process, against a simulator and against nothing good. What it measures:
`tests/e2e/test_bench_command.py`."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.in_process import run_command

from merino.bench.results import read_run
from merino.simulator.server import simulator_in_thread


def ran(*arguments: object, code: int) -> str:
    """Both outputs. A machine with other work may make the generator late, which says nothing of
    what is tested here."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    done = run_command("bench", *map(str, arguments), environ=kept)
    said = done.stdout + done.stderr
    assert done.returncode == code or (code == 0 and "the generator " in said), said
    assert "Traceback" not in said
    return done.stdout if "--json" in arguments else said


def bench(*arguments: object, code: int = 0) -> str:
    return ran(*arguments, code=code)


def measured(*arguments: object, code: int = 0) -> Any:
    return json.loads(ran(*arguments, "--json", code=code))


STEADY = "ttft=50ms,tps=200,output=10,reasoning=0"


@pytest.fixture(scope="module")
def server():
    with simulator_in_thread(defaults=STEADY) as running:
        yield running


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """A server that says the same to every request and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_what_is_not_streamed_has_no_first_token(server) -> None:
    """Its time is the whole answer's."""
    result = measured(
        *("latency", "--target", f"sim={server.base_url}", "--no-stream", "--requests", 3),
        *("--warmup", 1),
    )
    metrics = result["summaries"][0]["metrics"]
    assert "ttft_ms" not in metrics
    assert metrics["e2e_ms"]["percentiles"]["p50"] > 90
    assert 10 == metrics["output_tokens"]["mean"]


def test_samples_can_be_had_as_parquet(server, tmp_path) -> None:
    """The same calls as in the JSON lines, a column for each thing that was seen."""
    parquet = pytest.importorskip("pyarrow.parquet")
    bench(
        *("latency", "--target", f"sim={server.base_url}", "--requests", 3, "--warmup", 1),
        *("--out", tmp_path / "p", "--parquet", "--quiet"),
    )
    table = parquet.read_table(tmp_path / "p" / "samples.parquet")
    _, samples = read_run(tmp_path / "p")
    assert [each.end_s for each in samples] == table["end_s"].to_pylist()
    assert [each.gaps_ms for each in samples] == table["gaps_ms"].to_pylist()


def test_objectives_decide_the_exit_code(server) -> None:
    """A missed one is told, and ends with 1."""
    arguments = ("latency", "--target", f"sim={server.base_url}", "--requests", 3, "--quiet")
    assert "kept" in bench(*arguments, "--slo", "ttft_ms_p99=5000")
    assert "MISSED" in bench(*arguments, "--slo", "ttft_ms_p99=1", code=1)


def test_runs_are_merged_and_compared(server, tmp_path) -> None:
    """`report` makes one page of two runs, `diff` fails where it is told to."""
    for name in ("one", "two"):
        bench(
            *("latency", "--target", f"sim={server.base_url}", "--requests", 3, "--quiet"),
            *("--warmup", 1, "--out", tmp_path / name),
        )
    bench("report", tmp_path / "one", tmp_path / "two", "-o", tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text()
    assert 2 <= page.count("<h3>sim</h3>")
    assert "<script" not in page
    assert "http://" not in page.replace(server.base_url, "").replace("http://www.w3.org", "")
    bench("report", tmp_path / "one", "-o", tmp_path / "one.md")
    assert "| First token, ms |" in (tmp_path / "one.md").read_text()
    bench("diff", tmp_path / "one", tmp_path / "two", "--fail-if", "ttft_ms_p50 > +500%")
    told = bench(
        *("diff", tmp_path / "one", tmp_path / "two", "--fail-if", "ttft_ms_p50 > -99%"), code=1
    )
    assert "FAILED" in told
    bench("diff", tmp_path / "one", tmp_path / "two", "--fail-if", "cost_p50 > 1%", code=2)


def test_sessions_take_their_answers_along(server, tmp_path) -> None:
    """Each further turn has the answers before it; they come one after another."""
    path = tmp_path / "talk.toml"
    path.write_text('[[prompts]]\nuser = "Hi"\nturns = ["And?", "So?"]\n')
    result = measured(
        *("latency", "--target", f"sim={server.base_url}", "--requests", 2, "--warmup", 0),
        *("--scenario", path, "--out", tmp_path / "t"),
    )
    assert 6 == result["summaries"][0]["calls"]
    asked = json.loads(server.last_body)["messages"]
    assert ["user", "assistant", "user", "assistant", "user"] == [each["role"] for each in asked]
    assert asked[1]["content"].startswith("This is a simulated answer")


def test_a_trace_is_replayed(server, tmp_path) -> None:
    """Calls come at the trace's moments, and each prompt once."""
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "x", "timestamp": n * 100}) for n in range(6)))
    measured(
        *("throughput", "--target", f"sim={server.base_url}", "--arrivals", "trace"),
        *("--scenario", path, "--trace-speed", 2, "--out", tmp_path / "t"),
    )
    _, samples = read_run(tmp_path / "t")
    first = samples[0].scheduled_s
    assert [0, 0.05, 0.1, 0.15, 0.2, 0.25] == pytest.approx(
        [each.scheduled_s - first for each in samples]
    )


def test_a_cost_cap_is_kept(server) -> None:
    """It stops before the next call could cost more than is left."""
    result = measured(
        *("latency", "--target", f"sim={server.base_url},m", "--requests", 100, "--warmup", 0),
        *("--price", "1000,1000", "--max-cost", "0.5", "--max-output-tokens", 50),
        code=1,
    )
    summary = result["summaries"][0]
    assert 0 < summary["calls"] < 100
    assert summary["cost_nanos"] <= 500_000_000
    assert "max-cost" in result["why_invalid"][0]


SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
PAGE = b"<html>Sign in</html>"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n" + PAGE, "not_sse"),
        (SSE, "empty"),
        (SSE + b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', "truncated"),
        (SSE + b'data: {"error": {"message": "overloaded"}}\n\n', "error_event"),
        (SSE + b"data: {nonsense}\n\n", "error_event"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nshort", "cut"),
        (b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\n{}", "http_401"),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 20\r\n\r\n" + PAGE, "http_502"),
        (b"nonsense\r\n\r\n", "cut"),
        (b"", "cut"),
    ],
)
def test_a_bad_server_ends_in_a_clear_report(reply, kind) -> None:
    """Whatever it says, the run is told to be invalid, with the kind of error."""
    with answering(reply) as url:
        told = bench("latency", "--target", f"x={url}", "--requests", 2, "--warmup", 1, code=1)
    assert kind in told
    assert "NOT VALID" in told


def test_html_instead_of_json_is_told(server) -> None:
    """The same of a call that is not streamed."""
    page = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n" + PAGE
    with answering(page) as url:
        told = bench(
            *("latency", "--target", f"x={url}", "--no-stream", "--requests", 2, "--warmup", 0),
            code=1,
        )
    assert "not_json" in told
    assert "Sign in" in told


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("x=http://nobody.invalid/v1", "connect"),
        ("x=http://127.0.0.1:1/v1", "connect"),
    ],
)
def test_nobody_there_is_told(target, why) -> None:
    """No such host, or none that listens."""
    told = bench("latency", "--target", target, "--requests", 2, "--warmup", 1, code=1)
    assert why in told
    assert "every call of the warm-up failed" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("latency",),
        ("latency", "--target", "x"),
        ("latency", "--target", "x=http://h/v1,m,NO_SUCH_VARIABLE"),
        ("latency", "--target", "x=http://h", "--target", "x=http://h"),
        ("latency", "--target", "x=http://h", "--scenario", "poem"),
        ("latency", "--target", "x=http://h", "--slo", "speed=1"),
        ("latency", "--target", "x=http://h,unknown-model", "--max-cost", "1"),
        ("latency", "--target", "x=http://h", "--max-cost", "much"),
        ("throughput", "--target", "x=http://h"),
        ("throughput", "--target", "x=http://h", "--rate", "5", "--concurrency", "5"),
        ("throughput", "--target", "x=http://h", "--rate", "0"),
        ("throughput", "--target", "x=http://h", "--arrivals", "trace"),
        ("compare", "--target", "x=http://h"),
        ("sweep", "--target", "x=http://h", "--target", "y=http://h"),
        ("report", "/nonexistent"),
        ("diff", "/tmp", "/tmp", "--fail-if", "nonsense"),
        ("diff", "/tmp", "/tmp"),
    ],
)
def test_wrong_command_lines_are_one_line_and_exit_code_2(arguments) -> None:
    """Nothing is sent, nothing is written."""
    told = bench(*arguments, code=2)
    assert told.startswith("merino: ") or "Usage" in told
