"""Further attempts of a call, and when a deployment is left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from merino.settings.declaring import Count, Seconds, SecondsOrNone, Share, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriesSettings:
    attempts_max: Annotated[int, Meta(ge=1, le=10)] = setting(
        3, "Most attempts of one call, the first included."
    )
    backoff_base_s: Seconds = setting(
        0.05, "Full jitter before attempt n+1 at a deployment: 0 to this times 2 to the n."
    )
    backoff_throttled_s: Seconds = setting(1.0, "The same after the upstream said 429.")
    backoff_max_s: Seconds = setting(20.0, "Most that is waited before an attempt.")
    budget_share: Share = setting(
        0.2, "Attempts beyond the first, as a share of a deployment's calls."
    )
    budget_min: Annotated[int, Meta(ge=0, le=1000)] = setting(
        3, "Such attempts allowed per 10 s whatever the traffic is."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    window_s: Seconds = setting(60.0, "How far back outcomes count.")
    outcomes_min: Count = setting(10, "Fewest outcomes in the window that can open it.")
    failure_share: Annotated[float, Meta(gt=0, le=1)] = setting(
        0.5, "Share of failures and slow calls that opens it."
    )
    consecutive_failures: Count = setting(5, "Failures in a row that open it at once.")
    slow_first_token_s: SecondsOrNone = setting(
        0.0, "Time to first token that counts as a failure; 0: none does."
    )
    open_s: Seconds = setting(15.0, "How long it stays open the first time; then it doubles.")
    open_max_s: Seconds = setting(300.0, "Longest it stays open.")
    probes_max: Annotated[int, Meta(ge=1, le=100)] = setting(
        3, "Trial calls that must succeed, one at a time at first, before it closes."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgingSettings:
    delay_min_s: SecondsOrNone = setting(1.0, "Least wait before a second attempt is started.")
    samples_min: Count = setting(
        100, "First-token times that must be known before any call is hedged."
    )
    budget_share: Share = setting(0.05, "Hedges as a share of calls.")
