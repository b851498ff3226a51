"""What is told to a collector, read with the official protobufs; and where a call stands in a
trace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.otlp_reader import attributes, read_logs, read_metrics, read_spans

from merino.domain.call import HEDGE_LOST, Attempt, CallRecord
from merino.gateway.trace import Trace, continued, new_trace
from merino.telemetry.metrics import Metrics
from merino.telemetry.otlp import (
    LogLine,
    Resource,
    Traced,
    encode_logs,
    encode_metrics,
    encode_traces,
)

RESOURCE = Resource("merino", "host")
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def record(**more):
    given = {
        "id": "req_1",
        "account_id": "acc",
        "key_id": "key",
        "alias": "o3",
        "endpoint": "chat/completions",
        "at_ms": 1_700_000_000_000,
        "status": 200,
        "deployment": "openai/o3",
        "upstream_model": "o3-2025",
        "duration_ms": 2000.0,
        "upstream_ms": 1500.0,
        "ttft_ms": 800.0,
        "queue_ms": 400.0,
        "input_tokens": 10,
        "output_tokens": 20,
        "reasoning_tokens": 5,
        "held_nanos": 900,
        "charged_nanos": 700,
        "resolution": "settled",
        "usage_source": "reported",
        "finish_reason": "stop",
        **more,
    }
    return CallRecord(**given)


def spans(call, trace=None, **options):
    body = encode_traces([Traced(trace or new_trace(), call)], RESOURCE, **options)
    return read_spans(body)


def test_a_call_is_a_span_with_its_waiting_and_its_attempt():
    root, wait, attempt = spans(record())
    assert ("chat o3", "wait", "chat o3-2025") == (root.name, wait.name, attempt.name)
    assert root.span_id == wait.parent_span_id == attempt.parent_span_id
    assert b"" == root.parent_span_id
    assert 2_000_000_000 == root.end_time_unix_nano - root.start_time_unix_nano
    assert 400_000_000 == wait.end_time_unix_nano - wait.start_time_unix_nano
    assert root.end_time_unix_nano == attempt.end_time_unix_nano
    assert 1_500_000_000 == attempt.end_time_unix_nano - attempt.start_time_unix_nano
    found = attributes(root)
    assert ("chat", "o3", "o3-2025") == (
        found["gen_ai.operation.name"],
        found["gen_ai.request.model"],
        found["gen_ai.response.model"],
    )
    assert (10, 20, 5, 700) == (
        found["gen_ai.usage.input_tokens"],
        found["gen_ai.usage.output_tokens"],
        found["gen_ai.usage.reasoning.output_tokens"],
        found["merino.charged_nanos"],
    )
    times = {event.name: event.time_unix_nano - root.start_time_unix_nano for event in root.events}
    assert {
        "merino.hold": 400_000_000,
        "gen_ai.first_token": 800_000_000,
        "merino.settle": 2_000_000_000,
    } == times


def test_failed_attempts_come_in_the_order_they_were_sent():
    """Each by the number under which its upstream was told of it; a lost race is no error."""
    trace = Trace(1)
    for _ in range(3):
        trace.next_attempt()
    failed = (
        Attempt("b", 600.0, 300.0, HEDGE_LOST),
        Attempt("a", 10.0, 100.0, "UpstreamRefused", status=503, message="busy"),
    )
    found = spans(record(attempts=failed, duration_ms=2000.0, upstream_ms=1800.0), trace)
    by_id = {span.span_id.hex(): span.name for span in found}
    assert ["chat a", "chat o3-2025", "chat b"] == [
        by_id[f"{trace.attempt(number):016x}"] for number in (1, 2, 3)
    ]
    refused = next(span for span in found if span.name == "chat a")
    assert (2, "busy", 503) == (
        refused.status.code,
        refused.status.message,
        attributes(refused)["http.response.status_code"],
    )
    lost = next(span for span in found if span.name == "chat b")
    assert (0, "lost_race") == (lost.status.code, attributes(lost)["merino.attempt.outcome"])


@pytest.mark.parametrize(("status", "code"), [(503, 2), (400, 0), (429, 0), (200, 0)])
def test_only_what_the_server_did_wrong_is_an_error_of_its_span(status, code):
    call = record(status=status, error_code="some_code" if status >= 400 else None)
    root = spans(call)[0]
    assert code == root.status.code
    assert ("error.type" in attributes(root)) == (status >= 400)


def test_a_refused_call_has_no_attempt():
    call = record(deployment="", upstream_ms=0.0, held_nanos=0, ttft_ms=None, queue_ms=0.0)
    assert ["chat o3"] == [span.name for span in spans(call)]


def test_content_is_told_only_if_it_is_asked_for():
    call = record(request_json='{"messages": []}', response_text="Hello")
    assert "gen_ai.input.messages" not in attributes(spans(call)[0])
    assert "Hello" == attributes(spans(call, content=True)[0])["gen_ai.output.messages"]


def test_a_callers_trace_is_gone_on_with():
    """Its span is the parent of ours, ours of the upstream's; its state is handed on as it is."""
    trace = continued(f"00-{TRACE}-{SPAN}-01".encode(), b"vendor=1")
    assert trace is not None
    assert trace.is_sampled
    sent = trace.next_attempt().decode()
    parent, state = sent.splitlines()
    assert parent == f"traceparent: 00-{TRACE}-{trace.attempt(1):016x}-01"
    assert "tracestate: vendor=1" == state
    root, *_, attempt = spans(record(), trace)
    assert (TRACE, SPAN) == (root.trace_id.hex(), root.parent_span_id.hex())
    assert f"{trace.attempt(1):016x}" == attempt.span_id.hex()
    assert "vendor=1" == root.trace_state


