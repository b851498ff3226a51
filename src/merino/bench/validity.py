"""What speaks against believing the figures of a run."""

from __future__ import annotations

from collections.abc import Sequence

from merino.bench.generator import Load
from merino.bench.samples import INTERRUPTED, CallSample, is_too_long
from merino.bench.summary import LATE_MS, LATE_SHARE_MAX, Summary

_ERRORS_MAX = 0.5
_CACHED_MAX = 0.1
"""Share of the input served from a cache above which a run does not measure new prompts."""
_TOO_LONG_MAX = 0.1


def why_invalid(
    load: Load, summaries: Sequence[Summary], samples: Sequence[CallSample], stopped_by: str | None
) -> list[str]:
    """`stopped_by`: what ended the run before it was whole."""
    reasons: list[str] = []
    told = {
        INTERRUPTED: "it was interrupted, so the figures are of a part",
        "max_cost": "--max-cost was reached, so the figures are of a part",
        "in_flight": f"more than {load.in_flight_max:,} calls were in flight, which were the "
        "most: the server does not keep up with this rate",
        "warmup": "every call of the warm-up failed, so no others were sent",
    }
    if stopped_by is not None:
        reasons.append(told[stopped_by])
    for summary in summaries:
        if load.is_open and summary.was_late:
            reasons.append(
                f"{summary.target}: the generator could not keep its schedule: "
                f"{summary.sent_late:,} of {summary.calls:,} calls were sent more than "
                f"{LATE_MS:g} ms late, one of them {summary.lag_max_ms:.1f} ms (at most "
                f"{LATE_SHARE_MAX:.0%} may be); lower the rate, or free the machine"
            )
        if summary.calls and summary.error_share > _ERRORS_MAX:
            worst = max(summary.errors, key=summary.errors.__getitem__)
            detail = summary.error_details.get(worst, "")
            reasons.append(
                f"{summary.target}: {summary.error_share:.0%} of the calls failed, most with "
                f"{worst}" + (f": {detail.rstrip('.')}" if detail else "")
            )
        elif not summary.calls and stopped_by is None:
            reasons.append(f"{summary.target}: no call was made")
    if stopped_by == "warmup":
        reasons += _warmup_errors(samples)
    return reasons


def served_from_cache(target: str, samples: Sequence[CallSample]) -> list[str]:
    """Where prompts that were meant to be new were not: a repeated run, or one server under two
    names."""
    good = [
        each
        for each in samples
        if each.target == target and not each.is_warmup and each.error is None
    ]
    cached = sum(each.cached_tokens for each in good)
    asked = sum(each.input_tokens for each in good)
    if not asked or cached / asked <= _CACHED_MAX:
        return []
    seen = f"{target}: {cached / asked:.0%} of its input came from the cache of prompts"
    why = "so first tokens are faster than those of new prompts"
    return [f"{seen}, {why}; --same-prompts says that this is meant"]


def too_long(target: str, samples: Sequence[CallSample]) -> list[str]:
    """Where the limit of the output was not obeyed: such answers are not the scenario's."""
    counted = [each for each in samples if each.target == target and not each.is_warmup]
    longer = sum(map(is_too_long, counted))
    if longer <= len(counted) * _TOO_LONG_MAX:
        return []
    seen = f"{target}: {longer:,} of {len(counted):,} answers are longer than was asked for"
    return [f"{seen}: it obeys neither max_completion_tokens nor max_tokens"]


def _warmup_errors(samples: Sequence[CallSample]) -> list[str]:
    seen: dict[str, str] = {}
    for each in samples:
        if each.is_warmup and each.error is not None:
            detail = (each.detail or "").rstrip(".")
            seen.setdefault(each.error, f"{each.target}: {each.error}: {detail}".rstrip(": "))
    return list(seen.values())
