"""What is told to systems that watch the relay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from merino.settings.declaring import Seconds, Share, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    url: str = setting(
        "",
        "An OpenTelemetry collector's OTLP/HTTP address, such as `http://127.0.0.1:4318`; left "
        "out: nothing is sent. `/v1/traces`, `/v1/metrics` and `/v1/logs` are added.",
    )
    authorization: str = setting(
        "", "What the `authorization` header says: `env:NAME` or `file:PATH`.", secret=True
    )
    service: str = setting("merino", "`service.name` of all that is sent.")
    traces: bool = setting(True, "Send a trace of each call, and hand traces on to upstreams.")
    sample_share: Share = setting(
        1.0, "Of calls whose caller sent no `traceparent`, this share is traced."
    )
    content: bool = setting(
        False, "Send prompts and answers with traces; needs `calls.store_content`."
    )
    metrics: bool = setting(False, "Send what `/metrics` shows.")
    metrics_every_s: Seconds = setting(60.0, "How often.")
    logs: bool = setting(False, "Send log lines.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSettings:
    name: str = setting("", "What logs and metrics call it.", required=True)
    path: Path | None = setting(None, "A file that gets them as JSON lines.")
    url: str = setting("", "An address that gets them in batches by POST.")
    secret: str = setting(
        "", "What the batches are signed with: `env:NAME` or `file:PATH`.", secret=True
    )
