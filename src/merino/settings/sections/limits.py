"""Limits of requests, LLM tokens and calls in flight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from merino.settings.declaring import Count, SecondsOrNone, named_sections, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSettings:
    rps: Count | None = setting(None, "Requests per second; as many at once.")
    rpm: Count | None = setting(None, "Requests per minute; as many at once.")
    tpm: Count | None = setting(
        None, "LLM tokens per minute; a call takes its estimate and gets back what it did not use."
    )
    concurrency: Count | None = setting(None, "Calls in flight.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRateSettings:
    rps: Count | None = setting(None, "Requests per second; as many at once.")
    rpm: Count | None = setting(None, "Requests per minute; as many at once.")
    tpm: Count | None = setting(None, "LLM tokens per minute.")
    concurrency: Count | None = setting(None, "Calls in flight.")
    weight: Annotated[float, Meta(gt=0, le=1000)] = setting(
        1.0, "Its share of the turns when calls of several accounts wait."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSettings:
    wait_s: SecondsOrNone = setting(
        0.0, "How long a call may wait for its turn instead of being refused with 429; 0: not."
    )
    waiting_max: Count = setting(1000, "Most calls that wait at once; the next are refused.")
    accounts: Mapping[str, AccountRateSettings] = named_sections(
        AccountRateSettings,
        "Limits of accounts, by name or id; `*` is every other account. What `merino accounts "
        "update` sets on the account itself stands above them, value by value.",
    )
