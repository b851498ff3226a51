"""Credit: what is given, what is held before a call, and how safely it is booked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from merino.settings.declaring import Seconds, SecondsOrNone, Tokens, amount, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditsSettings:
    start_nanos: int = amount(
        "5.00",
        "Credit of the first account, made at the first start.",
        key="start",
        holds="at start",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSettings:
    mode: Literal["worst_case", "expected"] = setting(
        "worst_case",
        "What is held before a call: its worst case, or what calls like it have cost (p99).",
    )
    when_short: Literal["clamp", "refuse"] = setting(
        "clamp", "When the worst case is not affordable: lower the output limit, or refuse."
    )
    wait_s: SecondsOrNone = setting(
        5.0, "How long a call waits for credit that other running calls hold."
    )
    clamp_output_tokens_min: Tokens = setting(
        16, "Fewest output tokens a call is lowered to when nothing else is in flight."
    )
    clamp_floor_tokens: Tokens = setting(
        1024, "Output tokens below which a call rather waits for credit than be lowered further."
    )
    expires_after_s: Seconds = setting(
        900.0, "Age at which a hold that nobody resolved is released."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    durability: Literal["process", "power"] = setting(
        "process",
        "What a settlement survives: the end of the process, or a power cut (slower: fsync).",
        holds="at start",
    )
    database_wait_s: SecondsOrNone = setting(
        5.0,
        "How long the database may refuse writes before new calls are refused with 503.",
        holds="at start",
    )
