"""A relay, its caller, an upstream and a collector, over sockets."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.otlp_reader import attributes, read_logs, read_metrics, read_spans

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "o3",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


class Recording(ThreadingHTTPServer):
    """Answers chat calls, and takes whatever else is sent, by path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: dict[str, list[bytes]] = defaultdict(list)
        self.headers: dict[str, list[dict[str, str]]] = defaultdict(list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Recording
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken[self.path].append(body)
        given = {name.lower(): value for name, value in self.headers.items()}
        self.server.headers[self.path].append(given)
        raw = json.dumps(ANSWER if self.path.endswith("/chat/completions") else {}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def recording() -> Iterator[Recording]:
    server = Recording()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_a_trace_leads_from_the_caller_through_the_relay_to_the_upstream(start_relay, tmp_path):
    """The caller's trace id is the upstream's; the collector gets the spans between, metrics and
    log lines, and a file the finished calls. A stop sends what waits."""
    with recording() as server:
        relay = start_relay(
            f"""
            [[deployments]]
            name = "up"
            provider = "openai"
            base_url = "{server.url}/v1"
            upstream_model = "o3"
            credential = "env:UP_KEY"
            [aliases.o3]
            deployments = ["up"]
            [log]
            calls = true
            [telemetry]
            url = "{server.url}"
            authorization = "env:OTLP_AUTH"
            metrics = true
            metrics_every_s = 0.2
            logs = true
            [[sinks]]
            name = "file"
            path = "{tmp_path / "calls.jsonl"}"
            """,
            env={"UP_KEY": "sk-upstream", "OTLP_AUTH": "Bearer otlp-secret"},
        )
        call = {"model": "o3", "messages": [{"role": "user", "content": "Hi"}]}
        with relay.http() as http:
            parent = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "v=1"}
            first = http.post("/v1/chat/completions", json=call, headers=parent)
            second = http.post("/v1/chat/completions", json=call)
        assert (200, 200) == (first.status_code, second.status_code)
        relay.stop(signal.SIGTERM)
        spans = [span for body in server.taken["/v1/traces"] for span in read_spans(body)]
        logs = [line for body in server.taken["/v1/logs"] for line in read_logs(body)]
        metrics = read_metrics(server.taken["/v1/metrics"][-1])
        told = server.headers["/v1/chat/completions"]
        asked = server.headers["/v1/traces"][0]
    root = next(span for span in spans if span.trace_id.hex() == TRACE and span.kind == 2)
    attempt = next(each for each in spans if each.parent_span_id == root.span_id and each.kind == 3)
    assert SPAN == root.parent_span_id.hex()
    assert f"00-{TRACE}-{attempt.span_id.hex()}-01" == told[0]["traceparent"]
    assert "v=1" == told[0]["tracestate"]
    assert first.headers["x-request-id"] == attributes(root)["merino.call_id"]
    assert TRACE not in told[1]["traceparent"]
    assert "Bearer otlp-secret" == asked["authorization"]
    assert "merino_calls" in metrics
    assert ["call", "call"] == [line.body.string_value for line in logs][-2:]
    assert "otlp-secret" not in str(logs)
    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert [first.headers["x-request-id"], second.headers["x-request-id"]] == [
        line["id"] for line in lines
    ]