def test_an_unsampled_trace_is_handed_on_as_such():
    trace = continued(f"00-{TRACE}-{SPAN}-00".encode())
    assert trace is not None
    assert not trace.is_sampled
    assert trace.next_attempt().endswith(b"-00\r\n")


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        b"nonsense",
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE}-{SPAN}-01-more".encode(),
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-01\r\nx: y".encode(),
    ],
)
def test_what_is_no_traceparent_is_not_believed(parent):
    assert continued(parent) is None


def test_a_later_version_is_read_as_far_as_it_is_known():
    trace = continued(f"01-{TRACE}-{SPAN}-01-later".encode())
    assert trace is not None
    assert TRACE == f"{trace.id:032x}"


@given(st.binary(max_size=80), st.binary(max_size=600))
def test_whatever_callers_send_no_header_is_broken(parent, state):
    """A line that goes upstream has one name, one value, and no other line in it."""
    for said in (parent, f"00-{TRACE}-{SPAN}-01".encode()):
        trace = continued(said, state)
        if trace is not None:
            lines = trace.next_attempt().split(b"\r\n")
            assert b"" == lines.pop()
            assert all(
                line.partition(b": ")[0] in (b"traceparent", b"tracestate") for line in lines
            )
            assert all(b"\n" not in line and b"\r" not in line for line in lines)


@given(st.integers(1, (1 << 128) - 1), st.integers(1, 300))
def test_attempts_have_spans_of_their_own(trace_id, count):
    trace = Trace(trace_id)
    found = {trace.attempt(number) for number in range(1, count + 1)} | {trace.span}
    assert count + 1 == len(found)
    assert all(0 < each < 1 << 64 for each in found)


def test_metrics_are_what_prometheus_shows():
    """Counters as cumulative sums, histograms with counts between bounds."""
    metrics = Metrics()
    for duration_ms in (15.0, 30.0, 30.0, 10_000_000.0):
        metrics.call_started()
        metrics.call_finished(record(duration_ms=duration_ms))
    found = read_metrics(encode_metrics(metrics.collect(), RESOURCE, 1, 2_000))
    calls = found["merino_calls"].sum
    assert (True, 4.0) == (calls.is_monotonic, calls.data_points[0].as_double)
    assert "o3" == attributes(calls.data_points[0])["gen_ai_request_model"]
    times = found["gen_ai_client_operation_duration_seconds"].histogram.data_points[0]
    assert (4, len(times.explicit_bounds) + 1) == (times.count, len(times.bucket_counts))
    assert [0, 1, 2] == list(times.bucket_counts)[:3]
    assert 1 == times.bucket_counts[-1]
    assert 4 == sum(times.bucket_counts)
    assert 2_000_000_000 == times.time_unix_nano
    assert 0.0 == found["merino_calls_in_flight"].gauge.data_points[0].as_double


def test_log_lines_have_level_text_and_fields():
    line = LogLine(5, "warning", "breaker opened", {"deployment": "a", "failures": 3})
    (found,) = read_logs(encode_logs([line], RESOURCE))
    assert (13, "breaker opened") == (found.severity_number, found.body.string_value)
    assert {"deployment": "a", "failures": "3"} == attributes(found)
