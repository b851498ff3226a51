"""OpenTelemetry's protocol, in its JSON form: spans of calls, metrics, log lines.

Spans and attributes follow the GenAI semantic conventions (opentelemetry.io/docs/specs/semconv/
gen-ai). They are written from call records, without the SDK: building its objects would cost more
than the whole relaying of a call. The tests read what is written with the official protobufs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from prometheus_client.core import Metric

from merino import __version__
from merino.domain.call import HEDGE_LOST, Attempt, CallRecord
from merino.domain.clock import epoch_ms
from merino.gateway.trace import Trace

Attribute = dict[str, Any]
_SERVER, _CLIENT, _INTERNAL = 2, 3, 1
_WAIT = 0xFFFF
"""The number of a call's waiting among its attempts."""
_WAIT_MS_MIN = 0.5
_MESSAGE_LENGTH_MAX = 200
_OPERATIONS = {"chat/completions": "chat", "responses": "chat", "messages": "chat"}
_LEVELS = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}
_CUMULATIVE = 2
_encode = msgspec.json.Encoder().encode
_SCOPE = f'{{"name":"merino","version":"{__version__}"}}'


class Traced(NamedTuple):
    """A call that has ended, and its place in a trace."""

    trace: Trace
    record: CallRecord


class Resource(NamedTuple):
    """What all that is told is about."""

    service: str
    instance: str

    def attributes(self) -> list[str]:
        return [
            _text("service.name", self.service),
            _text("service.instance.id", self.instance),
            _text("service.version", __version__),
        ]


def encode_traces(calls: Iterable[Traced], resource: Resource, *, content: bool = False) -> bytes:
    """The body of ``POST /v1/traces``. Its text is put together by hand: that takes a third of what
    building objects for an encoder does."""
    spans = ",".join([span for call in calls for span in spans_of(call, content=content)])
    return (
        f'{{"resourceSpans":[{{"resource":{{"attributes":[{",".join(resource.attributes())}]}},'
        f'"scopeSpans":[{{"scope":{_SCOPE},"spans":[{spans}]}}]}}]}}'
    ).encode()


def spans_of(call: Traced, *, content: bool = False) -> list[str]:
    """The call, its waiting, and each attempt. What takes no time of its own is an event of the
    call: the hold, the first token, the settlement."""
    trace, record = call
    start = record.at_ms * 1_000_000
    trace_id, own = f"{trace.id:032x}", f"{trace.span:016x}"
    operation = _OPERATIONS.get(record.endpoint, record.endpoint)
    end = start + int(record.duration_ms * 1_000_000)
    more = ""
    if trace.parent:
        more = f',"parentSpanId":"{trace.parent:016x}"'
    if trace.state:
        more += f',"traceState":{_json(trace.state.decode("latin-1"))}'
    if record.status >= 500:  # what callers did wrong is no error of the server's
        more += _status(record.error_code or "")
    attributes = ",".join(_of_call(record, operation, content=content))
    events = ",".join(_events(record, start, end))
    root = (
        f'{{"traceId":"{trace_id}","spanId":"{own}","name":{_json(f"{operation} {record.alias}")},'
        f'"kind":{_SERVER},"startTimeUnixNano":"{start}","endTimeUnixNano":"{end}",'
        f'"attributes":[{attributes}],"events":[{events}]{more}}}'
    )
    spans = [root]
    under = f'{{"traceId":"{trace_id}","parentSpanId":"{own}",'
    if record.queue_ms >= _WAIT_MS_MIN:
        waited = start + int(record.queue_ms * 1_000_000)
        spans.append(
            f'{under}"spanId":"{trace.attempt(_WAIT):016x}","name":"wait","kind":{_INTERNAL},'
            f'"startTimeUnixNano":"{start}","endTimeUnixNano":"{waited}"}}'
        )
    answered_ms = record.duration_ms - record.upstream_ms
    has_answer = bool(record.deployment) and record.upstream_ms > 0
    number = 0
    for each in sorted(record.attempts, key=lambda each: each.started_ms):
        if has_answer and answered_ms < each.started_ms:
            number += 1
            spans.append(under + _answered(trace, number, record, operation, answered_ms))
            has_answer = False
        number += 1
        spans.append(under + _failed(trace, number, each, operation, start))
    if has_answer:
        # A request that was mended and sent again is one attempt; its last sending is told.
        number = max(number + 1, trace.sent)
        spans.append(under + _answered(trace, number, record, operation, answered_ms))
    return spans


