"""How long a model takes, and whether a program waits that long."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from merino.doctor.finding import Finding, ok, problem

CALLS_MIN = 20
"""Fewer calls than this tell nothing about the slowest of a hundred."""

_BUCKET = re.compile(
    r"gen_ai_client_operation_duration_seconds_bucket\{(?P<labels>[^}]*)\} (?P<count>[0-9.e+]+)"
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def p99_of(durations_s: Sequence[float]) -> float | None:
    """The nearest rank; `None` of too few."""
    if len(durations_s) < CALLS_MIN:
        return None
    return sorted(durations_s)[math.ceil(len(durations_s) * 0.99) - 1]


def p99_of_metrics(text: str, model: str) -> float | None:
    """From the relay's histograms, one for each deployment: the upper bound of the bucket that has
    it."""
    buckets: dict[float, float] = {}
    for match in _BUCKET.finditer(text):
        labels = dict(_LABEL.findall(match["labels"]))
        if labels.get("gen_ai_request_model") == model:
            bound = float(labels.get("le", "inf"))
            buckets[bound] = buckets.get(bound, 0.0) + float(match["count"])
    total = max(buckets.values(), default=0.0)
    if total < CALLS_MIN:
        return None
    found = min(bound for bound, count in buckets.items() if count >= total * 0.99)
    return found if math.isfinite(found) else max(b for b in buckets if math.isfinite(b))


def check_timeout(
    model: str, p99_s: float | None, timeout_s: float, source: str = "its records"
) -> list[Finding]:
    """`source`: whose word it is."""
    if p99_s is None:
        return []
    if p99_s <= timeout_s:
        seen = (
            f"{model} answers 99 of 100 calls within {p99_s:.3g} s, by {source}; {timeout_s:g} s "
            "are waited."
        )
        return [ok("timeout-short", seen)]
    return [
        problem(
            "timeout-short",
            f"{model} takes up to {p99_s:.3g} s for 99 of 100 calls, by {source}, but the program "
            f"waits {timeout_s:g} s only. A call given up is paid for; tried again, it is paid "
            "twice.",
            f"Wait longer (timeout={math.ceil(p99_s * 1.5)}), stream, or lower reasoning_effort.",
        )
    ]
