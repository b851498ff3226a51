"""One log line for every call that ended, if the settings ask for it."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from merino.domain.call import CallRecord
from merino.domain.money import format_nanos
from merino.gateway.ports import Recorder

log = structlog.get_logger("merino.calls")


class CallWatch:
    """`gateway.ports.Recorder` that lets somebody watch the calls that end."""

    def __init__(self, following: Recorder, watch: Callable[[CallRecord], None]) -> None:
        self._following = following
        self._watch = watch

    def call_started(self) -> None:
        self._following.call_started()

    def call_repeated(self) -> None:
        self._following.call_repeated()

    def call_finished(self, record: CallRecord) -> None:
        self._following.call_finished(record)
        self._watch(record)


class CallLog:
    """`gateway.ports.Recorder` that writes a line and hands on to `following`. No prompt, answer or
    secret is in it."""

    def __init__(self, following: Recorder) -> None:
        self._following = following

    def call_started(self) -> None:
        self._following.call_started()

    def call_repeated(self) -> None:
        self._following.call_repeated()

    def call_finished(self, record: CallRecord) -> None:
        self._following.call_finished(record)
        log.info(
            "call",
            request_id=record.id,
            account=record.account_id,
            key=record.key_id,
            model=record.alias,
            deployment=record.deployment,
            status=record.status,
            error_code=record.error_code,
            stream=record.streamed,
            input_tokens=record.input_tokens,
            cached_tokens=record.cached_tokens,
            output_tokens=record.output_tokens,
            reasoning_tokens=record.reasoning_tokens,
            usage_source=record.usage_source,
            cost=format_nanos(record.charged_nanos),
            duration_ms=round(record.duration_ms, 1),
            ttft_ms=None if record.ttft_ms is None else round(record.ttft_ms, 1),
            relay_ms=round(record.relay_ms, 3),
            failed_attempts=len(record.attempts),
        )