def _answered(
    trace: Trace, number: int, record: CallRecord, operation: str, started_ms: float
) -> str:
    start = record.at_ms * 1_000_000
    attributes = (
        f"{_text('gen_ai.operation.name', operation)},"
        f"{_text('gen_ai.request.model', record.upstream_model)},"
        f"{_text('merino.deployment', record.deployment)}"
    )
    status = ""
    if record.status >= 500:
        status = _status("")
        attributes += f",{_text('error.type', record.error_code or str(record.status))}"
    return (
        f'"spanId":"{trace.attempt(number):016x}","kind":{_CLIENT},'
        f'"name":{_json(f"{operation} {record.upstream_model}")},'
        f'"startTimeUnixNano":"{start + int(started_ms * 1_000_000)}",'
        f'"endTimeUnixNano":"{start + int(record.duration_ms * 1_000_000)}",'
        f'"attributes":[{attributes}]{status}}}'
    )


def _failed(trace: Trace, number: int, attempt: Attempt, operation: str, start: int) -> str:
    attributes = [
        _text("gen_ai.operation.name", operation),
        _text("merino.deployment", attempt.deployment),
    ]
    status = ""
    if attempt.status:
        attributes.append(_number("http.response.status_code", attempt.status))
    if attempt.outcome == HEDGE_LOST:
        attributes.append(_text("merino.attempt.outcome", "lost_race"))
    else:
        attributes.append(_text("error.type", attempt.outcome))
        status = _status(attempt.message[:_MESSAGE_LENGTH_MAX])
    ended_ms = attempt.started_ms + attempt.duration_ms
    return (
        f'"spanId":"{trace.attempt(number):016x}","kind":{_CLIENT},'
        f'"name":{_json(f"{operation} {attempt.deployment}")},'
        f'"startTimeUnixNano":"{start + int(attempt.started_ms * 1_000_000)}",'
        f'"endTimeUnixNano":"{start + int(ended_ms * 1_000_000)}",'
        f'"attributes":[{",".join(attributes)}]{status}}}'
    )


def _status(message: str) -> str:
    return f',"status":{{"code":2,"message":{_json(message)}}}'


def _events(record: CallRecord, start: int, end: int) -> Iterator[str]:
    if record.held_nanos:
        at = start + int(record.queue_ms * 1_000_000)
        held = _number("merino.held_nanos", record.held_nanos)
        yield f'{{"timeUnixNano":"{at}","name":"merino.hold","attributes":[{held}]}}'
    if record.ttft_ms is not None:
        at = start + int(record.ttft_ms * 1_000_000)
        yield f'{{"timeUnixNano":"{at}","name":"gen_ai.first_token"}}'
    if record.held_nanos:
        settled = (
            f"{_text('merino.resolution', record.resolution)},"
            f"{_number('merino.charged_nanos', record.charged_nanos)}"
        )
        yield f'{{"timeUnixNano":"{end}","name":"merino.settle","attributes":[{settled}]}}'


def _of_call(record: CallRecord, operation: str, *, content: bool) -> list[str]:
    found = [
        _text("gen_ai.operation.name", operation),
        _text("gen_ai.request.model", record.alias),
        _number("http.response.status_code", record.status),
        _text("merino.call_id", record.id),
        _text("merino.account_id", record.account_id),
        _text("merino.key_id", record.key_id),
        _flag("merino.streamed", record.streamed),
        _number("merino.charged_nanos", record.charged_nanos),
        _number("merino.upstream_nanos", record.upstream_nanos),
        _text("merino.usage_source", record.usage_source),
        _number("gen_ai.usage.input_tokens", record.input_tokens),
        _number("gen_ai.usage.output_tokens", record.output_tokens),
    ]
    if record.deployment:
        found.append(_text("merino.deployment", record.deployment))
        found.append(_text("gen_ai.response.model", record.upstream_model))
    if record.finish_reason:
        reason = f'{{"arrayValue":{{"values":[{{"stringValue":{_json(record.finish_reason)}}}]}}}}'
        found.append(f'{{"key":"gen_ai.response.finish_reasons","value":{reason}}}')
    if record.response_id:
        found.append(_text("gen_ai.response.id", record.response_id))
    if record.cached_tokens:
        found.append(_number("gen_ai.usage.cache_read.input_tokens", record.cached_tokens))
    if record.cache_write_tokens:
        found.append(_number("gen_ai.usage.cache_creation.input_tokens", record.cache_write_tokens))
    if record.reasoning_tokens:
        found.append(_number("gen_ai.usage.reasoning.output_tokens", record.reasoning_tokens))
    if record.ttft_ms is not None:
        seconds = f'{{"doubleValue":{record.ttft_ms / 1000}}}'
        found.append(f'{{"key":"gen_ai.response.time_to_first_chunk","value":{seconds}}}')
    if record.error_code:
        found.append(_text("error.type", record.error_code))
    if content:
        if record.request_json:
            found.append(_text("gen_ai.input.messages", record.request_json))
        if record.response_text:
            found.append(_text("gen_ai.output.messages", record.response_text))
    return found


