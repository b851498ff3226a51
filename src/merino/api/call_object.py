"""The record of a call as `/v1/calls/{id}` shows it."""

from __future__ import annotations

import json

from merino.domain.call import CallRecord
from merino.domain.money import format_nanos


def call_object(record: CallRecord) -> dict[str, object]:
    return {
        "object": "call",
        "id": record.id,
        "model": record.alias,
        "endpoint": record.endpoint,
        "created": record.at_ms // 1000,
        "status": record.status,
        "error_code": record.error_code,
        "error_message": record.error_message,
        "finish_reason": record.finish_reason,
        "deployment": record.deployment,
        "stream": record.streamed,
        "cost": format_nanos(record.charged_nanos),
        "cost_nanos": record.charged_nanos,
        "resolution": record.resolution,
        "usage_source": record.usage_source,
        "reported_usage": record.reported_usage,
        "usage": {
            "input_tokens": record.input_tokens,
            "output_tokens": record.output_tokens,
            "cached_tokens": record.cached_tokens,
            "cache_write_tokens": record.cache_write_tokens,
            "reasoning_tokens": record.reasoning_tokens,
            "image_input_tokens": record.image_input_tokens,
            "audio_input_tokens": record.audio_input_tokens,
            "audio_output_tokens": record.audio_output_tokens,
            **({} if record.units is None else {"units": json.loads(record.units)}),
            **({} if record.elsewhere is None else {"elsewhere": json.loads(record.elsewhere)}),
        },
        "price_id": record.price_id,
        "duration_ms": round(record.duration_ms, 3),
        "ttft_ms": None if record.ttft_ms is None else round(record.ttft_ms, 3),
        "queue_ms": round(record.queue_ms, 3),
        "relay_ms": round(record.relay_ms, 3),
        "upstream_ms": round(record.upstream_ms, 3),
        "attempts": [
            {
                "deployment": attempt.deployment,
                "started_ms": round(attempt.started_ms, 3),
                "duration_ms": round(attempt.duration_ms, 3),
                "outcome": attempt.outcome,
                "status": attempt.status,
                "reason_for_next": attempt.reason_for_next,
                "backoff_ms": round(attempt.backoff_ms, 3),
            }
            for attempt in record.attempts
        ],
    }
