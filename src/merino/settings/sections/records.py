"""What is written down of calls: log lines, records, answers to repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from merino.settings.declaring import MIB, Bytes, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    format: Literal["text", "json"] = setting("text", "Log lines for people or for machines.")
    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Least severe events to write."
    )
    calls: bool = setting(False, "Write one line per call.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsSettings:
    keep_days: Annotated[int, Meta(ge=1, le=36_500)] = setting(
        90, "Days that call records are kept. Ledger entries are kept for good."
    )
    refused_per_minute: Annotated[int, Meta(ge=0, le=100_000)] = setting(
        100,
        "Refused requests of which a record is kept, for each key and minute; requests without a "
        "valid key share one such number. All are counted.",
    )
    store_content: bool = setting(False, "Keep prompts and answers with the call records.")
    labels: bool = setting(
        True,
        "Keep what calls say they are about: the end user (`user`), `metadata`, and the tags of "
        "`x-merino-tags`.",
    )
    addresses: bool = setting(
        True, "Keep the network address that a call came from; a proxy's word is taken on loopback."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencySettings:
    keep_s: Annotated[float, Meta(gt=0, le=30 * 86_400)] = setting(
        86_400.0, "How long the answer to an `Idempotency-Key` is kept."
    )
    answer_bytes_max: Bytes = setting(4 * MIB, "Largest answer kept for replay.")
