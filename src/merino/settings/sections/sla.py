"""What is promised of each month, and what an account gets back when it was not kept."""

from __future__ import annotations

from dataclasses import dataclass

from merino.settings.declaring import Share, sections, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SlaCreditSettings:
    below: Share = setting(
        0.0, "Share of calls answered below which this is given back.", required=True
    )
    share: Share = setting(
        0.0, "What is given back, as a share of what the account spent.", required=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlaSettings:
    enabled: bool = setting(False, "Count each month against the objective, and show it.")
    objective: Share = setting(
        0.995, "Share of an account's calls of a month that shall be answered."
    )
    calls_min: int = setting(100, "Fewest calls of a month that say anything.")
    credits: tuple[SlaCreditSettings, ...] = sections(
        SlaCreditSettings,
        "What a missed month gives back: the row with the lowest `below` that is above what was "
        "reached. An operator confirms it.",
    )