def _json(text: str) -> str:
    return _encode(text).decode()


def _text(key: str, value: str) -> str:
    return f'{{"key":"{key}","value":{{"stringValue":{_json(value)}}}}}'


def _number(key: str, value: int) -> str:
    return f'{{"key":"{key}","value":{{"intValue":"{value}"}}}}'


def _flag(key: str, value: bool) -> str:
    return f'{{"key":"{key}","value":{{"boolValue":{"true" if value else "false"}}}}}'


# -- metrics --------------------------------------------------------------------------------------


def encode_metrics(
    families: Iterable[Metric], resource: Resource, started_ms: int, now_ms: int | None = None
) -> bytes:
    """The body of ``POST /v1/metrics``: what Prometheus would scrape, counted since the start."""
    times = {
        "startTimeUnixNano": str(started_ms * 1_000_000),
        "timeUnixNano": str((epoch_ms() if now_ms is None else now_ms) * 1_000_000),
    }
    metrics = [found for family in families if (found := _metric(family, times)) is not None]
    return _sent("Metrics", "metrics", metrics, resource)


def _sent(scopes: str, name: str, things: list[dict[str, Any]], resource: Resource) -> bytes:
    told = f'{{"attributes":[{",".join(resource.attributes())}]}}'.encode()
    scope = {"scope": msgspec.Raw(_SCOPE.encode()), name: things}
    of = {"resource": msgspec.Raw(told), f"scope{scopes}": [scope]}
    return _encode({f"resource{scopes}": [of]})


def _metric(family: Metric, times: Mapping[str, str]) -> dict[str, Any] | None:
    told: dict[str, Any] = {"name": family.name, "description": family.documentation}
    if family.type == "histogram":
        points = _histogram_points(family, times)
        if not points:
            return None
        kind = {"aggregationTemporality": _CUMULATIVE}
        return {**told, "histogram": {"dataPoints": points, **kind}}
    points = [
        {**times, "asDouble": float(sample.value), "attributes": _labels(sample.labels)}
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]
    if not points:
        return None
    if family.type == "counter":
        kind = {"aggregationTemporality": _CUMULATIVE, "isMonotonic": True}
        return {**told, "sum": {"dataPoints": points, **kind}}
    return {**told, "gauge": {"dataPoints": points}}


def _histogram_points(family: Metric, times: Mapping[str, str]) -> list[dict[str, Any]]:
    """Prometheus counts all calls up to a bound, OpenTelemetry those between two."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = {key: value for key, value in sample.labels.items() if key != "le"}
        group = tuple(sorted(labels.items()))
        if sample.name.endswith("_bucket"):
            bound = float(sample.labels["le"])
            groups.setdefault(group, []).append((bound, sample.value))
        elif sample.name.endswith("_sum"):
            sums[group] = sample.value
    points: list[dict[str, Any]] = []
    for group, buckets in groups.items():
        buckets.sort()
        running = [count for _, count in buckets]
        between = [running[0], *(after - before for before, after in pairwise(running))]
        points.append(
            {
                **times,
                "attributes": _labels(dict(group)),
                "count": str(int(running[-1])),
                "sum": sums.get(group, 0.0),
                "bucketCounts": [str(int(each)) for each in between],
                "explicitBounds": [bound for bound, _ in buckets[:-1]],
            }
        )
    return points


def _labels(labels: Mapping[str, str]) -> list[Attribute]:
    return [_attribute(key, value) for key, value in labels.items() if value]


def _attribute(key: str, value: str) -> Attribute:
    return {"key": key, "value": {"stringValue": value}}


# -- log lines ------------------------------------------------------------------------------------


class LogLine(NamedTuple):
    """An event as it was written, secrets already taken out."""

    at_ms: int
    level: str
    text: str
    fields: Mapping[str, Any]


def encode_logs(lines: Sequence[LogLine], resource: Resource) -> bytes:
    """The body of ``POST /v1/logs``."""
    records = [
        {
            "timeUnixNano": str(line.at_ms * 1_000_000),
            "severityNumber": _LEVELS.get(line.level, 9),
            "severityText": line.level.upper(),
            "body": {"stringValue": line.text},
            "attributes": [_attribute(key, str(value)) for key, value in line.fields.items()],
        }
        for line in lines
    ]
    return _sent("Logs", "logRecords", records, resource)
