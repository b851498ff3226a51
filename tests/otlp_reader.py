"""Reads OTLP's JSON with the official protobufs, as a collector does."""

from __future__ import annotations

import base64
import json
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

M = TypeVar("M", bound=Message)
_IDS = ("traceId", "spanId", "parentSpanId")


def _with_ids(value: Any) -> Any:
    """OTLP writes ids in hex, where protobuf's own JSON has base64."""
    if isinstance(value, dict):
        return {
            key: base64.b64encode(bytes.fromhex(each)).decode() if key in _IDS else _with_ids(each)
            for key, each in value.items()
        }
    return [_with_ids(each) for each in value] if isinstance(value, list) else value


def _read(body: bytes, message: M) -> M:
    """Raises `ParseError` for a field that is unknown, or of another type."""
    return json_format.ParseDict(_with_ids(json.loads(body)), message)


def read_spans(body: bytes) -> list[Span]:
    request = _read(body, ExportTraceServiceRequest())
    return [
        span
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def read_metrics(body: bytes) -> dict[str, Any]:
    request = _read(body, ExportMetricsServiceRequest())
    return {
        metric.name: metric
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def read_logs(body: bytes) -> list[Any]:
    request = _read(body, ExportLogsServiceRequest())
    return [
        record
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def attributes(of: Any) -> dict[str, Any]:
    """Attributes of a span, an event or a data point, as plain values."""
    return {
        each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in of.attributes
    }
